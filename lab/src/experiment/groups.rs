//! What the two processors call the same thing.

/// An event, and the types that are it on SVM and on VMX.
pub(super) struct Group {
    /// What happens.
    pub(super) what: &'static str,
    pub(super) svm: &'static [&'static str],
    pub(super) vmx: &'static [&'static str],
}

/// As far as both or one of them exits often for it. Names as `exitscope reasons` has them.
pub(super) const GROUPS: &[Group] = &[
    Group { what: "port I/O", svm: &["IOIO"], vmx: &["IO_INSTRUCTION"] },
    Group {
        what: "memory the guest has not, devices' registers",
        svm: &["NPF"],
        vmx: &["EPT_VIOLATION", "EPT_MISCONFIG"],
    },
    Group { what: "MSRs", svm: &["MSR"], vmx: &["MSR_READ", "MSR_WRITE"] },
    Group { what: "CPUID", svm: &["CPUID"], vmx: &["CPUID"] },
    Group {
        what: "control registers",
        svm: &[
            "READ_CR0",
            "READ_CR3",
            "READ_CR4",
            "WRITE_CR0",
            "WRITE_CR3",
            "WRITE_CR4",
            "WRITE_CR8",
            "CR0_SEL_WRITE",
        ],
        vmx: &["CR_ACCESS"],
    },
    Group { what: "the guest can take an interrupt now", svm: &["VINTR"], vmx: &["INTERRUPT_WINDOW"] },
    Group {
        what: "the host's own interrupts",
        svm: &["INTR", "NMI"],
        vmx: &["EXTERNAL_INTERRUPT", "EXCEPTION_NMI"],
    },
    Group { what: "the guest's timer, counted down by the processor", svm: &[], vmx: &["PREEMPTION_TIMER"] },
    Group { what: "HLT", svm: &["HLT"], vmx: &["HLT"] },
];

impl Group {
    /// Its types on this processor.
    pub(super) fn types(&self, isa: &str) -> &'static [&'static str] {
        if isa == "vmx" { self.vmx } else { self.svm }
    }
}
