//! Runs on two sides, and by how much they differ.

use super::figure::{self, Context, Figure};
use super::{By, ExitCode, Group, Interval, Level, Measured, Subject, Summary, group};
use std::collections::BTreeMap;

/// A figure on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pair {
    /// The one side.
    pub a: Summary,
    /// The other.
    pub b: Summary,
}

impl Pair {
    /// Difference of the medians: b's less a's.
    pub fn change(&self) -> f64 {
        self.b.median - self.a.median
    }

    /// Returns true if the medians lie further apart than the runs of either side do among themselves: with
    /// one run a side, which has no spread, this says nothing.
    pub fn exceeds_spread(&self) -> bool {
        self.change().abs() > self.a.spread().max(self.b.spread())
    }
}

/// Figures of one reason, or of all together, on both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Level and reason; `None` for all exits together.
    pub reason: Option<(Level, ExitCode)>,
    /// Subject of the exits, where that is told apart and they have details.
    pub subject: Option<Subject>,
    /// Exits.
    pub count: Pair,
    /// Exits a second.
    pub rate: Pair,
    /// Host time (ns), that which was halted left out where all runs tell it apart; `None` where a run has
    /// no times.
    pub time_ns: Option<Pair>,
}

impl Difference {
    /// Weight by which rows are sorted: the change of time, or of count where there is no time.
    fn weight(&self) -> f64 {
        self.time_ns.unwrap_or(self.count).change().abs()
    }
}

/// Two sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Number of runs of a, and of b.
    pub runs: [usize; 2],
    /// Length of the runs (s).
    pub seconds: Pair,
    /// Level of detail that all of them have.
    pub measured: Measured,
    /// True if rows are told apart by what exits were about, too.
    pub by_subject: bool,
    /// Each reason that occurred in any run, that which changed most first.
    pub rows: Vec<Difference>,
    /// All reasons together.
    pub total: Difference,
}

impl Comparison {
    /// Returns the figure that the times are: that which was halted is left out where all runs tell it apart, and rows have
    /// no details, of which it is not told. `None` where a run has no times.
    pub fn time(&self) -> Option<&'static Figure> {
        time(self.measured, self.by_subject)
    }
}

fn time(measured: Measured, by_subject: bool) -> Option<&'static Figure> {
    match measured {
        Measured::Breakdown if !by_subject => Some(&figure::BUSY_NS),
        Measured::Breakdown | Measured::Latency => Some(&figure::TIME_NS),
        Measured::Counts => None,
    }
}

/// Key of a row.
type Place = (Level, ExitCode, Option<Subject>);

/// Figures of one reason in one run: count, rate and time.
type Cell = [f64; 3];

/// Compares the runs of two sides, by reason.
pub fn compare(a: &[&Interval], b: &[&Interval]) -> Comparison {
    compare_by(a, b, false)
}

/// Compares the runs of two sides, by reason and, if so, by what exits were about.
pub fn compare_by(a: &[&Interval], b: &[&Interval], by_subject: bool) -> Comparison {
    let all = || a.iter().chain(b);
    let measured = all().map(|run| run.measured).min().unwrap_or(Measured::Counts);
    // Each reason, run by run.
    let mut reasons: BTreeMap<Place, Vec<Cell>> = BTreeMap::new();
    let mut totals = Vec::new();
    for (at, run) in all().enumerate() {
        let context = Context::new(run);
        let cell = |exits: &Group| -> Cell {
            let number = |figure: &Figure| figure.value(&context, exits).number().unwrap_or(0.0);
            [number(&figure::COUNT), number(&figure::RATE), time(measured, by_subject).map_or(0.0, number)]
        };
        totals.push(cell(&context.total));
        for group in group(run, By { level: true, reason: true, detail: by_subject, ..By::NOTHING }) {
            let (Some(level), Some(code)) = (group.level, group.code) else { continue };
            let place = (level, code, group.subject);
            let runs = reasons.entry(place).or_insert_with(|| vec![Cell::default(); a.len() + b.len()]);
            runs[at] = cell(&group);
        }
    }
    let lengths: Vec<f64> = all().map(|run| run.length.as_secs_f64()).collect();
    let pair = |figures: Vec<f64>| {
        let (a, b) = figures.split_at(a.len());
        let summary = |runs: &[f64]| Summary::of(runs.iter().copied()).unwrap_or_default();
        Pair { a: summary(a), b: summary(b) }
    };
    let difference = |place: Option<Place>, cells: &[Cell]| {
        let figure = |at: usize| pair(cells.iter().map(|cell| cell[at]).collect());
        let time_ns = time(measured, by_subject).map(|_| figure(2));
        let (reason, subject) =
            (place.map(|(level, code, _)| (level, code)), place.and_then(|place| place.2));
        Difference { reason, subject, count: figure(0), rate: figure(1), time_ns }
    };
    let mut rows: Vec<Difference> =
        reasons.iter().map(|(reason, cells)| difference(Some(*reason), cells)).collect();
    rows.sort_by(|x, y| {
        let change = |row: &Difference| row.count.change().abs();
        let count = |row: &Difference| row.count.a.median + row.count.b.median;
        let by_weight = y.weight().total_cmp(&x.weight()).then(change(y).total_cmp(&change(x)));
        let by_count = by_weight.then(count(y).total_cmp(&count(x)));
        by_count.then((x.reason, x.subject).cmp(&(y.reason, y.subject)))
    });
    let total = difference(None, &totals);
    let (runs, seconds) = ([a.len(), b.len()], pair(lengths.clone()));
    Comparison { runs, seconds, measured, by_subject, rows, total }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counters, Histogram, Isa, Loss, Row, Source, Split, VcpuSpan, VmId};
    use std::time::{Duration, SystemTime};

    /// A run of some seconds with exits of (code, count, time, halted).
    fn run(seconds: u64, rows: &[(i64, u64, u64, u64)]) -> Interval {
        let vm = VmId(1);
        let row = |&(code, count, time_ns, halted_ns): &(i64, u64, u64, u64)| Row {
            vm,
            vcpu: 0,
            level: Level::L1,
            code: ExitCode { isa: Isa::Svm, code },
            counters: Counters {
                count,
                time_ns,
                histogram: Histogram::from_bucket(3, [count]),
                split: Split { halted_ns, ..Split::default() },
                ..Counters::default()
            },
        };
        let exits = rows.iter().map(|row| row.1).sum();
        Interval {
            start: SystemTime::UNIX_EPOCH,
            end: SystemTime::UNIX_EPOCH,
            length: Duration::from_secs(seconds),
            source: Source::Btf,
            measured: Measured::Breakdown,
            vms: Default::default(),
            vcpus: vec![VcpuSpan { vm, vcpu: 0, exits, kvm_exits: None, time: None }],
            rows: rows.iter().map(row).collect(),
            workers: Vec::new(),
            loss: Loss::default(),
        }
    }

    #[test]
    fn medians_differ_by_more_than_runs_do_or_not() {
        let a = [
            run(10, &[(0x72, 100, 1000, 0), (0x78, 5, 900_000, 899_990)]),
            run(10, &[(0x72, 110, 1100, 0), (0x78, 9, 100, 90)]),
            run(10, &[(0x72, 104, 1040, 0), (0x78, 7, 100, 90)]),
        ];
        let b = [
            run(20, &[(0x72, 300, 3000, 0), (0x78, 8, 100, 90), (0x7b, 2, 40, 0)]),
            run(10, &[(0x72, 320, 3100, 0)]),
        ];
        let compared = compare(&a.each_ref(), &b.each_ref());
        let codes: Vec<i64> = compared.rows.iter().filter_map(|row| Some(row.reason?.1.code)).collect();
        assert_eq!(codes, [0x72, 0x7b, 0x78], "by time that is not halted");
        let [cpuid, port, halt] = &compared.rows[..] else { panic!() };
        assert_eq!((cpuid.count.a.median, cpuid.count.b.median, cpuid.count.change()), (104.0, 310.0, 206.0));
        assert_eq!((cpuid.count.a.spread(), cpuid.rate.b.least, cpuid.rate.b.most), (10.0, 15.0, 32.0));
        assert!(cpuid.count.exceeds_spread() && cpuid.time_ns.unwrap().exceeds_spread());
        // What is missing in a run is none: 7 became 4, and lay between 0 and 8.
        assert_eq!((halt.count.change(), halt.count.exceeds_spread()), (-3.0, false));
        assert_eq!(port.count.a, Summary::default());
        assert_eq!((compared.total.count.a.median, compared.runs), (111.0, [3, 2]));
        assert!(!compared.rate_exceeds());
    }

    impl Comparison {
        fn rate_exceeds(&self) -> bool {
            self.total.rate.exceeds_spread()
        }
    }

    #[test]
    fn what_one_run_did_not_measure_is_not_compared() {
        let a = run(10, &[(0x78, 100, 1000, 900)]);
        let mut b = run(10, &[(0x78, 100, 2000, 0)]);
        b.measured = Measured::Latency;
        let compared = compare(&[&a], &[&b]);
        assert_eq!(compared.rows[0].time_ns.map(|time| time.change()), Some(1000.0), "halted or not");
        b.measured = Measured::Counts;
        assert_eq!(compare(&[&a], &[&b]).rows[0].time_ns, None);
        assert_eq!(compare(&[&a], &[&a]).total.count.change(), 0.0);
    }
}
