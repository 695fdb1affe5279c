//! A sum of intervals.

use super::metadata::{Moment, VcpuLife, VmLife};
use super::present::VcpuId;
use super::writer::no_time;
use exitscope_model::{Counters, ExitCode, Interval, Level, Row, VcpuSpan, VmId};
use std::collections::BTreeMap;

/// Adds intervals up that have only the vCPUs that did something. Each costs what it has, however much there is already.
#[derive(Default)]
pub struct Total {
    /// The first interval, to which no rows are added, and how far it reaches by now.
    whole: Option<Interval>,
    vcpus: BTreeMap<VcpuId, VcpuSpan>,
    rows: BTreeMap<(VmId, u32, Level, ExitCode), Counters>,
    /// The intervals, by number, ascending.
    ids: Vec<i64>,
}

impl Total {
    /// Adds an interval, which is later than those before.
    pub fn add(&mut self, moment: &Moment, mut interval: Interval) {
        self.ids.push(moment.id);
        for span in std::mem::take(&mut interval.vcpus) {
            self.vcpus.entry((span.vm, span.vcpu)).and_modify(|mine| mine.add(&span)).or_insert(span);
        }
        for Row { vm, vcpu, level, code, counters } in std::mem::take(&mut interval.rows) {
            self.rows
                .entry((vm, vcpu, level, code))
                .and_modify(|mine| mine.add(&counters))
                .or_insert(counters);
        }
        interval.vms.clear();
        Interval::append(&mut self.whole, interval);
    }

    /// All of them as one, with those that were there and did nothing; `None` if there was no interval.
    pub fn finish(mut self, vms: &[VmLife], vcpus: &[VcpuLife]) -> Option<Interval> {
        let mut whole = self.whole?;
        let ids = &self.ids;
        // The last interval of these in which something was that came and went then.
        let last_in = |first: i64, last: Option<i64>| {
            let end = last.map_or(ids.len(), |last| ids.partition_point(|id| *id <= last));
            ids[..end].last().copied().filter(|id| *id >= first)
        };
        let there =
            vms.iter().filter_map(|life| Some((life.vm.id, life.at(last_in(life.first, life.last)?))));
        whole.vms = there.collect();
        let time = no_time(whole.measured);
        for life in vcpus.iter().filter(|life| last_in(life.first, life.last).is_some()) {
            let (vm, vcpu) = (life.vm, life.number);
            let nothing = VcpuSpan { vm, vcpu, exits: 0, kvm_exits: Some(0), time };
            self.vcpus.entry((vm, vcpu)).or_insert(nothing);
        }
        whole.vcpus = self.vcpus.into_values().collect();
        let row = |((vm, vcpu, level, code), counters)| Row { vm, vcpu, level, code, counters };
        whole.rows = self.rows.into_iter().map(row).collect();
        Some(whole)
    }
}
