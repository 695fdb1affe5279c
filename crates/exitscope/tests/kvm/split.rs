//! Where the time of exits went, against what the VMM saw by its own clocks and what KVM itself keeps.
//!
//! No bound is a constant: all come from clocks that were read around the same thing, so that the speed of the machine,
//! and what else runs on it, decide nothing. `CLOCK_MONOTONIC` and the scheduler's run delay are the same for the VMM,
//! KVM and exitscope.

use super::tool::{Background, Report, Scratch, exitscope, guest_program, succeed};
use super::trace::Histogram;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// Report of exitscope, and what the VMM said of the same VM.
struct Watched {
    report: Report,
    said: Value,
}

/// A number by its path, e.g. `start/at_ns`.
fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(&format!("/{path}")).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number {path} in {value}"))
}

/// Host time and what it is made of.
const PARTS: [&str; 4] = ["kernel_ns", "user_ns", "halted_ns", "waiting_ns"];

fn sum(value: &Value, parts: &[&str]) -> u64 {
    parts.iter().map(|part| number(value, part)).sum()
}

/// Watches the guest, whose words may begin with a program that starts it.
fn stat(options: &[&str], before: &[&str], guest: &[&str]) -> (Command, Scratch) {
    let file = Scratch::new("split");
    let mut command = exitscope();
    command.args(["stat", "-f", "json"]).args(options).arg("-o").arg(&file).arg("--").args(before);
    command.arg(guest_program()).args(guest);
    (command, file)
}

impl Watched {
    fn run(before: &[&str], guest: &[&str]) -> Watched {
        let (mut command, file) = stat(&[], before, guest);
        let said = succeed(&mut command);
        Watched::of(&said, &file)
    }

    fn of(said: &str, file: &Scratch) -> Watched {
        let said = serde_json::from_str(said).unwrap_or_else(|error| panic!("{error} in {said:?}"));
        let watched = Watched { report: Report::parse(&file.read()), said };
        watched.report.assert_proven();
        watched.assert_sums();
        watched
    }

    fn said(&self, path: &str) -> u64 {
        number(&self.said, path)
    }

    fn rows(&self) -> &[Value] {
        self.report.0["rows"].as_array().unwrap()
    }

    /// The row of one of these reasons, one for each hardware.
    fn row(&self, reasons: &[&str]) -> &Value {
        let is = |row: &&Value| reasons.contains(&row["reason"].as_str().unwrap());
        self.rows().iter().find(is).unwrap_or_else(|| panic!("no {reasons:?} in {}", self.report.0))
    }

    fn io(&self) -> &Value {
        self.row(&["IOIO", "IO_INSTRUCTION"])
    }

    /// The only vCPU, with its time.
    fn time(&self) -> &Value {
        let vcpus = self.report.0["vcpus"].as_array().unwrap();
        assert_eq!(vcpus.len(), 1, "{}", self.report.0);
        &vcpus[0]
    }

    /// Asserts what holds whatever a guest does: each part of a time is told once, and none twice.
    fn assert_sums(&self) {
        for row in self.rows() {
            assert_eq!(sum(row, &PARTS), number(row, "time_ns"), "{row}");
            assert!(number(row, "polled_ns") <= number(row, "halted_ns"), "{row}");
            let returned: u64 =
                row["returns"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            let out = number(row, "user_exits");
            assert!(out <= returned && out <= number(row, "count") && (out > 0) == (returned > 0), "{row}");
        }
        let time = self.time();
        // A row has the exits that have entered again, the vCPU all of its time.
        for part in PARTS.into_iter().chain(["polled_ns"]) {
            let rows: u64 = self.rows().iter().map(|row| number(row, part)).sum();
            assert!(rows <= number(time, part), "{part}: {rows} in rows, and {time}");
        }
        // It was watched from its first exit, which came in the first KVM_RUN, to its end.
        assert_eq!(sum(time, &PARTS), number(time, "host_ns"), "{time}");
        assert!(number(time, "guest_ns") <= self.said("in_kvm_ns"), "{time}, {}", self.said);
        let watched = number(time, "host_ns") + number(time, "guest_ns");
        assert!(watched >= self.said("last_return/at_ns") - self.said("first_return/at_ns"), "{time}");
        if self.said("end/at_ns") > 0 {
            assert!(
                watched <= self.said("end/at_ns") - self.said("start/at_ns"),
                "{watched}: {time}, {}",
                self.said
            );
        }
    }
}

/// A VMM that sleeps after each port write; at the last one it ends the VM, in user space.
#[test]
fn time_in_the_vmm_is_the_users() {
    let (writes, sleep_ns) = (200, 5_000_000);
    let watched = Watched::run(&[], &["sleep", &writes.to_string(), &sleep_ns.to_string()]);
    let row = watched.io();
    assert_eq!(number(row, "count"), writes);
    assert_eq!(number(row, "user_exits"), writes, "{row}");
    assert_eq!(row["returns"], json!({ "IO": writes }));
    assert_eq!(number(row, "halted_ns"), 0, "{row}");
    // After all but the last it entered again.
    let (in_vmm, in_kvm) = (watched.said("in_vmm_ns"), watched.said("in_kvm_ns"));
    assert!(in_vmm >= (writes - 1) * sleep_ns);
    let (user, waiting) = (number(row, "user_ns"), number(row, "waiting_ns"));
    let delay = watched.said("end/delay_ns") - watched.said("start/delay_ns");
    assert!(waiting <= delay, "waited {delay}: {row}");
    assert!(user + waiting >= in_vmm, "{in_vmm} in the VMM: {row}");
    // KVM had no more than it was called for, and so the rest is the VMM's.
    assert!(number(row, "kernel_ns") <= in_kvm, "{in_kvm} in KVM_RUN: {row}");
    assert!(number(row, "time_ns") <= in_vmm + in_kvm, "{in_vmm} + {in_kvm}: {row}");
}

/// A guest that halts until a timer fires, with KVM blocking the vCPU, and polling.
#[test]
fn time_until_a_timer_is_halted() {
    for (how, halts, timer) in [("block", 64, 5_000_000), ("block", 64, 200_000), ("poll", 64, 2_000_000)] {
        let trace = Histogram::start("kvm_vcpu_wakeup", "keys=common_pid:vals=ns");
        let watched = Watched::run(&[], &[how, &halts.to_string(), &timer.to_string()]);
        let row = watched.row(&["HLT"]);
        let works = watched.said("works");
        assert!(works >= halts);
        assert_eq!(number(row, "count"), works, "{how}: {row}");
        assert_eq!((number(row, "user_exits"), &row["returns"]), (0, &json!({})), "{how}: {row}");
        assert_eq!(number(row, "user_ns"), 0, "{how}: {row}");

        // What KVM told of each halt, summed up by the kernel, and KVM's own statistics, which lack what little it
        // looks on after polling if the event comes then.
        let tid = watched.said("tid");
        let halted_by_kvm: Vec<u64> = trace
            .read()
            .iter()
            .filter(|row| row.number("common_pid") == tid)
            .map(|row| row.number("ns"))
            .collect();
        let [halted_by_kvm] = halted_by_kvm[..] else { panic!("{how}: {halted_by_kvm:?} of thread {tid}") };
        let polled_well = watched.said("kvm/halt_poll_success_ns");
        let polled = polled_well + watched.said("kvm/halt_poll_fail_ns");
        let kept = watched.said("kvm/halt_wait_ns") + polled;
        assert!(kept <= halted_by_kvm, "{how}: {kept} and {halted_by_kvm}");

        let (halted, waiting) = (number(row, "halted_ns"), number(row, "waiting_ns"));
        assert!(halted <= halted_by_kvm, "{how}: {halted_by_kvm} halted: {row}");
        assert!(halted + waiting >= halted_by_kvm, "{how}: {halted_by_kvm} halted: {row}");
        let ours = number(row, "polled_ns");
        assert!(ours + waiting >= polled_well, "{how}: {polled_well} polled: {row}");
        assert!(ours <= polled + (halted_by_kvm - kept), "{how}: {polled} polled: {row}");
        if how == "poll" {
            assert!(polled_well > 0, "it halts until some of the polling was worth it");
        } else {
            assert_eq!(polled, 0, "polling was turned off");
            assert!(kept > 0, "it halts until some have blocked");
        }
        assert!(number(row, "time_ns") <= watched.said("in_kvm_ns"), "{how}: {row}");
        // Every timer ran its time while something of the vCPU's time was told, and the rest was halted.
        let rest = sum(watched.time(), &["guest_ns", "kernel_ns", "user_ns", "waiting_ns"]);
        assert!(number(watched.time(), "halted_ns") + rest >= works * timer, "{how}: {}", watched.time());
    }
}

/// A vCPU that shares its CPU with somebody busy.
#[test]
fn time_without_a_cpu_is_waiting() {
    let pinned = ["taskset", "-c", "0"];
    let mut busy = Command::new(pinned[0]);
    let busy = Background::start(busy.args(&pinned[1..]).args(["sh", "-c", "while :; do :; done"]));
    let watched = Watched::run(&pinned, &["share", "200000000"]);
    drop(busy);
    assert_eq!(number(watched.row(&["CPUID"]), "count"), watched.said("works"));
    let delay = |from: &str, to: &str| {
        watched.said(&format!("{to}/delay_ns")) - watched.said(&format!("{from}/delay_ns"))
    };
    // Between these it was watched; and it was watched at most between those.
    let (least, most) = (delay("first_return", "last_call"), delay("start", "end"));
    assert!(least >= 200_000_000, "it runs until it has waited so long");
    // The scheduler's clock is the TSC. Where the kernel does not trust that, it is off by up to a tick, one way or the
    // other (kernel/sched/clock.c), and of a wait that seems longer than the exit the excess is no time of anything.
    let clock = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let off = least / if clock.unwrap().trim() == "tsc" { 1000 } else { 2 };
    let waiting = number(watched.time(), "waiting_ns");
    assert!(
        (least - off..=most).contains(&waiting),
        "{waiting} is not in {least}..={most}: {}",
        watched.report.0
    );
}

/// A guest that writes its TSC, and one that KVM keeps a clock for; its VMM writes the TSC, too. Where an exit's moment is read
/// from the TSC that is nothing to be seen of: each exit has a time, and no more than the VMM saw.
#[test]
fn a_tsc_that_is_written_changes_no_time() {
    const MSRS: [&str; 2] = ["MSR", "MSR_WRITE"];
    let writes = 50;
    let watched = Watched::run(&[], &["tsc", &writes.to_string()]);
    let (in_vmm, in_kvm) = (watched.said("in_vmm_ns"), watched.said("in_kvm_ns"));
    let msr = watched.row(&MSRS);
    assert_eq!(number(msr, "count"), 3 * watched.said("works"), "{msr}");
    assert!(number(msr, "min_ns") > 0, "{msr}");
    assert!(number(msr, "time_ns") <= in_kvm, "{in_kvm} in KVM_RUN: {msr}");
    let io = watched.io();
    assert_eq!((number(io, "count"), number(io, "user_exits")), (writes, writes), "{io}");
    assert!(number(io, "user_ns") + number(io, "waiting_ns") >= in_vmm, "{in_vmm} in the VMM: {io}");
    assert!(number(io, "time_ns") <= in_vmm + in_kvm, "{in_vmm} + {in_kvm}: {io}");

    // Without the programs that see where time goes.
    let (mut command, file) = stat(&["--no-split"], &[], &["tsc", &writes.to_string()]);
    let said: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert_eq!(report.0["loss"]["untimed"], 0, "{}", report.0);
    let rows = report.0["rows"].as_array().unwrap();
    let msr = rows.iter().find(|row| MSRS.contains(&row["reason"].as_str().unwrap())).unwrap();
    assert!(number(msr, "min_ns") > 0, "{msr}");
    assert!(number(msr, "time_ns") <= number(&said, "in_kvm_ns"), "{msr}, {said}");
    let host: u64 = rows.iter().map(|row| number(row, "time_ns")).sum();
    assert!(host <= number(&said, "in_kvm_ns") + number(&said, "in_vmm_ns"), "{}, {said}", report.0);
}

/// A VM that dies of a signal in the middle of what the VMM does about an exit.
#[test]
fn a_vm_that_dies_in_user_space_is_told_to_its_end() {
    let (mut command, file) = stat(&[], &[], &["die", "50"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(128 + libc::SIGKILL), "{:?} {output:?}", output.status.signal());
    let watched = Watched::of(std::str::from_utf8(&output.stdout).unwrap(), &file);
    let row = watched.io();
    assert_eq!((number(row, "count"), number(row, "user_exits")), (50, 50), "{row}");
    assert_eq!(row["returns"], json!({ "IO": 50 }));
    assert!(number(row, "user_ns") + number(row, "waiting_ns") >= watched.said("in_vmm_ns"), "{row}");
}

/// A figure that is not measured is null, not 0; what is counted stays the same.
#[test]
fn less_is_measured_where_less_is_asked_for() {
    let split = ["kernel_ns", "user_ns", "halted_ns", "polled_ns", "waiting_ns", "user_exits", "returns"];
    let times = ["time_ns", "min_ns", "max_ns"];
    for (options, null) in
        [(&[][..], 0), (&["--no-split"], split.len()), (&["--no-time"], split.len() + times.len())]
    {
        for (guest, reasons, count) in [
            (&["sleep", "20", "1000"], ["IOIO", "IO_INSTRUCTION"], 20),
            (&["only", "cpuid", "777"], ["CPUID"; 2], 777),
        ] {
            let (mut command, file) = stat(options, &[], guest);
            succeed(&mut command);
            let report = Report::parse(&file.read());
            report.assert_proven();
            let rows = report.0["rows"].as_array().unwrap();
            let row = rows.iter().find(|row| reasons.contains(&row["reason"].as_str().unwrap())).unwrap();
            assert_eq!(number(row, "count"), count, "{options:?}: {row}");
            for (at, key) in split.iter().chain(&times).enumerate() {
                let value = row.get(key).unwrap_or_else(|| panic!("no {key} in {row}"));
                assert_eq!(value.is_null(), at < null, "{options:?} {key}: {row}");
            }
            for (key, needs) in [("guest_ns", 1), ("host_ns", 1), ("user_ns", 2), ("polled_ns", 2)] {
                let value = &report.0["vcpus"][0][key];
                let have = ["counts", "times", "split"].iter().position(|have| report.0["measured"] == *have);
                assert_eq!(value.is_null(), have.unwrap() < needs, "{options:?} {key}: {value}");
            }
        }
    }
}
