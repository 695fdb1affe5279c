//! `exitscope stat`.

use crate::cli;
use crate::engine::counting::{Plan, Times};
use crate::engine::output::Output;
use crate::engine::watch::Watch;
use exitscope_model::Interval;
use exitscope_view::Format;
use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;

/// Counts, and prints.
pub fn run(args: &cli::Stat) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(&args.watch, &args.command)?;
    // Before anything is counted: an hour of counting for a file that cannot be written would be lost.
    let output = Output::open(
        args.print.output.as_deref(),
        !args.command.is_empty(),
        args.print.options(args.format),
    )?;
    let Some(mut counting) = plan.start()? else { return Ok(ExitCode::SUCCESS) };
    counting.start_command()?;

    let mut run = Run { args, output, block: None, blocks: 0, whole: None };
    let times = Times { duration: args.duration, interval: args.interval };
    let end = counting.until_end(times, |watch, complete| {
        run.look(watch)?;
        if complete {
            run.print_block(watch)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    counting.farewell(|watch| run.look(watch))?;
    run.finish(&counting.watch)?;
    Ok(end.code(run.output.is_complete())?)
}

struct Run<'a> {
    args: &'a cli::Stat,
    output: Output,
    /// What happened since the last block that was printed.
    block: Option<Interval>,
    /// How many blocks there were.
    blocks: u64,
    /// What happened since the start, where that is to be printed: it grows with every VM that there ever was.
    whole: Option<Interval>,
}

impl Run<'_> {
    fn look(&mut self, watch: &mut Watch) -> anyhow::Result<()> {
        let mut interval = watch.next()?;
        if let Some(vcpus) = &self.args.vcpu {
            interval.retain(|_, vcpu| vcpus.0.contains(&vcpu));
        }
        Interval::append(&mut self.block, interval);
        Ok(())
    }

    fn print_block(&mut self, watch: &Watch) -> io::Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        // What is known about the numbers changes as VMs come and go.
        self.output.explain(watch.explanation());
        self.blocks += 1;
        let in_blocks = self.args.interval.is_some();
        if in_blocks {
            self.output.write(&block)?;
        }
        // Machines add up for themselves; people like to see the whole.
        if !in_blocks || self.args.format == Format::Table {
            Interval::append(&mut self.whole, block);
        }
        Ok(())
    }

    /// Prints what is left to print.
    fn finish(&mut self, watch: &Watch) -> io::Result<()> {
        self.print_block(watch)?;
        // One block was the whole.
        if let Some(whole) = self.whole.take_if(|_| self.args.interval.is_none() || self.blocks > 1) {
            self.output.write(&whole)?;
        }
        Ok(())
    }
}
