//! Advice on guests made to need it, and the same guests with what the advice names.

use super::ATTEMPTS;
use super::tool::{Report, Scratch, all, built, exitscope};
use serde_json::Value;
use std::process::Command;

/// Kernel command line that `lab inner` gives its guest.
const USUAL: &str = "console=ttyS0 panic=-1";

/// A recorded boot: its advice by rule, and its counts.
struct Boot {
    advice: Vec<Value>,
    report: Report,
}

impl Boot {
    /// Records a guest from its first exit to its last; `kernel` is added to its command line.
    fn new(options: &[&str], kernel: Option<&str>) -> Boot {
        for _ in 0..ATTEMPTS {
            let file = Scratch::new("advice");
            let mut command = exitscope();
            command
                .args(["record", "--force", "-o"])
                .arg(&file)
                .args(["--", "timeout", "150"])
                .arg(built("lab"));
            command.args(["inner", "--name", "advised"]).args(options);
            if let Some(kernel) = kernel {
                // The last one counts.
                command.args(["--", "-append", &format!("{USUAL} {kernel}")]);
            }
            let output = command.output().unwrap();
            if output.status.code() == Some(124) {
                continue;
            }
            assert!(output.status.success(), "{}\n{}", output.status, all(&output));
            let read = |words: &[&str]| {
                let output = exitscope().args(words).arg(&file).output().unwrap();
                assert!(output.status.success(), "{}", all(&output));
                String::from_utf8(output.stdout).unwrap()
            };
            let advice = read(&["advise", "-f", "json"]);
            let report = Report::parse(&read(&["report", "-f", "json"]));
            report.assert_proven();
            return Boot {
                advice: advice.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
                report,
            };
        }
        panic!("of {ATTEMPTS} guests none came up");
    }

    fn rule(&self, name: &str) -> Option<&Value> {
        self.advice.iter().find(|advice| advice["rule"] == name)
    }

    /// Exits that the advice of this rule is about.
    fn about(&self, name: &str) -> u64 {
        let advice = self.rule(name).unwrap_or_else(|| panic!("no {name} among {:#?}", self.advice));
        advice["exits"].as_u64().unwrap()
    }
}

/// The console of a Linux boot is most of its exits; `quiet`, as the advice says, takes most of them away.
#[test]
#[ignore = "long: make test-all"]
fn a_guest_that_talks_is_told_to_be_quiet() {
    let loud = Boot::new(&[], None);
    let about = loud.about("serial-console");
    assert!(loud.rule("serial-console").unwrap()["helps"].as_str().unwrap().contains("`quiet`"));
    assert!(about * 2 > loud.report.number("total"), "{about}");
    let quiet = Boot::new(&[], Some("quiet"));
    assert!(quiet.report.number("total") + about / 2 < loud.report.number("total"), "{:#?}", quiet.advice);
}

/// A guest whose clock is the ACPI timer exits for each reading of the time; with the clock that the advice names it
/// does not.
#[test]
#[ignore = "long: make test-all"]
fn a_guest_with_the_acpi_timer_as_clock_is_told_of_a_better_one() {
    let loops = "i=0; while [ $i -lt 5000 ]; do read x </proc/uptime; i=$((i+1)); done";
    let slow = Boot::new(&["--exec", loops], Some("quiet clocksource=acpi_pm"));
    assert!(slow.about("pm-timer") >= 5000, "{:#?}", slow.advice);
    assert!(slow.rule("pm-timer").unwrap()["helps"].as_str().unwrap().contains("kvm-clock"));
    let fast = Boot::new(&["--exec", loops], Some("quiet clocksource=kvm-clock"));
    assert!(fast.rule("pm-timer").is_none(), "{:#?}", fast.advice);
    assert!(fast.report.number("total") + 4000 < slow.report.number("total"));
}

/// An IDE disk's requests are ports; a virtio disk's are not.
#[test]
#[ignore = "long: make test-all"]
fn a_guest_with_an_ide_disk_is_told_of_virtio() {
    let read = |disk: &str| format!("dd if=/dev/{disk} of=/dev/null bs=4k count=1500 iflag=direct");
    let ide = Boot::new(&["--system", "busybox", "--bus", "ide", "--exec", &read("sda")], None);
    assert!(
        ide.rule("ide-disk").unwrap()["helps"].as_str().unwrap().contains("if=virtio"),
        "{:#?}",
        ide.advice
    );
    let virtio = Boot::new(&["--system", "busybox", "--bus", "virtio", "--exec", &read("vda")], None);
    assert!(virtio.rule("ide-disk").is_none(), "{:#?}", virtio.advice);
}

/// Without nested paging KVM follows the guest's page tables by exits; the advice names the parameter that is off.
#[test]
#[ignore = "long: make test-all"]
fn a_host_without_nested_paging_is_told_of_its_parameter() {
    let load = |npt: &str| {
        let script = format!("modprobe -r kvm_amd && modprobe kvm_amd npt={npt}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}", all(&output));
    };
    load("0");
    let shadow = Boot::new(&[], Some("quiet"));
    load("1");
    let helps = shadow.rule("shadow-paging").unwrap()["helps"].as_str().unwrap().to_owned();
    assert!(helps.contains("kvm_amd npt=1"), "{helps}");
    let nested = Boot::new(&[], Some("quiet"));
    assert!(nested.rule("shadow-paging").is_none(), "{:#?}", nested.advice);
    assert!(nested.report.number("total") < shadow.report.number("total"));
}
