//! What KVM says in the kernel log.

use super::tool::{guest_program, succeed, wait_for};
use super::{counts, cpus, set, vcpus};
use std::fs;
use std::process::Command;

fn reports() -> Vec<Vec<String>> {
    let log = succeed(Command::new("dmesg").arg("--notime"));
    let mut reports: Vec<Vec<String>> = Vec::new();
    for line in log.lines().filter_map(|line| line.strip_prefix("exitscope: ")) {
        if line.ends_with(" exits in all") {
            reports.push(Vec::new());
        }
        reports.last_mut().expect("a total first").push(line.to_owned());
    }
    reports
}

fn last_number(line: &str) -> u64 {
    line.rsplit(": ").next().unwrap().parse().unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// As the exercise has it: the total first, then each type that occurred, number and name; after every so many exits, not
/// oftener than once a second; and a reset begins anew.
#[test]
fn reports_come_after_so_many_exits() {
    set("exitscope_every", "0");
    succeed(Command::new(guest_program()).args(["run", "2"]));
    let silent = reports().len();
    succeed(Command::new(guest_program()).args(["run", "2"]));
    assert_eq!(reports().len(), silent, "0 is never");

    let (_, ever) = cpus(&counts());
    fs::write("/sys/kernel/debug/exitscope/reset", "1").unwrap();
    let text = counts();
    assert_eq!(cpus(&text), (0, ever), "a reset takes nothing from what programs read");
    let vcpus = vcpus(&text);
    assert!(vcpus.iter().all(|(_, since, _)| *since == 0) && vcpus.iter().any(|(_, _, ever)| *ever > 0));

    set("exitscope_every", "5000");
    succeed(Command::new(guest_program()).args(["run", "1"]));
    wait_for("a report", || reports().len() > silent);
    let reports = reports();
    let (first, new) = (&reports[silent], reports.len() - silent);
    let total: u64 = first[0].strip_suffix(" exits in all").unwrap().parse().unwrap();
    let (since, _) = cpus(&counts());
    assert!((1..=since).contains(&total), "{total} of {since}: {first:?}");
    assert!(new as u64 <= since / 5000 + 1, "{new} reports of {since} exits");
    assert_eq!(first[1..].iter().map(|line| last_number(line)).sum::<u64>(), total, "{first:?}");
    let names =
        |line: &String| line.starts_with("exit 10 (CPUID): ") || line.starts_with("exit 0x72 (CPUID): ");
    assert!(first.iter().any(names), "{first:?}");
    set("exitscope_every", "10000");
}
