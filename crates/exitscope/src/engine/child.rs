//! The command that a session counts: how it is started, signalled, and how it ended.

use super::events::{Event, Events};
use signal_hook::consts::SIGTERM;
use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};

/// Error of a command after `--` that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program:?}: {cause}")]
pub struct CannotRun {
    program: OsString,
    cause: io::Error,
}

impl CannotRun {
    /// Exit status for it, as shells have it: 127 if there is no such program, otherwise 126.
    pub fn code(&self) -> u8 {
        if self.cause.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// Cause of a session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The duration was over, a signal came and there is no command, or what was waited for came.
    Asked,
    /// The command ended.
    Command(ExitStatus),
    /// A second signal came while the command ran on.
    Abandoned(i32),
}

impl End {
    /// Words for it, as a recording keeps them.
    pub fn words(self) -> String {
        match self {
            End::Asked => "as asked".into(),
            End::Command(status) => format!("with the command: {status}"),
            End::Abandoned(signal) => format!("by signal {signal}, before the command"),
        }
    }

    /// Returns true if the command has ended.
    pub fn is_command(self) -> bool {
        matches!(self, End::Command(_))
    }

    /// Returns true if the command ended with status 0.
    pub fn is_success(self) -> bool {
        matches!(self, End::Command(status) if status.success())
    }

    /// Exit status for it; where the command has none of its own, `complete` decides between success and failure.
    ///
    /// # Errors
    /// If standard error cannot be written.
    pub fn code(self, complete: bool) -> io::Result<ExitCode> {
        Ok(match self {
            End::Command(status) if !status.success() => exit_code(status),
            End::Abandoned(signal) => {
                writeln!(io::stderr(), "exitscope: stopped by a second signal; the command runs on")?;
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
            }
            End::Command(_) | End::Asked if complete => ExitCode::SUCCESS,
            End::Command(_) | End::Asked => ExitCode::FAILURE,
        })
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Changes a command before it is started.
pub type Prepare<'p> = &'p mut dyn FnMut(&mut Command) -> io::Result<()>;

/// The command of a session, running or not; none if there are no words.
pub struct Child<'a> {
    words: &'a [OsString],
    pid: Option<libc::pid_t>,
    /// It has a process group of its own, which hears of signals by us alone.
    alone: bool,
    interrupted: Cell<bool>,
    ended: Cell<Option<ExitStatus>>,
}

impl<'a> Child<'a> {
    /// Takes the words of the command line; empty for no command.
    pub fn new(words: &'a [OsString]) -> Child<'a> {
        Child { words, pid: None, alone: false, interrupted: Cell::new(false), ended: Cell::new(None) }
    }

    /// Returns true if there is a command, started or not.
    pub fn is_wanted(&self) -> bool {
        !self.words.is_empty()
    }

    /// Starts the command, if there is one. With `prepare`, which puts it into a process group of its own, it hears of
    /// signals by us alone. Its end becomes an event. Returns true if it was started.
    ///
    /// # Errors
    /// [`CannotRun`].
    pub fn start(&mut self, events: &Events, prepare: Option<Prepare<'_>>) -> anyhow::Result<bool> {
        let mut words = self.words.iter();
        let Some(program) = words.next().cloned() else { return Ok(false) };
        let mut command = Command::new(&program);
        command.args(words);
        self.alone = prepare.is_some();
        if let Some(prepare) = prepare {
            prepare(&mut command)?;
        }
        let child = command.spawn().map_err(|cause| CannotRun { program, cause })?;
        self.pid = Some(libc::pid_t::try_from(child.id())?);
        events.watch(child)?;
        Ok(true)
    }

    /// Sends a signal to the command, or to all of its process group if it has one of its own.
    pub fn signal(&self, signal: i32) {
        let (Some(child), None) = (self.pid, self.ended.get()) else { return };
        // SAFETY: a plain system call. The process is our child, whose end we have not heard of.
        unsafe { libc::kill(if self.alone { -child } else { child }, signal) };
    }

    /// Decides if an event ends the session. `signals` counts those that came.
    pub fn end_by(&self, event: Event, signals: &mut u32) -> Option<End> {
        match (event, self.pid) {
            (Event::Ended(status), _) => {
                self.ended.set(Some(status));
                Some(End::Command(status))
            }
            (_, None) => Some(End::Asked),
            (Event::Signal(signal), Some(_)) => {
                // A terminal sends Ctrl-C to the command too, and it is the command that ends us.
                if signal == SIGTERM || self.alone {
                    self.signal(signal);
                }
                self.interrupt();
                *signals += 1;
                (*signals > 1).then_some(End::Abandoned(signal))
            }
            (Event::Time | Event::Poll, Some(_)) => None,
        }
    }

    /// Status of the command once its end was heard of.
    pub fn status(&self) -> Option<ExitStatus> {
        self.ended.get()
    }

    /// Returns true if the command was started.
    pub fn is_started(&self) -> bool {
        self.pid.is_some()
    }

    /// Notes that a signal came.
    pub fn interrupt(&self) {
        self.interrupted.set(true);
    }

    /// Returns true if a signal came while the command ran.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.get()
    }
}
