//! Rules about guests that run guests.

use super::if_much;
use crate::advice::{Evidence, Finding, Rule};

/// Rules about nested guests.
pub static RULES: &[Rule] = &[Rule {
    name: "vmcs-accesses",
    source: "Intel SDM vol. 3, 25.4.2 (VMCS shadowing); QEMU docs/system/i386/hyperv.rst, hv-evmcs",
    replaces: &[],
    check: vmcs,
}];

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
