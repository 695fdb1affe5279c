//! Facts that a recording keeps beside its intervals.

use exitscope_analysis::boot_report::LeftOut;
use exitscope_analysis::outcome::{Evidence, Kind, Outcome};
use exitscope_model::{Isa, Level, Measured};
use std::collections::BTreeMap;
use std::time::Duration;

/// Prefix of facts about the host that came after the first ones: `host_clocksource`.
pub(super) const HOST: &str = "host_";

/// Key among a VM's labels of the witness that gave it its name.
pub(super) const NAMED_BY: &str = "named_by";

/// Remarks of the recorder on the numbers, in words that continue a sentence. Untrusted, like all that is
/// read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Reason why KVM's own count may be smaller without an error.
    pub kvm_counts_fewer: Option<String>,
    /// Reason why KVM's own count could not be read.
    pub kvm_missing: Option<String>,
    /// Reason why this source was used.
    pub source: Option<String>,
}

impl Notes {
    /// Returns each remark with the name of its fact.
    pub(super) fn facts(&self) -> [(&'static str, Option<&str>); 3] {
        [
            ("note_kvm_counts_fewer", self.kvm_counts_fewer.as_deref()),
            ("note_kvm_missing", self.kvm_missing.as_deref()),
            ("note_source", self.source.as_deref()),
        ]
    }
}

/// Returns the counts of what was left out, each with the name of its fact.
pub(super) fn left_out(left_out: LeftOut) -> [(&'static str, u64); 3] {
    [
        ("console_lines_left_out", left_out.lines),
        ("console_bytes_left_out", left_out.bytes),
        ("marks_left_out", left_out.marks),
    ]
}

/// Returns the facts of an outcome, without those that it has not.
pub(super) fn outcome_facts(outcome: &Outcome, evidence: &[Evidence]) -> Vec<(&'static str, String)> {
    let ns = |time: Duration| time.as_nanos().to_string();
    let mut facts = vec![
        ("outcome", outcome.kind.name().to_owned()),
        ("outcome_at_ns", ns(outcome.at)),
        ("outcome_phase", outcome.phase.clone()),
        ("outcome_began_again", outcome.began_again.to_string()),
        ("outcome_failures", outcome.failures.to_string()),
    ];
    facts.extend(outcome.cause.clone().map(|cause| ("outcome_cause", cause)));
    facts.extend(outcome.line.clone().map(|line| ("outcome_line", line)));
    // One a line: by which of both, the times of the mode's interval and of the line, and the phase.
    let told = evidence.iter().filter(|evidence| evidence.differs()).filter_map(|evidence| {
        let ((from, to), line) = (evidence.mode?, evidence.line?);
        let by = if evidence.by_line? { "line" } else { "mode" };
        Some(format!("{by} {} {} {} {}", ns(from), ns(to), ns(line), evidence.phase))
    });
    let told: Vec<String> = told.collect();
    if !told.is_empty() {
        facts.push(("phase_evidence", told.join("\n")));
    }
    facts
}

/// Reads the outcome from the facts of a recording; `Ok(None)` if it has none.
///
/// # Errors
/// With the name and the value of a fact that is none.
pub(super) fn outcome(facts: &BTreeMap<String, String>) -> Result<Option<Outcome>, String> {
    let Some(word) = facts.get("outcome") else { return Ok(None) };
    let wrong = |name: &str| format!("its fact {name:?} is {:?}", facts.get(name).map(|value| short(value)));
    let text = |name: &str| facts.get(name).cloned();
    let number =
        |name: &str| facts.get(name).and_then(|value| value.parse::<u64>().ok()).ok_or_else(|| wrong(name));
    let count = |name: &str| u32::try_from(number(name)?).map_err(|_| wrong(name));
    Ok(Some(Outcome {
        kind: Kind::ALL.into_iter().find(|kind| kind.name() == word).ok_or_else(|| wrong("outcome"))?,
        at: Duration::from_nanos(number("outcome_at_ns")?),
        phase: text("outcome_phase").unwrap_or_default(),
        cause: text("outcome_cause"),
        line: text("outcome_line"),
        began_again: count("outcome_began_again")?,
        failures: count("outcome_failures")?,
    }))
}

/// Reads the evidence from the facts of a recording.
///
/// # Errors
/// With the line that is none.
pub(super) fn evidence(facts: &BTreeMap<String, String>) -> Result<Vec<Evidence>, String> {
    let Some(text) = facts.get("phase_evidence") else { return Ok(Vec::new()) };
    let read = |line: &str| {
        let mut words = line.splitn(5, ' ');
        let by_line = match words.next()? {
            "line" => true,
            "mode" => false,
            _ => return None,
        };
        let mut time = || Some(Duration::from_nanos(words.next()?.parse().ok()?));
        let (from, to, at) = (time()?, time()?, time()?);
        let phase = words.next()?.to_owned();
        Some(Evidence { phase, mode: Some((from, to)), line: Some(at), by_line: Some(by_line) })
    };
    let lines = text.lines().take(MOST_EVIDENCE);
    lines
        .map(|line| read(line).ok_or_else(|| format!("its fact \"phase_evidence\" has {:?}", short(line))))
        .collect()
}

/// Beginning of a text, for a message.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Number of lines of evidence that are read at most; no recorder writes more.
const MOST_EVIDENCE: usize = 1000;

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
