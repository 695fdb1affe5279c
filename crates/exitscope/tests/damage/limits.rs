//! Limits of the system that a report meets.

use super::hostile::good;
use super::{ALONE, Scratch};
use std::process::Command;

/// A file may not grow as large as the page (setrlimit(2), `RLIMIT_FSIZE`): that is told, ends with an exit status, and leaves
/// what was there.
#[test]
fn a_page_that_may_not_grow_leaves_the_old_one() {
    let _alone = ALONE.lock();
    let (good, folder) = (good(), Scratch::new("limited"));
    std::fs::create_dir_all(&folder.0).unwrap();
    let page = folder.0.join("page.html");
    let report = |limit: &str| {
        let command = format!("ulimit -f {limit}; exec \"$0\" report -f html -o \"$1\" \"$2\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &command, env!("CARGO_BIN_EXE_exitscope")]).arg(&page).arg(&good.0);
        shell.output().unwrap()
    };
    assert!(report("unlimited").status.success());
    let old = std::fs::read(&page).unwrap();
    // 4,096 bytes, in blocks of 512; of those, whoever has 1,024 still has too few.
    assert!(old.len() > 8192, "{} bytes", old.len());
    let output = report("8");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for words in ["cannot write the file", "page.html", "what was there is unchanged", "File too large"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert_eq!(std::fs::read(&page).unwrap(), old);
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside it");
    std::fs::remove_dir_all(&folder.0).unwrap();
}
