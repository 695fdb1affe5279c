//! The report on made-up hosts, and on this one.

use super::trial::Works;
use super::*;
use exitscope_collect::host::SourceFacts;
use exitscope_collect::{Options, Probes, Programs};
use exitscope_model::{Measured, Source};

fn good() -> Facts {
    Facts {
        release: "6.12.48+deb13-amd64".into(),
        source: SourceFacts { backend: Backend::Vendor("kvm_intel".into()), host_pids: true, counters: None },
        device: Device::Open,
        nested: Some("Y".into()),
        vmlinux_btf: true,
        module_btf: vec![("kvm".into(), ModuleBtf::Own), ("kvm_intel".into(), ModuleBtf::Own)],
        bpf: Ok(()),
        unprivileged_bpf_disabled: Some("2".into()),
        lockdown: Some("none".into()),
        capabilities: 0x1ff_ffff_ffff,
        tracefs: Some("/sys/kernel/tracing".into()),
        kvm_events: true,
        debugfs: Some("/sys/kernel/debug".into()),
        kvm_debugfs: true,
        bpf_stats: false,
        memlock: Some(8 << 20),
        memlock_counts: false,
    }
}

fn backend(backend: Backend) -> SourceFacts {
    SourceFacts { backend, ..good().source }
}

fn works(source: Source, measured: Measured) -> Works {
    let programs = (source == Source::Btf).then_some(Programs { probes: Probes::One, because: None });
    Works { source, measured, programs, note: None }
}

fn trial(works: Works) -> Trial {
    Trial { result: Ok(works), refused: Vec::new() }
}

fn told(facts: &Facts, trial: &Trial) -> String {
    let mut out = Vec::new();
    assert_eq!(report(facts, trial, &mut out).unwrap(), trial.result.is_ok());
    String::from_utf8(out).unwrap()
}

#[test]
fn a_good_host() {
    insta::assert_snapshot!("good_host", told(&good(), &trial(works(Source::Btf, Measured::Breakdown))));
}

#[test]
fn no_kvm() {
    let facts = Facts {
        source: backend(Backend::NoKvm),
        device: Device::Missing,
        nested: None,
        module_btf: Vec::new(),
        kvm_events: false,
        kvm_debugfs: false,
        ..good()
    };
    let trial = Trial { result: Err(exitscope_collect::Error::NoKvm.to_string()), refused: Vec::new() };
    insta::assert_snapshot!("no_kvm", told(&facts, &trial));
}

#[test]
fn no_root() {
    let facts = Facts {
        device: Device::Refused("Permission denied (os error 13)".into()),
        bpf: Err("creating a BPF map: Operation not permitted (os error 1)".into()),
        capabilities: 0,
        kvm_events: false,
        kvm_debugfs: false,
        ..good()
    };
    let error =
        "this kernel does not let us load BPF programs (this process lacks CAP_BPF); run this as root"
            .to_owned();
    let refused = [Source::Btf, Source::Tracepoint, Source::KvmStat].map(|source| (source, error.clone()));
    insta::assert_snapshot!("no_root", told(&facts, &Trial { result: Err(error), refused: refused.into() }));
}

#[test]
fn a_software_backend() {
    let facts = Facts {
        release: "6.18.44".into(),
        source: backend(Backend::Software(vec!["kvm_pvm".into()])),
        nested: None,
        module_btf: vec![("kvm".into(), ModuleBtf::BuiltIn)],
        unprivileged_bpf_disabled: None,
        lockdown: None,
        tracefs: None,
        kvm_events: false,
        debugfs: None,
        kvm_debugfs: false,
        bpf_stats: true,
        ..good()
    };
    let note = Some("KVM's backend here is kvm_pvm, whose exits never pass kvm_exit".into());
    let trial = trial(Works { note, ..works(Source::KvmStat, Measured::Counts) });
    insta::assert_snapshot!("software_backend", told(&facts, &trial));
}

#[test]
fn a_container_and_an_old_kernel() {
    let facts = Facts { source: SourceFacts { host_pids: false, ..good().source }, ..good() };
    let refused = vec![
        (Source::Btf, "loading the BPF programs: Invalid argument (os error 22)".into()),
        (Source::Tracepoint, "loading the BPF programs: unknown func bpf_loop#181".into()),
    ];
    let note = Some("the programs that count more do not work here (loading the BPF programs: …)".into());
    let result = Ok(Works { note, ..works(Source::KvmStat, Measured::Counts) });
    insta::assert_snapshot!("container_and_old_kernel", told(&facts, &Trial { result, refused }));
}

#[test]
fn the_programs_that_see_an_exit() {
    let because = Some("the kernel's clock source is hpet, not tsc".to_owned());
    let note =
        Some("two BPF programs see each exit, because the kernel's clock source is hpet, not tsc".into());
    let programs = Some(Programs { probes: Probes::Pair, because });
    let text = told(&good(), &trial(Works { programs, note, ..works(Source::Btf, Measured::Breakdown) }));
    assert!(text.contains("warning  programs      two for each exit; one would cost less"), "{text}");
    assert!(text.ends_with("not tsc.\n"), "{text}");
}

#[test]
fn counters_of_kvm_itself() {
    for (on, line) in
        [(true, "fine     counters      KVM counts its own exits"), (false, "warning  counters")]
    {
        let facts = Facts { source: SourceFacts { counters: Some(on), ..good().source }, ..good() };
        let text = told(&facts, &trial(works(Source::Kernel, Measured::Counts)));
        assert!(text.contains(line) && text.ends_with("counted by KVM itself; no times.\n"), "{text}");
    }
}

/// This host, whatever it is: the source that the report names is the one that counting begins with.
#[test]
fn the_report_is_about_what_stat_would_start() {
    let mut out = Vec::new();
    let usable = run(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    match exitscope_collect::start(&Options::default()) {
        Ok(source) => {
            assert!(usable && text.contains(&format!("the source `{}`", source.source().word())), "{text}")
        }
        Err(error) => assert!(!usable && text.contains(&error.to_string()), "{text}"),
    }
}
