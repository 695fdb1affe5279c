//! `exitscope record`.

use super::{recorder, select};
use crate::cli;
use crate::engine::sinks::Recording;
use crate::engine::{End, Events, Session, Sinks, Terminal, Times};
use anyhow::bail;
use exitscope_collect::Options;
use exitscope_record::{self as record, Keep, Writer};
use exitscope_view::unit;
use std::process::ExitCode;
use std::time::Duration;

/// Time for which intervals are kept as they were recorded, if a recording is thinned at all and nothing else is asked for.
const FULL: Duration = Duration::from_secs(3600);

/// Counts, and records.
///
/// # Errors
/// If nothing can be counted, the command cannot be run, or the file cannot be written.
pub fn run(args: &cli::Record) -> anyhow::Result<ExitCode> {
    if args.full.is_some() && args.keep.is_none() && args.max_size.is_none() {
        bail!(
            "--full says how long intervals are kept before they are thinned: give --keep or --max-size with it"
        );
    }
    let rules = recorder::rules(args.phases.as_deref())?;
    let options =
        Options { guest: args.console, ..select::narrowed(&args.watch, &args.choose, &args.command)? };
    let events = Events::listen()?;
    // Before KVM is waited for, and before anything is lost.
    Writer::check(&args.output, args.force)?;
    let mut terminal = if args.console { Some(Terminal::open()?) } else { None };
    let Some(mut session) = Session::start(&options, &args.command, events)? else {
        return Ok(ExitCode::SUCCESS);
    };
    // Only now, when it counts: an older recording is not given up for one that never begins.
    let about = recorder::about(&args.command, args.interval, session.sampler());
    recorder::listen_for_marks(&mut session);
    let mut writer = Writer::create(&args.output, args.force, &about)?;
    if args.keep.is_some() || args.max_size.is_some() {
        let full = args.full.unwrap_or(FULL);
        writer.keep(Keep { full, keep: args.keep, max_size: args.max_size })?;
    }
    let mut recording = Recording::new(writer)
        // The terminal is the command's.
        .with_progress(!args.command.is_empty());
    let started = match &mut terminal {
        Some(terminal) => session.start_command_on(terminal, rules, None),
        None => session.start_command(),
    };
    if let Err(error) = started {
        recording.discard()?;
        return Err(error);
    }
    let times = Times { duration: args.duration, interval: Some(args.interval) };
    let ended = session.run(times, &mut Sinks::default().required(&mut recording));
    recording.clear_progress();
    match ended {
        Ok(end) => {
            drop(terminal);
            finish(args, recording.into_writer(), &session, end)
        }
        // The command is not ours to end, and the VMs in it least of all.
        Err(error) if error.is::<record::Error>() && !args.command.is_empty() => {
            drop(recording);
            session.stop_marks();
            recorder::say(&format!("{error:#}; the command runs on, unrecorded"))?;
            Ok(session.wait_for_command().code(false)?)
        }
        Err(error) => Err(error),
    }
}

fn finish(args: &cli::Record, writer: Writer, session: &Session<'_>, end: End) -> anyhow::Result<ExitCode> {
    let intervals = writer.intervals();
    writer.finish(&end.words())?;
    let size = std::fs::metadata(&args.output).map_or(0, |file| file.len());
    let time = unit::duration(session.time());
    let exits = unit::counted(session.exits(), "exit");
    let (intervals, size) = (unit::counted(intervals, "interval"), unit::bytes(size));
    let file = args.output.display();
    recorder::say(&format!("recorded {exits} in {time} into {file} ({intervals}, {size})"))?;
    Ok(end.code(true)?)
}
