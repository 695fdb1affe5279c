//! Facts that decide which sources are tried.

use super::{Backend, backend, in_first_pid_namespace};

/// Switch of a KVM that counts its own exits (docs/kernel.md); Debian's KVM has none.
pub const COUNTERS_SWITCH: &str = "/sys/module/kvm/parameters/exitscope";

/// Facts that are known about a host before any source is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// Modules that drive KVM.
    pub backend: Backend,
    /// Process numbers here are the host's, so that processes can be chosen. They are not in a PID namespace (a container).
    pub host_pids: bool,
    /// KVM counts its own exits; `None` if it cannot.
    pub counters: Option<bool>,
}

impl SourceFacts {
    /// Looks at this host.
    pub fn probe() -> SourceFacts {
        SourceFacts { backend: backend(), host_pids: in_first_pid_namespace(), counters: counters() }
    }
}

/// State of [`COUNTERS_SWITCH`]; `None` if there is none.
pub fn counters() -> Option<bool> {
    Some(std::fs::read_to_string(COUNTERS_SWITCH).ok()?.trim() == "Y")
}
