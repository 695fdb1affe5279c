//! Entry points of the fuzz targets to parsers that nobody else outside this crate calls.

use super::identity::{self, Identity};
use super::kernel;
use exitscope_model::VcpuSample;

/// Returns the identity of a process with these properties, each as `/proc/PID` has it: `cmdline`, `comm`, `exe`, `cwd` and
/// `cgroup`.
pub fn identify(args: &[u8], comm: &str, exe: Option<&[u8]>, cwd: Option<&[u8]>, cgroup: &str) -> Identity {
    identity::from_evidence(args, comm, exe, cwd, cgroup)
}

/// Returns the start and the parent that a `/proc/PID/stat` tells.
pub fn stat(stat: &[u8]) -> (Option<u64>, Option<u32>) {
    (identity::start_ns(stat), identity::parent(stat))
}

/// Returns the vCPUs of the last of these texts of KVM's own counters, counted since the first.
///
/// # Errors
/// If one of the texts is not understood.
pub fn samples<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<VcpuSample>, String> {
    kernel::samples(texts)
}
