//! Advice: rules over the figures of an interval and over facts of the host, each with its source.
//!
//! [`advise`] holds every one of the [`rules`] against each VM. A rule answers with what was seen, what helps, and how
//! many exits and how much host time it is about, or stays silent: without enough evidence it says nothing.
//!
//! ```
//! use exitscope_analysis::advice::{Host, advise};
//! use exitscope_model::{Interval, Loss, Measured, Source};
//! use std::time::{Duration, SystemTime};
//!
//! let start = SystemTime::UNIX_EPOCH;
//! let nothing = Interval {
//!     start,
//!     end: start,
//!     length: Duration::from_secs(1),
//!     source: Source::Btf,
//!     measured: Measured::Breakdown,
//!     vms: Default::default(),
//!     vcpus: Vec::new(),
//!     workers: Vec::new(),
//!     rows: Vec::new(),
//!     loss: Loss::default(),
//! };
//! assert!(advise(&nothing, &Host::default()).is_empty());
//! ```

mod command_line;
mod evidence;
mod host;
mod rules;
mod sum;
#[cfg(test)]
mod tests;

pub use evidence::Evidence;
pub use host::Host;
pub use sum::Sum;

use exitscope_model::{Interval, Source, Vm, VmId};
use std::cmp::Reverse;

/// Fewest exits of a VM that any rule speaks about: below, a share is chance.
pub const MIN_EXITS: u64 = 1000;

/// A rule: a condition over the evidence about one VM.
pub struct Rule {
    /// Name, unique, in lower case with hyphens.
    pub name: &'static str,
    /// Document that the advice rests on.
    pub source: &'static str,
    /// Rules that say the same in more general words: they stay silent about a VM where this one speaks.
    pub replaces: &'static [&'static str],
    /// Returns the finding, or `None` where the evidence is not enough.
    pub check: fn(&Evidence<'_>) -> Option<Finding>,
}

/// Answer of a rule about one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// One sentence: what was seen, with its figures.
    pub seen: String,
    /// One sentence or two: what helps, with the option to set.
    pub helps: String,
    /// Exits and host time that it is about.
    pub about: Sum,
}

/// Advice about one VM.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// Name of the rule.
    pub rule: &'static str,
    /// The VM.
    pub vm: VmId,
    /// Observation, remedy, and the thing that both are about.
    pub finding: Finding,
    /// Share of the VM's exits that it is about, from 0 to 1.
    pub share: f64,
    /// Document that the advice rests on.
    pub source: &'static str,
}

/// Returns every rule.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    rules::RULES.iter().copied().flatten()
}

/// Holds all rules against each VM of `interval`. Returns the advice that would save most first.
///
/// KVM's own statistics have no reasons, so that there is no advice on them.
pub fn advise(interval: &Interval, host: &Host) -> Vec<Advice> {
    let mut all: Vec<Advice> = interval.vms.values().flat_map(|vm| advise_vm(interval, vm, host)).collect();
    // Stable: VMs and rules keep their order among equals.
    all.sort_by_key(saves);
    all
}

/// Holds all rules against one VM of `interval`. Returns the advice that would save most first.
pub fn advise_vm(interval: &Interval, vm: &Vm, host: &Host) -> Vec<Advice> {
    let evidence = Evidence::new(interval, vm, host);
    if interval.source == Source::KvmStat || evidence.all().exits < MIN_EXITS {
        return Vec::new();
    }
    let found: Vec<(&Rule, Finding)> =
        rules().filter_map(|rule| Some((rule, (rule.check)(&evidence)?))).collect();
    let replaced: Vec<&str> = found.iter().flat_map(|(rule, _)| rule.replaces.iter().copied()).collect();
    let mut advice: Vec<Advice> = found
        .into_iter()
        .filter(|(rule, _)| !replaced.contains(&rule.name))
        .map(|(rule, finding)| Advice {
            rule: rule.name,
            vm: vm.id,
            share: evidence.share(finding.about.exits),
            finding,
            source: rule.source,
        })
        .collect();
    advice.sort_by_key(saves);
    advice
}

/// Order of advice: what would save most first, by time where times are measured.
fn saves(advice: &Advice) -> Reverse<(u64, u64)> {
    Reverse((advice.finding.about.busy_ns, advice.finding.about.exits))
}
