//! Reports of KVM in the kernel log.

use super::life::remove;
use super::tool::{all, guest_program, succeed, wait_for};
use super::{counts, cpus, set, vcpus, vendor};
use std::fs;
use std::process::Command;

/// A report in the kernel log.
#[derive(Debug)]
struct Logged {
    /// When it began, in seconds since boot.
    at: f64,
    /// The exits in all.
    total: u64,
    /// The other lines.
    lines: Vec<String>,
}

/// KVM as if just loaded, with no report asked for, and an empty log.
fn begin() {
    let output = remove();
    assert!(output.status.success(), "{}", all(&output));
    succeed(Command::new("modprobe").arg(vendor()));
    succeed(Command::new("dmesg").arg("--clear"));
}

fn run(vcpus: &str) {
    succeed(Command::new(guest_program()).args(["run", vcpus]));
}

fn reports() -> Vec<Logged> {
    let log = succeed(&mut Command::new("dmesg"));
    let mut reports: Vec<Logged> = Vec::new();
    for (time, line) in log.lines().filter_map(|line| line.split_once("] exitscope: ")) {
        match line.strip_suffix(" exits in all") {
            Some(total) => {
                let at = time.trim_start_matches('[').trim().parse().unwrap();
                reports.push(Logged { at, total: total.parse().unwrap(), lines: Vec::new() });
            }
            None => reports.last_mut().expect("a total first").lines.push(line.to_owned()),
        }
    }
    reports
}

fn last_number(line: &str) -> u64 {
    line.rsplit(": ").next().unwrap().parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A report has the total first, then number and name of each type that occurred. It comes after every so
/// many exits, with 0 never, and a reset begins anew.
#[test]
fn reports_come_after_so_many_exits() {
    begin();
    set("exitscope_every", "0");
    run("2");
    let (silent, _) = cpus(&counts());
    set("exitscope_every", "5000");
    run("2");
    wait_for("a report", || !reports().is_empty());
    let (since, ever) = cpus(&counts());
    let found = reports();
    let first = &found[0];
    assert!(first.total > silent, "{silent} exits were to be silent: {first:?}");
    assert!(first.total <= since, "{since}: {first:?}");
    assert!(found.len() as u64 <= since / 5000 + 1, "{since}: {found:?}");
    assert_eq!(first.lines.iter().map(|line| last_number(line)).sum::<u64>(), first.total, "{first:?}");
    let names =
        |line: &String| line.starts_with("exit 10 (CPUID): ") || line.starts_with("exit 0x72 (CPUID): ");
    assert!(first.lines.iter().any(names), "{first:?}");

    fs::write("/sys/kernel/debug/exitscope/reset", "1").unwrap();
    let text = counts();
    assert_eq!(cpus(&text), (0, ever), "a reset takes nothing from what programs read");
    let vcpus = vcpus(&text);
    assert!(vcpus.iter().all(|(_, since, _)| *since == 0) && vcpus.iter().any(|(_, _, ever)| *ever > 0));
    set("exitscope_every", "10000");
}

/// However many exits there are: each asks for a report here, also while another one is printed.
#[test]
fn a_second_is_between_two_reports() {
    begin();
    set("exitscope_every", "1");
    while reports().len() < 4 {
        run("1");
    }
    set("exitscope_every", "10000");
    for two in reports().windows(2) {
        // Ticks are counted, and an emulated machine's may be some milliseconds late.
        assert!(two[1].at - two[0].at > 0.95 && two[1].total >= two[0].total, "{two:?}");
    }
}
