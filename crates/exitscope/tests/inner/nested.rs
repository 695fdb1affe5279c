//! A Linux guest that is a hypervisor: its own KVM runs guests.

use super::tool::{Report, Scratch, all, built, exitscope, guest_program, succeed};
use super::{ATTEMPTS, PATIENCE};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// KVM's modules, in loading order, below the modules' folder of the kernel that `lab inner` boots.
const MODULES: [&str; 3] = ["virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko"];

/// A disk that is a tar archive: the inner kernel's KVM, and the guest program with its libraries.
fn disk() -> Scratch {
    let cache = PathBuf::from(std::env::var_os("LAB_CACHE").expect("this runs in the lab's outer VM"));
    let kernels = cache.join("bookworm-cloud-amd64/usr/lib/modules");
    let kernel = fs::read_dir(&kernels).expect("the kernel that lab inner boots").next().unwrap().unwrap();
    let (folder, disk) = (Scratch::new("l1"), Scratch::new("disk"));
    let root = Path::new(&folder);
    fs::create_dir(root).unwrap();
    for module in MODULES {
        let file = Path::new(module).file_name().unwrap();
        fs::copy(kernel.path().join("kernel").join(module), root.join(file)).unwrap();
    }
    fs::copy(guest_program(), root.join("guest")).unwrap();
    for line in succeed(Command::new("ldd").arg(guest_program())).lines() {
        if let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) {
            let to = root.join(&library[1..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(library, to).unwrap();
        }
    }
    succeed(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&disk).arg("."));
    fs::remove_dir_all(root).unwrap();
    disk
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {row}"))
}

/// The exits that L1's own KVM counts of its guests are those that we say went to L1.
#[test]
fn a_linux_guests_own_kvm_counts_what_went_to_it() {
    let disk = disk();
    let came_up = (0..ATTEMPTS).any(|_| {
        let file = Scratch::new("linux-l1");
        let mut command = exitscope();
        command.args(["stat", "-f", "json", "-o"]).arg(&file).arg("--");
        command
            .args(["timeout", &PATIENCE.as_secs().to_string()])
            .arg(built("lab"))
            .args(["inner", "--disk"]);
        let load =
            MODULES.map(|module| format!("insmod /{}", module.rsplit('/').next().unwrap())).join(" && ");
        let run =
            format!("tar xf /dev/vda -C / && {load} && /guest only cpuid 500 && /guest only port-out 200");
        let output = command.arg(&disk).args(["--exec", &run]).output().unwrap();
        let report = Report::parse(&file.read());
        report.assert_proven();
        if output.status.code() == Some(124) {
            return false;
        }
        let console = all(&output);
        assert!(output.status.success(), "{}\n{console}", output.status);

        let rows = report.0["rows"].as_array().unwrap();
        let of = |level: u64, reason: &str| {
            let found = rows.iter().find(|row| row["level"] == level && row["reason"] == reason);
            found.unwrap_or_else(|| panic!("no {reason} of level {level} in {rows:?}"))
        };
        for (reason, count) in [("CPUID", 500), ("IOIO", 200)] {
            let row = of(2, reason);
            let figures = ["count", "to_l1", "l1_done"].map(|key| number(row, key));
            assert_eq!(figures, [count; 3], "{row}");
            assert!(number(row, "l1_exits") >= count && number(row, "l1_ns") > 0, "{row}");
        }
        // The guests' last exits. After the first of them L1 went on to the second guest.
        let halt = of(2, "HLT");
        assert_eq!(["count", "to_l1", "l1_done"].map(|key| number(halt, key)), [2, 2, 1], "{halt}");

        let sum = |key| rows.iter().filter_map(|row| row[key].as_u64()).sum::<u64>();
        let exits = console.lines().filter_map(|line| line.split_once("KvmCount { exits: "));
        let exits: Vec<u64> =
            exits.map(|(_, rest)| rest.split(',').next().unwrap().parse().unwrap()).collect();
        assert_eq!(exits.len(), 2, "{console}");
        let by_l1s_kvm = exits.iter().sum();
        assert_eq!((sum("to_l1"), sum("l1_done")), (by_l1s_kvm, by_l1s_kvm - 1), "{rows:?}");
        assert_eq!(number(of(1, "VMRUN"), "count"), by_l1s_kvm, "L1 enters as often as L2 exits to it");
        true
    });
    assert!(came_up, "of {ATTEMPTS} guests none came up");
}
