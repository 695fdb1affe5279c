//! Where reports go.

use anyhow::Context;
use exitscope_model::Interval;
use exitscope_view::{self as view, Format, Options};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The columns of a terminal; for anything else, what `COLUMNS` asks for, or `None`.
pub fn width(stream: &impl AsFd) -> Option<usize> {
    let terminal = terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    terminal.or_else(|| std::env::var("COLUMNS").ok()?.parse().ok().filter(|&width| width > 0))
}

/// Whether to colour what goes there: a terminal, where `NO_COLOR` does not forbid it.
pub fn may_color(stream: &impl IsTerminal) -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && stream.is_terminal()
}

enum Sink {
    Stdout,
    Stderr,
    File(File, PathBuf),
    /// Nobody reads any more, but a command is still to be waited for.
    Nowhere,
}

/// Writes intervals to where they were asked for.
pub struct Output {
    sink: Sink,
    options: Options,
    beside_command: bool,
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
        (options.width, options.color) = match &sink {
            Sink::Stdout => (width(&io::stdout()), may_color(&io::stdout())),
            Sink::Stderr => (width(&io::stderr()), may_color(&io::stderr())),
            Sink::File(..) | Sink::Nowhere => (None, false),
        };
        Ok(Output { sink, options, beside_command, failed: false })
    }

    /// Tells what is known about the numbers.
    pub fn explain(&mut self, explanation: view::Explanation) {
        self.options.explanation = explanation;
    }

    /// Writes an interval. What cannot be written to a file, standard output included, is not lost: from there on
    /// everything goes to standard error, as a table.
    pub fn write(&mut self, interval: &Interval) -> io::Result<()> {
        let result = match &mut self.sink {
            Sink::Stdout => view::write(interval, &self.options, &mut io::stdout().lock()),
            Sink::Stderr => view::write(interval, &self.options, &mut io::stderr().lock()),
            Sink::File(file, _) => view::write(interval, &self.options, file),
            Sink::Nowhere => Ok(()),
        };
        self.options.first = false;
        let Err(error) = result else { return Ok(()) };
        self.give_up(error)?;
        self.write(interval)
    }

    /// What to do where something could not be written: from here on it goes elsewhere, or that is the end.
    fn give_up(&mut self, error: io::Error) -> io::Result<()> {
        let enough = error.kind() == io::ErrorKind::BrokenPipe;
        let place = match &self.sink {
            Sink::File(_, path) => path.display().to_string(),
            Sink::Stdout if !enough => "standard output".to_owned(),
            Sink::Stderr if enough && self.beside_command => {
                self.sink = Sink::Nowhere;
                return Ok(());
            }
            _ => return Err(error),
        };
        self.failed = true;
        let message = format!("cannot write {place}: {error}; the figures follow here");
        writeln!(io::stderr(), "exitscope: {}", view::text::clean(&message, 2000))?;
        self.sink = Sink::Stderr;
        self.options.format = Format::Table;
        self.options.first = true;
        Ok(())
    }

    /// Writes text below what was written so far.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        let result = match &mut self.sink {
            Sink::Stdout => io::stdout().write_all(text.as_bytes()),
            Sink::Stderr => io::stderr().write_all(text.as_bytes()),
            Sink::File(file, _) => file.write_all(text.as_bytes()),
            Sink::Nowhere => Ok(()),
        };
        let Err(error) = result else { return Ok(()) };
        self.give_up(error)?;
        self.say(text)
    }

    /// How wide a line may be.
    pub fn width(&self) -> Option<usize> {
        self.options.width
    }

    /// Whether everything went where it was asked to go.
    pub fn is_complete(&self) -> bool {
        !self.failed
    }
}
