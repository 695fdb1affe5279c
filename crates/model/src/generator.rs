//! Intervals of a big, busy host, made of random numbers with a fixed seed: for benchmarks and tests of size.

use crate::{
    About, Counters, Detail, DetailCounters, DetailKind, Details, ExitCode, Extremes, Histogram, Interval,
    Isa, Level, Loss, Measured, Returns, Row, Source, Split, UserReason, VcpuSpan, VcpuTime, Vm, VmId,
    WorkerSpan, WorkerTimes,
};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Number of reasons of each vCPU.
pub const REASONS: usize = 12;

/// A kind of exit: its code on AMD, exits a second, and the bucket in which most of its times lie.
struct Load {
    code: i64,
    per_second: u64,
    bucket: usize,
}

const HLT: i64 = 0x78;
const IOIO: i64 = 0x7b;
const MSR: i64 = 0x7c;
const NPF: i64 = 0x400;

const LOADS: [Load; REASONS] = [
    Load { code: 0x60, per_second: 400, bucket: 11 },
    Load { code: 0x61, per_second: 20, bucket: 11 },
    Load { code: 0x64, per_second: 300, bucket: 10 },
    Load { code: 0x6e, per_second: 150, bucket: 10 },
    Load { code: 0x72, per_second: 250, bucket: 9 },
    Load { code: 0x77, per_second: 900, bucket: 10 },
    Load { code: HLT, per_second: 800, bucket: 17 },
    Load { code: IOIO, per_second: 500, bucket: 13 },
    Load { code: MSR, per_second: 2_000, bucket: 10 },
    Load { code: 0x81, per_second: 100, bucket: 10 },
    Load { code: 0x8d, per_second: 30, bucket: 10 },
    Load { code: NPF, per_second: 600, bucket: 12 },
];

/// Ports and MSRs that exits are about: number, written or not.
const PORTS: [(u64, bool); 3] = [(0x3f8, true), (0x3fd, false), (0xcf8, true)];
const MSRS: [(u64, bool); 3] = [(0x6e0, true), (0x830, true), (0x10, false)];

/// Parts of 64 of a reason's exits by bucket: three buckets before that of most, to three after it.
const SHARES: [u64; 7] = [1, 6, 16, 30, 8, 2, 1];

/// KVM_EXIT_IO and KVM_EXIT_MMIO (include/uapi/linux/kvm.h).
const IO: UserReason = UserReason(2);
const MMIO: UserReason = UserReason(6);

/// Seconds of a host, one after the other, the same each time.
pub struct Generator {
    state: u64,
    vms: BTreeMap<VmId, Vm>,
    vcpus: u32,
    second: u64,
}

impl Generator {
    /// A host with so many VMs of so many vCPUs each, at its first second.
    pub fn new(vms: u64, vcpus: u32) -> Generator {
        let vm = |number: u64| Vm {
            id: VmId(1000 + number),
            pid: 4000 + u32::try_from(number).unwrap_or(0),
            name: format!("guest-{number:03}"),
            vmm: "qemu-system-x86".into(),
            command: format!("qemu-system-x86_64\0-name\0guest-{number:03}\0-smp\0{vcpus}").into(),
            labels: Default::default(),
            ended: false,
        };
        let vms = (0..vms).map(vm).map(|vm| (vm.id, vm)).collect();
        Generator { state: 0x9e37_79b9_7f4a_7c15, vms, vcpus, second: 0 }
    }

    /// Provenance of the intervals.
    pub fn about() -> About {
        About {
            tool: env!("CARGO_PKG_VERSION").into(),
            host: "big".into(),
            kernel: "6.12 #1".into(),
            cpu: "CPU".into(),
            cpus: 256,
            kvm: [(("kvm".into(), "halt_poll_ns".into()), "200000".into())].into(),
            facts: [("clocksource".into(), "tsc".into())].into(),
            command: Vec::new(),
            interval: Duration::from_secs(1),
            source: Source::Btf,
            measured: Measured::Breakdown,
        }
    }

    /// A number below `bound`, which is not 0, without any pattern (xorshift, Marsaglia 2003).
    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % bound
    }

    /// From half of a number to one and a half of it.
    fn around(&mut self, number: u64) -> u64 {
        number / 2 + self.below(number + 1)
    }

    /// Sum of `count` times, each at random within a bucket (ns). Four random numbers make about a normal distribution.
    fn times(&mut self, count: u64, bucket: usize) -> u64 {
        let low = 1_u64 << bucket;
        let spread = (count.isqrt() * low).max(1) / 2;
        let noise: u64 = (0..4).map(|_| self.below(spread)).sum();
        (count * low * 3 / 2 + noise).saturating_sub(2 * spread).max(count * low)
    }

    fn counters(&mut self, load: &Load) -> Counters {
        let wanted = self.around(load.per_second);
        let buckets = SHARES.map(|share| self.around(wanted * share / 64));
        let first = load.bucket - 3;
        let (mut time_ns, mut seen) = (0, Vec::new());
        for (bucket, count) in (first..).zip(buckets).filter(|(_, count)| *count > 0) {
            time_ns += self.times(count, bucket);
            seen.push(bucket);
        }
        let count = buckets.iter().sum();
        let mut within = |bucket: Option<&usize>| bucket.map(|at| (1 << at) + self.below(1 << at));
        let (low, high) = (within(seen.first()), within(seen.last()));
        let extremes = low.zip(high).map(|(a, b)| Extremes { min_ns: a.min(b), max_ns: a.max(b) });
        let mut split = Split { waiting_ns: self.below(time_ns / 16 + 1), ..Split::default() };
        let mut returns = Returns::new();
        match load.code {
            HLT => {
                split.halted_ns = time_ns / 32 * 30 - self.below(time_ns / 32 + 1);
                split.polled_ns = split.halted_ns / 8 + self.below(split.halted_ns / 8 + 1);
                split.waiting_ns = self.below(time_ns / 64 + 1);
            }
            IOIO | NPF => {
                split.user_exits = if load.code == IOIO { count } else { count / 32 };
                split.user_ns =
                    time_ns / count.max(1) * split.user_exits / 4 * 3 + self.below(time_ns / 8 + 1);
                returns.insert(if load.code == IOIO { IO } else { MMIO }, split.user_exits);
            }
            _ => {}
        }
        returns.retain(|_, count| *count > 0);
        let histogram = Histogram::from_bucket(first, buckets);
        let mut counters =
            Counters { count, time_ns, extremes, histogram, split, returns, ..Counters::default() };
        match load.code {
            IOIO => counters.details = self.details(&counters, DetailKind::Port, &PORTS),
            MSR => counters.details = self.details(&counters, DetailKind::Msr, &MSRS),
            _ => {}
        }
        counters
    }

    /// Times of a VMM that is neither idle nor busy, with vhost.
    fn workers(&mut self, span_ns: u64) -> WorkerTimes {
        WorkerTimes {
            span_ns,
            main_cpu_ns: self.around(30_000_000),
            main_waiting_ns: self.around(1_000_000),
            io_cpu_ns: self.around(70_000_000),
            io_waiting_ns: self.around(1_000_000),
            vhost_cpu_ns: self.around(200_000_000),
            vhost_waiting_ns: self.around(1_000_000),
            ..WorkerTimes::default()
        }
    }

    /// Exits by what they were about; the last thing has the rest.
    fn details(&mut self, of: &Counters, kind: DetailKind, things: &[(u64, bool)]) -> Details {
        let mut details = Details::default();
        let (mut count, mut time_ns) = (of.count, of.time_ns);
        let max_ns = of.extremes.map_or(0, |extremes| extremes.max_ns);
        for (place, &(number, write)) in things.iter().enumerate() {
            let last = place + 1 == things.len();
            let some = if last { count } else { (count / 3 + self.below(count / 3 + 1)).min(count) };
            let mean = time_ns / count.max(1);
            let its = if last { time_ns } else { (some * mean + self.below(mean + 1)).min(time_ns) };
            let longest = if place == 0 { max_ns } else { max_ns - self.below(max_ns / 2 + 1) };
            if some > 0 {
                let counters = DetailCounters { count: some, time_ns: its, max_ns: longest };
                details.counts.insert(Detail::new(kind, number, write), counters);
                count -= some;
                time_ns -= its;
            }
        }
        details
    }
}

impl Iterator for Generator {
    type Item = Interval;

    /// The next second; there is always one.
    fn next(&mut self) -> Option<Interval> {
        const BEGIN: Duration = Duration::from_nanos(1_792_000_000_123_456_789);
        let length = Duration::from_nanos(1_000_000_000 + self.below(100_000));
        let start = SystemTime::UNIX_EPOCH + BEGIN + Duration::from_secs(self.second);
        self.second += 1;
        let (mut vcpus, mut rows) = (Vec::new(), Vec::new());
        let ids: Vec<VmId> = self.vms.keys().copied().collect();
        let numbers = self.vcpus;
        for (vm, vcpu) in ids.into_iter().flat_map(|vm| (0..numbers).map(move |vcpu| (vm, vcpu))) {
            let (mut exits, mut time) = (0, VcpuTime::default());
            for load in &LOADS {
                let counters = self.counters(load);
                exits += counters.count;
                time.kernel_ns += counters.split.kernel_ns(counters.time_ns);
                time.user_ns += counters.split.user_ns;
                time.waiting_ns += counters.split.waiting_ns;
                time.halted_ns += counters.split.halted_ns;
                time.polled_ns += counters.split.polled_ns;
                let code = ExitCode { isa: Isa::Svm, code: load.code };
                rows.push(Row { vm, vcpu, level: Level::L1, code, counters });
            }
            let all = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
            time.guest_ns = all.saturating_sub(time.host_ns()) + self.below(2_000);
            vcpus.push(VcpuSpan { vm, vcpu, exits, kvm_exits: Some(exits), time: Some(time) });
        }
        let all = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let ids: Vec<VmId> = self.vms.keys().copied().collect();
        let workers = ids.into_iter().map(|vm| WorkerSpan { vm, times: self.workers(all) }).collect();
        Some(Interval {
            start,
            end: start + length,
            length,
            source: Source::Btf,
            measured: Measured::Breakdown,
            vms: self.vms.clone(),
            vcpus,
            workers,
            rows,
            loss: Loss::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_consistent_and_the_same_each_time() {
        let seconds = || Generator::new(3, 2).take(4).collect::<Vec<_>>();
        assert_eq!(seconds(), seconds());
        assert_ne!(seconds()[0].rows, seconds()[1].rows);
        for interval in seconds() {
            assert_eq!((interval.vcpus.len(), interval.rows.len()), (6, 6 * REASONS));
            assert!(interval.rows.is_sorted_by_key(|row| (row.vm, row.vcpu, row.code)));
            let sum: u64 = interval.rows.iter().map(|row| row.counters.count).sum();
            assert_eq!(Some(sum), interval.kvm_exits());
            for Row { counters, .. } in &interval.rows {
                assert_eq!(counters.histogram.count(), counters.count);
                assert!(counters.split.user_ns + counters.split.halted_ns <= counters.time_ns);
                let details = &counters.details;
                assert!([0, counters.count].contains(&details.count()));
                assert!([0, counters.time_ns].contains(&details.time_ns()));
            }
        }
    }
}
