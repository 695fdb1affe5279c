//! The tables' own order, and the ways in and out of them.

use std::collections::HashMap;

use proptest::prelude::*;

use super::kvm::Kind;
use super::{Reason, all, find, get, kvm, modifiers, name, nearest, neighbours, number};
use exitscope_model::{ExitCode, Isa};

const ISAS: [Isa; 3] = [Isa::Vmx, Isa::Svm, Isa::KvmStat];

fn code(isa: Isa, code: i64) -> ExitCode {
    ExitCode { isa, code }
}

fn shown(isa: Isa, number: i64) -> String {
    name(code(isa, number)).into_owned()
}

fn names(reasons: Vec<&'static Reason>) -> Vec<&'static str> {
    reasons.into_iter().map(|reason| reason.name).collect()
}

fn found(isa: Option<Isa>, text: &str) -> Vec<(Isa, i64)> {
    find(isa, text).iter().map(|found| (found.code.isa, found.code.code)).collect()
}

#[test]
fn tables_are_whole() {
    for isa in ISAS {
        let codes: Vec<i64> = all(isa).map(|reason| reason.code.code).collect();
        let order = |code: &i64| (*code < 0, *code);
        assert!(codes.is_sorted_by(|a, b| order(a) < order(b)), "{isa:?} is out of order: {codes:?}");
        let mut spellings = HashMap::new();
        for reason in all(isa) {
            assert_eq!(reason.code.isa, isa);
            for text in [reason.name, reason.what, reason.why, reason.help, reason.source] {
                assert!(!text.trim().is_empty() && text.is_ascii(), "{}: {text:?}", reason.name);
            }
            for text in [reason.what, reason.why, reason.help] {
                assert!(text.ends_with('.') && !text.contains("  "), "{}: {text:?}", reason.name);
            }
            let upper = reason.name.to_ascii_uppercase();
            assert!(isa == Isa::KvmStat || reason.name == upper, "{} is not upper case", reason.name);
            for spelling in [&[reason.name], reason.aliases].concat() {
                let other = spellings.insert(spelling.to_ascii_uppercase(), reason.code);
                assert_eq!(other, None, "{isa:?} has {spelling} twice");
            }
        }
    }
}

#[test]
fn every_code_of_the_manuals_ranges_is_there() {
    let missing: Vec<i64> = (0..=81).filter(|n| get(code(Isa::Vmx, *n)).is_none()).collect();
    assert_eq!(missing, [35, 38, 42, 71]);
    let missing: Vec<i64> = (0..=0xa6).filter(|n| get(code(Isa::Svm, *n)).is_none()).collect();
    assert_eq!(missing, Vec::<i64>::new());
}

#[test]
fn names_keep_modifiers_and_numbers_apart() {
    assert_eq!(shown(Isa::Vmx, 48), "EPT_VIOLATION");
    assert_eq!(shown(Isa::Vmx, 0x8000_0021), "FAILED_ENTRY:INVALID_STATE");
    assert_eq!(shown(Isa::Vmx, 48 | 1 << 26), "EPT_VIOLATION+BUS_LOCK");
    assert_eq!(shown(Isa::Vmx, 0x8800_0026), "FAILED_ENTRY:0x26+ENCLAVE");
    assert_eq!(shown(Isa::Vmx, 0x4000_0001), "0x40000001");
    assert_eq!(shown(Isa::Vmx, 0xffff_ffff), "0xffffffff");
    assert_eq!(shown(Isa::Vmx, 38), "0x26");
    assert_eq!(shown(Isa::Svm, -1), "ERR");
    assert_eq!(shown(Isa::Svm, -5), "-5");
    assert_eq!(shown(Isa::Svm, 0x46), "EXCP_UD");
    assert_eq!(shown(Isa::Svm, 0x8000_0001), "VMGEXIT_MMIO_READ");
    assert_eq!(shown(Isa::KvmStat, 5), "halt_exits");
    assert_eq!(shown(Isa::KvmStat, 99), "0x63");
    assert_eq!(modifiers(code(Isa::Vmx, 0x8400_0021)).count(), 2);
    assert_eq!(modifiers(code(Isa::Svm, 0x8400_0021)).count(), 0);
}

#[test]
fn people_find_what_they_type() {
    let (vmx, svm) = (Isa::Vmx, Isa::Svm);
    assert_eq!(found(None, "hlt"), [(vmx, 12), (svm, 0x78)]);
    for text in ["EPT_VIOLATION", "ept-violation", "EXIT_REASON_EPT_VIOLATION", " ept violation "] {
        assert_eq!(found(None, text), [(vmx, 48)], "{text}");
    }
    for text in ["npf", "EXIT_NPF", "SVM_EXIT_NPF", "VMEXIT_NPF", "svm_exit_npf"] {
        assert_eq!(found(None, text), [(svm, 0x400)], "{text}");
    }
    assert_eq!(found(Some(svm), "interrupt"), [(svm, 0x60)]);
    assert_eq!(found(Some(svm), "VMEXIT_INVALID"), [(svm, -1)]);
    assert_eq!(found(Some(svm), "VMEXIT_CR3_WRITE"), [(svm, 0x13)]);
    assert_eq!(found(Some(svm), "PF excp"), [(svm, 0x4e)]);
    assert_eq!(found(None, "io_exits"), [(Isa::KvmStat, 0)]);
    assert_eq!(found(None, "30"), [(vmx, 30), (svm, 30)]);
    assert_eq!(found(Some(vmx), "0x1e"), [(vmx, 30)]);
    assert_eq!(found(Some(vmx), "0x80000021"), [(vmx, 0x8000_0021)]);
    for text in ["-1", "0xffffffff", "4294967295", "0xffffffffffffffff"] {
        assert_eq!(found(Some(svm), text), [(svm, -1)], "{text}");
    }
    for text in ["", " ", "-", "0x", "38", "EXIT_REASON_", "+BUS_LOCK", "\u{1b}[2J", "99999999999999999999"] {
        assert_eq!(found(Some(vmx), text), [], "{text:?}");
    }
}

#[test]
fn what_is_not_found_has_neighbours() {
    assert_eq!(names(neighbours(code(Isa::Vmx, 38))), ["MONITOR_TRAP_FLAG", "MONITOR_INSTRUCTION"]);
    assert_eq!(names(neighbours(code(Isa::Svm, -9))), ["INVALID_PMC"]);
    assert_eq!(names(nearest(Some(Isa::Vmx), "ept"))[..2], ["EPT_VIOLATION", "EPT_MISCONFIG"]);
    assert_eq!(names(nearest(None, "ept_voilation"))[0], "EPT_VIOLATION");
    assert_eq!(names(nearest(None, "qqqqqqqqqq")), Vec::<&str>::new());
}

#[test]
fn classes_of_kvm_are_told_apart() {
    for class in all(Isa::KvmStat) {
        let kind = kvm::kind(class.code.code).expect("every class has a kind");
        let exits = class.name.ends_with("_exits") || class.name == "hypercalls";
        assert_eq!(kind != Kind::Event, exits, "{}", class.name);
        assert_eq!(kvm::code(class.name), Some(class.code));
    }
    assert_eq!(kvm::kind(99), None);
    assert_eq!(kvm::code("exits"), None);
}

#[test]
fn numbers_are_read_whole() {
    assert_eq!(number("-0x8000000000000000"), Some(i64::MIN));
    assert_eq!(number("0XFF"), Some(255));
    for text in ["-0x8000000000000001", "18446744073709551616", "0x", "--1", "+1", "0x-1", "1e3", "0x+1"] {
        assert_eq!(number(text), None, "{text}");
    }
}

/// Codes near what hardware reports, and any others.
fn any_code() -> impl Strategy<Value = ExitCode> {
    let field = (0i64..100, 0i64..0x1_0000).prop_map(|(basic, high)| basic | high << 16);
    let number = prop_oneof![field, -10i64..0x500, any::<i64>()];
    (0..ISAS.len(), number).prop_map(|(isa, number)| code(ISAS[isa], number))
}

proptest! {
    #[test]
    fn distinct_codes_have_distinct_names(a in any_code(), b in any_code()) {
        let b = code(a.isa, b.code);
        prop_assert_eq!(name(a) == name(b), a == b);
    }

    #[test]
    fn a_known_codes_name_leads_back_to_it(isa in 0..ISAS.len(), row in any::<prop::sample::Index>(), bits in 0i64..128) {
        let reasons: Vec<&Reason> = all(ISAS[isa]).collect();
        let known = reasons[row.index(reasons.len())].code;
        // Bits 25 to 31: all that VMX defines, and bit 30, which makes the code an unknown one.
        let modifiers = if known.isa == Isa::Vmx { bits << 25 } else { 0 };
        let wanted = code(known.isa, known.code | modifiers);
        let back = if modifiers & 1 << 30 == 0 { vec![(wanted.isa, wanted.code)] } else { vec![] };
        prop_assert_eq!(found(Some(wanted.isa), &name(wanted)), back);
    }

    #[test]
    fn any_text_is_looked_up(text in ".{0,80}") {
        find(None, &text);
        nearest(None, &text);
    }
}
