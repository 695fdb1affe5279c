//! Difference of two samples.

use super::{
    Counters, ExitCode, Level, Loss, Measured, Sample, Source, VcpuSample, VcpuTime, Vm, VmId, WorkerSpan,
    WorkerTimes,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// One reason of one vCPU in an [`Interval`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The VM.
    pub vm: VmId,
    /// The vCPU's number in the VM.
    pub vcpu: u32,
    /// The level; [`Level::L1`] where the source cannot tell.
    pub level: Level,
    /// The reason.
    pub code: ExitCode,
    /// Counters of the interval.
    pub counters: Counters,
}

impl Row {
    fn key(&self) -> (VmId, u32, Level, ExitCode) {
        (self.vm, self.vcpu, self.level, self.code)
    }
}

/// One vCPU in an [`Interval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuSpan {
    /// The VM.
    pub vm: VmId,
    /// The vCPU's number in the VM.
    pub vcpu: u32,
    /// Exits of all reasons.
    pub exits: u64,
    /// KVM's own count of them; `None` where it could not be read.
    pub kvm_exits: Option<u64>,
    /// Parts of its time, from its first exit on; `None` where times are not measured.
    pub time: Option<VcpuTime>,
}

impl VcpuSpan {
    /// Adds the span of the same vCPU that follows.
    pub fn add(&mut self, next: &VcpuSpan) {
        self.exits += next.exits;
        self.kvm_exits = self.kvm_exits.zip(next.kvm_exits).map(|(a, b)| a + b);
        if let (Some(mine), Some(time)) = (&mut self.time, &next.time) {
            mine.add(time);
        }
    }
}

/// Exits between two moments, in rows that need no further subtraction.
///
/// ```
/// use exitscope_model::{
///     Counters, ExitCode, Interval, Isa, Level, Loss, Measured, ReasonCount, Sample, Source, VcpuSample,
///     VmId,
/// };
/// use std::time::SystemTime;
///
/// /// A sample of one vCPU that has exited so often for CPUID (VMX: 10).
/// fn sample(monotonic_ns: u64, count: u64) -> Sample {
///     let counters = Counters { count, ..Counters::default() };
///     let code = ExitCode { isa: Isa::Vmx, code: 10 };
///     let reasons = vec![ReasonCount { level: Level::L1, code, counters }];
///     let vcpu =
///         VcpuSample { vm: VmId(1), vcpu: 0, exits: count, kvm_exits: Some(count), time: None, reasons };
///     Sample {
///         monotonic_ns,
///         wall: SystemTime::UNIX_EPOCH,
///         source: Source::Btf,
///         measured: Measured::Counts,
///         vms: Vec::new(),
///         vcpus: vec![vcpu],
///         workers: Vec::new(),
///         loss: Loss::default(),
///     }
/// }
///
/// let [first, second, third] = [sample(0, 100), sample(1_000_000_000, 140), sample(2_000_000_000, 150)];
/// let mut interval = Interval::between(&first, &second)?;
/// assert_eq!((interval.exits(), interval.kvm_exits(), interval.length.as_secs()), (40, Some(40), 1));
/// interval.extend(&Interval::between(&second, &third)?);
/// assert_eq!(interval, Interval::between(&first, &third)?);
/// assert!(Interval::between(&third, &first).is_err(), "no counter shrinks");
/// # Ok::<(), exitscope_model::WentBackwards>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Begin by the wall clock.
    pub start: SystemTime,
    /// End by the wall clock.
    pub end: SystemTime,
    /// Length by the monotonic clock.
    pub length: Duration,
    /// Source of the counters.
    pub source: Source,
    /// Level of detail.
    pub measured: Measured,
    /// The VMs that were there, by id.
    pub vms: BTreeMap<VmId, Vm>,
    /// The vCPUs that were there, by VM and number, also those without an exit.
    pub vcpus: Vec<VcpuSpan>,
    /// Threads that work for VMs beside their vCPUs, by VM; those VMs of which they are known.
    pub workers: Vec<WorkerSpan>,
    /// Reasons that occurred, by VM, vCPU, level and code.
    pub rows: Vec<Row>,
    /// Losses.
    pub loss: Loss,
}

/// A counter was smaller in the later of two samples, which no counter of ours can be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the counter {what} went backwards between two samples; please report this as a bug")]
pub struct WentBackwards {
    what: String,
}

impl Interval {
    /// Returns the difference of two consecutive samples of one collector.
    ///
    /// # Errors
    /// If a counter went backwards.
    pub fn between(last: &Sample, now: &Sample) -> Result<Interval, WentBackwards> {
        let before: BTreeMap<(VmId, u32), &VcpuSample> =
            last.vcpus.iter().map(|vcpu| ((vcpu.vm, vcpu.vcpu), vcpu)).collect();
        let mut vcpus = Vec::with_capacity(now.vcpus.len());
        let mut rows = Vec::new();
        for vcpu in &now.vcpus {
            let earlier = before.get(&(vcpu.vm, vcpu.vcpu)).copied();
            let backwards = |what: &str| WentBackwards {
                what: format!("{what} of vCPU {} of process {}", vcpu.vcpu, pid_of(now, vcpu.vm)),
            };
            let exits =
                vcpu.exits.checked_sub(earlier.map_or(0, |e| e.exits)).ok_or_else(|| backwards("exits"))?;
            let kvm_exits = match (vcpu.kvm_exits, earlier.map_or(Some(0), |e| e.kvm_exits)) {
                (Some(now), Some(then)) => Some(now.checked_sub(then).ok_or_else(|| backwards("kvm_exits"))?),
                _ => None,
            };
            let then = earlier.and_then(|e| e.time).unwrap_or_default();
            let time = vcpu.time.map(|now| now.since(&then));
            vcpus.push(VcpuSpan { vm: vcpu.vm, vcpu: vcpu.vcpu, exits, kvm_exits, time });
            for reason in &vcpu.reasons {
                let then = earlier.and_then(|e| {
                    e.reasons.iter().find(|r| (r.level, r.code) == (reason.level, reason.code))
                });
                let counters = match then {
                    Some(then) => reason.counters.since(&then.counters),
                    None => Some(reason.counters.clone()),
                };
                let counters = counters.ok_or_else(|| {
                    backwards(&format!("{} {:#x}", reason.code.isa.name(), reason.code.code))
                })?;
                // An exit of an interval before may have entered again, or gone out to user space, in this one.
                if !counters.is_empty() {
                    rows.push(Row {
                        vm: vcpu.vm,
                        vcpu: vcpu.vcpu,
                        level: reason.level,
                        code: reason.code,
                        counters,
                    });
                }
            }
        }
        vcpus.sort_by_key(|span| (span.vm, span.vcpu));
        rows.sort_by_key(Row::key);
        let mut workers = Vec::with_capacity(now.workers.len());
        for WorkerSpan { vm, times } in &now.workers {
            let then = last.workers.binary_search_by_key(vm, |then| then.vm);
            let then = then.map_or_else(|_| WorkerTimes::default(), |at| last.workers[at].times);
            let times = times.since(&then).ok_or_else(|| WentBackwards {
                what: format!("the workers' time of process {}", pid_of(now, *vm)),
            })?;
            workers.push(WorkerSpan { vm: *vm, times });
        }
        workers.sort_by_key(|span| span.vm);
        let loss = now.loss.since(&last.loss).ok_or(WentBackwards { what: "loss".into() })?;
        Ok(Interval {
            start: last.wall,
            end: now.wall,
            length: Duration::from_nanos(now.monotonic_ns.saturating_sub(last.monotonic_ns)),
            source: now.source,
            measured: now.measured,
            vms: now.vms.iter().map(|vm| (vm.id, vm.clone())).collect(),
            vcpus,
            workers,
            rows,
            loss,
        })
    }

    /// Makes this interval reach to the end of the next one.
    pub fn extend(&mut self, next: &Interval) {
        self.end = next.end;
        self.length += next.length;
        self.loss.add(&next.loss);
        self.vms.extend(next.vms.iter().map(|(&id, vm)| (id, vm.clone())));

        // In place, since most of what comes is there already: an interval may be long, and have many of these.
        let known = self.vcpus.len();
        for span in &next.vcpus {
            let key = (span.vm, span.vcpu);
            match self.vcpus[..known].binary_search_by_key(&key, |mine| (mine.vm, mine.vcpu)) {
                Ok(at) => self.vcpus[at].add(span),
                Err(_) => self.vcpus.push(*span),
            }
        }
        if self.vcpus.len() > known {
            self.vcpus.sort_by_key(|span| (span.vm, span.vcpu));
        }

        for span in &next.workers {
            match self.workers.binary_search_by_key(&span.vm, |mine| mine.vm) {
                Ok(at) => self.workers[at].times.add(&span.times),
                Err(at) => self.workers.insert(at, *span),
            }
        }

        let known = self.rows.len();
        for row in &next.rows {
            match self.rows[..known].binary_search_by_key(&row.key(), Row::key) {
                Ok(at) => self.rows[at].counters.add(&row.counters),
                Err(_) => self.rows.push(row.clone()),
            }
        }
        if self.rows.len() > known {
            self.rows.sort_by_key(Row::key);
        }
    }

    /// Makes `whole` reach to the end of the next one, or be that if there was none.
    pub fn append(whole: &mut Option<Interval>, next: Interval) {
        match whole {
            Some(whole) => whole.extend(&next),
            None => *whole = Some(next),
        }
    }

    /// Exits of all vCPUs.
    pub fn exits(&self) -> u64 {
        self.vcpus.iter().map(|span| span.exits).sum()
    }

    /// KVM's own count of the exits of all vCPUs; `None` where it is missing for any of them.
    pub fn kvm_exits(&self) -> Option<u64> {
        self.vcpus.iter().map(|span| span.kvm_exits).sum()
    }

    /// Returns true if there was no exit.
    pub fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.exits() == 0
    }

    /// Returns true if it has exits of L2: a guest ran guests of its own, and their exits are told apart.
    pub fn has_l2(&self) -> bool {
        self.rows.iter().any(|row| row.level == Level::L2)
    }

    /// Leaves only the VMs and vCPUs that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&Vm, u32) -> bool) {
        let vms = &self.vms;
        let mut keeps = |vm: &VmId, vcpu: u32| vms.get(vm).is_some_and(|vm| keep(vm, vcpu));
        self.vcpus.retain(|span| keeps(&span.vm, span.vcpu));
        self.rows.retain(|row| keeps(&row.vm, row.vcpu));
        let left: BTreeSet<VmId> = self.vcpus.iter().map(|span| span.vm).collect();
        self.vms.retain(|id, _| left.contains(id));
        self.workers.retain(|span| left.contains(&span.vm));
    }
}

fn pid_of(sample: &Sample, id: VmId) -> u32 {
    sample.vms.iter().find(|vm| vm.id == id).map_or(0, |vm| vm.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Detail, DetailCounters, DetailKind, Details, Histogram, Isa, Nested, ReasonCount, Returns, Split,
        UserReason,
    };
    use proptest::prelude::*;

    /// One exit, of (VM, vCPU, code), that took so long.
    type Exit = (u8, u8, u8, u32);

    /// A collector's sample after `exits`, each of which spent an eighth of its time in each of two places.
    fn sample(exits: &[Exit]) -> Sample {
        let mut vcpus: BTreeMap<(u8, u8), VcpuSample> = BTreeMap::new();
        for &(vm, vcpu, code, ns) in exits {
            let (id, code, ns) =
                (VmId(vm.into()), ExitCode { isa: Isa::Svm, code: code.into() }, u64::from(ns));
            let sample = vcpus.entry((vm, vcpu)).or_insert(VcpuSample {
                vm: id,
                vcpu: vcpu.into(),
                exits: 0,
                kvm_exits: Some(0),
                time: Some(VcpuTime::default()),
                reasons: Vec::new(),
            });
            sample.exits += 1;
            sample.kvm_exits = Some(sample.exits);
            let split = Split {
                user_exits: 1,
                user_ns: ns / 8,
                halted_ns: ns / 8,
                polled_ns: ns / 16,
                waiting_ns: 0,
            };
            let time = VcpuTime {
                guest_ns: 7,
                kernel_ns: split.kernel_ns(ns),
                user_ns: ns / 8,
                halted_ns: ns / 8,
                polled_ns: ns / 16,
                waiting_ns: 0,
            };
            if let Some(sum) = &mut sample.time {
                sum.add(&time);
            }
            let histogram = Histogram::from_bucket(usize::try_from(code.code).unwrap(), [1]);
            let returns = Returns::from([(UserReason(i32::from(vcpu)), 1)]);
            // Each reason is one of either level.
            let level = if ns % 3 == 0 { Level::L2 } else { Level::L1 };
            let nested = match level {
                Level::L1 => Nested::default(),
                Level::L2 => Nested { to_l1: 1, l1_done: 1, l1_exits: ns % 5, l1_ns: ns / 4 },
            };
            let mut details = Details::default();
            let one = DetailCounters { count: 1, time_ns: ns, max_ns: 0 };
            let detail = Detail::new(DetailKind::Port, ns % 4, ns % 8 < 4);
            let place =
                if ns % 4 > 0 { details.counts.entry(detail).or_default() } else { &mut details.other };
            *place = one;
            let extremes = None;
            let one = Counters {
                count: 1,
                time_ns: ns,
                extremes,
                histogram,
                split,
                returns,
                nested,
                details,
                ..Counters::default()
            };
            match sample.reasons.iter_mut().find(|found| (found.level, found.code) == (level, code)) {
                Some(reason) => reason.counters.add(&one),
                None => sample.reasons.push(ReasonCount { level, code, counters: one }),
            }
        }
        let vm = |id: VmId| Vm {
            id,
            pid: 7,
            name: "vm".into(),
            vmm: "qemu".into(),
            command: "".into(),
            labels: Default::default(),
            ended: false,
        };
        let mut vms: Vec<Vm> = vcpus.values().map(|vcpu| vm(vcpu.vm)).collect();
        vms.dedup();
        Sample {
            monotonic_ns: exits.len() as u64,
            wall: SystemTime::UNIX_EPOCH + Duration::from_nanos(exits.len() as u64),
            source: Source::Btf,
            measured: Measured::Breakdown,
            vms,
            vcpus: vcpus.into_values().collect(),
            workers: Vec::new(),
            loss: Loss::default(),
        }
    }

    proptest! {
        #[test]
        fn two_intervals_are_one_longer(
            exits in proptest::collection::vec((0u8..3, 0u8..3, 0u8..4, 0u32..1 << 30), 0..60),
            (first, second) in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let (first, second) = (first.index(exits.len() + 1), second.index(exits.len() + 1));
            let (a, b) = (sample(&exits[..first.min(second)]), sample(&exits[..first.max(second)]));
            let c = sample(&exits);
            let mut both = Interval::between(&a, &b).unwrap();
            both.extend(&Interval::between(&b, &c).unwrap());
            let one = Interval::between(&a, &c).unwrap();
            prop_assert_eq!(one.exits(), (exits.len() - first.min(second)) as u64);
            prop_assert_eq!(&both, &one);
            let host: u64 = one.vcpus.iter().filter_map(|span| span.time).map(|time| time.host_ns()).sum();
            prop_assert_eq!(host, one.rows.iter().map(|row| row.counters.time_ns).sum::<u64>());
            for row in &one.rows {
                let l2 = if row.level == Level::L2 { row.counters.count } else { 0 };
                prop_assert_eq!(row.counters.nested.to_l1, l2, "levels are kept apart");
                prop_assert_eq!(row.counters.details.count(), row.counters.histogram.count());
            }
        }
    }

    #[test]
    fn what_a_counted_exit_does_later_has_a_row() {
        let before = sample(&[(0, 0, 1, 800)]);
        let mut after = before.clone();
        after.vcpus[0].reasons[0].counters.returns.insert(UserReason(6), 2);
        let interval = Interval::between(&before, &after).unwrap();
        assert_eq!(interval.rows.len(), 1);
        assert_eq!(interval.rows[0].counters.returns, Returns::from([(UserReason(6), 2)]));
        assert_eq!(Interval::between(&before, &before).unwrap().rows, []);
    }

    #[test]
    fn a_counter_that_shrinks_is_named() {
        let (less, more) = (sample(&[(0, 1, 1, 800)]), sample(&[(0, 1, 1, 800), (0, 1, 1, 9)]));
        let text = Interval::between(&more, &less).unwrap_err().to_string();
        assert!(text.contains("exits of vCPU 1 of process 7"), "{text}");
        let mut less = more.clone();
        less.vcpus[0].reasons[0].counters.details = Details::default();
        assert!(Interval::between(&more, &less).is_err());
        let mut less = more.clone();
        less.vcpus[0].reasons[0].counters.returns.clear();
        let text = Interval::between(&more, &less).unwrap_err().to_string();
        assert!(text.contains("svm 0x1 of vCPU 1 of process 7"), "{text}");
    }
}
