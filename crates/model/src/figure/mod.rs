//! Registry of figures: everything that is shown of some exits is described here once. The table, the pages, CSV, JSON with
//! its schema, the columns of `top`, `--sort`, and the tables of the documentation are made from it.
//!
//! ```
//! use exitscope_model::figure::{self, Context, Value};
//! use exitscope_model::{By, Group, Interval, group};
//!
//! /// Prints the busy time of each reason.
//! fn busy(interval: &Interval) {
//!     let context = Context::new(interval);
//!     for exits in group(interval, By::default()) {
//!         match figure::BUSY_NS.value(&context, &exits) {
//!             Value::Ns(ns) => println!("{:?} {ns} {}", exits.code, figure::BUSY_NS.unit),
//!             _ => println!("{:?} was not measured", exits.code),
//!         }
//!     }
//! }
//! ```

mod list;
mod sort;
mod value;
mod vcpu;

pub use list::*;
pub use sort::Sort;
pub use value::{Kind, Value};
pub use vcpu::{TIMES, Time};

use super::{By, Details, Group, Interval, Key, Level, Measured, Nested, Source, Vm, VmId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Condition under which a figure has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// None: it always has one.
    Nothing,
    /// Rows are told apart by this.
    Key(Key),
    /// The source tells exits of L2 apart.
    Nested,
    /// The source tells exits of L2 apart, and host times are measured.
    NestedLatency,
    /// The source tells exits apart: any but KVM's statistics, whose classes overlap.
    Apart,
    /// Host times are measured.
    Latency,
    /// Host times are measured, and where they went.
    Breakdown,
}

/// Rank of a column in a table that is too narrow for all: the highest goes first; 0 stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Rank where no more than whole host times are measured.
    pub whole: u8,
    /// Rank where these are broken down, and other columns tell more.
    pub split: u8,
}

/// Column in the lists of `top`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopColumn {
    /// Rank where there is little room: the highest goes first, and those of the same together; 0 stays.
    pub rank: u8,
    /// Least width.
    pub min: usize,
    /// Greatest width that it is of use with.
    pub max: usize,
}

/// Metric of `exitscope serve` that a figure is, or is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name without the program's before it, and without unit and type behind it: `host_time`.
    pub name: &'static str,
    /// Meaning of the metric; empty where it is the figure's.
    pub help: &'static str,
    /// Word for the figure among the parts of the metric; `None` if it is all of it.
    pub part: Option<&'static str>,
    /// Level of detail from which on the parts of the figure stand for it.
    pub until: Option<Measured>,
}

/// Part of a figure in `--sort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Rows are not sorted by it.
    No,
    /// Rows are sorted by it with this word.
    By(&'static str),
    /// It shows the order that this word gives; the figure of the word itself may not be shown.
    Shows(&'static str),
}

/// A figure.
#[derive(Debug)]
pub struct Figure {
    /// Name in JSON, CSV and the documentation.
    pub key: &'static str,
    /// Heading in tables.
    pub heading: &'static str,
    /// Unit of its plain numbers; empty where it has none.
    pub unit: &'static str,
    /// Meaning.
    pub help: &'static str,
    /// Further words on its meaning, for the documentation of JSON; sentences, empty where there are none.
    pub note: &'static str,
    /// Kind of its values.
    pub kind: Kind,
    /// Condition under which it has a value.
    pub needs: Needs,
    /// True if it may lack a value although its condition is met.
    pub partial: bool,
    /// Word of `--sort`.
    pub sort: Order,
    /// Rank in the table; `None`: the table has no such column.
    pub rank: Option<Rank>,
    /// True if JSON and CSV have it. What they lack follows from what they have.
    pub machine: bool,
    /// Column in `top`'s list of reasons; `None`: that has no such column.
    pub top: Option<TopColumn>,
    /// True if exits of one detail have it too.
    pub of_details: bool,
    /// Metric; `None`: it is none, because it follows from others, or tells series apart.
    pub metric: Option<Metric>,
    value: fn(&Context, &Group) -> Value,
}

impl Figure {
    /// Returns true if a table of rows of `interval`, told apart like this, has something to show for it.
    pub fn is_there(&self, by: By, interval: &Interval) -> bool {
        let of_l2 = matches!(self.needs, Needs::Key(Key::Level) | Needs::Nested | Needs::NestedLatency);
        self.is_grouped(by)
            && self.is_measured(interval.source, interval.measured)
            && (!of_l2 || interval.has_l2())
    }

    /// Returns true if rows told apart like this have it in JSON and CSV; there it does not depend on what was measured,
    /// so that a reader finds the same columns on every host.
    pub fn is_machine(&self, by: By) -> bool {
        self.machine && self.is_grouped(by)
    }

    /// Returns true if rows told apart like this have it.
    pub fn is_grouped(&self, by: By) -> bool {
        match self.needs {
            Needs::Key(key) => by.has(key),
            _ => true,
        }
    }

    /// Returns true if such a source, at such a level of detail, has it.
    pub fn is_measured(&self, source: Source, measured: Measured) -> bool {
        match self.needs {
            Needs::Nothing | Needs::Key(Key::Vm | Key::Vcpu | Key::Reason | Key::Detail) => true,
            Needs::Key(Key::Level) | Needs::Nested => source == Source::Btf,
            Needs::NestedLatency => source == Source::Btf && measured >= Measured::Latency,
            Needs::Apart => source != Source::KvmStat,
            Needs::Latency => measured >= Measured::Latency,
            Needs::Breakdown => measured >= Measured::Breakdown,
        }
    }

    /// Returns true if a row that has it may lack a value.
    pub fn is_nullable(&self) -> bool {
        self.partial || !matches!(self.needs, Needs::Nothing | Needs::Key(Key::Vm | Key::Vcpu | Key::Reason))
    }

    /// Rank in the table, of rows in this order; `None`: the table has no such column. The column that shows the order
    /// goes last.
    pub fn rank(&self, measured: Measured, sort: Sort) -> Option<u8> {
        let rank = self.rank?;
        let rank = if measured == Measured::Breakdown { rank.split } else { rank.whole };
        Some(if self.key == sort.shown_by().key { rank.min(1) } else { rank })
    }

    /// Returns its value for some exits; [`Value::Nothing`] where it was not measured, or is not counted of one detail.
    pub fn value(&self, context: &Context, exits: &Group) -> Value {
        let is_counted = exits.subject.is_none() || self.of_details || matches!(self.needs, Needs::Key(_));
        if is_counted && self.is_measured(context.source, context.measured) {
            (self.value)(context, exits)
        } else {
            Value::Nothing
        }
    }
}

/// Facts that the value of a figure depends on beside the exits themselves.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The VMs.
    pub vms: Option<&'a BTreeMap<VmId, Vm>>,
    /// Length of the interval.
    pub length: Duration,
    /// Source of the counters.
    pub source: Source,
    /// Level of detail.
    pub measured: Measured,
    /// All exits together, of which shares are parts.
    pub total: Group,
}

impl<'a> Context<'a> {
    /// The context of all exits of `interval`.
    pub fn new(interval: &'a Interval) -> Self {
        Context {
            vms: Some(&interval.vms),
            length: interval.length,
            source: interval.source,
            measured: interval.measured,
            total: Group::total(interval),
        }
    }

    fn vm(&self, exits: &Group) -> Option<&'a Vm> {
        self.vms?.get(&exits.vm?)
    }
}

fn ns(ns: Option<u64>) -> Value {
    ns.map_or(Value::Nothing, Value::Ns)
}

/// A figure that exits of L1 do not have.
fn nested(exits: &Group, value: impl Fn(&Nested) -> Value) -> Value {
    if exits.level == Some(Level::L1) { Value::Nothing } else { value(&exits.counters.nested) }
}

/// A figure that only exits about a port or an MSR have.
fn detailed(exits: &Group, value: impl Fn(&Details) -> Value) -> Value {
    let details = &exits.counters.details;
    if details.count() == 0 { Value::Nothing } else { value(details) }
}

/// A part of a whole; nothing where there is no whole.
pub fn share(part: u64, whole: u64) -> Value {
    if whole == 0 { Value::Nothing } else { Value::Share(super::float(part) / super::float(whole)) }
}

/// A number for each of some; nothing where there are none.
fn each(number: u64, of: u64) -> Value {
    if of == 0 { Value::Nothing } else { Value::Rate(super::float(number) / super::float(of)) }
}

fn rate(context: &Context, exits: &Group) -> Value {
    let seconds = context.length.as_secs_f64();
    if seconds > 0.0 { Value::Rate(super::float(exits.counters.count) / seconds) } else { Value::Nothing }
}

#[cfg(test)]
mod tests;
