//! What can go wrong between the kernel and a sample.

/// Why nothing can be counted. The text names the cause, what was found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM is not there, or nothing that drives it.
    #[error(
        "KVM is not loaded: there is no /sys/module/kvm; load it with: modprobe kvm_intel, or: modprobe kvm_amd"
    )]
    NoKvm,
    /// The kernel does not let this process load BPF programs.
    #[error("this kernel does not let us load BPF programs ({found}); {advice}")]
    NotPermitted {
        /// What was refused, and how.
        found: String,
        /// What to do.
        advice: String,
    },
    /// A source that was asked for does not work here.
    #[error("the source {source_name} does not work on this host: {cause}")]
    Source {
        /// Its name on the command line.
        source_name: &'static str,
        /// Why not.
        cause: String,
    },
    /// A map, a file or a call of the kernel failed.
    #[error("{what}: {cause}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        cause: String,
    },
}
