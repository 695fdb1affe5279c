//! The tables against the kernel's installed headers: no name of theirs may be missing or differ.

use std::collections::HashMap;
use std::path::Path;

use super::{find, get, name};
use exitscope_model::{ExitCode, Isa};

/// An installed header's text. Its absence fails the test: a comparison with nothing proves nothing.
fn header(file: &str) -> String {
    let folders = ["/usr/include/x86_64-linux-gnu/asm", "/usr/include/asm"];
    let found = folders.iter().find_map(|folder| std::fs::read_to_string(Path::new(folder).join(file)).ok());
    found.unwrap_or_else(|| panic!("asm/{file} is in none of {folders:?}: apt-get install linux-libc-dev"))
}

/// Every `#define NAME NUMBER` whose name starts with `prefix`, by its whole name. A value that
/// begins like a number and cannot be read fails: a name left out would be one not compared.
fn defines(text: &str, prefix: &str) -> HashMap<String, i64> {
    let pair = |line: &str| {
        let mut words = line.strip_prefix("#define")?.split_whitespace();
        let (name, value) = (words.next()?, words.next()?);
        if !name.starts_with(prefix) || !value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return None;
        }
        let digits = value.trim_end_matches(['u', 'U', 'l', 'L']);
        let value = super::number(digits).unwrap_or_else(|| panic!("{name} is {value}: no number"));
        Some((name.to_owned(), value))
    };
    text.lines().filter_map(pair).collect()
}

#[test]
fn numbers_of_headers_are_read() {
    let text = "#define A_X 0x80000014ull\n#define A_Y\t-1\n#define A_Z(x) (x)\n#define B_X 1\n#define A_V\n";
    let expected = [("A_X".to_owned(), 0x8000_0014), ("A_Y".to_owned(), -1)];
    assert_eq!(defines(text, "A_"), HashMap::from(expected));
}

/// The rows `{ EXPRESSION, "text" }` of the macro `table`.
fn rows(text: &str, table: &str) -> Vec<(String, String)> {
    let start = text.find(&format!("#define {table}")).unwrap_or_else(|| panic!("no {table} in the header"));
    let row = |line: &str| {
        let (expression, text) = line.split_once('{')?.1.split_once('}')?.0.split_once(',')?;
        Some((expression.trim().to_owned(), text.trim().trim_matches('"').to_owned()))
    };
    text[start..].lines().skip(1).map_while(row).collect()
}

#[test]
fn vmx_names_are_the_kernels() {
    let text = header("vmx.h");
    let defined = defines(&text, "EXIT_REASON_");
    assert!(defined.len() > 60, "only {} names read from asm/vmx.h", defined.len());
    for (whole, code) in &defined {
        let ours = name(ExitCode { isa: Isa::Vmx, code: *code });
        assert_eq!(whole.strip_prefix("EXIT_REASON_"), Some(&*ours), "asm/vmx.h: {whole} is {code}");
    }
    let table = rows(&text, "VMX_EXIT_REASONS ");
    assert!(table.len() > 60, "only {} rows read from VMX_EXIT_REASONS", table.len());
    for (define, shown) in table {
        assert_eq!(name(ExitCode { isa: Isa::Vmx, code: defined[&define] }), shown, "VMX_EXIT_REASONS");
    }
}

#[test]
fn svm_names_are_the_kernels() {
    let text = header("svm.h");
    let mut defined = defines(&text, "SVM_EXIT_");
    // The ends of the range of exceptions: numbers that the table must agree with, not names.
    for (end, mnemonic) in [("SVM_EXIT_EXCP_BASE", "EXCP_DE"), ("SVM_EXIT_LAST_EXCP", "EXCP_31")] {
        let code = defined.remove(end).unwrap_or_else(|| panic!("asm/svm.h has no {end}"));
        assert_eq!(name(ExitCode { isa: Isa::Svm, code }), mnemonic);
    }
    // Small numbers here are arguments of a call, not codes of their own.
    defined.extend(defines(&text, "SVM_VMGEXIT_").into_iter().filter(|(_, code)| *code > 0xffff));
    assert!(defined.len() >= 100, "only {} names read from asm/svm.h", defined.len());
    for (whole, code) in &defined {
        let ours = name(ExitCode { isa: Isa::Svm, code: *code });
        let bare = whole.strip_prefix("SVM_EXIT_").or_else(|| whole.strip_prefix("SVM_"));
        assert_eq!(bare, Some(&*ours), "asm/svm.h: {whole} is {code:#x}");
    }
}

/// perf prints the second column of the kernel's table, and people paste it.
#[test]
fn perfs_names_of_svm_are_found() {
    let (text, kvm) = (header("svm.h"), header("kvm.h"));
    let mut defined = defines(&text, "SVM_");
    defined.extend(defines(&kvm, "").into_iter().filter(|(name, _)| name.ends_with("_VECTOR")));
    let table = rows(&text, "SVM_EXIT_REASONS ");
    assert!(table.len() >= 100, "only {} rows read from SVM_EXIT_REASONS", table.len());
    for (expression, shown) in table {
        let code = expression.split('+').map(|part| defined[part.trim()]).sum();
        let wanted = ExitCode { isa: Isa::Svm, code };
        assert!(get(wanted).is_some(), "SVM_EXIT_REASONS: {expression} is {code:#x}, which is unknown");
        let found: Vec<ExitCode> = find(Some(Isa::Svm), &shown).iter().map(|found| found.code).collect();
        assert_eq!(found, [wanted], "SVM_EXIT_REASONS calls {expression} {shown:?}");
    }
}
