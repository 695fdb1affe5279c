//! What is kept with a recording beside its intervals.

use exitscope_analysis::boot_report::LeftOut;
use exitscope_model::{Isa, Level, Measured, Source};

/// Prefix of facts about the host that came after the first ones: `host_clocksource`.
pub(super) const HOST: &str = "host_";

/// What the one who recorded knew about the numbers, in words that continue a sentence. Untrusted, as all that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Why KVM's own count may be smaller without anything being wrong.
    pub kvm_counts_fewer: Option<String>,
    /// Why KVM's own count could not be read.
    pub kvm_missing: Option<String>,
    /// Why the numbers come from where they come.
    pub source: Option<String>,
}

impl Notes {
    /// Each with the name of its fact.
    pub(super) fn facts(&self) -> [(&'static str, Option<&str>); 3] {
        [
            ("note_kvm_counts_fewer", self.kvm_counts_fewer.as_deref()),
            ("note_kvm_missing", self.kvm_missing.as_deref()),
            ("note_source", self.source.as_deref()),
        ]
    }
}

/// What was left out, each with the name of its fact.
pub(super) fn left_out(left_out: LeftOut) -> [(&'static str, u64); 3] {
    [
        ("console_lines_left_out", left_out.lines),
        ("console_bytes_left_out", left_out.bytes),
        ("marks_left_out", left_out.marks),
    ]
}

pub(super) const SOURCES: [(&str, Source); 4] = [
    ("btf", Source::Btf),
    ("tracepoint", Source::Tracepoint),
    ("kvm_stat", Source::KvmStat),
    ("kernel", Source::Kernel),
];

pub(super) const MEASURED: [(&str, Measured); 3] =
    [("counts", Measured::Counts), ("times", Measured::Latency), ("split", Measured::Breakdown)];

pub(super) const ISAS: [(&str, Isa); 3] = [("vmx", Isa::Vmx), ("svm", Isa::Svm), ("kvm", Isa::KvmStat)];

pub(super) const LEVELS: [(i64, Level); 2] = [(1, Level::L1), (2, Level::L2)];

/// The word of a value in one of these tables.
pub(super) fn word<T: PartialEq, W: Copy + Default>(table: &[(W, T)], value: &T) -> W {
    table.iter().find(|(_, known)| known == value).map_or_else(W::default, |(word, _)| *word)
}

/// The value of a word.
pub(super) fn value<T: Copy, W: PartialEq>(table: &[(W, T)], word: &W) -> Option<T> {
    table.iter().find(|(known, _)| known == word).map(|(_, value)| *value)
}
