//! Accumulated intervals: the last one, the sum of all, and the last minute.

use super::history::History;
use exitscope_model::{Interval, Sum, VmId};
use std::collections::VecDeque;

/// Number of VMs that ended and are kept; the one that ended first goes first.
pub const ENDED: usize = 64;

/// Sum of intervals, and the last of them.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    /// The last interval.
    pub last: Option<Interval>,
    /// Interval from the beginning, or the last reset, to the end of the last interval.
    pub total: Option<Interval>,
    /// The last minute.
    pub history: History,
    /// VMs in `total` that are no more, in the order in which they went.
    ended: VecDeque<VmId>,
    /// Number of these that were dropped for want of room.
    pub forgotten: u64,
}

/// An accumulator that is being added to: each interval costs what it has, however much there is already.
#[derive(Clone, Debug)]
pub struct Adding {
    /// Everything but the total.
    accumulator: Accumulator,
    total: Sum,
}

impl Adding {
    /// Adds the interval that follows the last one.
    pub fn take(&mut self, interval: Interval) {
        let seen = &mut self.accumulator;
        seen.history.take(&interval);
        self.total.add(interval.clone());
        for id in self.total.vms() {
            let gone = interval.vms.get(&id).is_none_or(|vm| vm.ended);
            if gone && !seen.ended.contains(&id) {
                seen.ended.push_back(id);
            }
        }
        // One that is there again was never gone.
        seen.ended.retain(|id| interval.vms.get(id).is_none_or(|vm| vm.ended));
        let over = seen.ended.len().saturating_sub(ENDED);
        for id in seen.ended.drain(..over) {
            seen.forgotten += 1;
            self.total.forget(id);
        }
        seen.last = Some(interval);
    }

    /// Returns the number of rows of the total.
    pub fn rows(&self) -> usize {
        self.total.rows()
    }

    /// Ends it.
    pub fn finish(self) -> Accumulator {
        Accumulator { total: self.total.into_interval(), ..self.accumulator }
    }
}

impl Accumulator {
    /// Begins to add to it.
    pub fn adding(mut self) -> Adding {
        let mut total = Sum::default();
        if let Some(whole) = self.total.take() {
            total.add(whole);
        }
        Adding { accumulator: self, total }
    }

    /// Adds the interval that follows the last one.
    pub fn take(&mut self, interval: Interval) {
        let mut adding = std::mem::take(self).adding();
        adding.take(interval);
        *self = adding.finish();
    }

    /// Returns true if a VM is no more.
    pub fn has_ended(&self, vm: VmId) -> bool {
        self.ended.contains(&vm)
    }

    /// Drops the VMs that are no more. Returns their number.
    pub fn forget_ended(&mut self) -> usize {
        let ended = std::mem::take(&mut self.ended);
        if let Some(all) = self.total.as_mut().filter(|_| !ended.is_empty()) {
            all.retain(|vm, _| !ended.contains(&vm.id));
        }
        if let Some(now) = self.last.as_mut().filter(|_| !ended.is_empty()) {
            now.retain(|vm, _| !ended.contains(&vm.id));
        }
        self.forgotten = 0;
        ended.len()
    }

    /// Sets every sum to zero. VMs and vCPUs that are there stay.
    pub fn reset(&mut self) {
        self.forget_ended();
        self.total = self.last.as_ref().map(|now| {
            let mut none = now.clone();
            none.start = now.end;
            none.length = std::time::Duration::ZERO;
            none.rows.clear();
            none.loss = Default::default();
            none.workers.iter_mut().for_each(|span| span.times = Default::default());
            for span in &mut none.vcpus {
                span.exits = 0;
                span.kvm_exits = span.kvm_exits.map(|_| 0);
                span.time = span.time.map(|_| Default::default());
            }
            none
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::Interval;
    use exitscope_model::fixture;

    /// The fixture with its first VM renamed to this number, ended or not.
    fn with(id: u64, ended: bool) -> Interval {
        let mut interval = fixture::busy();
        let mut vm = interval.vms.remove(&VmId(0)).unwrap();
        (vm.id, vm.ended) = (VmId(id), ended);
        interval.vms.insert(vm.id, vm);
        interval.vcpus.iter_mut().filter(|span| span.vm == VmId(0)).for_each(|span| span.vm = VmId(id));
        interval.rows.iter_mut().filter(|row| row.vm == VmId(0)).for_each(|row| row.vm = VmId(id));
        interval.vcpus.sort_by_key(|span| (span.vm, span.vcpu));
        interval.rows.sort_by_key(|row| (row.vm, row.vcpu, row.level, row.code));
        interval
    }

    #[test]
    fn vms_that_ended_stay_until_forgotten_and_are_bounded() {
        let mut seen = Accumulator::default();
        seen.take(with(100, false));
        seen.take(with(100, true));
        assert!(seen.has_ended(VmId(100)) && !seen.has_ended(VmId(1)));
        seen.take(with(101, false));
        assert_eq!(seen.total.as_ref().unwrap().vms.len(), 4);
        for id in 102..1000 {
            seen.take(with(id, false));
        }
        // Those that went unseen have ended too.
        assert_eq!(seen.total.as_ref().unwrap().vms.len(), 3 + ENDED);
        assert_eq!(seen.forgotten, 1000 - 100 - 1 - ENDED as u64);
        assert!(seen.history.len() < 3000, "{}", seen.history.len());
        assert_eq!(seen.forget_ended(), ENDED);
        let all = seen.total.as_ref().unwrap();
        assert_eq!(all.vms.len(), 3);
        assert!(all.rows.iter().all(|row| all.vms.contains_key(&row.vm)));
    }

    #[test]
    fn a_reset_leaves_who_is_there() {
        let mut seen = Accumulator::default();
        seen.take(with(100, true));
        seen.reset();
        let all = seen.total.clone().unwrap();
        assert_eq!((all.exits(), all.kvm_exits(), all.vms.len(), all.rows.len()), (0, Some(0), 2, 0));
        seen.take(with(7, false));
        assert_eq!(seen.total.as_ref().unwrap().exits(), fixture::busy().exits());
        assert_eq!(seen.total.as_ref().unwrap().kvm_exits(), fixture::busy().kvm_exits());
    }
}
