//! `exitscope boot`: one boot or several, and what they come to.

mod once;

use super::page;
use crate::cli::{self, BootFormat};
use crate::engine::sinks::Output;
use exitscope_analysis::phase::{LOGIN, Rules};
use exitscope_model::{Summary, float};
use exitscope_record::Writer;
use exitscope_view::{self as view, compare};
use once::Outcome;
use regex::Regex;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What is the same for all boots.
struct Task<'a> {
    args: &'a cli::Boot,
    rules: Rules,
    /// Line of the console that ends a boot.
    until: Option<Regex>,
}

/// Boots, and reports.
///
/// # Errors
/// If nothing can be counted, the command cannot be run, or a file cannot be written.
pub fn run(args: &cli::Boot) -> anyhow::Result<ExitCode> {
    let rules = Rules::of(args.phases.as_deref())?;
    let until = match (&args.until, &args.until_mark) {
        (Some(until), _) => Some(until.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(Regex::new(LOGIN)?),
    };
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
    let outcomes = boot_all(&Task { args, rules, until }, &mut output)?;
    let complete = output.is_complete() && outcomes.iter().all(|outcome| outcome.recorded);
    match outcomes.last() {
        Some(last) => code(args, last, complete),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Boots as often as was asked for, and as long as boots come to their end. Empty if a signal came before the first.
fn boot_all(task: &Task<'_>, output: &mut Output) -> anyhow::Result<Vec<Outcome>> {
    let args = task.args;
    let (mut outcomes, mut whole) = (Vec::new(), 0);
    for number in 1..=args.runs {
        if number > 1 && args.format == BootFormat::Table {
            output.say("\n")?;
        }
        let Some(outcome) = once::boot(task, number, output)? else { return Ok(Vec::new()) };
        // What does not come to its end once will not twice, and a signal is for all of them.
        let ended_well = outcome.end.is_success() && !waits(args) && !outcome.interrupted;
        let is_whole = outcome.seen_end || ended_well;
        let go_on = is_whole && !outcome.interrupted;
        whole += usize::from(is_whole);
        outcomes.push(outcome);
        if !go_on {
            break;
        }
    }
    if whole > 1 && args.format == BootFormat::Table {
        output.say(&spread(&outcomes[..whole]))?;
    }
    Ok(outcomes)
}

/// Returns true if something was asked for that the boot is to end with.
fn waits(args: &cli::Boot) -> bool {
    args.until.is_some() || args.until_mark.is_some()
}

/// Exit status for the last boot.
fn code(args: &cli::Boot, last: &Outcome, complete: bool) -> anyhow::Result<ExitCode> {
    if last.seen_end {
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

/// Medians, least and most, of several boots.
fn spread(outcomes: &[Outcome]) -> String {
    let exits = Summary::of(outcomes.iter().map(|outcome| float(outcome.exits)));
    let times = Summary::of(outcomes.iter().map(|outcome| outcome.length.as_secs_f64() * 1e9));
    let of = |summary: Option<Summary>, show: fn(f64) -> String| {
        let Summary { least, median, most, .. } = summary.unwrap_or_default();
        format!("{} ({} to {})", show(median), show(least), show(most))
    };
    format!(
        "\n{} boots: exits {}, time {}: the median, the least and the most.\n",
        outcomes.len(),
        of(exits, compare::figure_count),
        of(times, compare::figure_time),
    )
}
