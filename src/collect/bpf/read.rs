//! One vCPU's counters, out of memory that its programs may be writing.

use super::table::{Table, peek};
use super::wire;
use crate::model::{
    Counters, ExitCode, Extremes, Histogram, Isa, Loss, ReasonCount, Source, VcpuSample, VmId,
};
use std::sync::atomic::{Ordering, fence};

/// How often a vCPU is read again because it wrote meanwhile. A reading takes about a microsecond, and so does
/// the shortest exit: a second try is rare.
const TRIES: usize = 1000;

/// A vCPU's figures.
pub struct Reading {
    pub sample: VcpuSample,
    pub loss: Loss,
}

/// Reads a vCPU whole, as it was at one moment; if that cannot be had, the loss says so.
pub fn read_vcpu(
    rows: &Table<wire::row>,
    slot: *const wire::vcpu_slot,
    vm: VmId,
    epoch: u64,
    source: Source,
) -> Reading {
    let mut torn = 0;
    loop {
        let before = peek!(slot, seq);
        fence(Ordering::Acquire);
        let reading = copy(rows, slot, vm, epoch, source);
        fence(Ordering::Acquire);
        if before.is_multiple_of(2) && before == peek!(slot, seq) {
            return reading;
        }
        torn += 1;
        if torn == TRIES {
            return Reading { loss: Loss { torn: 1, ..reading.loss }, ..reading };
        }
        std::hint::spin_loop();
    }
}

fn copy(
    rows: &Table<wire::row>,
    slot: *const wire::vcpu_slot,
    vm: VmId,
    epoch: u64,
    source: Source,
) -> Reading {
    let isa = if peek!(slot, isa) == 1 { Isa::Vmx } else { Isa::Svm };
    let mut reasons = Vec::new();
    for mut index in [peek!(slot, first_row), peek!(slot, first_odd)] {
        // A list that is being changed leads into a row that is not ours, at worst; it has an end, and the
        // sequence number tells afterwards.
        while index != 0
            && index < rows.len()
            && reasons.len() < (wire::DIRECT_ROWS + wire::MAX_ODD_ROWS) as usize
        {
            let row = rows.at(index);
            reasons.push(reason(row, isa, epoch));
            index = peek!(row, next);
        }
    }
    let exits = peek!(slot, exits);
    let handling = u64::from(peek!(slot, state) == wire::VCPU_HOST);
    // An exit that is being handled is not in KVM's count as it was last read, but will be.
    let kvm_exits = if peek!(slot, kvm_known) == 0 {
        exits
    } else {
        peek!(slot, kvm_last).wrapping_sub(peek!(slot, kvm_first)) + handling
    };
    Reading {
        sample: VcpuSample {
            vm,
            vcpu: peek!(slot, vcpu_id),
            exits,
            kvm_exits: (source == Source::Btf).then_some(kvm_exits),
            time: None,
            reasons,
        },
        loss: Loss {
            no_row: peek!(slot, no_row),
            entry_without_exit: peek!(slot, entry_without_exit),
            exit_without_entry: peek!(slot, exit_without_entry),
            ..Loss::default()
        },
    }
}

/// A row, with the extremes of the epoch that has just ended and of what has begun of the next.
fn reason(row: *const wire::row, isa: Isa, epoch: u64) -> ReasonCount {
    let extremes = [epoch, epoch + 1].map(|epoch| {
        let extremes = peek!(row, extremes[(epoch & 1) as usize]);
        (extremes.epoch == epoch).then_some(Extremes { min_ns: extremes.min_ns, max_ns: extremes.max_ns })
    });
    ReasonCount {
        code: ExitCode { isa, code: peek!(row, code) },
        counters: Counters {
            count: peek!(row, count),
            time_ns: peek!(row, time_ns),
            extremes: Extremes::merge(extremes[0], extremes[1]),
            histogram: Histogram(peek!(row, histogram)),
            ..Counters::default()
        },
    }
}
