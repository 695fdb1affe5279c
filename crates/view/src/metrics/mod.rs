//! Answer of `exitscope serve` to a scrape, in the text formats of Prometheus and OpenMetrics.
//!
//! A pure function of all that was counted since the start. Metrics of exits are those figures of the registry that have a
//! [`Metric`](exitscope_model::figure::Metric); where vCPUs spent their time and what was lost come from the registries of
//! these.

mod family;
mod host;
mod vms;

use crate::text;
use exitscope_model::{Counters, ExitCode, Interval, Level, VmId};
use family::{Families, Labels};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Text format of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exposition {
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// Both.
    pub const ALL: [Exposition; 2] = [Exposition::Prometheus, Exposition::OpenMetrics];

    /// Media type that HTTP has for it.
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Exits whose host times are told apart in histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Histograms {
    /// None.
    None,
    /// All exits of the host for a reason.
    #[default]
    Host,
    /// Those of each VM for a reason, too.
    Vm,
}

/// Choice of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The format.
    pub format: Exposition,
    /// Tell the vCPUs of a VM apart.
    pub per_vcpu: bool,
    /// Histograms.
    pub histograms: Histograms,
    /// Histograms with a bucket for every third power of two.
    pub coarse: bool,
    /// Number of details of each VM that are shown: those with most exits.
    pub details: usize,
    /// Show the times of the threads that work for VMs beside their vCPUs.
    pub workers: bool,
    /// Maximum number of series of VMs. What has no room is left out whole VM by VM, the latest first.
    pub max_series: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            format: Exposition::OpenMetrics,
            per_vcpu: false,
            histograms: Histograms::Host,
            coarse: false,
            details: 0,
            workers: false,
            max_series: 100_000,
        }
    }
}

/// Labels by which the series of a VM are known as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmLabels {
    /// Name.
    pub vm: String,
    /// The process that runs it.
    pub pid: u32,
    /// Number of the VM, where another of the same name and process was there before.
    pub number: Option<u64>,
}

/// Returns a VM's name as it is in labels: harmless, and not too long.
pub fn shown_name(name: &str) -> String {
    text::clean(name, family::LONGEST)
}

/// Counters of VMs that are no longer shown, by level and reason.
pub type Departed = BTreeMap<(Level, ExitCode), Counters>;

/// Cost of exitscope itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Its processes: name, CPU time (ns), resident memory (bytes).
    pub processes: Vec<(&'static str, u64, u64)>,
    /// Readings of the counters so far.
    pub readings: u64,
    /// Time that they took (ns).
    pub reading_ns: u64,
}

/// All that a scrape is told.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Version of exitscope.
    pub version: &'a str,
    /// The kernel's release and version.
    pub kernel: &'a str,
    /// The CPU's model.
    pub cpu: &'a str,
    /// Begin of this process.
    pub start: SystemTime,
    /// Everything since the start, of the VMs that are shown; `None` while KVM is waited for.
    pub total: Option<&'a Interval>,
    /// Labels of these VMs.
    pub vms: &'a BTreeMap<VmId, VmLabels>,
    /// Counters of VMs that are no longer shown.
    pub departed: &'a Departed,
    /// Own cost.
    pub own: &'a Own,
}

/// Returns the exposition.
pub fn render(counted: &Counted, options: &Options) -> Vec<u8> {
    let mut families = Families::default();
    let mut cut = vms::Cut::default();
    if let Some(total) = counted.total {
        cut = vms::add(&mut families, total, counted.vms, options);
        host::add_counted(&mut families, total, counted.departed, options);
    }
    host::add_own(&mut families, counted, cut);
    families.render(options.format)
}

/// Labels of no series.
const NONE: &Labels = &Labels::new();

#[cfg(test)]
pub mod tests;
