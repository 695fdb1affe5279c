//! `exitscope boot`.

use super::counting::{Counting, End, Plan, Times};
use super::output::Output;
use super::tell;
use super::terminal::Terminal;
use super::watch::Watch;
use crate::boot::console::{Console, Line};
use crate::boot::life::Life;
use crate::boot::phase::{FIRST, LOGIN, Rules};
use crate::boot::series::Series;
use crate::cli;
use crate::model::{Interval, Side, float};
use crate::view::{self, compare, text};
use regex::Regex;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a command that is asked to end may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the console has said so far.
struct Heard {
    console: Console,
    rules: Rules,
    until: Regex,
    phase: Option<usize>,
    /// Names of phases that have begun since the last look.
    begun: Vec<String>,
    /// The line that the boot ended with.
    end: Option<String>,
}

impl Heard {
    /// Takes what came; whether that is worth a look.
    fn take(&mut self, at: Duration, bytes: &[u8]) -> bool {
        let Heard { console, rules, until, phase, begun, end } = self;
        let before = begun.len();
        let over = end.is_some();
        console.take(at, bytes, |Line { text, .. }| {
            if end.is_some() {
                return;
            }
            if let Some(next) = rules.next(*phase, text) {
                *phase = Some(next);
                begun.push(rules.name(Some(next)).to_owned());
            }
            if until.is_match(text) {
                *end = Some(text.clone());
            }
        });
        begun.len() > before || end.is_some() != over
    }
}

/// What one boot was.
struct Outcome {
    exits: u64,
    length: Duration,
    seen_end: bool,
    end: End,
}

/// Boots, and tells.
pub fn run(args: &cli::Boot) -> anyhow::Result<ExitCode> {
    let rules = match &args.phases {
        Some(file) => Rules::read(file)?,
        None => Rules::default(),
    };
    let until = match &args.until {
        Some(until) => until.clone(),
        None => Regex::new(LOGIN)?,
    };
    let mut output = Output::open(args.output.as_deref(), true, view::Options::default())?;
    let mut outcomes = Vec::new();
    for number in 1..=args.runs {
        if number > 1 {
            output.say("\n")?;
        }
        let Some(outcome) = once(args, &rules, &until, &mut output)? else { return Ok(ExitCode::SUCCESS) };
        // What does not come to its end once will not twice, and a signal is for all of them.
        let ended_well =
            matches!(outcome.end, End::Command(status) if status.success()) && args.until.is_none();
        let go_on = outcome.seen_end || ended_well;
        outcomes.push(outcome);
        if !go_on {
            break;
        }
    }
    if outcomes.len() > 1 {
        output.say(&spread(&outcomes))?;
    }
    let Some(last) = outcomes.last() else { return Ok(ExitCode::SUCCESS) };
    if last.seen_end {
        return Ok(super::code(output.is_complete()));
    }
    if args.until.is_some() && matches!(last.end, End::Command(status) if status.success()) {
        writeln!(io::stderr(), "exitscope: the command ended, and no line of its console matched {until}")?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(last.end.code(output.is_complete())?)
}

/// One boot; `None` where a signal came before it began.
fn once(
    args: &cli::Boot,
    rules: &Rules,
    until: &Regex,
    output: &mut Output,
) -> anyhow::Result<Option<Outcome>> {
    let Some(mut counting) = Plan::new(&args.watch, &args.command)?.start()? else { return Ok(None) };
    let heard = Arc::new(Mutex::new(Heard {
        console: Console::default(),
        rules: rules.clone(),
        until: until.clone(),
        phase: None,
        begun: Vec::new(),
        end: None,
    }));
    let mut terminal = Terminal::open()?;
    // What happened until now is no part of the boot, and there was nothing to watch.
    counting.watch.next()?;
    let start = Instant::now();
    counting.start_command_alone(|command| terminal.attach(command))?;
    let (waker, listening) = (counting.waker(), Arc::clone(&heard));
    terminal.pass_through(move |bytes| {
        if lock(&listening).take(start.elapsed(), bytes) {
            waker.wake();
        }
    })?;

    let mut series = Series::new(FIRST);
    let mut whole: Option<Interval> = None;
    let mut take = |watch: &mut Watch, series: &mut Series| -> anyhow::Result<()> {
        let interval = watch.next()?;
        series.add(&interval);
        Interval::append(&mut whole, interval);
        Ok(())
    };
    let times = Times { duration: None, interval: Some(args.interval) };
    let end = counting.until_end(times, |watch, _| {
        take(watch, &mut series)?;
        let mut heard = lock(&heard);
        heard.begun.drain(..).for_each(|phase| series.begin(&phase));
        Ok(if heard.end.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let seen_end = lock(&heard).end.clone();
    if seen_end.is_none() {
        counting.farewell(|watch| take(watch, &mut series))?;
    }
    let explanation = counting.watch.explanation();
    let is_over = |end| matches!(end, End::Command(_));
    if seen_end.is_some() && !is_over(end) && !(args.keep && is_over(counting.wait_for_command())) {
        stop(&counting)?;
    }
    drop(terminal);

    let (console, left_out) = std::mem::take(&mut lock(&heard).console).finish();
    let words = match &seen_end {
        Some(line) => format!("\"{}\" on the console", text::clean(line.trim(), 60)),
        None if matches!(end, End::Command(_)) => "the command's end".to_owned(),
        None => "a signal".to_owned(),
    };
    let outcome = Outcome {
        exits: series.whole().exits,
        length: series.whole().length,
        seen_end: seen_end.is_some(),
        end,
    };
    if args.output.is_none() {
        // A prompt has not ended its line.
        output.say("\n")?;
    }
    if let Some(whole) = whole {
        output.explain(explanation);
        output.write(&whole)?;
        let life = Life { console, left_out, ..Life::new(whole, series, words) };
        output.say(&tell::life(&life, output.width()))?;
    }
    Ok(Some(outcome))
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    // Whoever panicked left it whole: a line is taken or not.
    heard.lock().unwrap_or_else(PoisonError::into_inner)
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
    let exits = Side::of(outcomes.iter().map(|outcome| float(outcome.exits)).collect());
    let times = Side::of(outcomes.iter().map(|outcome| outcome.length.as_secs_f64() * 1e9).collect());
    let of = |side: Side, show: fn(f64) -> String| {
        format!("{} ({} to {})", show(side.median), show(side.least), show(side.most))
    };
    format!(
        "\n{} boots: exits {}, time {}: the median, the least and the most.\n",
        outcomes.len(),
        of(exits, compare::figure_count),
        of(times, compare::figure_time),
    )
}
