//! Each rule on an interval that fires it, and on one like it that does not.

use super::{Advice, Host, advise, rules};
use exitscope_model::{
    Attributes, Counters, Detail, DetailCounters, DetailKind, Histogram, Interval, Isa, Level, Loss,
    Measured, Memory, Returns, Row, Source, Split, UserReason, VcpuSpan, VcpuTime, Vm, VmId, WorkerSpan,
    WorkerTimes,
};
use exitscope_reason as reason;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

const MS: u64 = 1_000_000;
/// Flags of details of kind `gpa`.
const MEMORY: u32 = 1 << 16;
const DIRTY_LOGGED: u32 = 1 << 18;
const FETCH: u32 = MEMORY | 1 << 19;
const SECOND: u64 = 1_000 * MS;

/// Ten seconds of one VM, put together row by row.
struct Case {
    isa: Isa,
    interval: Interval,
    host: Host,
}

/// Row of a [`Case`], for one vCPU.
struct Exits<'a> {
    reason: &'a str,
    count: u64,
    /// Host time of each (ns), and how much of it went where.
    each_ns: u64,
    split: Split,
    details: Vec<(Detail, u64)>,
    returns: Vec<(i32, u64)>,
    vcpu: u32,
    level: Level,
}

fn exits(reason: &str, count: u64) -> Exits<'_> {
    let (split, details, returns) = Default::default();
    Exits { reason, count, each_ns: 2_000, split, details, returns, vcpu: 0, level: Level::L1 }
}

impl<'a> Exits<'a> {
    fn port(mut self, port: u16, write: bool, count: u64) -> Exits<'a> {
        self.details.push((Detail::new(DetailKind::Port, port.into(), write), count));
        self
    }

    fn msr(mut self, msr: u32, write: bool, count: u64) -> Exits<'a> {
        self.details.push((Detail::new(DetailKind::Msr, msr.into(), write), count));
        self
    }

    fn gpa(mut self, gpa: u64, attributes: u32, count: u64) -> Exits<'a> {
        let detail = Detail { kind: DetailKind::Gpa, key: gpa, attributes: Attributes(attributes) };
        self.details.push((detail, count));
        self
    }

    fn each(mut self, ns: u64) -> Exits<'a> {
        self.each_ns = ns;
        self
    }

    fn halted(mut self, each_ns: u64, polled_ns: u64) -> Exits<'a> {
        self.split.halted_ns = each_ns * self.count;
        self.split.polled_ns = polled_ns * self.count;
        self.each_ns += each_ns;
        self
    }

    /// All of these go out to user space and return with this, and take most of their time there.
    fn out(mut self, returned: i32) -> Exits<'a> {
        self.each_ns = 20_000;
        self.split.user_exits = self.count;
        self.split.user_ns = 15_000 * self.count;
        self.returns.push((returned, self.count));
        self
    }

    fn on(mut self, vcpu: u32) -> Exits<'a> {
        self.vcpu = vcpu;
        self
    }
}

impl Case {
    fn new(isa: Isa, vmm: &str, command: &str) -> Case {
        let vm = Vm {
            id: VmId(1),
            pid: 4242,
            name: "guest".into(),
            vmm: vmm.into(),
            command: command.into(),
            labels: Default::default(),
            ended: false,
        };
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let length = Duration::from_secs(10);
        let interval = Interval {
            start,
            end: start + length,
            length,
            source: Source::Btf,
            measured: Measured::Breakdown,
            vms: [(vm.id, vm)].into(),
            vcpus: Vec::new(),
            rows: Vec::new(),
            workers: Vec::new(),
            loss: Loss::default(),
        };
        Case { isa, interval, host: Host::default() }.vcpu(0)
    }

    fn svm(command: &str) -> Case {
        Case::new(Isa::Svm, "qemu", command)
    }

    fn vmx(command: &str) -> Case {
        Case::new(Isa::Vmx, "qemu", command)
    }

    /// Adds a vCPU that runs its guest for all ten seconds.
    fn vcpu(mut self, vcpu: u32) -> Case {
        let time = Some(VcpuTime { guest_ns: 10 * SECOND, ..VcpuTime::default() });
        self.interval.vcpus.push(VcpuSpan { vm: VmId(1), vcpu, exits: 0, kvm_exits: None, time });
        self
    }

    fn with(mut self, exits: Exits<'_>) -> Case {
        let code = reason::find(Some(self.isa), exits.reason).first().expect(exits.reason).code;
        let Exits { count, split, .. } = exits;
        let mut counters = Counters { time_ns: exits.each_ns * count, split, ..Counters::default() };
        counters.histogram = Histogram::from_bucket(exits.each_ns.ilog2() as usize, [count]);
        counters.count = count;
        counters.returns =
            exits.returns.iter().map(|&(code, count)| (UserReason(code), count)).collect::<Returns>();
        let of = |count| DetailCounters { count, time_ns: 2_000 * count, max_ns: 3_000 };
        let details = exits.details.into_iter().map(|(detail, count)| (detail, of(count)));
        counters.details.counts = details.collect::<BTreeMap<_, _>>();
        self.interval.rows.push(Row { vm: VmId(1), vcpu: exits.vcpu, level: exits.level, code, counters });
        let span =
            self.interval.vcpus.iter_mut().find(|span| span.vcpu == exits.vcpu).expect("the vCPU is there");
        span.exits += count;
        if let Some(time) = &mut span.time {
            let host = exits.each_ns * count;
            time.guest_ns = time.guest_ns.saturating_sub(host);
            time.kernel_ns += split.kernel_ns(host);
            time.user_ns += split.user_ns;
            time.halted_ns += split.halted_ns;
            time.polled_ns += split.polled_ns;
            time.waiting_ns += split.waiting_ns;
        }
        self
    }

    /// Has vCPU 0 wait for a CPU for so long, in the guest.
    fn waits(mut self, ns: u64) -> Case {
        if let Some(time) = &mut self.interval.vcpus[0].time {
            time.waiting_ns += ns;
            time.guest_ns = time.guest_ns.saturating_sub(ns);
        }
        self
    }

    /// Has threads beside the vCPUs for so long.
    fn beside(mut self, main_cpu_ns: u64, vhost_cpu_ns: u64) -> Case {
        let times = WorkerTimes { span_ns: 10 * SECOND, main_cpu_ns, vhost_cpu_ns, ..WorkerTimes::default() };
        self.interval.workers = vec![WorkerSpan { vm: VmId(1), times }];
        self
    }

    fn parameter(mut self, module: &str, name: &str, value: &str) -> Case {
        self.host.parameters.insert((module.into(), name.into()), value.into());
        self
    }

    fn fact(mut self, name: &str, value: &str) -> Case {
        self.host.facts.insert(name.into(), value.into());
        self
    }

    /// Has the VMM hold so much memory, in MiB.
    fn memory(mut self, peak: u64, held: u64, swapped: u64) -> Case {
        let memory = Memory { held: held << 20, peak: peak << 20, swapped: swapped << 20 };
        self.host.memory.insert(4242, memory);
        self
    }

    fn advice(&self) -> Vec<Advice> {
        advise(&self.interval, &self.host)
    }

    fn fires(&self, rule: &str) -> bool {
        self.advice().iter().any(|advice| advice.rule == rule)
    }
}

/// Every rule with a case that fires it and one that does not, though it looks alike.
fn cases() -> Vec<(&'static str, Case, Case)> {
    let com1 = |count| exits("IOIO", count).port(0x3f8, true, count);
    let hda = "qemu -hda disk.img";
    let windows = |cpu: &str| {
        Case::vmx(&format!("qemu -cpu {cpu}"))
            .with(exits("IO_INSTRUCTION", 40_000).port(0x608, false, 30_000).port(0x71, false, 9_000).out(2))
            .with(exits("HLT", 20_000).halted(200_000, 0))
    };
    let all_hv = "host,hv-relaxed,hv-vapic,hv_time=on,hv-stimer,hv-synic,hv-vpindex";
    let npf_out = |count| exits("NPF", count).out(6);
    let balloon = |row: Exits<'_>| Case::svm("qemu -m 4096 -device virtio-balloon-pci,id=b0").with(row);
    vec![
        (
            "halts-that-return-at-once",
            Case::svm("").with(exits("HLT", 997_000).each(800).halted(1_000, 900)).with(exits("MSR", 3_000)),
            Case::svm("").with(exits("HLT", 20_000).halted(400_000, 0)).with(exits("MSR", 3_000)),
        ),
        (
            "halt-polling",
            Case::svm("").with(exits("HLT", 9_000).halted(1_000_000, 400_000)).parameter(
                "kvm",
                "halt_poll_ns",
                "200000",
            ),
            Case::svm("").with(exits("HLT", 9_000).halted(1_000_000, 10_000)),
        ),
        (
            "serial-console",
            Case::svm("").with(com1(50_000)).with(exits("NPF", 9_000)),
            Case::svm("").with(com1(5_000)).with(exits("NPF", 90_000)),
        ),
        (
            "ide-disk",
            Case::svm(hda).with(exits("IOIO", 9_000).port(0x1f0, false, 5_000).port(0x1f7, false, 3_000)),
            Case::svm(hda).with(exits("IOIO", 9_000).port(0x1f7, false, 300).port(0xcfc, false, 900)),
        ),
        (
            "pci-configuration",
            Case::svm("").with(exits("IOIO", 9_000).port(0xcf8, true, 4_000).port(0xcfc, false, 4_000)),
            Case::svm("").with(exits("IOIO", 9_000).port(0xcf9, true, 4_000)),
        ),
        (
            "firmware-configuration",
            Case::svm("").with(exits("IOIO", 90_000).port(0x511, false, 80_000)),
            Case::svm("").with(exits("IOIO", 90_000).port(0x514, true, 80_000)),
        ),
        (
            "kicks-in-user-space",
            Case::svm("qemu -device virtio-net-pci,ioeventfd=off")
                .with(npf_out(40_000))
                .with(exits("MSR", 40_000)),
            Case::svm("").with(exits("NPF", 40_000)).with(exits("MSR", 40_000)),
        ),
        (
            "user-space",
            Case::svm("").with(exits("IOIO", 40_000).port(0x1234, true, 40_000).out(2)),
            Case::svm("").with(exits("IOIO", 40_000).port(0x1234, true, 40_000)),
        ),
        ("missing-enlightenments", windows("host"), windows(all_hv)),
        (
            "pm-timer",
            Case::svm("").with(exits("IOIO", 40_000).port(0xb008, false, 30_000)),
            Case::svm("").with(exits("IOIO", 40_000).port(0xb000, false, 30_000)),
        ),
        (
            "hpet",
            Case::svm("").with(exits("NPF", 9_000).gpa(0xfed0_00f0, 0, 5_000).out(6)),
            Case::svm("").with(exits("NPF", 9_000).gpa(0xfed0_0400, 0, 5_000).out(6)),
        ),
        (
            "rtc",
            Case::svm("").with(exits("IOIO", 4_000).port(0x70, true, 2_000).port(0x71, false, 2_000)),
            Case::svm("").with(exits("IOIO", 40_000).port(0x70, true, 200).port(0x71, false, 200)),
        ),
        (
            "host-clock",
            Case::svm("").with(exits("IOIO", 4_000).port(0x608, false, 4_000)).fact("clocksource", "hpet"),
            Case::svm("").with(exits("IOIO", 4_000).port(0x608, false, 4_000)).fact("clocksource", "tsc"),
        ),
        (
            "ticks-of-an-idle-guest",
            Case::vmx("")
                .with(exits("MSR_WRITE", 4_000).msr(0x6e0, true, 4_000))
                .with(exits("HLT", 2_000).halted(4_900_000, 0)),
            Case::vmx("")
                .with(exits("MSR_WRITE", 4_000).msr(0x6e0, true, 4_000))
                .with(exits("HLT", 2_000).halted(900_000, 0)),
        ),
        (
            "timer-writes",
            Case::vmx("")
                .with(exits("MSR_WRITE", 40_000).msr(0x6e0, true, 40_000))
                .with(exits("CPUID", 40_000)),
            Case::vmx("")
                .with(exits("MSR_WRITE", 4_000).msr(0x6e0, true, 4_000))
                .with(exits("CPUID", 40_000)),
        ),
        (
            "apic-virtualization-off",
            Case::svm("")
                .with(exits("MSR", 40_000).msr(0x80b, true, 40_000))
                .parameter("kvm_amd", "avic", "N")
                .fact("avic", "yes"),
            Case::svm("")
                .with(exits("MSR", 40_000).msr(0x80b, true, 40_000))
                .parameter("kvm_amd", "avic", "N")
                .fact("avic", "no"),
        ),
        (
            "icr-storm",
            Case::vmx("").with(exits("MSR_WRITE", 40_000).msr(0x830, true, 40_000)),
            Case::vmx("").with(exits("MSR_WRITE", 40_000).msr(0x808, true, 40_000)),
        ),
        (
            "eoi-storm",
            Case::vmx("").with(exits("MSR_WRITE", 40_000).msr(0x80b, true, 40_000)),
            Case::vmx("").with(exits("MSR_WRITE", 40_000).msr(0x80b, true, 4_000)),
        ),
        (
            "shadow-paging",
            Case::vmx("").with(exits("CR_ACCESS", 90_000)).with(exits("EXCEPTION_NMI", 40_000)).parameter(
                "kvm_intel",
                "ept",
                "N",
            ),
            Case::vmx("").with(exits("CR_ACCESS", 90_000)).with(exits("EPT_VIOLATION", 40_000)).parameter(
                "kvm_intel",
                "ept",
                "Y",
            ),
        ),
        (
            "dirty-logging",
            Case::vmx("").with(exits("EPT_VIOLATION", 90_000)).with(exits("PML_FULL", 900)),
            Case::vmx("").with(exits("EPT_VIOLATION", 90_000)),
        ),
        (
            "dirty-logging",
            Case::svm("").with(exits("NPF", 90_000).gpa(0x20_0000, 5 << 16, 80_000)),
            Case::svm("").with(exits("NPF", 90_000).gpa(0x20_0000, 1 << 16, 80_000)),
        ),
        (
            "split-huge-pages",
            Case::vmx("").with(exits("EPT_VIOLATION", 90_000)).parameter("kvm", "nx_huge_pages", "Y"),
            Case::vmx("").with(exits("EPT_VIOLATION", 90_000)).parameter("kvm", "nx_huge_pages", "N"),
        ),
        (
            // Told by what the guest does there: it executes, or it does not.
            "split-huge-pages",
            Case::vmx("").with(exits("EPT_VIOLATION", 90_000).gpa(0x20_0000, FETCH, 80_000)).parameter(
                "kvm",
                "nx_huge_pages",
                "Y",
            ),
            Case::vmx("").with(exits("EPT_VIOLATION", 90_000).gpa(0x20_0000, MEMORY | 1, 80_000)).parameter(
                "kvm",
                "nx_huge_pages",
                "Y",
            ),
        ),
        (
            // What the VMM held before.
            "ballooning",
            balloon(exits("NPF", 90_000)).memory(4096, 3072, 0),
            balloon(exits("NPF", 90_000)).memory(4096, 3072, 1024),
        ),
        (
            // As many faults of one region as no first touch makes, and as many of many regions.
            "ballooning",
            balloon(exits("NPF", 90_000).gpa(0x20_0000, MEMORY | 1, 80_000)),
            balloon((0..160).fold(exits("NPF", 90_000), |row, at| row.gpa(at << 21, MEMORY | 1, 512))),
        ),
        (
            // Without a balloon nobody gives memory back.
            "ballooning",
            balloon(exits("NPF", 90_000).gpa(0x20_0000, MEMORY | 1, 80_000)),
            Case::svm("qemu -device virtio-net-pci")
                .with(exits("NPF", 90_000).gpa(0x20_0000, MEMORY | 1, 80_000))
                .memory(4096, 3072, 0),
        ),
        (
            // A migration's write faults are on pages that the VMM holds.
            "dirty-logging",
            balloon(exits("NPF", 90_000).gpa(0x20_0000, MEMORY | DIRTY_LOGGED | 1, 80_000))
                .memory(4096, 4096, 0),
            balloon(exits("NPF", 90_000).gpa(0x20_0000, MEMORY | 1, 80_000)).memory(4096, 4096, 0),
        ),
        (
            "page-faults",
            Case::svm("qemu -device virtio-balloon-pci").with(exits("NPF", 90_000)),
            Case::svm("").with(npf_out(90_000)),
        ),
        (
            "nested-off",
            Case::vmx("qemu -cpu Skylake-Server,vmx=on").with(exits("CPUID", 9_000)).parameter(
                "kvm_intel",
                "nested",
                "0",
            ),
            Case::vmx("qemu -cpu Skylake-Server,vmx=off").with(exits("CPUID", 9_000)).parameter(
                "kvm_intel",
                "nested",
                "N",
            ),
        ),
        (
            "nested-off",
            Case::svm("qemu -cpu EPYC,+svm").with(exits("CPUID", 9_000)).parameter("kvm_amd", "nested", "0"),
            Case::svm("qemu -cpu EPYC,+svm").with(exits("CPUID", 9_000)).parameter("kvm_amd", "nested", "1"),
        ),
        (
            "vmcs-accesses",
            Case::vmx("").with(exits("VMREAD", 2_000_000)).with(exits("VMRESUME", 90_000)),
            Case::vmx("").with(exits("VMREAD", 2_000)).with(exits("VMRESUME", 90_000)),
        ),
        (
            "pause-and-overcommit",
            Case::svm("").with(exits("PAUSE", 90_000)).waits(2 * SECOND),
            Case::svm("").with(exits("PAUSE", 90_000)),
        ),
        (
            "pause",
            Case::svm("").with(exits("PAUSE", 90_000)),
            Case::svm("").with(exits("PAUSE", 90_000)).waits(2 * SECOND),
        ),
        (
            "waiting-for-a-cpu",
            Case::svm("").with(exits("CPUID", 9_000)).waits(3 * SECOND),
            Case::svm("").with(exits("CPUID", 9_000)).waits(SECOND),
        ),
        (
            "one-busy-vcpu",
            Case::svm("").vcpu(1).vcpu(2).vcpu(3).with(exits("CPUID", 9_000).on(2)).with(exits("CPUID", 500)),
            Case::svm("")
                .vcpu(1)
                .vcpu(2)
                .vcpu(3)
                .with(exits("CPUID", 9_000).on(2))
                .with(exits("CPUID", 5_000)),
        ),
        (
            "flush-at-each-entry",
            Case::vmx("").with(exits("CPUID", 200_000)).parameter("kvm_intel", "vmentry_l1d_flush", "always"),
            Case::vmx("").with(exits("CPUID", 200_000)).parameter("kvm_intel", "vmentry_l1d_flush", "cond"),
        ),
        (
            "busy-vmm",
            Case::svm("").with(exits("HLT", 2_000).halted(4_900_000, 0)).beside(9 * SECOND, 0),
            Case::svm("").with(exits("CPUID", 2_000)).beside(9 * SECOND, 0),
        ),
        (
            "busy-vhost-worker",
            Case::svm("").with(exits("NPF", 2_000)).beside(0, 9 * SECOND),
            Case::svm("").with(exits("NPF", 2_000)).beside(9 * SECOND, SECOND),
        ),
    ]
}

#[test]
fn each_rule_speaks_where_it_should_and_is_silent_where_it_should_not() {
    let cases = cases();
    for (name, fires, silent) in &cases {
        let said = fires.advice();
        assert!(fires.fires(name), "{name} is silent: {said:#?}");
        assert!(!silent.fires(name), "{name} speaks: {:#?}", silent.advice());
        for advice in said {
            let finding = &advice.finding;
            for sentence in [&finding.seen, &finding.helps] {
                assert!(
                    sentence.ends_with(['.', ')']) && !sentence.contains("nothing to tune"),
                    "{name}: {sentence}"
                );
            }
            assert!((0.0..=1.0).contains(&advice.share) && !advice.source.is_empty(), "{advice:?}");
            assert!(finding.about.exits <= 3_000_000, "{advice:?}");
        }
    }
    let mut missing: Vec<&str> = rules().map(|rule| rule.name).collect();
    missing.retain(|name| !cases.iter().any(|(case, ..)| case == name));
    assert!(missing.is_empty(), "rules without a case: {missing:?}");
}

#[test]
fn names_are_unique_and_what_a_rule_replaces_exists() {
    let names: Vec<&str> = rules().map(|rule| rule.name).collect();
    for (at, name) in names.iter().enumerate() {
        assert!(!names[..at].contains(name), "{name} stands twice");
    }
    for rule in rules() {
        assert!(
            rule.replaces.iter().all(|other| names.contains(other)),
            "{}: {:?}",
            rule.name,
            rule.replaces
        );
        assert!(!rule.replaces.contains(&rule.name), "{} replaces itself", rule.name);
    }
}

#[test]
fn too_few_exits_and_classes_of_statistics_are_no_evidence() {
    let mut few = Case::svm("").with(exits("IOIO", 900).port(0x3f8, true, 900));
    assert!(few.advice().is_empty());
    few = Case::svm("").with(exits("IOIO", 90_000).port(0x3f8, true, 90_000));
    few.interval.source = Source::KvmStat;
    assert!(few.advice().is_empty());
}

#[test]
fn of_several_causes_of_faults_the_one_that_is_known_is_named() {
    let said = |case: &Case| case.advice().iter().map(|advice| advice.rule).collect::<Vec<_>>();
    let row = || exits("NPF", 90_000).gpa(0x20_0000, MEMORY | 1, 80_000);
    let (with, without) = ("qemu -device virtio-balloon-pci", "qemu");
    assert_eq!(said(&Case::svm(with).with(row()).memory(4096, 2048, 0)), ["ballooning"]);
    assert_eq!(said(&Case::svm(without).with(row())), ["page-faults"]);
    let again = Case::svm(without).with(row()).advice().remove(0).finding;
    assert!(again.seen.contains("mapped before") && again.helps.contains("mem-merge=off"), "{again:?}");
    let swapped =
        Case::svm(without).with(exits("NPF", 90_000)).memory(4096, 3072, 1024).advice().remove(0).finding;
    assert!(swapped.seen.contains("1.07 GB of the VMM are swapped out"), "{swapped:?}");
    let first = Case::svm(without).with(exits("NPF", 90_000)).advice().remove(0).finding;
    assert!(first.seen.contains("a first touch") && first.helps.contains("prealloc=on"), "{first:?}");
    // The option that gives memory back by itself is named.
    let reporting = "qemu -device virtio-balloon-pci,free-page-reporting=on";
    let finding = Case::svm(reporting).with(row()).advice().remove(0).finding;
    assert!(finding.helps.starts_with("Take `free-page-reporting=on` off"), "{finding:?}");
}

#[test]
fn what_the_host_is_set_to_is_named_with_the_option_that_changes_it() {
    let finding = |rule: &str, case: &Case| {
        let found = case.advice().into_iter().find(|advice| advice.rule == rule);
        let found = found.unwrap_or_else(|| panic!("{rule} is silent: {:?}", case.advice())).finding;
        (found.seen, found.helps)
    };
    let apic =
        || Case::vmx("").with(exits("MSR_WRITE", 40_000).msr(0x80b, true, 40_000)).fact("apicv", "yes");
    let off = apic().parameter("kvm_intel", "enable_apicv", "N");
    assert!(finding("apic-virtualization-off", &off).1.contains("`kvm_intel enable_apicv=1`"));
    assert!(!apic().parameter("kvm_intel", "enable_apicv", "Y").fires("apic-virtualization-off"));
    let pause =
        Case::vmx("").with(exits("PAUSE_INSTRUCTION", 90_000)).parameter("kvm_intel", "ple_window", "4096");
    assert!(finding("pause", &pause).1.contains("`kvm_intel ple_gap=0` (`ple_window` is 4096)"));
    let always =
        || Case::vmx("").with(exits("CPUID", 200_000)).parameter("kvm_intel", "vmentry_l1d_flush", "always");
    let booted = always().fact("mitigations", "auto,nosmt");
    assert!(finding("flush-at-each-entry", &booted).0.contains("booted with `mitigations=auto,nosmt`"));
    assert!(!finding("flush-at-each-entry", &always()).0.contains("mitigations="));
    let shadow = |value| Case::svm("").with(exits("CR0_WRITE", 90_000)).parameter("kvm_amd", "npt", value);
    assert!(finding("shadow-paging", &shadow("N")).1.contains("npt=1"));
    assert!(!shadow("Y").fires("shadow-paging"));
}

#[test]
fn what_would_save_most_comes_first() {
    let case = Case::svm("qemu -hda disk.img")
        .with(exits("IOIO", 90_000).port(0x3f8, true, 60_000).port(0x1f7, false, 30_000).out(2))
        .with(exits("NPF", 90_000).each(900));
    let rules: Vec<&str> = case.advice().iter().map(|advice| advice.rule).collect();
    assert_eq!(rules, ["serial-console", "ide-disk", "page-faults"]);
}

#[test]
fn details_of_more_exits_than_there_are_make_no_share_above_one() {
    let lies =
        Case::svm("").with(exits("IOIO", 9_000).port(0x3f8, true, 5_000_000)).with(exits("NPF", 1_000));
    let advice = lies.advice();
    assert_eq!((advice[0].rule, advice[0].finding.about.exits), ("serial-console", 9_000));
    assert!(advice.iter().all(|advice| advice.share <= 1.0), "{advice:#?}");
}

/// Public reports, as cases: what somebody would have liked to be told.
#[test]
fn public_reports_get_the_advice_that_solved_them() {
    // A Windows guest that idles at 100 % of a core: it reads the ACPI timer and the RTC.
    let windows = Case::vmx("qemu -cpu host -rtc base=localtime")
        .with(exits("IO_INSTRUCTION", 300_000).port(0x608, false, 250_000).port(0x71, false, 40_000).out(2))
        .with(exits("HLT", 20_000).halted(100_000, 20_000));
    let first = windows.advice().remove(0);
    assert_eq!(first.rule, "missing-enlightenments");
    assert!(first.finding.helps.contains("hv-time,hv-stimer"), "{}", first.finding.helps);
    // An idle guest that keeps a core busy: nearly all of its exits are HLTs that return within a microsecond or two.
    let idle = Case::vmx("qemu -cpu host -smp 2")
        .with(exits("HLT", 9_970_000).each(300).halted(500, 450))
        .with(exits("EXTERNAL_INTERRUPT", 30_000));
    let first = idle.advice().remove(0);
    assert_eq!(first.rule, "halts-that-return-at-once");
    assert!(first.finding.seen.starts_with("9,970,000 exits of HLT (99.70% of all), 997,000 a second"));
    for option in ["idle=poll", "cpu-pm=on"] {
        assert!(first.finding.helps.contains(option), "{}", first.finding.helps);
    }
    // The same of a micro VM, whose halts are longer: 40,833 in 3 s, 29.19 us each (Firecracker, issue 3043).
    let mut halts = Case::new(Isa::Svm, "firecracker", "firecracker --api-sock s")
        .with(exits("HLT", 40_833).each(1_000).halted(28_190, 20_000))
        .with(exits("INTR", 76).each(277_330))
        .with(exits("MSR", 49).each(1_550));
    halts.interval.length = Duration::from_secs(3);
    let first = halts.advice().remove(0);
    assert_eq!(first.rule, "halts-that-return-at-once");
    assert!(first.finding.seen.starts_with("40,833 exits of HLT (99.69% of all)"), "{}", first.finding.seen);
    // A Windows guest with synthetic timers and no hv-time reads the ACPI timer all the same (Virtualization-Documentation,
    // issue 1885).
    let timer = Case::vmx("qemu -cpu host,hv-relaxed,hv-vapic,hv-vpindex,hv-synic,hv-stimer,hv-runtime")
        .with(exits("IO_INSTRUCTION", 90_000).port(0x608, false, 80_000).port(0x71, false, 2_000).out(2));
    let first = timer.advice().remove(0);
    assert_eq!(first.rule, "missing-enlightenments");
    assert!(first.finding.helps.contains("`-cpu host,hv-time`"), "{}", first.finding.helps);
    // A hypervisor in a guest, with millions of VMREADs.
    let nested = Case::vmx("qemu -cpu host,hv-time,hv-vapic").with(exits("VMREAD", 4_000_000));
    assert!(nested.advice()[0].finding.helps.contains("hv-evmcs"));
    // A micro VM whose console bytes lead.
    let mut micro = Case::new(Isa::Vmx, "firecracker", "firecracker --api-sock s")
        .with(exits("IO_INSTRUCTION", 12_000).port(0x3f8, true, 11_000).out(2));
    assert!(micro.advice()[0].finding.helps.contains("8250.nr_uarts=0"));
    // The same, where only counts were measured: advice does not need times.
    micro.interval.measured = Measured::Counts;
    micro.interval.vcpus[0].time = None;
    assert_eq!(micro.advice()[0].rule, "serial-console");
}

#[test]
fn the_documentation_lists_every_rule_and_no_other() {
    let documentation = include_str!("../../../../docs/advice.md");
    let listed: Vec<&str> = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(listed, rules().map(|rule| rule.name).collect::<Vec<_>>());
}
