//! `exitscope report`.

use super::output::Output;
use crate::cli;
use crate::model::By;
use crate::record::{Notes, Part, Recording};
use crate::view::{self, Explanation, Format, text};
use anyhow::bail;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

/// Reads, and prints.
pub fn run(args: &cli::Report) -> anyhow::Result<ExitCode> {
    let recording = Recording::open(&args.file)?;
    let Some((start, end, length)) = recording.span() else {
        bail!("{} has no interval: recording ended before the first was over", args.file.display());
    };
    let Some(whole) = recording.whole(Part { from: args.from, to: args.to })? else {
        bail!(
            "{} has nothing in that part: it reaches from {} to {}, and is {} long",
            args.file.display(),
            moment(start),
            moment(end),
            humantime::format_duration(std::time::Duration::from_millis(
                u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
            ))
        );
    };
    let by = args.by.unwrap_or(if args.format == Format::Table { By::default() } else { By::ALL });
    let explanation = explanation(recording.notes());
    let options =
        view::Options { format: args.format, by, sort: args.sort, explanation, ..view::Options::default() };
    let mut output = Output::open(args.output.as_deref(), false, options)?;
    output.write(&whole)?;
    if recording.end().is_none() {
        let file = text::clean(&args.file.display().to_string(), 1000);
        writeln!(
            io::stderr(),
            "exitscope: {file} has no end: it is still being recorded, or that was cut off; it reaches to {}",
            moment(end)
        )?;
    }
    Ok(super::code(output.is_complete()))
}

/// In UTC, as `--from` and `--to` take it.
fn moment(time: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(time.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}

/// The words of whoever recorded, which may be anyone's.
fn explanation(notes: &Notes) -> Explanation {
    let tidy = |words: &Option<String>| words.as_ref().map(|words| text::clean(words, 400));
    Explanation {
        kvm_counts_fewer: tidy(&notes.kvm_counts_fewer),
        kvm_missing: tidy(&notes.kvm_missing),
        source: tidy(&notes.source),
    }
}
