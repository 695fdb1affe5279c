//! `exitscope kmsg`.

use crate::cli;
use crate::engine::events::{Event, Events};
use crate::engine::watch::{self, Watch};
use anyhow::Context;
use exitscope_model::Interval;
use exitscope_view as view;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often to look whether enough exits have happened.
const LOOK: Duration = Duration::from_millis(50);

/// The kernel takes ten lines in five seconds from each open /dev/kmsg and drops the rest (`devkmsg_write` and
/// DEFAULT_RATELIMIT_BURST, kernel/printk/printk.c); how much we write is bounded by --max-lines instead.
const LINES_AT_ONCE: usize = 8;

/// Writes the statistics to the kernel log.
pub fn run(args: &cli::Kmsg) -> anyhow::Result<ExitCode> {
    let select = watch::select(&args.watch)?;
    let events = Events::listen()?;
    open()?;
    let Some(mut watch) = Watch::start(&watch::options(&args.watch, select), &events, true)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let end = args.duration.map(|duration| Instant::now() + duration);
    let mut whole = watch.next()?;
    let mut next = args.every;
    let mut quiet_until = Instant::now();
    let mut written = 0;
    loop {
        let stop = events.within(LOOK) != Event::Time || end.is_some_and(|end| Instant::now() >= end);
        whole.extend(&watch.next()?);
        let exits = whole.exits();
        if exits >= next && Instant::now() >= quiet_until {
            let lines = write(&whole)?;
            written = exits;
            next = (exits / args.every + 1) * args.every;
            quiet_until = Instant::now() + Duration::from_secs(1) * u32::try_from(lines)? / args.max_lines;
        }
        if stop {
            if exits > written {
                write(&whole)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn open() -> anyhow::Result<std::fs::File> {
    OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .context("cannot write to the kernel log /dev/kmsg; run this as root")
}

fn write(whole: &Interval) -> anyhow::Result<usize> {
    let lines = view::kmsg::lines(whole);
    for some in lines.chunks(LINES_AT_ONCE) {
        let mut log = open()?;
        for line in some {
            // One write is one record.
            log.write_all(format!("{line}\n").as_bytes()).context("cannot write to /dev/kmsg")?;
        }
    }
    Ok(lines.len())
}
