//! Intervals to test views on.

use crate::{
    About, BUCKETS, Counters, Detail, DetailCounters, DetailKind, Details, ExitCode, Extremes, Histogram,
    Holder, Holders, Interval, Isa, Level, Loss, Measured, Nested, Returns, Row, Source, Split, UserReason,
    VcpuSpan, VcpuTime, Vm, VmId, WorkerSpan, WorkerTimes,
};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A name that tries everything.
pub const HOSTILE: &str = "=1+2;\"x\",\x1b[31m\u{202e}gpj\u{9b}2J\n\u{200b}\u{e0041}";

/// The provenance of an interval.
pub fn about(interval: &Interval) -> About {
    About {
        tool: "9.9".into(),
        host: "a \"host\"".into(),
        kernel: "6.1 #1".into(),
        cpu: "CPU".into(),
        cpus: 4,
        kvm: [(("kvm".into(), "halt_poll_ns".into()), "200000".into())].into(),
        facts: [("clocksource".into(), "tsc".into())].into(),
        command: vec!["qemu".into(), "-name".into(), "x y\u{1b}".into()],
        interval: Duration::from_millis(100),
        source: interval.source,
        measured: interval.measured,
    }
}

/// Counters of `count` exits that took about `typical` ns, few a quarter of it, fewer 32 times.
pub fn counters(count: u64, typical: u64) -> Counters {
    let middle = typical.ilog2() as usize;
    let mut buckets = [0; BUCKETS];
    let mut left = count;
    for (offset, share) in [(1, 50), (2, 10), (4, 4), (5, 15), (6, 80), (7, 600), (8, 4000)] {
        let entries = left / share;
        buckets[middle + offset - 3] += entries;
        left -= entries;
    }
    buckets[middle] += left;
    let (mut time_ns, mut extremes) = (0, None);
    for (bucket, &entries) in buckets.iter().enumerate().filter(|(_, entries)| **entries > 0) {
        let ns = Histogram::bounds(bucket).start() + typical % 97;
        time_ns += entries * ns;
        extremes = Extremes::merge(extremes, Some(Extremes { min_ns: ns, max_ns: ns }));
    }
    let histogram = buckets.into_iter().collect();
    Counters { count, time_ns, extremes, histogram, ..Counters::default() }
}

/// Where the host time of exits with this code goes, about as it does in life.
fn split(code: ExitCode, counters: &Counters) -> (Split, Returns) {
    let (ns, count) = (counters.time_ns, counters.count);
    let returns = |pairs: &[(i32, u64)]| -> Returns {
        let pairs = pairs.iter().filter(|(_, count)| *count > 0);
        pairs.map(|(reason, count)| (UserReason(*reason), *count)).collect()
    };
    match (code.isa, code.code) {
        // HLT sleeps, polls first, and waits for a CPU when it is woken.
        (Isa::Vmx, 12) | (Isa::Svm, 0x78) => {
            let waiting_ns = ns / 64;
            let halted_ns = ns - ns / 40;
            (Split { halted_ns, polled_ns: halted_ns / 9, waiting_ns, ..Split::default() }, Returns::new())
        }
        // A port is the VMM's business, and now and then a signal interrupts it.
        (Isa::Vmx, 30) | (Isa::Svm, 0x7b) => {
            let split =
                Split { user_exits: count, user_ns: ns / 8 * 7, waiting_ns: ns / 50, ..Split::default() };
            (split, returns(&[(2, count), (10, count / 500)]))
        }
        // A page fault is so where it is one of a device's memory.
        (Isa::Svm, 0x400) => {
            let user_exits = count / 400;
            let split = Split { user_exits, user_ns: ns / 9, waiting_ns: ns / 30, ..Split::default() };
            (split, returns(&[(6, user_exits), (39, count / 300_000), (-14, count / 1_000_000)]))
        }
        (Isa::Svm, 0x60) => (Split { waiting_ns: ns / 3, ..Split::default() }, Returns::new()),
        _ => (Split::default(), Returns::new()),
    }
}

/// Returns the details of exits with this code and these counters, on AMD.
fn details(code: ExitCode, counters: &Counters) -> Details {
    let port = |port, write| Detail::new(DetailKind::Port, port, write);
    let msr = |msr, write| Detail::new(DetailKind::Msr, msr, write);
    let shares: &[(Detail, u64)] = match (code.isa, code.code) {
        (Isa::Svm, 0x7b) => &[
            (port(0x3f8, true), 75),
            (port(0x3fd, false), 15),
            (port(0xcf8, true), 3),
            (port(0xcfc, false), 2),
            (port(0x70, true), 1),
            (port(0xc0e4, true), 1),
            (port(0x608, false), 1),
        ],
        (Isa::Svm, 0x7c) => &[(msr(0x6e0, true), 60), (msr(0x830, true), 30), (msr(0xdead_beef, false), 5)],
        _ => return Details::default(),
    };
    let longest = counters.extremes.map_or(0, |extremes| extremes.max_ns);
    let some = |(detail, share): &(Detail, u64)| {
        let (count, time_ns) = (counters.count * share / 100, counters.time_ns * share / 100);
        (*detail, DetailCounters { count, time_ns, max_ns: longest / (1 + detail.key % 5) })
    };
    let counts: BTreeMap<_, _> = shares.iter().map(some).filter(|(_, some)| some.count > 0).collect();
    let told = Details { counts, ..Details::default() };
    let other = DetailCounters {
        count: counters.count - told.count(),
        time_ns: counters.time_ns - told.time_ns(),
        max_ns: longest,
    };
    Details { other, ..told }
}

/// An interval of ten seconds from vCPUs of (VM, vCPU) and cells of (VM, vCPU, code, count, typical ns).
fn interval(isa: Isa, names: &[&str], cells: &[(u64, u32, i64, u64, u64)]) -> Interval {
    let start = SystemTime::UNIX_EPOCH + Duration::from_micros(1_792_000_000_123_456);
    let vms = (0..).zip(names).map(|(id, name)| {
        let pid = 4242 + u32::try_from(id).unwrap() * 131;
        (
            VmId(id),
            Vm {
                id: VmId(id),
                pid,
                name: (*name).into(),
                vmm: "qemu".into(),
                command: "".into(),
                labels: Default::default(),
                ended: false,
            },
        )
    });
    let mut vcpus: Vec<VcpuSpan> = Vec::new();
    let mut rows = Vec::new();
    for &(vm, vcpu, code, count, typical) in cells {
        let vm = VmId(vm);
        match vcpus.iter_mut().find(|span| (span.vm, span.vcpu) == (vm, vcpu)) {
            Some(span) => span.exits += count,
            None => vcpus.push(VcpuSpan { vm, vcpu, exits: count, kvm_exits: None, time: None }),
        }
        let code = ExitCode { isa, code };
        let mut counters = counters(count, typical);
        (counters.split, counters.returns) = split(code, &counters);
        counters.details = details(code, &counters);
        rows.push(Row { vm, vcpu, level: Level::L1, code, counters });
    }
    vcpus.iter_mut().for_each(|span| span.time = Some(time(span, &rows)));
    vcpus.iter_mut().for_each(|span| span.kvm_exits = Some(span.exits));
    vcpus.sort_by_key(|span| (span.vm, span.vcpu));
    rows.sort_by_key(|row| (row.vm, row.vcpu, row.code));
    Interval {
        start,
        end: start + Duration::from_secs(10),
        length: Duration::from_secs(10),
        source: Source::Btf,
        measured: Measured::Breakdown,
        vms: vms.collect(),
        vcpus,
        rows,
        workers: workers(names.len() as u64),
        loss: Loss::default(),
    }
}

/// Workers of VMs in ten seconds: the main loop of the first VM is busy, and another waits for vhost's worker.
fn workers(vms: u64) -> Vec<WorkerSpan> {
    const MS: u64 = 1_000_000;
    let of = |vm: u64| WorkerTimes {
        span_ns: 10_000 * MS,
        main_cpu_ns: 4_120 * MS / (vm * 40 + 1),
        main_waiting_ns: 31 * MS / (vm + 1),
        io_cpu_ns: vm * 212 * MS,
        io_waiting_ns: vm * 7 * MS,
        other_cpu_ns: 3 * MS + vm,
        other_waiting_ns: 0,
        vhost_cpu_ns: vm * vm * 970 * MS,
        vhost_waiting_ns: vm * 14 * MS,
        kvm_cpu_ns: 0,
        kvm_waiting_ns: 0,
    };
    (0..vms).map(|vm| WorkerSpan { vm: VmId(vm), times: of(vm) }).collect()
}

/// Time of a vCPU in ten seconds; its rows say how much of that was out of the guest.
fn time(span: &VcpuSpan, rows: &[Row]) -> VcpuTime {
    let mut time = VcpuTime::default();
    for Row { counters, .. } in rows.iter().filter(|row| (row.vm, row.vcpu) == (span.vm, span.vcpu)) {
        let split = &counters.split;
        time.kernel_ns += split.kernel_ns(counters.time_ns);
        time.user_ns += split.user_ns;
        time.halted_ns += split.halted_ns;
        time.polled_ns += split.polled_ns;
        time.waiting_ns += split.waiting_ns;
    }
    time.guest_ns = 10_000_000_000 - time.host_ns();
    time
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
    interval.vcpus.iter_mut().for_each(|span| span.time = None);
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
    for span in &mut interval.vcpus {
        span.time = Some(VcpuTime { halted_ns: 10_000_000_000, ..VcpuTime::default() });
    }
    interval
}

/// The same as [`busy`], without a word on where times went.
pub fn whole() -> Interval {
    let mut interval = busy();
    interval.measured = Measured::Latency;
    for row in &mut interval.rows {
        (row.counters.split, row.counters.returns) = Default::default();
        row.counters.details = Details::default();
    }
    for time in interval.vcpus.iter_mut().filter_map(|span| span.time.as_mut()) {
        *time = VcpuTime { guest_ns: time.guest_ns, kernel_ns: time.host_ns(), ..VcpuTime::default() };
    }
    interval
}

/// The same without a time.
pub fn counts() -> Interval {
    let mut interval = busy();
    interval.measured = Measured::Counts;
    for row in &mut interval.rows {
        row.counters = Counters { count: row.counters.count, ..Counters::default() };
    }
    interval.vcpus.iter_mut().for_each(|span| span.time = None);
    interval
}

/// A hundred vCPUs of two VMs, the later the busier.
pub fn many() -> Interval {
    let cells: Vec<_> =
        (0..100).map(|n| (u64::from(n % 2), n / 2, 0x72, 1 + 97 * u64::from(n), 65_000)).collect();
    let mut interval = interval(Isa::Svm, &["left", "right"], &cells);
    for span in &mut interval.vcpus {
        if let Some(time) = &mut span.time {
            time.halted_ns = time.guest_ns / 50 * u64::from(50 - span.vcpu);
            time.guest_ns -= time.halted_ns;
        }
    }
    interval
}

/// Two VMs, one of which runs guests of its own.
pub fn nested() -> Interval {
    let mut interval = interval(
        Isa::Svm,
        &["hypervisor", "plain"],
        &[
            (0, 0, 0x72, 31_204, 1_430),
            (0, 0, 0x7b, 9_810, 6_120),
            (0, 0, 0x80, 20_002, 3_700),
            (0, 0, 0x7c, 4_006, 1_400),
            (1, 0, 0x7b, 7_002, 6_120),
        ],
    );
    for (code, count, to_l1, l1_done, each) in
        [(0x72, 10_001, 10_001, 10_000, 4), (0x7b, 4_100, 0, 0, 0), (0x400, 10_002, 10_002, 10_002, 2)]
    {
        let code = ExitCode { isa: Isa::Svm, code };
        let mut counters = counters(count, 2_100);
        (counters.split, counters.returns) = split(code, &counters);
        counters.nested = Nested { to_l1, l1_done, l1_exits: l1_done * each, l1_ns: l1_done * each * 5_300 };
        if code.code == 0x7b {
            counters.details.other = DetailCounters { count, time_ns: counters.time_ns, max_ns: 70_000 };
        }
        interval.rows.push(Row { vm: VmId(0), vcpu: 0, level: Level::L2, code, counters });
        interval.vcpus[0].exits += count;
    }
    interval.rows.sort_by_key(|row| (row.vm, row.vcpu, row.level, row.code));
    interval.vcpus[0].time = Some(time(&interval.vcpus[0], &interval.rows));
    interval.vcpus[0].kvm_exits = Some(interval.vcpus[0].exits);
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
        untimed: 2,
        no_return: 2,
        skipped: 40,
        skipped_split: 3,
        torn: 2,
        unfollowed: 1,
        no_level: 1,
        no_detail: 5,
        moved_details: 2,
        filtered: 0,
        holders: Holders {
            rows: Some(Holder { vm: VmId(0), pid: 4100, held: 7_019, of: 8_191 }),
            vcpus: Some(Holder { vm: VmId(77), pid: 4177, held: 438, of: 511 }),
            returns: None,
            details: Some(Holder { vm: VmId(0), pid: 4100, held: 6_900, of: 8_191 }),
        },
    };
    interval.vcpus[1].exits += 1_200;
    interval.vcpus[2].kvm_exits = None;
    interval
}

/// All of them.
pub fn all() -> [Interval; 10] {
    [busy(), single(), hostile(), statistics(), idle(), lossy(), whole(), counts(), many(), nested()]
}
