//! A Linux guest, booted as the original exercise boots it. As root, in the lab's outer VM (`make test`).

mod advice;
mod boot;
mod nested;
mod outcome;
// Shared with the other tests on KVM; not all of it is used here.
#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod tool;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tool::{
    Background, Report, Scratch, all, built, exitscope, guest_program, wait_for, wait_until_counting,
};

/// In the emulator a Linux guest now and then sleeps for ever, a timer interrupt of its lost. Whether it comes up is not
/// what is tested here: it is ended then, what was counted has to be right all the same, and another one is started.
const ATTEMPTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(100);

/// A whole boot, counted from the first exit to the last: the total is KVM's own, to the exit, and both kinds of
/// program count the same.
#[test]
fn a_linux_boot_is_counted_exactly() {
    let came_up = (0..ATTEMPTS).any(|_| {
        let (file, plain) = (Scratch::new("boot"), Scratch::new("plain"));
        let mut command = exitscope();
        command.args(["stat", "-f", "json", "-o"]).arg(&file).arg("--").arg(env!("CARGO_BIN_EXE_exitscope"));
        command.args(["stat", "--source", "tracepoint", "-f", "json", "-o"]).arg(&plain).arg("--");
        command.args(["timeout", &PATIENCE.as_secs().to_string()]).arg(built("lab"));
        let output = command.args(["inner", "--name", "a,b \u{1b}[31m", "--ping"]).output().unwrap();
        let report = Report::parse(&file.read());
        report.assert_proven();
        let plain = Report::parse(&plain.read());
        // What the kernel says that it skipped on the plain tracepoints may be missing there, and no more.
        let (total, lost) = (plain.number("total"), plain.number("lost"));
        assert!((total..=total + lost).contains(&report.number("total")), "{}", plain.0);
        if lost == 0 {
            assert_eq!(report.counts_by_process(), plain.counts_by_process());
        }
        let rows = report.0["rows"].as_array().unwrap();
        assert!(
            rows.iter().all(|row| row["vm"] == "a,b \u{1b}[31m"),
            "one boot is one VM: {}",
            report.0["vcpus"]
        );
        if output.status.code() == Some(124) {
            return false;
        }
        let console = all(&output);
        assert!(output.status.success(), "{}\n{console}", output.status);
        assert!(console.contains("Linux version"), "{console}");
        assert!(report.number("total") > 10_000, "{}", report.number("total"));
        assert!(report.counts().len() >= 6, "{:?}", report.counts());
        true
    });
    assert!(came_up, "of {ATTEMPTS} guests none came up");
}

/// Boots a system from a disk, counted from the first exit to the last: the total is KVM's own, all of it is one VM's, and
/// the guest came to its end by itself. What it said on its console, and the report.
fn boot_from_disk(system: &str, bus: &str, more: &[&str], patience: u64) -> (String, Report) {
    let line =
        r#"echo "init $(cat /proc/1/comm), root $(sed -n 's|^\(/dev/[^ ]*\) / .*|\1|p' /proc/mounts)""#;
    let options = ["inner", "--name", "disk", "--system", system, "--bus", bus, "--ping", "--exec", line];
    for _ in 0..ATTEMPTS {
        let file = Scratch::new("boot");
        let mut command = exitscope();
        command.args(["stat", "-f", "json", "-o"]).arg(&file).args(["--", "timeout", &patience.to_string()]);
        let output = command.arg(built("lab")).args(options).args(more).output().unwrap();
        let report = Report::parse(&file.read());
        report.assert_proven();
        let vcpus = report.0["vcpus"].as_array().unwrap();
        assert!(vcpus.len() == 1 && vcpus[0]["vm"] == "disk", "one boot is one VM: {vcpus:?}");
        if output.status.code() == Some(124) {
            continue;
        }
        let console = all(&output);
        assert!(output.status.success(), "{}\n{console}", output.status);
        return (console, report);
    }
    panic!("of {ATTEMPTS} guests none came up");
}

/// A whole distribution from an IDE disk, as the original exercise has it: kernel, initramfs, systemd, login prompt.
#[test]
fn debian_from_an_ide_disk_is_counted_exactly() {
    let (console, report) = boot_from_disk("debian", "ide", &[], 240);
    assert!(console.contains("inner login: "), "{console}");
    assert!(console.contains("init systemd, root /dev/sda1"), "{console}");
    assert!(report.number("total") > 50_000, "{}", report.number("total"));
}

#[test]
fn busybox_on_a_virtio_disk_is_counted_exactly() {
    let (console, _) = boot_from_disk("busybox", "virtio", &[], 120);
    assert!(
        console.contains("disk vda1: ok") && console.contains("init second, root /dev/vda1"),
        "{console}"
    );
}

#[test]
#[ignore = "long: make test-all"]
fn debian_from_a_virtio_disk_is_counted_exactly() {
    let (console, _) = boot_from_disk("debian", "virtio", &[], 240);
    assert!(console.contains("init systemd, root /dev/vda1"), "{console}");
}

/// The exercise's whole way up: BIOS, boot loader, kernel, initramfs, systemd, login prompt.
#[test]
#[ignore = "long: make test-all"]
fn debian_by_grub_from_an_ide_disk_is_counted_exactly() {
    let (console, _) = boot_from_disk("debian", "ide", &["--loader", "grub"], 400);
    assert!(console.contains("Command line: BOOT_IMAGE=/vmlinuz root=UUID="), "{console}");
    assert!(console.contains("inner login: ") && !console.contains(" -kernel "), "{console}");
}

/// An IDE disk's every command is a dozen of port accesses, and its sectors come by DMA or through a port; a virtio disk's
/// is a notification. The guest reads and writes the same.
#[test]
#[ignore = "long: make test-all"]
fn an_ide_disk_exits_more_than_a_virtio_disk() {
    let (console, ide) = boot_from_disk("busybox", "ide", &[], 120);
    assert!(
        console.contains("disk sda1: ok") && console.contains("init second, root /dev/sda1"),
        "{console}"
    );
    let (_, virtio) = boot_from_disk("busybox", "virtio", &[], 120);
    let ports = |report: &Report| {
        let counts = report.counts().into_iter();
        counts.filter(|((.., reason), _)| reason.starts_with("IO")).map(|(_, count)| count).sum::<u64>()
    };
    assert!(ports(&ide) > ports(&virtio), "{} and {}", ports(&ide), ports(&virtio));
}

/// A Linux guest that has booted, and where its console goes.
fn booted(console: &Scratch) -> Background {
    for _ in 0..ATTEMPTS {
        // Into a file: a console that nobody reads would stop the guest.
        let output = File::create(Path::new(console)).unwrap();
        let guest = Command::new(built("lab"))
            .args(["inner", "--name", "boot", "--keep", "15"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        let guest = Background(guest.unwrap());
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if console.read().contains("lab: guest boot: booted") {
                return guest;
            }
            sleep(Duration::from_millis(100));
        }
        guest.signal(libc::SIGTERM);
        guest.finish();
    }
    panic!("of {ATTEMPTS} guests none came up:\n{}", console.read());
}

/// Returns the exits that KVM has counted so far of a process's VM.
fn exits_by_kvm(pid: u32) -> u64 {
    let vms = std::fs::read_dir("/sys/kernel/debug/kvm").expect("debugfs");
    let of = vms.flatten().filter(|vm| vm.file_name().to_string_lossy().starts_with(&format!("{pid}-")));
    let exits = of.filter_map(|vm| std::fs::read_to_string(vm.path().join("exits")).ok());
    exits.filter_map(|count| count.trim().parse::<u64>().ok()).sum()
}

/// Beside a Linux guest, twenty VMs come and go; every second one is killed in full run. The whole host is watched, from
/// before Linux boots.
#[test]
fn short_lived_vms_beside_linux_are_neither_lost_nor_mixed() {
    let (file, console) = (Scratch::new("many"), Scratch::new("console"));
    let watcher = Background::start(exitscope().args(["stat", "-f", "json", "-o"]).arg(&file));
    wait_until_counting(&watcher);
    let boot = booted(&console);
    let mut whole: BTreeMap<u32, u64> = BTreeMap::new();
    let mut killed = Vec::new();
    for round in 0..10u64 {
        let count = 500 + 37 * round;
        let counted =
            Background::start(Command::new(guest_program()).args(["only", "cpuid", &count.to_string()]));
        let endless =
            Background::start(Command::new(guest_program()).args(["only", "port-out", "4000000000"]));
        wait_for("an exit of the VM to be killed", || exits_by_kvm(endless.pid()) > 0);
        whole.insert(counted.pid(), count);
        killed.push(endless.pid());
        if round % 2 == 0 {
            endless.signal(libc::SIGKILL);
        } else {
            endless.signal(libc::SIGTERM);
        }
        endless.finish();
        let output = counted.finish();
        assert!(output.status.success(), "{}", all(&output));
    }
    // It may have powered off by now, or not.
    boot.signal(libc::SIGTERM);
    boot.finish();
    watcher.signal(libc::SIGINT);
    let output = watcher.finish();
    assert!(output.status.success(), "{}", all(&output));

    let report = Report::parse(&file.read());
    report.assert_proven();
    for (pid, count) in whole {
        assert_eq!(report.count(pid, "CPUID"), count, "process {pid}");
    }
    // How far a killed VM came is its own affair; KVM's count, above, says that all of it is here.
    for pid in killed {
        let rows = report.counts().into_iter().filter(|((of, ..), _)| *of == u64::from(pid));
        let rows: Vec<_> = rows.map(|((.., reason), count)| (reason, count)).collect();
        assert!(rows.iter().map(|(_, count)| count).sum::<u64>() > 0, "killed process {pid} was not seen");
        assert!(rows.iter().all(|(reason, _)| reason != "CPUID"), "process {pid}: {rows:?}");
    }
    let boot = report.0["rows"].as_array().unwrap().iter().filter(|row| row["vm"] == "boot");
    assert!(boot.map(|row| row["count"].as_u64().unwrap()).sum::<u64>() > 10_000, "{}", report.0["vcpus"]);
}
