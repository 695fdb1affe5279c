//! `exitscope stat`.

use super::{recorder, select};
use crate::cli;
use crate::engine::sinks::{Blocks, Output, Whole};
use crate::engine::{Events, Session, Sinks, Times};
use anyhow::{Error, bail};
use exitscope_analysis::advice::Host;
use exitscope_model::Interval;
use exitscope_view::{self as view, Format};
use std::process::ExitCode;
use std::time::Duration;

/// Counts, and prints.
///
/// # Errors
/// If nothing can be counted, the command cannot be run, or the report cannot be written anywhere.
pub fn run(args: &cli::Stat) -> anyhow::Result<ExitCode> {
    args.print.check(args.format).map_err(Error::msg)?;
    if let Some(runs) = args.repeat {
        return repeat(args, runs);
    }
    let options = select::narrowed(&args.watch, &args.choose, &args.command)?;
    let events = Events::listen()?;
    // Before anything is counted: an hour of counting for a file that cannot be written would be lost.
    let output = Output::open(args.print.output.as_deref(), !args.command.is_empty(), view(args))?;
    let each = args.interval.is_some();
    // Machines add up for themselves; people like to see the whole.
    let sum = !each || args.format == Format::Table;
    let vcpus = args.vcpu.as_ref().map(|numbers| numbers.0.clone());
    let mut blocks = Blocks::new(output, vcpus, each, sum);

    let Some(mut session) = Session::start(&options, &args.command, events)? else {
        return Ok(ExitCode::SUCCESS);
    };
    blocks.output.know(Host::from(&recorder::about(&args.command, Duration::ZERO, session.sampler())));
    session.start_command()?;
    let times = Times { duration: args.duration, interval: args.interval };
    let end = session.run(times, &mut Sinks::default().required(&mut blocks))?;
    Ok(end.code(blocks.output.is_complete())?)
}

/// Options of the view.
fn view(args: &cli::Stat) -> view::Options {
    let details = args.watch.details.clone().map_or_else(Vec::new, |kinds| kinds.0);
    view::Options { details, ..args.print.options(args.format, &args.choose) }
}

/// Runs the command so many times, and prints medians and spread. Ends early with a run that fails, and with a signal.
fn repeat(args: &cli::Stat, runs: u32) -> anyhow::Result<ExitCode> {
    if !matches!(args.format, Format::Table | Format::Json) {
        bail!("--repeat prints a table or JSON, and no {}", args.format);
    }
    if args.print.columns.is_some() || args.print.limit.is_some() || args.print.by.is_some() {
        bail!("--repeat prints a row for each reason, and takes no --by, --limit and --columns");
    }
    let mut output = Output::open(args.print.output.as_deref(), true, view(args))?;
    let vcpus = args.vcpu.as_ref().map(|numbers| numbers.0.clone());
    let mut wholes: Vec<Interval> = Vec::new();
    let mut end = None;
    for _ in 0..runs {
        let options = select::narrowed(&args.watch, &args.choose, &args.command)?;
        let Some(mut session) = Session::start(&options, &args.command, Events::listen()?)? else { break };
        session.start_command()?;
        let mut whole = Whole::of(vcpus.clone());
        let ended = session.run(Times::default(), &mut Sinks::default().required(&mut whole))?;
        wholes.extend(whole.sum);
        end = Some(ended);
        if !ended.is_success() || session.was_interrupted() {
            break;
        }
    }
    let Some(end) = end else { return Ok(ExitCode::SUCCESS) };
    let text = match args.format {
        Format::Json => String::from_utf8_lossy(&view::repeat::render_json(&wholes)?).into_owned(),
        _ => view::repeat::render(&wholes, runs, output.width(), output.color()),
    };
    output.say(&text)?;
    Ok(end.code(output.is_complete())?)
}
