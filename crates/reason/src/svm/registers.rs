//! Codes 0x00 to 0x3f: reads and writes of control and debug registers, one code per register.

use super::{APM, APM_UAPI};
use crate::Reason;
use crate::table::reasons;

const CR0_WHY: &str = "Booting through real and protected mode, FPU switching in old systems, and shadow \
            paging (nested paging off).";
const CR0_HELP: &str = "Keep nested paging on (`kvm_amd.npt=1`); then KVM intercepts only the writes that \
            matter. Hundreds during boot are normal, few afterwards.";
const CR3_WHY: &str = "Every context switch of the guest, but only where nested paging is off.";
const CR3_HELP: &str = "`kvm_amd.npt=1`, the default; with it these exits do not occur.";
const CR4_WHY: &str = "Booting, and guests that flip the global-page bit to flush the TLB.";
const CR4_HELP: &str = "Give the guest PCID and INVPCID (`-cpu host`), so that it need not write CR4 to \
            flush. Dozens per boot are normal.";
const CR8_WHY: &str = "Windows, which raises and lowers its task priority all the time, where virtual \
            interrupts or AVIC cannot be used.";
const CR8_HELP: &str = "`kvm_amd.avic=1` where the CPU has it, and `-cpu host,hv-vapic` for Windows.";
const CR_NONE_WHY: &str = "KVM does not intercept this register; a nested hypervisor may for its own \
            guest.";
const CR_NONE_HELP: &str = "Not expected under KVM; look at the inner hypervisor.";
const DR_WHY: &str = "Debuggers and hardware breakpoints in the guest; KVM intercepts the first access \
            after each time the vCPU was away, and then lets the guest have the registers.";
const DR_HELP: &str = "Remove breakpoints, watchpoints and `perf` breakpoint events in the guest. Few are \
            normal.";
const DR_NONE_WHY: &str = "The processor has no such debug register; the code is only set aside for it.";
const DR_NONE_HELP: &str = "Never seen.";

/// The alias is the manual's name: the register first, `CR0_READ`.
macro_rules! read {
    ($register:literal) => {
        concat!(
            "The guest read ",
            $register,
            " while the host \
            intercepts that."
        )
    };
}
macro_rules! write {
    ($register:literal) => {
        concat!(
            "The guest wrote ",
            $register,
            " while the host \
            intercepts that."
        )
    };
}

pub(super) const READ_CR: &[Reason] = reasons! { Svm, APM;
    0x00 READ_CR0 ["CR0_READ"] read!("CR0"), CR0_WHY, CR0_HELP, @ APM_UAPI;
    0x01 READ_CR1 ["CR1_READ"] read!("CR1"), CR_NONE_WHY, CR_NONE_HELP;
    0x02 READ_CR2 ["CR2_READ"] read!("CR2"), CR_NONE_WHY, CR_NONE_HELP, @ APM_UAPI;
    0x03 READ_CR3 ["CR3_READ"] read!("CR3"), CR3_WHY, CR3_HELP, @ APM_UAPI;
    0x04 READ_CR4 ["CR4_READ"] read!("CR4"), CR4_WHY, CR4_HELP, @ APM_UAPI;
    0x05 READ_CR5 ["CR5_READ"] read!("CR5"), CR_NONE_WHY, CR_NONE_HELP;
    0x06 READ_CR6 ["CR6_READ"] read!("CR6"), CR_NONE_WHY, CR_NONE_HELP;
    0x07 READ_CR7 ["CR7_READ"] read!("CR7"), CR_NONE_WHY, CR_NONE_HELP;
    0x08 READ_CR8 ["CR8_READ"] read!("CR8"), CR8_WHY, CR8_HELP, @ APM_UAPI;
    0x09 READ_CR9 ["CR9_READ"] read!("CR9"), CR_NONE_WHY, CR_NONE_HELP;
    0x0a READ_CR10 ["CR10_READ"] read!("CR10"), CR_NONE_WHY, CR_NONE_HELP;
    0x0b READ_CR11 ["CR11_READ"] read!("CR11"), CR_NONE_WHY, CR_NONE_HELP;
    0x0c READ_CR12 ["CR12_READ"] read!("CR12"), CR_NONE_WHY, CR_NONE_HELP;
    0x0d READ_CR13 ["CR13_READ"] read!("CR13"), CR_NONE_WHY, CR_NONE_HELP;
    0x0e READ_CR14 ["CR14_READ"] read!("CR14"), CR_NONE_WHY, CR_NONE_HELP;
    0x0f READ_CR15 ["CR15_READ"] read!("CR15"), CR_NONE_WHY, CR_NONE_HELP;
};

pub(super) const WRITE_CR: &[Reason] = reasons! { Svm, APM;
    0x10 WRITE_CR0 ["CR0_WRITE"] write!("CR0"), CR0_WHY, CR0_HELP, @ APM_UAPI;
    0x11 WRITE_CR1 ["CR1_WRITE"] write!("CR1"), CR_NONE_WHY, CR_NONE_HELP;
    0x12 WRITE_CR2 ["CR2_WRITE"] write!("CR2"), CR_NONE_WHY, CR_NONE_HELP, @ APM_UAPI;
    0x13 WRITE_CR3 ["CR3_WRITE"] write!("CR3"), CR3_WHY, CR3_HELP, @ APM_UAPI;
    0x14 WRITE_CR4 ["CR4_WRITE"] write!("CR4"), CR4_WHY, CR4_HELP, @ APM_UAPI;
    0x15 WRITE_CR5 ["CR5_WRITE"] write!("CR5"), CR_NONE_WHY, CR_NONE_HELP;
    0x16 WRITE_CR6 ["CR6_WRITE"] write!("CR6"), CR_NONE_WHY, CR_NONE_HELP;
    0x17 WRITE_CR7 ["CR7_WRITE"] write!("CR7"), CR_NONE_WHY, CR_NONE_HELP;
    0x18 WRITE_CR8 ["CR8_WRITE"] write!("CR8"), CR8_WHY, CR8_HELP, @ APM_UAPI;
    0x19 WRITE_CR9 ["CR9_WRITE"] write!("CR9"), CR_NONE_WHY, CR_NONE_HELP;
    0x1a WRITE_CR10 ["CR10_WRITE"] write!("CR10"), CR_NONE_WHY, CR_NONE_HELP;
    0x1b WRITE_CR11 ["CR11_WRITE"] write!("CR11"), CR_NONE_WHY, CR_NONE_HELP;
    0x1c WRITE_CR12 ["CR12_WRITE"] write!("CR12"), CR_NONE_WHY, CR_NONE_HELP;
    0x1d WRITE_CR13 ["CR13_WRITE"] write!("CR13"), CR_NONE_WHY, CR_NONE_HELP;
    0x1e WRITE_CR14 ["CR14_WRITE"] write!("CR14"), CR_NONE_WHY, CR_NONE_HELP;
    0x1f WRITE_CR15 ["CR15_WRITE"] write!("CR15"), CR_NONE_WHY, CR_NONE_HELP;
};

pub(super) const READ_DR: &[Reason] = reasons! { Svm, APM;
    0x20 READ_DR0 ["DR0_READ"] read!("DR0"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x21 READ_DR1 ["DR1_READ"] read!("DR1"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x22 READ_DR2 ["DR2_READ"] read!("DR2"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x23 READ_DR3 ["DR3_READ"] read!("DR3"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x24 READ_DR4 ["DR4_READ"] read!("DR4"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x25 READ_DR5 ["DR5_READ"] read!("DR5"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x26 READ_DR6 ["DR6_READ"] read!("DR6"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x27 READ_DR7 ["DR7_READ"] read!("DR7"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x28 READ_DR8 ["DR8_READ"] read!("DR8"), DR_NONE_WHY, DR_NONE_HELP;
    0x29 READ_DR9 ["DR9_READ"] read!("DR9"), DR_NONE_WHY, DR_NONE_HELP;
    0x2a READ_DR10 ["DR10_READ"] read!("DR10"), DR_NONE_WHY, DR_NONE_HELP;
    0x2b READ_DR11 ["DR11_READ"] read!("DR11"), DR_NONE_WHY, DR_NONE_HELP;
    0x2c READ_DR12 ["DR12_READ"] read!("DR12"), DR_NONE_WHY, DR_NONE_HELP;
    0x2d READ_DR13 ["DR13_READ"] read!("DR13"), DR_NONE_WHY, DR_NONE_HELP;
    0x2e READ_DR14 ["DR14_READ"] read!("DR14"), DR_NONE_WHY, DR_NONE_HELP;
    0x2f READ_DR15 ["DR15_READ"] read!("DR15"), DR_NONE_WHY, DR_NONE_HELP;
};

pub(super) const WRITE_DR: &[Reason] = reasons! { Svm, APM;
    0x30 WRITE_DR0 ["DR0_WRITE"] write!("DR0"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x31 WRITE_DR1 ["DR1_WRITE"] write!("DR1"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x32 WRITE_DR2 ["DR2_WRITE"] write!("DR2"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x33 WRITE_DR3 ["DR3_WRITE"] write!("DR3"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x34 WRITE_DR4 ["DR4_WRITE"] write!("DR4"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x35 WRITE_DR5 ["DR5_WRITE"] write!("DR5"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x36 WRITE_DR6 ["DR6_WRITE"] write!("DR6"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x37 WRITE_DR7 ["DR7_WRITE"] write!("DR7"), DR_WHY, DR_HELP, @ APM_UAPI;
    0x38 WRITE_DR8 ["DR8_WRITE"] write!("DR8"), DR_NONE_WHY, DR_NONE_HELP;
    0x39 WRITE_DR9 ["DR9_WRITE"] write!("DR9"), DR_NONE_WHY, DR_NONE_HELP;
    0x3a WRITE_DR10 ["DR10_WRITE"] write!("DR10"), DR_NONE_WHY, DR_NONE_HELP;
    0x3b WRITE_DR11 ["DR11_WRITE"] write!("DR11"), DR_NONE_WHY, DR_NONE_HELP;
    0x3c WRITE_DR12 ["DR12_WRITE"] write!("DR12"), DR_NONE_WHY, DR_NONE_HELP;
    0x3d WRITE_DR13 ["DR13_WRITE"] write!("DR13"), DR_NONE_WHY, DR_NONE_HELP;
    0x3e WRITE_DR14 ["DR14_WRITE"] write!("DR14"), DR_NONE_WHY, DR_NONE_HELP;
    0x3f WRITE_DR15 ["DR15_WRITE"] write!("DR15"), DR_NONE_WHY, DR_NONE_HELP;
};
