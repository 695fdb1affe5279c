//! Rules about guest memory.

use super::{MEMORY, if_much, ratio};
use crate::advice::{Evidence, Finding, Rule, Sum};
use exitscope_model::{Memory, unit};

/// Rules about memory.
pub static RULES: &[Rule] = &[
    Rule {
        name: "shadow-paging",
        source: "Intel SDM vol. 3, \"The Extended Page Table Mechanism (EPT)\"; AMD APM vol. 2, 15.25 (nested \
                 paging); Linux Documentation/virt/kvm/x86/mmu.rst; Documentation/admin-guide/kernel-parameters.txt, \
                 kvm-intel.ept and kvm-amd.npt",
        replaces: &[],
        check: shadow,
    },
    Rule {
        name: "dirty-logging",
        source: "Linux Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG; Documentation/virt/kvm/x86/mmu.rst, \
                 \"Reaction to events\"; Intel SDM vol. 3, \"Page-Modification Logging\"; QEMU QMP reference, \
                 MigrationCapability",
        replaces: &["page-faults", "split-huge-pages", "ballooning"],
        check: dirty_logging,
    },
    Rule {
        name: "ballooning",
        source: "Virtual I/O Device specification 1.2, 5.5, \"Traditional Memory Balloon Device\"; Linux \
                 Documentation/mm/free_page_reporting.rst; Firecracker docs/ballooning.md (MADV_DONTNEED)",
        replaces: &["page-faults"],
        check: ballooning,
    },
    Rule {
        name: "split-huge-pages",
        source: "Linux Documentation/admin-guide/hw-vuln/multihit.rst",
        replaces: &["page-faults"],
        check: nx_huge_pages,
    },
    Rule {
        name: "page-faults",
        source: "Linux Documentation/virt/kvm/x86/mmu.rst; Documentation/admin-guide/mm/transhuge.rst; \
                 Documentation/admin-guide/mm/ksm.rst; QEMU documentation, \"-machine\" (mem-merge), \"-overcommit\" \
                 (mem-lock)",
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
    // Where addresses are known, those from which the guest fetches: only these are split.
    let (about, what) = match evidence.knows_addresses() {
        true => (evidence.fetches(), "EPT violations of instruction fetches"),
        false => (faults(evidence), "EPT violations"),
    };
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are {what}, and `kvm.nx_huge_pages` is on: each huge page that the guest executes from is split, and joined again later."
        )
    };
    let helps = "Where the CPU is not affected by iTLB multihit (/sys/devices/system/cpu/vulnerabilities/itlb_multihit), or the \
                 guests are trusted, set `echo off >/sys/module/kvm/parameters/nx_huge_pages`; else let them be joined less often \
                 (`nx_huge_pages_recovery_ratio`).";
    if_much(evidence, about, 0.2, seen, helps)
}

/// Smallest part of the most memory that a VMM ever held, of which it says something that it has given it back.
const GIVEN_BACK: f64 = 0.05;

/// Returns the memory that a VMM has given back, if that is much.
fn given_back(evidence: &Evidence<'_>) -> Option<Memory> {
    evidence.memory().filter(|memory| ratio(memory.given_back(), memory.peak) >= GIVEN_BACK)
}

/// Returns true if most of the faults are on pages that the host had mapped before.
fn are_again(evidence: &Evidence<'_>) -> bool {
    ratio(evidence.faults_again().exits, faults(evidence).exits) >= 0.5
}

/// A balloon: pages that the guest gave back to the host, and that fault when it uses them again. First touches are told apart by
/// what the VMM held before, and by how often a region faults.
fn ballooning(evidence: &Evidence<'_>) -> Option<Finding> {
    let command = evidence.command();
    let has_balloon = command.values("device").any(|device| device.contains("virtio-balloon"))
        || command.values("balloon").any(|value| value != "none");
    let why = match given_back(evidence) {
        _ if !has_balloon => return None,
        Some(Memory { held, peak, .. }) => {
            format!(
                "its VMM held {} once and holds {} now, and the rest is not swapped out",
                unit::bytes(peak),
                unit::bytes(held)
            )
        }
        None if are_again(evidence) => {
            "the same pages fault more often than a first touch explains".to_owned()
        }
        None => return None,
    };
    let seen = |exits: &str, share: &str| {
        format!(
            "{exits} ({share}) are for memory that the VM's balloon has given back to the host, and that the guest uses again: {why}."
        )
    };
    let helps = if command.has_part("device", "free-page-reporting=on") {
        "Take `free-page-reporting=on` off the balloon: with it the guest gives every larger free block back after two seconds, and \
         each faults when it is used again. Or give the guest less memory, and back it by huge pages, of which one fault maps 2 MiB."
    } else {
        "Balloon less, and in larger steps: leave the guest what its load needs at its height (`virsh setmem`, `balloon` in QEMU's \
         monitor), and let nobody adjust it every few seconds. Huge pages need a fault for 2 MiB."
    };
    if_much(evidence, faults(evidence), 0.2, seen, helps)
}

/// Faults that nothing else explains: first touches, or pages that the host took away.
fn page_faults(evidence: &Evidence<'_>) -> Option<Finding> {
    let swapped = evidence.memory().map_or(0, |memory| memory.swapped);
    let is_again = are_again(evidence) || swapped > 0;
    let what = match is_again {
        false => "that the host had not mapped: a first touch, or pages that it took away".to_owned(),
        true if swapped > 0 => {
            format!("that the host had taken away; {} of the VMM are swapped out", unit::bytes(swapped))
        }
        true => "that the host had mapped before: swapped, merged or moved pages".to_owned(),
    };
    let seen = |exits: &str, share: &str| format!("{exits} ({share}) are for memory {what}.");
    let helps = if is_again {
        "Give the host memory enough that it does not swap; switch KSM off for this VM (QEMU's `-machine mem-merge=off`); bind vCPUs and \
         memory to one NUMA node (`numactl`, libvirt's `numatune`), or switch `kernel.numa_balancing` off; lock the memory \
         (QEMU's `-overcommit mem-lock=on`)."
    } else {
        "A burst after the start that ebbs away is normal; `prealloc=on` and huge pages (`hugetlb=on` of a \
         `memory-backend-memfd`, or transparent ones) save it. Where it lasts: no swapping, no KSM, memory bound to one NUMA \
         node."
    };
    if_much(evidence, faults(evidence), 0.25, seen, helps)
}
