//! The switch, and the module's end and beginning.

use super::tool::{Background, Report, Scratch, all, exitscope, guest_program, succeed, wait_for};
use super::{counts, cpus, set, vendor};
use std::fs;
use std::process::Command;

pub fn remove() -> std::process::Output {
    Command::new("modprobe").args(["-r", vendor(), "kvm"]).output().unwrap()
}

fn stat(to: &Scratch) -> Command {
    let mut command = exitscope();
    command.args(["stat", "--source", "kernel", "-f", "json", "-o"]).arg(to).arg("--").arg(guest_program());
    command.args(["only", "cpuid", "700"]);
    command
}

/// It counts, exactly.
fn assert_counting() {
    let file = Scratch::new("kernel");
    succeed(&mut stat(&file));
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert!(report.counts().values().any(|count| *count == 700), "{}", report.0);
}

#[test]
fn switched_off_it_counts_nothing_and_says_so() {
    set("exitscope", "0");
    let before = cpus(&counts());
    succeed(Command::new(guest_program()).args(["only", "cpuid", "100"]));
    assert_eq!(cpus(&counts()), before);
    let output = stat(&Scratch::new("kernel")).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", all(&output));
    assert!(
        all(&output).contains("switched off; switch them on with: echo 1 >/sys/module/kvm"),
        "{}",
        all(&output)
    );
    let doctor = all(&exitscope().arg("doctor").output().unwrap());
    assert!(doctor.contains("warning  counters"), "{doctor}");
    set("exitscope", "1");
    assert!(fs::write(super::parameter("exitscope"), "maybe").is_err());
    assert_counting();
}

/// Whoever reads keeps KVM loaded: a file, and exitscope itself. Then it can be unloaded, and counts again when it is back.
#[test]
fn it_stays_while_a_file_is_open_and_comes_back() {
    let file = fs::File::open("/sys/kernel/debug/exitscope/counts").unwrap();
    // The vendor module goes, and KVM's own cannot.
    let output = remove();
    assert!(!output.status.success() && all(&output).contains("kvm is in use"), "{}", all(&output));
    assert!(fs::metadata("/sys/module/kvm").is_ok());
    succeed(Command::new("modprobe").arg(vendor()));
    drop(file);

    let watching = Background::start(exitscope().args(["stat", "--source", "kernel"]));
    let opened = || {
        let links = fs::read_dir(format!("/proc/{}/fd", watching.pid())).into_iter().flatten().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .any(|link| link.ends_with("exitscope/counts"))
    };
    wait_for("exitscope to open the counts", opened);
    assert!(!remove().status.success());
    watching.signal(libc::SIGINT);
    let output = watching.finish();
    assert!(output.status.success(), "{}", all(&output));

    let output = remove();
    assert!(output.status.success(), "{}", all(&output));
    assert!(fs::metadata("/sys/module/kvm").is_err() && fs::metadata("/sys/kernel/debug/exitscope").is_err());
    succeed(Command::new("modprobe").arg(vendor()));
    assert_eq!(cpus(&counts()), (0, 0), "it begins anew");
    assert_counting();
}
