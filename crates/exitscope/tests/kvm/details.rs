//! Details of exits: counted as often as the guest made them, and all host time in one of them.

use super::tool::{
    Background, Report, Scratch, all, best_source, exitscope, guest_program, succeed, wait_until_counting,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Counts by (is a port, number, written).
type Counts = BTreeMap<(bool, u64, bool), u64>;

/// Number of details that a row tells apart: MAX_DETAILS of bpf/wire.h.
const MOST: usize = 256;

/// Returns the accesses that the guest says it made.
fn done(said: &str) -> Counts {
    let guest: Value = serde_json::from_str(said).unwrap();
    let mut counts = Counts::new();
    for (key, port, write) in
        [("outs", true, true), ("ins", true, false), ("reads", false, false), ("writes", false, true)]
    {
        for (number, count) in guest[key].as_object().unwrap() {
            counts.insert((port, number.parse().unwrap(), write), count.as_u64().unwrap());
        }
    }
    counts
}

/// The rows of ports and of MSRs, each with what is told apart in it and what is not. Of each, these are all of its exits,
/// but for one that was being handled when the interval began (`under_way`: at most), and one when it ended.
fn told(report: &Report, under_way: u64) -> Vec<(Counts, u64)> {
    let rows = report.0["rows"].as_array().unwrap().iter();
    let reasons = ["IOIO", "MSR", "IO_INSTRUCTION", "MSR_READ", "MSR_WRITE"];
    let is_about = |row: &&Value| reasons.contains(&row["reason"].as_str().unwrap());
    rows.filter(is_about)
        .map(|row| {
            let mut counts = Counts::new();
            // None where all that there is of this row is still being handled.
            for detail in row["details"].as_array().into_iter().flatten() {
                let (is_port, number) = match detail["port"].as_u64() {
                    Some(port) => (true, port),
                    None => (false, detail["msr"].as_u64().unwrap()),
                };
                let key = (is_port, number, detail["write"].as_bool().unwrap());
                assert_eq!(counts.insert(key, detail["count"].as_u64().unwrap()), None, "{row}");
            }
            let other = row["details_other"].as_u64().unwrap_or(0);
            let (sum, count) = (counts.values().sum::<u64>() + other, row["count"].as_u64().unwrap());
            assert!(sum.abs_diff(count) <= under_way, "they do not add up: {row}");
            assert_times(row, under_way == 0);
            (counts, other)
        })
        .collect()
}

/// The host time of details and others is that of the row. Where the interval is whole, a detail's longest is one of its
/// exits: one that ends while a sample is taken may be the longest of two intervals.
fn assert_times(row: &Value, whole: bool) {
    let time = |value: &Value, key: &str| value[key].as_u64().unwrap_or(0);
    let details = || row["details"].as_array().into_iter().flatten();
    let sum = details().map(|detail| time(detail, "time_ns")).sum::<u64>() + time(row, "details_other_ns");
    assert_eq!(sum, time(row, "time_ns"), "{row}");
    let mut longest = 0;
    for detail in details().filter(|_| whole) {
        let [count, all, max] = ["count", "time_ns", "max_ns"].map(|key| time(detail, key));
        assert!(max <= all && all <= max * count, "{detail}");
        longest = longest.max(max);
    }
    if whole && time(row, "details_other") == 0 {
        assert_eq!(longest, time(row, "max_ns"), "{row}");
    }
}

fn watched(guest: &[&str]) -> (Counts, Report) {
    let file = Scratch::new("details");
    let mut command = exitscope();
    command.args(["stat", "-f", "json", "--source", best_source(), "-o"]).arg(&file).arg("--");
    let said = succeed(command.arg(guest_program()).args(guest));
    let report = Report::parse(&file.read());
    report.assert_proven();
    (done(&said), report)
}

#[test]
fn every_port_and_msr_is_counted_as_often_as_it_was_used() {
    // 125 of port and direction, and 259 of MSR and direction, of which SVM has no more than MOST in its one row.
    let (done, report) = watched(&["details", "120", "3"]);
    assert_eq!(done[&(true, 0x3f8, true)], 34 * 3);
    let told = told(&report, 0);
    let all: Counts = told.iter().flat_map(|(counts, _)| counts.clone()).collect();
    for (key, count) in &all {
        // Where there are too many for a row, what is used little makes room, and comes back.
        let (is_port, made) = (key.0, done[key]);
        let exact = is_port || told.len() == 3 || made > 20;
        assert!(if exact { *count == made } else { *count <= made }, "{key:x?}: {count} of {made}");
    }
    let ports = |counts: &Counts| counts.keys().filter(|(is_port, ..)| *is_port).count();
    assert_eq!(ports(&all), ports(&done), "every port is told apart");
    let msrs = all.len() - ports(&all);
    let made = done.len() - ports(&done);
    let expected = if told.len() == 2 { MOST..=made } else { made..=made };
    assert!(expected.contains(&msrs), "{msrs} of {made}: {told:?}");
    // What is not told apart is what is not in there, to the exit.
    let untold = done.values().sum::<u64>() - all.values().sum::<u64>();
    assert_eq!(told.iter().map(|(_, other)| other).sum::<u64>(), untold);
    assert_eq!(report.0["loss"]["moved_details"].as_u64().unwrap() > 0, untold > 0, "{}", report.0["loss"]);
}

/// A guest may use any port. What does not fit is counted nevertheless, and said.
#[test]
fn more_ports_than_there_is_room_for_are_told_as_others() {
    let (done, report) = watched(&["details", "1000", "2"]);
    let told = told(&report, 0);
    let (counts, other) =
        told.iter().find(|(counts, _)| counts.keys().any(|(is_port, ..)| *is_port)).unwrap();
    // A look in between tells what has made room since.
    assert!(counts.len() >= MOST, "{}", counts.len());
    for (key, count) in counts {
        assert!(*count <= done[key], "{key:x?}: {count}");
    }
    // What is used much stays, whatever else is used once or twice: so does the serial console.
    assert_eq!(counts[&(true, 0x3f8, true)], 34 * 2);
    let loss = |figure: &str| report.0["loss"][figure].as_u64().unwrap();
    assert!(loss("moved_details") > 500 && loss("no_detail") > 0, "{}", report.0["loss"]);
    let sum: u64 = done.iter().filter(|((is_port, ..), _)| *is_port).map(|(_, count)| count).sum();
    assert_eq!(counts.values().sum::<u64>() + other, sum);

    let mut command = exitscope();
    let output = command.args(["stat", "--source", best_source(), "--"]).arg(guest_program());
    let text = all(&output.args(["details", "1000", "2"]).output().unwrap());
    for words in [
        "Ports: 0x3f8 out (COM1) 68 exits, ",
        "MSRs: ",
        "Not told apart: ",
        "details that made room for others",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

/// Places of a vCPU that has ended are given to the next: there is room for fewer than all of these use.
#[test]
fn places_are_given_back() {
    let file = Scratch::new("recycled");
    let watcher = Background::start(
        exitscope()
            .args(["stat", "--source", best_source(), "-f", "json", "-i", "50ms", "--max-rows", "900", "-o"])
            .arg(&file),
    );
    wait_until_counting(&watcher);
    let mut guests = Vec::new();
    for _ in 0..4 {
        let done = done(&succeed(Command::new(guest_program()).args(["details", "120", "1"])));
        guests.push(done);
        // Read before the next begins.
        let lines = file.read().lines().count();
        super::tool::wait_for("two more samples", || file.read().lines().count() >= lines + 2);
    }
    watcher.signal(libc::SIGTERM);
    assert!(watcher.finish().status.success());
    let (counted, others) = sums(&file);
    let of = |counts: &Counts| -> Counts {
        counts.iter().filter(|((is_port, ..), _)| *is_port).map(|(key, count)| (*key, *count)).collect()
    };
    let mut expected = Counts::new();
    guests.iter().flatten().for_each(|(key, count)| *expected.entry(*key).or_default() += count);
    assert_eq!(of(&counted), of(&expected), "every port of every guest is told apart");
    assert_eq!(counted.values().sum::<u64>() + others, expected.values().sum::<u64>());
}

/// Returns the sums over all intervals in a file.
fn sums(file: &Scratch) -> (Counts, u64) {
    let (mut all, mut others) = (Counts::new(), 0);
    for line in file.read().lines() {
        for (counts, other) in told(&Report::parse(line), 1) {
            others += other;
            counts.into_iter().for_each(|(key, count)| *all.entry(key).or_default() += count);
        }
    }
    (all, others)
}

/// Many looks at a guest that runs change nothing of what is told in the end: each exit is told once, when it is over.
#[test]
fn intervals_add_up_while_the_guest_runs() {
    let file = Scratch::new("moving");
    let mut command = exitscope();
    command.args(["stat", "-f", "json", "-i", "10ms", "--source", best_source(), "-o"]).arg(&file).arg("--");
    let done = done(&succeed(command.arg(guest_program()).args(["details", "20", "60"])));
    let samples = file.read().lines().count();
    assert!(samples > 5, "{samples}");
    let (all, others) = sums(&file);
    for (key, count) in &all {
        let (is_port, made) = (key.0, done[key]);
        assert!(if is_port { *count == made } else { *count <= made }, "{key:x?}: {count} of {made}");
    }
    assert_eq!(others, done.values().sum::<u64>() - all.values().sum::<u64>());
}

/// Looks at a guest whose details come and go: each of its exits is told once, as its own or as one of the others.
#[test]
fn what_makes_room_is_told_once() {
    let file = Scratch::new("room");
    let mut command = exitscope();
    command.args(["stat", "-f", "json", "-i", "20ms", "--source", "btf", "-o"]).arg(&file).arg("--");
    let done = done(&succeed(command.arg(guest_program()).args(["details", "600", "4"])));
    let (all, others) = sums(&file);
    assert!(file.read().lines().count() > 5);
    for (key, count) in &all {
        assert!(*count <= done[key], "{key:x?}: {count}");
    }
    assert_eq!(all[&(true, 0x3f8, true)], 34 * 4);
    assert_eq!(all.values().sum::<u64>() + others, done.values().sum::<u64>());
}

/// A VM that uses more than there is room for leaves places to others.
#[test]
fn a_vm_gets_no_more_than_its_share() {
    let file = Scratch::new("shares");
    let mut command = exitscope();
    command.args(["stat", "-f", "json", "--source", "btf", "--max-rows", "600", "-o"]).arg(&file);
    let guest = guest_program();
    let both = "\"$0\" details 1000 6 >/dev/null & sleep 1; \"$0\" details 10 5 >/dev/null; wait";
    succeed(command.args(["--", "sh", "-c", both]).arg(guest));
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert!(report.0["loss"]["no_detail"].as_u64().unwrap() > 0, "{}", report.0["loss"]);
    told(&report, 0);
    let mut consoles = Vec::new();
    for row in report.0["rows"].as_array().unwrap() {
        for detail in row["details"].as_array().into_iter().flatten() {
            if detail["port"] == 0x3f8 && detail["write"] == true {
                consoles.push(detail["count"].as_u64().unwrap());
            }
        }
    }
    consoles.sort_unstable();
    assert_eq!(consoles, [34 * 5, 34 * 6], "either VM's console is told apart, to the exit");
}

/// perf counts ports, MSRs and device addresses too, one kind at a time: line by line the same of the same guest. Where perf
/// lost an event, there is nothing to compare, and the guest runs again.
#[test]
fn perf_counts_the_same_ports_msrs_and_addresses() {
    let data = Scratch::new("perf");
    let mut lines = 0;
    for (guest, kind, event) in [
        (&["details", "120", "2"][..], "port", "ioport"),
        (&["run", "1"], "msr", "msr"),
        (&["about"], "gpa", "mmio"),
    ] {
        let (report, perf) = beside_perf(&data, guest, event);
        let mut ours = BTreeMap::new();
        for detail in rows_with_details(&report).filter(|detail| detail["kind"] == kind) {
            let flags = detail["flags"].as_array().map_or(&[][..], Vec::as_slice);
            // A write to memory that may only be read is one to a device for perf.
            let memory = flags.contains(&"memory".into()) && !flags.contains(&"read-only".into());
            if !memory {
                let key = (detail["key"].as_u64().unwrap(), detail["write"].as_bool().unwrap());
                *ours.entry(key).or_default() += detail["count"].as_u64().unwrap();
            }
        }
        for (key, count) in &perf {
            assert_eq!(ours.get(key), Some(count), "{event} {key:x?}: {ours:x?}");
        }
        if kind != "gpa" {
            assert_eq!(ours, perf, "{event}");
        }
        lines += perf.len();
    }
    assert!(lines > 100, "{lines}");
}

/// Accesses by (key, written).
type Accesses = BTreeMap<(u64, bool), u64>;

/// Counts a guest by exitscope and by perf at once.
fn beside_perf(data: &Scratch, guest: &[&str], event: &str) -> (Report, Accesses) {
    for _ in 0..3 {
        let file = Scratch::new("beside-perf");
        let mut command = exitscope();
        command.args(["stat", "-f", "json", "--source", "btf", "-o"]).arg(&file).arg("--");
        command.args(["perf", "kvm", "stat", "record", "-o"]).arg(data).arg("--");
        succeed(command.arg(guest_program()).args(guest));
        let mut report = Command::new("perf");
        report.args(["kvm", "-i"]).arg(data).args(["stat", "report", "--event", event]);
        let output = report.output().unwrap();
        let text = all(&output);
        assert!(output.status.success(), "{text}");
        if !text.contains("lost") && !text.contains("LOST") {
            return (Report::parse(&file.read()), accesses(&text));
        }
    }
    panic!("perf lost events three times");
}

/// Reads lines like `0x3f8:POUT   34   9.55% ...`.
fn accesses(text: &str) -> Accesses {
    let mut found = Accesses::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(what), Some(count)) = (words.next(), words.next()) else { continue };
        let Some((key, way)) = what.split_once(':') else { continue };
        let Some(Ok(key)) = key.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) else {
            continue;
        };
        let write = match way {
            "POUT" | "W" => true,
            "PIN" | "R" => false,
            _ => continue,
        };
        *found.entry((key, write)).or_default() += count.parse::<u64>().unwrap();
    }
    found
}

fn rows_with_details(report: &Report) -> impl Iterator<Item = &Value> {
    report.0["rows"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row["details"].as_array().into_iter().flatten())
}

/// `--detail` and `--reason` leave out what is not asked for, and say how much.
#[test]
fn only_what_is_asked_for_is_told() {
    let filtered = |options: &[&str]| {
        let file = Scratch::new("filtered");
        let mut command = exitscope();
        command.args(["stat", "-f", "json", "--source", "btf", "-o"]).arg(&file).args(options).arg("--");
        let done = done(&succeed(command.arg(guest_program()).args(["details", "10", "2"])));
        let report = Report::parse(&file.read());
        report.assert_proven();
        assert!(report.0["loss"]["filtered"].as_u64().unwrap() > 0, "{}", report.0["loss"]);
        (done, report)
    };
    let (done, report) = filtered(&["--detail", "port:COM1"]);
    let rows = told(&report, 0);
    let [(counts, other)] = &rows[..] else { panic!("one row has such exits: {rows:?}") };
    let com1 = |(is_port, key, _): &(bool, u64, bool)| *is_port && (0x3f8..0x400).contains(key);
    let expected: Counts =
        done.iter().filter(|(key, _)| com1(key)).map(|(key, count)| (*key, *count)).collect();
    assert_eq!(counts, &expected);
    let ports: u64 = done.iter().filter(|((is_port, ..), _)| *is_port).map(|(_, count)| count).sum();
    assert_eq!(counts.values().sum::<u64>() + other, ports);

    let (done, report) = filtered(&["--reason", "MSR,MSR_READ,MSR_WRITE"]);
    let msrs: u64 = done.iter().filter(|((is_port, ..), _)| !is_port).map(|(_, count)| count).sum();
    assert_eq!(report.0["total"].as_u64().unwrap(), msrs);
    assert_eq!(
        told(&report, 0).iter().map(|(counts, other)| counts.values().sum::<u64>() + other).sum::<u64>(),
        msrs
    );
}

/// Every detail of a report with this kind: by key, direction and size its exits.
fn of_kind(report: &Report, kind: &str) -> BTreeMap<(u64, bool, u64), u64> {
    let rows = report.0["rows"].as_array().unwrap().iter();
    let mut found = BTreeMap::new();
    for detail in rows.flat_map(|row| row["details"].as_array().into_iter().flatten()) {
        if detail["kind"] == kind {
            let key = detail["key"].as_u64().unwrap();
            let size = detail["size"].as_u64().unwrap_or(0);
            let count = detail["count"].as_u64().unwrap();
            *found.entry((key, detail["write"].as_bool().unwrap(), size)).or_default() += count;
        }
    }
    found
}

/// Exits of all rows of a reason.
fn rows_of(report: &Report, reason: &str) -> u64 {
    let rows = report.0["rows"].as_array().unwrap().iter().filter(|row| row["reason"] == reason);
    rows.map(|row| row["count"].as_u64().unwrap()).sum()
}

/// Sums of the exits for each code, of any kind of detail: row, details and others add up, in number and in time.
fn assert_whole(report: &Report) {
    for row in report.0["rows"].as_array().unwrap() {
        if row["details"].is_array() {
            let details = row["details"].as_array().unwrap().iter();
            let sum: u64 = details.map(|detail| detail["count"].as_u64().unwrap()).sum();
            assert_eq!(sum + row["details_other"].as_u64().unwrap(), row["count"].as_u64().unwrap(), "{row}");
            assert_times(row, true);
        }
    }
}

fn all_kinds(guest: &[&str]) -> (String, Report) {
    let file = Scratch::new("kinds");
    let mut command = exitscope();
    command
        .args(["stat", "-f", "json", "--source", best_source(), "--details", "all", "-o"])
        .arg(&file)
        .arg("--");
    let said = succeed(command.arg(guest_program()).args(guest));
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert_whole(&report);
    (said, report)
}

#[test]
fn leaves_hypercalls_addresses_and_ports_are_counted_as_often_as_they_were_used() {
    let (said, report) = all_kinds(&["about"]);
    let planned: Value = serde_json::from_str(&said).unwrap();
    let planned = planned.as_array().unwrap();
    assert!(planned.len() > 10);
    for about in planned {
        let is_this = |detail: &&Value| {
            let same = |key: &str| detail[key].as_u64().unwrap_or(0) == about[key].as_u64().unwrap();
            let flags = detail["flags"].as_array().map_or(&[][..], Vec::as_slice);
            detail["kind"] == about["kind"]
                && detail["write"] == about["write"]
                && same("key")
                && same("size")
                && flags == about["flags"].as_array().unwrap()
        };
        let count: u64 =
            rows_with_details(&report).filter(is_this).map(|detail| detail["count"].as_u64().unwrap()).sum();
        let of = of_kind(&report, about["kind"].as_str().unwrap());
        assert_eq!(Some(count), about["count"].as_u64(), "{about} in {of:x?}");
    }
    // Nothing else, but for memory and the accesses by which KVM learns that there is none.
    for kind in ["cpuid", "hypercall", "port"] {
        let of = planned.iter().filter(|about| about["kind"] == kind);
        let sum: u64 = of.map(|about| about["count"].as_u64().unwrap()).sum();
        assert_eq!(of_kind(&report, kind).values().sum::<u64>(), sum, "{kind}");
    }
    let names = report.0["rows"].to_string();
    for name in ["KVM_HC_SCHED_YIELD", "XSAVE", "\"flags\":[\"memory\"]"] {
        assert!(names.contains(name), "no {name} in {names}");
    }
}

#[test]
fn registers_and_vectors_are_counted_as_often_as_they_were_used() {
    let (said, report) = all_kinds(&["run", "1"]);
    let vmx = said.contains("hardware: vmx");
    let made = |kind: &str| -> u64 {
        let line =
            said.lines().find(|line| line.starts_with("vCPU 0 code") && line.ends_with(&format!(" {kind}")));
        line.map_or(0, |line| line.split_whitespace().nth(5).unwrap().parse().unwrap())
    };
    let count = |kind: &str, key: u64, write: bool| {
        of_kind(&report, kind)
            .iter()
            .filter(|((k, w, _), _)| (*k, *w) == (key, write))
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    let mut expected = vec![
        ("cr", 0, true, made("cr0-write")),
        ("cr", 4, true, made("cr4-write")),
        ("cr", 8, true, made("cr8-write")),
        ("dr", 0, false, made("dr-read")),
        ("dr", 3, true, made("dr-write")),
        ("pmc", 0, false, made("rdpmc")),
        ("xcr", 0, false, made("xsetbv")),
        ("mwait", 0x10, false, made("mwait")),
        ("cpuid", 0, false, made("cpuid")),
        ("hypercall", 1, false, made("hypercall")),
        ("port", 0x510, true, made("port-out")),
        ("msr", 0x17a, true, made("msr-write")),
    ];
    if vmx {
        expected.push(("cr", 8, false, made("cr8-read")));
        expected.push(("vector", 3, false, made("breakpoint")));
        expected.push(("vector", 1, false, made("debug-trap")));
        expected.push(("vector", 6, false, made("undefined-opcode")));
    }
    assert!(expected.iter().filter(|(.., made)| *made > 0).count() > 7, "{said}");
    // Before its plan the guest finds out what exits here, by so many of each.
    let probed = 256;
    for (kind, key, write, made) in expected.into_iter().filter(|(.., made)| *made > 0) {
        let made = made + probed;
        assert_eq!(count(kind, key, write), made, "{kind} {key:#x} {write}: {:x?}", of_kind(&report, kind));
    }
    if vmx {
        let (interrupts, told) = (rows_of(&report, "EXTERNAL_INTERRUPT"), of_kind(&report, "host-vector"));
        assert_eq!(told.values().sum::<u64>(), interrupts, "{told:x?}");
    }
}

/// The plain tracepoints do not say it, and without the split it is not asked for.
#[test]
fn what_is_not_counted_is_null() {
    for option in ["--source=tracepoint", "--no-split", "--no-time"] {
        let file = Scratch::new("none");
        let mut command = exitscope();
        command.args(["stat", "-f", "json", option, "-o"]).arg(&file).arg("--");
        succeed(command.arg(guest_program()).args(["details", "10", "1"]));
        let report = Report::parse(&file.read());
        let rows = report.0["rows"].as_array().unwrap();
        assert!(rows.len() > 1);
        for row in rows {
            assert_eq!([&row["details"], &row["details_other"]], [&Value::Null; 2], "{option}: {row}");
        }
    }
}
