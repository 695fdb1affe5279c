//! Every column once: what it is called, what it means, how it is computed. The table, CSV, JSON
//! and the documentation read this.

mod list;

pub use super::value::Value;
use exitscope_model::{By, Details, Group, Interval, Level, Measured, Nested, Sort, Source, Vm};
pub use list::COLUMNS;

/// When there is something to put into a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Always.
    Nothing,
    /// Rows tell VMs apart.
    Vm,
    /// Rows tell vCPUs apart.
    Vcpu,
    /// Rows tell levels apart, and the source does.
    Level,
    /// Rows tell reasons apart.
    Reason,
    /// The source tells exits of L2 apart.
    Nested,
    /// It does, and host times are measured.
    NestedTimes,
    /// The source tells exits apart: any but KVM's statistics, whose classes overlap.
    Apart,
    /// Host times are measured.
    Times,
    /// It is also measured where they went.
    Split,
}

/// How soon the table does without a column where it is too narrow: the highest goes first. What
/// has 0 stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Where no more than whole host times are measured.
    whole: u8,
    /// Where they are split, and other columns tell more.
    split: u8,
}

/// A column that stays.
const STAYS: Option<Rank> = Some(Rank { whole: 0, split: 0 });

/// A column that is there where host times are split.
const fn split(rank: u8) -> Option<Rank> {
    Some(Rank { whole: rank, split: rank })
}

/// The ranks of a column where host times are whole and where they are split.
const fn ranks(whole: u8, split: u8) -> Option<Rank> {
    Some(Rank { whole, split })
}

/// One column.
pub struct Column {
    /// Its name in JSON, CSV and the documentation.
    pub key: &'static str,
    /// Its heading in the table.
    pub heading: &'static str,
    /// The unit of its plain numbers; empty where it has none.
    pub unit: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Numbers stand at the right.
    pub right: bool,
    /// How soon the table does without it. `None`: the table has no such column.
    pub rank: Option<Rank>,
    /// Whether JSON and CSV have it. What they lack follows from what they have.
    pub machine: bool,
    needs: Needs,
    value: fn(&Context, &Group) -> Value,
}

impl Column {
    /// Whether the rows of `interval`, grouped like this, have it.
    pub fn is_there(&self, by: By, interval: &Interval) -> bool {
        let of_l2 = matches!(self.needs, Needs::Level | Needs::Nested | Needs::NestedTimes);
        self.is_grouped(by) && self.is_measured(interval) && (!of_l2 || interval.has_l2())
    }

    /// Whether rows grouped like this have it in JSON and CSV; there it does not depend on what
    /// was measured, so that a reader finds the same columns on every host.
    pub fn is_machine(&self, by: By) -> bool {
        self.machine && self.is_grouped(by)
    }

    fn is_grouped(&self, by: By) -> bool {
        match self.needs {
            Needs::Vm => by.vm,
            Needs::Vcpu => by.vcpu,
            Needs::Level => by.level,
            Needs::Reason => by.reason,
            Needs::Nothing
            | Needs::Apart
            | Needs::Nested
            | Needs::NestedTimes
            | Needs::Times
            | Needs::Split => true,
        }
    }

    fn is_measured(&self, interval: &Interval) -> bool {
        match self.needs {
            Needs::Nothing | Needs::Vm | Needs::Vcpu | Needs::Reason => true,
            Needs::Level | Needs::Nested => interval.source == Source::Btf,
            Needs::NestedTimes => interval.source == Source::Btf && interval.measured != Measured::Counts,
            Needs::Apart => interval.source != Source::KvmStat,
            Needs::Times => interval.measured != Measured::Counts,
            Needs::Split => interval.measured == Measured::Breakdown,
        }
    }

    /// How soon the table does without it, the highest first; 0 stays. `None`: it has no such
    /// column. What rows are sorted by goes last.
    pub fn dispensable(&self, measured: Measured, sort: Sort) -> Option<u8> {
        let rank = self.rank?;
        let rank = if measured == Measured::Breakdown { rank.split } else { rank.whole };
        Some(if self.key == sorted_by(sort) { rank.min(1) } else { rank })
    }

    /// Its cell for a group; nothing where it was not measured.
    pub fn value(&self, context: &Context, group: &Group) -> Value {
        if self.is_measured(context.interval) { (self.value)(context, group) } else { Value::Nothing }
    }
}

/// The column that shows best why rows are in this order.
fn sorted_by(sort: Sort) -> &'static str {
    match sort {
        Sort::Busy => "busy_share",
        Sort::Count => "count",
        Sort::Time => "time_ns",
        Sort::Kernel => "kernel_ns",
        Sort::User => "user_ns",
        Sort::Halted => "halted_ns",
        Sort::Polled => "polled_ns",
        Sort::Waiting => "waiting_ns",
        Sort::UserExits => "user_exits",
        Sort::ToL1 => "to_l1",
        Sort::L1Exits => "l1_exits",
        Sort::L1Time => "l1_ns",
        Sort::Min => "min_ns",
        Sort::Avg => "avg_ns",
        Sort::Max => "max_ns",
        Sort::P50 => "p50_ns",
        Sort::P95 => "p95_ns",
        Sort::P99 => "p99_ns",
        Sort::Name => "reason",
        Sort::Vm => "vm",
        Sort::Vcpu => "vcpu",
    }
}

/// What a cell depends on beside its own row.
pub struct Context<'a> {
    /// The interval.
    pub interval: &'a Interval,
    /// All its exits.
    pub total: Group,
}

impl<'a> Context<'a> {
    /// The context of the rows of `interval`.
    pub fn new(interval: &'a Interval) -> Self {
        Context { interval, total: Group::total(interval) }
    }

    fn vm(&self, group: &Group) -> Option<&'a Vm> {
        self.interval.vms.get(&group.vm?)
    }
}

fn ns(ns: Option<u64>) -> Value {
    ns.map_or(Value::Nothing, Value::Ns)
}

/// A figure that exits of L1 do not have.
fn nested(group: &Group, value: impl Fn(&Nested) -> Value) -> Value {
    if group.level == Some(Level::L1) { Value::Nothing } else { value(&group.counters.nested) }
}

/// A figure that only exits about a port or an MSR have.
fn detailed(group: &Group, value: impl Fn(&Details) -> Value) -> Value {
    let details = &group.counters.details;
    if details.count() == 0 { Value::Nothing } else { value(details) }
}

/// L1's exits for one of L2's.
#[allow(clippy::cast_precision_loss)]
fn each(nested: &Nested) -> Value {
    let done = nested.l1_done;
    if done == 0 { Value::Nothing } else { Value::Rate(nested.l1_exits as f64 / done as f64) }
}

/// A part of a whole; nothing where there is no whole.
#[allow(clippy::cast_precision_loss)]
pub fn share(part: u64, whole: u64) -> Value {
    if whole == 0 { Value::Nothing } else { Value::Share(part as f64 / whole as f64) }
}

#[allow(clippy::cast_precision_loss)]
fn rate(context: &Context, group: &Group) -> Value {
    let seconds = context.interval.length.as_secs_f64();
    if seconds > 0.0 { Value::Rate(group.counters.count as f64 / seconds) } else { Value::Nothing }
}

#[cfg(test)]
mod tests;
