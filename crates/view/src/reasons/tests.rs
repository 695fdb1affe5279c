//! Lists and entries of reasons, on fixed input.

use super::{Error, write, write_known, write_user};
use exitscope_model::{DetailKind, Isa, KINDS};
use exitscope_reason as reason;

fn text(isa: Option<Isa>, query: Option<&str>, width: usize) -> String {
    let mut out = Vec::new();
    write(&mut out, isa, query, width).expect("the query finds something");
    String::from_utf8(out).expect("the tables are ASCII")
}

fn refusal(isa: Option<Isa>, query: &str) -> String {
    let mut out = Vec::new();
    let error = write(&mut out, isa, Some(query), 100).expect_err("the query finds nothing");
    assert!(out.is_empty(), "nothing may be printed beside an error");
    error.to_string()
}

#[test]
fn lists_and_entries() {
    insta::assert_snapshot!("list_vmx", text(Some(Isa::Vmx), None, 120));
    insta::assert_snapshot!("list_svm", text(Some(Isa::Svm), None, 120));
    insta::assert_snapshot!("list_kvm_narrow", text(Some(Isa::KvmStat), None, 60));
    insta::assert_snapshot!("entry_both", text(None, Some("hlt"), 100));
    insta::assert_snapshot!("entry_number", text(Some(Isa::Vmx), Some("30"), 80));
    insta::assert_snapshot!("entry_failed", text(Some(Isa::Vmx), Some("0x84000021"), 80));
    insta::assert_snapshot!("entry_negative", text(Some(Isa::Svm), Some("-1"), 80));
    insta::assert_snapshot!("entry_class", text(None, Some("mmio_exits"), 80));
}

#[test]
fn lines_keep_to_the_width() {
    for width in [0, 40, 80, 132] {
        for line in text(None, None, width).lines() {
            assert!(line.len() <= width.max(60), "{} columns at width {width}: {line}", line.len());
        }
    }
}

#[test]
fn ports_and_msrs_are_listed_and_found() {
    let found = |kind, query: Option<&str>| {
        let mut out = Vec::new();
        write_known(&mut out, kind, query, 60).map(|()| String::from_utf8(out).expect("the table is ASCII"))
    };
    for info in KINDS {
        let heads = reason::names(info.kind).len().max(1);
        let all = found(info.kind, None).expect("the list is there");
        assert_eq!(all.lines().filter(|line| !line.starts_with(' ')).count(), heads);
        assert!(all.lines().all(|line| line.len() <= 60), "{all}");
    }
    for query in ["0x3f8", "1021", "com1"] {
        let text = found(DetailKind::Port, Some(query)).expect("the query finds something");
        assert!(text.starts_with("0x3f8-0x3ff  COM1\n      A serial port"), "{text}");
    }
    assert!(
        found(DetailKind::Msr, Some("0x6e0")).expect("it is there").starts_with("0x6e0  IA32_TSC_DEADLINE")
    );
    for query in ["", "0x10000", "-1", "EPT_VIOLATION", "\u{1b}[2J"] {
        let error = found(DetailKind::Port, Some(query)).expect_err("the query finds nothing").to_string();
        assert!(error.contains("`exitscope reasons port`") && !error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn returns_to_user_space_are_listed_and_found() {
    let found = |query: Option<&str>, width| {
        let mut out = Vec::new();
        write_user(&mut out, query, width).map(|()| String::from_utf8(out).expect("the table is ASCII"))
    };
    insta::assert_snapshot!("list_user", found(None, 100).expect("the list is there"));
    for query in ["EFAULT", "efault", "-14"] {
        let text = found(Some(query), 100).expect("the query finds something");
        assert!(text.starts_with("-14  EFAULT  The guest used memory"), "{text}");
    }
    for query in
        ["DIRTY_RING_FULL", "kvm_exit_dirty_ring_full", "dirty ring-full", "31", "0x1f", "KVM_EXIT_31"]
    {
        let text = found(Some(query), 60).expect("the query finds something");
        assert!(
            text.starts_with("31  DIRTY_RING_FULL") && text.lines().all(|line| line.len() <= 60),
            "{text}"
        );
    }
    for query in ["", "44", "-2", "EPT_VIOLATION", "\u{1b}[2J"] {
        let error = found(Some(query), 100).expect_err("the query finds nothing").to_string();
        assert!(error.contains("`exitscope reasons user`") && !error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn nothing_found_says_what_is_near() {
    insta::assert_snapshot!(refusal(Some(Isa::Vmx), "38"), @"VMX 38 (0x26) is reserved: no manual and no kernel header that exitscope knows defines it; nearest: 37 MONITOR_TRAP_FLAG, 39 MONITOR_INSTRUCTION");
    let both = refusal(None, "0x2710");
    assert!(
        both.contains("nearest: 85 MSR_WRITE_IMM. SVM 10000 (0x2710) is reserved") && !both.contains('\n'),
        "{both}"
    );
    insta::assert_snapshot!(refusal(None, "ept"), @r#"no exit reason is called "ept"; did you mean vmx 48 EPT_VIOLATION, vmx 49 EPT_MISCONFIG, vmx 0 EXCEPTION_NMI, vmx 50 INVEPT?"#);
    insta::assert_snapshot!(refusal(Some(Isa::Svm), "\u{1b}[2J"), @r#"no SVM exit reason is called "\u{1b}[2J"; `exitscope reasons` lists them all"#);
}

#[test]
fn a_closed_pipe_is_an_error_of_writing() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = write(&mut Closed, None, None, 80).expect_err("nothing can be written");
    assert!(matches!(error, Error::Write(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe));
}
