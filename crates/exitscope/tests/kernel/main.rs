//! Tests of a KVM that counts its own exits (`kernel/`), as root, on the kernel that `make kernel` makes: `make test-kernel`
//! runs them in the lab's outer VM, with SVM and with VMX. One at a time: some load and unload KVM, some reset its counters.

mod counters;
mod life;
mod log;
// Shared with the other tests on KVM; not all of it is used here.
#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod tool;

use std::fs;
use tool::{exitscope, succeed};

/// A parameter of KVM's module.
fn parameter(name: &str) -> String {
    format!("/sys/module/kvm/parameters/{name}")
}

fn set(name: &str, value: &str) {
    fs::write(parameter(name), value).unwrap_or_else(|error| panic!("{name}={value}: {error}"));
}

/// Reads the kernel's file of counts.
fn counts() -> String {
    fs::read_to_string("/sys/kernel/debug/exitscope/counts").expect("debugfs with the counts")
}

/// The module for this processor.
fn vendor() -> &'static str {
    if fs::read_to_string("/proc/cpuinfo").unwrap().contains(" svm ") { "kvm_amd" } else { "kvm_intel" }
}

/// Exits of each vCPU in a text like [`counts`]: its first line, then the sum since the last reset and ever.
fn vcpus(text: &str) -> Vec<(String, u64, u64)> {
    let mut found: Vec<(String, u64, u64)> = Vec::new();
    for line in text.lines().skip_while(|line| !line.starts_with("vcpu ")) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "vcpu" => found.push((line.into(), 0, 0)),
            "exit" => {
                let last = found.last_mut().unwrap();
                last.1 += words[2].parse::<u64>().unwrap();
                last.2 += words[3].parse::<u64>().unwrap();
            }
            "end" => {}
            _ => panic!("{line:?}"),
        }
    }
    assert!(text.ends_with("\nend\n"), "{text}");
    found
}

/// Exits of all CPUs by code: since the last reset, and ever.
fn cpus(text: &str) -> (u64, u64) {
    let lines = text.lines().skip(1).take_while(|line| !line.starts_with("vcpu ") && *line != "end");
    let mut sums = (0, 0);
    for words in lines.map(|line| line.split(' ').collect::<Vec<_>>()).filter(|words| words[0] == "exit") {
        sums.0 += words[2].parse::<u64>().unwrap();
        sums.1 += words[3].parse::<u64>().unwrap();
    }
    sums
}

/// Stock Debian, and on it our modules, which Debian did not sign.
#[test]
fn our_modules_run_on_debians_kernel() {
    let version = fs::read_to_string("/proc/version").unwrap();
    let release = succeed(std::process::Command::new("uname").arg("-r"));
    let built = succeed(std::process::Command::new("uname").arg("-v"));
    assert!(built.contains(" Debian "), "{built}");
    assert!(version.contains(release.trim()), "{version}");
    let loaded = succeed(&mut std::process::Command::new("lsmod"));
    for module in ["kvm", vendor()] {
        assert!(loaded.lines().any(|line| line.starts_with(&format!("{module} "))), "{loaded}");
        let info = succeed(std::process::Command::new("modinfo").arg(module));
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(&format!("{name}:")));
            line.map(|line| line.split_once(':').unwrap().1.trim().to_owned())
        };
        assert!(field("vermagic").unwrap().starts_with(&format!("{} ", release.trim())), "{info}");
        assert_eq!(field("signer"), None, "{info}");
        // E: a module without a signature that the kernel knows.
        let taint = fs::read_to_string(format!("/sys/module/{module}/taint")).unwrap();
        assert!(taint.contains('E'), "{module}: {taint}");
    }
    // What every vendor module needs goes by another name, so that Debian's do not load beside this KVM.
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let exported =
        |name: &str| symbols.lines().any(|line| line.contains(&format!(" __ksymtab_{name}\t[kvm]")));
    assert!(exported("exitscope_x86_vendor_init") && !exported("kvm_x86_vendor_init"));
    let info = succeed(std::process::Command::new("modinfo").args(["--parameters", "kvm"]));
    assert!(info.contains("exitscope_every:"), "{info}");
    let doctor = succeed(exitscope().arg("doctor"));
    assert!(doctor.contains("fine     counters      KVM counts its own exits"), "{doctor}");
}
