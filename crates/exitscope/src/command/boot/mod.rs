//! `exitscope boot`: one boot or several, and what they come to.

mod once;

use super::page;
use crate::cli::{self, BootFormat};
use crate::command::recorder;
use crate::engine::sinks::Output;
use exitscope_analysis::outcome::Kind;
use exitscope_analysis::phase::{self, Rules};
use exitscope_model::{Summary, float};
use exitscope_record::Writer;
use exitscope_view::{self as view, compare, unit};
use once::Boot;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Settings that all boots share.
struct Task<'a> {
    args: &'a cli::Boot,
    rules: Rules,
}

/// Boots, and reports.
///
/// # Errors
/// If nothing can be counted, the command cannot be run, or a file cannot be written.
pub fn run(args: &cli::Boot) -> anyhow::Result<ExitCode> {
    if args.list_phases {
        let text = phase::text(&recorder::phases(args.phases.as_deref())?);
        io::stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rules = recorder::rules(args.phases.as_deref())?;
    for number in 1..=args.runs {
        if let Some(file) = recording_file(args, number) {
            Writer::check(&file, args.force)?;
        }
    }
    if let Some(file) = &args.html {
        page::check_file(file)?;
    }
    let options = view::Options { answered: true, ..view::Options::default() };
    let mut output = Output::open(args.output.as_deref(), true, options)?;
    let boots = boot_all(&Task { args, rules }, &mut output)?;
    let complete = output.is_complete() && boots.iter().all(|boot| boot.recorded);
    code(args, &boots, complete)
}

/// Boots as often as was asked for, and as long as it makes sense. Empty if a signal came before the first.
fn boot_all(task: &Task<'_>, output: &mut Output) -> anyhow::Result<Vec<Boot>> {
    let args = task.args;
    let mut boots: Vec<Boot> = Vec::new();
    for number in 1..=args.runs {
        if number > 1 && args.format == BootFormat::Table {
            output.say("\n")?;
        }
        let Some(boot) = once::boot(task, number, output)? else { return Ok(Vec::new()) };
        // A command that cannot do it once cannot do it twice, and a signal is for all of them.
        let go_on = (boot.is_whole(waits(args)) || boot.has_failed()) && !boot.interrupted;
        boots.push(boot);
        if !go_on {
            break;
        }
    }
    if boots.len() > 1 && args.format == BootFormat::Table {
        output.say(&spread(&boots, waits(args)))?;
    }
    Ok(boots)
}

/// Returns true if something was asked for that the boot is to end with.
fn waits(args: &cli::Boot) -> bool {
    args.until.is_some() || args.until_mark.is_some()
}

/// Exit status for all boots.
fn code(args: &cli::Boot, boots: &[Boot], complete: bool) -> anyhow::Result<ExitCode> {
    let Some(last) = boots.last() else { return Ok(ExitCode::SUCCESS) };
    if last.kind() != Kind::Interrupted && boots.iter().any(Boot::has_failed) {
        return Ok(ExitCode::FAILURE);
    }
    if last.kind() == Kind::Reached {
        return Ok(super::code(complete));
    }
    if waits(args) && last.end.is_success() {
        let line = args.until.as_ref().map(|until| format!("no line of its console matched {until}"));
        let mark = args.until_mark.as_ref().map(|until| format!("no mark matched {until}"));
        let missed: Vec<String> = line.into_iter().chain(mark).collect();
        writeln!(io::stderr(), "exitscope: the command ended, and {}", missed.join(", and "))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(last.end.code(complete)?)
}

/// File that a boot is recorded into.
fn recording_file(args: &cli::Boot, number: u32) -> Option<PathBuf> {
    let mut name: OsString = args.record.as_ref()?.into();
    if args.runs > 1 {
        name.push(format!("-{number}"));
    }
    Some(name.into())
}

/// Medians, and least and most, of the boots that came to their end, beside the number of those that failed.
fn spread(boots: &[Boot], waits: bool) -> String {
    let wholes: Vec<&Boot> = boots.iter().filter(|boot| boot.is_whole(waits)).collect();
    let failed: Vec<&Boot> = boots.iter().filter(|boot| boot.has_failed()).collect();
    let mut said = String::from("\n");
    if !wholes.is_empty() {
        let exits = Summary::of(wholes.iter().map(|boot| float(boot.exits)));
        let times = Summary::of(wholes.iter().map(|boot| boot.length.as_secs_f64() * 1e9));
        let of = |summary: Option<Summary>, show: fn(f64) -> String| {
            let Summary { least, median, most, .. } = summary.unwrap_or_default();
            format!("{} ({} to {})", show(median), show(least), show(most))
        };
        said += &format!(
            "{}: exits {}, time {}: the median, the least and the most.\n",
            unit::counted(wholes.len() as u64, "boot"),
            of(exits, compare::figure_count),
            of(times, compare::figure_time),
        );
    }
    if !failed.is_empty() {
        let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
        for boot in &failed {
            let cause = boot.outcome.as_ref().and_then(|outcome| outcome.cause.as_deref());
            *causes.entry(cause.unwrap_or(boot.kind().name())).or_default() += 1;
        }
        let causes: Vec<String> = causes.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        said += &format!(
            "{} of {} failed and are left out of that: {}.\n",
            failed.len(),
            unit::counted(boots.len() as u64, "boot"),
            causes.join(", ")
        );
    }
    said
}
