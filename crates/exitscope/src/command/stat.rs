//! `exitscope stat`.

use super::select;
use crate::cli;
use crate::engine::sinks::{Blocks, Output};
use crate::engine::{Events, Session, Sinks, Times};
use exitscope_view::Format;
use std::process::ExitCode;

/// Counts, and prints.
///
/// # Errors
/// If nothing can be counted, the command cannot be run, or the report cannot be written anywhere.
pub fn run(args: &cli::Stat) -> anyhow::Result<ExitCode> {
    let options = select::options(&args.watch, &args.command)?;
    let events = Events::listen()?;
    // Before anything is counted: an hour of counting for a file that cannot be written would be lost.
    let output = Output::open(
        args.print.output.as_deref(),
        !args.command.is_empty(),
        args.print.options(args.format),
    )?;
    let each = args.interval.is_some();
    // Machines add up for themselves; people like to see the whole.
    let sum = !each || args.format == Format::Table;
    let vcpus = args.vcpu.as_ref().map(|numbers| numbers.0.clone());
    let mut blocks = Blocks::new(output, vcpus, each, sum);

    let Some(mut session) = Session::start(&options, &args.command, events)? else {
        return Ok(ExitCode::SUCCESS);
    };
    session.start_command()?;
    let times = Times { duration: args.duration, interval: args.interval };
    let end = session.run(times, &mut Sinks::default().required(&mut blocks))?;
    Ok(end.code(blocks.output.is_complete())?)
}
