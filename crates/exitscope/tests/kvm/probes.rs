//! One program an exit, and the clock that it needs.

use super::tool::{Background, Report, Scratch, all, exitscope, guest_program, succeed, wait_until_counting};
use super::turns::Turns;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

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
    for name in [other.as_str(), "tsc", other.as_str(), "tsc"] {
        clock.set(name);
        // Some before it is noticed, and some after.
        for _ in 0..20 {
            guest.say("");
            sleep(Duration::from_millis(20));
        }
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
    let untimed = |block: &Report| block.0["loss"]["untimed"].as_u64().unwrap();
    let (timed, timeless): (Vec<_>, Vec<_>) = blocks.iter().partition(|block| untimed(block) == 0);
    assert!(timed.len() > timeless.len(), "it should have been noticed: {}", timeless.len());
    for block in &blocks {
        let span = (block.0["end"].as_f64().unwrap() - block.0["start"].as_f64().unwrap()) * 1e9;
        for row in block.0["rows"].as_array().unwrap().iter().filter(|row| row["reason"] == "CPUID") {
            assert!(row["time_ns"].as_f64().unwrap() <= span * 1.01, "{row} in {span} ns");
        }
    }
}
