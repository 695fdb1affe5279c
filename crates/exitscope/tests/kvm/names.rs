//! VMs whose command lines are those of other VMMs: told apart by name, and chosen by it.

use super::bad_input::assert_says;
use super::tool::{Background, Report, Scratch, exitscope, succeed, wait_until_counting};
use super::turns::Turns;
use serde_json::json;
use std::fs;
use std::process::{Command, Stdio};

const UUID: &str = "6d7e3b9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

#[test]
fn vms_are_told_apart_and_chosen_by_their_command_lines() {
    let long = format!("file={}", "x".repeat(100_000));
    // A command line of 2 MB, in arguments that exec takes (128 KiB each).
    let mut huge = vec!["qemu-system-x86_64", "-name", "guest=huge,debug-threads=on"];
    huge.extend(std::iter::repeat_n(long.as_str(), 18));
    let lines: [(&[&str], &str, &str, &str); 10] = [
        (
            &["/usr/bin/kvm", "-id", "100", "-name", "web,debug-threads=on", "-uuid", UUID],
            "qemu",
            "web",
            "option",
        ),
        (
            &["/opt/kata/bin/cloud-hypervisor", "--api-socket", "/run/kata/a1b2/ch-api.sock"],
            "cloud-hypervisor",
            "a1b2",
            "path",
        ),
        (
            &["firecracker", "--api-sock", "/run/vc/firecracker/c3d4/root/run/firecracker.socket"],
            "firecracker",
            "c3d4",
            "path",
        ),
        (
            &["crosvm", "run", "--socket=/x/instances/cvd-1/internal/crosvm_control.sock"],
            "crosvm",
            "cvd-1",
            "path",
        ),
        (&["containerd-shim-kata-v2", "-namespace", "k8s.io", "-id", "e5f6"], "dragonball", "e5f6", "option"),
        (&["microvm@nix", "-M", "microvm"], "qemu", "nix", "title"),
        (&["lkvm", "run", "--name", "twin"], "kvmtool", "twin", "option"),
        (&["lkvm", "run", "--name", "tw\u{200b}in"], "kvmtool", "tw\u{200b}in", "option"),
        (&huge, "qemu", "huge", "option"),
        // A Cyrillic letter.
        (&["lkvm", "run", "--name", "tw\u{456}n"], "kvmtool", "tw\u{456}n", "option"),
    ];
    let mut vms: Vec<Turns> = lines.iter().map(|(line, ..)| Turns::called(line)).collect();

    let file = Scratch::new("names");
    let watcher = Background::start(exitscope().args(["stat", "-f", "json", "-o"]).arg(&file));
    wait_until_counting(&watcher);
    vms.iter_mut().for_each(|vm| drop(vm.say("turn")));
    watcher.signal(libc::SIGINT);
    assert_says(&watcher.finish(), 0, &[]);
    let report = Report::parse(&file.read());
    report.assert_proven();
    for (vm, (line, vmm, name, named_by)) in vms.iter().zip(&lines) {
        let vms = report.0["vms"].as_array().unwrap();
        let found = vms.iter().find(|found| found["pid"] == vm.pid()).unwrap();
        let expected = [json!(vmm), json!(name), json!(named_by)];
        assert_eq!(["vmm", "vm", "named_by"].map(|key| found[key].clone()), expected, "{}", line[0]);
        assert_eq!(report.count(vm.pid(), "CPUID"), 1000, "{name}");
    }

    // While a command runs, each as it is known.
    for (at, guest) in
        [(0, "web"), (0, "100"), (0, UUID), (1, "a1b2"), (3, "cvd-[1-9]"), (4, "k8s.io/e5f6"), (8, "huge")]
    {
        let mut command = exitscope();
        command.args(["stat", "-g", guest, "-f", "json", "-o"]).arg(&file).args(["--", "cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut watcher = Background(command.spawn().unwrap());
        wait_until_counting(&watcher);
        vms.iter_mut().for_each(|vm| drop(vm.say("turn")));
        // `cat` ends, and with it the counting; the VM goes on.
        drop(watcher.0.stdin.take());
        assert_says(&watcher.finish(), 0, &[]);
        let report = Report::parse(&file.read());
        report.assert_proven();
        assert_eq!(report.count(vms[at].pid(), "CPUID"), 1000, "-g {guest}: {}", report.0);
        assert!(report.counts().keys().all(|(pid, ..)| *pid == u64::from(vms[at].pid())), "-g {guest}");
    }

    // Names that look alike have their process beside them.
    let watcher = Background::start(exitscope().args(["stat", "-g", "tw*", "-o"]).arg(&file));
    wait_until_counting(&watcher);
    vms.iter_mut().for_each(|vm| drop(vm.say("turn")));
    watcher.signal(libc::SIGINT);
    assert_says(&watcher.finish(), 0, &[]);
    let text = file.read();
    let [plain, invisible, cyrillic] = [6, 7, 9].map(|at: usize| vms[at].pid());
    for name in [
        format!("twin ({plain})"),
        format!("tw\\u{{200b}}in ({invisible})"),
        format!("tw\u{456}n ({cyrillic})"),
    ] {
        assert!(text.contains(&name), "{name}: {text}");
    }
    let output = exitscope().args(["stat", "-g", "nobody", "-d", "1"]).output().unwrap();
    let web = format!("web ({}, vmid 100)", vms[0].pid());
    assert_says(&output, 1, &["no VM has that name", &web, "huge"]);
}

/// A command line that is rewritten all the time, and control groups that look like a machine's.
#[test]
fn names_that_others_make_are_no_other_vms() {
    let root = std::env::temp_dir().join(format!("exitscope-groups-{}", std::process::id()));
    fs::create_dir_all(&root).unwrap();
    succeed(Command::new("mount").args(["-t", "cgroup2", "none"]).arg(&root));
    let mut rewritten =
        Turns::called(&["qemu-system-x86_64", "-name", &format!("guest={}", "a".repeat(200))]);
    rewritten.say("rewrite");
    let group = r"machine.slice/machine-qemu\x2d1\x2dweb.scope";
    let mut of_machine = Turns::called(&["qemu-system-x86_64"]);
    let mut of_user = Turns::called(&["qemu-system-x86_64"]);
    for (vm, path) in [(&of_machine, group.to_owned()), (&of_user, format!("user.slice/{group}"))] {
        let folder = root.join(path);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.procs"), vm.pid().to_string()).unwrap();
    }
    let file = Scratch::new("hostile");
    let watcher = Background::start(exitscope().args(["stat", "-f", "json", "-o"]).arg(&file));
    wait_until_counting(&watcher);
    for vm in [&mut rewritten, &mut of_machine, &mut of_user] {
        vm.say("turn");
    }
    watcher.signal(libc::SIGINT);
    assert_says(&watcher.finish(), 0, &[]);
    let report = Report::parse(&file.read());
    report.assert_proven();
    let of = |vm: &Turns| {
        assert_eq!(report.count(vm.pid(), "CPUID"), 1000);
        let found =
            report.0["vms"].as_array().unwrap().iter().find(|found| found["pid"] == vm.pid()).unwrap();
        (found["vm"].as_str().unwrap().to_owned(), found["named_by"].as_str().unwrap().to_owned())
    };
    let (name, named_by) = of(&rewritten);
    assert!(name.len() == 200 && name.bytes().all(|byte| b"ab".contains(&byte)), "{name}");
    assert_eq!(named_by, "option");
    assert_eq!(of(&of_machine), ("web".into(), "machine".into()));
    assert_eq!(of(&of_user), ("qemu-system-x86_64".into(), "program".into()));
    drop((rewritten, of_machine, of_user));
    succeed(Command::new("umount").arg(&root));
}
