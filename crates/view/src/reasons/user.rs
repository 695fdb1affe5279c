//! List of the reasons with which KVM_RUN returns to the VMM.

use super::{Error, wrap};
use exitscope_reason as reason;
use exitscope_reason::user::{EXITS, FAILURES, UserExit};
use std::io::Write;

/// Writes every `KVM_EXIT_*` and every error, or the one that `query` names: number, name, what happened. A name may be in
/// any case, with `_`, `-` or a space between words, with or without its prefix. Lines are at most `width`
/// columns where words allow it; a width below 40 counts as 40.
///
/// # Errors
/// [`Error::NoReturn`] if the query finds nothing: exit status 1. [`Error::Write`] if `out` fails.
pub fn write_user(out: &mut impl Write, query: Option<&str>, width: usize) -> Result<(), Error> {
    let width = width.max(40);
    let exits = (0..).zip(EXITS);
    // An error is a negative number, and listed last.
    let failures = FAILURES.iter().map(|(errno, failure)| (-i64::from(*errno), failure));
    let rows: Vec<(i64, &UserExit)> =
        exits.chain(failures).filter(|(number, exit)| fits(query, *number, exit.name)).collect();
    if rows.is_empty() {
        return Err(Error::NoReturn(query.unwrap_or_default().chars().take(40).collect()));
    }
    if query.is_none() {
        writeln!(out, "What KVM_RUN returns to the VMM with (KVM_EXIT_*, or a negative error)")?;
    }
    let widest = rows.iter().map(|(_, exit)| exit.name.len()).max().unwrap_or(0);
    let digits = rows.iter().map(|(number, _)| number.to_string().len()).max().unwrap_or(0);
    for (number, exit) in rows {
        let head = format!("{number:>digits$}  {:<widest$}  ", exit.name);
        // Beside the name if there is room for a few words, otherwise below it.
        if head.len() + 30 <= width {
            wrap(out, &head, head.len(), exit.what, width)?;
        } else {
            writeln!(out, "{}", head.trim_end())?;
            wrap(out, "      ", 6, exit.what, width)?;
        }
    }
    Ok(())
}

fn fits(query: Option<&str>, number: i64, name: &str) -> bool {
    let Some(query) = query else { return true };
    let upper = query.trim().to_ascii_uppercase().replace(['-', ' '], "_");
    let wanted = upper.strip_prefix("KVM_EXIT_").unwrap_or(&upper);
    let asked = reason::number(query).or_else(|| reason::number(wanted));
    wanted == name || asked == Some(number)
}
