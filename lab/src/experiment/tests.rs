//! Recordings of made-up boots, written by exitscope's own writer, and the document that comes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use exitscope_model::{
    About, Counters, ExitCode, Interval, Isa, Level, Loss, Measured, Row, Source, Split, UserReason,
    VcpuSpan, Vm, VmId,
};
use exitscope_record::{Notes, Writer};

use super::*;
use crate::machine::Machine;
use crate::system::{Bus, System};

const CELL: Cell = Cell { machine: Machine::Svm, system: System::Busybox, bus: Bus::Ide };
const IOIO: ExitCode = ExitCode { isa: Isa::Svm, code: 0x7b };
const CPUID: ExitCode = ExitCode { isa: Isa::Svm, code: 0x72 };
const NPF: ExitCode = ExitCode { isa: Isa::Svm, code: 0x400 };
const KVM_EXIT_IO: UserReason = UserReason(2);

/// Two seconds of one VM. Rows are of (code, exits, exits to the VMM).
fn interval(second: u64, rows: &[(ExitCode, u64, u64)]) -> Interval {
    let vm = VmId(0);
    let row = |&(code, count, user_exits): &(ExitCode, u64, u64)| Row {
        vm,
        vcpu: 0,
        level: Level::L1,
        code,
        counters: Counters {
            count,
            split: Split { user_exits, ..Split::default() },
            returns: [(KVM_EXIT_IO, user_exits)].into_iter().filter(|(_, count)| *count > 0).collect(),
            ..Counters::default()
        },
    };
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    let length = Duration::from_secs(2);
    let exits = rows.iter().map(|row| row.1).sum();
    let named = Vm {
        id: vm,
        pid: 7,
        name: "busybox".into(),
        vmm: "qemu".into(),
        command: "".into(),
        labels: Default::default(),
        ended: false,
    };
    Interval {
        start,
        end: start + length,
        length,
        source: Source::Btf,
        measured: Measured::Breakdown,
        vms: BTreeMap::from([(vm, named)]),
        vcpus: vec![VcpuSpan { vm, vcpu: 0, exits, kvm_exits: Some(exits), time: None }],
        rows: rows.iter().map(row).collect(),
        workers: Vec::new(),
        loss: Loss::default(),
    }
}

fn begin(path: &Path, intervals: &[Interval]) -> Writer {
    let about = About {
        tool: "0.1.0".into(),
        host: "outer".into(),
        kernel: "6.1".into(),
        cpu: "emulated".into(),
        cpus: 1,
        kvm: BTreeMap::new(),
        facts: Default::default(),
        command: Vec::new(),
        interval: Duration::from_secs(1),
        source: Source::Btf,
        measured: intervals[0].measured,
    };
    let mut writer = Writer::create(path, true, &about).unwrap();
    for interval in intervals {
        writer.write(interval, &Notes::default()).unwrap();
    }
    writer
}

fn record(path: &Path, intervals: &[Interval]) {
    begin(path, intervals).finish("the command ended").unwrap();
}

fn run(name: &str, attempts: &[i32]) -> Run {
    let attempts = attempts.iter().map(|&status| Attempt { status, seconds: 9.6 }).collect();
    Run { name: name.into(), kernel: "6.1".into(), date: String::new(), command: String::new(), attempts }
}

/// Four boots, of which KVM counted one exit more of the last.
fn results() -> Results {
    let scratch = tempfile::tempdir().unwrap();
    let recording = scratch.path().join("run.rec");
    let mut results = Results::new().unwrap();
    let runs: [(u64, &[i32], u64, u64); 4] =
        [(1, &[0], 1000, 0), (2, &[124, 0], 1200, 0), (3, &[0], 1400, 0), (4, &[0], 9000, 1)];
    for (number, attempts, io, kvm_more) in runs {
        let mut intervals = [
            interval(8, &[]),
            interval(10, &[(IOIO, io, io - 10), (CPUID, 100, 0)]),
            interval(12, &[(IOIO, 50, 50), (NPF, number, 0)]),
            interval(14, &[]),
        ];
        intervals[1].vcpus[0].kvm_exits = Some(io + 100 + kvm_more);
        record(&recording, &intervals);
        let run = run(&format!("svm-busybox-ide-{number}"), attempts);
        let counted = results.add(0, &CELL, &run, &recording).unwrap();
        assert_eq!(counted, Counted { exits: io + 150 + number, exact: kvm_more == 0 });
    }
    results
}

#[test]
fn a_run_that_is_not_exact_is_shown_and_not_used() {
    let results = results();
    let runs = results.table("runs").unwrap().unwrap();
    assert!(runs.contains("| svm-busybox-ide-2 | 1,352 | 1,352 | 0 | yes | 4 | 10 | 1 |\n"), "{runs}");
    let inexact = "| svm-busybox-ide-4 | 9,154 | 9,155 | 0 | **no**, counts nowhere else | 4 | 10 | 0 |\n";
    assert!(runs.contains(inexact), "{runs}");
    let totals = results.table("totals").unwrap().unwrap();
    assert_eq!(
        totals.lines().nth(2).unwrap(),
        "| SVM, busybox, ide | 3 | 1,352 | 1,151 | 1,553 | 29.7 % | 4 | 338 |"
    );
}

#[test]
fn every_table_follows_from_the_recordings() {
    let results = results();
    let table = |name: &str| results.table(name).unwrap().unwrap();
    assert_eq!(
        table("types-svm"),
        "| type | busybox, ide |\n|---|---:|\n| IOIO | 1,250 (1,050 to 1,450) |\n| CPUID | 100 |\n| NPF | 2 (1 to 3) |\n"
    );
    assert_eq!(table("types-vmx"), "No run of these yet.\n");
    let events = table("events");
    assert!(events.starts_with("| what happens | SVM, busybox, ide |\n|---|---:|\n"), "{events}");
    assert!(events.contains("| port I/O | 1,250 (92.5 %) |\n"), "{events}");
    assert!(events.contains("| HLT | 0 (0.0 %) |\n"), "{events}");
    assert!(events.ends_with("| all other types | 0 (0.0 %) |\n"), "{events}");
    assert!(table("user").contains("| 1,240 (1,040 to 1,440) | 91.7 % | 99.2 % | 112 (111 to 113) |"));
    assert!(table("returns").contains("| IO | 1,240 (1,040 to 1,440) |"));
    let rates = table("rates");
    assert!(
        rates.ends_with("| SVM, busybox, ide | 338 (288 to 388) | 26 | 650 (550 to 750) | 1.9 |\n"),
        "{rates}"
    );
    let parts = table("parts");
    assert!(parts.ends_with("| 650 | 650 | 650 | 650 | 650 | 26 | 26 | 26 | 26 | 26 |\n"), "{parts}");
    let leaders = table("leaders");
    assert!(leaders.contains("| IOIO 92 % |") && leaders.ends_with("| IOIO 96 % |\n"), "{leaders}");
    let extremes = table("extremes");
    assert!(extremes.contains("| IOIO 92.5 % | CPUID 7.4 %, NPF 0.1 % | NPF (2) |"), "{extremes}");
    assert_eq!(results.table("other").unwrap(), None);
}

#[test]
fn the_published_document_names_only_known_tables() {
    let results = results();
    let document = include_str!("../../../docs/experiment.md");
    let filled = fill(document, &|name| results.table(name)).unwrap();
    assert!(filled.contains("| svm-busybox-ide-2 | 1,352 | 1,352 |"));
    let outside = |text: &str| text.lines().filter(|line| !line.starts_with('|')).count();
    assert!(outside(document).abs_diff(outside(&filled)) <= 2, "only tables change");
}

#[test]
fn each_machine_has_its_column_and_its_reasons() {
    let scratch = tempfile::tempdir().unwrap();
    let recording = scratch.path().join("run.rec");
    let mut results = Results::new().unwrap();
    let codes = |codes: &[(i64, u64)], isa| -> Vec<(ExitCode, u64, u64)> {
        codes.iter().map(|&(code, count)| (ExitCode { isa, code }, count, 0)).collect()
    };
    let debian = Cell { system: System::Debian, ..CELL };
    let vmx = Cell { machine: Machine::Vmx, ..CELL };
    let boots = [
        (CELL, codes(&[(0x7b, 70), (0x61, 4)], Isa::Svm)),
        (debian, codes(&[(0x7b, 50), (0x72, 60)], Isa::Svm)),
        (vmx, codes(&[(30, 40), (31, 5), (32, 3), (37, 2)], Isa::Vmx)),
    ];
    for (number, (cell, rows)) in (0..).zip(&boots) {
        record(&recording, &[interval(1, rows)]);
        results.add(number, cell, &run("a run", &[0]), &recording).unwrap();
    }
    let table = |name: &str| results.table(name).unwrap().unwrap();
    assert_eq!(
        table("types-svm"),
        "| type | busybox, ide | debian, ide |\n|---|---:|---:|\n| IOIO | 70 | 50 |\n| CPUID | 0 | 60 |\n| NMI | 4 | 0 |\n"
    );
    assert!(table("types-vmx").starts_with("| type | busybox, ide |\n|---|---:|\n| IO_INSTRUCTION | 40 |\n"));
    let events = table("events");
    let expected = "| what happens | SVM, busybox, ide | SVM, debian, ide | VMX, busybox, ide |\n";
    assert!(events.starts_with(expected), "{events}");
    assert!(events.contains("| port I/O | 70 (94.6 %) | 50 (45.5 %) | 40 (80.0 %) |\n"), "{events}");
    assert!(events.contains("| MSRs | 0 (0.0 %) | 0 (0.0 %) | 8 (16.0 %) |\n"), "{events}");
    assert!(events.ends_with("| all other types | 0 (0.0 %) | 0 (0.0 %) | 2 (4.0 %) |\n"), "{events}");
    let totals = table("totals");
    assert!(totals.contains("| SVM, debian, ide | 1 | 110 | 110 | 110 | – | 2 | 55 |\n"), "{totals}");
}

#[test]
fn a_recording_that_is_not_one_whole_boot_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run.rec");
    let refused = |why: &str| {
        let mut results = Results::new().unwrap();
        let error = results.add(0, &CELL, &run("a run", &[0]), &path).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert_eq!(results.table("runs").unwrap().unwrap(), "No run of these yet.\n");
    };
    refused("No such file");
    fs::write(&path, "no database, but as long as a header of one, which SQLite reads before it says so. ")
        .unwrap();
    refused("no recording");
    let good = interval(1, &[(IOIO, 30, 20)]);
    let with = |change: &dyn Fn(&mut Interval)| {
        let mut interval = good.clone();
        change(&mut interval);
        record(&path, &[interval]);
    };
    drop(begin(&path, std::slice::from_ref(&good)));
    refused("no end");
    with(&|i| i.measured = Measured::Counts);
    refused("it measured \"counts\"");
    with(&|i| {
        i.rows.clear();
        i.vcpus[0].exits = 0;
    });
    refused("0 VMs");
    with(&|i| {
        let vm = Vm { id: VmId(1), ..i.vms[&VmId(0)].clone() };
        i.vms.insert(vm.id, vm);
        i.vcpus.push(VcpuSpan { vm: VmId(1), ..i.vcpus[0] });
    });
    refused("2 VMs");
    with(&|i| i.rows[0].code.isa = Isa::Vmx);
    refused("its exits are of vmx");
    // What was lost, or could not be compared, makes a run inexact.
    let exact = |change: &dyn Fn(&mut Interval)| {
        with(change);
        Results::new().unwrap().add(0, &CELL, &run("a run", &[0]), &path).unwrap().exact
    };
    assert!(exact(&|_| ()));
    assert!(!exact(&|i| i.loss.torn = 1));
    assert!(!exact(&|i| i.vcpus[0].kvm_exits = None));
}

/// An experiment with a program in place of `lab`: it puts the file `recording` into the directory after `--out`, does what
/// `script` says, and counts its calls.
fn experiment(directory: &Path, script: &str) -> Experiment {
    let lab = directory.join("lab");
    let text = format!(
        "#!/bin/sh\ncd {}\necho x >>calls\nuntil [ \"$1\" = --out ]; do shift; done\ncp recording \"$2/run.rec\"\n{script}\n",
        directory.display()
    );
    // Written by another process: while this one had it open, a program that another test starts just then would
    // inherit it, and the kernel runs no file that is open for writing.
    let write = "printf %s \"$2\" >\"$1\" && chmod +x \"$1\"";
    let status = Command::new("sh").args(["-c", write, "sh"]).arg(&lab).arg(text).status().unwrap();
    assert!(status.success());
    Experiment {
        lab,
        exitscope: "exitscope".into(),
        out: directory.join("out"),
        suite: "bookworm".into(),
        kernel: "6.1".into(),
        time_limit: Duration::from_secs(9),
        jobs: 2,
        stop: Arc::default(),
    }
}

fn calls(directory: &Path) -> usize {
    fs::read_to_string(directory.join("calls")).map_or(0, |calls| calls.lines().count())
}

#[test]
fn runs_are_made_again_until_they_end_and_not_once_they_are_there() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    record(&at.join("recording"), &[interval(1, &[(IOIO, 30, 20)]), interval(3, &[(CPUID, 4, 0)])]);
    // The first call of all stalls.
    let stalls = experiment(at, "[ -e stalled ] || { touch stalled; exit 124; }");
    let only = Experiment { jobs: 1, ..stalls };
    assert_eq!(only.make(&[CELL], 2, &|_| {}).unwrap(), Vec::<String>::new());
    assert_eq!(calls(at), 3);
    let (run, recording) = load(&only.out, &CELL, 1).unwrap().unwrap();
    assert_eq!((run.stalls(), run.attempts.len()), (1, 2));
    let counted = Results::new().unwrap().add(0, &CELL, &run, &recording).unwrap();
    assert_eq!(counted, Counted { exits: 34, exact: true });
    assert!(run.command.contains("record --interval 1s --output"), "{}", run.command);
    assert!(
        run.command.contains("inner --name busybox --system busybox --bus ide --ping"),
        "{}",
        run.command
    );
    // One more run: only that is made.
    only.make(&[CELL], 3, &|_| {}).unwrap();
    assert_eq!(calls(at), 4);
    assert_eq!(load(&only.out, &CELL, 3).unwrap().unwrap().0.stalls(), 0);
    assert!(load(&only.out, &CELL, 4).unwrap().is_none());
    // A file that somebody has changed is no run, and is not silently made again.
    fs::rename(only.out.join("svm-busybox-ide-1.json"), only.out.join("svm-busybox-ide-2.json")).unwrap();
    let error = only.make(&[CELL], 3, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("svm-busybox-ide-2.json: it is the run svm-busybox-ide-1; remove it"), "{error}");
}

#[test]
fn a_run_that_fails_leaves_no_figures() {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path();
    let fails = |script: &str, why: &str, expected_calls: usize| {
        fs::remove_file(at.join("calls")).unwrap_or_default();
        let failed = experiment(at, script).make(&[CELL], 1, &|_| {}).unwrap();
        assert!(failed.len() == 1 && failed[0].contains(why), "{failed:?}");
        assert_eq!(calls(at), expected_calls);
        assert!(load(&at.join("out"), &CELL, 1).unwrap().is_none());
    };
    record(&at.join("recording"), &[interval(1, &[(IOIO, 30, 20)])]);
    fails("exit 124", "status 124", 3);
    fails("echo no disk; exit 1", "status 1 after 0 s: no disk", 1);
    let other = ExitCode { isa: Isa::Vmx, code: 30 };
    record(&at.join("recording"), &[interval(1, &[(other, 30, 20)])]);
    fails("exit 0", "its recording is broken: its exits are of vmx", 1);
    drop(begin(&at.join("recording"), &[interval(1, &[(IOIO, 30, 20)])]));
    fails("exit 0", "its recording is broken: the recording has no end", 1);
}
