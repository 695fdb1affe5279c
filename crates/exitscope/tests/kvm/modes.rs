//! Counts of exits by the guest's mode, against what the guest was made to do.

use exitscope_collect::{self as collect, Options, PortMarks, Select};
use exitscope_model::{Counters, ExitCode, Interval, Isa, Level, Measured, Mode, Modes, Sample, Source};
use exitscope_testguest::{self as guest, modes, modes::Act, nested};
use std::collections::BTreeMap;

/// Returns a sample of a host on which nothing has happened.
fn nothing() -> Sample {
    Sample {
        monotonic_ns: collect::monotonic_ns(),
        wall: std::time::SystemTime::now(),
        source: Source::Btf,
        measured: Measured::Breakdown,
        vms: Vec::new(),
        vcpus: Vec::new(),
        workers: Vec::new(),
        loss: Default::default(),
    }
}

/// Runs a guest, watched with a look at what it does if asked for; the VM has ended.
fn watch<T>(run: impl FnOnce() -> T, guest: bool) -> (T, Interval, PortMarks) {
    let select = Select::Pids(vec![std::process::id()]);
    let options = Options { select, source: Some(Source::Btf), guest, ..Options::default() };
    let mut source = collect::start(&options).unwrap();
    assert_eq!(source.note(), None);
    let done = run();
    let interval = Interval::between(&nothing(), &source.sample().unwrap()).unwrap();
    let marks = source.take_marks().unwrap();
    assert_eq!(source.take_marks().unwrap(), PortMarks::default(), "they are told once");
    assert!(interval.loss.is_none(), "{:?}", interval.loss);
    assert_eq!(interval.kvm_exits(), Some(interval.exits()));
    (done, interval, marks)
}

/// The same of a guest that goes through modes.
pub fn watched(acts: &[Act], guest: bool) -> (modes::Seen, Interval, PortMarks) {
    let (seen, interval, marks) = watch(|| modes::run(acts).unwrap(), guest);
    assert_eq!(interval.exits(), seen.kvm_exits.unwrap());
    (seen, interval, marks)
}

pub fn act(mode: Mode, writes: &[(u16, u8, u32)]) -> Act {
    Act { mode, cpuids: 3, writes: writes.to_vec() }
}

const CPUID: [i64; 2] = [10, 0x72];
const PORT: [i64; 2] = [30, 0x7b];
const HALT: [i64; 2] = [12, 0x78];

/// Returns the counters of one reason, given by its codes on VMX and on SVM.
fn counted(interval: &Interval, codes: [i64; 2]) -> Counters {
    let mut sum = Counters::default();
    let is_it = |ExitCode { isa, code }: ExitCode| code == codes[usize::from(isa == Isa::Svm)];
    interval.rows.iter().filter(|row| is_it(row.code)).for_each(|row| sum.add(&row.counters));
    sum
}

/// Returns counts of exits by mode.
fn modes(counts: &BTreeMap<Mode, u64>) -> Modes {
    Modes::new(Mode::ALL.map(|mode| counts.get(&mode).copied().unwrap_or(0)))
}

#[test]
fn exits_are_counted_in_the_mode_that_the_guest_was_in() {
    // Back and forth, each a number of its own.
    let order = [Mode::Real, Mode::Protected, Mode::LongLow, Mode::LongHigh, Mode::Real, Mode::LongHigh];
    let acts: Vec<Act> = (0..)
        .zip(order)
        .map(|(n, mode)| Act { mode, cpuids: 101 + 17 * n, writes: vec![(0x510, 7, 31 + 5 * n)] })
        .collect();
    let (seen, interval, _) = watched(&acts, true);
    let (mut cpuids, mut writes, mut halts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for act in &acts {
        *cpuids.entry(act.mode).or_default() += u64::from(act.cpuids);
        *writes.entry(act.mode).or_default() += u64::from(act.writes[0].2);
        *halts.entry(act.mode).or_default() += 1;
    }
    assert_eq!(seen.halts, acts.len() as u64);
    let is_svm = interval.rows.iter().all(|row| row.code.isa == Isa::Svm);
    println!("{} HLT {:?}", if is_svm { "SVM" } else { "VMX" }, counted(&interval, HALT).modes);
    for row in &interval.rows {
        let Counters { count, modes, .. } = &row.counters;
        println!("{:?} {count} {modes:?}", row.code);
        assert_eq!(modes.count(), *count, "{:?}: the VM has ended, and all its exits are over", row.code);
        assert!(!is_svm || modes.get(Mode::Unknown) == 0, "{:?} {modes:?}", row.code);
    }
    assert_eq!(counted(&interval, CPUID).modes, modes(&cpuids));
    assert_eq!(counted(&interval, PORT).modes, modes(&writes));
    assert_eq!(counted(&interval, HALT).modes, modes(&halts));
}

/// Without a word about it nothing is counted; nor where no more than times can be measured.
#[test]
fn modes_are_counted_where_they_are_asked_for() {
    let acts = [act(Mode::Real, &[(0x80, 1, 1)]), act(Mode::LongHigh, &[(0x80, 1, 1)])];
    let (_, interval, marks) = watched(&acts, false);
    assert_eq!(marks, PortMarks::default());
    assert!(interval.rows.iter().all(|row| row.counters.modes == Modes::default()));
    for (source, measure) in [(Source::Tracepoint, Measured::Breakdown), (Source::Btf, Measured::Latency)] {
        let select = Select::Pids(vec![std::process::id()]);
        let options = Options { select, source: Some(source), measure, guest: true, ..Options::default() };
        let mut source = collect::start(&options).unwrap();
        modes::run(&acts).unwrap();
        let sample = source.sample().unwrap();
        let mut rows = sample.vcpus.iter().flat_map(|vcpu| &vcpu.reasons);
        assert!(rows.all(|row| row.counters.modes == Modes::default() && row.counters.count > 0));
        assert_eq!(source.take_marks().unwrap(), PortMarks::default());
    }
}

/// Exits of a guest's own guest are counted in the mode of that one. Here both are in the lower half.
#[test]
fn exits_of_l2_have_a_mode_too() {
    let work = nested::Work { cpuids: 50, ports: 30 };
    if guest::isa() != Some(Isa::Svm) {
        // That hypervisor is one for SVM.
        assert!(nested::run(1, work).is_err());
        return;
    }
    let (_, interval, _) = watch(|| nested::run(2, work).unwrap(), true);
    let rows = |level| interval.rows.iter().filter(move |row| row.level == level);
    for (level, least) in [(Level::L1, 200), (Level::L2, 160)] {
        assert!(rows(level).map(|row| row.counters.count).sum::<u64>() >= least, "{level:?}");
        for row in rows(level) {
            let Counters { count, modes, .. } = &row.counters;
            assert_eq!(modes.get(Mode::LongLow), *count, "{level:?} {:?}: {modes:?}", row.code);
            assert_eq!(modes.count(), *count);
        }
    }
}
