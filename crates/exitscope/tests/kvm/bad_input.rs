//! Errors are reported, and what was counted so far is printed.

use super::tool::{
    Background, Report, Scratch, all, exitscope, guest_program, succeed, wait_for, wait_until_counting,
    wait_until_process_counts,
};
use super::turns::Turns;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

/// Asserts that a program ended with this status, and printed these words.
pub fn assert_says(output: &Output, status: i32, words: &[&str]) {
    let text = all(output);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn stat(arguments: &[&str]) -> Output {
    exitscope().arg("stat").args(arguments).output().unwrap()
}

fn endless() -> Background {
    endless_of("cpuid")
}

fn endless_of(kind: &str) -> Background {
    let guest = Background::start(Command::new(guest_program()).args(["only", kind, "4000000000"]));
    let folder = format!("/proc/{}/fd", guest.pid());
    wait_for("a VM", || {
        let links = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        links
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| link.ends_with("anon_inode:kvm-vcpu:0"))
    });
    guest
}

#[test]
fn without_root_it_says_what_it_needs() {
    let run = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.arg(env!("CARGO_BIN_EXE_exitscope")).args(words).output().unwrap()
    };
    let stat = run(&["stat", "-d", "1"]);
    assert_says(&stat, 1, &["root"]);
    // What doctor says is what stat ends with.
    let text = String::from_utf8(stat.stderr).unwrap();
    let error = text.trim().strip_prefix("exitscope: ").unwrap();
    assert_says(&run(&["doctor"]), 1, &["broken   source", error]);
}

#[test]
fn doctor_says_what_stat_will_use() {
    assert_says(
        &exitscope().arg("doctor").output().unwrap(),
        0,
        &["fine     source        btf counts", "`btf`"],
    );
}

#[test]
fn kvm_may_be_loaded_while_it_waits() {
    let module = if std::path::Path::new("/sys/module/kvm_intel").exists() { "kvm_intel" } else { "kvm_amd" };
    succeed(Command::new("modprobe").args(["-r", module]));
    assert!(!std::path::Path::new("/sys/module/kvm").exists(), "kvm is still loaded");
    assert_says(&exitscope().arg("selftest").output().unwrap(), 1, &["/dev/kvm"]);
    assert_says(
        &exitscope().args(["stat", "--", "true"]).output().unwrap(),
        125,
        &["KVM is not loaded", "modprobe"],
    );
    assert_says(&exitscope().arg("doctor").output().unwrap(), 1, &["modprobe"]);

    let file = Scratch::new("waiting");
    let mut waiting = Background::start(exitscope().args(["stat", "-f", "json", "-o"]).arg(&file));
    // Byte by byte, so that nothing of what follows is taken.
    let (mut told, mut byte) = (String::new(), [0]);
    while !told.ends_with('\n') {
        waiting.0.stderr.as_mut().unwrap().read_exact(&mut byte).expect("it says that it waits");
        told.push(char::from(byte[0]));
    }
    assert!(told.contains("KVM is not loaded") && told.contains("waiting"), "{told}");
    succeed(Command::new("modprobe").arg(module));
    wait_until_counting(&waiting);
    succeed(Command::new(guest_program()).args(["only", "cpuid", "99"]));
    waiting.signal(libc::SIGINT);
    assert_says(&waiting.finish(), 0, &[]);
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert!(report.counts().iter().any(|((.., reason), count)| reason == "CPUID" && *count == 99));
}

#[test]
fn a_process_or_a_name_that_is_no_vm_is_told_with_those_that_are() {
    let (one, other) = (endless(), endless());
    let pid = one.pid().to_string();
    assert_says(&stat(&["-p", "1", "--", "true"]), 125, &["-p 1", "runs no VM", &pid]);
    assert_says(&stat(&["-p", "1", "-d", "1"]), 1, &["-p 1", "runs no VM", &pid]);
    assert_says(&stat(&["-p", "4194304", "-d", "1"]), 1, &["does not exist"]);
    assert_says(&stat(&["-g", "nobody", "-d", "1"]), 1, &["no VM has that name", &pid]);
    assert_says(&stat(&["-g", "guest", "-d", "1"]), 1, &["2 VMs have that name", &pid, "-p"]);

    let file = Scratch::new("chosen");
    let output = exitscope()
        .args(["stat", "-p", &pid, "-d", "500ms", "-f", "json", "-o"])
        .arg(&file)
        .output()
        .unwrap();
    assert_says(&output, 0, &[]);
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert!(report.count(one.pid(), "CPUID") > 0);
    assert!(report.counts().keys().all(|(of, ..)| *of == u64::from(one.pid())), "{}", report.0);
    // A VM that was not chosen and ends meanwhile leaves no trace.
    let watcher = Background::start(exitscope().args(["stat", "-p", &pid, "-f", "json", "-o"]).arg(&file));
    wait_until_counting(&watcher);
    drop(other);
    std::thread::sleep(std::time::Duration::from_millis(300));
    watcher.signal(libc::SIGINT);
    assert_says(&watcher.finish(), 0, &[]);
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert_eq!(report.0["vcpus"].as_array().unwrap().len(), 1, "{}", report.0["vcpus"]);
    assert_says(&stat(&["-g", "guest", "-d", "300ms"]), 0, &["CPUID", "KVM's own count", "equal"]);
    assert_says(&stat(&["--vcpu", "7", "-d", "100ms"]), 0, &["nothing to count"]);
}

/// The numbers of processes in a container are not those that the kernel has for them.
#[test]
fn in_a_pid_namespace_it_says_that_it_cannot_choose() {
    let run = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_exitscope")]);
        command.args(words).output().unwrap()
    };
    assert_says(&run(&["stat", "--", "true"]), 125, &["PID namespace", "host"]);
    assert_says(&run(&["selftest", "--vcpus", "1"]), 1, &["PID namespace"]);
    assert_says(&run(&["stat", "-d", "100ms"]), 0, &["nothing to count"]);
    let advice =
        ["warning  processes", "PID namespace", "btf counts", "counts all VMs", "--pid=host", "hostPID"];
    assert_says(&run(&["doctor"]), 0, &advice);

    // It does what `doctor` says that it can: count, and name by the head of the command line.
    let mut vm = Turns::called(&["qemu-system-x86_64", "-name", "inside"]);
    let file = Scratch::new("namespace");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_exitscope")]);
    let watcher = Background::start(command.args(["stat", "-f", "json", "-o"]).arg(&file));
    let child = || {
        let path = format!("/proc/{0}/task/{0}/children", watcher.pid());
        std::fs::read_to_string(path).unwrap().trim().parse::<u32>().ok()
    };
    wait_for("a process in the namespace", || child().is_some());
    let child = child().unwrap();
    wait_until_process_counts(child);
    vm.say("turn");
    // SAFETY: a plain system call on a child's child, whose parent waits for it.
    assert_eq!(unsafe { libc::kill(child.cast_signed(), libc::SIGINT) }, 0);
    assert_says(&watcher.finish(), 0, &[]);
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert_eq!(report.count(vm.pid(), "CPUID"), 1000);
    let vms = report.0["vms"].as_array().unwrap();
    assert_eq!((vms[0]["vm"].as_str(), vms[0]["named_by"].as_str()), (Some("inside"), Some("option")));
    assert_eq!(report.0["workers"], serde_json::json!([]), "whose threads these would be is not known");
}

#[test]
fn wrong_words_are_told_before_anything_starts() {
    for arguments in [
        &["--pid", "0"][..],
        &["--pid", "x"],
        &["--vcpu", "3-1"],
        &["--vcpu", "99999999"],
        &["--by", "colour"],
        &["--sort", "colour"],
        &["--format", "xml"],
        &["-d", "0"],
        &["-i", "1ns"],
        &["--max-rows", "0"],
        &["-d", "1", "--", "true"],
    ] {
        let output = stat(arguments);
        assert_says(&output, 2, &["error:"]);
    }
    assert_says(&stat(&["-o", "/nowhere/file"]), 1, &["/nowhere/file", "No such file"]);
    assert_says(&exitscope().args(["reasons", "vmx", "38"]).output().unwrap(), 1, &["38"]);
}

#[test]
fn the_commands_status_is_passed_on() {
    let run = |words: &[&str]| exitscope().args(["stat", "--"]).args(words).output().unwrap();
    assert_says(&run(&["sh", "-c", "echo its output; exit 7"]), 7, &["its output", "nothing to count"]);
    assert_says(&run(&["sh", "-c", "kill -9 $$"]), 137, &[]);
    assert_says(&run(&["/nowhere/program"]), 127, &["/nowhere/program"]);
    assert_says(&run(&["/etc/passwd"]), 126, &["/etc/passwd"]);
}

/// A command that a signal does not end is left alone by the second one; a VM that outlives its command is told.
#[test]
fn a_command_and_a_vm_that_stay_are_told() {
    let watcher =
        Background::start(exitscope().args(["stat", "--", "sh", "-c", "exec sleep 30 >/dev/null 2>&1"]));
    wait_until_counting(&watcher);
    watcher.signal(libc::SIGINT);
    wait_for("the first signal to be taken", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", watcher.pid())).unwrap();
        let pending = |line: &&str| line.starts_with("SigPnd") || line.starts_with("ShdPnd");
        status.lines().filter(pending).all(|line| line.ends_with("0000000000000000"))
    });
    std::thread::sleep(std::time::Duration::from_millis(200));
    watcher.signal(libc::SIGINT);
    assert_says(&watcher.finish(), 130, &["the command runs on"]);

    let script =
        format!("{} only cpuid 4000000000 >/dev/null 2>&1 & echo $!; sleep 2", guest_program().display());
    let output = exitscope().args(["stat", "--", "sh", "-c", &script]).output().unwrap();
    let guest: libc::pid_t = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    // SAFETY: a plain system call; the guest runs on until it gets this.
    assert_eq!(unsafe { libc::kill(guest, libc::SIGKILL) }, 0);
    assert_says(&output, 0, &["CPUID", "1 VM of the command still there", "equal"]);
}

#[test]
fn a_full_disk_loses_nothing() {
    let guest = guest_program();
    let mut command = exitscope();
    command.args(["stat", "-o", "/dev/full", "--"]).arg(guest).args(["only", "cpuid", "321"]);
    assert_says(&command.output().unwrap(), 1, &["/dev/full", "No space left", "CPUID", "321"]);

    let _guest = endless();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = exitscope().args(["stat", "-d", "300ms"]).stdout(full).stderr(Stdio::piped()).spawn();
    let output = output.unwrap().wait_with_output().unwrap();
    assert_says(&output, 1, &["standard output", "No space left", "CPUID"]);
}

#[test]
fn signals_end_it_with_what_was_counted() {
    let guest = endless();
    let start = || {
        let watcher = Background::start(exitscope().arg("stat"));
        wait_until_counting(&watcher);
        let runs = std::fs::read_to_string(format!("/proc/{}/stat", guest.pid())).unwrap();
        wait_for("the guest to run on", || {
            std::fs::read_to_string(format!("/proc/{}/stat", guest.pid())).unwrap() != runs
        });
        watcher
    };
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let watcher = start();
        watcher.signal(signal);
        assert_says(&watcher.finish(), 0, &["CPUID", "KVM's own count"]);
    }
    // A VM that is killed in the middle is counted to its end.
    let watcher = start();
    guest.signal(libc::SIGKILL);
    guest.finish();
    watcher.signal(libc::SIGINT);
    assert_says(&watcher.finish(), 0, &["ended", "equal"]);
}

#[test]
fn a_reader_that_had_enough_is_no_failure() {
    let _guest = endless();
    for arguments in [&["stat", "-i", "20ms"][..], &["stat", "-i", "20ms", "-f", "csv"], &["reasons"]] {
        let mut child =
            exitscope().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut head =
            Command::new("head").args(["-n", "1"]).stdin(child.stdout.take().unwrap()).spawn().unwrap();
        assert!(head.wait().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.status.signal()),
            (Some(0), None),
            "{arguments:?}: {}",
            all(&output)
        );
        assert!(!all(&output).contains("panicked"), "{}", all(&output));
    }
}

#[test]
fn a_command_is_waited_for_when_nobody_reads_its_report() {
    let mut command = exitscope();
    command.args(["stat", "-i", "20ms", "--", "sh", "-c", "sleep 0.5; exit 7"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

/// Where BPF is forbidden, KVM's own statistics still tell totals and classes, and it is said which numbers are missing.
#[test]
fn without_bpf_the_statistics_remain() {
    let guest = endless_of("port-out");
    let run = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([
            "--bounding-set",
            "-bpf,-sys_admin,-perfmon",
            "--inh-caps",
            "-bpf,-sys_admin,-perfmon",
        ]);
        command.arg(env!("CARGO_BIN_EXE_exitscope")).args(words).output().unwrap()
    };
    assert_says(&run(&["stat", "-d", "700ms"]), 0, &["io_exits", "reasons", "BPF"]);
    let words = ["warning  source        btf, raw, tracepoint refused: ", "kvmstat counts", "whole VMs"];
    assert_says(&run(&["doctor"]), 0, &words);
    drop(guest);
}
