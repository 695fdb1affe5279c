//! Destination of reports: standard output, standard error, or a file.

use super::file::{self, Replacement};
use anyhow::Context;
use exitscope_analysis::advice::Host;
use exitscope_model::Interval;
use exitscope_view::{self as view, Format, Options};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Number of columns of a terminal; for anything else that of the variable `COLUMNS`, or `None`.
pub fn width(stream: &impl AsFd) -> Option<usize> {
    let terminal = terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    terminal.or_else(|| std::env::var("COLUMNS").ok()?.parse().ok().filter(|&width| width > 0))
}

/// Returns true for a terminal, unless the variable `NO_COLOR` is set: output to it is coloured.
pub fn may_color(stream: &impl IsTerminal) -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && stream.is_terminal()
}

enum Destination {
    Stdout,
    Stderr,
    File(File, PathBuf),
    /// Takes the place of what is there when all of it is written.
    Whole(Replacement, PathBuf),
    /// Nobody reads any more, but the command is still to be waited for.
    Nowhere,
}

/// Writes intervals and text to one destination.
pub struct Output {
    to: Destination,
    options: Options,
    beside_command: bool,
    /// A file could not be written: what came after went to standard error.
    failed: bool,
}

impl Output {
    /// Opens `file`; without one, standard error if a command has standard output for itself.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn open(file: Option<&Path>, beside_command: bool, options: Options) -> anyhow::Result<Output> {
        let to = match file {
            Some(path) => {
                let file = file::create(path).context("-o")?;
                Destination::File(file, path.to_owned())
            }
            None if beside_command => Destination::Stderr,
            None => Destination::Stdout,
        };
        Ok(Output::to(to, beside_command, options))
    }

    /// Opens `file`, which is replaced when all is written ([`Output::finish`]); without one, standard output.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn whole(file: Option<&Path>, options: Options) -> anyhow::Result<Output> {
        let to = match file {
            Some(path) => Destination::Whole(Replacement::begin(path).context("-o")?, path.to_owned()),
            None => Destination::Stdout,
        };
        Ok(Output::to(to, false, options))
    }

    /// Maximum number of a table's rows on a terminal, unless another is asked for.
    const ROWS: usize = 40;

    fn to(to: Destination, beside_command: bool, mut options: Options) -> Output {
        (options.width, options.color) = match &to {
            Destination::Stdout => (width(&io::stdout()), may_color(&io::stdout())),
            Destination::Stderr => (width(&io::stderr()), may_color(&io::stderr())),
            Destination::File(..) | Destination::Whole(..) | Destination::Nowhere => (None, false),
        };
        let is_terminal = match &to {
            Destination::Stdout => io::stdout().is_terminal(),
            Destination::Stderr => io::stderr().is_terminal(),
            Destination::File(..) | Destination::Whole(..) | Destination::Nowhere => false,
        };
        options.limit = match options.limit {
            None => is_terminal.then_some(Output::ROWS),
            limit => limit.filter(|limit| *limit > 0),
        };
        Output { to, options, beside_command, failed: false }
    }

    /// Sets the facts of the host that the advice below a table rests on.
    pub fn know(&mut self, host: Host) {
        self.options.host = host;
    }

    /// Sets the remarks that follow a table.
    pub fn explain(&mut self, explanation: view::Explanation) {
        self.options.explanation = explanation;
    }

    /// Writes an interval. If a file or standard output cannot be written, this interval and all that follow go to standard
    /// error instead, as a table.
    ///
    /// # Errors
    /// If standard error cannot be written either, or whoever read the output has gone.
    pub fn write(&mut self, interval: &Interval) -> io::Result<()> {
        let result = match &mut self.to {
            Destination::Stdout => view::write(interval, &self.options, &mut io::stdout().lock()),
            Destination::Stderr => view::write(interval, &self.options, &mut io::stderr().lock()),
            Destination::File(file, _) => view::write(interval, &self.options, file),
            Destination::Whole(file, _) => view::write(interval, &self.options, file),
            Destination::Nowhere => Ok(()),
        };
        self.options.first = false;
        let Err(error) = result else { return Ok(()) };
        self.give_up(error)?;
        self.write(interval)
    }

    /// Chooses another destination after a failure, or returns the error if there is none.
    fn give_up(&mut self, error: io::Error) -> io::Result<()> {
        let enough = error.kind() == io::ErrorKind::BrokenPipe;
        let place = match &self.to {
            Destination::File(_, path) | Destination::Whole(_, path) => path.display().to_string(),
            Destination::Stdout if !enough => "standard output".to_owned(),
            Destination::Stderr if enough && self.beside_command => {
                self.to = Destination::Nowhere;
                return Ok(());
            }
            _ => return Err(error),
        };
        self.failed = true;
        let message = format!("cannot write {place}: {error}; the figures follow here");
        writeln!(io::stderr(), "exitscope: {}", view::text::clean(&message, 2000))?;
        self.to = Destination::Stderr;
        self.options.format = Format::Table;
        self.options.first = true;
        Ok(())
    }

    /// Writes text below what was written so far.
    ///
    /// # Errors
    /// Those of [`Output::write`].
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        let result = match &mut self.to {
            Destination::Stdout => io::stdout().write_all(text.as_bytes()),
            Destination::Stderr => io::stderr().write_all(text.as_bytes()),
            Destination::File(file, _) => file.write_all(text.as_bytes()),
            Destination::Whole(file, _) => file.write_all(text.as_bytes()),
            Destination::Nowhere => Ok(()),
        };
        let Err(error) = result else { return Ok(()) };
        self.give_up(error)?;
        self.say(text)
    }

    /// Ends the output. Returns true if everything went to the destination that was asked for.
    ///
    /// # Errors
    /// If a file cannot be put in the place of what was there, which then is unchanged.
    pub fn finish(self) -> anyhow::Result<bool> {
        if let Destination::Whole(file, path) = self.to {
            file.finish().with_context(|| format!("cannot write the file {}", path.display()))?;
        }
        Ok(!self.failed)
    }

    /// Largest number of columns; `None` for no limit.
    pub fn width(&self) -> Option<usize> {
        self.options.width
    }

    /// Returns true if text may be coloured.
    pub fn color(&self) -> bool {
        self.options.color
    }

    /// Returns true if everything went to the destination that was asked for.
    pub fn is_complete(&self) -> bool {
        !self.failed
    }
}
