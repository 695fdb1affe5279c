//! The shape of a row, and the ways to a row by its code.

use exitscope_model::{ExitCode, Isa};

/// One exit reason: its number, its names, and what to make of it.
#[derive(Clone, Copy, Debug)]
pub struct Reason {
    /// The code, without VMX's modifier bits.
    pub code: ExitCode,
    /// The kernel's UAPI name without prefix; the manual's where the kernel has none.
    pub name: &'static str,
    /// Other names: perf's, the manual's, older kernels'.
    pub aliases: &'static [&'static str],
    /// Meaning: the guest's action, or the event that it met.
    pub what: &'static str,
    /// Usual causes of many of them.
    pub why: &'static str,
    /// Remedy, or a note that many are normal.
    pub help: &'static str,
    /// Where the code is defined.
    pub source: &'static str,
}

/// A table of reasons: code, name, aliases, what, why, help; the source is the table's, or the
/// row's own after `@`.
macro_rules! reasons {
    (@source $table:expr) => { $table };
    (@source $table:expr, $own:expr) => { $own };
    ($isa:ident, $source:expr; $(
        $code:literal $name:ident [$($alias:expr),*] $what:expr, $why:expr, $help:expr $(, @ $own:expr)?;
    )*) => {
        &[$($crate::Reason {
            code: exitscope_model::ExitCode { isa: exitscope_model::Isa::$isa, code: $code },
            name: stringify!($name),
            aliases: &[$($alias),*],
            what: $what,
            why: $why,
            help: $help,
            source: reasons!(@source $source $(, $own)?),
        }),*]
    };
}
pub(super) use reasons;

/// Returns every reason of `isa`, in the order of the codes; SVM's negative codes come last.
pub fn all(isa: Isa) -> impl Iterator<Item = &'static Reason> {
    let tables: &[&[Reason]] = match isa {
        Isa::Vmx => super::vmx::TABLES,
        Isa::Svm => super::svm::TABLES,
        Isa::KvmStat => super::kvm::TABLES,
    };
    tables.iter().copied().flatten()
}

/// Returns the reason of `code`. VMX's defined modifier bits are ignored: a failed entry is found by
/// its basic reason. `None` if no table defines it.
///
/// ```
/// use exitscope_model::{ExitCode, Isa};
/// use exitscope_reason::get;
///
/// let reason = get(ExitCode { isa: Isa::Vmx, code: 30 }).unwrap();
/// assert_eq!(reason.name, "IO_INSTRUCTION");
/// println!("{}. {} {}", reason.what, reason.why, reason.help);
/// assert!(get(ExitCode { isa: Isa::Vmx, code: 999 }).is_none());
/// ```
pub fn get(code: ExitCode) -> Option<&'static Reason> {
    let wanted = match code.isa {
        Isa::Vmx => super::name::split(code.code)?.0,
        Isa::Svm | Isa::KvmStat => code.code,
    };
    all(code.isa).find(|reason| reason.code.code == wanted)
}
