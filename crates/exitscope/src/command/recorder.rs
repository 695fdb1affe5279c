//! Recorder that `record` and `boot` share.

use crate::engine::{Inbox, Sampler, Session};
use exitscope_collect::host::Machine;
use exitscope_record::About;
use exitscope_view::text;
use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;

/// Provenance of the figures, as a recording keeps it.
pub fn about(command: &[OsString], interval: Duration, sampler: &Sampler) -> About {
    let Machine { name, kernel, cpu, cpus, kvm, facts } = Machine::probe();
    About {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        host: name,
        kernel,
        cpu,
        cpus,
        kvm,
        facts,
        command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        interval,
        source: sampler.source(),
        measured: sampler.measured(),
    }
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
