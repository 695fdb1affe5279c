//! Recordings of the console, phases and marks beside the counts.

use super::tool::{Background, Report, Scratch, all, exitscope, guest_program, succeed, wait_for};
use serde_json::Value;
use std::process::Command;

const EXITSCOPE: &str = env!("CARGO_BIN_EXE_exitscope");

/// A machine that says what it does, and exits as it says: in long mode, in the lower half of the addresses.
fn machine(end: &str) -> String {
    let guest = guest_program();
    let guest = guest.display();
    format!(
        "printf 'SeaBIOS (version 1)\\r\\n'; sleep 1; {guest} only cpuid 200; sleep 1\n\
         printf '[    0.0] Linux version 6.1.0\\n'; sleep 1; {guest} only wbinvd 100; sleep 1\n\
         printf '[    1.0] Run /init as init process\\n'; sleep 1; {guest} only port-out 1500; sleep 1\n\
         {end}"
    )
}

fn report(file: &Scratch, words: &[&str]) -> Report {
    Report::parse(&succeed(exitscope().arg("report").arg(file).args(["-f", "json"]).args(words)))
}

fn beside(file: &Scratch, suffix: &str) -> std::ffi::OsString {
    let mut name = std::ffi::OsStr::new(file).to_owned();
    name.push(suffix);
    name
}

/// The report of a boot's recording is what the boot itself printed, to the letter.
#[test]
fn a_recorded_boot_is_reported_as_it_was_told() {
    let (file, told) = (Scratch::new("recorded"), Scratch::new("told"));
    let mut command = exitscope();
    command.args(["boot", "-r"]).arg(&file).arg("-o").arg(&told);
    let end = format!("{EXITSCOPE} mark half '\u{1b}[2J' way\nprintf '<b>one login: '; exec sleep 98755");
    let output = command.args(["--", "sh", "-c", &machine(&end)]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    assert!(all(&output).contains("marked in 1 recorder"), "{}", all(&output));
    let told = told.read();
    assert_eq!(succeed(exitscope().arg("report").arg(&file)), told);
    for words in ["  by hand  half \\x1b[2J way\n", "until \"<b>one login:\" on the console", ", equal."] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
    report(&file, &[]).assert_proven();

    // Its phases, one by one and together.
    let exits = |words: &[&str]| report(&file, words).number("total");
    let kernel = report(&file, &["--phase", "kernel"]);
    let most = kernel.counts().into_iter().max_by_key(|(_, count)| *count).unwrap();
    assert_eq!((most.0.3.as_str(), most.1), ("WBINVD", 100), "{}", kernel.0);
    let names = ["firmware", "kernel decompression", "kernel", "initramfs"];
    let sum: u64 = names[1..].iter().map(|name| exits(&["--phase", name])).sum();
    assert_eq!(exits(&["--phase", &names.join(",")]), sum);
    assert_eq!(exits(&[]), sum, "the machine did nothing before it said anything");
    let unknown = exitscope().arg("report").arg(&file).args(["--phase", "kern"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        all(&unknown).contains("has no phase \"kern\": it has \"start\", \"firmware\""),
        "{}",
        all(&unknown)
    );
}

/// The same machine twice: the same phases, each with the same exits for what it did.
#[test]
fn a_boot_recorded_twice_gives_the_same_phases() {
    let file = Scratch::new("twice");
    let mut command = exitscope();
    command
        .args(["boot", "--runs", "2", "--format", "json", "--until-mark", "^done$", "--record"])
        .arg(&file);
    let end = format!("printf 'a login: \\n'; {EXITSCOPE} mark done; exec sleep 98754");
    let output = command.args(["--", "sh", "-c", &machine(&end)]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let boots: Vec<Value> = said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(boots.len(), 2, "{said}");
    let reasons =
        [("kernel decompression", "CPUID", 200), ("kernel", "WBINVD", 100), ("initramfs", "IOIO", 1500)];
    let mut names = Vec::new();
    for (number, boot) in boots.iter().enumerate() {
        let phases = boot["phases"].as_array().unwrap();
        for (name, reason, count) in reasons {
            let phase = phases.iter().find(|phase| phase["phase"] == name).unwrap();
            let mut found = phase["reasons"].as_array().unwrap().iter();
            let found = found.find(|found| found["reason"] == reason);
            assert_eq!(found.unwrap()["count"], count, "{phase}");
        }
        // And the burst when it was.
        let [from, to] = [0.0, 1.0].map(|end| {
            let phase = phases.iter().find(|phase| phase["phase"] == "initramfs").unwrap();
            phase["from"].as_f64().unwrap() + end * phase["seconds"].as_f64().unwrap()
        });
        let mut spikes = boot["spikes"].as_array().unwrap().iter();
        let burst = spikes.find(|spike| spike["reasons"][0]["reason"] == "IOIO").unwrap();
        let at = burst["from"].as_f64().unwrap();
        assert!(from <= at && at < to && burst["phase"] == "initramfs", "{boot}");
        names.push(phases.iter().map(|phase| phase["phase"].clone()).collect::<Vec<_>>());
        assert_eq!(boot["exits"], boot["kvm_exits"], "{boot}");
        assert_eq!((&boot["end"], &boot["lost"]), (&"the mark \"done\"".into(), &0.into()));
        let path = beside(&file, &format!("-{}", number + 1));
        let reported = succeed(exitscope().arg("report").arg(&path).args(["-f", "json"]));
        assert_eq!(Report::parse(&reported).number("total"), boot["exits"]);
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(names[0], ["start", "firmware", "kernel decompression", "kernel", "initramfs", "login"]);
    assert_eq!(names[0], names[1]);
}

/// Killed in the middle: what was said, and what was counted up to then, is there.
#[test]
fn a_recorder_of_a_console_that_is_killed_keeps_what_was_said() {
    let (file, pid) = (Scratch::new("said"), Scratch::new("said-pid"));
    // What runs as /init may be user space, too; the second line settles that, and until then the phase is kept back.
    let end = format!(
        "echo 'Begin: Running /scripts/init-premount ... done.'; echo $$ > {}; exec sleep 98753",
        std::path::Path::new(&pid).display()
    );
    let mut command = exitscope();
    command.args(["record", "--console", "-i", "20ms", "-o"]).arg(&file);
    let recorder = Background::start(command.args(["--", "sh", "-c", &machine(&end)]));
    let marker = recorder.pid().to_string();
    wait_for("the machine", || {
        !std::fs::read_to_string(std::ffi::OsStr::new(&pid)).unwrap_or_default().trim().is_empty()
    });
    succeed(exitscope().args(["mark", "--pid", &marker, "the last word"]));
    let nobody = exitscope().args(["mark", "--pid", "1", "x"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(all(&nobody).contains("process 1 records nothing"), "{}", all(&nobody));
    recorder.signal(libc::SIGKILL);
    // It holds standard error.
    succeed(Command::new("kill").arg(pid.read().trim()));
    recorder.finish();

    // The mark was on the disk when it was answered, and all that came before it.
    let told = all(&exitscope().arg("report").arg(&file).output().unwrap());
    for words in
        ["\nfirmware ", "\nkernel ", "\ninitramfs ", "by hand  the last word\n", "has no end", ", equal."]
    {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
    report(&file, &[]).assert_proven();
    assert_eq!(report(&file, &["--phase", "kernel"]).counts().into_values().max(), Some(100));
    // What it left is no recorder any more.
    let late = exitscope().args(["mark", "late"]).output().unwrap();
    assert_eq!(late.status.code(), Some(1), "{}", all(&late));
    assert!(all(&late).contains("nothing is recording"), "{}", all(&late));
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(beside(&file, suffix));
    }
}
