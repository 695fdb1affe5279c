//! Rules about interrupts and the APIC.

use super::{if_much, ratio};
use crate::advice::{Evidence, Finding, Rule, Sum};

/// Rules about interrupts.
pub static RULES: &[Rule] = &[
    Rule {
        name: "apic-virtualization-off",
        source: "Intel SDM vol. 3, \"APIC Virtualization and Virtual Interrupts\"; AMD APM vol. 2, 15.29 (AVIC); \
                 Linux Documentation/virt/kvm/x86/running-nested-guests.rst (enable_apicv); QEMU \
                 docs/system/i386/hyperv.rst, hv-avic",
        replaces: &["eoi-storm", "icr-storm"],
        check: virtualization_off,
    },
    Rule {
        name: "icr-storm",
        source: "Intel SDM vol. 3, \"Interrupt Command Register (ICR)\"; AMD APM vol. 2, 15.29 (AVIC); Linux \
                 Documentation/virt/kvm/x86/cpuid.rst, KVM_FEATURE_PV_SEND_IPI; QEMU docs/system/i386/kvm-pv.rst; W. \
                 Li, Linux commit aaffcfd1 (\"Implement PV IPIs in linux guest\"); Linux commit d588bb9b (\"enable IPI \
                 virtualization\")",
        replaces: &[],
        check: icr,
    },
    Rule {
        name: "eoi-storm",
        source: "Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_EOI_EN; Intel SDM vol. 3, \"Signaling Interrupt \
                 Servicing Completion\"; QEMU docs/system/i386/kvm-pv.rst, kvm-pv-eoi",
        replaces: &[],
        check: eoi,
    },
];

/// Exits that the processor would spare by virtualizing the APIC.
fn apic(evidence: &Evidence<'_>) -> Sum {
    evidence.msrs(&[0x802..=0x83f, 0x4000_0070..=0x4000_0072])
        + evidence.reasons(&[
            "APIC_ACCESS",
            "INTERRUPT_WINDOW",
            "VINTR",
            "WRITE_CR8",
            "TPR_BELOW_THRESHOLD",
            "CR8_WRITE_TRAP",
        ])
}

fn virtualization_off(evidence: &Evidence<'_>) -> Option<Finding> {
    let (module, parameter, feature, fact) = if evidence.is_vmx() {
        ("kvm_intel", "enable_apicv", "APICv", "apicv")
    } else {
        ("kvm_amd", "avic", "AVIC", "avic")
    };
    // Known to be off, and the CPU is known to have it.
    if evidence.host.switch(module, parameter) != Some(false) || evidence.host.fact(fact) != Some("yes") {
        return None;
    }
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are for the APIC, and {feature}, which spares most of them, is off though the CPU has it."
        )
    };
    let also = if evidence.is_vmx() {
        "It needs split or in-kernel interrupt handling in the VMM (QEMU's default)."
    } else {
        "It needs a guest with x2APIC off on CPUs before Zen 4 (`-cpu host,-x2apic`), and no `hv-synic`, or `hv-avic` beside it."
    };
    if_much(
        evidence,
        apic(evidence),
        0.1,
        seen,
        format!("Load the module with `{module} {parameter}=1`. {also}"),
    )
}

fn icr(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.msrs(&[0x830..=0x830, 0x83f..=0x83f, 0x4000_0071..=0x4000_0071]);
    let seen = |exits: &str, share: &str| {
        format!("{exits} ({share}) are interrupts that vCPUs send each other (writes of the ICR).")
    };
    let helps = "Keep threads that wake each other on one vCPU, or give the guest fewer vCPUs; `-cpu host,+kvm-pv-ipi` and \
                 `+kvm-pv-tlb-flush` bundle them. CPUs with IPI virtualization (`kvm_intel.enable_ipiv=1`) or AVIC need no exit.";
    if_much(evidence, about, 0.2, seen, helps)
}

fn eoi(evidence: &Evidence<'_>) -> Option<Finding> {
    let about =
        evidence.msrs(&[0x80b..=0x80b, 0x4000_0070..=0x4000_0070]) + evidence.reasons(&["EOI_INDUCED"]);
    let interrupts = evidence.reasons(&["EXTERNAL_INTERRUPT", "INTR"]).exits;
    let cause = if ratio(interrupts, about.exits) >= 0.5 {
        " As many interrupts of the host come meanwhile: a device of the host may be the source."
    } else {
        ""
    };
    let seen = |exits: &str, share: &str| {
        format!("{exits} ({share}) end interrupts (EOI): the guest gets very many.{cause}")
    };
    let helps = "Let devices bundle interrupts (`ethtool -C` in the guest, `event_idx` of virtio), give the guest `kvm-pv-eoi=on` (for \
                 Windows `hv-vapic`), and load KVM with APICv or AVIC where the CPU has it.";
    if_much(evidence, about, 0.2, seen, helps)
}
