//! One program an exit, and the clock that it needs.

use super::nested::has_svm;
use super::tool::{
    Background, Report, Scratch, all, exitscope, guest_program, succeed, wait_for, wait_until_counting,
};
use super::turns::Turns;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Folder of the kernel's clock source.
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
const HIDING: &str = "/proc/sys/kernel/kptr_restrict";

/// A file of the kernel's that has another text until this is dropped.
struct Setting {
    file: String,
    before: String,
}

impl Setting {
    fn new(file: impl Into<String>) -> Setting {
        let file = file.into();
        let before = fs::read_to_string(&file).unwrap().trim().to_owned();
        Setting { file, before }
    }

    fn set(&self, text: &str) {
        fs::write(&self.file, text).unwrap_or_else(|error| panic!("{} to {text}: {error}", self.file));
        assert_eq!(fs::read_to_string(&self.file).unwrap().trim(), text, "{}", self.file);
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, &self.before);
    }
}

fn clock() -> Setting {
    Setting::new(format!("{CLOCK}/current_clocksource"))
}

/// A clock source that is not the TSC.
fn other_clock() -> String {
    let there = fs::read_to_string(format!("{CLOCK}/available_clocksource")).unwrap();
    let other = there.split_whitespace().find(|name| *name != "tsc");
    other.unwrap_or_else(|| panic!("no other clock source than the TSC: {there:?}")).to_owned()
}

/// Both forms count a guest at the same time, and so the same.
#[test]
fn one_program_counts_what_the_pair_does() {
    clock().set("tsc");
    let (one, pair) = (Scratch::new("one"), Scratch::new("pair"));
    let stat = |command: &mut Command, probes: &str, file: &Scratch| {
        command.args(["stat", "-f", "json", "--source", "btf", "--probes", probes, "-o"]).arg(file).arg("--");
    };
    let mut command = exitscope();
    stat(&mut command, "one", &one);
    command.arg(env!("CARGO_BIN_EXE_exitscope"));
    stat(&mut command, "pair", &pair);
    command.arg(guest_program()).args(["run", "3"]);
    succeed(&mut command);
    let (one, pair) = (Report::parse(&one.read()), Report::parse(&pair.read()));
    one.assert_proven();
    pair.assert_proven();
    assert_eq!(one.counts_by_process(), pair.counts_by_process());
    // Each of them has a time, of no more than the whole.
    assert_eq!(one.0["loss"]["untimed"], 0, "{}", one.0["loss"]);
    let span = |report: &Report| {
        ((report.0["end"].as_f64().unwrap() - report.0["start"].as_f64().unwrap()) * 1e9).ceil()
    };
    for row in one.0["rows"].as_array().unwrap() {
        assert!(row["min_ns"].as_u64().unwrap() > 0, "{row}");
        assert!(row["time_ns"].as_f64().unwrap() <= span(&one), "{row}");
    }
}

/// Where it cannot be, the choice of it is an error that says why, and `auto` is the pair and says why.
#[test]
fn a_host_without_the_tsc_gets_the_pair() {
    let (clock, hiding, other) = (clock(), Setting::new(HIDING), other_clock());
    let refused = |why: &str| {
        let stat = |probes: &str| {
            let mut command = exitscope();
            command.args(["stat", "--probes", probes, "--"]).arg(guest_program());
            command.args(["only", "cpuid", "77"]).output().unwrap()
        };
        let output = stat("one");
        assert_eq!(output.status.code(), Some(125), "{}", all(&output));
        assert!(all(&output).contains(why), "{why}: {}", all(&output));
        let output = stat("auto");
        // The report is as wide as a terminal.
        let said = words(&output.stderr);
        assert!(output.status.success() && said.contains("two BPF programs"), "{said}");
        assert!(said.contains(why), "{why}: {said}");
    };
    clock.set(&other);
    refused(&format!("the kernel's clock source is {other}, not tsc"));
    clock.set("tsc");
    hiding.set("2");
    refused("kernel.kptr_restrict");
    hiding.set("1");
    let mut command = exitscope();
    command.args(["stat", "--probes", "auto", "--"]).arg(guest_program());
    let output = command.args(["only", "cpuid", "77"]).output().unwrap();
    assert!(
        output.status.success() && !words(&output.stderr).contains("two BPF programs"),
        "{}",
        all(&output)
    );
}

/// A text's words, with one blank between two.
fn words(text: &[u8]) -> String {
    String::from_utf8_lossy(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the number of programs that a process has attached.
fn links(pid: u32) -> usize {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = folder.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter(|link| ["bpf_link", "bpf-link"].iter().any(|word| link.to_string_lossy().contains(word)))
        .count()
}

/// The kernel gives the TSC up while a guest runs, and takes it again: no exit is missed, counted twice, or given a time that
/// it did not take, and those without a time are told.
#[test]
fn a_clock_that_changes_in_mid_run_is_told() {
    let (clock, other) = (clock(), other_clock());
    clock.set("tsc");
    let mut guest = Turns::start();
    let file = Scratch::new("clock");
    let mut command = exitscope();
    command.args([
        "stat",
        "-f",
        "json",
        "--probes",
        "one",
        "-i",
        "0.1",
        "-p",
        &guest.pid().to_string(),
        "-o",
    ]);
    let exitscope = Background::start(command.arg(&file));
    wait_until_counting(&exitscope);
    let without = links(exitscope.pid());
    for (name, noted) in [(other.as_str(), 1), ("tsc", 0), (other.as_str(), 1), ("tsc", 0)] {
        clock.set(name);
        // Some before it is noticed, and some after.
        (0..10).for_each(|_| drop(guest.say("")));
        wait_for("the change to be noticed", || links(exitscope.pid()) == without + noted);
        (0..10).for_each(|_| drop(guest.say("")));
    }
    let told = guest.kvm_exits();
    exitscope.signal(libc::SIGINT);
    let output = exitscope.finish();
    assert!(output.status.success(), "{}", all(&output));
    let text = file.read();
    let blocks: Vec<Report> = text.lines().map(Report::parse).collect();
    let sum = |number: &dyn Fn(&Report) -> u64| blocks.iter().map(number).sum::<u64>();
    assert_eq!(sum(&|block| block.number("total")), sum(&|block| block.number("kvm_exits")));
    assert!(sum(&|block| block.number("total")) <= told);
    assert_eq!(
        sum(&|block| block.number("total")) / 1001,
        80,
        "80 turns of 1000 CPUIDs and a write to a port"
    );
    // Once it is noticed all have a time, but for the write to a port that was under way at that moment.
    let untimed = sum(&|block| block.0["loss"]["untimed"].as_u64().unwrap());
    assert!(untimed <= 4 * (10 * 1001 + 1), "{untimed} exits without a time");
    // An exit may have begun in the interval before, but none takes longer than all of them.
    let end = |block: &Report, key: &str| block.0[key].as_f64().unwrap();
    let span = (end(blocks.last().unwrap(), "end") - end(&blocks[0], "start")) * 1e9;
    let rows = blocks.iter().flat_map(|block| block.0["rows"].as_array().unwrap());
    let time: f64 = rows.map(|row| row["time_ns"].as_f64().unwrap()).sum();
    assert!(time <= span * 1.01, "{time} ns in {span} ns");
}

/// The kernel is told that its clock goes wrong, as far as it takes that: from turn to turn it goes a tenth faster, and slower.
#[test]
fn a_clock_that_is_steered_measures_no_more_than_went_by() {
    /// `adjtimex(2)`: cycles of the clock in microseconds, 10,000 where it is right, and its rate in 2^-16 ppm.
    fn steer(tick: libc::c_long, freq: libc::c_long) {
        // SAFETY: a struct of integers, and a call that reads and writes it.
        let state = unsafe {
            let mut timex: libc::timex = std::mem::zeroed();
            timex.modes = libc::ADJ_TICK | libc::ADJ_FREQUENCY;
            (timex.tick, timex.freq) = (tick, freq);
            libc::adjtimex(&raw mut timex)
        };
        assert!(state >= 0, "adjtimex: {}", std::io::Error::last_os_error());
    }
    struct Steered;
    impl Drop for Steered {
        fn drop(&mut self) {
            steer(10_000, 0);
        }
    }
    clock().set("tsc");
    let steered = Steered;
    let mut guest = Turns::start();
    let file = Scratch::new("steered");
    let mut command = exitscope();
    command.args(["stat", "-f", "json", "--probes", "one", "-p", &guest.pid().to_string(), "-o"]);
    let exitscope = Background::start(command.arg(&file));
    wait_until_counting(&exitscope);
    for turn in 0..40 {
        let (tick, freq) = if turn % 2 == 0 { (11_000, 500 << 16) } else { (9_000, -(500 << 16)) };
        steer(tick, freq);
        guest.say("");
    }
    exitscope.signal(libc::SIGINT);
    let output = exitscope.finish();
    drop(steered);
    assert!(output.status.success(), "{}", all(&output));
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert_eq!(report.count(guest.pid(), "CPUID"), 40_000);
    assert_eq!(report.0["loss"]["untimed"], 0, "{}", report.0["loss"]);
    let span = (report.0["end"].as_f64().unwrap() - report.0["start"].as_f64().unwrap()) * 1e9;
    let rows = report.0["rows"].as_array().unwrap();
    let time: f64 = rows.iter().map(|row| row["time_ns"].as_f64().unwrap()).sum();
    // The wall clock is steered alike, but not at the same moments.
    assert!(time > 0.0 && time <= span * 1.1, "{time} ns in {span} ns");
}

/// KVM clears SVM's exit code when the guest shuts down: it is noted before.
#[test]
fn a_triple_fault_is_counted_as_what_it_is() {
    for probes in ["one", "pair"] {
        let file = Scratch::new("shutdown");
        let mut command = exitscope();
        command.args(["stat", "-f", "json", "--probes", probes, "-o"]).arg(&file).arg("--");
        let said = succeed(command.arg(guest_program()).args(["shutdown", "7"]));
        let guest: Value = serde_json::from_str(&said).unwrap();
        let report = Report::parse(&file.read());
        report.assert_proven();
        assert_eq!(report.0["total"], guest["kvm_exits"], "{}", report.0);
        let rows = report.0["rows"].as_array().unwrap();
        let count = |row: &&Value| row["reason"] == "SHUTDOWN" || row["reason"] == "TRIPLE_FAULT";
        let shutdown = rows.iter().find(count).unwrap_or_else(|| panic!("{probes}: {}", report.0));
        assert_eq!(shutdown["count"], 1, "{shutdown}");
        assert_eq!(shutdown["returns"], json!({ "SHUTDOWN": 1 }), "{shutdown}");
        let cpuid = rows.iter().find(|row| row["reason"] == "CPUID").unwrap();
        assert_eq!(cpuid["count"], guest["cpuids"], "{}", report.0);
    }
}

/// Guests that nest come and go, and with them the program that notes exits where they happen: each exit of theirs, and of a
/// guest beside them, is counted once.
#[test]
fn no_exit_is_lost_or_doubled_while_exits_are_noted_and_no_more() {
    if !has_svm() {
        return;
    }
    clock().set("tsc");
    let mut beside = Turns::start();
    let file = Scratch::new("come-and-go");
    let mut command = exitscope();
    command.args(["stat", "-i", "50ms", "-f", "json", "--probes", "one", "-o"]);
    let exitscope = Background::start(command.arg(&file));
    wait_until_counting(&exitscope);
    let without = links(exitscope.pid());
    let (mut expected, mut turns) = (0, 0);
    for _ in 0..3 {
        let mut guest = Background::start(Command::new(guest_program()).args(["nested", "1", "3000", "200"]));
        let (mut noted, mut over) = (false, false);
        while !over {
            over = guest.0.try_wait().unwrap().is_some();
            noted |= links(exitscope.pid()) == without + 1;
            beside.say("");
            turns += 1;
        }
        assert!(noted, "no program noted the exits of a guest that nests");
        let output = guest.finish();
        let done: Value = serde_json::from_slice(&output.stdout).unwrap();
        expected += done[0]["kvm_exits"].as_u64().unwrap();
        wait_for("the program that notes exits to be gone", || links(exitscope.pid()) == without);
        beside.say("");
        turns += 1;
    }
    exitscope.signal(libc::SIGINT);
    let output = exitscope.finish();
    assert!(output.status.success(), "{}", all(&output));
    let (mut nested, mut cpuids) = (0, 0);
    for block in file.read().lines().map(Report::parse) {
        assert_eq!(block.number("lost"), 0, "{}", block.0);
        assert_eq!(block.number("total"), block.number("kvm_exits"), "{}", block.0);
        for ((pid, _, _, reason), count) in block.counts() {
            if pid != u64::from(beside.pid()) {
                nested += count;
            } else if reason == "CPUID" {
                cpuids += count;
            }
        }
    }
    assert_eq!((nested, cpuids), (expected, turns * 1000));
}
