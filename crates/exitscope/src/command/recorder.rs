//! Recorder that `record` and `boot` share.

use crate::engine::{Inbox, Sampler, Session};
use anyhow::Context;
use exitscope_analysis::phase::{BUILT_IN, Rules};
use exitscope_collect::host::Machine;
use exitscope_model::redact::redact;
use exitscope_record::{About, input};
use exitscope_view::text;
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Provenance of the figures, as a recording keeps it.
pub fn about(command: &[OsString], interval: Duration, sampler: &Sampler) -> About {
    let Machine { name, kernel, cpu, cpus, kvm, facts } = Machine::probe();
    let command: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let command =
        if sampler.keeps_command_lines() { redact(command.iter().map(|word| &**word)) } else { Vec::new() };
    About {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        host: name,
        kernel,
        cpu,
        cpus,
        kvm,
        facts,
        command,
        interval,
        source: sampler.source(),
        measured: sampler.measured(),
    }
}

/// The most bytes of a file of phases.
const MOST_PHASES: u64 = 64 << 10;

/// Text of the table of phases in a file; without one, the built-in table.
///
/// # Errors
/// If it is no file that can be read, or too long.
pub fn phases(file: Option<&Path>) -> anyhow::Result<Cow<'static, str>> {
    let Some(file) = file else { return Ok(BUILT_IN.into()) };
    let text = input::read_text(file, MOST_PHASES);
    Ok(text.with_context(|| format!("cannot read the phases in {}", file.display()))?.into())
}

/// Rules of the phases in a file; without one, the built-in ones.
///
/// # Errors
/// If the file cannot be read, or is no table of phases.
pub fn rules(file: Option<&Path>) -> anyhow::Result<Rules> {
    Ok(match file {
        Some(path) => Rules::parse(&phases(file)?, path)?,
        None => Rules::default(),
    })
}

/// Opens the socket for marks by hand; if that fails, says so and goes on without.
pub fn listen_for_marks(session: &mut Session<'_>) {
    match Inbox::open(session.poll_handle()) {
        Ok(inbox) => session.listen_for_marks(inbox),
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = say(&format!("no marks by hand in this recording: {error:#}"));
        }
    }
}

/// Writes a line to standard error.
///
/// # Errors
/// If it cannot be written.
pub fn say(message: &str) -> io::Result<()> {
    writeln!(io::stderr(), "exitscope: {}", text::clean(message, 2000))
}
