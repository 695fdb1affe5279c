//! `exitscope record`.

use crate::cli;
use crate::engine::console::Listener;
use crate::engine::counting::{Counting, End, Plan, Times};
use crate::engine::inbox::Inbox;
use crate::engine::progress::Progress;
use crate::engine::session::{self, Session};
use crate::engine::terminal::Terminal;
use exitscope_analysis::phase::Rules;
use exitscope_analysis::phase_detector::PhaseDetector;
use exitscope_record::{self as record, Writer};
use exitscope_view::{text, unit};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

/// Counts, and records.
pub fn run(args: &cli::Record) -> anyhow::Result<ExitCode> {
    let rules = Rules::of(args.phases.as_deref())?;
    let plan = Plan::new(&args.watch, &args.command)?.with_guest(args.console);
    // Before KVM is waited for, and before anything is lost.
    Writer::check(&args.output, args.force)?;
    let terminal = if args.console { Some(Terminal::open()?) } else { None };
    let Some(mut counting) = plan.start()? else { return Ok(ExitCode::SUCCESS) };
    // Only now, when it counts: an older recording is not given up for one that never begins.
    let about = session::about(&args.command, args.interval, &counting.watch);
    let mut session = Session::new(counting.watch.monotonic_ns(), inbox(&counting));
    session.writer = Some(Writer::create(&args.output, args.force, &about)?);
    let mut run = Run {
        session,
        // The terminal is the command's.
        progress: Progress::start(!args.command.is_empty()),
        terminal,
    };
    if let Err(error) = run.start(&mut counting, rules) {
        run.terminal = None;
        return match run.session.writer.map(Writer::discard).transpose() {
            Ok(_) => Err(error),
            Err(left) => Err(left.into()),
        };
    }
    let end = match run.record(args, &mut counting) {
        Ok(end) => end,
        // What runs beside is not ours to end, and the VMs in it least of all.
        Err(error) if error.is::<record::Error>() && !args.command.is_empty() => {
            run.progress.clear();
            run.session.writer = None;
            run.session.close();
            tell(&format!("{error:#}; the command runs on, unrecorded"))?;
            return Ok(counting.wait_for_command().code(false)?);
        }
        Err(error) => {
            run.progress.clear();
            return Err(error);
        }
    };
    run.finish(args, &end)?;
    Ok(end.code(true)?)
}

/// Where marks by hand come to; without one, that is said.
pub fn inbox(counting: &Counting<'_>) -> Option<Inbox> {
    match Inbox::open(counting.waker()) {
        Ok(inbox) => Some(inbox),
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = tell(&format!("no marks by hand in this recording: {error:#}"));
            None
        }
    }
}

fn tell(message: &str) -> io::Result<()> {
    writeln!(io::stderr(), "exitscope: {}", text::clean(message, 2000))
}

struct Run {
    session: Session,
    progress: Progress,
    /// The command's, where its console is heard.
    terminal: Option<Terminal>,
}

impl Run {
    fn start(&mut self, counting: &mut Counting<'_>, rules: Rules) -> anyhow::Result<()> {
        let Some(terminal) = &mut self.terminal else { return counting.start_command() };
        counting.start_command_alone(|command| terminal.attach(command))?;
        let (origin, waker) = (self.session.origin_ns(), counting.waker());
        let listener = Listener::start(terminal, origin, rules.clone(), None, waker)?;
        self.session.listen(listener, PhaseDetector::new(rules));
        Ok(())
    }

    fn record(&mut self, args: &cli::Record, counting: &mut Counting<'_>) -> anyhow::Result<End> {
        let times = Times { duration: args.duration, interval: Some(args.interval) };
        let Run { session, progress, .. } = self;
        let end = counting.until_end(times, |watch, complete| {
            session.look(watch, complete)?;
            progress.tell(session.exits, || session.writer.as_ref().map_or(0, Writer::size));
            Ok(ControlFlow::Continue(()))
        })?;
        counting.farewell(|watch| session.look(watch, false).map(drop))?;
        session.finish(&mut counting.watch, matches!(end, End::Command(_)))?;
        Ok(end)
    }

    fn finish(mut self, args: &cli::Record, end: &End) -> anyhow::Result<()> {
        self.progress.clear();
        self.terminal = None;
        let Some(writer) = self.session.writer.take() else { return Ok(()) };
        let intervals = writer.intervals();
        writer.finish(&end.words())?;
        let size = std::fs::metadata(&args.output).map_or(0, |file| file.len());
        let time = unit::duration(self.session.time);
        let exits = unit::counted(self.session.exits, "exit");
        let (intervals, size) = (unit::counted(intervals, "interval"), unit::bytes(size));
        tell(&format!("recorded {exits} in {time} into {} ({intervals}, {size})", args.output.display()))?;
        Ok(())
    }
}
