//! One vCPU's counters, out of memory that its programs may be writing.

use super::table::{Table, peek};
use super::wire;
use crate::model::{
    BUCKETS, Counters, Detail, Details, ExitCode, Extremes, Histogram, Isa, Level, Loss, Measured, Mode,
    Modes, Nested, ReasonCount, Returns, Source, Split, UserReason, VcpuSample, VcpuTime, VmId,
};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// How often a vCPU is read again because it wrote meanwhile. A reading takes about a microsecond, and so does
/// the shortest exit: a second try is rare.
const TRIES: usize = 1000;

/// How often we sleep after so many tries, and for how long. A vCPU that lost its CPU while it wrote, maybe to us, must
/// first get one again.
const PAUSES: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A vCPU's figures.
pub struct Reading {
    pub sample: VcpuSample,
    pub loss: Loss,
}

/// What one look at all vCPUs has in common.
pub struct Reader<'a> {
    pub rows: &'a Table<wire::row>,
    pub returns: &'a Table<wire::user_return>,
    pub details: &'a Table<wire::detail>,
    pub source: Source,
    pub measured: Measured,
    /// Exits by the guest's mode are counted.
    pub guest: bool,
    /// A reason that has no row will find no room for one.
    pub full: bool,
    /// The epoch that has just ended.
    pub epoch: u64,
    /// The moment of the sample (ns).
    pub now: u64,
}

impl Reader<'_> {
    /// Reads a vCPU whole, as it was at one moment; if that cannot be had, the loss says so.
    pub fn read(&self, slot: *mut wire::vcpu_slot, vm: VmId) -> Reading {
        let mut torn = 0;
        loop {
            // In this order: an exit writes its code and its time first, then the state. Where times are not measured,
            // KVM's count is all that changes with each.
            let (exit, kvm) = (peek!(slot, exit_ns), peek!(slot, kvm_last));
            fence(Ordering::Acquire);
            let (state, turn) = (peek!(slot, state), peek!(slot, turn));
            fence(Ordering::Acquire);
            let reading = self.copy(slot, vm, state);
            fence(Ordering::Acquire);
            if state != wire::VCPU_WRITING
                && (state, turn, exit, kvm)
                    == (peek!(slot, state), peek!(slot, turn), peek!(slot, exit_ns), peek!(slot, kvm_last))
            {
                return reading;
            }
            torn += 1;
            if torn % TRIES == 0 && torn < TRIES * PAUSES {
                std::thread::sleep(PAUSE);
            } else if torn == TRIES * PAUSES {
                return Reading { loss: Loss { torn: 1, ..reading.loss }, ..reading };
            }
            std::hint::spin_loop();
        }
    }

    fn copy(&self, slot: *mut wire::vcpu_slot, vm: VmId, state: u32) -> Reading {
        let isa = if peek!(slot, isa) == 1 { Isa::Vmx } else { Isa::Svm };
        let mut reasons = Vec::with_capacity(peek!(slot, rows).min(wire::DIRECT_ROWS) as usize);
        let mut over = Vcpu::default();
        for mut index in [peek!(slot, first_row), peek!(slot, first_odd)] {
            // A list that is being changed leads into a row that is not ours, at worst; it has an end, and the
            // state tells afterwards.
            while index != 0
                && index < self.rows.len()
                && reasons.len() < (wire::DIRECT_ROWS + wire::MAX_ODD_ROWS) as usize
            {
                let row = self.rows.at(index);
                let code = ExitCode { isa, code: peek!(row, code) };
                // Filled where it stays: a copy costs more than the reading.
                reasons.push(ReasonCount {
                    level: level(peek!(row, l2)),
                    code,
                    counters: Counters::default(),
                });
                if let Some(reason) = reasons.last_mut() {
                    self.row(row, &mut reason.counters);
                    over.add(&reason.counters);
                }
                index = peek!(row, next);
            }
        }
        let mut no_row = peek!(slot, no_row);
        // An exit that is being handled has no place in a row yet, and is counted nevertheless.
        let handling = matches!(state, wire::VCPU_HOST | wire::VCPU_HOST_MORE);
        if handling {
            let code = ExitCode { isa, code: widen(isa, peek!(slot, code)) };
            let level = level(peek!(slot, l2));
            let same = |reason: &&mut ReasonCount| (reason.level, reason.code) == (level, code);
            match reasons.iter_mut().find(same) {
                Some(reason) => reason.counters.count += 1,
                None if self.full => no_row += 1,
                None => {
                    let counters = Counters { count: 1, ..Counters::default() };
                    reasons.push(ReasonCount { level, code, counters });
                }
            }
        }
        let exits = over.exits + peek!(slot, no_row) + u64::from(handling);
        Reading {
            sample: VcpuSample {
                vm,
                vcpu: peek!(slot, vcpu_id),
                exits,
                kvm_exits: (self.source == Source::Btf).then(|| self.kvm_exits(slot, exits, handling)),
                time: (self.measured != Measured::Counts).then(|| self.time(slot, over, handling)),
                reasons,
            },
            loss: Loss {
                no_row,
                entry_without_exit: peek!(slot, entry_without_exit),
                exit_without_entry: peek!(slot, exit_without_entry),
                ..Loss::default()
            },
        }
    }

    /// KVM's own count.
    fn kvm_exits(&self, slot: *const wire::vcpu_slot, exits: u64, handling: bool) -> u64 {
        if peek!(slot, kvm_known) == 0 {
            return exits;
        }
        let kvm = peek!(slot, kvm_last).wrapping_sub(peek!(slot, kvm_first));
        if self.measured == Measured::Counts {
            // Read at each exit, the first and the last included. We may be between its count and ours.
            let kvm = kvm + 1;
            return if kvm.abs_diff(exits) == 1 { exits } else { kvm };
        }
        // An exit that is being handled is not in KVM's count as it was last read, but will be.
        kvm + u64::from(handling)
    }

    /// What a vCPU did with its time, `over` being what its rows say of exits that are over.
    fn time(&self, slot: *const wire::vcpu_slot, over: Vcpu, handling: bool) -> VcpuTime {
        let end = match peek!(slot, end_ns) {
            0 => self.now,
            end => end,
        };
        let since = |begin: u64| end.saturating_sub(begin);
        let mut split = over.split;
        let mut host_ns = over.time_ns + peek!(slot, rowless_ns);
        // Of one that ended, the exit that was being handled is in the host time already.
        if handling {
            host_ns += since(peek!(slot, exit_ns));
        }
        if handling || peek!(slot, end_ns) != 0 {
            let (user, halted) = (&mut split.user_ns, &mut split.halted_ns);
            *user += peek!(slot, user_ns);
            *halted += peek!(slot, halted_ns);
            split.polled_ns += peek!(slot, polled_ns);
            split.waiting_ns += peek!(slot, waiting_ns);
            let waited = peek!(slot, waiting_ns).saturating_sub(peek!(slot, wait_begin));
            let phase_ns = since(peek!(slot, phase_ns)).saturating_sub(waited);
            match peek!(slot, phase) {
                wire::PHASE_USER => *user += phase_ns,
                wire::PHASE_HALTED => *halted += phase_ns,
                _ => {}
            }
        }
        VcpuTime {
            guest_ns: since(peek!(slot, first_ns)).saturating_sub(host_ns),
            kernel_ns: split.kernel_ns(host_ns),
            user_ns: split.user_ns,
            halted_ns: split.halted_ns,
            polled_ns: split.polled_ns,
            waiting_ns: split.waiting_ns,
        }
    }

    /// A row, with the extremes of the epoch that has just ended and of what has begun of the next.
    fn row(&self, row: *mut wire::row, into: &mut Counters) {
        let (epoch, span) = (peek!(row, epoch), peek!(row, span));
        if span != 0 && epoch <= self.epoch {
            // SAFETY: `row` comes from `Table::at`. The vCPU then looks closer at its next exit, and finds a new epoch.
            unsafe { (&raw mut (*row).span).write_volatile(0) };
        }
        let own = Extremes { min_ns: peek!(row, min_ns), max_ns: peek!(row, max_ns) };
        // An epoch before the last that is still open was meant to end when the last did: the vCPU wrote meanwhile.
        let own = (epoch >= self.epoch || span != 0).then_some(own);
        let last = Extremes { min_ns: peek!(row, last.min_ns), max_ns: peek!(row, last.max_ns) };
        let last = (peek!(row, last.epoch) == self.epoch).then_some(last);
        let (low, high) = (peek!(row, low) as usize, (peek!(row, high) as usize).min(BUCKETS - 1));
        into.histogram =
            Histogram::from_bucket(low, (low..=high).map(|bucket| peek!(row, histogram[bucket])));
        into.count = peek!(row, timeless) + into.histogram.count();
        into.time_ns = peek!(row, time_ns);
        into.extremes = Extremes::merge(own, last);
        into.split = Split {
            user_exits: peek!(row, user_exits),
            user_ns: peek!(row, user_ns),
            halted_ns: peek!(row, halted_ns),
            polled_ns: peek!(row, polled_ns),
            waiting_ns: peek!(row, waiting_ns),
        };
        into.nested = Nested {
            to_l1: peek!(row, to_l1),
            l1_done: peek!(row, l1_done),
            l1_exits: peek!(row, l1_exits),
            l1_ns: peek!(row, l1_ns),
        };
        let returned = peek!(row, first_return);
        if returned != 0 {
            into.returns = self.returns(returned);
        }
        if self.guest {
            into.modes = Modes::new(Mode::ALL.map(|mode| peek!(row, modes[mode as usize])));
        }
        let about = peek!(row, about);
        if about != 0 {
            into.details = self.details(row, about == wire::DETAILED_PORTS);
        }
    }

    fn details(&self, row: *const wire::row, ports: bool) -> Details {
        let mut details = Details { other: peek!(row, other_details), ..Details::default() };
        let mut index = peek!(row, first_detail);
        for _ in 0..wire::MAX_DETAILS {
            if index == 0 || index >= self.details.len() {
                break;
            }
            let found = self.details.at(index);
            let key = peek!(found, key);
            let (number, write) = (key & 0xffff_ffff, key >> 32 & u64::from(wire::DETAIL_WRITE) != 0);
            let detail = match (u16::try_from(number), u32::try_from(number)) {
                (Ok(port), _) if ports => Detail::Port { port, write },
                (_, Ok(msr)) => Detail::Msr { msr, write },
                _ => break,
            };
            *details.counts.entry(detail).or_default() += peek!(found, count);
            index = peek!(found, next);
        }
        details
    }

    fn returns(&self, mut index: u32) -> Returns {
        let mut returns = Returns::new();
        for _ in 0..wire::MAX_RETURNS {
            if index == 0 || index >= self.returns.len() {
                break;
            }
            let found = self.returns.at(index);
            *returns.entry(UserReason(peek!(found, reason))).or_default() += peek!(found, count);
            index = peek!(found, next);
        }
        returns
    }
}

fn level(l2: u32) -> Level {
    if l2 == 0 { Level::L1 } else { Level::L2 }
}

/// What the rows of a vCPU add up to.
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

/// As `widen` in bpf/count.bpf.h does.
fn widen(isa: Isa, code: i64) -> i64 {
    let negative = isa == Isa::Svm && code >> 8 == 0x00ff_ffff;
    if negative { code | !0xffff_ffff } else { code }
}
