//! `exitscope stat`.

use super::events::{Event, Events};
use super::output::Output;
use super::watch::{self, Watch};
use crate::cli;
use crate::collect::Select;
use crate::model::{By, Interval};
use crate::view::{self, Format};
use signal_hook::consts::SIGTERM;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// How often to look where nobody asks: VMs that ended give their place in the tables back then.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How long the kernel is given to take a VM apart whose process has ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// The command after `--` cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program:?}: {cause}")]
pub struct CannotRun {
    program: OsString,
    cause: io::Error,
}

impl CannotRun {
    /// The exit status for it, as shells have it.
    pub fn code(&self) -> u8 {
        if self.cause.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

/// Counts, and prints.
pub fn run(args: &cli::Stat) -> anyhow::Result<ExitCode> {
    let beside_command = !args.command.is_empty();
    let select = if beside_command { Select::Descendants } else { watch::select(&args.watch)? };
    let events = Events::listen()?;
    let by = args.by.unwrap_or(if args.format == Format::Table { By::default() } else { By::ALL });
    let options = view::Options { format: args.format, by, sort: args.sort, ..view::Options::default() };
    // Before anything is counted: an hour of counting for a file that cannot be written would be lost.
    let output = Output::open(args.output.as_deref(), beside_command, options)?;
    let Some(mut watch) = Watch::start(&watch::options(&args.watch, select), &events, !beside_command)?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let child = if beside_command { Some(start_command(args, &mut watch, &events)?) } else { None };

    let mut run = Run { args, watch, output, block: None, blocks: 0, whole: None };
    let end = run.count(&events, child)?;
    run.finish(beside_command)?;
    Ok(match end {
        End::Command(status) if !status.success() => exit_code(status),
        End::Abandoned(signal) => {
            writeln!(io::stderr(), "exitscope: stopped by a second signal; the command runs on")?;
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
        }
        End::Command(_) | End::Asked => super::code(run.output.is_complete()),
    })
}

/// Starts the command. Its VMs are watched because this process is while it forks.
fn start_command(args: &cli::Stat, watch: &mut Watch, events: &Events) -> anyhow::Result<libc::pid_t> {
    let mut words = args.command.iter();
    let program = words.next().cloned().unwrap_or_default();
    let started = Command::new(&program).args(words).spawn();
    let child = started.map_err(|cause| CannotRun { program, cause })?;
    watch.stop_following()?;
    let pid = libc::pid_t::try_from(child.id())?;
    events.watch(child)?;
    Ok(pid)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// What ended the counting.
enum End {
    /// The time was over, or a signal came.
    Asked,
    /// The command ended.
    Command(ExitStatus),
    /// A second signal came, and the command had not ended.
    Abandoned(i32),
}

struct Run<'a> {
    args: &'a cli::Stat,
    watch: Watch,
    output: Output,
    /// What happened since the last block that was printed.
    block: Option<Interval>,
    /// How many blocks there were.
    blocks: u64,
    /// What happened since the start, where that is to be printed: it grows with every VM that there ever was.
    whole: Option<Interval>,
}

impl Run<'_> {
    /// Counts until it is time to stop.
    fn count(&mut self, events: &Events, child: Option<libc::pid_t>) -> anyhow::Result<End> {
        let start = Instant::now();
        let end = self.args.duration.map(|duration| start + duration);
        let mut block_end = self.args.interval.map(|interval| start + interval);
        let mut look = start + HOUSEKEEPING;
        let mut asked_to_stop = 0;
        loop {
            let next = [Some(look), end, block_end].into_iter().flatten().min().unwrap_or(look);
            let event = events.until(next);
            if event == Event::Time {
                self.look()?;
                let now = Instant::now();
                look = now + HOUSEKEEPING;
                if let (Some(moment), Some(interval)) = (block_end, self.args.interval)
                    && now >= moment
                {
                    self.print_block()?;
                    // Where a look took longer than an interval, the next block is longer, not late for ever.
                    let periods = (now - moment).as_nanos() / interval.as_nanos() + 1;
                    block_end = Some(moment + interval * u32::try_from(periods).unwrap_or(u32::MAX));
                }
                if end.is_some_and(|end| now >= end) {
                    return Ok(End::Asked);
                }
                continue;
            }
            match (event, child) {
                (Event::Ended(status), _) => return Ok(End::Command(status)),
                (_, None) => return Ok(End::Asked),
                (Event::Signal(signal), Some(child)) => {
                    // A terminal sends Ctrl-C to the command too, and it is the command that ends us.
                    if signal == SIGTERM {
                        // SAFETY: a plain system call. The process is our child, whose end we have not heard of.
                        unsafe { libc::kill(child, SIGTERM) };
                    }
                    asked_to_stop += 1;
                    if asked_to_stop > 1 {
                        return Ok(End::Abandoned(signal));
                    }
                }
                (Event::Time, _) => {}
            }
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let mut interval = self.watch.next()?;
        if let Some(vcpus) = &self.args.vcpu {
            interval.retain(|_, vcpu| vcpus.0.contains(&vcpu));
        }
        match &mut self.block {
            Some(block) => block.extend(&interval),
            none => *none = Some(interval),
        }
        Ok(())
    }

    fn print_block(&mut self) -> io::Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        // What is known about the numbers changes as VMs come and go.
        self.output.explain(self.watch.explanation());
        self.blocks += 1;
        let in_blocks = self.args.interval.is_some();
        if in_blocks {
            self.output.write(&block)?;
        }
        // Machines add up for themselves; people like to see the whole.
        if !in_blocks || self.args.format == Format::Table {
            match &mut self.whole {
                Some(whole) => whole.extend(&block),
                none => *none = Some(block),
            }
        }
        Ok(())
    }

    /// Prints what is left to print.
    fn finish(&mut self, beside_command: bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + FAREWELL;
        self.look()?;
        while beside_command && self.watch.live_vms() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            self.look()?;
        }
        let live = self.watch.live_vms();
        if beside_command && live > 0 {
            let vms = view::unit::counted(live as u64, "VM");
            writeln!(io::stderr(), "exitscope: {vms} of the command still there; counted up to now")?;
        }
        self.print_block()?;
        // One block was the whole.
        if let Some(whole) = self.whole.take_if(|_| self.args.interval.is_none() || self.blocks > 1) {
            self.output.write(&whole)?;
        }
        Ok(())
    }
}
