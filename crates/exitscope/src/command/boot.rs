//! `exitscope boot`.

use super::record::inbox;
use super::{page, summary};
use crate::cli::{self, BootFormat};
use crate::engine::console::Listener;
use crate::engine::counting::{Counting, End, Plan, Times};
use crate::engine::output::Output;
use crate::engine::session::{self, Session};
use crate::engine::terminal::Terminal;
use exitscope_analysis::phase::{LOGIN, Rules};
use exitscope_analysis::phase_detector::PhaseDetector;
use exitscope_model::{Summary, float};
use exitscope_record::{self as record, Writer};
use exitscope_view::report::Format;
use exitscope_view::{self as view, compare, text};
use regex::Regex;
use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long a command that is asked to end may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one boot was.
struct Outcome {
    exits: u64,
    length: Duration,
    seen_end: bool,
    end: End,
    /// A signal came.
    interrupted: bool,
    /// It was recorded, if that was asked for.
    recorded: bool,
}

/// What is the same for all boots.
struct Asked<'a> {
    args: &'a cli::Boot,
    rules: Rules,
    /// The line that a boot ends with.
    until: Option<Regex>,
}

/// Boots, and tells.
pub fn run(args: &cli::Boot) -> anyhow::Result<ExitCode> {
    let rules = Rules::of(args.phases.as_deref())?;
    let until = match (&args.until, &args.until_mark) {
        (Some(until), _) => Some(until.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(Regex::new(LOGIN)?),
    };
    let asked = Asked { args, rules, until };
    for number in 1..=args.runs {
        if let Some(file) = file(args, number) {
            Writer::check(&file, args.force)?;
        }
    }
    if let Some(file) = &args.html {
        page::check_file(file)?;
    }
    let options = view::Options { answered: true, ..view::Options::default() };
    let mut output = Output::open(args.output.as_deref(), true, options)?;
    let (mut outcomes, mut wholes) = (Vec::new(), 0);
    let waits = args.until.is_some() || args.until_mark.is_some();
    for number in 1..=args.runs {
        if number > 1 && args.format == BootFormat::Table {
            output.say("\n")?;
        }
        let Some(outcome) = once(&asked, number, &mut output)? else { return Ok(ExitCode::SUCCESS) };
        // What does not come to its end once will not twice, and a signal is for all of them.
        let ended_well = matches!(outcome.end, End::Command(status) if status.success()) && !waits;
        let whole = outcome.seen_end || ended_well && !outcome.interrupted;
        let go_on = whole && !outcome.interrupted;
        wholes += usize::from(whole);
        outcomes.push(outcome);
        if !go_on {
            break;
        }
    }
    if wholes > 1 && args.format == BootFormat::Table {
        output.say(&spread(&outcomes[..wholes]))?;
    }
    let complete = output.is_complete() && outcomes.iter().all(|outcome| outcome.recorded);
    let Some(last) = outcomes.last() else { return Ok(ExitCode::SUCCESS) };
    if last.seen_end {
        return Ok(super::code(complete));
    }
    if waits && matches!(last.end, End::Command(status) if status.success()) {
        let line = args.until.as_ref().map(|until| format!("no line of its console matched {until}"));
        let mark = args.until_mark.as_ref().map(|until| format!("no mark matched {until}"));
        let missed: Vec<String> = line.into_iter().chain(mark).collect();
        writeln!(io::stderr(), "exitscope: the command ended, and {}", missed.join(", and "))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(last.end.code(complete)?)
}

/// Where a boot is recorded.
fn file(args: &cli::Boot, number: u32) -> Option<PathBuf> {
    let mut name: OsString = args.record.as_ref()?.into();
    if args.runs > 1 {
        name.push(format!("-{number}"));
    }
    Some(name.into())
}

/// One boot; `None` where a signal came before it began.
fn once(asked: &Asked<'_>, number: u32, output: &mut Output) -> anyhow::Result<Option<Outcome>> {
    let args = asked.args;
    let plan = Plan::new(&args.watch, &args.command)?.with_guest(true);
    let Some(mut counting) = plan.start()? else { return Ok(None) };
    let mut terminal = Terminal::open()?;
    let file = file(args, number);
    let about = session::about(&args.command, args.interval, &counting.watch);
    let mut writer = file.as_ref().map(|file| Writer::create(file, args.force, &about)).transpose()?;
    // What happened until now is no part of the boot, and there was nothing to watch.
    counting.watch.next()?;
    counting.watch.take_marks()?;
    let mut session = Session::new(counting.watch.monotonic_ns(), inbox(&counting));
    if let Err(error) = counting.start_command_alone(|command| terminal.attach(command)) {
        writer.take().map(Writer::discard).transpose()?;
        return Err(error);
    }
    session.writer = writer;
    session.keep();
    session.until_mark(args.until_mark.clone());
    let (rules, waker) = (asked.rules.clone(), counting.waker());
    let listener =
        Listener::start(&mut terminal, session.origin_ns(), rules.clone(), asked.until.clone(), waker)?;
    session.listen(listener, PhaseDetector::new(rules));

    let times = Times { duration: None, interval: Some(args.interval) };
    let end = counting.until_end(times, |watch, complete| {
        let over = session.look(watch, complete)?;
        Ok(if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let is_over = |end| matches!(end, End::Command(_));
    let mut found = session.found();
    if found.is_none() {
        counting.farewell(|watch| session.look(watch, false).map(drop))?;
        session.finish(&mut counting.watch, is_over(end))?;
        // It may have been the last thing that came.
        found = session.found();
    } else {
        session.finish(&mut counting.watch, false)?;
    }
    let explanation = counting.watch.explanation();
    if found.is_some() && !is_over(end) && !(args.keep && is_over(counting.wait_for_command())) {
        stop(&counting)?;
    }
    drop(terminal);

    let words = match &found {
        Some(found) => found.clone(),
        None if is_over(end) => "the command's end".to_owned(),
        None => "a signal".to_owned(),
    };
    if args.output.is_none() && args.format == BootFormat::Table {
        // A prompt has not ended its line.
        output.say("\n")?;
    }
    let recorded = match session.writer.take() {
        Some(writer) => end_recording(writer, &words, end)?,
        None => session.failed.is_none(),
    };
    if let Some(error) = &session.failed {
        say(&format!("{error:#}; the boot went on, unrecorded"))?;
    }
    let boot = session.boot_report(words);
    let interrupted = counting.was_interrupted();
    let (seen_end, length) = (found.is_some(), Duration::ZERO);
    let mut outcome = Outcome { exits: 0, length, seen_end, end, interrupted, recorded };
    if let Some(boot) = boot {
        let whole = boot.series.whole();
        (outcome.exits, outcome.length) = (whole.exits, whole.length);
        match args.format {
            BootFormat::Table => {
                output.explain(explanation.clone());
                output.write(&boot.whole)?;
                output.say(&summary::boot_report(&boot, output.width()))?;
            }
            BootFormat::Json => output.say(&view::boot_report::render(&boot)?)?,
        }
        if let Some(file) = &args.html {
            page::write(Format::Html, false, (&boot, &about, &explanation), Some(file))?;
        }
    }
    Ok(Some(outcome))
}

/// Whether the recording could be ended; if not, that is said, and the boot told all the same.
fn end_recording(mut writer: Writer, words: &str, end: End) -> io::Result<bool> {
    let how = match end {
        End::Asked => format!("with {words}"),
        end => end.words(),
    };
    let ended: Result<(), record::Error> = writer.until(words).and_then(|()| writer.finish(&how));
    match ended {
        Ok(()) => Ok(true),
        Err(error) => say(&format!("{error:#}")).map(|()| false),
    }
}

fn say(message: &str) -> io::Result<()> {
    writeln!(io::stderr(), "exitscope: {}", text::clean(message, 2000))
}

/// Asks the command and what it has started to end, and has it ended where it does not.
fn stop(counting: &Counting<'_>) -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        counting.signal(signal);
        if counting.ends_within(PATIENCE) {
            return Ok(());
        }
    }
    writeln!(io::stderr(), "exitscope: the command was killed, and is not gone yet")
}

/// Medians, and least and most, of several boots.
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
