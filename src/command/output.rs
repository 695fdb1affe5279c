//! Where reports go.

use crate::model::Interval;
use crate::view::{self, Format, Options};
use anyhow::Context;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The columns of a terminal; `None` for anything else.
pub fn width(stream: &impl AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0))
}

enum Sink {
    Stdout,
    Stderr,
    File(File, PathBuf),
}

/// Writes intervals to where they were asked for.
pub struct Output {
    sink: Sink,
    options: Options,
    /// A file could not be written: what came after went to standard error.
    failed: bool,
}

impl Output {
    /// To `file`, or else to standard error where a command has standard output for itself.
    pub fn open(file: Option<&Path>, beside_command: bool, mut options: Options) -> anyhow::Result<Output> {
        let sink = match file {
            Some(path) => {
                let file = File::create(path)
                    .with_context(|| format!("cannot write the file {} that -o names", path.display()))?;
                Sink::File(file, path.to_owned())
            }
            None if beside_command => Sink::Stderr,
            None => Sink::Stdout,
        };
        let may_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        (options.width, options.color) = match &sink {
            Sink::Stdout => (width(&io::stdout()), may_color && io::stdout().is_terminal()),
            Sink::Stderr => (width(&io::stderr()), may_color && io::stderr().is_terminal()),
            Sink::File(..) => (None, false),
        };
        Ok(Output { sink, options, failed: false })
    }

    /// Tells what is known about the numbers.
    pub fn explain(&mut self, explanation: view::Explanation) {
        self.options.explanation = explanation;
    }

    /// Writes an interval. A file that cannot be written loses nothing: from there on everything goes to standard
    /// error, as a table.
    pub fn write(&mut self, interval: &Interval) -> io::Result<()> {
        let result = match &mut self.sink {
            Sink::Stdout => view::write(interval, &self.options, &mut io::stdout().lock()),
            Sink::Stderr => view::write(interval, &self.options, &mut io::stderr().lock()),
            Sink::File(file, path) => {
                let written = view::write(interval, &self.options, file);
                if let Err(error) = written {
                    self.failed = true;
                    let message =
                        format!("cannot write {}: {error}; the figures follow here", path.display());
                    writeln!(io::stderr(), "exitscope: {}", view::text::clean(&message, 2000))?;
                    self.sink = Sink::Stderr;
                    self.options.format = Format::Table;
                    self.options.first = true;
                    return self.write(interval);
                }
                Ok(())
            }
        };
        self.options.first = false;
        result
    }

    /// Whether everything went where it was asked to go.
    pub fn is_complete(&self) -> bool {
        !self.failed
    }
}
