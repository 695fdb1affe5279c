//! Provenance of figures.

use super::{Measured, Source};
use std::collections::BTreeMap;
use std::time::Duration;

/// Parts of a recording that was thinned while it went on: what is gone, then sums of hours, then sums of minutes. After these it
/// has every interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinned {
    /// Length of what is gone.
    pub gone: Duration,
    /// Length of what is left as sums of hours.
    pub hours: Duration,
    /// Length of what is left as sums of minutes.
    pub minutes: Duration,
    /// Length of what has every interval.
    pub full: Duration,
}

/// Where, with what and how something was counted. Out of a recording it may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The version of exitscope.
    pub tool: String,
    /// The host's name.
    pub host: String,
    /// The kernel's release and version.
    pub kernel: String,
    /// The CPU's model.
    pub cpu: String,
    /// Number of the host's CPUs.
    pub cpus: u32,
    /// The parameters of KVM's modules, by module and name.
    pub kvm: BTreeMap<(String, String), String>,
    /// Other facts of the host that figures depend on, by name: `clocksource`; `apicv` and `avic`, which are `yes` where
    /// the CPU has it and `no` where it has not.
    pub facts: BTreeMap<String, String>,
    /// The command whose VMs were watched; empty where there was none.
    pub command: Vec<String>,
    /// Intended length of an interval.
    pub interval: Duration,
    /// Where the numbers come from.
    pub source: Source,
    /// Level of detail.
    pub measured: Measured,
}
