//! The columns of the lists: what they are called, how wide they are, what they are sorted by.

use super::row::{List, Row};
use exitscope_model::{Measured, Sort};
use exitscope_view::unit;
use std::cmp::{Ordering, Reverse};

/// What a cell shows.
pub enum Cell {
    /// Text.
    Text(String),
    /// The last minute of its exits.
    Minute,
    /// Parts of a time (ns), in the order of [`super::draw::paint::PARTS`].
    Bar([u64; 5]),
}

/// What rows are sorted by.
#[derive(Debug, PartialEq)]
pub enum Weight {
    /// Nothing is known: it comes last.
    Nothing,
    /// The greatest first.
    Number(f64),
    /// In its order.
    Text(String),
}

/// What must be measured for a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Times,
    Split,
    /// Times, and no more: another column tells it where they are split.
    WholeTimes,
}

/// One column.
pub struct Column {
    /// What it is called in `--help`, and wherever it is chosen.
    pub key: &'static str,
    /// Its heading.
    pub heading: &'static str,
    /// What it means.
    pub help: &'static str,
    /// It stands at the right.
    pub right: bool,
    /// How soon it goes where there is little room: the highest first, and those of the same together; 0 stays.
    pub rank: u8,
    /// The least width that it has.
    pub min: usize,
    /// The greatest that it is of use with.
    pub max: usize,
    needs: Needs,
    /// What it shows.
    pub cell: fn(&Row) -> Cell,
    /// What rows are sorted by with it.
    pub weight: fn(&Row) -> Weight,
}

impl Column {
    /// Whether it has something to show.
    pub fn is_there(&self, measured: Measured) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Times => measured != Measured::Counts,
            Needs::Split => measured == Measured::Breakdown,
            Needs::WholeTimes => measured == Measured::Latency,
        }
    }
}

fn number(number: f64) -> Weight {
    Weight::Number(number)
}

#[allow(clippy::cast_precision_loss)]
fn ns(ns: Option<u64>) -> Weight {
    ns.map_or(Weight::Nothing, |ns| Weight::Number(ns as f64))
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

fn share_of(share: Option<f64>) -> Cell {
    text(share.map_or("-".into(), unit::share))
}

fn time_of(ns: Option<u64>) -> Cell {
    text(ns.map_or("-".into(), |ns| if ns == 0 { "0".into() } else { unit::time(ns) }))
}

/// The parts of the time of a VM or vCPU, or of the host time of a reason: guest, kernel, user, waiting, halted.
pub fn parts(row: &Row) -> [u64; 5] {
    if let Some(time) = &row.time {
        return [time.guest_ns, time.kernel_ns, time.user_ns, time.waiting_ns, time.halted_ns];
    }
    let Some(counters) = row.group.as_ref().map(|group| &group.counters) else { return [0; 5] };
    let split = &counters.split;
    [0, split.kernel_ns(counters.time_ns), split.user_ns, split.waiting_ns, split.halted_ns]
}

fn part(row: &Row, at: usize) -> Option<f64> {
    let parts = parts(row);
    let all: u64 = parts.iter().sum();
    #[allow(clippy::cast_precision_loss)]
    (all > 0).then(|| parts[at] as f64 / all as f64)
}

fn percentile(row: &Row, q: f64) -> Option<u64> {
    row.group.as_ref().and_then(|group| group.percentile(q))
}

/// A column of a part of the time.
macro_rules! part {
    ($key:literal, $at:literal, $rank:literal, $needs:ident, $help:literal) => {
        Column {
            key: $key,
            heading: $key,
            help: $help,
            right: true,
            rank: $rank,
            min: 7,
            max: 7,
            needs: Needs::$needs,
            cell: |row| share_of(part(row, $at)),
            weight: |row| part(row, $at).map_or(Weight::Nothing, number),
        }
    };
}

/// A column of a time that one exit took.
macro_rules! time {
    ($key:literal, $rank:literal, $value:expr, $help:literal) => {
        Column {
            key: $key,
            heading: $key,
            help: $help,
            right: true,
            rank: $rank,
            min: 7,
            max: 8,
            needs: Needs::Times,
            cell: |row| time_of($value(row)),
            weight: |row| ns($value(row)),
        }
    };
}

const VM: Column = Column {
    key: "vm",
    heading: "vm",
    help: "name of the VM",
    right: false,
    rank: 0,
    min: 10,
    max: 32,
    needs: Needs::Nothing,
    cell: |row| text(if row.child { format!("  {}", row.reason) } else { row.vm.clone() }),
    weight: |row| Weight::Text(row.vm.clone()),
};

const PID: Column = Column {
    key: "pid",
    heading: "pid",
    help: "process that runs the VM",
    right: true,
    rank: 4,
    min: 7,
    max: 7,
    needs: Needs::Nothing,
    cell: |row| text(row.pid.filter(|_| !row.child).map_or(String::new(), |pid| pid.to_string())),
    weight: |row| row.pid.map_or(Weight::Nothing, |pid| number(pid.into())),
};

const VCPUS: Column = Column {
    key: "vcpus",
    heading: "vcpus",
    help: "how many vCPUs have exited",
    right: true,
    rank: 7,
    min: 5,
    max: 5,
    needs: Needs::Nothing,
    cell: |row| text(if row.child { String::new() } else { unit::count(row.vcpus) }),
    weight: |row| number(exitscope_model::float(row.vcpus)),
};

const VCPU: Column = Column {
    key: "vcpu",
    heading: "vcpu",
    help: "number of the vCPU",
    right: true,
    rank: 0,
    min: 5,
    max: 5,
    needs: Needs::Nothing,
    cell: |row| text(row.id.vcpu.map_or(String::new(), |vcpu| vcpu.to_string())),
    // The lowest first.
    weight: |row| row.id.vcpu.map_or(Weight::Nothing, |vcpu| Weight::Text(format!("{vcpu:05}"))),
};

const REASON: Column = Column {
    key: "reason",
    heading: "reason",
    help: "exit reason",
    right: false,
    rank: 0,
    min: 14,
    max: 35,
    needs: Needs::Nothing,
    cell: |row| text(row.reason.clone()),
    weight: |row| Weight::Text(row.reason.clone()),
};

const RATE: Column = Column {
    key: "exits/s",
    heading: "exits/s",
    help: "exits per second",
    right: true,
    rank: 0,
    min: 9,
    max: 10,
    needs: Needs::Nothing,
    cell: |row| text(if row.ended && !row.child { "ended".into() } else { unit::rate(row.rate) }),
    weight: |row| number(row.rate),
};

const TOTAL: Column = Column {
    key: "total",
    heading: "total",
    help: "exits since the start, or since the last r",
    right: true,
    rank: 8,
    min: 10,
    max: 14,
    needs: Needs::Nothing,
    cell: |row| text(unit::count(row.total)),
    weight: |row| number(exitscope_model::float(row.total)),
};

const SHARE: Column = Column {
    key: "share",
    heading: "share",
    help: "part of the exits",
    right: true,
    rank: 3,
    min: 7,
    max: 7,
    needs: Needs::Nothing,
    cell: |row| share_of(row.share),
    weight: |row| row.share.map_or(Weight::Nothing, number),
};

const MINUTE: Column = Column {
    key: "minute",
    heading: "last minute",
    help: "exits per second in the last minute; each row has its own scale",
    right: false,
    rank: 2,
    min: 11,
    max: 60,
    needs: Needs::Nothing,
    cell: |_| Cell::Minute,
    weight: |row| number(row.rate),
};

const TIME: Column = Column {
    key: "time",
    heading: "time",
    help: "where the time went: the bar's parts are named in the line above",
    right: false,
    rank: 1,
    min: 10,
    max: 40,
    needs: Needs::Times,
    cell: |row| Cell::Bar(parts(row)),
    // The busiest first: what was not idle.
    weight: |row| part(row, 4).map_or(Weight::Nothing, |halted| number(1.0 - halted)),
};

const HOST_TIME: Column = Column {
    key: "time",
    heading: "host time",
    help: "where the host time of these exits went: the bar's parts are named in the line above",
    // The most costly first: what was not halted.
    weight: |row| ns(row.group.as_ref().map(|group| group.counters.busy_ns())),
    needs: Needs::Split,
    ..TIME
};

const TOP: Column = Column {
    key: "top",
    heading: "top reason",
    help: "the most frequent reason, and its part of the VM's exits",
    right: false,
    rank: 0,
    min: 15,
    max: 30,
    needs: Needs::Nothing,
    cell: |row| match &row.top {
        Some((name, share)) => text(format!("{name} {:.0}%", share * 100.0)),
        None => text(if row.child { "" } else { "-" }),
    },
    weight: |row| row.top.as_ref().map_or(Weight::Nothing, |(name, _)| Weight::Text(name.clone())),
};

const BUSY: Column = Column {
    key: "busy",
    heading: "busy",
    help: "host time that was not halted: what these exits cost",
    right: true,
    rank: 2,
    min: 8,
    max: 8,
    needs: Needs::Split,
    cell: |row| time_of(row.group.as_ref().map(|group| group.counters.busy_ns())),
    weight: |row| ns(row.group.as_ref().map(|group| group.counters.busy_ns())),
};

/// The columns of machines, each told by which VM it is and by this.
macro_rules! machines {
    ($which:expr) => {
        &[
            VM,
            PID,
            $which,
            RATE,
            MINUTE,
            TOTAL,
            TIME,
            part!("guest", 0, 9, Times, "part of the time in the guest"),
            part!("host", 1, 9, WholeTimes, "part of the time out of the guest"),
            part!("kernel", 1, 9, Split, "part of the time in KVM"),
            part!("user", 2, 9, Split, "part of the time in the VMM, in user space"),
            part!("waiting", 3, 9, Split, "part of the time in which it could run and had no CPU"),
            part!("halted", 4, 9, Split, "part of the time in which it waited for an event"),
            TOP,
        ]
    };
}

const VMS: &[Column] = machines!(VCPUS);

const VCPU_LIST: &[Column] = machines!(VCPU);

const REASONS: &[Column] = &[
    REASON,
    RATE,
    SHARE,
    Column { rank: 8, ..MINUTE },
    Column { rank: 9, ..TOTAL },
    BUSY,
    Column { rank: 6, ..HOST_TIME },
    part!("kernel", 1, 12, Split, "part of the host time in KVM"),
    part!("user", 2, 12, Split, "part of the host time in the VMM, in user space"),
    part!("waiting", 3, 12, Split, "part of the host time in which it could run and had no CPU"),
    part!("halted", 4, 12, Split, "part of the host time in which it waited for an event"),
    time!(
        "avg",
        4,
        |row: &Row| row.group.as_ref().and_then(exitscope_model::Group::avg_ns),
        "mean host time of an exit"
    ),
    time!("p50", 10, |row: &Row| percentile(row, 0.50), "host time that half of the exits did not exceed"),
    time!("p95", 11, |row: &Row| percentile(row, 0.95), "host time that 95 % of the exits did not exceed"),
    time!("p99", 5, |row: &Row| percentile(row, 0.99), "host time that 99 % of the exits did not exceed"),
];

/// Where reasons are told apart by vCPU.
const REASONS_BY_VCPU: &[Column] = &[Column { rank: 1, min: 8, max: 20, ..VM }, VCPU];

/// All columns of a list from left to right; with `apart` those of reasons that are told apart by vCPU.
pub fn columns(list: List, apart: bool, measured: Measured) -> Vec<&'static Column> {
    let (first, all): (&'static [Column], &'static [Column]) = match (list, apart) {
        (List::Vms, _) => (&[], VMS),
        (List::Vcpus, _) => (&[], VCPU_LIST),
        (List::Reasons, false) => (&[], REASONS),
        (List::Reasons, true) => (REASONS_BY_VCPU, REASONS),
    };
    first.iter().chain(all).filter(|column| column.is_there(measured)).collect()
}

/// By which columns a list is sorted at first, and with `o` from one to the other.
pub const ORDERS: [&str; 2] = ["exits/s", "total"];

/// Sorts rows; those that belong to one above stay below it. With `reversed` the other way round.
pub fn sort(rows: Vec<Row>, column: &Column, reversed: bool) -> Vec<Row> {
    // A row, and those that belong to it.
    let mut families: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match families.last_mut().filter(|_| row.child) {
            Some(family) => family.push(row),
            None => families.push(vec![row]),
        }
    }
    let order = |a: &Row, b: &Row| {
        let (x, y) = ((column.weight)(a), (column.weight)(b));
        let by_weight = match (&x, &y) {
            (Weight::Nothing, Weight::Nothing) => Ordering::Equal,
            (Weight::Nothing, _) => return Ordering::Greater,
            (_, Weight::Nothing) => return Ordering::Less,
            (Weight::Number(x), Weight::Number(y)) => y.total_cmp(x),
            (Weight::Text(x), Weight::Text(y)) => x.cmp(y),
            (Weight::Number(_), Weight::Text(_)) => Ordering::Less,
            (Weight::Text(_), Weight::Number(_)) => Ordering::Greater,
        };
        let by_weight = if reversed { by_weight.reverse() } else { by_weight };
        by_weight.then(Reverse(a.total).cmp(&Reverse(b.total))).then(a.id.cmp(&b.id))
    };
    // Those that ended come last.
    families.sort_by(|a, b| match (a.first(), b.first()) {
        (Some(a), Some(b)) => a.ended.cmp(&b.ended).then_with(|| order(a, b)),
        _ => Ordering::Equal,
    });
    for family in &mut families {
        if let Some(children) = family.get_mut(1..) {
            children.sort_by(order);
        }
    }
    families.into_iter().flatten().collect()
}

/// The order of `stat` that comes nearest, for what is written to a file.
pub fn nearest(key: &str) -> Sort {
    match key {
        "vm" => Sort::Vm,
        "vcpu" => Sort::Vcpu,
        "reason" | "top" => Sort::Name,
        "busy" | "time" => Sort::Busy,
        "kernel" => Sort::Kernel,
        "user" => Sort::User,
        "waiting" => Sort::Waiting,
        "halted" => Sort::Halted,
        "avg" => Sort::Avg,
        "p50" => Sort::P50,
        "p95" => Sort::P95,
        "p99" => Sort::P99,
        _ => Sort::Count,
    }
}
