//! Plain data, no input or output: what was counted up to a moment ([`Sample`]), what happened
//! between two moments ([`Interval`]), and the host time of exits ([`Histogram`]).

mod about;
mod accumulate;
mod compare;
mod counters;
mod detail;
#[cfg(any(test, feature = "test-util"))]
pub mod docs;
pub mod figure;
mod filter;
#[cfg(any(test, feature = "test-util"))]
pub mod fixture;
#[cfg(any(test, feature = "test-util"))]
pub mod generator;
mod group;
mod histogram;
mod interval;
mod kind;
mod labels;
mod loss;
mod memory;
mod mode;
mod nested;
pub mod redact;
mod sample;
mod statistics;
mod sum;
mod time;
pub mod unit;
pub mod worker;

pub use about::{About, Thinned};
pub use compare::{Comparison, Difference, Pair, compare, compare_by};
pub use counters::{Counter, Counters, Extremes, Nested, Split, Unit};
pub use detail::{Attributes, Detail, DetailCounters, Details};
pub use figure::Sort;
pub use filter::{Filter, Keys};
pub use group::{By, Group, Key, Subject, UnknownWord, group, sort};
pub use histogram::{BUCKETS, Histogram};
pub use interval::{Interval, Row, VcpuSpan, WentBackwards};
pub use kind::{DetailKind, Directions, KINDS, KindInfo};
pub use labels::{Labels, Witness};
pub use loss::{Holder, Holders, Loss, LossFigure};
pub use memory::Memory;
pub use mode::{Mode, Modes};
pub use nested::Level;
pub use sample::{ReasonCount, Sample, Source, VcpuSample, Vm, VmId};
pub use statistics::Summary;
pub use sum::Sum;
pub use time::{Measured, Returns, UserReason, VcpuTime};
pub use worker::{WORKERS, Worker, WorkerFigure, WorkerSpan, WorkerTimes};

/// Numbering that an exit code follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Intel VMX: the exit reason field of the VMCS (SDM vol. 3, appendix C).
    Vmx,
    /// AMD SVM: EXITCODE of the VMCB (APM vol. 2, appendix C).
    Svm,
    /// No hardware code: one of the classes of KVM's own statistics (`struct kvm_vcpu_stat`),
    /// by its index in `reason::kvm`. Classes overlap and do not add up to the total.
    KvmStat,
}

impl Isa {
    /// All of them.
    pub const ALL: [Isa; 3] = [Isa::Vmx, Isa::Svm, Isa::KvmStat];

    /// `vmx`, `svm` or `kvm`, as the JSON and CSV formats write it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Vmx => "vmx",
            Isa::Svm => "svm",
            Isa::KvmStat => "kvm",
        }
    }
}

/// An exit's hardware code, whole. VMX keeps the modifier bits of the exit reason field (bit 31
/// is a failed entry); SVM's negative codes (`VMEXIT_INVALID` is -1) stay negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitCode {
    /// The numbering.
    pub isa: Isa,
    /// The code.
    pub code: i64,
}

/// A count to calculate with; above 2^53 it is rounded.
#[allow(clippy::cast_precision_loss)]
pub fn float(count: u64) -> f64 {
    count as f64
}
