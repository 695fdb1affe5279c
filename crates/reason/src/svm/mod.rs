//! AMD SVM: exit codes (APM vol. 2, appendix C).

mod events;
mod exceptions;
mod guest;
mod registers;
mod system;
mod traps;

use super::Reason;

/// The manual alone defines the code; the kernel's header has no name for it.
const APM: &str = "AMD APM vol. 2, appendix C";
/// The manual defines the code and the kernel's header names it.
const APM_UAPI: &str = "AMD APM vol. 2, appendix C; Linux arch/x86/include/uapi/asm/svm.h";
/// The kernel alone names it, for AMD's interface between encrypted guests and hypervisors.
const GHCB_UAPI: &str =
    "AMD SEV-ES Guest-Hypervisor Communication Block specification; Linux arch/x86/include/uapi/asm/svm.h";
/// AMD's interface defines it; the kernel's header has no name for it.
const GHCB: &str = "AMD SEV-ES Guest-Hypervisor Communication Block specification";

/// The tables, in the order of the codes; the negative codes come last.
pub(super) const TABLES: &[&[Reason]] = &[
    registers::READ_CR,
    registers::WRITE_CR,
    registers::READ_DR,
    registers::WRITE_DR,
    exceptions::TABLE,
    events::TABLE,
    system::TABLE,
    traps::TABLE,
    guest::TABLE,
];

/// The code behind the low 32 bits of EXITCODE, which is all that tracepoints of older kernels
/// carry: the topmost 256 values are the manual's negative codes (`VMEXIT_INVALID` is -1), all
/// others stay positive (`VMGEXIT_MMIO_READ` is 0x80000001).
pub fn code_from_low_half(low: u32) -> i64 {
    let code = i64::from(low);
    if low >= 0xffff_ff00 { code - (1 << 32) } else { code }
}
