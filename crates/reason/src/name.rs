//! An exit code's name, whole: the table's name where there is one, the number where there is none.

use std::borrow::Cow;

use exitscope_model::{ExitCode, Isa};

/// VMX: the entry to the guest failed (SDM vol. 3, section 25.9.1, "Exit Reason").
const FAILED_ENTRY: i64 = 1 << 31;

const FAILED_ENTRY_PREFIX: &str = "FAILED_ENTRY:";

pub(super) struct Modifier {
    pub(super) bit: i64,
    pub(super) name: &'static str,
    what: &'static str,
}

/// VMX: what else the exit reason field may say beside its low 16 bits (SDM vol. 3, section
/// "Basic VM-Exit Information"; `union vmx_exit_reason` in `arch/x86/kvm/vmx/`).
pub(super) const MODIFIERS: [Modifier; 5] = [
    Modifier {
        bit: 1 << 25,
        name: "SHADOW_STACK_BUSY",
        what: "The exit left a shadow stack marked busy too early (bit 25).",
    },
    Modifier { bit: 1 << 26, name: "BUS_LOCK", what: "The guest had just locked the bus (bit 26)." },
    Modifier { bit: 1 << 27, name: "ENCLAVE", what: "The guest was in an SGX enclave (bit 27)." },
    Modifier {
        bit: 1 << 28,
        name: "MTF_PENDING",
        what: "A monitor-trap-flag exit was pending (bit 28, only to the SMM monitor).",
    },
    Modifier {
        bit: 1 << 29,
        name: "FROM_ROOT",
        what: "The exit came from the hypervisor, not from the guest (bit 29, only to the SMM monitor).",
    },
];

/// Returns the name of `code`: the kernel's UAPI name without its prefix, upper case (`EPT_VIOLATION`,
/// `NPF`, `EXCP_UD`); KVM's own statistics keep their spelling (`io_exits`).
///
/// A code that the tables do not know is its number, `0x26` or `-5`. VMX's modifier bits stay
/// visible: `FAILED_ENTRY:INVALID_STATE`, `EPT_VIOLATION+BUS_LOCK`. Distinct codes have distinct
/// names.
///
/// ```
/// use exitscope_model::{ExitCode, Isa};
/// use exitscope_reason::name;
///
/// assert_eq!(name(ExitCode { isa: Isa::Svm, code: 0x400 }), "NPF");
/// assert_eq!(name(ExitCode { isa: Isa::Vmx, code: 0x8000_0021 }), "FAILED_ENTRY:INVALID_STATE");
/// assert_eq!(name(ExitCode { isa: Isa::Svm, code: 0x123 }), "0x123");
/// ```
pub fn name(code: ExitCode) -> Cow<'static, str> {
    match code.isa {
        Isa::Vmx => match split(code.code) {
            Some((basic, modifiers)) => vmx(basic, modifiers),
            None => number(code.code).into(),
        },
        Isa::Svm | Isa::KvmStat => plain(code),
    }
}

fn plain(code: ExitCode) -> Cow<'static, str> {
    super::get(code).map_or_else(|| number(code.code).into(), |reason| reason.name.into())
}

fn vmx(basic: i64, modifiers: i64) -> Cow<'static, str> {
    let basic = plain(ExitCode { isa: Isa::Vmx, code: basic });
    if modifiers == 0 {
        return basic;
    }
    let mut whole = String::new();
    if modifiers & FAILED_ENTRY != 0 {
        whole.push_str(FAILED_ENTRY_PREFIX);
    }
    whole.push_str(&basic);
    for modifier in MODIFIERS.iter().filter(|modifier| modifiers & modifier.bit != 0) {
        whole.push('+');
        whole.push_str(modifier.name);
    }
    whole.into()
}

/// Returns the meaning of each modifier bit that is set in a VMX exit reason, in words.
pub fn modifiers(code: ExitCode) -> impl Iterator<Item = &'static str> {
    let bits = match code.isa {
        Isa::Vmx => split(code.code).map_or(0, |(_, bits)| bits),
        Isa::Svm | Isa::KvmStat => 0,
    };
    let failed = (bits & FAILED_ENTRY != 0).then_some("The entry to the guest failed (bit 31).");
    let others = MODIFIERS.iter().filter(move |modifier| bits & modifier.bit != 0);
    failed.into_iter().chain(others.map(|modifier| modifier.what))
}

/// A VMX exit reason field's basic reason and its modifier bits; `None` if bits are set that no
/// manual defines, or the number is no 32-bit field at all.
pub(super) fn split(code: i64) -> Option<(i64, i64)> {
    let known = MODIFIERS.iter().fold(FAILED_ENTRY, |bits, modifier| bits | modifier.bit);
    let (basic, rest) = (code & 0xffff, code & !0xffff);
    (rest & !known == 0).then_some((basic, rest))
}

/// Takes the modifiers off a name as [`name`] writes it: what is left, and their bits.
pub(super) fn strip_modifiers(text: &str) -> Option<(&str, i64)> {
    let (mut rest, mut bits) = match text.strip_prefix(FAILED_ENTRY_PREFIX) {
        Some(rest) => (rest, FAILED_ENTRY),
        None => (text, 0),
    };
    while let Some((before, last)) = rest.rsplit_once('+') {
        bits |= MODIFIERS.iter().find(|modifier| modifier.name == last)?.bit;
        rest = before;
    }
    Some((rest, bits))
}

/// The number as names show it: `0x26`, `-5`.
fn number(code: i64) -> String {
    if code < 0 { code.to_string() } else { format!("{code:#x}") }
}
