//! `exitscope kmsg`.

use super::select;
use crate::cli;
use crate::engine::sinks::KernelLog;
use crate::engine::{Events, Session, Sinks, Times};
use std::process::ExitCode;
use std::time::Duration;

/// Time between two looks whether enough exits have happened.
const INTERVAL: Duration = Duration::from_millis(50);

/// Writes the statistics to the kernel log.
///
/// # Errors
/// If nothing can be counted, or the kernel log cannot be written.
pub fn run(args: &cli::Kmsg) -> anyhow::Result<ExitCode> {
    let options = select::options(&args.watch, &[])?;
    let events = Events::listen()?;
    let mut log = KernelLog::open(args.every, args.max_lines)?;
    let Some(mut session) = Session::start(&options, &[], events)? else { return Ok(ExitCode::SUCCESS) };
    let times = Times { duration: args.duration, interval: Some(INTERVAL) };
    session.run(times, &mut Sinks::default().required(&mut log))?;
    Ok(ExitCode::SUCCESS)
}
