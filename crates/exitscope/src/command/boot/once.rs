//! One boot: counted, recorded if that was asked for, and reported.

use super::{Task, recording_file};
use crate::cli::BootFormat;
use crate::command::{page, recorder, select, summary};
use crate::engine::sinks::{BootLog, Output, Recording};
use crate::engine::{End, Events, Session, Sinks, Terminal, Times};
use exitscope_analysis::advice::Host;
use exitscope_analysis::boot_report::BootReport;
use exitscope_analysis::outcome::{Evidence, Kind, Outcome};
use exitscope_collect::Options;
use exitscope_record::{About, Error, Writer};
use exitscope_view::report::Format;
use exitscope_view::{self as view, Explanation};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

/// Time that a command gets which is asked to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Result of one boot.
pub struct Boot {
    pub exits: u64,
    pub length: Duration,
    pub outcome: Option<Outcome>,
    pub end: End,
    /// A signal came.
    pub interrupted: bool,
    /// It was recorded, if that was asked for.
    pub recorded: bool,
}

impl Boot {
    /// Returns the outcome in one word.
    pub fn kind(&self) -> Kind {
        self.outcome.as_ref().map_or(Kind::Ended, |outcome| outcome.kind)
    }

    /// Returns true if medians are made of this boot. Where nothing is waited for, the end of the command is as good.
    pub fn is_whole(&self, waits: bool) -> bool {
        match self.kind() {
            Kind::Reached => true,
            Kind::Ended => !waits && self.end.is_success(),
            Kind::Failed | Kind::BeganAgain | Kind::TimedOut | Kind::Interrupted => false,
        }
    }

    /// Returns true if the machine itself did not come up, which another boot may.
    pub fn has_failed(&self) -> bool {
        matches!(self.kind(), Kind::Failed | Kind::BeganAgain | Kind::TimedOut)
    }
}

/// Boots once. Returns `None` if a signal came before it began.
pub fn boot(task: &Task<'_>, number: u32, output: &mut Output) -> anyhow::Result<Option<Boot>> {
    let args = task.args;
    let options = Options { guest: true, ..select::options(&args.watch, &args.command)? };
    let Some(mut session) = Session::start(&options, &args.command, Events::listen()?)? else {
        return Ok(None);
    };
    let mut terminal = Terminal::open()?;
    let about = recorder::about(&args.command, args.interval, session.sampler());
    let create = |file: PathBuf| Writer::create(&file, args.force, &about).map(Recording::new);
    let mut recording = recording_file(args, number).map(create).transpose()?;
    // What happened until now is no part of the boot, and there was nothing to count.
    session.begin_here()?;
    recorder::listen_for_marks(&mut session);
    session.until_mark(args.until_mark.clone());
    if !super::waits(args) {
        session.until_login();
    }
    if !io::stdin().is_terminal() {
        // Nobody is there to mend what has failed.
        session.until_failed();
    }
    if let Err(error) = session.start_command_on(&mut terminal, task.rules.clone(), args.until.clone()) {
        recording.map(Recording::discard).transpose()?;
        return Err(error);
    }

    let mut log = BootLog::default();
    let mut sinks = Sinks::default();
    if let Some(recording) = &mut recording {
        sinks = sinks.optional(recording);
    }
    sinks = sinks.required(&mut log);
    let end = session.run(Times { duration: args.timeout, interval: Some(args.interval) }, &mut sinks)?;
    let failed = sinks.into_failed();
    let found = session.found();
    let explanation = session.sampler().explanation();
    let outcome = session.outcome(end, log.last_line());
    if end == End::Asked && !(args.keep && session.wait_for_command().is_command()) {
        session.stop_command(PATIENCE)?;
    }
    drop(terminal);

    let words = found.unwrap_or_else(|| {
        let words = match end {
            End::Command(_) => "the command's end",
            End::Asked if session.has_failed() => "the failure",
            End::Asked => "the time was over",
            End::Abandoned(_) => "a signal",
        };
        words.to_owned()
    });
    if args.output.is_none() && args.format == BootFormat::Table {
        // A prompt has not ended its line.
        output.say("\n")?;
    }
    let recorded = match (failed, recording) {
        (Some(error), _) => {
            recorder::say(&format!("{error:#}; the boot went on, unrecorded"))?;
            false
        }
        (None, Some(recording)) => {
            let told = outcome.as_ref().map(|outcome| (outcome, session.evidence()));
            end_recording(recording.into_writer(), &words, end, told)?
        }
        (None, None) => true,
    };
    let interrupted = session.was_interrupted();
    let report_on = log.report(words).map(|report| BootReport {
        outcome: outcome.clone(),
        evidence: session.evidence().to_vec(),
        ..report
    });
    let mut result = Boot { exits: 0, length: Duration::ZERO, outcome, end, interrupted, recorded };
    if let Some(mut boot) = report_on {
        let whole = boot.series.whole();
        (result.exits, result.length) = (whole.exits, whole.length);
        boot.advise(&Host::from(&about));
        report(task, &boot, &about, &explanation, output)?;
    }
    Ok(Some(result))
}

fn report(
    task: &Task<'_>,
    boot: &BootReport,
    about: &About,
    explanation: &Explanation,
    output: &mut Output,
) -> anyhow::Result<()> {
    match task.args.format {
        BootFormat::Table => {
            output.explain(explanation.clone());
            output.write(&boot.whole)?;
            output.say(&summary::boot_report(boot, output.width()))?;
        }
        BootFormat::Json => output.say(&view::boot_report::render(boot)?)?,
    }
    match &task.args.html {
        Some(file) => page::write(Format::Html, false, (boot, about, explanation), Some(file)),
        None => Ok(()),
    }
}

/// Ends a recording. If that fails, says so and returns false: the boot is reported all the same.
fn end_recording(
    mut writer: Writer,
    words: &str,
    end: End,
    told: Option<(&Outcome, &[Evidence])>,
) -> io::Result<bool> {
    let how = match end {
        End::Asked => format!("with {words}"),
        end => end.words(),
    };
    let ended: Result<(), Error> = writer
        .until(words)
        .and_then(|()| told.map_or(Ok(()), |(outcome, evidence)| writer.outcome(outcome, evidence)))
        .and_then(|()| writer.finish(&how));
    match ended {
        Ok(()) => Ok(true),
        Err(error) => recorder::say(&format!("{error:#}")).map(|()| false),
    }
}
