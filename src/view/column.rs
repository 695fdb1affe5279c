//! Every column once: what it is called, what it means, how it is computed. The table, CSV, JSON
//! and the documentation read this.

pub use super::value::Value;
use crate::model::{By, Group, Interval, Level, Measured, Nested, Sort, Source, Vm};
use crate::reason;

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
            Needs::Split => interval.measured == Measured::Split,
        }
    }

    /// How soon the table does without it, the highest first; 0 stays. `None`: it has no such
    /// column. What rows are sorted by goes last.
    pub fn dispensable(&self, measured: Measured, sort: Sort) -> Option<u8> {
        let rank = self.rank?;
        let rank = if measured == Measured::Split { rank.split } else { rank.whole };
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

/// All columns, from left to right.
pub const COLUMNS: [Column; 34] = [
    Column {
        key: "vm",
        heading: "vm",
        unit: "",
        help: "name of the VM",
        right: false,
        rank: STAYS,
        machine: true,
        needs: Needs::Vm,
        value: |context, group| context.vm(group).map_or(Value::Nothing, |vm| Value::Text(vm.name.clone())),
    },
    Column {
        key: "pid",
        heading: "pid",
        unit: "",
        help: "process that runs the VM",
        right: true,
        rank: ranks(8, 16),
        machine: true,
        needs: Needs::Vm,
        value: |context, group| context.vm(group).map_or(Value::Nothing, |vm| Value::Id(vm.pid.into())),
    },
    Column {
        key: "vm_id",
        heading: "id",
        unit: "",
        help: "number that tells the VMs of one process apart; never used twice in one run",
        right: true,
        rank: STAYS,
        machine: true,
        needs: Needs::Vm,
        value: |_, group| {
            let id = group.vm.and_then(|vm| i64::try_from(vm.0).ok());
            id.map_or(Value::Nothing, Value::Id)
        },
    },
    Column {
        key: "vcpu",
        heading: "vcpu",
        unit: "",
        help: "number of the vCPU in its VM",
        right: true,
        rank: STAYS,
        machine: true,
        needs: Needs::Vcpu,
        value: |_, group| group.vcpu.map_or(Value::Nothing, |vcpu| Value::Id(vcpu.into())),
    },
    Column {
        key: "level",
        heading: "level",
        unit: "",
        help: "whose exits: the VM's own (L1), or those of the guests that it runs itself (L2)",
        right: false,
        rank: STAYS,
        machine: true,
        needs: Needs::Level,
        value: |_, group| group.level.map_or(Value::Nothing, Value::Level),
    },
    Column {
        key: "isa",
        heading: "isa",
        unit: "",
        help: "whose exit codes: `vmx` (Intel), `svm` (AMD), `kvm` (a class of KVM's statistics)",
        right: false,
        rank: None,
        machine: true,
        needs: Needs::Reason,
        value: |_, group| group.code.map_or(Value::Nothing, |code| Value::Text(code.isa.name().into())),
    },
    Column {
        key: "code",
        heading: "code",
        unit: "",
        help: "exit code of the hardware, whole and signed; for `kvm` the number of the class",
        right: true,
        rank: None,
        machine: true,
        needs: Needs::Reason,
        value: |_, group| group.code.map_or(Value::Nothing, |code| Value::Id(code.code)),
    },
    Column {
        key: "reason",
        heading: "reason",
        unit: "",
        help: "name of the exit reason, or its number where no manual names it",
        right: false,
        rank: STAYS,
        machine: true,
        needs: Needs::Reason,
        value: |_, group| {
            group.code.map_or(Value::Nothing, |code| Value::Text(reason::name(code).into_owned()))
        },
    },
    Column {
        key: "count",
        heading: "count",
        unit: "exits",
        help: "exits in the interval",
        right: true,
        rank: STAYS,
        machine: true,
        needs: Needs::Nothing,
        value: |_, group| Value::Count(group.counters.count),
    },
    Column {
        key: "count_share",
        heading: "count %",
        unit: "",
        help: "part of all exits",
        right: true,
        rank: ranks(4, 13),
        machine: false,
        needs: Needs::Apart,
        value: |context, group| share(group.counters.count, context.total.counters.count),
    },
    Column {
        key: "rate",
        heading: "exits/s",
        unit: "exits per second",
        help: "exits per second of the interval",
        right: true,
        rank: ranks(9, 10),
        machine: false,
        needs: Needs::Nothing,
        value: rate,
    },
    Column {
        key: "user_exits",
        heading: "user exits",
        unit: "exits",
        help: "exits that went out to user space: KVM_RUN returned to the VMM at least once",
        right: true,
        rank: split(8),
        machine: true,
        needs: Needs::Split,
        value: |_, group| Value::Count(group.counters.split.user_exits),
    },
    Column {
        key: "to_l1",
        heading: "to L1",
        unit: "exits",
        help: "exits of L2 after which KVM entered L1, to have it handle them; the others KVM handled alone",
        right: true,
        rank: ranks(1, 2),
        machine: true,
        needs: Needs::Nested,
        value: |_, group| nested(group, |nested| Value::Count(nested.to_l1)),
    },
    Column {
        key: "l1_done",
        heading: "handled",
        unit: "exits",
        help: "how many of those L1 has handled: it has entered an L2 again",
        right: true,
        rank: None,
        machine: true,
        needs: Needs::Nested,
        value: |_, group| nested(group, |nested| Value::Count(nested.l1_done)),
    },
    Column {
        key: "l1_exits",
        heading: "L1 exits",
        unit: "exits",
        help: "exits that L1 made itself until it had handled those, that with which it entered L2 included",
        right: true,
        rank: ranks(2, 3),
        machine: true,
        needs: Needs::Nested,
        value: |_, group| nested(group, |nested| Value::Count(nested.l1_exits)),
    },
    Column {
        key: "l1_exits_each",
        heading: "each",
        unit: "exits",
        help: "how many of these L1 made for one exit of L2, on average",
        right: true,
        rank: ranks(1, 1),
        machine: false,
        needs: Needs::Nested,
        value: |_, group| nested(group, each),
    },
    Column {
        key: "l1_ns",
        heading: "L1 time",
        unit: "ns",
        help: "how long L1 took for those, its exits included, from KVM's entry into L1 to that into L2",
        right: true,
        rank: ranks(4, 5),
        machine: true,
        needs: Needs::NestedTimes,
        value: |_, group| nested(group, |nested| Value::Ns(nested.l1_ns)),
    },
    Column {
        key: "time_ns",
        heading: "time",
        unit: "ns",
        help: "host time: from each exit to the vCPU's next entry, added up",
        right: true,
        rank: ranks(3, 14),
        machine: true,
        needs: Needs::Times,
        value: |_, group| Value::Ns(group.counters.time_ns),
    },
    Column {
        key: "time_share",
        heading: "time %",
        unit: "",
        help: "part of the host time of all exits",
        right: true,
        rank: ranks(5, 18),
        machine: false,
        needs: Needs::Times,
        value: |context, group| share(group.counters.time_ns, context.total.counters.time_ns),
    },
    Column {
        key: "busy_ns",
        heading: "busy",
        unit: "ns",
        help: "host time that was not halted: kernel, user and waiting",
        right: true,
        rank: split(9),
        machine: false,
        needs: Needs::Split,
        value: |_, group| Value::Ns(group.counters.busy_ns()),
    },
    Column {
        key: "busy_share",
        heading: "busy %",
        unit: "",
        help: "part of the busy time of all exits",
        right: true,
        rank: split(1),
        machine: false,
        needs: Needs::Split,
        value: |context, group| share(group.counters.busy_ns(), context.total.counters.busy_ns()),
    },
    Column {
        key: "kernel_ns",
        heading: "kernel",
        unit: "ns",
        help: "host time in KVM: the rest of the host time",
        right: true,
        rank: split(2),
        machine: true,
        needs: Needs::Split,
        value: |_, group| Value::Ns(group.counters.split.kernel_ns(group.counters.time_ns)),
    },
    Column {
        key: "user_ns",
        heading: "user",
        unit: "ns",
        help: "host time in the VMM, out in user space",
        right: true,
        rank: split(3),
        machine: true,
        needs: Needs::Split,
        value: |_, group| Value::Ns(group.counters.split.user_ns),
    },
    Column {
        key: "waiting_ns",
        heading: "waiting",
        unit: "ns",
        help: "host time in which the vCPU could run and had no CPU",
        right: true,
        rank: split(4),
        machine: true,
        needs: Needs::Split,
        value: |_, group| Value::Ns(group.counters.split.waiting_ns),
    },
    Column {
        key: "halted_ns",
        heading: "halted",
        unit: "ns",
        help: "host time in which the vCPU waited for an event, polling or asleep",
        right: true,
        rank: split(5),
        machine: true,
        needs: Needs::Split,
        value: |_, group| Value::Ns(group.counters.split.halted_ns),
    },
    Column {
        key: "polled_ns",
        heading: "polled",
        unit: "ns",
        help: "the part of the halted time in which it polled and kept its CPU busy",
        right: true,
        rank: split(15),
        machine: true,
        needs: Needs::Split,
        value: |_, group| Value::Ns(group.counters.split.polled_ns),
    },
    Column {
        key: "min_ns",
        heading: "min",
        unit: "ns",
        help: "shortest host time of one exit",
        right: true,
        rank: ranks(11, 19),
        machine: true,
        needs: Needs::Times,
        value: |_, group| ns(group.counters.extremes.map(|extremes| extremes.min_ns)),
    },
    Column {
        key: "avg_ns",
        heading: "avg",
        unit: "ns",
        help: "mean host time of the exits that have entered again",
        right: true,
        rank: ranks(2, 6),
        machine: false,
        needs: Needs::Times,
        value: |_, group| ns(group.avg_ns()),
    },
    Column {
        key: "max_ns",
        heading: "max",
        unit: "ns",
        help: "longest host time of one exit",
        right: true,
        rank: ranks(7, 11),
        machine: true,
        needs: Needs::Times,
        value: |_, group| ns(group.counters.extremes.map(|extremes| extremes.max_ns)),
    },
    Column {
        key: "p50_ns",
        heading: "p50",
        unit: "ns",
        help: "host time that half of the exits did not exceed; an estimate from the histogram",
        right: true,
        rank: ranks(12, 20),
        machine: false,
        needs: Needs::Times,
        value: |_, group| ns(group.percentile(0.50)),
    },
    Column {
        key: "p95_ns",
        heading: "p95",
        unit: "ns",
        help: "host time that 95 % of the exits did not exceed; an estimate from the histogram",
        right: true,
        rank: ranks(10, 17),
        machine: false,
        needs: Needs::Times,
        value: |_, group| ns(group.percentile(0.95)),
    },
    Column {
        key: "p99_ns",
        heading: "p99",
        unit: "ns",
        help: "host time that 99 % of the exits did not exceed; an estimate from the histogram",
        right: true,
        rank: ranks(6, 7),
        machine: false,
        needs: Needs::Times,
        value: |_, group| ns(group.percentile(0.99)),
    },
    Column {
        key: "histogram",
        heading: "histogram",
        unit: "exits",
        help: "exits by host time in 38 buckets: the first up to 1 ns, number b (from 0) from 2^b to \
               2^(b+1)-1 ns, the last also all longer ones",
        right: false,
        rank: None,
        machine: true,
        needs: Needs::Times,
        value: |_, group| Value::Buckets(Box::new(group.counters.histogram.clone())),
    },
    Column {
        key: "returns",
        heading: "returned",
        unit: "returns",
        help: "what KVM_RUN returned to the VMM with, the most frequent first; one exit may return several times",
        right: false,
        rank: split(12),
        machine: true,
        needs: Needs::Split,
        value: |_, group| Value::Returns(group.counters.returns.clone()),
    },
];

#[cfg(test)]
mod tests;
