//! Parts of the documentation that tests make from the registries.

use std::fs;
use std::path::{Path, PathBuf};

/// The environment's variable with which tests write these parts instead of comparing them.
pub const UPDATE: &str = "UPDATE_DOCS";

/// Path of a document in the folder `docs`.
fn path(document: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(document)
}

/// Compares a document with what it should be.
///
/// # Panics
/// If they differ. With `UPDATE_DOCS` in the environment it is written instead.
pub fn check(document: &str, made: &str) {
    let path = path(document);
    let found = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if found == made {
        return;
    }
    assert!(
        std::env::var_os(UPDATE).is_some(),
        "docs/{document} is not what the registry of figures makes of it; write it with `make docs`, and read the diff"
    );
    fs::write(&path, made).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Compares parts of a document, each between a line `<!-- made: NAME -->` and the next line `<!-- end -->`.
///
/// # Panics
/// If they differ, like [`check`], and if the document has no such lines.
pub fn check_parts(document: &str, parts: &[(&str, String)]) {
    let path = path(document);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (name, made) in parts {
        let begin = format!("<!-- made: {name} -->\n");
        let parts = text.split_once(&begin).and_then(|(before, rest)| {
            let (_, after) = rest.split_once("<!-- end -->\n")?;
            Some(format!("{before}{begin}\n{}\n\n<!-- end -->\n{after}", made.trim_end()))
        });
        text =
            parts.unwrap_or_else(|| panic!("docs/{document} lacks {begin:?}, or the <!-- end --> after it"));
    }
    check(document, &text);
}
