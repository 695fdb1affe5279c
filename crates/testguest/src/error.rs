//! Errors of a guest.

use std::io;
use std::path::PathBuf;

/// Cause for which the guest could not run, or did something else than planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/dev/kvm` cannot be opened.
    #[error(
        "cannot open /dev/kvm: {0}; it needs the module kvm_intel or kvm_amd (modprobe kvm_intel, or kvm_amd) \
         and read and write permission (root, or the group kvm)"
    )]
    Open(#[source] io::Error),
    /// KVM refused something.
    #[error("KVM refused to {what}: {source}")]
    Kvm {
        /// The request.
        what: &'static str,
        /// KVM's answer.
        source: io::Error,
    },
    /// No memory for the guest, or no thread for a vCPU.
    #[error("cannot {what}: {source}")]
    System {
        /// The request.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A number of vCPUs that the guest is not made for.
    #[error("a guest of {asked} vCPUs was asked for; it can have 1 to {most}")]
    Vcpus {
        /// Asked for.
        asked: usize,
        /// The most there can be.
        most: usize,
    },
    /// A count that does not fit the guest's 32-bit loop counter.
    #[error("{asked} of {kind} were asked for; the guest counts to {}", u32::MAX)]
    Count {
        /// The kind's name.
        kind: &'static str,
        /// The number asked for.
        asked: u64,
    },
    /// KVM runs without EPT or NPT, where exits have other codes.
    #[error(
        "{} says {found:?}: KVM runs without nested paging, where memory accesses exit with other codes; \
         load the module with {parameter}=1", file.display()
    )]
    NoNestedPaging {
        /// The parameter's file.
        file: PathBuf,
        /// Its name.
        parameter: &'static str,
        /// Its value.
        found: String,
    },
    /// The guest is to be a hypervisor, and cannot be one.
    #[error("this guest runs a guest of its own with AMD's SVM, which KVM does not offer it: {found}")]
    NoNestedSvm {
        /// The host's state, and the remedy.
        found: String,
    },
    /// The guest did something that its program does not do.
    #[error("vCPU {vcpu} of the guest stopped at an unexpected {what}; please report this with `uname -a`")]
    Unexpected {
        /// Number of the vCPU.
        vcpu: usize,
        /// The exit.
        what: String,
    },
    /// An exception in the guest that the program does not make.
    #[error(
        "vCPU {vcpu} of the guest met exception {vector} at {rip:#x}: this KVM does not let the guest do \
         what it should; please report this with `uname -a`"
    )]
    Fault {
        /// Number of the vCPU.
        vcpu: usize,
        /// The exception's vector.
        vector: u64,
        /// Guest address of the instruction.
        rip: u64,
    },
    /// The guest finished, and what it and KVM saw of its work is not the work it was given.
    #[error(
        "vCPU {vcpu} of the guest should have seen {what} = {planned}, and it was {seen}; KVM lost or repeated work"
    )]
    Disagrees {
        /// Number of the vCPU.
        vcpu: usize,
        /// Name of the count.
        what: &'static str,
        /// Its planned value.
        planned: u64,
        /// Its value.
        seen: u64,
    },
    /// The guest did not finish.
    #[error("the guest did not finish within {seconds} s and was stopped")]
    Stuck {
        /// Time limit (s).
        seconds: u64,
    },
    /// A thread of the guest panicked.
    #[error("a thread of the guest ended without a result; this is a bug, please report it")]
    Thread,
}

impl Error {
    /// Returns true if the error came up while the guest ran, so that another guest may succeed.
    pub(super) fn is_of_the_guest(&self) -> bool {
        matches!(
            self,
            Error::Unexpected { .. }
                | Error::Fault { .. }
                | Error::Stuck { .. }
                | Error::Kvm { what: RUN, .. }
        )
    }
}

/// Name of the request to KVM while the guest runs.
pub(super) const RUN: &str = "run a vCPU";

/// Wraps KVM's answer to `what`.
pub(super) fn kvm(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |error| Error::Kvm { what, source: io::Error::from_raw_os_error(error.errno()) }
}
