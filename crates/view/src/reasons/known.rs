//! Ports and MSRs that have a name, as a list.

use super::{Error, wrap};
use exitscope_reason::{self as reason, Known};
use std::io::Write;

/// Writes every port or MSR of `table`, or those that `query` finds by number or by a part of the name: numbers, name,
/// and what helps where many exits go there. Lines are at most `width` columns where words allow it; a width below 40
/// counts as 40.
///
/// # Errors
/// [`Error::NoName`] if the query finds nothing: exit status 1. [`Error::Write`] if `out` fails.
pub fn write_known(
    out: &mut impl Write,
    table: &[Known],
    query: Option<&str>,
    width: usize,
) -> Result<(), Error> {
    let width = width.max(40);
    let rows: Vec<&Known> = table.iter().filter(|known| fits(query, known)).collect();
    if rows.is_empty() {
        return Err(Error::NoName(query.unwrap_or_default().chars().take(40).collect()));
    }
    for known in rows {
        let range = match (known.first, known.last) {
            (first, last) if first == last => format!("{first:#x}"),
            (first, last) => format!("{first:#x}-{last:#x}"),
        };
        writeln!(out, "{range}  {}", known.name)?;
        if !known.help.is_empty() {
            wrap(out, "      ", 6, known.help, width)?;
        }
    }
    Ok(())
}

fn fits(query: Option<&str>, known: &Known) -> bool {
    let Some(query) = query else { return true };
    match reason::number(query) {
        Some(number) => (i64::from(known.first)..=i64::from(known.last)).contains(&number),
        None if query.trim().is_empty() => false,
        None => known.name.to_ascii_lowercase().contains(&query.trim().to_ascii_lowercase()),
    }
}
