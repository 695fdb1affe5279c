//! Every column once: what it is called, what it means, how it is computed. The table, CSV, JSON
//! and the documentation read this.

use super::unit;
use crate::model::{By, Group, Histogram, Interval, Source, Vm};
use crate::reason;
use serde::{Serialize, Serializer};

/// What one cell holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// There is no figure.
    Nothing,
    /// Text, which may be hostile.
    Text(String),
    /// A number that identifies, such as a process's.
    Id(i64),
    /// How many.
    Count(u64),
    /// A part of 1.
    Share(f64),
    /// How many per second.
    Rate(f64),
    /// Nanoseconds.
    Ns(u64),
    /// A histogram of nanoseconds.
    Buckets(Box<Histogram>),
}

impl Value {
    /// As people read it.
    pub fn human(&self) -> String {
        match self {
            Value::Nothing => "-".into(),
            Value::Text(text) => text.clone(),
            Value::Id(id) => id.to_string(),
            Value::Count(count) => unit::count(*count),
            Value::Share(share) => unit::share(*share),
            Value::Rate(rate) => unit::rate(*rate),
            Value::Ns(ns) => unit::time(*ns),
            Value::Buckets(buckets) => plain_buckets(buckets),
        }
    }

    /// As machines read it from text: plain numbers, nothing where there is none.
    pub fn plain(&self) -> String {
        match self {
            Value::Nothing => String::new(),
            Value::Text(text) => text.clone(),
            Value::Id(id) => id.to_string(),
            Value::Count(whole) | Value::Ns(whole) => whole.to_string(),
            Value::Share(number) | Value::Rate(number) => number.to_string(),
            Value::Buckets(buckets) => plain_buckets(buckets),
        }
    }
}

fn plain_buckets(buckets: &Histogram) -> String {
    buckets.0.map(|count| count.to_string()).join(";")
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Nothing => serializer.serialize_none(),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Id(id) => serializer.serialize_i64(*id),
            Value::Count(whole) | Value::Ns(whole) => serializer.serialize_u64(*whole),
            Value::Share(number) | Value::Rate(number) => serializer.serialize_f64(*number),
            Value::Buckets(buckets) => serializer.collect_seq(buckets.0),
        }
    }
}

/// When there is something to put into a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Always.
    Nothing,
    /// Rows tell VMs apart.
    Vm,
    /// Rows tell vCPUs apart.
    Vcpu,
    /// Rows tell reasons apart.
    Reason,
    /// The source tells exits apart and measures them: any but KVM's statistics.
    Measured,
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
    /// Where the table is too narrow, columns go from the highest of these down; those with 0
    /// stay. `None`: the table has no such column.
    pub dispensable: Option<u8>,
    /// Whether JSON and CSV have it. What they lack follows from what they have.
    pub machine: bool,
    needs: Needs,
    value: fn(&Context, &Group) -> Value,
}

impl Column {
    /// Whether rows grouped like this, from such a source, have it.
    pub fn is_there(&self, by: By, source: Source) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Vm => by.vm,
            Needs::Vcpu => by.vcpu,
            Needs::Reason => by.reason,
            Needs::Measured => source != Source::KvmStat,
        }
    }

    /// Whether rows grouped like this have it in JSON and CSV; there it does not depend on the
    /// source, so that a reader finds the same columns on every host.
    pub fn is_machine(&self, by: By) -> bool {
        self.machine && self.is_there(by, Source::Btf)
    }

    /// Its cell for a group; nothing where the source has no such figure.
    pub fn value(&self, context: &Context, group: &Group) -> Value {
        if self.needs == Needs::Measured && context.interval.source == Source::KvmStat {
            return Value::Nothing;
        }
        (self.value)(context, group)
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

#[allow(clippy::cast_precision_loss)]
fn share(part: u64, whole: u64) -> Value {
    if whole == 0 { Value::Nothing } else { Value::Share(part as f64 / whole as f64) }
}

#[allow(clippy::cast_precision_loss)]
fn rate(context: &Context, group: &Group) -> Value {
    let seconds = context.interval.length.as_secs_f64();
    if seconds > 0.0 { Value::Rate(group.counters.count as f64 / seconds) } else { Value::Nothing }
}

/// All columns, from left to right.
pub const COLUMNS: [Column; 19] = [
    Column {
        key: "vm",
        heading: "vm",
        unit: "",
        help: "name of the VM",
        right: false,
        dispensable: Some(0),
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
        dispensable: Some(8),
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
        dispensable: Some(0),
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
        dispensable: Some(0),
        machine: true,
        needs: Needs::Vcpu,
        value: |_, group| group.vcpu.map_or(Value::Nothing, |vcpu| Value::Id(vcpu.into())),
    },
    Column {
        key: "isa",
        heading: "isa",
        unit: "",
        help: "whose exit codes: `vmx` (Intel), `svm` (AMD), `kvm` (a class of KVM's statistics)",
        right: false,
        dispensable: None,
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
        dispensable: None,
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
        dispensable: Some(0),
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
        dispensable: Some(0),
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
        dispensable: Some(4),
        machine: false,
        needs: Needs::Measured,
        value: |context, group| share(group.counters.count, context.total.counters.count),
    },
    Column {
        key: "rate",
        heading: "exits/s",
        unit: "exits per second",
        help: "exits per second of the interval",
        right: true,
        dispensable: Some(9),
        machine: false,
        needs: Needs::Nothing,
        value: rate,
    },
    Column {
        key: "time_ns",
        heading: "time",
        unit: "ns",
        help: "host time: from each exit to the vCPU's next entry, added up",
        right: true,
        dispensable: Some(3),
        machine: true,
        needs: Needs::Measured,
        value: |_, group| Value::Ns(group.counters.time_ns),
    },
    Column {
        key: "time_share",
        heading: "time %",
        unit: "",
        help: "part of the host time of all exits",
        right: true,
        dispensable: Some(5),
        machine: false,
        needs: Needs::Measured,
        value: |context, group| share(group.counters.time_ns, context.total.counters.time_ns),
    },
    Column {
        key: "min_ns",
        heading: "min",
        unit: "ns",
        help: "shortest host time of one exit",
        right: true,
        dispensable: Some(11),
        machine: true,
        needs: Needs::Measured,
        value: |_, group| ns(group.counters.extremes.map(|extremes| extremes.min_ns)),
    },
    Column {
        key: "avg_ns",
        heading: "avg",
        unit: "ns",
        help: "mean host time of the exits that have entered again",
        right: true,
        dispensable: Some(2),
        machine: false,
        needs: Needs::Measured,
        value: |_, group| ns(group.avg_ns()),
    },
    Column {
        key: "max_ns",
        heading: "max",
        unit: "ns",
        help: "longest host time of one exit",
        right: true,
        dispensable: Some(7),
        machine: true,
        needs: Needs::Measured,
        value: |_, group| ns(group.counters.extremes.map(|extremes| extremes.max_ns)),
    },
    Column {
        key: "p50_ns",
        heading: "p50",
        unit: "ns",
        help: "host time that half of the exits did not exceed; an estimate from the histogram",
        right: true,
        dispensable: Some(12),
        machine: false,
        needs: Needs::Measured,
        value: |_, group| ns(group.percentile(0.50)),
    },
    Column {
        key: "p95_ns",
        heading: "p95",
        unit: "ns",
        help: "host time that 95 % of the exits did not exceed; an estimate from the histogram",
        right: true,
        dispensable: Some(10),
        machine: false,
        needs: Needs::Measured,
        value: |_, group| ns(group.percentile(0.95)),
    },
    Column {
        key: "p99_ns",
        heading: "p99",
        unit: "ns",
        help: "host time that 99 % of the exits did not exceed; an estimate from the histogram",
        right: true,
        dispensable: Some(6),
        machine: false,
        needs: Needs::Measured,
        value: |_, group| ns(group.percentile(0.99)),
    },
    Column {
        key: "histogram",
        heading: "histogram",
        unit: "exits",
        help: "exits by host time in 38 buckets: the first up to 1 ns, number b (from 0) from 2^b to \
               2^(b+1)-1 ns, the last also all longer ones",
        right: false,
        dispensable: None,
        machine: true,
        needs: Needs::Measured,
        value: |_, group| Value::Buckets(Box::new(group.counters.histogram.clone())),
    },
];
