//! Which port or MSR an exit was about.

use std::collections::BTreeMap;

/// A port that a guest used, or an MSR. Ordered by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Detail {
    /// An I/O port.
    Port {
        /// Its number.
        port: u16,
        /// It was written (OUT, OUTS), not read (IN, INS).
        write: bool,
    },
    /// A model-specific register.
    Msr {
        /// Its number.
        msr: u32,
        /// It was written (WRMSR), not read (RDMSR).
        write: bool,
    },
}

impl Detail {
    /// Whether it was written.
    pub fn write(self) -> bool {
        match self {
            Detail::Port { write, .. } | Detail::Msr { write, .. } => write,
        }
    }
}

/// Which ports and MSRs exits were about. Of the exits of one reason that is about these, each is in one of the counts,
/// or in `other`, once it has been handled. So they are as many as the exits, but for one of each vCPU that was being
/// handled at the begin, and one at the end; of VMs from their begin to their end they are as many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// How many exits were about each port or MSR.
    pub counts: BTreeMap<Detail, u64>,
    /// Exits about ports and MSRs that are not told apart: the table was full, or which it was could not be known, as it
    /// cannot of a guest's own guests.
    pub other: u64,
}

impl Details {
    /// All exits that are in here.
    pub fn count(&self) -> u64 {
        self.counts.values().sum::<u64>() + self.other
    }

    /// Adds other exits to these.
    pub fn add(&mut self, more: &Details) {
        for (detail, count) in &more.counts {
            *self.counts.entry(*detail).or_default() += count;
        }
        self.other += more.other;
    }

    /// These less earlier ones; `None` if any count shrank.
    pub fn since(&self, earlier: &Details) -> Option<Details> {
        let mut since = self.clone();
        for (detail, count) in &earlier.counts {
            let now = since.counts.get_mut(detail)?;
            *now = now.checked_sub(*count)?;
        }
        since.counts.retain(|_, count| *count > 0);
        since.other = since.other.checked_sub(earlier.other)?;
        Some(since)
    }
}
