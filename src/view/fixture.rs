//! Intervals to test views on.

use crate::model::{
    Counters, ExitCode, Extremes, Histogram, Interval, Isa, Loss, Measured, Row, Source, VcpuSpan, Vm, VmId,
};
use std::time::{Duration, SystemTime};

/// A name that tries everything.
pub const HOSTILE: &str = "=1+2;\"x\",\x1b[31m\u{202e}gpj\u{9b}2J\n\u{200b}\u{e0041}";

/// Counters of `count` exits that took about `typical` ns, few a quarter of it, fewer 32 times.
pub fn counters(count: u64, typical: u64) -> Counters {
    let middle = typical.ilog2() as usize;
    let mut histogram = Histogram::default();
    let mut left = count;
    for (offset, share) in [(1, 50), (2, 10), (4, 4), (5, 15), (6, 80), (7, 600), (8, 4000)] {
        let entries = left / share;
        histogram.0[middle + offset - 3] += entries;
        left -= entries;
    }
    histogram.0[middle] += left;
    let (mut time_ns, mut extremes) = (0, None);
    for (bucket, &entries) in histogram.0.iter().enumerate().filter(|(_, entries)| **entries > 0) {
        let ns = Histogram::bounds(bucket).start() + typical % 97;
        time_ns += entries * ns;
        extremes = Extremes::merge(extremes, Some(Extremes { min_ns: ns, max_ns: ns }));
    }
    Counters { count, time_ns, extremes, histogram, ..Counters::default() }
}

/// An interval of ten seconds from vCPUs of (VM, vCPU) and cells of (VM, vCPU, code, count, typical ns).
fn interval(isa: Isa, names: &[&str], cells: &[(u64, u32, i64, u64, u64)]) -> Interval {
    let start = SystemTime::UNIX_EPOCH + Duration::from_micros(1_792_000_000_123_456);
    let vms = (0..).zip(names).map(|(id, name)| {
        let pid = 4242 + u32::try_from(id).unwrap() * 131;
        (VmId(id), Vm { id: VmId(id), pid, name: (*name).into(), vmm: "qemu".into(), ended: false })
    });
    let mut vcpus: Vec<VcpuSpan> = Vec::new();
    let mut rows = Vec::new();
    for &(vm, vcpu, code, count, typical) in cells {
        let vm = VmId(vm);
        match vcpus.iter_mut().find(|span| (span.vm, span.vcpu) == (vm, vcpu)) {
            Some(span) => span.exits += count,
            None => vcpus.push(VcpuSpan { vm, vcpu, exits: count, kvm_exits: None, time: None }),
        }
        rows.push(Row { vm, vcpu, code: ExitCode { isa, code }, counters: counters(count, typical) });
    }
    vcpus.iter_mut().for_each(|span| span.kvm_exits = Some(span.exits));
    vcpus.sort_by_key(|span| (span.vm, span.vcpu));
    rows.sort_by_key(|row| (row.vm, row.vcpu, row.code));
    Interval {
        start,
        end: start + Duration::from_secs(10),
        length: Duration::from_secs(10),
        source: Source::Btf,
        measured: Measured::Times,
        vms: vms.collect(),
        vcpus,
        rows,
        loss: Loss::default(),
    }
}

/// Three VMs, twelve reasons, from microseconds to seconds; all agrees.
pub fn busy() -> Interval {
    interval(
        Isa::Svm,
        &["web-1", "postgres-main", "ci-runner-07"],
        &[
            (0, 0, 0x7b, 66_895, 6_120),
            (0, 0, 0x72, 7_557, 1_430),
            (0, 0, 0x400, 5_788, 3_310),
            (0, 0, 0x60, 1_900, 1_100),
            (0, 0, 0x7c, 1_459, 1_390),
            (0, 1, 0x78, 612, 14_200_000),
            (0, 1, 0x7c, 2_204, 1_510),
            (1, 0, 0x400, 1_284_411, 2_060),
            (1, 0, 0x60, 14_018, 980),
            (1, 1, 0x78, 88, 105_000_000),
            (1, 1, 0x64, 571, 1_250),
            (1, 1, 0x77, 31_007, 1_020),
            (2, 0, 0x61, 296, 2_900),
            (2, 0, 0x81, 40, 1_700),
            (2, 0, 0x37, 12, 1_300),
            (2, 0, 0x8d, 2, 5_100),
            (2, 0, 0x89, 1, 310_000),
        ],
    )
}

/// One VM on Intel, with a failed entry and a code that no manual names.
pub fn single() -> Interval {
    let cells = [
        (0, 0, 30, 63_757, 5_400),
        (0, 0, 12, 3, 2_000_000_000),
        (0, 0, 0x8000_0021, 1, 800),
        (0, 0, 999, 1, 900),
    ];
    interval(Isa::Vmx, &["boot"], &cells)
}

/// One VM whose name is hostile.
pub fn hostile() -> Interval {
    interval(Isa::Vmx, &[HOSTILE, ""], &[(0, 0, 10, 5, 1_200), (1, 0, 10, 3, 1_300)])
}

/// KVM's own statistics of two VMs.
pub fn statistics() -> Interval {
    let cells = [(0, 0, 0, 66_895, 1), (0, 0, 5, 612, 1), (0, 0, 9, 70_211, 1), (1, 0, 5, 88, 1)];
    let mut interval =
        interval(Isa::KvmStat, &["web-1", "postgres-main"], &cells.map(|(a, b, c, d, _)| (a, b, c, d, 64)));
    interval.source = Source::KvmStat;
    interval.measured = Measured::Counts;
    for row in &mut interval.rows {
        row.counters = Counters { count: row.counters.count, ..Counters::default() };
    }
    for (span, exits) in interval.vcpus.iter_mut().zip([84_562, 1_204]) {
        (span.exits, span.kvm_exits) = (exits, Some(exits));
    }
    interval
}

/// Two VMs without an exit.
pub fn idle() -> Interval {
    let mut interval =
        interval(Isa::Svm, &["web-1", "postgres-main"], &[(0, 0, 0x78, 0, 9), (1, 0, 0x78, 0, 9)]);
    interval.rows.clear();
    interval
}

/// Everything that can be missed was, and KVM's count cannot be read for one vCPU.
pub fn lossy() -> Interval {
    let mut interval = busy();
    interval.loss = Loss {
        no_row: 1_200,
        no_vcpu: 7,
        entry_without_exit: 3,
        exit_without_entry: 1,
        skipped: 40,
        torn: 2,
        unfollowed: 1,
    };
    interval.vcpus[1].exits += 1_200;
    interval.vcpus[2].kvm_exits = None;
    interval
}

/// All of them.
pub fn all() -> [Interval; 6] {
    [busy(), single(), hostile(), statistics(), idle(), lossy()]
}
