//! Rules about guest memory.

use super::{MEMORY, if_much};
use crate::advice::{Evidence, Finding, Rule, Sum};

/// Rules about memory.
pub static RULES: &[Rule] = &[
    Rule {
        name: "shadow-paging",
        source: "Intel SDM vol. 3, 29.3 (EPT); AMD APM vol. 2, 15.25 (nested paging); Linux Documentation/virt/kvm/x86/mmu.rst",
        replaces: &[],
        check: shadow,
    },
    Rule {
        name: "dirty-logging",
        source: "Linux Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG; Intel SDM vol. 3, 29.3.6 (PML)",
        replaces: &["page-faults", "split-huge-pages"],
        check: dirty_logging,
    },
    Rule {
        name: "split-huge-pages",
        source: "Linux Documentation/admin-guide/hw-vuln/multihit.rst",
        replaces: &["page-faults"],
        check: nx_huge_pages,
    },
    Rule {
        name: "page-faults",
        source: "Linux Documentation/virt/kvm/x86/mmu.rst; Documentation/admin-guide/mm/transhuge.rst",
        replaces: &[],
        check: page_faults,
    },
];

/// Faults that KVM resolved itself: not those of a device's registers, which go out to the VMM.
fn faults(evidence: &Evidence<'_>) -> Sum {
    let all = evidence.reasons(&["EPT_VIOLATION", "NPF"]);
    all.part(all.exits.saturating_sub(all.user_exits))
}

fn shadow(evidence: &Evidence<'_>) -> Option<Finding> {
    let about = evidence.reasons(&[
        "CR_ACCESS",
        "INVLPG",
        "EXCEPTION_NMI",
        "EXCP_PF",
        "WRITE_CR3",
        "READ_CR3",
        "WRITE_CR0",
        "WRITE_CR4",
        "INVLPGA",
    ]);
    let nested = evidence.reasons(MEMORY).exits;
    let (module, parameter) = if evidence.is_vmx() { ("kvm_intel", "ept") } else { ("kvm_amd", "npt") };
    let off = match evidence.host.switch(module, parameter) {
        Some(true) => return None,
        Some(false) => format!("`{module}.{parameter}` is off"),
        // What no host with nested paging does: page faults and address spaces lead, and not one nested fault.
        None if nested == 0 => "nothing shows nested paging".to_owned(),
        None => return None,
    };
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are page faults and changes of address space that KVM follows in shadow page tables: {off}."
        )
    };
    let helps = format!(
        "Load the module with `{module} {parameter}=1`. If it says that the CPU has none, and the host is a VM itself, let \
         that VM have it (`-cpu host` on the outer host, nested virtualization on)."
    );
    if_much(evidence, about, 0.2, seen, helps)
}

fn dirty_logging(evidence: &Evidence<'_>) -> Option<Finding> {
    let (full, logged) = (evidence.reasons(&["PML_FULL"]), evidence.dirty_logged());
    let about = match (full.exits, logged.exits) {
        (0, 0) => return None,
        // Addresses were not counted.
        (_, 0) => full + faults(evidence),
        _ => full + logged,
    };
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are for pages that are written under dirty logging: a migration or a snapshot is under way."
        )
    };
    let helps = "They end with the migration. It ends sooner with more bandwidth (`migrate-set-parameters max-bandwidth`), \
                 multifd, or a guest that writes less (`auto-converge`).";
    if_much(evidence, about, 0.05, seen, helps)
}

fn nx_huge_pages(evidence: &Evidence<'_>) -> Option<Finding> {
    if !evidence.is_vmx() || evidence.host.switch("kvm", "nx_huge_pages") != Some(true) {
        return None;
    }
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are EPT violations, and `kvm.nx_huge_pages` is on: each huge page that the guest executes from is split, and joined again later."
        )
    };
    let helps = "Where the CPU is not affected by iTLB multihit (/sys/devices/system/cpu/vulnerabilities/itlb_multihit), or the \
                 guests are trusted, set `echo off >/sys/module/kvm/parameters/nx_huge_pages`; else let them be joined less often \
                 (`nx_huge_pages_recovery_ratio`).";
    if_much(evidence, faults(evidence), 0.2, seen, helps)
}

fn page_faults(evidence: &Evidence<'_>) -> Option<Finding> {
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are for memory that the host had not mapped: a first touch, or pages that were swapped, ballooned, merged or moved."
        )
    };
    let command = evidence.command();
    let balloon = command.values("device").any(|device| device.contains("virtio-balloon"));
    let more =
        if balloon { " It has a balloon: each page that the balloon gave back faults again." } else { "" };
    let helps = format!(
        "A burst after the start that ebbs away is normal; `prealloc=on` and huge pages (`hugetlb=on` of a \
         `memory-backend-memfd`, or transparent ones) save it. Where it lasts: no swapping, no KSM, memory bound to one NUMA \
         node.{more}"
    );
    if_much(evidence, faults(evidence), 0.25, seen, helps)
}
