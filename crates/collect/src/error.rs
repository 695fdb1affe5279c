//! Errors between the kernel and a sample.

use super::host::{Facts, capability};

/// Cause for which nothing can be counted. The text names it, what was found, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// KVM is not there, or nothing that drives it.
    #[error(
        "KVM is not loaded: there is no /sys/module/kvm; load it with: modprobe kvm_intel, or: modprobe kvm_amd"
    )]
    NoKvm,
    /// Certain processes are to be watched, and their numbers here are not those that the kernel has for them.
    #[error(
        "processes cannot be chosen here: this is a PID namespace (a container) of its own, whose process numbers are \
         not the host's; run this on the host, or with its PID namespace, e.g. docker run --pid=host"
    )]
    PidNamespace,
    /// The kernel does not let this process load BPF programs.
    #[error("this kernel does not let us load BPF programs ({found}); {advice}")]
    NotPermitted {
        /// Permission that is lacking, and the kernel's answer.
        found: String,
        /// Remedy.
        advice: String,
    },
    /// A source that was asked for does not work here.
    #[error("the source {source_name} does not work on this host: {cause}")]
    Source {
        /// Its name on the command line.
        source_name: &'static str,
        /// Cause of the failure.
        cause: String,
    },
    /// One program for each exit was asked for, beside something that does not go with it.
    #[error("one BPF program for each exit (--probes one) {0}; leave out one of the two")]
    NotOne(String),
    /// A map, a file or a call of the kernel failed.
    #[error("{what}: {cause}")]
    Kernel {
        /// Action that failed.
        what: String,
        /// The kernel's answer.
        cause: String,
    },
}

/// Capabilities that a process needs to load BPF programs.
const NEEDED: [(u32, &str); 3] = [
    (capability::BPF, "CAP_BPF"),
    (capability::PERFMON, "CAP_PERFMON"),
    // To look through the types of modules (BPF_BTF_GET_FD_BY_ID, kernel/bpf/syscall.c).
    (capability::SYS_ADMIN, "CAP_SYS_ADMIN"),
];

impl Error {
    /// This error, or the lack of permission that is behind it.
    pub(super) fn or_not_permitted(self, facts: &Facts) -> Error {
        if matches!(self, Error::NoKvm | Error::PidNamespace | Error::NotOne(_)) {
            return self;
        }
        let lacking: Vec<&str> =
            NEEDED.iter().filter(|(capability, _)| !facts.can(*capability)).map(|(_, name)| *name).collect();
        if !lacking.is_empty() {
            let refused = facts.bpf.as_ref().err().map(|error| format!(": {error}")).unwrap_or_default();
            return Error::NotPermitted {
                found: format!("this process lacks {}{refused}", lacking.join(" and ")),
                advice: "run this as root, e.g. with sudo".to_owned(),
            };
        }
        if facts.lockdown.as_deref() == Some("confidentiality") {
            return Error::NotPermitted {
                found: format!("lockdown=confidentiality forbids them to read the kernel's memory: {self}"),
                advice: "start the kernel with lockdown=integrity or without lockdown".to_owned(),
            };
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> Error {
        Error::Kernel { what: "loading".into(), cause: "Operation not permitted".into() }
    }

    #[test]
    fn what_lacks_is_told() {
        let all = (1 << capability::BPF) | (1 << capability::PERFMON) | (1 << capability::SYS_ADMIN);
        let facts = Facts { capabilities: all, lockdown: None, bpf: Ok(()), ..Facts::probe() };
        assert_eq!(first().or_not_permitted(&facts).to_string(), first().to_string());

        let admin = Facts { capabilities: 1 << capability::SYS_ADMIN, ..facts.clone() };
        assert_eq!(first().or_not_permitted(&admin).to_string(), first().to_string());

        let user = Facts { capabilities: 0, bpf: Err("making a map: no".into()), ..facts.clone() };
        assert_eq!(
            first().or_not_permitted(&user).to_string(),
            "this kernel does not let us load BPF programs (this process lacks CAP_BPF and CAP_PERFMON and \
             CAP_SYS_ADMIN: \
             making a map: no); run this as root, e.g. with sudo"
        );
        assert!(matches!(Error::NoKvm.or_not_permitted(&user), Error::NoKvm));

        let locked = Facts { lockdown: Some("confidentiality".into()), ..facts };
        let text = first().or_not_permitted(&locked).to_string();
        assert!(text.contains("lockdown=confidentiality") && text.contains("loading"), "{text}");
    }
}
