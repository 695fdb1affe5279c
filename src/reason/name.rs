//! An exit code's name, whole: the table's name where there is one, the number where there is none.

use std::borrow::Cow;

use crate::model::{ExitCode, Isa};

/// VMX: the entry to the guest failed (SDM vol. 3, section 25.9.1, "Exit Reason").
const FAILED_ENTRY: i64 = 1 << 31;

/// VMX: what else the exit reason field may say beside its low 16 bits (SDM vol. 3, section
/// 25.9.1; `union vmx_exit_reason` in `arch/x86/kvm/vmx/vmcs.h`).
const MODIFIERS: [(i64, &str); 5] = [
    (1 << 25, "+SHADOW_STACK_BUSY"),
    (1 << 26, "+BUS_LOCK"),
    (1 << 27, "+ENCLAVE"),
    (1 << 28, "+MTF_PENDING"),
    (1 << 29, "+FROM_ROOT"),
];

/// The name of `code`: the kernel's UAPI name without its prefix, upper case (`EPT_VIOLATION`,
/// `NPF`, `EXCP_UD`); KVM's own statistics keep their spelling (`io_exits`).
///
/// A code that the tables do not know is its number, `0x26` or `-5`. VMX's modifier bits stay
/// visible: `FAILED_ENTRY:INVALID_STATE`, `EPT_VIOLATION+BUS_LOCK`. Distinct codes have distinct
/// names.
pub fn name(code: ExitCode) -> Cow<'static, str> {
    match code.isa {
        Isa::Vmx => vmx(code.code),
        Isa::Svm => table(super::svm::name(code.code), code.code),
        Isa::KvmStat => table(super::kvm::name(code.code), code.code),
    }
}

fn table(known: Option<&'static str>, code: i64) -> Cow<'static, str> {
    known.map_or_else(|| number(code).into(), Cow::Borrowed)
}

fn vmx(code: i64) -> Cow<'static, str> {
    let (basic, modifiers) = split(code);
    let Some(modifiers) = modifiers else { return number(code).into() };
    let basic = table(super::vmx::name(basic), basic);
    if modifiers == 0 {
        return basic;
    }
    let mut whole = String::new();
    if modifiers & FAILED_ENTRY != 0 {
        whole.push_str("FAILED_ENTRY:");
    }
    whole.push_str(&basic);
    for (bit, suffix) in MODIFIERS {
        if modifiers & bit != 0 {
            whole.push_str(suffix);
        }
    }
    whole.into()
}

/// A VMX exit reason field's basic reason and its modifier bits; no modifiers if bits are set
/// that no manual defines, or the number is no 32-bit field at all.
fn split(code: i64) -> (i64, Option<i64>) {
    let known = MODIFIERS.iter().fold(FAILED_ENTRY, |bits, (bit, _)| bits | bit);
    let (basic, rest) = (code & 0xffff, code & !0xffff);
    (basic, (rest & !known == 0).then_some(rest))
}

/// The number as names show it: `0x26`, `-5`.
fn number(code: i64) -> String {
    if code < 0 { code.to_string() } else { format!("{code:#x}") }
}
