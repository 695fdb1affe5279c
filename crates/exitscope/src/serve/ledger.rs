//! Everything that was counted since the start, of VMs that run and of those that ended a while ago.

use exitscope_model::{Interval, Vm, VmId};
use exitscope_view::metrics::{Departed, VmLabels, shown_name};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Maximum number of VMs that ended and are still shown: whoever may start VMs may start many.
const MAX_ENDED: usize = 1024;

/// Sums of all intervals, by VM.
pub struct Ledger {
    grace: Duration,
    /// Time that was counted so far.
    now: Duration,
    total: Option<Interval>,
    names: BTreeMap<VmId, VmLabels>,
    ended: BTreeMap<VmId, Duration>,
    departed: Departed,
}

impl Ledger {
    /// A ledger in which VMs stay for `grace` after their end.
    pub fn new(grace: Duration) -> Ledger {
        Ledger {
            grace,
            now: Duration::ZERO,
            total: None,
            names: BTreeMap::new(),
            ended: BTreeMap::new(),
            departed: Departed::new(),
        }
    }

    /// Adds the interval that follows the last one. VMs whose time after their end is over leave.
    pub fn take(&mut self, interval: Interval) {
        self.now += interval.length;
        let alive: BTreeSet<VmId> = interval.vms.values().filter(|vm| !vm.ended).map(|vm| vm.id).collect();
        Interval::append(&mut self.total, interval);
        let Some(total) = &mut self.total else { return };
        for vm in total.vms.values_mut() {
            if !self.names.contains_key(&vm.id) {
                let labels = labels(vm, &self.names);
                self.names.insert(vm.id, labels);
            }
            if !alive.contains(&vm.id) {
                vm.ended = true;
                self.ended.entry(vm.id).or_insert(self.now);
            }
        }
        let over = self.now.saturating_sub(self.grace);
        let mut leaving: BTreeSet<VmId> = self
            .ended
            .iter()
            .filter(|(_, at)| **at <= over && self.grace < self.now)
            .map(|(id, _)| *id)
            .collect();
        if self.ended.len() - leaving.len() > MAX_ENDED {
            let mut by_age: Vec<(Duration, VmId)> = self.ended.iter().map(|(id, at)| (*at, *id)).collect();
            by_age.sort_unstable();
            leaving.extend(by_age[..by_age.len() - MAX_ENDED].iter().map(|(_, id)| *id));
        }
        if !leaving.is_empty() {
            self.leave(&leaving);
        }
    }

    fn leave(&mut self, leaving: &BTreeSet<VmId>) {
        let Some(total) = &mut self.total else { return };
        for row in total.rows.iter().filter(|row| leaving.contains(&row.vm)) {
            let sum = self.departed.entry((row.level, row.code)).or_default();
            sum.count += row.counters.count;
            sum.time_ns += row.counters.time_ns;
            sum.histogram.add(&row.counters.histogram);
        }
        total.retain(|vm, _| !leaving.contains(&vm.id));
        self.names.retain(|id, _| !leaving.contains(id));
        self.ended.retain(|id, _| !leaving.contains(id));
    }

    /// Everything of the VMs that are shown; `None` before the first interval.
    pub fn total(&self) -> Option<&Interval> {
        self.total.as_ref()
    }

    /// Labels of these VMs.
    pub fn names(&self) -> &BTreeMap<VmId, VmLabels> {
        &self.names
    }

    /// Counters of VMs that have left.
    pub fn departed(&self) -> &Departed {
        &self.departed
    }
}

/// Labels of a VM that was not there before. If one of the same name and process is shown, its number tells them apart.
fn labels(vm: &Vm, others: &BTreeMap<VmId, VmLabels>) -> VmLabels {
    let name = shown_name(&vm.name);
    let is_taken = others.values().any(|other| other.pid == vm.pid && other.vm == name);
    VmLabels { vm: name, pid: vm.pid, number: is_taken.then_some(vm.id.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::{Loss, fixture};
    use exitscope_view::metrics::{self, Counted, Options, Own};
    use std::time::SystemTime;

    fn exposition(ledger: &Ledger) -> String {
        let counted = Counted {
            version: "9.9",
            kernel: "",
            cpu: "",
            start: SystemTime::UNIX_EPOCH,
            total: ledger.total(),
            vms: ledger.names(),
            departed: ledger.departed(),
            own: &Own::default(),
        };
        String::from_utf8(metrics::render(&counted, &Options::default())).unwrap()
    }

    fn number(text: &str, series: &str) -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(series))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    /// The same VMs a little later, of which some have ended.
    fn next(ended: &[u64]) -> Interval {
        let mut next = fixture::busy();
        next.vms.values_mut().for_each(|vm| vm.ended = ended.contains(&vm.id.0));
        next
    }

    #[test]
    fn counters_grow_while_a_vm_is_shown_and_the_hosts_for_ever() {
        let mut ledger = Ledger::new(Duration::from_secs(25));
        let web = "exitscope_exits_total{vm=\"web-1\",pid=\"4242\",reason=\"IOIO\"}";
        let host = "exitscope_host_exit_duration_seconds_count{reason=\"IOIO\"}";
        let mut last = (0.0, 0.0);
        // Ten seconds each. It ends in the second, is missing afterwards, and is shown for 25 s more.
        for (round, shown) in [true, true, true, true, false, false].into_iter().enumerate() {
            let mut interval = next(if round == 1 { &[0] } else { &[] });
            if round > 1 {
                interval.retain(|vm, _| vm.id.0 != 0);
            }
            ledger.take(interval);
            let text = exposition(&ledger);
            let now = (number(&text, web), number(&text, host).unwrap());
            assert_eq!(now.0.is_some(), shown, "round {round}");
            if let Some(of_vm) = now.0 {
                assert!(of_vm >= last.0, "round {round}");
                last.0 = of_vm;
            }
            assert!(now.1 >= last.1, "round {round}: {} after {}", now.1, last.1);
            last.1 = now.1;
            let running = if round == 0 { 3.0 } else { 2.0 };
            assert_eq!(number(&text, "exitscope_vms "), Some(running));
        }
        // Its exits of two rounds are still in the host's.
        assert_eq!(last.1, 2.0 * 66_895.0);
    }

    #[test]
    fn vms_of_one_name_and_process_are_told_apart_for_as_long_as_they_are_shown() {
        let mut interval = fixture::busy();
        let ids: Vec<VmId> = interval.vms.keys().copied().collect();
        for (id, name) in ids.iter().zip(["twin", "twin", "tw\nin"]) {
            let vm = interval.vms.get_mut(id).unwrap();
            (vm.name, vm.pid) = (name.into(), 7);
        }
        let mut ledger = Ledger::new(Duration::ZERO);
        ledger.take(interval.clone());
        let numbers = |ledger: &Ledger| Vec::from_iter(ledger.names().values().map(|labels| labels.number));
        assert_eq!(numbers(&ledger), [None, Some(1), None]);
        // The first ends: the second keeps its labels.
        interval.retain(|vm, _| vm.id != ids[0]);
        ledger.take(interval.clone());
        ledger.take(interval);
        assert_eq!(numbers(&ledger), [Some(1), None]);
    }

    #[test]
    fn vms_that_come_and_go_take_no_more_room() {
        let mut ledger = Ledger::new(Duration::from_secs(100_000));
        let template = fixture::hostile();
        for round in 0..(2 * MAX_ENDED as u64) {
            let id = VmId(round);
            let mut interval = template.clone();
            interval.loss = Loss::default();
            let vm = Vm { id, ended: true, ..template.vms[&VmId(0)].clone() };
            interval.vms = [(id, vm)].into();
            interval.rows.truncate(1);
            interval.vcpus.truncate(1);
            (interval.rows[0].vm, interval.vcpus[0].vm) = (id, id);
            interval.workers.clear();
            ledger.take(interval);
        }
        let total = ledger.total().unwrap();
        assert_eq!(
            (total.vms.len(), total.rows.len(), ledger.names().len()),
            (MAX_ENDED, MAX_ENDED, MAX_ENDED)
        );
        let departed: u64 = ledger.departed().values().map(|counters| counters.count).sum();
        let kept: u64 = total.rows.iter().map(|row| row.counters.count).sum();
        assert_eq!(departed + kept, 5 * 2 * MAX_ENDED as u64);
    }
}
