//! Details that have a name, as a list.

use super::{Error, wrap};
use exitscope_model::DetailKind;
use exitscope_reason::{self as reason, Known};
use std::io::Write;

/// Writes every name of a kind of detail, or those that `query` finds by key or by a part of the name: keys, name, and
/// what helps where many exits go there. Lines are at most `width` columns where words allow it; a width below 40
/// counts as 40.
///
/// # Errors
/// [`Error::NoName`] if the query finds nothing: exit status 1. [`Error::Write`] if `out` fails.
pub fn write_known(
    out: &mut impl Write,
    kind: DetailKind,
    query: Option<&str>,
    width: usize,
) -> Result<(), Error> {
    let width = width.max(40);
    let rows: Vec<&Known> = reason::names(kind).iter().filter(|known| fits(kind, query, known)).collect();
    let info = kind.info();
    if query.is_none() && rows.is_empty() {
        let text = format!("{}: {}. None has a name here.", info.word, info.help);
        return Ok(wrap(out, "", 6, &text, width)?);
    }
    if rows.is_empty() {
        let query = query.unwrap_or_default().chars().take(40).collect();
        return Err(Error::NoName { kind, query });
    }
    for known in rows {
        let text = |key| kind.info().key_text(key);
        let range = match (known.first, known.last) {
            (first, last) if first == last => text(first),
            (first, last) => format!("{}-{}", text(first), text(last)),
        };
        writeln!(out, "{range}  {}", known.name)?;
        if !known.help.is_empty() {
            wrap(out, "      ", 6, known.help, width)?;
        }
    }
    Ok(())
}

fn fits(kind: DetailKind, query: Option<&str>, known: &Known) -> bool {
    let Some(query) = query else { return true };
    match kind.info().key_from(query) {
        Some(key) => (known.first..=known.last).contains(&kind.info().named_key(key)),
        None if query.trim().is_empty() => false,
        None => known.name.to_ascii_lowercase().contains(&query.trim().to_ascii_lowercase()),
    }
}
