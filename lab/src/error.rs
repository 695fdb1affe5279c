//! The lab's errors, and the exit code of each.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Programs and files that the lab needs and this machine lacks.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    /// Each missing thing, with the reason.
    pub things: Vec<String>,
    /// The Debian packages that bring them, each once.
    pub packages: Vec<&'static str>,
}

impl Missing {
    /// Returns the command that installs the packages.
    #[must_use]
    pub fn remedy(&self) -> String {
        format!("apt-get install --no-install-recommends {}", self.packages.join(" "))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing: {}; as root: {}", self.things.join(", "), self.remedy())
    }
}

/// Output of a run that did not end by itself.
#[derive(Debug)]
pub struct Wreck {
    /// The outer VM's console log, the kernel's messages; it stays there.
    pub console: PathBuf,
    /// The command's standard output until then, if it was captured.
    pub stdout: Vec<u8>,
    /// The command's standard error until then, if it was captured.
    pub stderr: Vec<u8>,
}

/// Error of the lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Programs or files that the lab needs are not installed.
    #[error("{0}")]
    Missing(Missing),
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file, or what was being done.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A program that the lab called failed.
    #[error("{program} failed ({status}): {stderr}")]
    Program {
        /// The command line.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its output.
        stderr: String,
    },
    /// A step of a build failed.
    #[error("the step {step} failed ({status}): {said}; its log is {}", log.display())]
    Step {
        /// Name of the step.
        step: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its output.
        said: String,
        /// The file with all of its output.
        log: PathBuf,
    },
    /// No source of Debian packages is known.
    #[error("apt's sources on this machine name no Debian mirror; set LAB_MIRROR to the URL of one")]
    NoMirror,
    /// A package index does not say what is needed.
    #[error("package {package} of {suite}: {reason}")]
    Package {
        /// The package's name.
        package: String,
        /// The suite that was asked.
        suite: String,
        /// The reason.
        reason: String,
    },
    /// A downloaded package is not the one that the signed index names.
    #[error(
        "{file}: SHA256 is {found}, which the signed index of {suite} does not name; nothing was unpacked"
    )]
    Checksum {
        /// The downloaded file's name.
        file: String,
        /// Its checksum.
        found: String,
        /// The suite.
        suite: String,
    },
    /// A kernel or its modules cannot be used.
    #[error("{path}: {reason}")]
    Kernel {
        /// The kernel image or module tree.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An inner VM's disk image is not there.
    #[error(
        "no {system} of {suite}: {reason}; outside the outer VM, run: lab fetch --system {system} {suite}"
    )]
    System {
        /// The system's name.
        system: &'static str,
        /// The suite it is of.
        suite: String,
        /// The reason.
        reason: String,
    },
    /// An argument makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The command did not end within the time limit.
    #[error("time limit of {} s passed; the outer VM's console log is {}", limit.as_secs(), wreck.console.display())]
    TimeLimit {
        /// The limit.
        limit: Duration,
        /// The run's output until then.
        wreck: Box<Wreck>,
    },
    /// The outer VM stalled: its kernel was halted, or waits for an interrupt that its emulator has lost.
    #[error(
        "the outer VM stalled: {emulator} has not run its CPU for {} s, so it never will again; \
         its console log is {}",
        patience.as_secs(), wreck.console.display()
    )]
    Stalled {
        /// The emulator's program.
        emulator: &'static str,
        /// Time without any work on its CPU.
        patience: Duration,
        /// The run's output until then.
        wreck: Box<Wreck>,
    },
    /// The outer kernel panicked (an oops counts as one).
    #[error("the outer VM's kernel panicked: {line}; its console log is {}", wreck.console.display())]
    Panic {
        /// The console's line that says why.
        line: String,
        /// The run's output until then.
        wreck: Box<Wreck>,
    },
    /// The outer VM's emulator failed.
    #[error("{emulator} died ({status}): {stderr}; the outer VM's console log is {}", wreck.console.display())]
    EmulatorDied {
        /// The emulator's program.
        emulator: &'static str,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its output.
        stderr: String,
        /// The run's output until then.
        wreck: Box<Wreck>,
    },
    /// The outer VM powered off or rebooted before the command ended.
    #[error("the outer VM went down before the command ended{}; its console log is {}", why(line), wreck.console.display())]
    WentDown {
        /// The reason that its start-up wrote to the console; may be empty.
        line: String,
        /// The run's output until then.
        wreck: Box<Wreck>,
    },
    /// The files that the command left in `LAB_OUT` are lost.
    #[error("the files in LAB_OUT cannot be brought back: {0}")]
    Out(String),
    /// An inner VM's QEMU failed; what it said is on standard error.
    #[error("the inner VM's QEMU failed ({0})")]
    QemuFailed(ExitStatus),
    /// A benchmark could not be done.
    #[error("{0}")]
    Bench(String),
    /// The experiment could not be done.
    #[error("{0}")]
    Experiment(String),
    /// A signal asked to stop.
    #[error("stopped by signal {0}")]
    Cancelled(i32),
    /// The command's output could not be passed on.
    #[error("cannot pass on the command's output: {0}")]
    Output(io::Error),
}

/// Exit code: the time limit passed.
pub const EXIT_TIME_LIMIT: u8 = 124;
/// Exit code: the lab itself failed.
pub const EXIT_LAB: u8 = 125;
/// Exit code: the outer VM's kernel panicked.
pub const EXIT_PANIC: u8 = 121;
/// Exit code: QEMU died.
pub const EXIT_QEMU: u8 = 122;
/// Exit code: the outer VM powered off or rebooted before the command ended.
pub const EXIT_WENT_DOWN: u8 = 123;

impl Error {
    /// The exit code that the `lab` command gives for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::TimeLimit { .. } | Self::Stalled { .. } => EXIT_TIME_LIMIT,
            Self::Panic { .. } => EXIT_PANIC,
            Self::EmulatorDied { .. } | Self::QemuFailed(_) => EXIT_QEMU,
            Self::WentDown { .. } => EXIT_WENT_DOWN,
            // as a shell reports a program that the signal ended
            Self::Cancelled(signal) => u8::try_from(128 + signal).unwrap_or(EXIT_LAB),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 128 + 13,
            _ => EXIT_LAB,
        }
    }

    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().display().to_string();
        move |source| Self::Io { path, source }
    }
}

fn why(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(" ({line})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thing_names_its_package_once() {
        let missing = Missing {
            things: vec!["modprobe (no such program)".into(), "depmod (no such program)".into()],
            packages: vec!["kmod"],
        };
        assert_eq!(
            missing.to_string(),
            "missing: modprobe (no such program), depmod (no such program); \
             as root: apt-get install --no-install-recommends kmod"
        );
    }
}
