use super::*;
use exitscope_model::{Counters, Level, Loss, Measured, Row as Counted, Source, VcpuSpan, Vm, VmId};
use exitscope_testguest::KvmCount;
use std::time::{Duration, SystemTime};

fn code(isa: Isa, code: i64) -> ExitCode {
    ExitCode { isa, code }
}

fn done(isa: Isa, vcpus: &[(&[(Kind, u64)], KvmCount)]) -> Done {
    let vcpus = (0..)
        .zip(vcpus)
        .map(|(vcpu, (kinds, kvm))| VcpuDone {
            vcpu,
            kinds: kinds.iter().copied().collect(),
            first_loads: 1,
            kvm: Some(*kvm),
        })
        .collect();
    Done { isa: Some(isa), vcpus, host_nmis: Some(2), emulated: false, pages: 512 }
}

fn interval(isa: Isa, vcpus: &[&[(i64, u64)]]) -> Interval {
    let id = VmId(1);
    let vm = Vm {
        id,
        pid: 7,
        name: "selftest".into(),
        vmm: "exitscope".into(),
        command: "".into(),
        labels: Default::default(),
        ended: true,
    };
    let mut rows = Vec::new();
    let mut spans = Vec::new();
    for (vcpu, counts) in (0..).zip(vcpus) {
        let exits = counts.iter().map(|(_, count)| count).sum();
        spans.push(VcpuSpan { vm: id, vcpu, exits, kvm_exits: Some(exits), time: None });
        rows.extend(counts.iter().map(|&(number, count)| Counted {
            vm: id,
            vcpu,
            code: code(isa, number),
            level: Level::L1,
            counters: Counters { count, ..Counters::default() },
        }));
    }
    Interval {
        start: SystemTime::UNIX_EPOCH,
        end: SystemTime::UNIX_EPOCH,
        length: Duration::ZERO,
        source: Source::Btf,
        measured: Measured::Counts,
        vms: [(id, vm)].into(),
        vcpus: spans,
        rows,
        workers: Vec::new(),
        loss: Loss::default(),
    }
}

const KINDS: &[(Kind, u64)] = &[
    (Kind::Cpuid, 1000),
    (Kind::PortOut, 20),
    (Kind::PortIn, 3),
    (Kind::MmioWrite, 11),
    (Kind::MmioRead, 7),
    (Kind::UndefinedOpcode, 13),
    (Kind::Hlt, 1),
    (Kind::Wbinvd, 5),
    (Kind::Invd, 4),
];

fn kvm(exits: u64) -> KvmCount {
    KvmCount { exits, faults: Some((6, 1)) }
}

// 18 accesses, the first load, and 5 faults
const SVM: &[(i64, u64)] =
    &[(0x46, 13), (0x60, 8), (0x72, 1000), (0x76, 4), (0x78, 1), (0x7b, 23), (0x89, 5), (0x400, 24)];
const SVM_ALL: u64 = 1078;

fn with(counts: &[(i64, u64)], change: (i64, u64)) -> Vec<(i64, u64)> {
    let kept = counts.iter().copied().filter(|(number, _)| *number != change.0);
    kept.chain([change]).filter(|(_, count)| *count > 0).collect()
}

fn text(report: &Report) -> String {
    render(report, |code| format!("{} {:#x}", code.isa.name(), code.code))
}

#[test]
fn what_was_done_is_exact_on_both_kinds_of_hardware() {
    let svm = compare(&interval(Isa::Svm, &[SVM]), &done(Isa::Svm, &[(KINDS, kvm(SVM_ALL))]));
    assert!(svm.is_exact());
    insta::assert_snapshot!("svm", text(&svm));

    // 18 EPT_MISCONFIG; the first load is an EPT_VIOLATION; one of the exceptions is an NMI
    let vmx: &[(i64, u64)] =
        &[(0, 14), (1, 9), (10, 1000), (12, 1), (13, 4), (30, 23), (48, 6), (49, 18), (54, 5)];
    let vmx = compare(&interval(Isa::Vmx, &[vmx]), &done(Isa::Vmx, &[(KINDS, kvm(SVM_ALL + 2))]));
    assert!(vmx.is_exact());
    insta::assert_snapshot!("vmx", text(&vmx));
}

#[test]
fn one_exit_more_or_less_of_any_reason_is_found() {
    for &(number, count) in SVM.iter().filter(|(number, _)| *number != 0x60) {
        for wrong in [count - 1, count + 1] {
            // KVM counts the same, so that nothing but the row can tell.
            let counts = with(SVM, (number, wrong));
            let exits = counts.iter().map(|(_, count)| count).sum();
            let report = compare(&interval(Isa::Svm, &[&counts]), &done(Isa::Svm, &[(KINDS, kvm(exits))]));
            assert!(!report.is_exact(), "{number:#x}: {wrong} passed for {count}");
            let bad: Vec<_> = report.rows.iter().filter(|row| row.verdict == Verdict::Wrong).collect();
            assert_eq!(bad.len(), 1);
            assert_eq!(bad[0].code.code, number);
        }
    }
}

#[test]
fn what_nobody_did_and_what_kvm_counts_otherwise_is_found() {
    let counts = [with(SVM, (0x7c, 2)), with(SVM, (0x72, 999))];
    let counts: Vec<&[(i64, u64)]> = counts.iter().map(Vec::as_slice).collect();
    let mut interval = interval(Isa::Svm, &counts);
    interval.loss.no_row = 3;
    let report = compare(&interval, &done(Isa::Svm, &[(KINDS, kvm(SVM_ALL + 2)), (KINDS, kvm(SVM_ALL))]));
    assert!(!report.is_exact());
    insta::assert_snapshot!("wrong", text(&report));
}

#[test]
fn vcpus_that_were_mixed_up_are_found() {
    let other: Vec<_> = KINDS.iter().map(|&(kind, count)| (kind, count + 2)).collect();
    let other_counts: Vec<_> = SVM
        .iter()
        .map(|&(number, count)| match number {
            0x60 => (number, count),
            0x7b | 0x400 => (number, count + 4),
            _ => (number, count + 2),
        })
        .collect();
    let exits: u64 = other_counts.iter().map(|(_, count)| count).sum();
    let done = done(Isa::Svm, &[(KINDS, kvm(SVM_ALL)), (&other, kvm(exits))]);
    assert!(compare(&interval(Isa::Svm, &[SVM, &other_counts]), &done).is_exact());
    assert!(!compare(&interval(Isa::Svm, &[&other_counts, SVM]), &done).is_exact());
    assert!(!compare(&interval(Isa::Svm, &[SVM]), &done).is_exact());
    assert!(!compare(&interval(Isa::Svm, &[SVM, &other_counts, SVM]), &done).is_exact());
}

#[test]
fn invd_may_be_wbinvd_on_emulated_hardware_alone() {
    let counts = with(&with(SVM, (0x76, 0)), (0x89, 9));
    let interval = interval(Isa::Svm, &[&counts]);
    let mut done = done(Isa::Svm, &[(KINDS, kvm(SVM_ALL))]);
    assert!(!compare(&interval, &done).is_exact());
    done.emulated = true;
    let report = compare(&interval, &done);
    assert!(report.is_exact());
    assert_eq!(report.notes.len(), 1);
}

#[test]
fn nothing_counted_is_not_exact() {
    let done = done(Isa::Svm, &[(&[], KvmCount { exits: 0, faults: Some((0, 1)) })]);
    assert!(!compare(&interval(Isa::Svm, &[&[]]), &done).is_exact());
    let none = Done { isa: None, ..done };
    assert!(!compare(&interval(Isa::Svm, &[SVM]), &none).is_exact());
}
