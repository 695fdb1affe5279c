//! From [`exitscope_model::Interval`] to people and machines.
//!
//! Every view is a pure function of the interval and of [`Options`].

pub mod advice;
pub mod answers;
pub mod boot_report;
pub mod compare;
mod csv;
pub mod details;
#[cfg(test)]
mod docs;
mod grid;
mod json;
pub mod kmsg;
mod line;
pub mod marks;
pub mod metrics;
pub mod names;
pub mod phases;
pub mod prose;
pub mod repeat;
pub mod report;
#[cfg(test)]
mod schema;
mod table;
pub mod text;
pub mod unit;
pub mod value;
mod vcpus;
pub mod workers;

use exitscope_analysis::advice::Host;
use exitscope_model::figure::Figure;
use exitscope_model::{By, DetailKind, Interval, Sort, Thinned};
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::str::FromStr;

/// Format of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// JSON Lines: one object per interval.
    Json,
    /// Long rows, header once.
    Csv,
    /// The lines that `exitscope kmsg` writes to the kernel log.
    Kmsg,
}

impl Format {
    /// Every format with the word that chooses it.
    pub const WORDS: [(&'static str, Format); 4] =
        [("table", Format::Table), ("json", Format::Json), ("csv", Format::Csv), ("kmsg", Format::Kmsg)];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Format::WORDS.iter().find(|(_, format)| format == self);
        f.pad(word.map_or("", |(word, _)| word))
    }
}

/// A word that is no [`Format`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no format {0:?}; choose from table, json, csv, kmsg")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Format, UnknownFormat> {
        let known = Format::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, format)| *format).ok_or_else(|| UnknownFormat(text.into()))
    }
}

/// Facts about the numbers that whoever counted knows, in words that continue a sentence: they
/// begin in lower case and end without a full stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Reason why KVM's own count may be smaller without an error, e.g. `kernels before 6.4
    /// do not count exits handled on the fast path`.
    pub kvm_counts_fewer: Option<String>,
    /// Reason why KVM's own count could not be read.
    pub kvm_missing: Option<String>,
    /// Reason why this source was used, e.g. `this host's KVM has no VT-x or AMD-V
    /// behind it`; of one typed by BTF, what it could do better and why it does not.
    pub source: Option<String>,
    /// Thinning of the recording that was read.
    pub thinned: Option<Thinned>,
}

/// Options of [`write`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The format.
    pub format: Format,
    /// Keys that rows are told apart by.
    pub by: By,
    /// Order of the rows.
    pub sort: Sort,
    /// Columns of a table and of CSV, from left to right; empty for those that fit the rows.
    pub columns: Vec<&'static Figure>,
    /// Maximum number of a table's rows; the last one then stands for all others. `None` for as many as a table can have.
    pub limit: Option<usize>,
    /// Kinds of details that are listed below a table.
    pub details: Vec<DetailKind>,
    /// True for the first interval in its file: CSV then begins with its header, and a
    /// table does not begin with an empty line.
    pub first: bool,
    /// The table's columns on the terminal; `None` where there is no limit.
    pub width: Option<usize>,
    /// True if the table is coloured.
    pub color: bool,
    /// Facts about the numbers, for the notes below a table.
    pub explanation: Explanation,
    /// Facts about the host, for the advice below a table.
    pub host: Host,
    /// [`answers`] follow a table, which does not say what they say.
    pub answered: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            format: Format::default(),
            by: By::default(),
            sort: Sort::default(),
            columns: Vec::new(),
            limit: None,
            details: Vec::new(),
            first: true,
            width: None,
            color: false,
            explanation: Explanation::default(),
            host: Host::default(),
            answered: false,
        }
    }
}

/// Bytes that are written in one piece. What has more is not held whole, because it may be a stranger's.
const PIECE: usize = 1 << 20;

/// Writes an interval, in one piece if it has no more than 1 MiB.
///
/// # Errors
/// Those of `out`, unchanged: a broken pipe is [`io::ErrorKind::BrokenPipe`].
pub fn write(interval: &Interval, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(PIECE, out);
    match options.format {
        Format::Table => out.write_all(table::render(interval, options).as_bytes())?,
        Format::Json => json::render(interval, options, &mut out)?,
        Format::Csv => csv::render(interval, options, &mut out)?,
        Format::Kmsg => out.write_all(&kmsg::render(interval))?,
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_pipe_stays_one_in_every_format() {
        for (word, format) in Format::WORDS {
            assert_eq!(word.parse(), Ok(format));
            let options = Options { format, ..Options::default() };
            let error = write(&exitscope_model::fixture::busy(), &options, &mut Closed).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{format}");
        }
        assert!("xml".parse::<Format>().is_err());
    }
}

pub mod reasons;
