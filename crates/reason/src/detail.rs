//! Names of what exits are about, by kind, and remedies for many exits to one thing.

use super::{addresses, control, hypercalls, leaves, msrs, ports, vectors};
use exitscope_model::{Detail, DetailKind};

/// A key that has a name, such as a port's number, or several in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The first key.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Its name.
    pub name: &'static str,
    /// Remedy for many exits to it; empty where there is no general one.
    pub help: &'static str,
}

/// Returns all names of a kind, by key, without overlap.
pub fn names(kind: DetailKind) -> &'static [Known] {
    match kind {
        DetailKind::Port => ports::TABLE,
        DetailKind::Msr => msrs::TABLE,
        DetailKind::Gpa => addresses::TABLE,
        DetailKind::Cpuid => leaves::TABLE,
        DetailKind::Hypercall => hypercalls::TABLE,
        DetailKind::Cr => control::REGISTERS,
        DetailKind::Apic => control::APIC,
        DetailKind::Vector => vectors::EXCEPTIONS,
        DetailKind::HostVector => vectors::HOST,
        DetailKind::Xcr => table! { 0 "states that XSAVE keeps"; },
        // Bits 7:4 (SDM vol. 2, MWAIT, "Address-Range Monitoring"): the processor's own states, not ACPI's.
        DetailKind::Mwait => table! {
            0x00..=0x0f "C1";
            0x10..=0x1f "C2";
            0x20..=0x2f "C3";
            0x30..=0x3f "C4";
            0x40..=0x4f "C5";
            0x50..=0x5f "C6";
            0x60..=0x6f "C7";
            0xf0..=0xff "C0";
        },
        DetailKind::Dr | DetailKind::Pmc | DetailKind::Task => &[],
    }
}

/// Returns name and remedy of a detail. `None` if it is not in the tables: firmware or the guest gives ports to PCI
/// devices, for example.
///
/// ```
/// use exitscope_model::{Detail, DetailKind};
/// use exitscope_reason::known;
///
/// let port = known(Detail::new(DetailKind::Port, 0x3f8, true)).unwrap();
/// assert_eq!(port.name, "COM1");
/// assert!(known(Detail::new(DetailKind::Port, 0xc0e4, true)).is_none());
/// ```
pub fn known(detail: Detail) -> Option<&'static Known> {
    if detail.attributes.0 & detail.info().unnamed != 0 {
        return None;
    }
    let (table, key) = (names(detail.kind), detail.info().named_key(detail.key));
    let at = table.partition_point(|known| known.last < key);
    table.get(at).filter(|known| known.first <= key)
}

/// A table: number or range, name, and, where there is any, help.
macro_rules! table {
    (@last $first:literal) => { $first };
    (@last $first:literal, $last:literal) => { $last };
    (@help) => { "" };
    (@help $help:expr) => { $help };
    ($($first:literal $(..= $last:literal)? $name:literal $(=> $help:expr)?;)*) => {
        &[$($crate::detail::Known {
            first: $first,
            last: table!(@last $first $(, $last)?),
            name: $name,
            help: table!(@help $($help)?),
        }),*]
    };
}
pub(super) use table;

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::{Attributes, KINDS};

    fn name(detail: Detail) -> Option<&'static str> {
        known(detail).map(|known| known.name)
    }

    #[test]
    fn tables_are_in_order_and_what_they_say_is_a_sentence() {
        for info in KINDS {
            let table = names(info.kind);
            for (known, next) in table.iter().zip(table.iter().skip(1)) {
                assert!(known.last < next.first, "{} and {}", known.name, next.name);
            }
            for known in table {
                assert!(known.first <= known.last && known.last <= info.max_key, "{}", known.name);
                assert!(known.help.is_empty() || known.help.ends_with('.'), "{}: {}", known.name, known.help);
                assert!(known.name.is_ascii() && known.name.len() <= 40, "{}", known.name);
            }
        }
    }

    #[test]
    fn well_known_numbers_have_their_names() {
        let port = |port| name(Detail::new(DetailKind::Port, port, true));
        assert_eq!([0x3f8, 0x3fd, 0x2f8].map(port), [Some("COM1"), Some("COM1"), Some("COM2")]);
        assert_eq!(
            [0x70, 0xcf8, 0xcfc].map(port),
            [Some("CMOS/RTC"), Some("PCI config"), Some("PCI config")]
        );
        assert_eq!([0xc000, 0xffff, 0x12].map(port), [None; 3]);
        let msr = |msr| name(Detail::new(DetailKind::Msr, msr, false));
        assert_eq!(
            [0x6e0, 0x830, 0x80b].map(msr),
            [Some("IA32_TSC_DEADLINE"), Some("x2APIC ICR"), Some("x2APIC EOI")]
        );
        assert_eq!(
            [0x4b56_4d02, 0x4000_0020].map(msr),
            [Some("KVM async page fault"), Some("Hyper-V reference counter")]
        );
        assert_eq!([0xc000_0080, u32::MAX.into()].map(msr), [Some("EFER"), None]);
    }

    #[test]
    fn details_of_every_kind_are_named() {
        let names: Vec<&str> = [
            (DetailKind::Gpa, 0xfee0_00b0),
            (DetailKind::Cpuid, 0x2_0000_000d),
            (DetailKind::Hypercall, 11),
            (DetailKind::Hypercall, 0x1_0000_005c),
            (DetailKind::HostVector, 0xec),
            (DetailKind::Vector, 14),
            (DetailKind::Apic, 0x1031),
        ]
        .into_iter()
        .map(|(kind, key)| name(Detail::new(kind, key, true)).unwrap())
        .collect();
        let expected = [
            "LAPIC EOI",
            "XSAVE",
            "KVM_HC_SCHED_YIELD",
            "HvPostMessage",
            "local timer",
            "#PF page fault",
            "EOI of a vector",
        ];
        assert_eq!(names, expected);
        // Memory is no device, wherever it is.
        let memory = Attributes(1 << 16);
        assert_eq!(known(Detail { kind: DetailKind::Gpa, key: 0xfee0_0000, attributes: memory }), None);
    }

    /// KVM's own MSRs are those of the installed header.
    #[test]
    fn kvms_msrs_are_the_headers() {
        let path = "/usr/include/x86_64-linux-gnu/asm/kvm_para.h";
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{path}: {error}: apt-get install linux-libc-dev"));
        let numbers: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("#define MSR_KVM_")?.split_whitespace().nth(1))
            .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
            .collect();
        assert!(numbers.len() >= 11, "{numbers:x?} of {path}");
        for msr in numbers {
            let name = name(Detail::new(DetailKind::Msr, msr, true));
            assert!(name.is_some_and(|name| name.starts_with("KVM ")), "{msr:#x}: {name:?}");
        }
    }
}
