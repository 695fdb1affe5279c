//! Codes 0x8f to 0xa6: traps after a register was written, for guests whose state is encrypted,
//! and what newer processors added.

use super::{APM, APM_UAPI};
use crate::Reason;
use crate::table::reasons;

const TRAP_WHY: &str = "Booting an encrypted guest: KVM cannot see its registers, so the CPU reports each \
            change.";
const TRAP_HELP: &str = "Normal for SEV-ES and SEV-SNP guests, mostly during boot.";
const NO_TRAP_WHY: &str = "KVM does not use this trap.";
const NO_TRAP_HELP: &str = "Not expected under KVM.";

macro_rules! wrote {
    ($register:literal) => {
        concat!(
            "An encrypted guest has written \
            ",
            $register,
            "."
        )
    };
}

pub(super) const TABLE: &[Reason] = reasons! { Svm, APM_UAPI;
    0x8f EFER_WRITE_TRAP ["write_efer_trap"] wrote!("EFER"), TRAP_WHY, TRAP_HELP;
    0x90 CR0_WRITE_TRAP ["write_cr0_trap"] wrote!("CR0"), TRAP_WHY, TRAP_HELP;
    0x91 CR1_WRITE_TRAP ["write_cr1_trap"] wrote!("CR1"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x92 CR2_WRITE_TRAP ["write_cr2_trap"] wrote!("CR2"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x93 CR3_WRITE_TRAP ["write_cr3_trap"] wrote!("CR3"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x94 CR4_WRITE_TRAP ["write_cr4_trap"] wrote!("CR4"), TRAP_WHY, TRAP_HELP;
    0x95 CR5_WRITE_TRAP ["write_cr5_trap"] wrote!("CR5"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x96 CR6_WRITE_TRAP ["write_cr6_trap"] wrote!("CR6"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x97 CR7_WRITE_TRAP ["write_cr7_trap"] wrote!("CR7"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x98 CR8_WRITE_TRAP ["write_cr8_trap"] wrote!("CR8"), TRAP_WHY, TRAP_HELP;
    0x99 CR9_WRITE_TRAP ["write_cr9_trap"] wrote!("CR9"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x9a CR10_WRITE_TRAP ["write_cr10_trap"] wrote!("CR10"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x9b CR11_WRITE_TRAP ["write_cr11_trap"] wrote!("CR11"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x9c CR12_WRITE_TRAP ["write_cr12_trap"] wrote!("CR12"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x9d CR13_WRITE_TRAP ["write_cr13_trap"] wrote!("CR13"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x9e CR14_WRITE_TRAP ["write_cr14_trap"] wrote!("CR14"), NO_TRAP_WHY, NO_TRAP_HELP;
    0x9f CR15_WRITE_TRAP ["write_cr15_trap"] wrote!("CR15"), NO_TRAP_WHY, NO_TRAP_HELP;
    0xa0 INVLPGB []
        "The guest executed INVLPGB, which flushes TLBs of other CPUs by broadcast.",
        "A guest that uses the instruction although it was not offered.",
        "Not expected under KVM; hide `invlpgb` from the guest.", @ APM;
    0xa1 INVLPGB_ILLEGAL []
        "The guest executed INVLPGB in a form that guests may not use.",
        "A guest that uses the instruction although it was not offered.",
        "Not expected under KVM; hide `invlpgb` from the guest.", @ APM;
    0xa2 INVPCID []
        "The guest executed INVPCID while the host intercepts TLB flushes or hides the instruction.",
        "Shadow paging, or a guest that uses INVPCID although its CPUID does not offer it.",
        "`kvm_amd.npt=1` and `-cpu host`; with both it does not exit.";
    0xa3 MCOMMIT []
        "The guest executed MCOMMIT, which waits for stores to persistent memory.",
        "Software for persistent memory in a guest that was not offered the instruction.",
        "KVM does not offer it.", @ APM;
    0xa4 TLBSYNC []
        "The guest executed TLBSYNC, which waits for broadcast TLB flushes.",
        "A guest that uses INVLPGB although it was not offered.",
        "Not expected under KVM; hide `invlpgb` from the guest.", @ APM;
    0xa5 BUS_LOCK ["buslock"]
        "The guest used up its allowance of bus locks: atomic accesses across two cache lines or to \
            uncached memory.",
        "Programs with misaligned atomics, which slow every CPU of the host.",
        "Find and mend the program; limit the VM with QEMU's `-machine ...,bus-lock-ratelimit=N`.";
    0xa6 IDLE_HLT ["idle-halt"]
        "The guest halted the vCPU and no virtual interrupt or NMI was waiting.",
        "An idle guest, on CPUs with the idle-HLT intercept; HLT with something pending no longer exits \
            there.",
        "Normal: its time is sleep, not cost. As for HLT: `cpuidle_haltpoll`, `kvm.halt_poll_ns`, or \
            `-overcommit cpu-pm=on`.";
};
