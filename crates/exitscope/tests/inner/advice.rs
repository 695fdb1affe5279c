//! Advice on guests made to need it, and the same guests with what the advice names.

use super::ATTEMPTS;
use super::tool::{Background, Report, Scratch, all, built, exitscope, guest_program, succeed};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Kernel command line that `lab inner` gives its guest.
const USUAL: &str = "console=ttyS0 panic=-1";

/// A recorded guest: its advice by rule, and its counts.
struct Recorded {
    file: Scratch,
    advice: Vec<Value>,
    report: Report,
}

impl Recorded {
    /// Records a Linux guest from its first exit to its last; `kernel` is added to its command line.
    fn boot(options: &[&str], kernel: Option<&str>) -> Recorded {
        for _ in 0..ATTEMPTS {
            let mut command = Command::new("timeout");
            command.arg("150").arg(built("lab")).args(["inner", "--name", "advised"]).args(options);
            if let Some(kernel) = kernel {
                // The last one counts.
                command.args(["--", "-append", &format!("{USUAL} {kernel}")]);
            }
            if let Some(recorded) = Recorded::of(&command) {
                return recorded;
            }
        }
        panic!("of {ATTEMPTS} guests none came up");
    }

    /// Records the VMs of a command. Returns `None` if that took too long.
    fn of(command: &Command) -> Option<Recorded> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let file = Scratch::new(&format!("advice-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut record = exitscope();
        record.args(["record", "--force", "-o"]).arg(&file).arg("--").arg(command.get_program());
        let output = record.args(command.get_args()).output().unwrap();
        if output.status.code() == Some(124) {
            return None;
        }
        assert!(output.status.success(), "{}\n{}", output.status, all(&output));
        let advice = succeed(exitscope().args(["advise", "-f", "json"]).arg(&file));
        let report = Report::parse(&succeed(exitscope().args(["report", "-f", "json"]).arg(&file)));
        // Without EPT, KVM emulates real mode instead of entering the guest, and counts each time as an exit: vmx_vcpu_run().
        let unrestricted = fs::read_to_string("/sys/module/kvm_intel/parameters/unrestricted_guest");
        if unrestricted.is_ok_and(|value| value.trim() == "N") {
            report.assert_whole();
            assert!(report.number("kvm_exits") >= report.number("total"), "{}", report.0);
        } else {
            report.assert_proven();
        }
        let advice = advice.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Some(Recorded { file, advice, report })
    }

    fn rule(&self, name: &str) -> Option<&Value> {
        self.advice.iter().find(|advice| advice["rule"] == name)
    }

    /// Text and exits of the advice of a rule, which is there.
    fn advised(&self, name: &str) -> (&str, u64) {
        let advice = self.rule(name).unwrap_or_else(|| panic!("no {name} among {:#?}", self.advice));
        (advice["helps"].as_str().unwrap(), advice["exits"].as_u64().unwrap())
    }

    /// Asserts that a rule is silent.
    fn assert_silent(&self, name: &str) {
        assert!(self.rule(name).is_none(), "{:#?}", self.advice);
    }

    /// Says by `exitscope diff` how many exits more another guest made, by reason; those of all are `total`.
    fn change(&self, other: &Recorded) -> BTreeMap<String, f64> {
        let text = succeed(exitscope().args(["diff", "-f", "json"]).args([&self.file, &other.file]));
        let diff: Value = serde_json::from_str(&text).unwrap();
        let rows = diff["rows"].as_array().unwrap().iter().chain([&diff["total"]]);
        let name = |row: &Value| row["reason"].as_str().unwrap_or("total").to_owned();
        rows.map(|row| (name(row), row["count"]["change"].as_f64().unwrap())).collect()
    }

    /// Time for which the vCPUs waited for a CPU (ns).
    fn waiting_ns(&self) -> u64 {
        let vcpus = self.report.0["vcpus"].as_array().unwrap();
        vcpus.iter().map(|vcpu| vcpu["waiting_ns"].as_u64().unwrap()).sum()
    }
}

#[allow(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}

/// The console of a Linux boot is most of its exits; `quiet`, as the advice says, takes most of them away.
#[test]
#[ignore = "long: make test-all"]
fn a_guest_that_talks_is_told_to_be_quiet() {
    let loud = Recorded::boot(&[], None);
    let (helps, about) = loud.advised("serial-console");
    assert!(helps.contains("`quiet`"), "{helps}");
    assert!(about * 2 > loud.report.number("total"), "{about}");
    let change = loud.change(&Recorded::boot(&[], Some("quiet")));
    assert!(change["IOIO"] < -float(about) / 2.0 && change["total"] < 0.0, "{change:?}");
}

/// A guest whose clock is the ACPI timer exits for each reading of the time; with the clock that the advice names it
/// does not.
#[test]
#[ignore = "long: make test-all"]
fn a_guest_with_the_acpi_timer_as_clock_is_told_of_a_better_one() {
    let loops = "i=0; while [ $i -lt 5000 ]; do read x </proc/uptime; i=$((i+1)); done";
    let slow = Recorded::boot(&["--exec", loops], Some("quiet clocksource=acpi_pm"));
    let (helps, about) = slow.advised("pm-timer");
    assert!(helps.contains("kvm-clock") && about >= 5000, "{about} {helps}");
    let fast = Recorded::boot(&["--exec", loops], Some("quiet clocksource=kvm-clock"));
    fast.assert_silent("pm-timer");
    let change = slow.change(&fast);
    assert!(change["IOIO"] < -4000.0 && change["total"] < -4000.0, "{change:?}");
}

/// An IDE disk's requests are ports; a virtio disk's are not.
#[test]
#[ignore = "long: make test-all"]
fn a_guest_with_an_ide_disk_is_told_of_virtio() {
    let read = |disk: &str| format!("dd if=/dev/{disk} of=/dev/null bs=4k count=1500 iflag=direct");
    let ide = Recorded::boot(&["--system", "busybox", "--bus", "ide", "--exec", &read("sda")], None);
    let (helps, about) = ide.advised("ide-disk");
    assert!(helps.contains("if=virtio"), "{helps}");
    let virtio = Recorded::boot(&["--system", "busybox", "--bus", "virtio", "--exec", &read("vda")], None);
    virtio.assert_silent("ide-disk");
    let change = ide.change(&virtio);
    assert!(change["IOIO"] < -float(about) / 2.0, "{change:?}");
}

/// Without nested paging KVM follows the guest's page tables by exits; the advice names the parameter that is off: `npt` of
/// SVM, `ept` of VMX.
#[test]
#[ignore = "long: make test-all"]
fn a_host_without_nested_paging_is_told_of_its_parameter() {
    let vmx = Path::new("/sys/module/kvm_intel").exists();
    let (module, parameter, fault) =
        if vmx { ("kvm_intel", "ept", "EXCEPTION_NMI") } else { ("kvm_amd", "npt", "EXCP_PF") };
    let load = |value: &str| {
        let script = format!("modprobe -r {module} && modprobe {module} {parameter}={value}");
        succeed(Command::new("sh").args(["-c", &script]));
    };
    load("0");
    let shadow = Recorded::boot(&[], Some("quiet"));
    load("1");
    let (helps, about) = shadow.advised("shadow-paging");
    assert!(helps.contains(&format!("{module} {parameter}=1")), "{helps}");
    let nested = Recorded::boot(&[], Some("quiet"));
    nested.assert_silent("shadow-paging");
    let change = shadow.change(&nested);
    assert!(change[fault] < 0.0 && change["total"] < -float(about) / 2.0, "{change:?}");
}

/// A guest that sets a timer and halts until it fires, over and over. Where it may halt the CPU itself, as the advice says,
/// its HLTs are no exits. The timer has fired before most HLTs are executed, so that their wake-up is pending: half of them are
/// over at once, however much else runs on this machine.
#[test]
#[ignore = "long: make test-all"]
fn a_guest_that_is_woken_at_once_is_told_not_to_exit_for_its_halts() {
    const HALTS: u64 = 5_000;
    let run = |how: &str| {
        let mut command = Command::new(guest_program());
        command.args([how, &HALTS.to_string(), "1000"]);
        Recorded::of(&command).expect("it has no time limit")
    };
    let exits = run("block");
    let (helps, about) = exits.advised("halts-that-return-at-once");
    assert!(helps.contains("-overcommit cpu-pm=on") && about >= HALTS, "{about} {helps}");
    let none = run("cpu-pm");
    none.assert_silent("halts-that-return-at-once");
    let change = exits.change(&none);
    assert!(change["HLT"] <= -float(about), "{change:?}");
}

/// Two control groups: one for a VM, and one for another program that wants its CPU.
struct Groups(PathBuf);

impl Groups {
    fn new() -> Groups {
        let root = std::env::temp_dir().join(format!("exitscope-groups-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        succeed(Command::new("mount").args(["-t", "cgroup2", "none"]).arg(&root));
        fs::write(root.join("cgroup.subtree_control"), "+cpu").unwrap();
        for group in ["vm", "other"] {
            fs::create_dir_all(root.join(group)).unwrap();
        }
        Groups(root)
    }

    /// A shell in one of them, on the first CPU, that becomes this.
    fn shell(&self, group: &str, becomes: &str) -> Command {
        let procs = self.0.join(group).join("cgroup.procs");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo $$ >{} && exec taskset -c 0 {becomes}", procs.display())]);
        command
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A guest shares its CPU with another program; with the weight that the advice names it does not wait for it.
#[test]
#[ignore = "long: make test-all"]
fn a_guest_on_a_busy_cpu_is_told_of_a_higher_weight() {
    let groups = Groups::new();
    let _busy = Background::start(&mut groups.shell("other", "sh -c 'while :; do :; done'"));
    let run = || {
        let guest = format!("{} only cpuid 100000", guest_program().display());
        Recorded::of(&groups.shell("vm", &guest)).expect("it has no time limit")
    };
    let waits = run();
    let (helps, _) = waits.advised("waiting-for-a-cpu");
    assert!(helps.contains("`cpu.weight`"), "{helps}");
    fs::write(groups.0.join("vm/cpu.weight"), "10000").unwrap();
    let runs = run();
    runs.assert_silent("waiting-for-a-cpu");
    assert!(runs.waiting_ns() * 4 < waits.waiting_ns(), "{} {}", runs.waiting_ns(), waits.waiting_ns());
    // It makes the same exits of its own; what is gone is its waiting.
    assert!(waits.change(&runs)["CPUID"].abs() < 1.0);
}
