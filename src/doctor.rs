//! Says what this host has.
use std::io::{self, Write};
/// Checks.
pub fn run(out: &mut impl Write) -> io::Result<bool> {
    writeln!(out, "not yet")?;
    Ok(false)
}
