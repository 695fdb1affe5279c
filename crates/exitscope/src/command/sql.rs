//! `exitscope sql`.

use crate::cli;
use anyhow::Context;
use exitscope_record::{Recording, ValueRef};
use exitscope_view::text;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// The most characters of a text that are printed.
const MOST_TEXT: usize = 100_000;

/// Error of a query: SQLite's words, or that of writing.
enum Failed {
    Query(String),
    Write(io::Error),
}

impl From<String> for Failed {
    fn from(words: String) -> Failed {
        Failed::Query(words)
    }
}

/// Runs a statement, and prints what it returns as CSV.
///
/// # Errors
/// If the recording cannot be read, or the statement cannot be run.
pub fn run(args: &cli::Sql) -> anyhow::Result<ExitCode> {
    let sql = Recording::open(&args.file)?.into_sql()?;
    let output = std::cell::RefCell::new(BufWriter::new(io::stdout().lock()));
    let line = |fields: &[String]| {
        output.borrow_mut().write_all(format!("{}\n", fields.join(",")).as_bytes()).map_err(Failed::Write)
    };
    let head = |names: &[&str]| line(&names.iter().map(|name| field(name)).collect::<Vec<_>>());
    let row = |values: &[ValueRef<'_>]| line(&values.iter().map(|found| value(*found)).collect::<Vec<_>>());
    let done = match sql.query(&args.statement, head, row) {
        Ok(()) => output.borrow_mut().flush().map_err(Failed::Write),
        Err(failed) => Err(failed),
    };
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failed::Write(error)) => Err(error.into()),
        Err(Failed::Query(words)) => Err(anyhow::anyhow!("{}", text::clean(&words, 2000)))
            .context("the statement failed; docs/recording.md lists tables, views and columns"),
    }
}

/// A text as a field of CSV (RFC 4180). Whoever recorded may be anyone: control characters are escaped.
fn field(words: &str) -> String {
    let clean = text::clean(words, MOST_TEXT);
    if clean.contains([',', '"']) { format!("\"{}\"", clean.replace('"', "\"\"")) } else { clean }
}

fn value(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) => field(&String::from_utf8_lossy(bytes)),
        ValueRef::Blob(bytes) => bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    }
}
