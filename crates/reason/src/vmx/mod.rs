//! Intel VMX: basic exit reasons (SDM vol. 3, appendix C).

mod access;
mod control;
mod newer;

use super::Reason;

/// The manual alone defines the code; the kernel's header has no name for it.
const SDM: &str = "Intel SDM vol. 3, appendix C";
/// The manual defines the code and the kernel's header names it.
const SDM_UAPI: &str = "Intel SDM vol. 3, appendix C; Linux arch/x86/include/uapi/asm/vmx.h";

/// The tables, in the order of the codes.
pub(super) const TABLES: &[&[Reason]] = &[control::TABLE, access::TABLE, newer::TABLE];
