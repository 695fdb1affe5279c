//! A sum of intervals.

use super::metadata::{Moment, VcpuLife, VmLife};
use super::writer::no_time;
use exitscope_model::{Interval, Sum, VcpuSpan};
use std::collections::BTreeSet;

/// Adds intervals up that have only the vCPUs that did something. Each costs what it has, however much there is already.
#[derive(Default)]
pub struct Total {
    sum: Sum,
    /// Numbers of the intervals: of each or of several together, the first and the last, ascending.
    ids: Vec<(i64, i64)>,
}

impl Total {
    /// Adds an interval, which is later than those before.
    pub fn add(&mut self, moment: &Moment, mut interval: Interval) {
        self.ids.push((moment.id, moment.last));
        interval.vms.clear();
        self.sum.add(interval);
    }

    /// All of them as one, with those that were there and did nothing; `None` if there was no interval.
    pub fn finish(self, vms: &[VmLife], vcpus: &[VcpuLife]) -> Option<Interval> {
        let mut whole = self.sum.into_interval()?;
        let ids = &self.ids;
        // The last interval of these in which something was that came and went then.
        let last_in = |first: i64, last: Option<i64>| {
            let end = last.map_or(ids.len(), |last| ids.partition_point(|(id, _)| *id <= last));
            let (_, id) = *ids[..end].last()?;
            Some(last.map_or(id, |last| last.min(id))).filter(|id| *id >= first)
        };
        let there =
            vms.iter().filter_map(|life| Some((life.vm.id, life.at(last_in(life.first, life.last)?))));
        whole.vms = there.collect();
        let time = no_time(whole.measured);
        let mut known: BTreeSet<_> = whole.vcpus.iter().map(|span| (span.vm, span.vcpu)).collect();
        for life in vcpus.iter().filter(|life| last_in(life.first, life.last).is_some()) {
            let (vm, vcpu) = (life.vm, life.number);
            if known.insert((vm, vcpu)) {
                whole.vcpus.push(VcpuSpan { vm, vcpu, exits: 0, kvm_exits: Some(0), time });
            }
        }
        whole.vcpus.sort_by_key(|span| (span.vm, span.vcpu));
        Some(whole)
    }
}
