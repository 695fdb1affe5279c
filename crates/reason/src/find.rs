//! From what a person types to reasons: names, numbers, and what is near when nothing fits.

use super::name::strip_modifiers;
use super::{Reason, all, get, svm_code_from_low_half};
use exitscope_model::{ExitCode, Isa};

/// A reason, and the code by which it was asked for: VMX's modifier bits are in the code only.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The whole code.
    pub code: ExitCode,
    /// Its reason.
    pub reason: &'static Reason,
}

/// Prefixes of the kernel's, the manuals' and other tools' spellings; the longest first.
const PREFIXES: [&str; 6] = ["VMX_EXIT_REASON_", "EXIT_REASON_", "SVM_EXIT_", "VMEXIT_", "SVM_", "EXIT_"];

/// The longest text that is compared, in characters: longer than any name with all modifiers.
const LONGEST: usize = 128;

/// Finds every reason that `text` names, in the numbering `isa` or, if `None`, in both hardware
/// numberings and KVM's classes.
///
/// `text` is a name or an alias, in any case, with `_`, `-` or a space between words, with or
/// without a prefix (`EXIT_REASON_`, `SVM_EXIT_`, `VMEXIT_`); a name as [`super::name()`] writes
/// it, with VMX's modifiers; or a number, see [`number`]. KVM's classes have no numbers of their
/// own: a number finds them only if `isa` asks for them.
///
/// ```
/// use exitscope_model::Isa;
/// use exitscope_reason::find;
///
/// let found = find(None, "EXIT_REASON_IO_INSTRUCTION");
/// assert_eq!((found.len(), found[0].code.isa, found[0].code.code), (1, Isa::Vmx, 30));
/// assert_eq!(find(Some(Isa::Vmx), "30")[0].reason.name, "IO_INSTRUCTION");
/// // Both processors have a CPUID.
/// assert_eq!(find(None, "cpuid").len(), 2);
/// ```
pub fn find(isa: Option<Isa>, text: &str) -> Vec<Found> {
    let mut found: Vec<Found> = codes(isa, text).filter_map(known).collect();
    let wanted = normal(text);
    for isa in isas(isa) {
        let (wanted, bits) = match isa {
            Isa::Vmx => strip_modifiers(&wanted).unwrap_or((&wanted, 0)),
            Isa::Svm | Isa::KvmStat => (wanted.as_str(), 0),
        };
        let fits = |reason: &&'static Reason| spellings(reason).any(|known| same(known, wanted));
        let numbered = (bits != 0).then(|| number(wanted)).flatten();
        let named = all(isa).find(fits).map(|reason| reason.code.code).or(numbered);
        found.extend(named.and_then(|code| known(ExitCode { isa, code: code | bits })));
    }
    found
}

/// Reads a number: decimal or `0x`, perhaps negative. 64-bit codes may be written without their
/// sign: 0xffffffffffffffff is -1.
///
/// ```
/// use exitscope_reason::number;
///
/// assert_eq!(number("0x7b"), Some(123));
/// assert_eq!(number("0xffffffffffffffff"), Some(-1));
/// assert_eq!(number("IOIO"), None);
/// ```
pub fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok()?,
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    if negative { 0i64.checked_sub_unsigned(value) } else { Some(value.cast_signed()) }
}

/// Returns the defined codes on either side of `code`: the nearest below and the nearest above.
pub fn neighbours(code: ExitCode) -> Vec<&'static Reason> {
    let below = all(code.isa).filter(|r| r.code < code).max_by_key(|r| r.code);
    let above = all(code.isa).filter(|r| r.code > code).min_by_key(|r| r.code);
    below.into_iter().chain(above).collect()
}

/// Returns the reasons whose names are most like `text`, the best first, five at most; none if
/// nothing is like it.
///
/// ```
/// use exitscope_reason::nearest;
///
/// assert_eq!(nearest(None, "cpuidd")[0].name, "CPUID");
/// assert!(nearest(None, "rhubarb").is_empty());
/// ```
pub fn nearest(isa: Option<Isa>, text: &str) -> Vec<&'static Reason> {
    let wanted = normal(text);
    let mut near: Vec<(usize, &Reason)> = isas(isa)
        .flat_map(all)
        .filter_map(|reason| Some((spellings(reason).filter_map(|s| unlike(s, &wanted)).min()?, reason)))
        .collect();
    near.sort_by_key(|(unlikeness, reason)| (*unlikeness, reason.code));
    near.into_iter().map(|(_, reason)| reason).take(5).collect()
}

fn isas(isa: Option<Isa>) -> impl Iterator<Item = Isa> {
    [Isa::Vmx, Isa::Svm, Isa::KvmStat].into_iter().filter(move |one| isa.is_none_or(|wanted| wanted == *one))
}

/// Returns the codes that `text` means if it is a number; KVM's classes only if asked for. SVM's codes
/// are also known by their low half, which is what tracepoints print.
pub fn codes(isa: Option<Isa>, text: &str) -> impl Iterator<Item = ExitCode> {
    let value = number(text);
    isas(isa).filter(move |one| isa.is_some() || *one != Isa::KvmStat).filter_map(move |isa| {
        let code = match (isa, u32::try_from(value?)) {
            (Isa::Svm, Ok(low)) => svm_code_from_low_half(low),
            _ => value?,
        };
        Some(ExitCode { isa, code })
    })
}

fn known(code: ExitCode) -> Option<Found> {
    get(code).map(|reason| Found { code, reason })
}

fn spellings(reason: &'static Reason) -> impl Iterator<Item = &'static str> {
    std::iter::once(reason.name).chain(reason.aliases.iter().copied())
}

/// Upper case, `_` between words, no prefix, not longer than any name.
fn normal(text: &str) -> String {
    let text: String = text.trim().chars().take(LONGEST).map(upper).collect();
    let bare = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
    bare.filter(|rest| !rest.is_empty()).unwrap_or(&text).to_owned()
}

fn upper(c: char) -> char {
    if matches!(c, '-' | ' ') { '_' } else { c.to_ascii_uppercase() }
}

fn same(known: &str, wanted: &str) -> bool {
    known.chars().map(upper).eq(wanted.chars())
}

/// Returns the distance of a known spelling from the wanted text. Smallest for spellings that begin
/// with the text, then for those that contain it, then for those with few letters changed; `None`
/// if they have too little in common.
fn unlike(known: &str, wanted: &str) -> Option<usize> {
    let known: String = known.chars().map(upper).collect();
    if let (3.., Some(position)) = (wanted.len(), known.find(wanted)) {
        return Some(usize::from(position > 0));
    }
    let edits = distance(&known, wanted);
    (edits <= wanted.chars().count() / 3).then_some(1 + edits)
}

/// Levenshtein's distance, over characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
