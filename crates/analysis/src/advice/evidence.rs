//! Evidence about one VM, as rules ask for it.

use super::command_line::CommandLine;
use super::{Host, Sum};
use exitscope_model::{
    Detail, DetailKind, ExitCode, Histogram, Interval, Isa, Level, Measured, Memory, Row, UserReason,
    VcpuSpan, VcpuTime, Vm, VmId, WorkerTimes, float,
};
use exitscope_reason as reason;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Everything that is known about one VM in an interval.
pub struct Evidence<'a> {
    /// The VM.
    pub vm: &'a Vm,
    /// The host.
    pub host: &'a Host,
    /// Length of the interval.
    pub length: Duration,
    /// Level of detail that was measured.
    pub measured: Measured,
    rows: &'a [Row],
    vcpus: &'a [VcpuSpan],
    workers: Option<WorkerTimes>,
    all: Sum,
    /// Exits by level and reason, with the name of the reason.
    reasons: Vec<(Level, Cow<'static, str>, Sum)>,
}

impl<'a> Evidence<'a> {
    /// Collects the evidence about `vm`.
    pub fn new(interval: &'a Interval, vm: &'a Vm, host: &'a Host) -> Evidence<'a> {
        // Both are sorted by VM, and a host may have hundreds.
        let rows = of_vm(&interval.rows, vm.id, |row| row.vm);
        let all = rows.iter().map(|row| Sum::from(&row.counters)).sum();
        let vcpus = of_vm(&interval.vcpus, vm.id, |span| span.vm);
        let workers = interval.workers.iter().find(|span| span.vm == vm.id).map(|span| span.times);
        let mut by_code: BTreeMap<(Level, ExitCode), Vec<Sum>> = BTreeMap::new();
        for row in rows {
            by_code.entry((row.level, row.code)).or_default().push(Sum::from(&row.counters));
        }
        let reasons = by_code
            .into_iter()
            .map(|((level, code), sums)| (level, reason::name(code), sums.into_iter().sum()));
        let (length, measured, reasons) = (interval.length, interval.measured, reasons.collect());
        Evidence { workers, vm, host, length, measured, rows, vcpus, all, reasons }
    }

    /// Returns all exits of the VM, those of its own guests included.
    pub fn all(&self) -> Sum {
        self.all
    }

    /// Returns the share of all exits, from 0 to 1.
    pub fn share(&self, exits: u64) -> f64 {
        if self.all.exits == 0 { 0.0 } else { float(exits) / float(self.all.exits) }
    }

    /// Returns the exits per second.
    pub fn rate(&self, exits: u64) -> f64 {
        let seconds = self.length.as_secs_f64();
        if seconds > 0.0 { float(exits) / seconds } else { 0.0 }
    }

    /// Returns the VM's own exits (L1) for these reasons, by the names of either processor.
    pub fn reasons(&self, names: &[&str]) -> Sum {
        self.at(Level::L1, names)
    }

    /// Returns the time that half of the VM's own exits for these reasons took no longer than (ns); `None` where times were not
    /// measured. A few that took long, because something else ran on the CPU, do not move it as they move a mean.
    pub fn median_ns(&self, names: &[&str]) -> Option<u64> {
        let mut times = Histogram::default();
        for row in self.rows.iter().filter(|row| row.level == Level::L1) {
            if names.contains(&&*reason::name(row.code)) {
                times.add(&row.counters.histogram);
            }
        }
        times.percentile(0.5, 0, u64::MAX)
    }

    /// Returns the exits of the VM's own guests (L2); of all reasons where `names` is empty.
    pub fn nested(&self, names: &[&str]) -> Sum {
        self.at(Level::L2, names)
    }

    fn at(&self, level: Level, names: &[&str]) -> Sum {
        debug_assert!(
            names.iter().all(|name| !reason::find(None, name).is_empty()),
            "no such reason among {names:?}"
        );
        let reasons = self.reasons.iter().filter(|(at, ..)| *at == level);
        reasons
            .filter(|(_, name, _)| names.is_empty() || names.contains(&&**name))
            .map(|(.., sum)| *sum)
            .sum()
    }

    /// Returns the exits that were about any of these ports, with their share of their rows' times.
    pub fn ports(&self, ports: &[RangeInclusive<u16>]) -> Sum {
        self.details(DetailKind::Port, |detail| {
            ports.iter().any(|range| u16::try_from(detail.key).is_ok_and(|key| range.contains(&key)))
        })
    }

    /// Returns the exits that were about any of these MSRs, with their share of their rows' times.
    pub fn msrs(&self, msrs: &[RangeInclusive<u32>]) -> Sum {
        self.details(DetailKind::Msr, |detail| {
            msrs.iter().any(|range| u32::try_from(detail.key).is_ok_and(|key| range.contains(&key)))
        })
    }

    /// Returns the exits that were about a guest-physical address in this range, with their share of their rows' times.
    pub fn addresses(&self, range: &RangeInclusive<u64>) -> Sum {
        self.details(DetailKind::Gpa, |detail| range.contains(&detail.key))
    }

    /// Returns the exits that were about guest memory whose writes are logged.
    pub fn dirty_logged(&self) -> Sum {
        self.details(DetailKind::Gpa, |detail| has_flag(detail, "dirty-logged"))
    }

    /// Returns the exits that were about guest memory from which the guest fetched an instruction.
    pub fn fetches(&self) -> Sum {
        self.details(DetailKind::Gpa, |detail| has_flag(detail, "fetch"))
    }

    /// Returns true if exits for guest memory are told apart by address.
    pub fn knows_addresses(&self) -> bool {
        self.addresses(&(0..=u64::MAX)).exits > 0
    }

    /// Returns the exits for guest memory of regions that had more of them than their pages can have first touches: two for
    /// each, one that reads and one that writes. So the host has mapped these pages before, and taken them away.
    pub fn faults_again(&self) -> Sum {
        const REGION_PAGES: u64 = 512;
        let is_memory = |detail: &Detail| has_flag(detail, "memory") && !has_flag(detail, "dirty-logged");
        let mut regions: BTreeMap<u64, u64> = BTreeMap::new();
        for (detail, of) in self.rows.iter().flat_map(|row| &row.counters.details.counts) {
            if detail.kind == DetailKind::Gpa && is_memory(detail) {
                let exits = regions.entry(detail.key).or_default();
                *exits = exits.saturating_add(of.count);
            }
        }
        self.details(DetailKind::Gpa, |detail| {
            is_memory(detail) && regions.get(&detail.key).is_some_and(|exits| *exits > 2 * REGION_PAGES)
        })
    }

    /// Returns the memory of the VM's process, if it was looked at.
    pub fn memory(&self) -> Option<Memory> {
        self.host.memory.get(&self.vm.pid).copied()
    }

    fn details(&self, kind: DetailKind, wanted: impl Fn(&Detail) -> bool) -> Sum {
        self.rows
            .iter()
            .map(|row| {
                let counts = row.counters.details.counts.iter();
                let mine = counts.filter(|(detail, _)| detail.kind == kind && wanted(detail));
                let exits: u64 = mine.map(|(_, of)| of.count).fold(0, u64::saturating_add);
                // An interval may end an exit that an earlier one began, and a stranger's recording may say anything: no
                // row is asked for more than it has.
                Sum::from(&row.counters).part(exits.min(row.counters.count))
            })
            .sum()
    }

    /// Returns how often KVM_RUN returned to the VMM with one of these (`KVM_EXIT_*`).
    pub fn returns(&self, returned: &[i32]) -> u64 {
        let pairs = self.rows.iter().flat_map(|row| row.counters.returns.iter());
        pairs.filter(|(UserReason(number), _)| returned.contains(number)).map(|(_, count)| count).sum()
    }

    /// Returns the time of all vCPUs; `None` where it was not measured.
    pub fn time(&self) -> Option<VcpuTime> {
        let mut sum = VcpuTime::default();
        for span in self.vcpus {
            sum.add(&span.time?);
        }
        (!self.vcpus.is_empty()).then_some(sum)
    }

    /// Returns the times of the threads beside the vCPUs; `None` where they were not looked at.
    pub fn workers(&self) -> Option<WorkerTimes> {
        self.workers.filter(|times| times.span_ns > 0)
    }

    /// Returns true if it was measured where host time went.
    pub fn has_breakdown(&self) -> bool {
        self.measured == Measured::Breakdown
    }

    /// Returns how many vCPUs the VM has.
    pub fn vcpus(&self) -> usize {
        self.vcpus.len()
    }

    /// Returns the vCPU with most exits, and how many these are.
    pub fn busiest_vcpu(&self) -> Option<(u32, u64)> {
        self.vcpus.iter().max_by_key(|span| span.exits).map(|span| (span.vcpu, span.exits))
    }

    /// Returns the exits of one vCPU, as a sum.
    pub fn vcpu(&self, vcpu: u32) -> Sum {
        self.rows.iter().filter(|row| row.vcpu == vcpu).map(|row| Sum::from(&row.counters)).sum()
    }

    /// Returns true if the exits are Intel's.
    pub fn is_vmx(&self) -> bool {
        self.rows.first().is_some_and(|row| row.code.isa == Isa::Vmx)
    }

    /// Returns the VM's command line.
    pub fn command(&self) -> CommandLine<'a> {
        CommandLine(&self.vm.command)
    }

    /// Returns true if the guest has shown itself as Linux: it uses KVM's own MSRs (clock, steal time, EOI).
    pub fn is_linux(&self) -> bool {
        self.msrs(&[0x11..=0x12, 0x4b56_4d00..=0x4b56_4d08]).exits > 0
    }

    /// Returns true if the guest has shown itself as Windows: it uses Hyper-V's MSRs, or it keeps reading both the ACPI
    /// timer and the real-time clock; and none of KVM's own MSRs.
    pub fn is_windows(&self) -> bool {
        let hyper_v = self.msrs(&[0x4000_0000..=0x4000_01ff]).exits > 0;
        let reads = |ports| self.share(self.ports(ports).exits) >= 0.01;
        (hyper_v || (reads(super::rules::PM_TIMER) && reads(super::rules::RTC))) && !self.is_linux()
    }
}

/// Returns true if a detail has the flag of its kind with this name.
fn has_flag(detail: &Detail, name: &str) -> bool {
    detail.info().flag_words(detail.attributes).any(|set| set == name)
}

/// Returns the part of a list, sorted by VM, that is one VM's.
fn of_vm<T>(list: &[T], vm: VmId, whose: impl Fn(&T) -> VmId) -> &[T] {
    let begin = list.partition_point(|item| whose(item) < vm);
    let end = list.partition_point(|item| whose(item) <= vm);
    &list[begin..end]
}
