//! `exitscope report`.

use super::{page, summary};
use crate::cli;
use crate::engine::sinks::Output;
use anyhow::{Error, bail};
use exitscope_analysis::advice::Host;
use exitscope_record::{Part, Recording};
use exitscope_view::report;
use exitscope_view::{self as view, Explanation, Format, text, unit};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

/// Returns true if both names are of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// Reads, and prints.
pub fn run(args: &cli::Report) -> anyhow::Result<ExitCode> {
    page::check(args.format, args.print.output.as_deref())?;
    if let report::Format::Interval(format) = args.format {
        args.print.check(format).map_err(Error::msg)?;
    }
    let mut recording = Recording::open(&args.file)?;
    recording.choose(args.choose.filter());
    if let Some(output) = args.print.output.as_deref().filter(|output| is_same(output, &args.file)) {
        bail!("{} is the recording itself; give -o another name", output.display());
    }
    let (start, end, length) = recording.span()?;
    let known = recording.phases();
    if let Some(unknown) = args.phase.iter().find(|phase| !known.contains(&phase.as_str())) {
        let name = |name: &str| format!("{:?}", text::clean(name, 60));
        let names: Vec<String> = known.iter().take(50).map(|known| name(known)).collect();
        let there = match names.len() {
            0 => "it has no phases; `boot --record` and `record --console` keep them".to_owned(),
            _ => format!("it has {}", names.join(", ")),
        };
        bail!("{} has no phase {}: {there}", args.file.display(), name(unknown));
    }
    let part = Part { from: args.from, to: args.to, phases: args.phase.clone() };
    // Only people are told what stands out in a part, which takes reading everything.
    let rows = match args.format {
        report::Format::Interval(format) => Some(format),
        report::Format::Html | report::Format::Svg | report::Format::Png => None,
    };
    let mut boot = if rows.is_none_or(|format| format == Format::Table) {
        recording.boot_report(part.clone())?
    } else {
        None
    };
    if let Some(boot) = &mut boot {
        // Whoever recorded may be anyone.
        boot.end = text::clean(&boot.end, 200);
    }
    let whole = match &boot {
        Some(boot) => Some(boot.whole.clone()),
        None => recording.whole(part)?,
    };
    let Some(whole) = whole else {
        bail!(
            "{} has nothing in that part: it reaches from {} to {}, and is {} long",
            args.file.display(),
            unit::moment(start),
            unit::moment(end),
            humantime::format_duration(std::time::Duration::from_millis(
                u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
            ))
        );
    };
    let (explanation, file) = (explanation(&recording), args.print.output.as_deref());
    let complete = match (rows, &boot) {
        (None, Some(boot)) => {
            page::write(args.format, args.dark, (boot, recording.about(), &explanation), file)?;
            true
        }
        (rows, boot) => {
            let options = args.print.options(rows.unwrap_or_default(), &args.choose);
            let options = view::Options {
                explanation,
                host: Host::from(recording.about()),
                answered: boot.is_some(),
                details: args.details.clone().map_or_else(Vec::new, |kinds| kinds.0),
                ..options
            };
            let mut output = Output::whole(file, options)?;
            output.write(&whole)?;
            if let Some(boot) = boot {
                output.say(&summary::boot_report(boot, output.width()))?;
            }
            output.finish()?
        }
    };
    if recording.end().is_none() {
        let file = text::clean(&args.file.display().to_string(), 1000);
        writeln!(
            io::stderr(),
            "exitscope: {file} has no end: it is still being recorded, or that was cut off; it reaches to {}",
            unit::moment(end)
        )?;
    }
    Ok(super::code(complete))
}

/// Returns remarks on a recording's numbers. Whoever recorded, which may be anyone, wrote the words of most.
pub fn explanation(recording: &Recording) -> Explanation {
    let notes = recording.notes();
    let tidy = |words: &Option<String>| words.as_ref().map(|words| text::clean(words, 400));
    Explanation {
        kvm_counts_fewer: tidy(&notes.kvm_counts_fewer),
        kvm_missing: tidy(&notes.kvm_missing),
        source: tidy(&notes.source),
        thinned: recording.thinned(),
    }
}
