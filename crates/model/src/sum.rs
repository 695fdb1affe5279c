//! Sum of many intervals.

use super::{Counters, ExitCode, Interval, Isa, Level, Row, VcpuSpan, VmId};
use std::collections::BTreeMap;

/// Sum of consecutive intervals, for many of them: adding one costs what that one has, however much there is already, where
/// [`Interval::extend`] looks at all rows again.
///
/// ```
/// use exitscope_model::{Sum, fixture};
///
/// let mut sum = Sum::default();
/// sum.add(fixture::single());
/// sum.add(fixture::single());
/// let mut twice = fixture::single();
/// twice.extend(&fixture::single());
/// assert_eq!(sum.into_interval(), Some(twice));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Everything but vCPUs and rows.
    whole: Option<Interval>,
    vcpus: BTreeMap<(VmId, u32), VcpuSpan>,
    rows: BTreeMap<(VmId, u32, Level, ExitCode), Counters>,
}

impl Sum {
    /// Adds the interval that follows.
    pub fn add(&mut self, mut next: Interval) {
        for span in std::mem::take(&mut next.vcpus) {
            self.vcpus.entry((span.vm, span.vcpu)).and_modify(|mine| mine.add(&span)).or_insert(span);
        }
        for Row { vm, vcpu, level, code, counters } in std::mem::take(&mut next.rows) {
            let key = (vm, vcpu, level, code);
            self.rows.entry(key).and_modify(|mine| mine.add(&counters)).or_insert(counters);
        }
        Interval::append(&mut self.whole, next);
    }

    /// Returns the VMs so far; none before the first interval.
    pub fn vms(&self) -> impl Iterator<Item = VmId> {
        self.whole.iter().flat_map(|whole| whole.vms.keys().copied())
    }

    /// Returns the number of rows so far.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Drops all that belongs to a VM.
    pub fn forget(&mut self, vm: VmId) {
        let first = (vm, 0, Level::L1, ExitCode { isa: Isa::Vmx, code: i64::MIN });
        let rows = self.rows.range(first..).map(|(key, _)| *key).take_while(|key| key.0 == vm);
        for key in rows.collect::<Vec<_>>() {
            self.rows.remove(&key);
        }
        let vcpus = self.vcpus.range((vm, 0)..=(vm, u32::MAX)).map(|(key, _)| *key);
        for key in vcpus.collect::<Vec<_>>() {
            self.vcpus.remove(&key);
        }
        if let Some(whole) = &mut self.whole {
            whole.vms.remove(&vm);
        }
    }

    /// Returns the sum as one interval; `None` if there was none.
    pub fn into_interval(self) -> Option<Interval> {
        let mut whole = self.whole?;
        whole.vcpus = self.vcpus.into_values().collect();
        let row = |((vm, vcpu, level, code), counters)| Row { vm, vcpu, level, code, counters };
        whole.rows = self.rows.into_iter().map(row).collect();
        Some(whole)
    }
}
