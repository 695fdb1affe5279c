//! One vCPU's counters, out of memory that its programs may be writing.

use super::table::{Table, Wire, peek};
use super::wire;
use exitscope_model::{
    Attributes, BUCKETS, Counters, Detail, DetailCounters, DetailKind, ExitCode, Extremes, Histogram, Isa,
    Level, Loss, Measured, Mode, Modes, ReasonCount, Split, UserReason, VcpuSample, VcpuTime, VmId,
    copy_counters,
};
use std::cell::RefCell;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// Number of times that a vCPU is read again because it wrote meanwhile. A reading takes about a microsecond,
/// and so does the shortest exit: a second try is rare.
const TRIES: usize = 1000;

/// Number and length of the sleeps after so many tries. A vCPU that lost its CPU while it wrote, maybe to us,
/// must first get one again.
const PAUSES: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A vCPU's figures.
pub struct Reading {
    pub sample: VcpuSample,
    pub loss: Loss,
}

/// Data of one vCPU, copied from the programs' tables.
#[derive(Default)]
pub struct Copied {
    slot: wire::vcpu_slot,
    rows: Vec<CopiedRow>,
    /// User returns of the first row, then those of the second, and so on.
    returns: Vec<wire::user_return>,
    details: Vec<wire::detail>,
}

struct CopiedRow {
    row: wire::row,
    /// Number of the copied returns, and of the details, that are this row's.
    returns: usize,
    details: usize,
}

/// Element of a linked list in a table.
trait Listed: Wire + Copy {
    /// Returns the index of the next element, 0 at the end.
    fn next(&self) -> u32;
}

impl Listed for wire::user_return {
    fn next(&self) -> u32 {
        self.next
    }
}

impl Listed for wire::detail {
    fn next(&self) -> u32 {
        self.next
    }
}

/// Copies a list, at most so many of it. Returns how many there were.
fn follow<T: Listed>(table: &Table<T>, mut index: u32, most: u32, into: &mut Vec<T>) -> usize {
    let before = into.len();
    for _ in 0..most {
        if index == 0 || index >= table.len() {
            break;
        }
        // SAFETY: as in `Reader::copy`.
        let found = unsafe { table.at(index).read_volatile() };
        into.push(found);
        index = found.next();
    }
    into.len() - before
}

/// Values that all readings of one look have in common.
pub struct Reader<'a> {
    pub rows: &'a Table<wire::row>,
    pub returns: &'a Table<wire::user_return>,
    pub details: &'a Table<wire::detail>,
    /// The programs read KVM's own count.
    pub kvm_counts: bool,
    pub measured: Measured,
    /// Exits by the guest's mode are counted.
    pub guest: bool,
    /// The epoch that has just ended.
    pub epoch: u64,
    /// The moment of the sample (ns).
    pub now: u64,
    /// Room for a copy.
    pub copied: RefCell<Copied>,
}

impl Reader<'_> {
    /// Reads a vCPU whole, as it was at one moment; if that cannot be had, the loss says so. If it is `full`, a reason that has
    /// no row will find no room for one.
    pub fn read(&self, slot: *mut wire::vcpu_slot, vm: VmId, full: bool) -> Reading {
        let mut torn = 0;
        let mut copied = self.copied.borrow_mut();
        loop {
            // In this order: an exit writes its code and its time first, then the state. Where times are not measured,
            // KVM's count is all that changes with each.
            let (exit, kvm) = (peek!(slot, exit_ns), peek!(slot, kvm_last));
            fence(Ordering::Acquire);
            let (state, turn) = (peek!(slot, state), peek!(slot, turn));
            fence(Ordering::Acquire);
            self.copy(slot, &mut copied);
            fence(Ordering::Acquire);
            if state != wire::VCPU_WRITING
                && (state, turn, exit, kvm)
                    == (peek!(slot, state), peek!(slot, turn), peek!(slot, exit_ns), peek!(slot, kvm_last))
            {
                return self.decode(&copied, vm, state, full);
            }
            torn += 1;
            if torn % TRIES == 0 && torn < TRIES * PAUSES {
                std::thread::sleep(PAUSE);
            } else if torn == TRIES * PAUSES {
                let reading = self.decode(&copied, vm, state, full);
                return Reading { loss: Loss { torn: 1, ..reading.loss }, ..reading };
            }
            std::hint::spin_loop();
        }
    }

    /// Copies what belongs to a vCPU, and does nothing else meanwhile: whatever is done here is done again if the vCPU exits
    /// before it is over, and where reader and vCPU share a CPU it may never be over if it takes long.
    fn copy(&self, slot: *const wire::vcpu_slot, into: &mut Copied) {
        // SAFETY: `slot` comes from `Table::at`, and so do all the other pointers here. Numbers are aligned and of at most
        // 8 bytes, which no copy of x86 divides: each is whole, and whether they belong together is looked at afterwards.
        into.slot = unsafe { slot.read_volatile() };
        into.rows.clear();
        into.returns.clear();
        into.details.clear();
        for mut index in [into.slot.first_row, into.slot.first_odd] {
            // A list that is being changed leads into a row that is not ours, at worst; it has an end, and the
            // state tells afterwards.
            while index != 0
                && index < self.rows.len()
                && into.rows.len() < (wire::DIRECT_ROWS + wire::MAX_ODD_ROWS) as usize
            {
                let at = self.rows.at(index);
                // SAFETY: as above.
                let row = unsafe { at.read_volatile() };
                if row.span != 0 && row.epoch <= self.epoch {
                    // SAFETY: as above. The vCPU then looks closer at its next exit, and finds a new epoch.
                    unsafe { (&raw mut (*at).span).write_volatile(0) };
                }
                let returns = follow(self.returns, row.first_return, wire::MAX_RETURNS, &mut into.returns);
                let details = follow(self.details, row.first_detail, wire::MAX_DETAILS, &mut into.details);
                into.rows.push(CopiedRow { row, returns, details });
                index = row.next;
            }
        }
    }

    /// Decodes the copy of a vCPU in `state`.
    fn decode(&self, copied: &Copied, vm: VmId, state: u32, full: bool) -> Reading {
        let slot = &copied.slot;
        let isa = if slot.isa == 1 { Isa::Vmx } else { Isa::Svm };
        let mut reasons = Vec::with_capacity(copied.rows.len());
        let mut over = Vcpu::default();
        let (mut returns, mut details) = (&copied.returns[..], &copied.details[..]);
        for CopiedRow { row, returns: returned, details: detailed } in &copied.rows {
            // Filled where it stays: a copy costs more than the reading.
            reasons.push(ReasonCount {
                level: level(row.l2),
                code: ExitCode { isa, code: row.code },
                counters: Counters::default(),
            });
            let (mine, others) = returns.split_at(*returned);
            returns = others;
            let (about, others) = details.split_at(*detailed);
            details = others;
            if let Some(ReasonCount { counters, .. }) = reasons.last_mut() {
                self.row(row, counters);
                over.add(counters);
                for found in mine {
                    *counters.returns.entry(UserReason(found.reason)).or_default() += found.count;
                }
                counters.details.other = self.detail(&row.other_details);
                let Some(kind) = DetailKind::from_number(row.kind) else { continue };
                let turnover = &mut counters.details.turnover;
                turnover.births = row.births;
                for found in about {
                    let detail = Detail { kind, key: found.key, attributes: Attributes(found.attributes) };
                    counters.details.counts.entry(detail).or_default().add(&self.detail(&found.counters));
                    if row.births > row.details.into() {
                        turnover.born.insert(detail, found.born);
                    }
                }
            }
        }
        let mut no_row = slot.no_row;
        // An exit that is being handled has no place in a row yet, and is counted nevertheless.
        let handling = matches!(state, wire::VCPU_HOST | wire::VCPU_HOST_MORE);
        if handling {
            let code = ExitCode { isa, code: widen(isa, slot.code) };
            let level = level(slot.l2);
            let same = |reason: &&mut ReasonCount| (reason.level, reason.code) == (level, code);
            match reasons.iter_mut().find(same) {
                Some(reason) => reason.counters.count += 1,
                None if full => no_row += 1,
                None => {
                    let counters = Counters { count: 1, ..Counters::default() };
                    reasons.push(ReasonCount { level, code, counters });
                }
            }
        }
        let exits = over.exits + slot.no_row + u64::from(handling);
        Reading {
            sample: VcpuSample {
                vm,
                vcpu: slot.vcpu_id,
                exits,
                kvm_exits: self.kvm_counts.then(|| self.kvm_exits(slot, exits, handling)),
                time: (self.measured != Measured::Counts).then(|| self.time(slot, over, handling)),
                reasons,
            },
            loss: Loss {
                no_row,
                no_detail: slot.no_detail,
                entry_without_exit: slot.entry_without_exit,
                exit_without_entry: slot.exit_without_entry,
                untimed: slot.untimed,
                ..Loss::default()
            },
        }
    }

    /// KVM's own count.
    fn kvm_exits(&self, slot: &wire::vcpu_slot, exits: u64, handling: bool) -> u64 {
        if slot.kvm_known == 0 {
            return exits;
        }
        let kvm = slot.kvm_last.wrapping_sub(slot.kvm_first);
        if self.measured == Measured::Counts {
            // Read at each exit, the first and the last included. We may be between its count and ours.
            let kvm = kvm + 1;
            return if kvm.abs_diff(exits) == 1 { exits } else { kvm };
        }
        // An exit that is being handled is not in KVM's count as it was last read, but will be.
        kvm + u64::from(handling)
    }

    /// Returns the time of a vCPU by use; `over` is the sum of its rows, of exits that are over.
    fn time(&self, slot: &wire::vcpu_slot, over: Vcpu, handling: bool) -> VcpuTime {
        let end = match slot.end_ns {
            0 => self.now,
            end => end,
        };
        let since = |begin: u64| end.saturating_sub(begin);
        let mut split = over.split;
        let mut host_ns = over.time_ns + slot.rowless_ns;
        // Of one that ended, the exit that was being handled is in the host time already.
        if handling {
            host_ns += since(slot.exit_ns);
        }
        if handling || slot.end_ns != 0 {
            let (user, halted) = (&mut split.user_ns, &mut split.halted_ns);
            *user += slot.user_ns;
            *halted += slot.halted_ns;
            split.polled_ns += slot.polled_ns;
            split.waiting_ns += slot.waiting_ns;
            let waited = slot.waiting_ns.saturating_sub(slot.wait_begin);
            let phase_ns = since(slot.phase_ns).saturating_sub(waited);
            match slot.phase {
                wire::PHASE_USER => *user += phase_ns,
                wire::PHASE_HALTED => *halted += phase_ns,
                _ => {}
            }
        }
        VcpuTime {
            guest_ns: since(slot.first_ns).saturating_sub(host_ns),
            kernel_ns: split.kernel_ns(host_ns),
            user_ns: split.user_ns,
            halted_ns: split.halted_ns,
            polled_ns: split.polled_ns,
            waiting_ns: split.waiting_ns,
        }
    }

    /// Counters of a detail, with the longest time of the epoch that has just ended and of what has begun of the next.
    fn detail(&self, found: &wire::detail_counters) -> DetailCounters {
        let of = |epoch: bool, max_ns: u64| if epoch { max_ns } else { 0 };
        let own = of(found.epoch >= self.epoch, found.max_ns);
        let last = of(found.last_epoch == self.epoch, found.last_max_ns);
        DetailCounters { count: found.count, time_ns: found.time_ns, max_ns: own.max(last) }
    }

    /// A row, with the extremes of the epoch that has just ended and of what has begun of the next.
    fn row(&self, row: &wire::row, into: &mut Counters) {
        let (epoch, span) = (row.epoch, row.span);
        let own = Extremes { min_ns: row.min_ns, max_ns: row.max_ns };
        // An epoch before the last that is still open was meant to end when the last did: the vCPU wrote meanwhile.
        let own = (epoch >= self.epoch || span != 0).then_some(own);
        let last = Extremes { min_ns: row.last.min_ns, max_ns: row.last.max_ns };
        let last = (row.last.epoch == self.epoch).then_some(last);
        let (low, high) = (row.low as usize, (row.high as usize).min(BUCKETS - 1));
        into.histogram = Histogram::from_bucket(low, (low..=high).map(|bucket| row.histogram[bucket]));
        into.count = row.timeless + into.histogram.count();
        into.time_ns = row.time_ns;
        into.extremes = Extremes::merge(own, last);
        copy_counters!(row => into);
        if self.guest {
            into.modes = Modes::new(Mode::ALL.map(|mode| row.modes[mode as usize]));
        }
    }
}

fn level(l2: u32) -> Level {
    if l2 == 0 { Level::L1 } else { Level::L2 }
}

/// Sums over the rows of a vCPU.
#[derive(Clone, Copy, Default)]
struct Vcpu {
    exits: u64,
    time_ns: u64,
    split: Split,
}

impl Vcpu {
    fn add(&mut self, row: &Counters) {
        self.exits += row.count;
        self.time_ns += row.time_ns;
        self.split.add(&row.split);
    }
}

/// Does the same as `widen` in bpf/count.bpf.h.
fn widen(isa: Isa, code: i64) -> i64 {
    let negative = isa == Isa::Svm && code >> 8 == 0x00ff_ffff;
    if negative { code | !0xffff_ffff } else { code }
}
