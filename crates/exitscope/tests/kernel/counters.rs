//! KVM's counters against what happened, what BPF counts, and KVM's own statistic.

use super::tool::{Background, Report, Scratch, all, built, exitscope, guest_program};
use super::{counts, cpus, vcpus};
use serde_json::Value;
use std::process::Command;

#[test]
fn the_selftest_is_exact() {
    let output = exitscope().args(["selftest", "--source", "kernel"]).output().unwrap();
    let text = all(&output);
    assert!(output.status.success(), "{}\n{text}", output.status);
    for of in [" of 1 vCPU", " of 4 vCPUs"] {
        let verdict = |line: &str| line.starts_with("exact: ") && line.ends_with(of);
        assert!(text.lines().any(verdict), "no verdict on{of}:\n{text}");
    }
    let cpuid = |line: &str| line.split_whitespace().take(5).eq(["0", "CPUID", "2003", "2003", "exact"]);
    assert!(text.lines().any(cpuid), "{text}");
}

/// Counts a command by BPF and by KVM itself at the same time.
fn both(command: &[&str]) -> (Report, Report, std::process::Output) {
    let (bpf, kernel) = (Scratch::new("bpf"), Scratch::new("kernel"));
    let mut outer = exitscope();
    outer.args(["stat", "--source", "btf", "--no-time", "-f", "json", "-o"]).arg(&bpf).arg("--");
    outer.arg(env!("CARGO_BIN_EXE_exitscope")).args(["stat", "--source", "kernel", "-f", "json", "-o"]);
    let output = outer.arg(&kernel).arg("--").args(command).output().unwrap();
    (Report::parse(&bpf.read()), Report::parse(&kernel.read()), output)
}

/// 4 vCPUs, on as many CPUs as the outer VM has: both sources, KVM's statistic, and the sum over the CPUs are equal.
#[test]
fn bpf_and_the_kernel_count_the_same() {
    let (_, before) = cpus(&counts());
    let guest = guest_program();
    let (bpf, kernel, output) = both(&[guest.to_str().unwrap(), "run", "4"]);
    assert!(output.status.success(), "{}", all(&output));
    bpf.assert_proven();
    kernel.assert_proven();
    assert_eq!(kernel.0["source"], "kernel");
    assert_eq!(bpf.counts_by_process(), kernel.counts_by_process());
    let (_, after) = cpus(&counts());
    assert_eq!(after - before, kernel.number("total"), "the CPUs' sum is another");
}

/// Linux on a tap device, from its first exit to its last.
#[test]
fn a_linux_boot_is_counted_exactly() {
    // In the emulator a guest now and then sleeps for ever; what was counted of it has to be right all the same.
    let came_up = (0..4).any(|_| {
        let lab = built("lab");
        let command = ["timeout", "240", lab.to_str().unwrap(), "inner", "--name", "linux", "--ping"];
        let (bpf, kernel, output) = both(&command);
        bpf.assert_proven();
        kernel.assert_proven();
        assert_eq!(bpf.counts_by_process(), kernel.counts_by_process());
        if output.status.code() == Some(124) {
            return false;
        }
        assert!(output.status.success(), "{}", all(&output));
        assert!(all(&output).contains("Linux version"), "{}", all(&output));
        assert!(kernel.number("total") > 10_000, "{}", kernel.number("total"));
        true
    });
    assert!(came_up, "no guest came up");
}

/// VMs that come and go by the hundred, their files read all the while: each reading agrees with KVM's statistic, the CPUs' sum
/// is what KVM counted of all of them, memory is bounded, and a VM that nobody looked at in time is told of.
#[test]
fn vms_come_and_go_while_the_counts_are_read() {
    let (_, before) = cpus(&counts());
    let first = vcpus(&counts()).len();
    let guest = guest_program();
    let said = Scratch::new("churn");
    let out = said.as_ref().to_str().unwrap();
    let script = format!("{{ seq 400; echo show; }} | {} churn 3 >{out}", guest.display());
    let mut guests = Background::start(Command::new("sh").args(["-c", &script]));
    let mut running = 0;
    let status = loop {
        let over = guests.0.try_wait().unwrap();
        for (line, _, ever) in vcpus(&counts()) {
            if line.contains(" torn=0 ") {
                assert!(line.contains(&format!(" kvm={ever} ")), "{line}: {ever}");
                running += u32::from(line.contains(" ended=0 ") && ever > 0);
            }
        }
        if let Some(status) = over {
            break status;
        }
    };
    assert!(status.success(), "{status}");
    assert!(running > 0, "none was read while it ran");
    let said = said.read();
    let text = counts();
    let listed = vcpus(&text);
    assert!(listed.len() > first.min(500) && listed.len() <= 512, "{} vCPUs are listed", listed.len());
    let evicted: u64 =
        text.split("evicted=").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(evicted > 0, "400 VMs left no more than {} vCPUs", listed.len());
    for (line, _, ever) in &listed {
        assert!(line.contains(" ended=1 ") && line.contains(&format!(" kvm={ever} ")), "{line}: {ever}");
    }
    // The guest tells of each VM that ended, in the end of those that were left, and what KVM's statistic was of each vCPU.
    let vms: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let vcpus = || vms.iter().filter_map(|vm| vm["vcpus"].as_array()).flatten();
    assert_eq!(vms.iter().filter(|vm| !vm.is_null()).count(), 400, "{said}");
    let told = |vcpu: &Value| match vcpu["kvm_exits"].as_u64() {
        // The newest have not run yet.
        None => assert_eq!(vcpu["turns"], 0, "{vcpu}"),
        Some(exits) => {
            assert!(exits >= vcpu["codes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum())
        }
    };
    vcpus().for_each(told);
    let exits: u64 = vcpus().filter_map(|vcpu| vcpu["kvm_exits"].as_u64()).sum();
    let (_, after) = cpus(&text);
    assert_eq!(after - before, exits, "the CPUs' sum, and KVM's of {} vCPUs", vcpus().count());
}
