//! Details of exits: the port, MSR, address and the like that an exit was about.

use super::DetailKind;
use std::collections::BTreeMap;
use std::fmt;

/// Direction, size and flags of an access: 32 bits, laid out as on the wire (crates/collect/bpf/wire.h).
///
/// | bits | meaning |
/// |---|---|
/// | 0 | it was written |
/// | 8 to 15 | size in bytes, 0 where it is not known |
/// | 16 to 31 | flags of the kind, see [`super::KindInfo::flags`] |
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes(pub u32);

impl Attributes {
    /// A write, and nothing else known.
    pub const WRITE: Attributes = Attributes(1);

    /// Returns true if it was written.
    pub fn is_write(self) -> bool {
        self.0 & 1 != 0
    }

    /// Returns the size in bytes; `None` where it is not known.
    pub fn size(self) -> Option<u8> {
        let [_, size, ..] = self.0.to_le_bytes();
        Some(size).filter(|size| *size != 0)
    }

    /// Returns true if the flag at this bit is set.
    pub fn has_flag(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Thing that exits were about. Ordered by kind, then by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Detail {
    /// Kind, which says what the key means.
    pub kind: DetailKind,
    /// Number of the port or the MSR, and so on.
    pub key: u64,
    /// Direction, size and flags.
    pub attributes: Attributes,
}

impl Detail {
    /// A detail of which no more than its key and its direction is known.
    pub fn new(kind: DetailKind, key: u64, write: bool) -> Detail {
        Detail { kind, key, attributes: if write { Attributes::WRITE } else { Attributes::default() } }
    }
}

/// Counters of one detail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetailCounters {
    /// Exits that have been handled.
    pub count: u64,
    /// Their host time in all (ns).
    pub time_ns: u64,
    /// The longest of them (ns). In a sample it is that since the sample before, because a maximum cannot be subtracted.
    pub max_ns: u64,
}

impl DetailCounters {
    /// Adds other exits to these.
    pub fn add(&mut self, more: &DetailCounters) {
        self.count += more.count;
        self.time_ns += more.time_ns;
        self.max_ns = self.max_ns.max(more.max_ns);
    }

    /// Returns these less earlier ones; `None` if any figure shrank.
    fn since(&self, earlier: &DetailCounters) -> Option<DetailCounters> {
        let count = self.count.checked_sub(earlier.count)?;
        let time_ns = self.time_ns.checked_sub(earlier.time_ns)?;
        Some(DetailCounters { count, time_ns, max_ns: if count > 0 { self.max_ns } else { 0 } })
    }
}

/// Exits by what they were about. Of the exits of one reason that has a kind of detail, each is in one of the counts,
/// or in `other`, once it has been handled. So they are as many as the exits, but for one of each vCPU that was being
/// handled at the begin, and one at the end; of VMs from their begin to their end they are as many. The same holds for
/// their host time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Counters of each detail.
    pub counts: BTreeMap<Detail, DetailCounters>,
    /// Exits whose details are not told apart: the table was full, or the detail could not be known, as it cannot of a
    /// guest's own guests.
    pub other: DetailCounters,
    /// In a sample: which details made room for others, and came back. Empty in an interval.
    pub turnover: Turnover,
}

/// Numbers that tell whether a detail of a sample is in its list since the sample before. One that makes room for another
/// is no longer in the counts, its exits are in `other`, and if it comes back it counts from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// Number of details that ever came into the list.
    pub births: u64,
    /// Number that each was when it came; left empty where none ever went.
    pub born: BTreeMap<Detail, u64>,
}

impl Details {
    /// Returns all exits that are in here.
    pub fn count(&self) -> u64 {
        self.counts.values().map(|counters| counters.count).sum::<u64>() + self.other.count
    }

    /// Returns the host time of all of them (ns).
    pub fn time_ns(&self) -> u64 {
        self.counts.values().map(|counters| counters.time_ns).sum::<u64>() + self.other.time_ns
    }

    /// Adds other exits to these.
    pub fn add(&mut self, more: &Details) {
        for (detail, counters) in &more.counts {
            self.counts.entry(*detail).or_default().add(counters);
        }
        self.other.add(&more.other);
    }

    /// Returns these less earlier ones; `None` if any figure shrank. Exits of a detail that made room for another are in
    /// `other`, less those that the earlier ones told as its own.
    pub fn since(&self, earlier: &Details) -> Option<Details> {
        let (mut counts, mut told) = (self.counts.clone(), earlier.other);
        for (detail, counters) in &earlier.counts {
            let came_back =
                self.turnover.born.get(detail).is_some_and(|born| *born > earlier.turnover.births);
            match counts.get_mut(detail) {
                Some(now) if !came_back => *now = now.since(counters)?,
                _ => told.add(counters),
            }
        }
        counts.retain(|_, counters| counters.count > 0);
        let other = self.other.since(&told)?;
        Some(Details { counts, other, turnover: Turnover::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(count: u64) -> DetailCounters {
        DetailCounters { count, time_ns: 10 * count, max_ns: 1 }
    }

    fn port(key: u64) -> Detail {
        Detail::new(DetailKind::Port, key, true)
    }

    /// A row's details: port, its number among those that came, exits; and others.
    fn details(of: &[(u64, u64, u64)], births: u64, other: u64) -> Details {
        let counts = of.iter().map(|(key, _, count)| (port(*key), counters(*count))).collect();
        let went = births > of.len() as u64;
        let born = of.iter().filter(|_| went).map(|(key, born, _)| (port(*key), *born)).collect();
        Details { counts, other: counters(other), turnover: Turnover { births, born } }
    }

    #[test]
    fn each_exit_is_told_once_whatever_makes_room() {
        // Port 1 goes with 7 exits, of which 5 were told; comes back; goes and comes back between two samples.
        let samples = [
            details(&[(1, 1, 5), (2, 2, 3)], 2, 0),
            details(&[(2, 2, 4), (3, 3, 1)], 3, 7),
            details(&[(1, 4, 2), (2, 2, 4)], 4, 8),
            details(&[(1, 6, 1), (2, 2, 4)], 6, 8 + 3),
            details(&[(1, 6, 9), (4, 7, 1)], 7, 8 + 3 + 6),
        ];
        let mut last = Details::default();
        let (mut told, mut ones) = (0, Vec::new());
        for now in samples {
            let since = now.since(&last).unwrap();
            told += since.count();
            assert_eq!(told, now.count(), "{now:?}");
            assert_eq!(since.time_ns(), 10 * since.count());
            ones.push(since.counts.get(&port(1)).map_or(0, |found| found.count));
            last = now;
        }
        assert_eq!(ones, [5, 0, 2, 1, 8]);
        // What has shrunk without having made room is no difference.
        assert_eq!(details(&[(1, 1, 4)], 1, 1).since(&details(&[(1, 1, 5)], 1, 0)), None);
        assert_eq!(details(&[(2, 2, 5)], 2, 1).since(&details(&[(1, 1, 5)], 1, 0)), None);
    }
}
