//! Guests, VMMs and hosts that make counting hard: what is counted of others stays exact, and what is not counted is told,
//! with who is to blame.

use super::tool::{
    Background, Report, Scratch, all, exitscope, guest_program, succeed, wait_for, wait_until_counting,
};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

/// A guest program that answers lines.
struct Guest {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Guest {
    fn start(arguments: &[&str]) -> Guest {
        let mut command = Command::new(guest_program());
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Guest { child, input, output: BufReader::new(output).lines() }
    }

    fn pid(&self) -> u64 {
        self.child.id().into()
    }

    fn answer(&mut self) -> Value {
        let line = self.output.next().expect("an answer of the guest").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    fn say(&mut self, line: &str) -> Value {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.answer()
    }

    /// Closes its input, and waits for its end. Returns its last answers.
    fn end(mut self) -> Vec<Value> {
        self.input = None;
        let rest = self.output.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

/// A watcher with options, which has begun to count.
fn watch(file: &Scratch, options: &[&str]) -> Background {
    let watcher = Background::start(exitscope().args(["stat", "-f", "json", "-o"]).arg(file).args(options));
    wait_until_counting(&watcher);
    watcher
}

fn finish(watcher: Background) -> Output {
    watcher.signal(libc::SIGTERM);
    let output = watcher.finish();
    assert!(output.status.success(), "{}", all(&output));
    output
}

/// Exits of one process: by KVM's count, by ours, and the sum of its rows.
fn of_process(report: &Report, pid: u64) -> [u64; 3] {
    let list = |key: &str| report.0[key].as_array().unwrap().iter().filter(|of| of["pid"] == pid);
    let sum = |key: &str, figure: &str| list(key).map(|of| of[figure].as_u64().unwrap()).sum::<u64>();
    [sum("vcpus", "kvm_exits"), sum("vcpus", "exits"), sum("rows", "count")]
}

/// The quiet VM, told apart to the exit: what it did by what it says, by KVM, and by its rows and their details.
fn assert_exact(report: &Report, pid: u64, done: &Value) {
    let vcpu = &done["vcpus"][0];
    let kvm = vcpu["kvm_exits"].as_u64().unwrap();
    assert_eq!(of_process(report, pid), [kvm; 3], "{done}");
    let rows = || report.0["rows"].as_array().unwrap().iter().filter(|row| row["pid"] == pid);
    for (code, count) in vcpu["codes"].as_object().unwrap() {
        let code: i64 = code.parse().unwrap();
        let row = rows().find(|row| row["code"] == code).unwrap_or_else(|| panic!("no row of {code:#x}"));
        assert_eq!(&row["count"], count, "{row}");
        if let Some(details) = row["details"].as_array() {
            assert_eq!(row["details_other"], 0, "{row}");
            let sum: u64 = details.iter().map(|detail| detail["count"].as_u64().unwrap()).sum();
            let over = row["histogram"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap());
            let over = over.sum::<u64>();
            let count = count.as_u64().unwrap();
            // The last exit has no time while it is being handled, or if its VM ended in it; and a detail in the latter
            // case alone.
            assert!(count - over <= 1 && (sum == over || sum == count), "{row}");
        }
    }
}

/// One VM uses up all that it can: the quiet one beside it is counted to the exit, with its details, whichever came first;
/// and who holds the most is named.
#[test]
fn a_vm_that_floods_the_tables_takes_nothing_from_a_quiet_one() {
    let file = Scratch::new("flood");
    let watcher = watch(&file, &["--max-rows", "400", "--max-vcpus", "34"]);
    let mut before = Guest::start(&["many", "1", "20"]);
    before.say("");
    let flood = Command::new(guest_program()).args(["flood", "32", "2048"]).stdout(Stdio::piped()).spawn();
    let flood = flood.unwrap();
    let pid = flood.id();
    let output = flood.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", all(&output));
    // Its places are not given back yet.
    let mut after = Guest::start(&["many", "1", "20"]);
    after.say("");
    before.say("");
    let (old, new) = (before.say("show"), after.say("show"));
    let pids = (before.pid(), after.pid());
    let said = all(&finish(watcher));
    let report = Report::parse(&file.read());
    assert_exact(&report, pids.0, &old);
    assert_exact(&report, pids.1, &new);
    let flooded: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(flooded.len(), 32);
    assert!(flooded.iter().all(|vcpu| (&vcpu["writes"], &vcpu["reads"]) == (&json!(2048), &json!(2048))));
    // Of the flood itself each exit is in a vCPU's total, or told as lost; and by reason, or told as without.
    let kvm: u64 = flooded.iter().map(|vcpu| vcpu["kvm_exits"].as_u64().unwrap()).sum();
    let [_, counted, rows] = of_process(&report, pid.into());
    let loss = |figure: &str| report.0["loss"][figure].as_u64().unwrap();
    assert_eq!(counted + loss("no_vcpu"), kvm, "{}", report.0["loss"]);
    assert_eq!(rows + loss("no_row"), counted, "{}", report.0["loss"]);
    assert!(loss("no_row") > 0 && loss("no_vcpu") > 0, "{}", report.0["loss"]);
    let holders = report.0["holders"].as_array().unwrap();
    for figure in ["no_row", "no_vcpu"] {
        let holder = holders.iter().find(|holder| holder["figure"] == figure).expect(figure);
        assert_eq!(holder["pid"], pid, "{holder}");
        let (held, of) = (holder["held"].as_u64().unwrap(), holder["of"].as_u64().unwrap());
        assert!(held * 2 > of && held < of, "{holder}");
    }
    drop((said, before.end(), after.end()));
}

/// vCPUs that are made and destroyed as fast as can be for a minute: a VM beside them is counted to the exit, and of the others
/// each exit is counted or told as lost.
#[test]
fn vcpus_that_come_and_go_for_a_minute_leave_room_for_others() {
    let file = Scratch::new("spin");
    let watcher = watch(&file, &["--max-vcpus", "12"]);
    let spin = Guest::start(&["spin"]);
    let mut quiet = Vec::new();
    let start = SystemTime::now();
    while start.elapsed().is_ok_and(|passed| passed < Duration::from_secs(60)) {
        let mut guest = Guest::start(&["many", "1", "20"]);
        guest.say("");
        guest.say("");
        let (pid, done) = (guest.pid(), guest.say("show"));
        guest.end();
        quiet.push((pid, done));
        sleep(Duration::from_secs(5));
    }
    let spinning = spin.pid();
    let made = spin.end().pop().unwrap().as_u64().unwrap();
    finish(watcher);
    let report = Report::parse(&file.read());
    for (pid, done) in &quiet {
        assert_exact(&report, *pid, done);
    }
    let seen = report.0["vcpus"].as_array().unwrap().iter().filter(|vcpu| vcpu["pid"] == spinning).count();
    let lost = report.0["loss"]["no_vcpu"].as_u64().unwrap();
    println!("{made} VMs, {seen} seen, {lost} exits lost, {} quiet ones", quiet.len());
    assert!(made > 100 && quiet.len() > 3);
    assert!(seen as u64 == made || lost > 0, "{made} VMs, {seen} seen, nothing lost");
    for vcpu in report.0["vcpus"].as_array().unwrap() {
        assert_eq!(vcpu["exits"], vcpu["kvm_exits"], "{vcpu}");
    }
}

/// A command line that changes while it is read: whatever was read is shown harmlessly, and the counts are right.
#[test]
fn a_command_line_that_is_rewritten_while_it_is_read_harms_nothing() {
    let (file, recording) = (Scratch::new("rewrite"), Scratch::new("rewrite.rec"));
    let watcher = watch(&file, &["-i", "200ms"]);
    let recorder = Background::start(exitscope().arg("record").arg("-o").arg(&recording));
    wait_until_counting(&recorder);
    let mut counts = Vec::new();
    for _ in 0..8 {
        let mut guest = Guest::start(&["rewrite", "50"]);
        guest.say("");
        let done = guest.say("show")["vcpus"][0]["kvm_exits"].as_u64().unwrap();
        counts.push((guest.pid(), done));
        guest.end();
    }
    finish(watcher);
    finish(recorder);
    let text = file.read();
    let control =
        |text: &str| text.chars().any(|char| char.is_control() && char != '\n' || char == '\u{202e}');
    assert!(!control(&text), "control characters in JSON");
    let blocks: Vec<Report> = text.lines().map(Report::parse).collect();
    for (pid, done) in counts {
        let sum: u64 = blocks.iter().map(|block| of_process(block, pid)[1]).sum();
        assert_eq!(sum, done);
        for block in &blocks {
            for vm in block.0["vms"].as_array().unwrap() {
                assert!(vm["vm"].as_str().unwrap().len() <= 256, "{vm}");
            }
        }
    }
    let report = succeed(exitscope().arg("report").arg(&recording));
    assert!(!control(&report) && !report.contains("data=abc"), "{report}");
}

fn set_clock(to: Duration) {
    let time =
        libc::timespec { tv_sec: i64::try_from(to.as_secs()).unwrap(), tv_nsec: to.subsec_nanos().into() };
    // SAFETY: the time is valid for reading.
    assert_eq!(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }, 0, "as root");
}

/// A clock that is set forward and back while counting: lengths are those of another clock, and each exit is counted once.
#[test]
fn a_clock_set_back_and_forth_changes_no_figure() {
    let (file, recording) = (Scratch::new("clock"), Scratch::new("clock.rec"));
    let watcher = watch(&file, &["-i", "200ms"]);
    let recorder = Background::start(exitscope().args(["record", "-i", "200ms", "-o"]).arg(&recording));
    wait_until_counting(&recorder);
    let mut guest = Guest::start(&["many", "1", "50"]);
    let (begin, monotonic) =
        (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap(), std::time::Instant::now());
    for round in 0..10 {
        let hour = Duration::from_secs(3600);
        let now = begin + monotonic.elapsed();
        set_clock(if round % 2 == 0 { now + hour } else { now - hour });
        guest.say("");
        sleep(Duration::from_millis(300));
    }
    set_clock(begin + monotonic.elapsed());
    let (pid, done) = (guest.pid(), guest.say("show"));
    guest.end();
    let length = monotonic.elapsed().as_secs_f64();
    finish(watcher);
    finish(recorder);
    let kvm = done["vcpus"][0]["kvm_exits"].as_u64().unwrap();
    let blocks: Vec<Report> = file.read().lines().map(Report::parse).collect();
    for figure in 0..3 {
        assert_eq!(blocks.iter().map(|block| of_process(block, pid)[figure]).sum::<u64>(), kvm);
    }
    let report = Report::parse(&succeed(exitscope().args(["report", "-f", "json"]).arg(&recording)));
    assert_eq!(of_process(&report, pid), [kvm; 3]);
    // The page is that of so many seconds, and not of hours.
    let table = succeed(exitscope().args(["report"]).arg(&recording));
    assert!(length < 600.0 && !table.contains(" h in") && table.contains(" s, "), "{table}");
}

/// Vendor modules that are taken out and put back while counting: refused while a program hangs on them, or counting goes on.
#[test]
fn the_vendor_module_is_unloaded_and_loaded_while_counting() {
    let vendor = if std::path::Path::new("/sys/module/kvm_amd").exists() { "kvm_amd" } else { "kvm_intel" };
    for source in ["btf", "tracepoint"] {
        let file = Scratch::new("module");
        let options = ["stat", "-f", "json", "-i", "300ms", "--source", source, "-o"];
        let watcher = Background::start(exitscope().args(options).arg(&file));
        wait_for("an interval", || std::fs::metadata(file.as_ref()).is_ok_and(|file| file.len() > 0));
        let mut counts = Vec::new();
        let mut count = || {
            let mut guest = Guest::start(&["many", "1", "30"]);
            guest.say("");
            counts.push((guest.pid(), guest.say("show")["vcpus"][0]["kvm_exits"].as_u64().unwrap()));
            guest.end();
        };
        count();
        let mut unloaded = 0;
        for _ in 0..3 {
            let output = Command::new("rmmod").arg(vendor).output().unwrap();
            if output.status.success() {
                unloaded += 1;
                succeed(Command::new("modprobe").arg(vendor));
            } else {
                assert!(all(&output).contains("in use"), "{}", all(&output));
            }
            count();
        }
        let kvm = Command::new("rmmod").arg("kvm").output().unwrap();
        assert!(!kvm.status.success() && all(&kvm).contains("in use"), "{}", all(&kvm));
        finish(watcher);
        let blocks: Vec<Report> = file.read().lines().map(Report::parse).collect();
        println!("{source}: {vendor} unloaded {unloaded} times of 3");
        for (pid, kvm) in counts {
            let [counted, rows] =
                [1, 2].map(|figure| blocks.iter().map(|block| of_process(block, pid)[figure]).sum::<u64>());
            assert_eq!([counted, rows], [kvm; 2], "{source}, after {unloaded} times");
        }
        assert!(blocks.iter().all(|block| block.number("lost") == 0));
    }
}

/// Without the program on exits, a VMM that has closed its descriptors is counted if it was met before; if it was not, its exits
/// are told as nobody's, and it is met when it runs.
#[test]
fn closed_descriptors_hide_nobody_from_kvms_own_statistics() {
    let file = Scratch::new("hide");
    let mut met = Guest::start(&["hide"]);
    assert_eq!(met.answer(), "hidden");
    let watcher = Background::start(
        exitscope().args(["stat", "--source", "kvmstat", "-i", "300ms", "-f", "json", "-o"]).arg(&file),
    );
    wait_for("an interval", || std::fs::metadata(file.as_ref()).is_ok_and(|file| file.len() > 0));
    let mut hidden = Guest::start(&["hide"]);
    assert_eq!(hidden.answer(), "hidden");
    let blocks = |file: &Scratch| {
        let text = file.read();
        let whole = text.rsplit_once('\n').map_or(String::new(), |(whole, _)| whole.to_owned());
        whole.lines().map(Report::parse).collect::<Vec<_>>()
    };
    for guest in [&met, &hidden] {
        wait_for("exits of a VM without descriptors", || {
            let exits = blocks(&file).iter().map(|block| of_process(block, guest.pid())[1]).sum::<u64>();
            exits > 5000
        });
    }
    let at_least =
        blocks(&file).iter().map(|block| block.0["loss"]["no_vcpu"].as_u64().unwrap()).sum::<u64>();
    assert!(at_least > 0, "exits before the VM was met are nobody's");
    let pids = [met.pid(), hidden.pid()];
    drop((met.end(), hidden.end()));
    let ended = |pid: u64| {
        let blocks = blocks(&file);
        blocks.iter().any(|block| {
            block.0["vms"].as_array().unwrap().iter().any(|vm| vm["pid"] == pid && vm["ended"] == true)
        })
    };
    wait_for("their end", || pids.iter().all(|pid| ended(*pid)));
    let said = all(&finish(watcher));
    assert!(!said.contains("is not counted"), "{said}");
}
