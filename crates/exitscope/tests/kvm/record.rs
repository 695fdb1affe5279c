//! Recordings against what happened, up to the last interval, however the recording ends.

use super::tool::{Background, Report, Scratch, all, exitscope, guest_program, succeed, wait_for};
use super::turns::Turns;
use std::path::PathBuf;
use std::process::Command;

fn path(file: &Scratch, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsStr::new(file).to_owned();
    name.push(suffix);
    name.into()
}

/// Reads a recording by `exitscope report`; the error is what it printed.
fn report(file: &Scratch, words: &[&str]) -> Result<Report, String> {
    let output = exitscope().arg("report").arg(file).args(["-f", "json"]).args(words).output().unwrap();
    if !output.status.success() {
        return Err(all(&output));
    }
    Ok(Report::parse(&String::from_utf8(output.stdout).unwrap()))
}

#[test]
fn a_recording_has_what_the_guest_and_kvm_counted() {
    let file = Scratch::new("recording");
    let record = |words: &[&str]| {
        let mut command = exitscope();
        command.args(["record", "-i", "20ms", "-o"]).arg(&file).args(words).arg("--").arg(guest_program());
        command.args(["run", "2"]).output().unwrap()
    };
    let output = record(&[]);
    let text = all(&output);
    assert!(output.status.success(), "{text}");
    let whole = report(&file, &[]).unwrap();
    whole.assert_proven();
    assert!(text.contains("recorded ") && text.contains(" exits in "), "{text}");
    // The guest said what it did; before it ran, it probed, on vCPU 0.
    let said = |line: &&str| line.starts_with("vCPU 1 ") && line.ends_with(" cpuid");
    let line = text.lines().find(said).unwrap_or_else(|| panic!("{text}"));
    let done: u64 = line.rsplit(' ').nth(1).unwrap().parse().unwrap();
    let counts = whole.counts_by_process();
    let pid = *counts.keys().next().map(|(pid, ..)| pid).unwrap();
    assert_eq!(counts.get(&(pid, 1, "CPUID".into())), Some(&done), "{text}");

    // One file, of which its parts are the whole, and which is not replaced.
    assert!(!path(&file, "-wal").exists() && !path(&file, "-shm").exists());
    let (first, rest) = (report(&file, &["--to", "0.1"]).unwrap(), report(&file, &["--from", "0.5"]));
    assert!(first.number("total") <= whole.number("total"));
    if let Ok(rest) = rest {
        assert!(first.number("total") + rest.number("total") <= whole.number("total"));
    }
    let table = succeed(exitscope().arg("report").arg(&file));
    assert!(table.contains("KVM's own count") && table.contains("equal"), "{table}");
    let before = std::fs::read(path(&file, "")).unwrap();
    let refused = record(&[]);
    assert_eq!(refused.status.code(), Some(125), "{}", all(&refused));
    assert!(all(&refused).contains("exists already") && !all(&refused).contains("vCPU"), "{}", all(&refused));
    assert_eq!(std::fs::read(path(&file, "")).unwrap(), before);
    assert!(record(&["--force"]).status.success());
    let again = report(&file, &[]).unwrap();
    again.assert_proven();
    assert_ne!(again.0["start"], whole.0["start"]);
}

/// Killed while its guest is still: all that the guest did before is there, and equal to what its VMM counts.
#[test]
fn a_recorder_that_is_killed_loses_the_last_interval_at_most() {
    let file = Scratch::new("killed");
    let mut turns = Turns::start();
    turns.say("round");
    let before = turns.kvm_exits();
    let pid = turns.pid().to_string();
    let recorder = Background::start(exitscope().args(["record", "-i", "20ms", "-p", &pid, "-o"]).arg(&file));
    // It is read while it is written.
    wait_for("an interval", || report(&file, &[]).is_ok());
    for _ in 0..5 {
        turns.say("round");
    }
    let done = turns.kvm_exits() - before;
    wait_for("what was done", || report(&file, &[]).is_ok_and(|report| report.number("total") == done));
    // And once more while it is killed in the middle of it.
    let output = {
        turns.begin("round");
        recorder.signal(libc::SIGKILL);
        recorder.finish()
    };
    assert!(!output.status.success(), "it was killed: {}", all(&output));
    turns.answer();
    let after = turns.kvm_exits() - before;

    let killed = report(&file, &[]).unwrap();
    killed.assert_proven();
    let total = killed.number("total");
    assert!((done..=after).contains(&total), "{total} of {done} and then {after}");
    assert!(killed.count(turns.pid(), "CPUID") >= 5000, "{}", killed.0);
    let said = all(&exitscope().arg("report").arg(&file).output().unwrap());
    assert!(said.contains("has no end") && said.contains("equal"), "{said}");
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(path(&file, suffix));
    }
}

/// The disk has a few hundred KB.
#[test]
fn a_full_disk_ends_the_recording_and_not_the_command() {
    let folder = std::env::temp_dir().join(format!("exitscope-test-{}-full", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=500k", "none"]).arg(&folder));
    let file = folder.join("recording");
    let mut command = exitscope();
    command.args(["record", "-i", "10ms", "-o"]).arg(&file).arg("--");
    // The command ends when the recording has, whose name is then gone from its files.
    let until = "\"$0\" only cpuid 1000; \
                 while ls -l /proc/$PPID/fd | grep -q recording; do \"$0\" only cpuid 500; done; echo its end";
    let output = command.args(["sh", "-c", until]).arg(guest_program()).output().unwrap();
    let text = all(&output);
    let reported = exitscope().arg("report").arg(&file).args(["-f", "json"]).output().unwrap();
    let unmounted = Command::new("umount").arg(&folder).status().unwrap();
    let _ = std::fs::remove_dir(&folder);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for words in ["no room left", "exitscope report", "runs on", "its end"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert!(reported.status.success(), "{}", all(&reported));
    Report::parse(&String::from_utf8_lossy(&reported.stdout)).assert_proven();
    assert!(unmounted.success());
}

/// The commands of the unit for systemd, in a folder of its own: recording ends whole at its signal, and a start keeps the recording
/// before it. systemd itself is not there.
#[test]
fn the_commands_of_the_unit_record_and_keep_the_recording_before() {
    let unit = include_str!("../../../../contrib/systemd/exitscope-record.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("the unit has no {key}"))
    };
    assert_eq!(value("KillSignal"), "SIGINT");
    let program = exitscope().get_program().to_str().unwrap().to_owned();
    let start = value("ExecStart").replace("/usr/bin/exitscope", &program);
    assert!(start.contains(&program) && start.contains("--keep"), "{start}");
    let folder = std::env::temp_dir().join(format!("exitscope-test-{}-unit", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).current_dir(&folder);
        command
    };
    let file = folder.join("host.rec");
    let total = |file: &std::path::Path| {
        let output = exitscope().arg("report").arg(file).args(["-f", "json"]).output().unwrap();
        output.status.success().then(|| {
            let report = Report::parse(&String::from_utf8_lossy(&output.stdout));
            report.assert_proven();
            report.number("total")
        })
    };
    for round in 0..2 {
        succeed(&mut shell(value("ExecStartPre")));
        let recorder = Background::start(&mut shell(&start));
        wait_for("a recording", || file.exists());
        succeed(Command::new(guest_program()).args(["only", "cpuid", "1000"]));
        wait_for("its exits", || total(&file).is_some_and(|total| total >= 1000));
        recorder.signal(libc::SIGINT);
        let output = recorder.finish();
        assert!(output.status.success(), "round {round}: {}", all(&output));
        assert!(all(&output).contains("recorded "), "{}", all(&output));
        let before = folder.join("host.rec.1");
        assert_eq!(before.exists(), round == 1);
        assert!(round == 0 || total(&before).is_some_and(|total| total >= 1000));
    }
    let said = succeed(exitscope().arg("report").arg(&file));
    assert!(!said.contains("thinned"), "{said}");
    std::fs::remove_dir_all(&folder).unwrap();
}
