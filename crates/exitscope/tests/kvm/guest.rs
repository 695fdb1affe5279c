//! The guest against the kernel's own event counts, without any code of ours in between. Needs root, KVM on
//! VMX or SVM, and tracefs: `cargo test --features lab-tests --test guest` on such a host.

use super::trace::{self, Histogram};
use exitscope::selftest;
use exitscope_model::{
    Counters, ExitCode, Interval, Isa, Level, Loss, Measured, Row, Source, VcpuSpan, Vm, VmId,
};
use exitscope_testguest::{self as guest, Error, Found, Kind, Plan};
use std::time::{Duration, SystemTime};

const VM: VmId = VmId(1);

/// vCPU, reason, count.
fn counts(histogram: &Histogram) -> Vec<(u32, i64, u64)> {
    let row = |row: &trace::Row| {
        let (vcpu, reason) = (row.number("vcpu_id"), row.number("exit_reason"));
        (u32::try_from(vcpu).unwrap(), i64::try_from(reason).unwrap(), row.number("hitcount"))
    };
    histogram.read().iter().map(row).collect()
}

fn interval(isa: Isa, vcpus: u32, counts: &[(u32, i64, u64)]) -> Interval {
    let vm = Vm {
        id: VM,
        pid: std::process::id(),
        name: String::new(),
        vmm: String::new(),
        command: "".into(),
        labels: Default::default(),
        ended: false,
    };
    let row = |&(vcpu, code, count): &(u32, i64, u64)| Row {
        vm: VM,
        vcpu,
        code: ExitCode { isa, code },
        level: Level::L1,
        counters: Counters { count, ..Counters::default() },
    };
    let span = |vcpu| {
        let exits = counts.iter().filter(|row| row.0 == vcpu).map(|row| row.2).sum();
        VcpuSpan { vm: VM, vcpu, exits, kvm_exits: None, time: None }
    };
    Interval {
        start: SystemTime::UNIX_EPOCH,
        end: SystemTime::UNIX_EPOCH,
        length: Duration::ZERO,
        source: Source::Tracepoint,
        measured: Measured::Counts,
        vms: [(VM, vm)].into(),
        vcpus: (0..vcpus).map(span).collect(),
        rows: counts.iter().map(row).collect(),
        workers: Vec::new(),
        loss: Loss::default(),
    }
}

#[test]
fn the_kernels_own_count_of_the_guest_is_exact() {
    let isa = guest::isa().expect("this test needs KVM on VMX or SVM");
    let found = guest::probe().unwrap();
    assert_eq!(found.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), Kind::ALL);
    let left_out: Vec<Kind> =
        found.iter().filter(|(_, found)| !found.usable()).map(|(kind, _)| *kind).collect();
    for (kind, found) in &found {
        println!("{:16} {}", kind.name(), found.what());
        assert!(!matches!(found, Found::Fails(_)), "{}: {}", kind.name(), found.what());
    }
    assert!(left_out.len() <= 4, "too many kinds do not exit here: {left_out:?}");
    for vcpus in [1, 4] {
        let histogram = Histogram::start("kvm_exit", "keys=vcpu_id,exit_reason:size=4096");
        let plans: Vec<Plan> = (0..vcpus).map(|vcpu| Plan::standard(vcpu).without(&left_out)).collect();
        let (done, held) = guest::run_and_hold(&plans).unwrap();
        let counts = counts(&histogram);
        drop(held);
        let report = selftest::compare(&interval(isa, vcpus, &counts), &done);
        let text = selftest::render(&report, |code| format!("{} {:#x}", code.isa.name(), code.code));
        println!("{text}");
        assert!(report.is_exact(), "{text}");
        assert!(report.totals.iter().all(|total| total.kvm.is_some()), "KVM kept no count of its own");
    }
}

#[test]
fn a_guest_of_no_vcpu_or_too_many_is_refused() {
    assert!(matches!(guest::run(&[]), Err(Error::Vcpus { asked: 0, .. })));
    let many = vec![Plan::only(Kind::Cpuid, 1); guest::MAX_VCPUS + 1];
    assert!(matches!(guest::run(&many), Err(Error::Vcpus { .. })));
    let too_often = Plan::only(Kind::Cpuid, 1 << 33);
    assert!(matches!(guest::run(&[too_often]), Err(Error::Count { .. })));
}
