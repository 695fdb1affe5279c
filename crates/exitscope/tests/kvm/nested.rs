//! A guest that runs guests of its own, counted by us and written down by the kernel at its own tracepoints.

use super::tool::{Background, Report, Scratch, all, exitscope, guest_program, succeed, wait_for};
use super::trace::{Event, Log};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Exits, and what L2's cost: how many went to L1, how many L1 handled, and its exits for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    count: u64,
    to_l1: u64,
    l1_done: u64,
    l1_exits: u64,
}

/// Costs by vCPU, level and reason.
type Costs = BTreeMap<(u64, u64, String), Cost>;

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

/// Returns what a report says of one process.
fn costs(report: &Report, pid: u64) -> Costs {
    let rows = report.0["rows"].as_array().unwrap().iter().filter(|row| row["pid"] == pid);
    rows.map(|row| {
        let key = (number(row, "vcpu"), number(row, "level"), row["reason"].as_str().unwrap().to_owned());
        let figure = |key| if row["level"] == 1 { row[key].as_u64().unwrap_or(0) } else { number(row, key) };
        for key in ["to_l1", "l1_done", "l1_exits", "l1_ns"] {
            assert!(row[key].is_null() || row["level"] == 2, "L1 has {key}: {row}");
        }
        let (to_l1, l1_done, l1_exits) = (figure("to_l1"), figure("l1_done"), figure("l1_exits"));
        (key, Cost { count: number(row, "count"), to_l1, l1_done, l1_exits })
    })
    .collect()
}

/// Adds what another report says.
fn add(sums: &mut Costs, report: &Report, pid: u64) {
    for (key, cost) in costs(report, pid) {
        let sum = sums.entry(key).or_default();
        sum.count += cost.count;
        sum.to_l1 += cost.to_l1;
        sum.l1_done += cost.l1_done;
        sum.l1_exits += cost.l1_exits;
    }
}

/// A vCPU, as its events told of it last.
#[derive(Default)]
struct Thread {
    /// The exit that is being handled: its level and reason.
    exit: Option<(u64, String)>,
    /// KVM has handed it to L1.
    injected: bool,
    /// L1 has entered an L2.
    entered: bool,
    /// Reason of the exit that L1 handles, and the exits of L1 since.
    handling: Option<(String, u64)>,
}

/// The reason as the processor's manual calls it; KVM's tracepoints have words of their own for some
/// (arch/x86/include/uapi/asm/svm.h).
fn manual(name: &str) -> String {
    match name {
        "interrupt" => "INTR".into(),
        "io" => "IOIO".into(),
        "hypercall" => "VMMCALL".into(),
        other => other.to_uppercase(),
    }
}

/// Returns the exits by the kernel's own events, of the VM whose vCPUs have run an L2.
fn witnessed(events: &[Event]) -> Costs {
    let nested: BTreeSet<u32> =
        events.iter().filter(|event| event.name == "kvm_nested_vmexit").map(|event| event.thread).collect();
    let mut threads: BTreeMap<u32, Thread> = BTreeMap::new();
    let mut costs = Costs::new();
    for event in events.iter().filter(|event| nested.contains(&event.thread)) {
        let vcpu: u64 = event.comm.trim_start_matches("vcpu ").parse().unwrap();
        let thread = threads.entry(event.thread).or_default();
        match event.name.as_str() {
            "kvm_exit" => {
                let reason = manual(&event.reason());
                *thread =
                    Thread { exit: Some((1, reason)), handling: thread.handling.take(), ..Thread::default() };
            }
            "kvm_nested_vmexit" => thread.exit.as_mut().unwrap().0 = 2,
            "kvm_nested_vmexit_inject" => thread.injected = true,
            "kvm_nested_vmenter" => thread.entered = true,
            "kvm_entry" => {
                let Some((level, reason)) = thread.exit.take() else { continue };
                let row = costs.entry((vcpu, level, reason.clone())).or_default();
                row.count += 1;
                if level == 2 && thread.injected {
                    row.to_l1 += 1;
                    thread.handling = Some((reason, 0));
                } else if let Some((_, exits)) = thread.handling.as_mut().filter(|_| level == 1) {
                    *exits += 1;
                }
                if let Some((reason, exits)) = thread.handling.take_if(|_| thread.entered) {
                    let row = costs.get_mut(&(vcpu, 2, reason)).unwrap();
                    row.l1_done += 1;
                    row.l1_exits += exits;
                }
            }
            other => panic!("an event that was not asked for: {other}"),
        }
    }
    // The HLT at the end sees no entry.
    for event in events.iter().filter(|event| event.name == "kvm_exit") {
        if let Some((level, reason)) = threads.get_mut(&event.thread).and_then(|thread| thread.exit.take()) {
            let vcpu: u64 = event.comm.trim_start_matches("vcpu ").parse().unwrap();
            costs.entry((vcpu, level, reason)).or_default().count += 1;
        }
    }
    costs
}

/// Asserts the exits that the guest says it made, whatever the host adds.
fn assert_planned(costs: &Costs, done: &Value) {
    for vcpu in done.as_array().unwrap() {
        let of = |level, reason: &str| {
            costs.get(&(number(vcpu, "vcpu"), level, reason.to_owned())).copied().unwrap_or_default()
        };
        let (cpuid, vmmcall) = (number(vcpu, "l2_cpuid"), number(vcpu, "l2_vmmcall"));
        let own = number(vcpu, "l1_exits");
        let l2 = of(2, "CPUID");
        assert_eq!(
            Cost { l1_exits: own, ..l2 },
            Cost { count: cpuid, to_l1: cpuid, l1_done: cpuid, l1_exits: own }
        );
        assert_eq!(of(2, "IOIO"), Cost { count: number(vcpu, "l2_port"), ..Cost::default() });
        assert_eq!(of(2, "VMMCALL"), Cost { count: vmmcall, to_l1: vmmcall, ..Cost::default() });
        for (reason, key) in [
            ("VMRUN", "l1_vmrun"),
            ("CPUID", "l1_cpuid"),
            ("IOIO", "l1_port"),
            ("MSR", "l1_msr"),
            ("HLT", "l1_hlt"),
        ] {
            assert_eq!(
                of(1, reason),
                Cost { count: number(vcpu, key), ..Cost::default() },
                "{reason}: {vcpu}"
            );
        }
        // What the host adds, interrupts and page faults, may come while L1 handles an exit or at another time.
        let known = ["VMRUN", "CPUID", "IOIO", "MSR", "HLT"];
        let more: u64 = costs
            .iter()
            .filter(|((of, level, reason), _)| {
                (*of, *level) == (number(vcpu, "vcpu"), 1) && !known.contains(&reason.as_str())
            })
            .map(|(_, cost)| cost.count)
            .sum();
        assert!((own..=own + more).contains(&l2.l1_exits), "{own}, {more} more: {l2:?}");
    }
}

/// Returns true if the guest, which needs SVM, can run here. On VMX it must refuse, with the cause.
pub fn has_svm() -> bool {
    let vmx = std::path::Path::new("/sys/module/kvm_intel").exists();
    if vmx {
        let output = Command::new(guest_program()).args(["nested", "1", "1", "1"]).output().unwrap();
        let text = all(&output);
        assert!(!output.status.success() && text.contains("KVM uses VMX here; run this on AMD"), "{text}");
        println!("VMX: refused as it must be, and nothing more to test");
    }
    !vmx
}

/// Nested and plain VM side by side, each with its own guest program; returns what they print.
fn both(options: &[&str], file: &Scratch) -> (Value, String) {
    let guest = guest_program();
    let script = format!(
        "{0} nested 2 300 100 & nested=$!; {0} only cpuid 400; wait $nested; echo pid $nested",
        guest.display()
    );
    let mut command = exitscope();
    command
        .args(["stat", "--format", "json", "-o"])
        .arg(file)
        .args(options)
        .args(["--", "sh", "-c", &script]);
    let printed = succeed(&mut command);
    let done = printed.lines().find(|line| line.starts_with('[')).unwrap_or_else(|| panic!("{printed}"));
    (serde_json::from_str(done).unwrap(), printed)
}

#[test]
fn exits_of_both_levels_are_those_of_kvms_own_events() {
    if !has_svm() {
        return;
    }
    let log = Log::start(&[
        "kvm_exit",
        "kvm_entry",
        "kvm_nested_vmexit",
        "kvm_nested_vmexit_inject",
        "kvm_nested_vmenter",
    ]);
    for options in [&[][..], &["--no-split"], &["--no-time"]] {
        let file = Scratch::new("nested");
        let (done, printed) = both(options, &file);
        let report = Report::parse(&file.read());
        report.assert_proven();
        let pid = printed.lines().find_map(|line| line.strip_prefix("pid ")).unwrap().parse().unwrap();
        let told = costs(&report, pid);
        assert_planned(&told, &done);
        let witnessed = witnessed(&log.take());
        assert_eq!(told, witnessed, "{options:?}");
        for vcpu in done.as_array().unwrap() {
            let exits: u64 = told
                .iter()
                .filter(|(key, _)| key.0 == number(vcpu, "vcpu"))
                .map(|(_, cost)| cost.count)
                .sum();
            assert_eq!(exits, number(vcpu, "kvm_exits"), "{vcpu}");
        }
        // The VM beside it has no more than it had before there was anything nested.
        let rows = report.0["rows"].as_array().unwrap();
        let plain: Vec<&Value> = rows.iter().filter(|row| row["pid"] != pid).collect();
        assert!(plain.iter().all(|row| row["level"] == 1 && row["to_l1"].is_null()), "{plain:?}");
        let cpuid = plain.iter().find(|row| row["reason"] == "CPUID").unwrap();
        assert_eq!(number(cpuid, "count"), 400);
        // L2 was away for longer than KVM alone needed, and all of that is on its rows.
        for row in rows.iter().filter(|row| row["level"] == 2) {
            let l1_ns = &row["l1_ns"];
            assert_eq!(l1_ns.is_null(), options == ["--no-time"], "{row}");
            assert!(l1_ns.is_null() || (number(row, "l1_ns") > 0) == (number(row, "l1_done") > 0), "{row}");
        }
        // Added up, there is as much.
        let sum = |key| rows.iter().filter_map(|row| row[key].as_u64()).sum::<u64>();
        let (mut all, by_level) = (exitscope(), Scratch::new("by-level"));
        all.args(["stat", "--by", "level", "--format", "json", "-o"]).arg(&by_level).args(options);
        let guest = succeed(all.arg("--").arg(guest_program()).args(["nested", "1", "50", "20"]));
        let vcpu = &serde_json::from_str::<Value>(&guest).unwrap()[0];
        let levels = Report::parse(&by_level.read());
        let levels = levels.0["rows"].as_array().unwrap();
        let level = |level: u64| levels.iter().find(|row| row["level"] == level).unwrap();
        assert_eq!(levels.len(), 2);
        assert_eq!(number(level(1), "count") + number(level(2), "count"), number(vcpu, "kvm_exits"));
        assert_eq!((number(level(2), "to_l1"), number(level(2), "l1_done")), (51, 50));
        assert_eq!((sum("to_l1"), sum("l1_done")), (602, 600));
        log.take();
    }
}

/// However often it is looked at, no exit changes its level, none is counted twice, and none is lost.
#[test]
fn intervals_add_up() {
    if !has_svm() {
        return;
    }
    for options in [&[][..], &["--no-time"]] {
        let file = Scratch::new("intervals");
        let mut command = exitscope();
        command.args(["stat", "--interval", "10ms", "--format", "json", "-o"]).arg(&file).args(options);
        let done = succeed(command.arg("--").arg(guest_program()).args(["nested", "2", "1500", "500"]));
        let mut sums = Costs::new();
        let (mut intervals, mut total, mut kvm, mut done_sum) = (0, 0, 0, 0);
        for line in file.read().lines() {
            let report = Report::parse(line);
            let pid = report.0["rows"].as_array().unwrap().first().map_or(0, |row| number(row, "pid"));
            add(&mut sums, &report, pid);
            intervals += 1;
            total += report.number("total");
            kvm += report.number("kvm_exits");
            assert_eq!(report.number("lost"), 0);
        }
        let done: Value = serde_json::from_str(&done).unwrap();
        assert!(intervals > 10, "only {intervals} intervals");
        assert_planned(&sums, &done);
        for vcpu in done.as_array().unwrap() {
            done_sum += number(vcpu, "kvm_exits");
        }
        assert_eq!((total, kvm), (done_sum, done_sum));
        assert_eq!(sums.values().map(|cost| cost.count).sum::<u64>(), total);
    }
}

/// Where vCPUs wait for CPUs, a kernel that preempts itself skips programs that another vCPU was preempted in. No exit is lost for
/// it, and none gets another reason.
#[test]
fn vcpus_that_preempt_each_other_lose_no_exit() {
    if !has_svm() {
        return;
    }
    for probes in ["pair", "one"] {
        let file = Scratch::new("preempted");
        let mut command = exitscope();
        command.args(["stat", "--probes", probes, "--format", "json", "-o"]).arg(&file);
        let done = succeed(command.arg("--").arg(guest_program()).args(["nested", "8", "3000", "1"]));
        let done: Value = serde_json::from_str(&done).unwrap();
        let report = Report::parse(&file.read());
        report.assert_proven();
        let pid = number(&report.0["rows"][0], "pid");
        assert_planned(&costs(&report, pid), &done);
    }
}

/// Returns how often the vCPUs of a process have entered an L2, by KVM's own statistic.
fn entries_into_l2(pid: u32) -> u64 {
    let vms = std::fs::read_dir("/sys/kernel/debug/kvm").expect("debugfs must be mounted");
    let own = vms.flatten().filter(|vm| vm.file_name().to_string_lossy().starts_with(&format!("{pid}-")));
    let runs = own.filter_map(|vm| std::fs::read_to_string(vm.path().join("nested_run")).ok());
    runs.map(|text| text.trim().parse::<u64>().unwrap()).sum()
}

/// Whoever comes later finds out from the first exit of L2, or the next entry into it.
#[test]
fn a_guest_that_runs_its_own_already_is_told_apart_at_once() {
    if !has_svm() {
        return;
    }
    for options in [&[][..], &["--no-time"]] {
        let guest = Background::start(Command::new(guest_program()).args(["nested", "2", "10000000", "1"]));
        wait_for("it to run L2", || entries_into_l2(guest.pid()) > 100);
        let file = Scratch::new("later");
        let mut command = exitscope();
        command.args(["stat", "--interval", "50ms", "--format", "json", "-o"]).arg(&file).args(options);
        let watching = Background::start(command.args(["--pid", &guest.pid().to_string()]));
        let (mut costs, mut total, mut kvm) = (Costs::new(), 0, 0);
        let mut read = |done: bool| {
            (costs, total, kvm) = (Costs::new(), 0, 0);
            let text = std::fs::read_to_string(AsRef::<std::ffi::OsStr>::as_ref(&file)).unwrap_or_default();
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            assert!(!done || whole == text.len(), "{text}");
            for line in text[..whole].lines() {
                add(&mut costs, &Report::parse(line), guest.pid().into());
                total += Report::parse(line).number("total");
                kvm += Report::parse(line).number("kvm_exits");
            }
            (0..2).all(|vcpu| costs.get(&(vcpu, 2, "CPUID".into())).is_some_and(|cost| cost.count > 100))
        };
        wait_for("100 exits of each L2", || read(false));
        watching.signal(libc::SIGINT);
        let output = watching.finish();
        assert!(output.status.success(), "{}", all(&output));
        read(true);
        assert_eq!((kvm, costs.values().map(|cost| cost.count).sum()), (total, total));
        for vcpu in 0..2 {
            let of = |level, reason: &str| costs[&(vcpu, level, reason.to_owned())];
            let l2 = of(2, "CPUID");
            // The first and the last round may be cut off.
            for (reason, each) in [("CPUID", 2), ("VMRUN", 1), ("IOIO", 1)] {
                let own = of(1, reason).count;
                assert!(own.abs_diff(each * l2.count) <= each, "{reason}: {own} for {}", l2.count);
            }
            assert!(l2.count - l2.to_l1 <= 1 && l2.to_l1 - l2.l1_done <= 1, "{l2:?}");
            assert!(l2.l1_exits >= 4 * l2.l1_done, "{l2:?}");
        }
    }
}

/// The plain tracepoints do not say whose exits they are, and that is said.
#[test]
fn what_cannot_be_told_apart_is_said() {
    if !has_svm() {
        return;
    }
    let file = Scratch::new("plain");
    let mut command = exitscope();
    command.args(["stat", "--source", "tracepoint", "--format", "json", "-o"]).arg(&file);
    let done = succeed(command.arg("--").arg(guest_program()).args(["nested", "2", "40", "10"]));
    let done: Value = serde_json::from_str(&done).unwrap();
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert_eq!(report.0["loss"]["no_level"], 2, "{}", report.0["loss"]);
    for row in report.0["rows"].as_array().unwrap() {
        assert!(row["level"].is_null() && row["to_l1"].is_null() && row["l1_exits"].is_null(), "{row}");
    }
    let cpuids: u64 =
        done.as_array().unwrap().iter().map(|vcpu| number(vcpu, "l1_cpuid") + number(vcpu, "l2_cpuid")).sum();
    let counted: u64 =
        report.counts().iter().filter(|(key, _)| key.3 == "CPUID").map(|(_, count)| count).sum();
    assert_eq!(counted, cpuids);
}

/// Where KVM offers its guests no SVM, the guest says so, and what to do.
#[test]
fn a_guest_that_cannot_be_a_hypervisor_is_refused() {
    if !has_svm() {
        return;
    }
    struct Nested;
    impl Drop for Nested {
        fn drop(&mut self) {
            let _ = Command::new("modprobe").args(["-r", "kvm_amd"]).status();
            let _ = Command::new("modprobe").arg("kvm_amd").status();
        }
    }
    succeed(Command::new("modprobe").args(["-r", "kvm_amd"]));
    let _again = Nested;
    succeed(Command::new("modprobe").args(["kvm_amd", "nested=0"]));
    let output = Command::new(guest_program()).args(["nested", "1", "1", "1"]).output().unwrap();
    let text = all(&output);
    assert!(!output.status.success(), "{text}");
    for word in ["kvm_amd/parameters/nested says", "nested=1"] {
        assert!(text.contains(word), "{text}");
    }
}
