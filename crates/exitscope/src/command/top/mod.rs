//! `exitscope top`: all VMs live in the terminal, or a recording.

mod replay;
mod run;
mod screen;

use super::{recorder, report, select};
use crate::cli;
use crate::command::choose::Named;
use crate::engine::{Events, Sampler};
use crate::top::{Mode, Replay, State};
use exitscope_analysis::advice::Host;
use exitscope_record::Recording;
use exitscope_view::text;
use replay::Cursor;
use run::{Run, Source};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Length of an interval unless another is asked for, and the longest that one of a recording is shown by itself.
const DELAY: Duration = Duration::from_secs(1);

/// Length of the first interval, at most: there is something to see soon.
const FIRST: Duration = Duration::from_millis(250);

/// Shows until it is asked to stop.
///
/// # Errors
/// If there is no terminal, nothing can be counted, or the recording cannot be read.
pub fn run(args: &cli::Top) -> anyhow::Result<ExitCode> {
    screen::check()?;
    match &args.file {
        Some(file) => replay(args, file),
        None => live(args),
    }
}

fn live(args: &cli::Top) -> anyhow::Result<ExitCode> {
    let options = select::narrowed(&args.watch, &args.choose, &[])?;
    let events = Events::listen()?;
    let Some(sampler) = Sampler::start(&options, &events, true)? else { return Ok(ExitCode::SUCCESS) };
    let delay = args.interval.unwrap_or(DELAY);
    let mut state = State::new(Mode::Live, delay);
    state.host = Host::from(&recorder::about(&[], delay, &sampler));
    let first = Instant::now() + delay.min(FIRST);
    Run { source: Source::Live(Box::new(sampler)), state, next: Some(first), pace: None }.until_end(&events)
}

fn replay(args: &cli::Top, file: &Path) -> anyhow::Result<ExitCode> {
    let mut recording = Recording::open(file)?;
    recording.choose(args.choose.filter());
    let (.., length) = recording.span()?;
    let named = Named::new(&args.watch.pid, &args.watch.guest);
    named.check(file, recording.vms())?;
    let name = file.file_name().map_or(String::new(), |name| text::clean(&name.to_string_lossy(), 60));
    let count = recording.len();
    let explanation = report::explanation(&recording);
    let host = Host::from(recording.about());
    let events = Events::listen()?;
    let (cursor, rates) = Cursor::open(recording, move |vm| named.has(vm))?;
    let replay = Replay { name, count, length, rates, ..Replay::default() };
    let mut state = State::new(Mode::Replay(replay), args.interval.unwrap_or(DELAY));
    state.host = host;
    state.explanation = explanation;
    let mut run = Run { source: Source::Replay(Box::new(cursor)), state, next: None, pace: args.interval };
    run.go(0)?;
    run.until_end(&events)
}
