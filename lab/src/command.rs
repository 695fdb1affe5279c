//! Runs the system's own tools and reports how they fail.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::{doctor, quote};

/// A command by its plain name, found as [`doctor::program`] finds it, with messages in English.
pub(crate) fn tool(name: &str) -> Result<Command, Error> {
    let mut command = Command::new(doctor::program(name)?);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    Ok(command)
}

/// Runs the command to its end and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    let shown = show(command);
    let output = command.output().map_err(Error::io(&shown))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Program { program: shown, status: output.status, stderr: tail(&output.stderr) })
}

/// The command line as a shell would read it.
pub(crate) fn show(command: &Command) -> String {
    let words: Vec<&OsStr> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    String::from_utf8_lossy(&quote::command(&words)).into_owned()
}

/// The last lines of what a program said, on one line.
pub(crate) fn tail(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
