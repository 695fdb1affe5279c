//! Value of a figure.

use crate::{Details, ExitCode, Histogram, Isa, Level, Returns, Subject};
use std::borrow::Cow;
use std::cmp::Ordering;

/// Value of a [`Figure`](super::Figure) for some exits.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value: it was not measured, or does not apply.
    Nothing,
    /// A VM, by its name, which may be hostile, and the process that tells apart VMs of one name.
    Vm(String, u32),
    /// A numbering of exit codes.
    Isa(Isa),
    /// A number that identifies, such as a process's.
    Id(i64),
    /// A level: `L1` or `L2` for people, 1 or 2 for machines.
    Level(Level),
    /// An exit reason, whose name the view knows.
    Reason(ExitCode),
    /// A number of things.
    Count(u64),
    /// A part of 1.
    Share(f64),
    /// A number per second, or per something else.
    Rate(f64),
    /// Nanoseconds.
    Ns(u64),
    /// A histogram of nanoseconds.
    Buckets(Box<Histogram>),
    /// Returns of KVM_RUN to the VMM.
    Returns(Returns),
    /// Ports, MSRs and so on that exits were about.
    Details(Details),
    /// One of them, or the others.
    Subject(Subject),
}

impl Value {
    /// Returns its number, if it has one; above 2^53 it is rounded.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Count(number) | Value::Ns(number) => Some(crate::float(*number)),
            Value::Share(number) | Value::Rate(number) => Some(*number),
            _ => None,
        }
    }

    /// Order of two values of one figure in a sorted list: numbers from the largest down, names and what identifies
    /// upwards, nothing last. `name` names exit reasons.
    pub fn order(&self, other: &Value, name: &impl Fn(ExitCode) -> Cow<'static, str>) -> Ordering {
        match (self, other) {
            (Value::Nothing, Value::Nothing) => Ordering::Equal,
            (Value::Nothing, _) => Ordering::Greater,
            (_, Value::Nothing) => Ordering::Less,
            (Value::Vm(a, pid), Value::Vm(b, other)) => (a, pid).cmp(&(b, other)),
            (Value::Isa(a), Value::Isa(b)) => a.cmp(b),
            (Value::Id(a), Value::Id(b)) => a.cmp(b),
            (Value::Level(a), Value::Level(b)) => a.cmp(b),
            (Value::Reason(a), Value::Reason(b)) => name(*a).cmp(&name(*b)),
            (Value::Subject(a), Value::Subject(b)) => a.cmp(b),
            (Value::Count(a), Value::Count(b)) | (Value::Ns(a), Value::Ns(b)) => b.cmp(a),
            (Value::Share(a), Value::Share(b)) | (Value::Rate(a), Value::Rate(b)) => b.total_cmp(a),
            _ => Ordering::Equal,
        }
    }
}

/// Kind of a figure's [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Vm`] or [`Value::Reason`].
    Text,
    /// [`Value::Isa`].
    Isa,
    /// [`Value::Id`], at least 0.
    Id,
    /// [`Value::Id`], which may be negative.
    Code,
    /// [`Value::Level`].
    Level,
    /// [`Value::Count`].
    Count,
    /// [`Value::Share`].
    Share,
    /// [`Value::Rate`].
    Rate,
    /// [`Value::Ns`].
    Ns,
    /// [`Value::Buckets`].
    Buckets,
    /// [`Value::Returns`].
    Returns,
    /// [`Value::Details`].
    Details,
    /// [`Value::Subject`].
    Subject,
}

impl Kind {
    /// Returns true if people read such values as numbers, which stand at the right.
    pub fn is_number(self) -> bool {
        matches!(self, Kind::Id | Kind::Code | Kind::Count | Kind::Share | Kind::Rate | Kind::Ns)
    }

    /// Returns true if `value` is of this kind, or there is none.
    pub fn fits(self, value: &Value) -> bool {
        let kind = match value {
            Value::Nothing => return true,
            Value::Vm(..) | Value::Reason(_) => Kind::Text,
            Value::Isa(_) => Kind::Isa,
            Value::Id(id) => return self == Kind::Code || (self == Kind::Id && *id >= 0),
            Value::Level(_) => Kind::Level,
            Value::Count(_) => Kind::Count,
            Value::Share(_) => Kind::Share,
            Value::Rate(_) => Kind::Rate,
            Value::Ns(_) => Kind::Ns,
            Value::Buckets(_) => Kind::Buckets,
            Value::Returns(_) => Kind::Returns,
            Value::Details(_) => Kind::Details,
            Value::Subject(_) => Kind::Subject,
        };
        kind == self
    }
}
