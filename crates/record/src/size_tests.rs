//! Sizes of recordings.

use super::tests::{Folder, recorded};
use super::*;
use exitscope_model::{
    Counters, Detail, DetailCounters, DetailKind, Details, ExitCode, Extremes, Histogram, Interval, Isa,
    Level, Loss, Measured, Returns, Row, Source, Split, UserReason, VcpuSpan, VcpuTime, Vm, VmId, WorkerSpan,
    WorkerTimes,
};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Numbers without any pattern, the same each time (xorshift, Marsaglia 2003).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A second of a VM whose four vCPUs are busy, with ten reasons on each.
fn busy_second(second: u64, seeded: &mut Seeded) -> Interval {
    let id = VmId(1);
    let vm = Vm {
        id,
        pid: 4242,
        name: "busy".into(),
        vmm: "qemu".into(),
        command: "qemu\0-name\0busy".into(),
        labels: Default::default(),
        ended: false,
    };
    let start =
        SystemTime::UNIX_EPOCH + Duration::from_nanos(1_792_000_000_123_456_789 + second * 1_000_012_345);
    let (mut vcpus, mut rows) = (Vec::new(), Vec::new());
    // Halts, ports, nested page faults, interrupts, MSRs, CPUID and others, with what each takes.
    let reasons = [
        (0x78, 90_000),
        (0x7b, 9_000),
        (0x400, 5_000),
        (0x60, 2_000),
        (0x7c, 1_500),
        (0x72, 1_400),
        (0x64, 1_300),
        (0x81, 1_700),
        (0x61, 2_900),
        (0x6e, 1_000),
    ];
    for vcpu in 0..4 {
        let (mut exits, mut time) = (0, VcpuTime::default());
        for (number, (code, typical)) in (0_u64..).zip(reasons) {
            let count = 20 + seeded.below(4_000) / (number + 1);
            let middle = typical_bucket(typical);
            let mut buckets: Vec<u64> = (0..6).map(|_| 1 + seeded.below(count / 12 + 1)).collect();
            buckets[2] += count.saturating_sub(buckets.iter().sum());
            let count = buckets.iter().sum();
            let time_ns = count * (typical + seeded.below(typical));
            let out = number < 3;
            let user_exits = if out { count - seeded.below(count / 2) } else { 0 };
            let halted_ns = if number == 0 { time_ns / 2 + seeded.below(1000) } else { 0 };
            let split = Split {
                user_exits,
                user_ns: if out { time_ns / 4 + seeded.below(1000) } else { 0 },
                waiting_ns: if number < 6 { seeded.below(time_ns / 8) } else { 0 },
                halted_ns,
                polled_ns: halted_ns / 3,
            };
            let returns = if out {
                Returns::from([(UserReason(2), user_exits), (UserReason(10), 3)])
            } else {
                Returns::new()
            };
            // Of a serial console, PCI, a timer and interrupts.
            let details = match code {
                0x7b => details(
                    (count, time_ns),
                    DetailKind::Port,
                    &[(0x3f8, true), (0x3fd, false), (0x3f9, true), (0xcf8, true), (0x70, false)],
                ),
                0x7c => details(
                    (count, time_ns),
                    DetailKind::Msr,
                    &[(0x6e0, true), (0x830, true), (0x80b, true), (0x10, false)],
                ),
                _ => Details::default(),
            };
            let min_ns = typical / 8 + seeded.below(50);
            let extremes = Some(Extremes { min_ns, max_ns: typical * 40 + seeded.below(typical) });
            exits += count;
            time.kernel_ns += split.kernel_ns(time_ns);
            time.user_ns += split.user_ns;
            time.halted_ns += split.halted_ns;
            time.polled_ns += split.polled_ns;
            time.waiting_ns += split.waiting_ns;
            rows.push(Row {
                vm: id,
                vcpu,
                level: Level::L1,
                code: ExitCode { isa: Isa::Svm, code },
                counters: Counters {
                    count,
                    time_ns,
                    extremes,
                    histogram: Histogram::from_bucket(middle - 2, buckets),
                    split,
                    returns,
                    details,
                    ..Counters::default()
                },
            });
        }
        time.guest_ns = 1_000_012_345_u64.saturating_sub(time.host_ns());
        vcpus.push(VcpuSpan { vm: id, vcpu, exits, kvm_exits: Some(exits), time: Some(time) });
    }
    rows.sort_by_key(|row| (row.vm, row.vcpu, row.level, row.code));
    Interval {
        start,
        end: start + Duration::from_nanos(1_000_012_345),
        length: Duration::from_nanos(1_000_012_345),
        source: Source::Btf,
        measured: Measured::Breakdown,
        vms: BTreeMap::from([(id, vm)]),
        vcpus,
        rows,
        workers: vec![WorkerSpan { vm: id, times: workers(seeded) }],
        loss: Loss::default(),
    }
}

/// Times of a VMM that is neither idle nor busy, with vhost.
fn workers(seeded: &mut Seeded) -> WorkerTimes {
    WorkerTimes {
        span_ns: 1_000_000_000 + seeded.below(20_000),
        main_cpu_ns: 30_000_000 + seeded.below(9_000_000),
        main_waiting_ns: seeded.below(2_000_000),
        io_cpu_ns: 70_000_000 + seeded.below(9_000_000),
        io_waiting_ns: seeded.below(2_000_000),
        other_cpu_ns: seeded.below(900_000),
        other_waiting_ns: seeded.below(20_000),
        vhost_cpu_ns: 200_000_000 + seeded.below(90_000_000),
        vhost_waiting_ns: seeded.below(2_000_000),
        ..WorkerTimes::default()
    }
}

/// So many exits about these numbers, of each half as many as of the one before.
fn details((count, time_ns): (u64, u64), kind: DetailKind, numbers: &[(u64, bool)]) -> Details {
    let (mut left, each) = (count, time_ns / count.max(1));
    let mut details = Details::default();
    for &(number, write) in numbers {
        let some = left.div_ceil(2);
        left -= some;
        if some > 0 {
            let of = DetailCounters { count: some, time_ns: some * each, max_ns: each * (30 + number % 20) };
            details.counts.insert(Detail::new(kind, number, write), of);
        }
    }
    details.other.count = left;
    if left > 0 {
        details.other.max_ns = each;
    }
    details.other.time_ns = left * each;
    details
}

fn typical_bucket(ns: u64) -> usize {
    ns.ilog2() as usize
}

#[test]
fn an_hour_of_a_busy_vm_is_less_than_5_mb() {
    let folder = Folder::new("hour");
    let path = folder.file("x");
    let mut seeded = Seeded(0x9e37_79b9_7f4a_7c15);
    let first = busy_second(0, &mut seeded);
    let mut writer = recorded(&path, std::slice::from_ref(&first));
    let mut whole = first;
    let mut most = 0;
    for second in 1..3600 {
        let interval = busy_second(second, &mut seeded);
        writer.write(&interval, &Notes::default()).unwrap();
        whole.extend(&interval);
        most = most.max(writer.size());
    }
    writer.finish("as asked").unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    println!("an hour: {size} bytes, with its log at most {most}, for {} exits", whole.exits());
    assert!(size < 5_000_000 && most < 5_000_000, "{size} and {most} bytes");
    let recording = Recording::open(&path).unwrap();
    assert_eq!(recording.whole(Part::default()).unwrap(), Some(whole.clone()));

    // What SQL says is the same.
    let connection = Connection::open(&path).unwrap();
    let number = |query: &str| -> u64 {
        let number: i64 = connection.query_row(query, [], |row| row.get(0)).unwrap();
        number.unsigned_abs()
    };
    assert_eq!(number("SELECT sum(exits) FROM by_reason"), whole.exits());
    assert_eq!(number("SELECT sum(kvm_exits) FROM by_vcpu"), whole.exits());
    assert_eq!(number("SELECT sum(exits) FROM rate"), whole.exits());
    assert_eq!(number("SELECT sum(exits) FROM by_second"), whole.exits());
    let returns: u64 = whole.rows.iter().flat_map(|row| row.counters.returns.values()).sum();
    assert_eq!(number("SELECT sum(count) FROM by_return"), returns);
    let about: u64 = whole.rows.iter().map(|row| row.counters.details.count()).sum();
    assert_eq!(number("SELECT sum(count) FROM hour_details"), about);
    let time: u64 = whole.rows.iter().map(|row| row.counters.details.time_ns()).sum();
    assert_eq!(number("SELECT sum(time_ns) FROM hour_details"), time);
    assert_eq!(number("SELECT sum(exits) FROM by_detail"), about);
    let longest = whole.rows.iter().flat_map(|row| row.counters.details.counts.values()).map(|of| of.max_ns);
    assert_eq!(Some(number("SELECT max(max_ns) FROM by_detail WHERE kind <> 'other'")), longest.max());
    let detail = |detail: Detail| -> u64 {
        whole.rows.iter().filter_map(|row| row.counters.details.counts.get(&detail)).map(|of| of.count).sum()
    };
    let com1 = detail(Detail::new(DetailKind::Port, 0x3f8, true));
    assert_eq!(
        number("SELECT exits FROM by_port WHERE port = '0x3f8' AND direction = 'out' AND name = 'COM1'"),
        com1
    );
    let timer = detail(Detail::new(DetailKind::Msr, 0x6e0, true));
    assert_eq!(number("SELECT exits FROM by_msr WHERE msr = '0x6e0' AND direction = 'write'"), timer);
    let kernel: u64 = whole.rows.iter().map(|row| row.counters.split.kernel_ns(row.counters.time_ns)).sum();
    assert_eq!(number("SELECT sum(kernel_ns) FROM hour_rows"), kernel);
    assert_eq!(number("SELECT count(*) FROM hour_rows WHERE reason = 'CPUID' AND vcpu = 2"), 1);
    assert_eq!(number("SELECT count(*) FROM by_vcpu"), 4);
    assert_eq!(number("SELECT vhost_cpu_ns FROM by_worker"), whole.workers[0].times.vhost_cpu_ns);
    let text: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(text, "ok");
}
