//! Threads beside the vCPUs: a guest that is idle while its VMM spins.

use super::bad_input::assert_says;
use super::tool::{Background, Report, exitscope, guest_program, succeed, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// CPU time and run delay of a thread (`schedstat`), and its name.
fn times(folder: &str) -> Option<(String, [u64; 2])> {
    let name = fs::read_to_string(format!("{folder}/comm")).ok()?;
    let text = fs::read_to_string(format!("{folder}/schedstat")).ok()?;
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap());
    Some((name.trim_end().to_owned(), [numbers.next()?, numbers.next()?]))
}

/// Names of the directories below one whose names are numbers.
fn numbers(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// Times of the workers of a process by `/proc`: of each kind that can be told by names, CPU time and run delay.
fn by_proc(pid: u64) -> BTreeMap<&'static str, [u64; 2]> {
    let mut sums: BTreeMap<&'static str, [u64; 2]> = BTreeMap::new();
    let mut add = |kind, times: [u64; 2]| {
        let sum = sums.entry(kind).or_default();
        *sum = [sum[0] + times[0], sum[1] + times[1]];
    };
    for tid in numbers(&format!("/proc/{pid}/task")) {
        let Some((name, times)) = times(&format!("/proc/{pid}/task/{tid}")) else { continue };
        match name.as_str() {
            _ if name.starts_with("vcpu ") => {}
            _ if tid == pid.to_string() => add("main", times),
            "IO disk" => add("io", times),
            _ if name.starts_with("vhost-") => add("vhost", times),
            _ if name.starts_with("kvm-") => add("kvm", times),
            _ => panic!("nobody's thread {name:?}"),
        }
    }
    for tid in numbers("/proc") {
        let Some((name, times)) = times(&format!("/proc/{tid}")) else { continue };
        if name == format!("vhost-{pid}") {
            add("vhost", times);
        } else if name.starts_with("kvm-") && name.ends_with(&format!("-{pid}")) {
            add("kvm", times);
        }
    }
    sums
}

/// The reports among what exitscope has said.
fn reports(lines: &str) -> impl Iterator<Item = Report> {
    lines.lines().filter(|line| line.starts_with('{')).map(Report::parse)
}

/// Sums of the figures of workers over all lines.
fn sums(lines: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for Report(line) in reports(lines) {
        for (key, value) in
            line["workers"].as_array().unwrap().iter().flat_map(|span| span.as_object().unwrap())
        {
            if key.ends_with("_ns") {
                *sums.entry(key.clone()).or_default() += value.as_u64().unwrap();
            }
        }
    }
    sums
}

#[test]
fn a_vmm_that_spins_beside_an_idle_guest_is_seen_with_the_numbers_of_proc() {
    const MS: u64 = 1_000_000;
    succeed(Command::new("modprobe").arg("vhost_net"));
    let mut command = exitscope();
    command.args([
        "stat",
        "-i",
        "100ms",
        "-f",
        "json",
        "--",
        "env",
        "EXITSCOPE_GUEST=many 1 1000",
        "bash",
        "-c",
    ]);
    command.arg(format!("exec -a qemu-system-x86_64 {} -name lazy", guest_program().display()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watcher = Background(command.spawn().unwrap());
    let said = Arc::new(Mutex::new(String::new()));
    let (errors, hears) = (watcher.0.stderr.take().unwrap(), Arc::clone(&said));
    let listener = thread::spawn(move || {
        for line in BufReader::new(errors).lines().map(Result::unwrap) {
            *hears.lock().unwrap() += &format!("{line}\n");
        }
    });
    let read = || said.lock().unwrap().clone();
    let mut answers = BufReader::new(watcher.0.stdout.take().unwrap()).lines();
    let mut say = |line: &str| {
        writeln!(watcher.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        answers.next().unwrap().unwrap()
    };
    say("turn");
    say("vhost");
    // It is seen before the thread that ends in between is there.
    wait_for("a look at the VM", || sums(&read()).get("main_cpu_ns").is_some_and(|ns| *ns > 0));
    say("spin 50");
    let pid = sums_pid(&read());
    // All of its threads sleep now: once they have been looked at, both say the same.
    wait_for("figures that are those of /proc", || {
        let (expected, found) = (by_proc(pid), sums(&read()));
        let key = |kind: &str, what: &str| found[&format!("{kind}_{what}_ns")];
        expected
            .iter()
            .all(|(kind, [cpu, waiting])| key(kind, "cpu") == *cpu && key(kind, "waiting") == *waiting)
    });
    let found = sums(&read());
    let expected = by_proc(pid);
    assert!(expected.keys().copied().eq(["io", "kvm", "main", "vhost"]), "{expected:?}");
    assert!(expected["main"][0] >= 50 * MS && expected["io"][0] >= 100 * MS, "{expected:?}");
    assert!(expected["vhost"][0] > 0 && expected["kvm"][0] > 0, "{expected:?}");
    // Of the thread that came and ended the process's clock tells.
    assert!((150 * MS..200 * MS).contains(&found["other_cpu_ns"]), "{found:?}");
    drop(watcher.0.stdin.take());
    assert_says(&watcher.finish(), 0, &[]);
    listener.join().unwrap();
}

/// The process of the only VM.
fn sums_pid(lines: &str) -> u64 {
    let vms = reports(lines).flat_map(|report| report.0["vms"].as_array().unwrap().clone());
    let pids: Vec<u64> = vms.filter_map(|vm: Value| vm["pid"].as_u64()).collect();
    assert!(pids.windows(2).all(|two| two[0] == two[1]), "{pids:?}");
    pids[0]
}
