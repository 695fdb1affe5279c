//! The columns of the lists: what they are called, how wide they are, what they are sorted by.

use super::row::{List, Row};
use exitscope_model::figure::{self, FIGURES, Figure, TIMES, Time, TopColumn, Value};
use exitscope_model::{Measured, Sort, Source, VcpuTime, float};
use exitscope_view::{unit, value};
use std::cmp::{Ordering, Reverse};
use std::sync::LazyLock;

/// Content of a cell.
pub enum Cell {
    /// Text.
    Text(String),
    /// The last minute of its exits.
    Minute,
    /// Parts of a time (ns), in the order of [`super::draw::paint::PARTS`].
    Bar([u64; 5]),
}

/// Key by which rows are sorted.
#[derive(Debug, PartialEq)]
pub enum Weight {
    /// No value: the row comes last.
    Nothing,
    /// A number: the greatest comes first.
    Number(f64),
    /// A text, in ascending order.
    Text(String),
}

/// Source of a column's cells.
#[derive(Clone, Copy)]
enum Shows {
    /// A figure of the registry.
    Figure(&'static Figure),
    /// A part of the time, as its share.
    Part(&'static Time),
    /// Something that only `top` has.
    Own {
        /// Least level of detail.
        needs: Measured,
        cell: fn(&Row) -> Cell,
        weight: fn(&Row) -> Weight,
    },
}

/// One column.
#[derive(Clone, Copy)]
pub struct Column {
    /// Name, by which an order is kept.
    pub key: &'static str,
    /// Heading.
    pub heading: &'static str,
    /// Meaning.
    pub help: &'static str,
    /// True if it stands at the right.
    pub right: bool,
    /// Rank where there is little room: the highest goes first, and those of the same together; 0 stays.
    pub rank: u8,
    /// Least width.
    pub min: usize,
    /// Greatest width that it is of use with.
    pub max: usize,
    shows: Shows,
}

impl Column {
    /// The column of a figure, if the lists have one.
    fn of_figure(figure: &'static Figure) -> Option<Column> {
        let TopColumn { rank, min, max } = figure.top?;
        let (key, heading, help) = (figure.key, figure.heading, figure.help);
        let right = figure.kind.is_number();
        Some(Column { key, heading, help, right, rank, min, max, shows: Shows::Figure(figure) })
    }

    /// The column of a part of the time.
    fn of_part(time: &'static Time) -> Column {
        let (key, heading, help) = (time.name, time.name, time.help);
        Column { key, heading, help, right: true, rank: 9, min: 7, max: 7, shows: Shows::Part(time) }
    }

    /// Returns true if such a source, at such a level of detail, has something to show in it.
    pub fn is_there(&self, source: Source, measured: Measured) -> bool {
        match self.shows {
            Shows::Figure(figure) => figure.is_measured(source, measured),
            Shows::Part(time) => time.is_shown(measured),
            Shows::Own { needs, .. } => measured >= needs,
        }
    }

    /// Returns its cell.
    pub fn cell(&self, row: &Row) -> Cell {
        match self.shows {
            Shows::Figure(figure) => text(value::human(&figure_of(row, figure))),
            Shows::Part(time) => share_of(part(row, time)),
            Shows::Own { cell, .. } => cell(row),
        }
    }

    /// Returns what rows are sorted by with it.
    fn weight(&self, row: &Row) -> Weight {
        match self.shows {
            Shows::Figure(figure) => figure_of(row, figure).number().map_or(Weight::Nothing, number),
            Shows::Part(time) => part(row, time).map_or(Weight::Nothing, number),
            Shows::Own { weight, .. } => weight(row),
        }
    }

    /// Returns the order of `stat` that comes nearest, for what is written to a file.
    pub fn nearest(&self) -> Sort {
        match self.shows {
            Shows::Figure(figure) => Sort::of(figure).unwrap_or(Sort::COUNT),
            Shows::Part(time) => time.name.parse().unwrap_or(Sort::COUNT),
            Shows::Own { .. } => match self.key {
                "reason" | "top" => Sort::NAME,
                "time" => Sort::BUSY,
                key => key.parse().unwrap_or(Sort::COUNT),
            },
        }
    }
}

/// The value of a figure in a row; nothing in rows of VMs and vCPUs.
fn figure_of(row: &Row, figure: &Figure) -> Value {
    let (Some(context), Some(group)) = (&row.context, &row.group) else { return Value::Nothing };
    figure.value(context, group)
}

fn number(number: f64) -> Weight {
    Weight::Number(number)
}

fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

fn share_of(share: Option<f64>) -> Cell {
    text(share.map_or("-".into(), unit::share))
}

/// The time of a VM or vCPU, or the host time of a reason.
fn time_of(row: &Row) -> Option<VcpuTime> {
    row.time.or_else(|| {
        let counters = &row.group.as_ref()?.counters;
        let split = &counters.split;
        Some(VcpuTime {
            guest_ns: 0,
            kernel_ns: split.kernel_ns(counters.time_ns),
            user_ns: split.user_ns,
            halted_ns: split.halted_ns,
            polled_ns: split.polled_ns,
            waiting_ns: split.waiting_ns,
        })
    })
}

/// The parts of a row's time: guest, kernel, user, waiting, halted.
pub fn parts(row: &Row) -> [u64; 5] {
    let time = time_of(row).unwrap_or_default();
    [time.guest_ns, time.kernel_ns, time.user_ns, time.waiting_ns, time.halted_ns]
}

/// A part of a row's time, as a share.
fn part(row: &Row, part: &Time) -> Option<f64> {
    let time = time_of(row)?;
    (time.total_ns() > 0).then(|| float(part.ns(&time)) / float(time.total_ns()))
}

const VM: Column = Column {
    key: "vm",
    heading: "vm",
    help: "name of the VM",
    right: false,
    rank: 0,
    min: 10,
    max: 32,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| text(if row.child { format!("  {}", row.reason) } else { row.vm.clone() }),
        weight: |row| Weight::Text(row.vm.clone()),
    },
};

const PID: Column = Column {
    key: "pid",
    heading: "pid",
    help: "process that runs the VM",
    right: true,
    rank: 4,
    min: 7,
    max: 7,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| text(row.pid.filter(|_| !row.child).map_or(String::new(), |pid| pid.to_string())),
        weight: |row| row.pid.map_or(Weight::Nothing, |pid| number(pid.into())),
    },
};

const VCPUS: Column = Column {
    key: "vcpus",
    heading: "vcpus",
    help: "how many vCPUs have exited",
    right: true,
    rank: 7,
    min: 5,
    max: 5,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| text(if row.child { String::new() } else { unit::count(row.vcpus) }),
        weight: |row| number(float(row.vcpus)),
    },
};

const VCPU: Column = Column {
    key: "vcpu",
    heading: "vcpu",
    help: "number of the vCPU",
    right: true,
    rank: 0,
    min: 5,
    max: 5,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| text(row.id.vcpu.map_or(String::new(), |vcpu| vcpu.to_string())),
        // The lowest first.
        weight: |row| row.id.vcpu.map_or(Weight::Nothing, |vcpu| Weight::Text(format!("{vcpu:05}"))),
    },
};

const REASON: Column = Column {
    key: "reason",
    heading: "reason",
    help: "exit reason",
    right: false,
    rank: 0,
    min: 14,
    max: 35,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| text(row.reason.clone()),
        weight: |row| Weight::Text(row.reason.clone()),
    },
};

const RATE: Column = Column {
    key: "exits/s",
    heading: "exits/s",
    help: "exits per second",
    right: true,
    rank: 0,
    min: 9,
    max: 10,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| text(if row.ended && !row.child { "ended".into() } else { unit::rate(row.rate) }),
        weight: |row| number(row.rate),
    },
};

const TOTAL: Column = Column {
    key: "total",
    heading: "total",
    help: "exits since the start, or since the last r",
    right: true,
    rank: 8,
    min: 10,
    max: 14,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| text(unit::count(row.total)),
        weight: |row| number(float(row.total)),
    },
};

const SHARE: Column = Column {
    key: "share",
    heading: "share",
    help: "part of the exits",
    right: true,
    rank: 3,
    min: 7,
    max: 7,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| share_of(row.share),
        weight: |row| row.share.map_or(Weight::Nothing, number),
    },
};

const MINUTE: Column = Column {
    key: "minute",
    heading: "last minute",
    help: "exits per second in the last minute; each row has its own scale",
    right: false,
    rank: 2,
    min: 11,
    max: 60,
    shows: Shows::Own { needs: Measured::Counts, cell: |_| Cell::Minute, weight: |row| number(row.rate) },
};

const TIME: Column = Column {
    key: "time",
    heading: "time",
    help: "where the time went: the bar's parts are named in the line above",
    right: false,
    rank: 1,
    min: 10,
    max: 40,
    shows: Shows::Own {
        needs: Measured::Latency,
        cell: |row| Cell::Bar(parts(row)),
        // The busiest first: what was not idle.
        weight: |row| {
            let time = time_of(row).filter(|time| time.total_ns() > 0);
            time.map_or(Weight::Nothing, |time| number(1.0 - float(time.halted_ns) / float(time.total_ns())))
        },
    },
};

const HOST_TIME: Column = Column {
    key: "time",
    heading: "host time",
    help: "where the host time of these exits went: the bar's parts are named in the line above",
    // The most costly first: what was not halted.
    shows: Shows::Own {
        needs: Measured::Breakdown,
        cell: |row| Cell::Bar(parts(row)),
        weight: |row| figure_of(row, &figure::BUSY_NS).number().map_or(Weight::Nothing, number),
    },
    rank: 6,
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
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| match &row.top {
            Some((name, share)) => text(format!("{name} {:.0}%", share * 100.0)),
            None => text(if row.child { "" } else { "-" }),
        },
        weight: |row| row.top.as_ref().map_or(Weight::Nothing, |(name, _)| Weight::Text(name.clone())),
    },
};

const BESIDE: Column = Column {
    key: "beside",
    heading: "beside",
    help: "CPU time of the threads beside the vCPUs, as a part of one CPU",
    right: true,
    rank: 5,
    min: 7,
    max: 8,
    shows: Shows::Own {
        needs: Measured::Counts,
        cell: |row| if row.child { text("") } else { share_of(beside(row)) },
        weight: |row| beside(row).map_or(Weight::Nothing, number),
    },
};

/// The part of one CPU that the threads beside a VM's vCPUs took.
fn beside(row: &Row) -> Option<f64> {
    row.workers.map(|times| float(times.cpu_ns()) / float(times.span_ns.max(1)))
}

/// The columns of machines, each told by which VM it is and by this.
fn machines(which: Column) -> Vec<Column> {
    let parts = TIMES.iter().filter(|time| time.top).map(|time| Column::of_part(time));
    let beside = (which.key == VCPUS.key).then_some(BESIDE);
    let first = [VM, PID, which, RATE, MINUTE, TOTAL, TIME];
    first.into_iter().chain(parts).chain(beside).chain([TOP]).collect()
}

static VMS: LazyLock<Vec<Column>> = LazyLock::new(|| machines(VCPUS));

static VCPU_LIST: LazyLock<Vec<Column>> = LazyLock::new(|| machines(VCPU));

static REASONS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let own = [REASON, RATE, SHARE, Column { rank: 8, ..MINUTE }, Column { rank: 9, ..TOTAL }];
    let mut columns: Vec<Column> =
        own.into_iter().chain(FIGURES.iter().filter_map(|figure| Column::of_figure(figure))).collect();
    let busy = columns.iter().position(|column| column.key == figure::BUSY_NS.key);
    columns.insert(busy.map_or(columns.len(), |busy| busy + 1), HOST_TIME);
    columns
});

/// Where reasons are told apart by vCPU.
static REASONS_BY_VCPU: [Column; 2] = [Column { rank: 1, min: 8, max: 20, ..VM }, VCPU];

/// All columns of a list from left to right; with `apart` those of reasons that are told apart by vCPU.
pub fn columns(list: List, apart: bool, source: Source, measured: Measured) -> Vec<&'static Column> {
    let (first, all): (&'static [Column], &'static [Column]) = match (list, apart) {
        (List::Vms, _) => (&[], &VMS),
        (List::Vcpus, _) => (&[], &VCPU_LIST),
        (List::Reasons, false) => (&[], &REASONS),
        (List::Reasons, true) => (&REASONS_BY_VCPU, &REASONS),
    };
    first.iter().chain(all).filter(|column| column.is_there(source, measured)).collect()
}

/// Columns between which `o` switches the order of a list; the first is used at the start.
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
        let (x, y) = (column.weight(a), column.weight(b));
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

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::docs;

    fn table(columns: &[Column]) -> String {
        let mut text = "| column | meaning |\n|---|---|\n".to_owned();
        for column in columns {
            text += &format!("| `{}` | {} |\n", column.heading, column.help);
        }
        text
    }

    #[test]
    fn columns_are_documented() {
        docs::check_parts(
            "top.md",
            &[("vms", table(&VMS)), ("vcpu", table(&[VCPU])), ("reasons", table(&REASONS))],
        );
    }

    #[test]
    fn every_figure_of_the_lists_has_a_column_and_keys_are_different() {
        for figure in FIGURES.iter().filter(|figure| figure.top.is_some()) {
            assert!(REASONS.iter().any(|column| column.key == figure.key), "{}", figure.key);
        }
        for list in [&VMS, &VCPU_LIST, &REASONS] {
            for (at, column) in list.iter().enumerate() {
                assert!(list[..at].iter().all(|other| other.key != column.key), "{}", column.key);
            }
        }
    }
}
