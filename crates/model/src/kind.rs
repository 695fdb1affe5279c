//! Registry of detail kinds: everything that views, recordings and filters need to know of a kind stands here once.
//!
//! A new kind is one variant and one entry of [`KINDS`]; see CONTRIBUTING.md, "Add a detail kind".

use super::Detail;
use super::detail::Attributes;
use std::fmt;

/// Kind of thing that an exit was about. The number is that of `enum detail_kind` (crates/collect/bpf/kinds.bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DetailKind {
    /// An I/O port.
    Port = 1,
    /// A model-specific register.
    Msr = 2,
    /// A guest-physical address: exact of a device's register, of memory that of its 2 MiB.
    Gpa = 3,
    /// A leaf of CPUID, and in bits 63:32 its subleaf.
    Cpuid = 4,
    /// A hypercall, and in bits 63:32 whose: KVM's (0), Hyper-V's (1), Xen's (2).
    Hypercall = 5,
    /// A control register.
    Cr = 6,
    /// A debug register.
    Dr = 7,
    /// A register of the local APIC by its offset, or, from 0x1000 on, a vector that was ended.
    Apic = 8,
    /// The vector of an exception.
    Vector = 9,
    /// The vector of an interrupt of the host's, and in bits 63:32 the number of a device's interrupt, plus 1.
    HostVector = 10,
    /// A performance counter.
    Pmc = 11,
    /// The selector of a task.
    Task = 12,
    /// An extended control register.
    Xcr = 13,
    /// The hint of an MWAIT: the state in which the processor is to wait.
    Mwait = 14,
}

/// Words for the direction of an access, first of a read, then of a write.
#[derive(Clone, Copy, Debug)]
pub struct Directions {
    /// After the key: `0x3f8 out`.
    pub short: [&'static str; 2],
    /// Before the key, in a sentence: `writes to port 0x3f8`.
    pub spoken: [&'static str; 2],
    /// Before the key, in CSV: `out:0x3f8`.
    pub plain: [&'static str; 2],
}

/// Description of one kind.
#[derive(Debug)]
pub struct KindInfo {
    /// The kind.
    pub kind: DetailKind,
    /// Word that stands for the kind on the command line, in JSON and in recordings.
    pub word: &'static str,
    /// Name before a key in text: `port 0x3f8`.
    pub singular: &'static str,
    /// Heading of a list of them.
    pub plural: &'static str,
    /// Meaning, for help texts and documentation.
    pub help: &'static str,
    /// Words for the direction; `None` where there is none.
    pub directions: Option<Directions>,
    /// Names of the kind's own attribute flags: bit (16 to 31) and word.
    pub flags: &'static [(u32, &'static str)],
    /// Attributes with any of which a key has no name: it is that of something else.
    pub unnamed: u32,
    /// Number of keys that one with such attributes stands for.
    block: u64,
    /// Bits of a key that decide its name.
    pub named: u64,
    /// Highest key.
    pub max_key: u64,
    /// Name of the key in JSON before all kinds had `kind` and `key`.
    pub json_key: Option<&'static str>,
    /// True if it is counted without being asked for.
    pub by_default: bool,
    key_text: fn(u64) -> String,
    key_from: fn(&str) -> Option<u64>,
}

/// Base of the kinds whose keys are numbers of 32 bits without a direction.
const NUMBER: KindInfo = KindInfo {
    kind: DetailKind::Pmc,
    word: "",
    singular: "",
    plural: "",
    help: "",
    directions: None,
    flags: &[],
    unnamed: 0,
    block: 1,
    named: u64::MAX,
    max_key: 0xffff_ffff,
    json_key: None,
    by_default: false,
    key_text: hex,
    key_from: number,
};

/// Every kind, by number.
pub const KINDS: &[KindInfo] = &[
    KindInfo {
        kind: DetailKind::Port,
        word: "port",
        singular: "port",
        plural: "Ports",
        help: "I/O port of an I/O instruction",
        directions: Some(Directions {
            short: ["in", "out"],
            spoken: ["reads from port", "writes to port"],
            plain: ["in", "out"],
        }),
        flags: &[(16, "string"), (17, "rep"), (18, "doorbell")],
        unnamed: 0,
        block: 1,
        named: u64::MAX,
        max_key: 0xffff,
        json_key: Some("port"),
        by_default: true,
        key_text: hex,
        key_from: number,
    },
    KindInfo {
        kind: DetailKind::Msr,
        word: "msr",
        singular: "MSR",
        plural: "MSRs",
        help: "model-specific register",
        directions: Some(Directions {
            short: ["read", "written"],
            spoken: ["reads of MSR", "writes of MSR"],
            plain: ["rdmsr", "wrmsr"],
        }),
        flags: &[],
        unnamed: 0,
        block: 1,
        named: u64::MAX,
        max_key: 0xffff_ffff,
        json_key: Some("msr"),
        by_default: true,
        key_text: hex,
        key_from: number,
    },
    KindInfo {
        kind: DetailKind::Gpa,
        word: "gpa",
        singular: "address",
        plural: "Addresses",
        help: "guest-physical address: exact of a device's register, of memory that of its 2 MiB",
        directions: Some(Directions {
            short: ["read", "written"],
            spoken: ["reads of address", "writes to address"],
            plain: ["gpa-read", "gpa-write"],
        }),
        flags: &[(16, "memory"), (17, "read-only"), (18, "dirty-logged"), (19, "fetch"), (20, "doorbell")],
        unnamed: 1 << 16,
        block: 2 << 20,
        named: u64::MAX,
        max_key: u64::MAX,
        json_key: None,
        by_default: true,
        key_text: hex,
        key_from: number,
    },
    KindInfo {
        kind: DetailKind::Cpuid,
        word: "cpuid",
        singular: "CPUID leaf",
        plural: "CPUID leaves",
        help: "leaf and subleaf of CPUID, as 0xd.0x1",
        directions: None,
        flags: &[],
        unnamed: 0,
        block: 1,
        named: 0xffff_ffff,
        max_key: u64::MAX,
        json_key: None,
        by_default: false,
        key_text: leaf_text,
        key_from: leaf_from,
    },
    KindInfo {
        kind: DetailKind::Hypercall,
        word: "hypercall",
        singular: "hypercall",
        plural: "Hypercalls",
        help: "number of a hypercall: KVM's as 11, others' as hyperv:0x5c or xen:29",
        directions: None,
        flags: &[],
        unnamed: 0,
        block: 1,
        named: u64::MAX,
        max_key: 0x2_ffff_ffff,
        json_key: None,
        by_default: true,
        key_text: hypercall_text,
        key_from: hypercall_from,
    },
    KindInfo {
        kind: DetailKind::Cr,
        word: "cr",
        singular: "control register",
        plural: "Control registers",
        help: "control register",
        directions: Some(Directions {
            short: ["read", "written"],
            spoken: ["reads of", "writes to"],
            plain: ["cr-read", "cr-write"],
        }),
        flags: &[(16, "CLTS"), (17, "LMSW")],
        unnamed: 0,
        block: 1,
        named: u64::MAX,
        max_key: 15,
        json_key: None,
        by_default: false,
        key_text: |key| format!("cr{key}"),
        key_from: |text| number(text.strip_prefix("cr").unwrap_or(text)),
    },
    KindInfo {
        kind: DetailKind::Dr,
        word: "dr",
        singular: "debug register",
        plural: "Debug registers",
        help: "debug register",
        directions: Some(Directions {
            short: ["read", "written"],
            spoken: ["reads of", "writes to"],
            plain: ["dr-read", "dr-write"],
        }),
        flags: &[],
        unnamed: 0,
        block: 1,
        named: u64::MAX,
        max_key: 15,
        json_key: None,
        by_default: false,
        key_text: |key| format!("dr{key}"),
        key_from: |text| number(text.strip_prefix("dr").unwrap_or(text)),
    },
    KindInfo {
        kind: DetailKind::Apic,
        word: "apic",
        singular: "APIC register",
        plural: "APIC registers",
        help: "offset of a register of the local APIC, or as eoi:0x31 the vector that was ended",
        directions: Some(Directions {
            short: ["read", "written"],
            spoken: ["reads of APIC register", "writes to APIC register"],
            plain: ["apic-read", "apic-write"],
        }),
        flags: &[],
        unnamed: 0,
        block: 1,
        named: u64::MAX,
        max_key: 0x10ff,
        json_key: None,
        by_default: true,
        key_text: apic_text,
        key_from: apic_from,
    },
    KindInfo {
        kind: DetailKind::Vector,
        word: "vector",
        singular: "exception",
        plural: "Exceptions",
        help: "vector of an exception (Intel; AMD has a reason for each)",
        directions: None,
        flags: &[],
        unnamed: 0,
        block: 1,
        named: u64::MAX,
        max_key: 255,
        json_key: None,
        by_default: false,
        key_text: |key| key.to_string(),
        key_from: number,
    },
    KindInfo {
        kind: DetailKind::HostVector,
        word: "host-vector",
        singular: "host's vector",
        plural: "Host's vectors",
        help: "vector of the host's interrupt that ended the guest's turn, and as 0x24.irq27 a device's number in \
               /proc/interrupts (Intel)",
        directions: None,
        flags: &[],
        unnamed: 0,
        block: 1,
        named: 0xff,
        max_key: 0xffff_ffff_0000_00ff,
        json_key: None,
        by_default: false,
        key_text: vector_text,
        key_from: vector_from,
    },
    KindInfo {
        kind: DetailKind::Pmc,
        word: "pmc",
        singular: "performance counter",
        plural: "Performance counters",
        help: "performance counter of RDPMC",
        ..NUMBER
    },
    KindInfo {
        kind: DetailKind::Task,
        word: "task",
        singular: "task",
        plural: "Tasks",
        help: "selector of the task that is switched to",
        max_key: 0xffff,
        by_default: true,
        ..NUMBER
    },
    KindInfo {
        kind: DetailKind::Xcr,
        word: "xcr",
        singular: "extended control register",
        plural: "Extended control registers",
        help: "extended control register of XSETBV",
        key_text: |key| format!("xcr{key}"),
        key_from: |text| number(text.strip_prefix("xcr").unwrap_or(text)),
        ..NUMBER
    },
    KindInfo {
        kind: DetailKind::Mwait,
        word: "mwait",
        singular: "MWAIT hint",
        plural: "MWAIT hints",
        help: "hint of MWAIT: the state in which the processor is to wait",
        ..NUMBER
    },
];

impl DetailKind {
    /// Returns the description.
    pub fn info(self) -> &'static KindInfo {
        &KINDS[self as usize - 1]
    }

    /// Returns the kinds that are counted without being asked for.
    pub fn defaults() -> Vec<DetailKind> {
        KINDS.iter().filter(|info| info.by_default).map(|info| info.kind).collect()
    }

    /// Returns the kind of a number on the wire; `None` if no kind has it.
    pub fn from_number(number: u32) -> Option<DetailKind> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        KINDS.get(at).map(|info| info.kind)
    }

    /// Returns the kind that a word stands for.
    pub fn from_word(word: &str) -> Option<DetailKind> {
        KINDS.iter().find(|info| info.word.eq_ignore_ascii_case(word)).map(|info| info.kind)
    }
}

impl KindInfo {
    /// Writes a key as people read it: `0x3f8`.
    pub fn key_text(&self, key: u64) -> String {
        (self.key_text)(key)
    }

    /// Reads a key that [`KindInfo::key_text`] wrote, or a plain number; `None` if the kind has no such key.
    pub fn key_from(&self, text: &str) -> Option<u64> {
        (self.key_from)(text.trim()).filter(|key| *key <= self.max_key)
    }

    /// Returns the part of a key that decides its name: of a CPUID leaf without its subleaf.
    pub fn named_key(&self, key: u64) -> u64 {
        key & self.named
    }

    /// Returns the number of keys, from its own on, that a detail with these attributes stands for.
    pub fn block_of(&self, attributes: Attributes) -> u64 {
        if attributes.0 & self.unnamed != 0 { self.block } else { 1 }
    }

    /// Returns the word for a detail's direction out of a pair; empty where the kind has none.
    fn direction(
        &self,
        attributes: Attributes,
        pair: impl Fn(&Directions) -> [&'static str; 2],
    ) -> &'static str {
        self.directions.as_ref().map_or("", |words| pair(words)[usize::from(attributes.is_write())])
    }

    /// Returns the words of the flags that are set, in the order of their bits.
    pub fn flag_words(&self, attributes: Attributes) -> impl Iterator<Item = &'static str> {
        self.flags.iter().filter(move |(bit, _)| attributes.has_flag(*bit)).map(|(_, word)| *word)
    }
}

impl Detail {
    /// Returns the description of its kind.
    pub fn info(self) -> &'static KindInfo {
        self.kind.info()
    }

    /// Returns key, direction and what else is known, as people read them: `0x3f8 out`, `0xcfc in 4 bytes`.
    pub fn text(self) -> String {
        let direction = self.direction();
        let key = self.info().key_text(self.key);
        let mut text = if direction.is_empty() { key } else { format!("{key} {direction}") };
        // Most ports are accessed by the byte.
        if let Some(size) = self.attributes.size().filter(|size| *size > 1) {
            text += &format!(" {size} bytes");
        }
        for word in self.info().flag_words(self.attributes) {
            text += " ";
            text += word;
        }
        text
    }

    /// Returns the word for the direction: `out`; empty where the kind has none.
    pub fn direction(self) -> &'static str {
        self.info().direction(self.attributes, |words| words.short)
    }

    /// Returns kind, direction and key in a sentence: `writes to port 0x3f8`.
    pub fn spoken(self) -> String {
        let info = self.info();
        let words = info.direction(self.attributes, |words| words.spoken);
        let words = if words.is_empty() { info.singular } else { words };
        format!("{words} {}", info.key_text(self.key))
    }

    /// Returns direction and key as CSV has them: `out:0x3f8`.
    pub fn plain(self) -> String {
        let info = self.info();
        let word = info.direction(self.attributes, |words| words.plain);
        let mut text =
            format!("{}:{}", if word.is_empty() { info.word } else { word }, info.key_text(self.key));
        for flag in info.flag_words(self.attributes) {
            text += "+";
            text += flag;
        }
        text
    }
}

impl fmt::Display for DetailKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.info().word)
    }
}

fn hex(key: u64) -> String {
    format!("{key:#x}")
}

/// Reads a decimal number, or a hexadecimal one after `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn vector_text(key: u64) -> String {
    let vector = hex(key & 0xff);
    (key >> 32).checked_sub(1).map_or(vector.clone(), |irq| format!("{vector}.irq{irq}"))
}

fn vector_from(text: &str) -> Option<u64> {
    let Some((vector, irq)) = text.split_once(".irq") else { return number(text).filter(|key| *key <= 0xff) };
    let irq: u32 = irq.parse().ok()?;
    Some(number(vector).filter(|key| *key <= 0xff)? | u64::from(irq.checked_add(1)?) << 32)
}

fn leaf_text(key: u64) -> String {
    let (leaf, subleaf) = (key & 0xffff_ffff, key >> 32);
    if subleaf == 0 { hex(leaf) } else { format!("{leaf:#x}.{subleaf:#x}") }
}

fn leaf_from(text: &str) -> Option<u64> {
    let (leaf, subleaf) = text.split_once('.').unwrap_or((text, "0"));
    let half = |text: &str| number(text).filter(|number| *number <= 0xffff_ffff);
    // As one number, too.
    if text.contains('.') { Some(half(leaf)? | half(subleaf)? << 32) } else { number(leaf) }
}

/// Interfaces of hypercalls, by the number in bits 63:32 of their keys.
const CALLS_OF: [(u64, &str); 2] = [(1, "hyperv:"), (2, "xen:")];

fn hypercall_text(key: u64) -> String {
    let number = key & 0xffff_ffff;
    match CALLS_OF.iter().find(|(of, _)| *of == key >> 32) {
        Some((1, word)) => format!("{word}{number:#x}"),
        Some((_, word)) => format!("{word}{number}"),
        None => number.to_string(),
    }
}

fn hypercall_from(text: &str) -> Option<u64> {
    let found = CALLS_OF.iter().find_map(|(of, word)| Some((of, text.strip_prefix(word)?)));
    match found {
        Some((of, rest)) => {
            number(rest).filter(|number| *number <= 0xffff_ffff).map(|number| number | of << 32)
        }
        None => number(text),
    }
}

/// Keys of APIC registers from here on are vectors.
const EOI: u64 = 0x1000;

fn apic_text(key: u64) -> String {
    if key < EOI { hex(key) } else { format!("eoi:{:#x}", key - EOI) }
}

fn apic_from(text: &str) -> Option<u64> {
    match text.strip_prefix("eoi:") {
        Some(vector) => number(vector).filter(|vector| *vector <= 255).map(|vector| vector + EOI),
        None => number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn entries_stand_at_their_numbers_and_their_words_are_unique() {
        let mut words = HashSet::new();
        let mut plain = HashSet::new();
        for (at, info) in (1..).zip(KINDS) {
            assert_eq!(info.kind as u32, at, "{}", info.word);
            assert_eq!(DetailKind::from_number(at), Some(info.kind));
            assert!(words.insert(info.word), "{} twice", info.word);
            assert!(info.word.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", info.word);
            assert_eq!(DetailKind::from_word(&info.word.to_uppercase()), Some(info.kind));
            for word in info.directions.map_or(vec![info.word], |words| words.plain.to_vec()) {
                assert!(plain.insert(word), "{word} means two things in CSV");
            }
            assert!(info.flags.iter().all(|(bit, _)| (16..32).contains(bit)), "{}", info.word);
        }
        assert_eq!(DetailKind::from_number(0), None);
        assert_eq!(DetailKind::from_number(u32::try_from(KINDS.len()).unwrap() + 1), None);
        assert_eq!(
            DetailKind::from_word("other"),
            None,
            "a recording has this word for what is not told apart"
        );
    }

    #[test]
    fn sizes_of_more_than_a_byte_are_told() {
        let port = |attributes| Detail {
            attributes: Attributes(attributes),
            ..Detail::new(DetailKind::Port, 0x1000, true)
        };
        assert_eq!(
            [1, 0x101, 0x201, 0x401 | 1 << 16].map(|attributes| port(attributes).text()),
            ["0x1000 out", "0x1000 out", "0x1000 out 2 bytes", "0x1000 out 4 bytes string"]
        );
    }

    #[test]
    fn every_kind_reads_the_keys_that_it_writes() {
        for info in KINDS {
            for key in [0, 1, 0x3f8 & info.max_key, info.max_key] {
                assert_eq!(info.key_from(&info.key_text(key)), Some(key), "{}", info.word);
            }
            for text in ["", "x", "0x", "-1", "0x1ffffffffffffffff", "99999999999999999999"] {
                assert_eq!(info.key_from(text), None, "{}: {text:?}", info.word);
            }
            let above = info.max_key.checked_add(1).and_then(|key| info.key_from(&key.to_string()));
            assert_eq!(above, None, "{}", info.word);
        }
        let key = |kind: DetailKind, text: &str| kind.info().key_from(text);
        assert_eq!(key(DetailKind::Port, "1016"), Some(0x3f8));
        assert_eq!(key(DetailKind::Cpuid, "0xd.1"), Some(0x1_0000_000d));
        assert_eq!(key(DetailKind::Hypercall, "hyperv:0x5c"), Some(0x1_0000_005c));
        assert_eq!(key(DetailKind::Hypercall, "11"), Some(11));
        assert_eq!([key(DetailKind::Cr, "cr4"), key(DetailKind::Cr, "4")], [Some(4); 2]);
        assert_eq!(
            [key(DetailKind::Apic, "eoi:0x31"), key(DetailKind::Apic, "eoi:256")],
            [Some(0x1031), None]
        );
    }
}
