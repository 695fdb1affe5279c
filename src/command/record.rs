//! `exitscope record`.

use super::counting::{Counting, Plan, Times};
use super::progress::Progress;
use super::watch::Watch;
use crate::cli;
use crate::collect::host::Machine;
use crate::model::Interval;
use crate::record::{self, About, Notes, Writer};
use crate::view::{text, unit};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

/// Counts, and records.
pub fn run(args: &cli::Record) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(&args.watch, &args.command)?;
    // Before KVM is waited for, and before anything is lost.
    Writer::check(&args.output, args.force)?;
    let Some(mut counting) = plan.start()? else { return Ok(ExitCode::SUCCESS) };
    // Only now, when it counts: an older recording is not given up for one that never begins.
    let writer = Writer::create(&args.output, args.force, &about(args, &counting.watch))?;
    if let Err(error) = counting.start_command() {
        writer.discard()?;
        return Err(error);
    }
    let mut run = Run {
        writer,
        block: None,
        exits: 0,
        length: Duration::ZERO,
        // The terminal is the command's.
        progress: Progress::start(!args.command.is_empty()),
    };
    let end = match run.record(args, &mut counting) {
        Ok(end) => end,
        // What runs beside is not ours to end, and the VMs in it least of all.
        Err(error) if error.is::<record::Error>() && !args.command.is_empty() => {
            run.progress.clear();
            drop(run);
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

fn tell(message: &str) -> io::Result<()> {
    writeln!(io::stderr(), "exitscope: {}", text::clean(message, 2000))
}

fn about(args: &cli::Record, watch: &Watch) -> About {
    let Machine { name, kernel, cpu, cpus, kvm } = Machine::probe();
    About {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        host: name,
        kernel,
        cpu,
        cpus,
        kvm,
        command: args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        interval: args.interval,
        source: watch.source(),
        measured: watch.measured(),
    }
}

struct Run {
    writer: Writer,
    /// What happened since the last interval that was written.
    block: Option<Interval>,
    /// Exits and time of all that was looked at.
    exits: u64,
    length: Duration,
    progress: Progress,
}

impl Run {
    fn record(
        &mut self,
        args: &cli::Record,
        counting: &mut Counting<'_>,
    ) -> anyhow::Result<super::counting::End> {
        let times = Times { duration: args.duration, interval: Some(args.interval) };
        let end = counting.until_end(times, |watch, complete| {
            self.look(watch)?;
            if complete {
                self.write(watch)?;
            }
            self.progress.tell(self.exits, || self.writer.size());
            Ok(ControlFlow::Continue(()))
        })?;
        counting.farewell(|watch| self.look(watch))?;
        self.write(&counting.watch)?;
        Ok(end)
    }

    fn look(&mut self, watch: &mut Watch) -> anyhow::Result<()> {
        let interval = watch.next()?;
        self.exits += interval.exits();
        self.length += interval.length;
        Interval::append(&mut self.block, interval);
        Ok(())
    }

    fn write(&mut self, watch: &Watch) -> anyhow::Result<()> {
        if let Some(block) = self.block.take() {
            self.writer.write(&block, &notes(watch))?;
        }
        Ok(())
    }

    fn finish(mut self, args: &cli::Record, end: &super::counting::End) -> anyhow::Result<()> {
        self.progress.clear();
        let intervals = self.writer.intervals();
        self.writer.finish(&end.words())?;
        let size = std::fs::metadata(&args.output).map_or(0, |file| file.len());
        let time = unit::duration(self.length);
        let (exits, intervals) = (unit::counted(self.exits, "exit"), unit::counted(intervals, "interval"));
        let size = unit::bytes(size);
        tell(&format!("recorded {exits} in {time} into {} ({intervals}, {size})", args.output.display()))?;
        Ok(())
    }
}

fn notes(watch: &Watch) -> Notes {
    let explanation = watch.explanation();
    Notes {
        kvm_counts_fewer: explanation.kvm_counts_fewer,
        kvm_missing: explanation.kvm_missing,
        source: explanation.source,
    }
}
