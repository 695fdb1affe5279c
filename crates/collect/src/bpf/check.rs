//! KVM's own count beside the plain programs, which do not see it: it is read a moment before and a moment after our
//! tables, and what KVM counted at the moment in between lies in that range. Our own count is taken for KVM's as far
//! as the range allows, so that a difference is shown only where there is one.
//!
//! The comparison covers what both sides know for certain: the exits of a process's vCPUs of one number. In a
//! process with one VM that is a vCPU; several VMs of a process are compared together. Where the statistics
//! tell only of whole VMs, all vCPUs of a process are compared together.

use crate::kvmstat::{Count, End, KvmStat};
use crate::{Collect, Error, Options};
use exitscope_model::VmId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The comparison; it goes on without one where KVM's count cannot be had.
pub struct Check {
    /// KVM's own count; or the reason why there is none.
    stat: Result<KvmStat, String>,
    book: Book,
    before: Vec<Count>,
}

impl Check {
    /// To be called before our programs are attached.
    pub fn start(options: &Options) -> Check {
        let stat = KvmStat::start(options).map(KvmStat::patiently).map_err(|error| error.to_string());
        Check { stat, book: Book::default(), before: Vec::new() }
    }

    /// To be called when our programs are attached.
    pub fn attached(&mut self) {
        if let Some(counts) = self.read() {
            self.book.begin(counts);
        }
    }

    /// To be called before our tables are read.
    pub fn before(&mut self) {
        self.before = self.read().unwrap_or_default();
    }

    /// To be called when our tables have been read, with what was found there and with the exits that found no place
    /// there: KVM's own count for each. One that ended is marked as not ended yet where KVM's last word on it is
    /// about to come.
    pub fn after(&mut self, ours: &mut [Ours], no_vcpu: u64) -> Vec<Option<u64>> {
        let before = std::mem::take(&mut self.before);
        let Some(after) = self.read() else { return vec![None; ours.len()] };
        let shown = self.book.compare(before, ours, after, no_vcpu);
        match &self.stat {
            // What is missing may be anybody's.
            Ok(stat) if stat.lost_changes() > 0 => vec![None; ours.len()],
            _ => shown,
        }
    }

    /// Stops comparing processes that this process starts from now on.
    pub fn stop_following(&mut self) -> Result<(), Error> {
        self.stat.as_mut().map_or(Ok(()), KvmStat::stop_following)
    }

    /// Returns a note on how the comparison is made, or why it is not.
    pub fn note(&self) -> String {
        let stat = match &self.stat {
            Ok(stat) => stat,
            Err(cause) => return format!("KVM's own count cannot be read ({cause})"),
        };
        let mut note = "KVM's own count was read a moment before and after ours".to_owned();
        if let Some(cause) = stat.only_whole_vms() {
            note += &format!(", and for whole VMs only, because {cause}");
        }
        if stat.lost_changes() > 0 {
            note +=
                ", but births and ends of vCPUs came too fast to be told of, so that it is not known whole";
        } else if self.book.cut_off > 0 {
            note += &format!(", but is not known of {} that ended unseen", self.book.cut_off);
        }
        if self.book.unseen > 0 {
            note +=
                &format!("; KVM counted {} exits of vCPUs that never came to our sight", self.book.unseen);
        }
        note
    }

    fn read(&mut self) -> Option<Vec<Count>> {
        let read = self.stat.as_mut().ok()?.counts();
        read.map_err(|error| self.stat = Err(error.to_string())).ok()
    }
}

/// One vCPU in our tables.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// Index of the vCPU in the table.
    pub slot: u32,
    pub pid: u32,
    pub vcpu: u32,
    pub exits: u64,
    /// The vCPU is about to leave the table.
    pub ended: bool,
}

/// A process and the number of a vCPU. A process id that is used again adds to what was before, on both sides.
type Place = (u32, u32);

/// Both counts, place by place. Pure: no kernel.
#[derive(Debug, Default)]
struct Book {
    places: BTreeMap<Place, Sums>,
    /// Values shown of our vCPUs that are still in their table.
    slots: HashMap<u32, Shown>,
    /// Number of VMs or vCPUs whose last figures nobody knows.
    cut_off: u64,
    /// KVM's count in places where we never saw a vCPU.
    unseen: u64,
    unseen_over: u64,
    /// One figure stands for all vCPUs of a VM.
    whole_vms: bool,
}

#[derive(Debug, Default)]
struct Sums {
    /// KVM's vCPUs that exist.
    kvm: BTreeMap<VmId, Kvm>,
    /// KVM's count of vCPUs that ended.
    over: Range,
    /// Number of samples in which nobody was here.
    idle: u32,
    /// KVM's count is not known whole.
    unknown: bool,
    /// KVM (`known`), and we (`seen`), have ever known a vCPU here.
    known: bool,
    seen: bool,
    /// Exits that KVM was found to count beyond ours: what was missed once stays missed.
    more: i128,
    /// Exits of our vCPUs that left their table, and what was shown as KVM's count of them.
    gone: u64,
    gone_shown: u64,
}

/// Bounds between which KVM's count lies.
#[derive(Clone, Copy, Debug, Default)]
struct Range {
    low: u64,
    high: u64,
    /// Number of exits that may be in one count and not yet in the other: KVM's counter and the tracepoint
    /// are passed one after the other, in an order that differs between kernels and vendors.
    slack: u64,
}

/// KVM's count of one vCPU, since a moment before our programs were attached.
#[derive(Clone, Copy, Debug, Default)]
struct Kvm {
    /// The count when they were attached; `None` for a vCPU that came later.
    first: Option<u64>,
    before: u64,
    after: u64,
    /// The vCPU is being destroyed: `after` is an older figure.
    vanished: bool,
}

impl Kvm {
    fn range(&self, ended: bool) -> Range {
        Range {
            low: self.before.saturating_sub(self.first.unwrap_or(0)),
            high: if self.vanished && !ended { u64::MAX } else { self.after },
            // One that was seen from its first exit to its last leaves nothing open.
            slack: u64::from(!ended || self.first.is_some()),
        }
    }
}

impl Range {
    fn add(&mut self, other: Range) {
        self.low += other.low;
        self.high = self.high.saturating_add(other.high);
        self.slack += other.slack;
    }
}

/// Values shown of KVM's count of one of our vCPUs.
#[derive(Clone, Copy, Debug)]
struct Shown {
    place: Place,
    /// Count last shown, which must not shrink.
    last: u64,
    /// Exits that it counted beyond ours.
    more: i128,
}

impl Book {
    fn place(&self, pid: u32, vcpu: u32) -> Place {
        (pid, if self.whole_vms { 0 } else { vcpu })
    }

    fn begin(&mut self, counts: Vec<Count>) {
        self.take(counts, |kvm, Count { exits, .. }| {
            *kvm = Kvm { first: Some(exits), before: exits, after: exits, vanished: false };
        });
    }

    /// Takes in what KVM counted up to a moment, and what ended before it.
    fn take(&mut self, counts: Vec<Count>, set: impl Fn(&mut Kvm, Count)) {
        let mut cut_off = HashSet::new();
        for count in counts {
            let Count { vm, pid, vcpu, exits, end, whole_vm, .. } = count;
            self.whole_vms |= whole_vm;
            let place = self.place(pid, vcpu);
            let sums = self.places.entry(place).or_default();
            let kvm = sums.kvm.entry(vm).or_default();
            sums.known = true;
            set(kvm, count);
            if end == End::CutOff {
                sums.unknown = true;
                cut_off.insert(vm);
            }
            if end != End::None {
                let last = Kvm { before: exits, after: exits, ..*kvm };
                sums.over.add(last.range(true));
                sums.kvm.remove(&vm);
            }
        }
        self.cut_off += cut_off.len() as u64;
    }

    fn compare(
        &mut self,
        before: Vec<Count>,
        ours: &mut [Ours],
        after: Vec<Count>,
        no_vcpu: u64,
    ) -> Vec<Option<u64>> {
        self.take(before, |kvm, count| (kvm.before, kvm.after) = (count.exits, count.exits));
        // What ended since is still in the range of both.
        let (ended, living): (Vec<_>, Vec<_>) = after.into_iter().partition(|count| count.end != End::None);
        let still = ended.iter().map(|count| Count { end: End::None, ..*count }).chain(living).collect();
        self.take(still, |kvm, count| (kvm.after, kvm.vanished) = (count.exits, count.vanished));
        for count in ended.iter().filter(|count| count.end == End::CutOff) {
            let place = self.place(count.pid, count.vcpu);
            self.places.entry(place).or_default().unknown = true;
        }

        let mut by_place: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        for (at, of) in ours.iter().enumerate() {
            let place = self.place(of.pid, of.vcpu);
            by_place.entry(place).or_default().push(at);
            self.slots.entry(of.slot).or_insert(Shown { place, last: 0, more: 0 });
        }
        let mut shown = vec![None; ours.len()];
        for (place, members) in by_place {
            let sums = self.places.entry(place).or_default();
            sums.seen = true;
            let counted = sums.gone + members.iter().map(|&at| ours[at].exits).sum::<u64>();
            if let Some(kvm) = sums.count(counted, members.len() as u64, self.whole_vms, no_vcpu) {
                let slots: Vec<u32> = members.iter().map(|&at| ours[at].slot).collect();
                let exits: Vec<u64> = members.iter().map(|&at| ours[at].exits).collect();
                let kvm = i128::from(kvm) - i128::from(sums.gone_shown);
                for (&at, value) in members.iter().zip(share(&mut self.slots, &slots, &exits, kvm)) {
                    shown[at] = Some(value);
                }
            }
        }
        // Until KVM's last word was heard before ours: then both are final.
        let mut wait: HashSet<Place> = ended.iter().map(|count| self.place(count.pid, count.vcpu)).collect();
        self.take(ended, |kvm, count| kvm.after = count.exits);
        let vanished = self.places.iter().filter(|(_, sums)| sums.kvm.values().any(|kvm| kvm.vanished));
        wait.extend(vanished.map(|(&place, _)| place));
        for of in ours.iter_mut() {
            of.ended &= !wait.contains(&self.place(of.pid, of.vcpu));
        }
        self.forget(ours, &shown);
        shown
    }

    /// Lets go of what left our table, and of places where nobody is any more.
    fn forget(&mut self, ours: &[Ours], shown: &[Option<u64>]) {
        for (of, shown) in ours.iter().zip(shown).filter(|(of, _)| of.ended) {
            let Some(Shown { place, .. }) = self.slots.remove(&of.slot) else { continue };
            let sums = self.places.entry(place).or_default();
            // Came and went between two looks at KVM's statistics?
            self.cut_off += u64::from(!sums.known);
            sums.gone += of.exits;
            sums.gone_shown += shown.unwrap_or(of.exits);
        }
        let taken: HashSet<Place> = self.slots.values().map(|shown| shown.place).collect();
        self.unseen = self.unseen_over;
        let (unseen, unseen_over) = (&mut self.unseen, &mut self.unseen_over);
        self.places.retain(|place, sums| {
            let in_use = taken.contains(place) || !sums.kvm.is_empty();
            // What KVM told last may be of a VM that came and went since our table was read: its exits are still to
            // be found there.
            sums.idle = if in_use { 0 } else { sums.idle + 1 };
            let stays = sums.idle < 2;
            if !sums.seen && (in_use || !stays) {
                let range = sums.range();
                let exits = range.low.saturating_sub(range.slack);
                *unseen += exits;
                *unseen_over += if stays { 0 } else { exits };
            }
            stays
        });
    }
}

impl Sums {
    fn range(&self) -> Range {
        let mut range = self.over;
        self.kvm.values().for_each(|kvm| range.add(kvm.range(false)));
        range
    }

    /// KVM's count where we counted so many; `None` where it is not known.
    fn count(&mut self, counted: u64, members: u64, whole_vms: bool, no_vcpu: u64) -> Option<u64> {
        if self.unknown || !self.known {
            return None;
        }
        let Range { low, high, slack } = self.range();
        let slack = if whole_vms { slack.max(members) } else { slack };
        // What found no place in our tables is told as a loss, and may be missing here.
        let low = low.saturating_sub(slack + no_vcpu);
        let kvm = (i128::from(counted) + self.more)
            .clamp(i128::from(low), i128::from(high.max(low).saturating_add(slack)));
        self.more = kvm - i128::from(counted);
        u64::try_from(kvm).ok()
    }
}

/// Divides KVM's count among our vCPUs of one place: each has its own count, and the first what is over or missing.
fn share(shown: &mut HashMap<u32, Shown>, slots: &[u32], exits: &[u64], kvm: i128) -> Vec<u64> {
    let value = |shown: &Shown, exits: u64| (i128::from(exits) + shown.more).max(i128::from(shown.last));
    let mut rest = kvm;
    for (slot, &exits) in slots.iter().zip(exits) {
        rest -= value(&shown[slot], exits);
    }
    let mut values = Vec::with_capacity(slots.len());
    for (slot, &exits) in slots.iter().zip(exits) {
        let Some(of) = shown.get_mut(slot) else { continue };
        let mine = value(of, exits);
        let takes = rest.max(i128::from(of.last) - mine);
        rest -= takes;
        of.more = mine + takes - i128::from(exits);
        of.last = u64::try_from(mine + takes).unwrap_or(of.last);
        values.push(of.last);
    }
    values
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
