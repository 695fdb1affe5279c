//! Rules about guests that run guests.

use super::if_much;
use crate::advice::{Evidence, Finding, Rule, Sum};

/// Rules about nested guests.
pub static RULES: &[Rule] = &[
    Rule {
        name: "vmcs-accesses",
        source: "Intel SDM vol. 3, \"VMCS Types: Ordinary and Shadow\"; Linux \
                 Documentation/virt/kvm/x86/running-nested-guests.rst; QEMU docs/system/i386/hyperv.rst, hv-evmcs; A. Gordon, \
                 shadow-vmcs, https://mail.spinics.net/lists/kvm/msg87634.html",
        replaces: &[],
        check: vmcs,
    },
    Rule {
        name: "nested-off",
        source: "Linux Documentation/virt/kvm/x86/running-nested-guests.rst",
        replaces: &[],
        check: nested_off,
    },
];

/// A guest hypervisor on Intel that reads and writes its VMCS by exits.
fn vmcs(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.reasons(&["VMREAD", "VMWRITE"]);
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are VMREAD and VMWRITE: the guest is a hypervisor, and each access to its VMCS is an exit."
        )
    };
    let windows = evidence.is_windows()
        || evidence.command().values("cpu").any(|cpu| cpu.contains("hv-") || cpu.contains("hv_"));
    let helps = if windows && !evidence.command().has_part("cpu", "hv-evmcs") {
        "Hyper-V in the guest can keep its VMCS in memory: `-cpu host,hv-evmcs` (with `hv-vapic`)."
    } else {
        match evidence.host.switch("kvm_intel", "enable_shadow_vmcs") {
            Some(false) => {
                "VMCS shadowing is off: load the module with `kvm_intel enable_shadow_vmcs=1`, where the CPU has it. If this \
                 host is a VM itself, its own hypervisor has to offer it."
            }
            _ => {
                "Use a CPU and a host that have VMCS shadowing (`kvm_intel.enable_shadow_vmcs`), and as few exits of the nested \
                 guest as possible: virtio, huge pages, and few timers in it."
            }
        }
    };
    if_much(evidence, about, 0.25, seen, helps)
}

/// A VM that is to have guests of its own, on a host that lets none have them.
fn nested_off(evidence: &Evidence<'_>) -> Option<Finding> {
    let (module, feature, add) =
        if evidence.is_vmx() { ("kvm_intel", "vmx", "+vmx") } else { ("kvm_amd", "svm", "+svm") };
    let command = evidence.command();
    let asks = command.has_part("cpu", feature) || command.has_part("cpu", add);
    if !asks || evidence.host.switch(module, "nested") != Some(false) {
        return None;
    }
    Some(Finding {
        seen: format!(
            "The command line asks for `{feature}`, and `{module}.nested` is off: the guest gets none, and hypervisors in it emulate or do \
             not start."
        ),
        helps: format!(
            "Load the module with `{module} nested=1` while no VM runs (`modprobe -r {module} && modprobe {module} nested=1`), or take \
             `{feature}` off `-cpu`."
        ),
        // These exits would come on top.
        about: Sum::default(),
    })
}
