//! From what KVM counted since it was loaded to what happened since we began.

use super::file::{Counts, Vcpu};
use crate::Select;
use exitscope_model::{Counters, ExitCode, Isa, Level, Loss, ReasonCount, VcpuSample, VmId};
use std::collections::{HashMap, HashSet};

/// Choice of the vCPUs that are counted, and their counts at the start.
pub struct Tracker {
    select: Select,
    own: u32,
    /// With [`Select::Descendants`], once set: only descendants of these processes are counted.
    roots: Option<HashSet<u32>>,
    /// Counts of the vCPUs that were there at the start.
    bases: HashMap<u64, Vcpu>,
    /// Selected vCPUs, as they were last seen.
    last: HashMap<u64, Vcpu>,
    /// Serial numbers of vCPUs that are never selected, or were reported for the last time.
    done: HashSet<u64>,
    /// Number of selected vCPUs that left the list before they were seen ended.
    pub cut_off: u64,
    /// Serial numbers of all vCPUs of the last look; true if it had run: such a one leaves by eviction alone.
    listed: HashMap<u64, bool>,
    /// Number of vCPUs that had run and left the list.
    left: u64,
    /// KVM's count of evictions at the start, and at the last look.
    evicted: (u64, u64),
    /// Losses of each vCPU, ended or not: what was lost stays lost.
    losses: HashMap<u64, Loss>,
    torn: u64,
}

/// A vCPU and its VM's state.
pub struct Seen {
    /// The vCPU as it was read.
    pub vcpu: Vcpu,
    /// All of its VM's vCPUs have ended.
    pub vm_ended: bool,
}

impl Tracker {
    /// Begins with what there is; `own` is this process.
    pub fn new(select: Select, own: u32, counts: &Counts) -> Tracker {
        let mut tracker = Tracker {
            select,
            own,
            roots: None,
            bases: HashMap::new(),
            last: HashMap::new(),
            done: HashSet::new(),
            cut_off: 0,
            listed: listed(counts),
            left: 0,
            evicted: (counts.evicted, counts.evicted),
            losses: HashMap::new(),
            torn: 0,
        };
        for vcpu in &counts.vcpus {
            if vcpu.ended || !tracker.wants(vcpu) {
                tracker.done.insert(vcpu.serial);
            } else {
                tracker.bases.insert(vcpu.serial, vcpu.clone());
                tracker.last.insert(vcpu.serial, vcpu.clone());
            }
        }
        tracker
    }

    /// Narrows the selection to what `roots` have started.
    pub fn stop_following(&mut self, roots: HashSet<u32>) {
        self.roots = Some(roots);
    }

    fn wants(&self, vcpu: &Vcpu) -> bool {
        let ancestry = || std::iter::once(vcpu.pid).chain(vcpu.parents.iter().copied());
        match (&self.select, &self.roots) {
            (Select::All, _) => true,
            (Select::Pids(pids), _) => pids.contains(&vcpu.pid),
            (Select::Descendants, None) => vcpu.parents.contains(&self.own),
            (Select::Descendants, Some(roots)) => ancestry().any(|pid| roots.contains(&pid)),
        }
    }

    /// Returns the selected vCPUs. One that has ended is in one more look, then gone.
    pub fn look(&mut self, counts: Counts) -> Vec<Seen> {
        let listed = listed(&counts);
        let living: HashSet<u64> =
            counts.vcpus.iter().filter(|vcpu| !vcpu.ended).map(|vcpu| vcpu.vm).collect();
        let left = self.listed.iter().filter(|(serial, ran)| **ran && !listed.contains_key(serial)).count();
        self.left += u64::try_from(left).unwrap_or(u64::MAX);
        self.evicted.1 = counts.evicted;
        self.done.retain(|serial| listed.contains_key(serial));
        let mut seen = Vec::new();
        for vcpu in counts.vcpus {
            let serial = vcpu.serial;
            if self.done.contains(&serial) {
                continue;
            }
            if !self.last.contains_key(&serial) && !self.wants(&vcpu) {
                self.done.insert(serial);
                continue;
            }
            if vcpu.ended {
                self.done.insert(serial);
            }
            self.last.insert(serial, vcpu);
        }
        self.last.retain(|serial, vcpu| {
            // Gone without a word: what was seen last is all that is known.
            let gone = !listed.contains_key(serial);
            // One that had not run then, and has since, is among the unseen.
            self.cut_off += u64::from(gone && has_run(vcpu));
            let vm_ended = !living.contains(&vcpu.vm);
            seen.push(Seen { vcpu: vcpu.clone(), vm_ended });
            !gone && !vcpu.ended
        });
        seen.sort_by_key(|seen| (seen.vcpu.vm, seen.vcpu.id));
        self.listed = listed;
        seen
    }

    /// Returns the greatest number of vCPUs that ran, ended and left the list between two looks. KVM's count does
    /// not say to which VM they belonged.
    pub fn unseen(&self) -> u64 {
        // KVM's count is of the beginning of a look, and what left during it is in the next look's.
        self.evicted.1.saturating_sub(self.evicted.0).saturating_sub(self.left)
    }

    /// Returns what was missed since the start.
    pub fn loss(&self) -> Loss {
        let mut all = Loss { torn: self.torn, ..Loss::default() };
        self.losses.values().for_each(|loss| all.add(loss));
        all
    }

    /// Returns the figures of a vCPU since the start.
    pub fn sample(&mut self, vcpu: &Vcpu, vmx: bool) -> VcpuSample {
        let isa = if vmx { Isa::Vmx } else { Isa::Svm };
        let base = self.bases.get(&vcpu.serial);
        let before = |code: i64| {
            let exits = base.map_or(&[][..], |base| &base.exits);
            exits.iter().find(|(known, _)| *known == code).map_or(0, |(_, count)| *count)
        };
        let mut exits = vcpu.rest.saturating_sub(base.map_or(0, |base| base.rest));
        let loss = Loss { no_row: exits, no_level: u64::from(vcpu.nested), ..Loss::default() };
        self.torn += u64::from(vcpu.torn);
        let mut reasons = Vec::new();
        for &(code, count) in &vcpu.exits {
            let count = count.saturating_sub(before(code));
            exits += count;
            if count > 0 {
                let counters = Counters { count, ..Counters::default() };
                reasons.push(ReasonCount { level: Level::L1, code: ExitCode { isa, code }, counters });
            }
        }
        let kvm_exits = vcpu.kvm_exits.checked_sub(base.map_or(0, |base| base.kvm_exits));
        if !loss.is_none() {
            self.losses.insert(vcpu.serial, loss);
        }
        VcpuSample { vm: VmId(vcpu.vm), vcpu: vcpu.id, exits, kvm_exits, time: None, reasons }
    }
}

fn listed(counts: &Counts) -> HashMap<u64, bool> {
    counts.vcpus.iter().map(|vcpu| (vcpu.serial, has_run(vcpu))).collect()
}

fn has_run(vcpu: &Vcpu) -> bool {
    vcpu.kvm_exits > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vcpu(serial: u64, pid: u32, ended: bool, cpuids: u64) -> Vcpu {
        let exits = vec![(0x72, cpuids)];
        Vcpu {
            serial,
            vm: serial,
            pid,
            ended,
            kvm_exits: cpuids,
            exits,
            parents: vec![pid / 10],
            ..Vcpu::default()
        }
    }

    fn counts(evicted: u64, vcpus: Vec<Vcpu>) -> Counts {
        Counts { on: true, evicted, vcpus, ..Counts::default() }
    }

    fn figures(tracker: &mut Tracker, seen: &[Seen]) -> Vec<(u64, u64, Option<u64>, bool)> {
        let mut figure = |seen: &Seen| {
            let sample = tracker.sample(&seen.vcpu, false);
            (sample.vm.0, sample.exits, sample.kvm_exits, seen.vm_ended)
        };
        seen.iter().map(&mut figure).collect()
    }

    #[test]
    fn only_what_happened_since_the_start_and_each_end_once() {
        let mut tracker =
            Tracker::new(Select::All, 1, &counts(0, vec![vcpu(0, 50, true, 9), vcpu(1, 51, false, 100)]));
        let now = || counts(0, vec![vcpu(0, 50, true, 9), vcpu(1, 51, false, 130), vcpu(2, 52, true, 7)]);
        let seen = tracker.look(now());
        assert_eq!(figures(&mut tracker, &seen), [(1, 30, Some(30), false), (2, 7, Some(7), true)]);
        let seen = tracker.look(now());
        assert_eq!(figures(&mut tracker, &seen), [(1, 30, Some(30), false)]);
        let seen = tracker.look(counts(0, vec![vcpu(1, 51, true, 131)]));
        assert_eq!(figures(&mut tracker, &seen), [(1, 31, Some(31), true)]);
        assert!(tracker.look(counts(0, vec![vcpu(1, 51, true, 131)])).is_empty());
        assert_eq!(tracker.cut_off, 0);
    }

    #[test]
    fn one_that_left_the_list_unseen_is_told() {
        let mut tracker = Tracker::new(Select::All, 1, &counts(5, vec![vcpu(1, 51, false, 100)]));
        let seen = tracker.look(counts(5, vec![vcpu(1, 51, false, 101)]));
        assert_eq!(figures(&mut tracker, &seen), [(1, 1, Some(1), false)]);
        let seen = tracker.look(counts(6, Vec::new()));
        assert_eq!(figures(&mut tracker, &seen), [(1, 1, Some(1), true)]);
        assert_eq!((tracker.cut_off, tracker.unseen()), (1, 0));
        assert!(tracker.look(counts(6, Vec::new())).is_empty());
        assert_eq!((tracker.cut_off, tracker.unseen()), (1, 0));
    }

    /// Others' vCPUs, one that never ran, and one that was evicted between the list's head and its place in it.
    #[test]
    fn what_is_told_of_one_is_not_told_of_another() {
        let start = counts(5, vec![vcpu(1, 51, true, 9), vcpu(2, 52, false, 0), vcpu(3, 53, false, 4)]);
        let mut tracker = Tracker::new(Select::Pids(vec![53, 54]), 1, &start);
        let told = |tracker: &mut Tracker, evicted, vcpus| {
            tracker.look(counts(evicted, vcpus));
            (tracker.cut_off, tracker.unseen())
        };
        // 1 was evicted, which the head says in the next look; 2 never ran.
        assert_eq!(told(&mut tracker, 5, vec![vcpu(3, 53, false, 5)]), (0, 0));
        assert_eq!(told(&mut tracker, 6, vec![vcpu(3, 53, false, 5), vcpu(4, 54, false, 0)]), (0, 0));
        // Two that nobody saw.
        assert_eq!(told(&mut tracker, 8, vec![vcpu(3, 53, false, 5), vcpu(4, 54, false, 0)]), (0, 2));
        // 3 was seen, and 4 before it ran: it has run, or has not.
        assert_eq!(told(&mut tracker, 9, Vec::new()), (1, 2));
        assert_eq!(told(&mut tracker, 10, Vec::new()), (1, 3));
    }

    #[test]
    fn one_that_went_before_the_first_look_is_told() {
        let mut tracker = Tracker::new(Select::All, 1, &counts(0, vec![vcpu(1, 51, false, 100)]));
        let seen = tracker.look(counts(1, Vec::new()));
        assert_eq!(figures(&mut tracker, &seen), [(1, 0, Some(0), true)]);
        assert_eq!((tracker.cut_off, tracker.unseen()), (1, 0));
    }

    #[test]
    fn what_was_lost_stays_lost() {
        let mut tracker = Tracker::new(Select::All, 1, &counts(0, Vec::new()));
        let odd = Vcpu { rest: 3, torn: true, nested: true, ..vcpu(1, 51, true, 7) };
        let seen = tracker.look(counts(0, vec![odd]));
        assert_eq!(figures(&mut tracker, &seen), [(1, 10, Some(7), true)]);
        let lost = Loss { no_row: 3, torn: 1, no_level: 1, ..Loss::default() };
        assert_eq!(tracker.loss(), lost);
        tracker.look(counts(0, Vec::new()));
        assert_eq!(tracker.loss(), lost);
    }

    #[test]
    fn processes_and_descendants() {
        let all = || counts(0, vec![vcpu(1, 51, false, 1), vcpu(2, 62, false, 1), vcpu(3, 63, false, 1)]);
        let none = counts(0, Vec::new());
        let ids = |seen: Vec<Seen>| seen.iter().map(|seen| seen.vcpu.serial).collect::<Vec<_>>();
        let mut pids = Tracker::new(Select::Pids(vec![51, 63]), 6, &none);
        assert_eq!(ids(pids.look(all())), [1, 3]);
        let mut family = Tracker::new(Select::Descendants, 6, &none);
        assert_eq!(ids(family.look(all())), [2, 3]);
        let mut closed = Tracker::new(Select::Descendants, 6, &none);
        closed.stop_following(HashSet::from([62]));
        assert_eq!(ids(closed.look(all())), [2]);
    }
}
