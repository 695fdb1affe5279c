//! Counting from the start to the end, beside a command or not: what `stat`, `record` and `boot` have in common.

use super::events::{Event, Events, Waker};
use super::watch::{self, Watch};
use crate::cli;
use exitscope_collect::{Options, Select};
use exitscope_view::unit;
use signal_hook::consts::SIGTERM;
use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::ops::ControlFlow;
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

/// What ended the counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The time was over, or a signal came.
    Asked,
    /// The command ended.
    Command(ExitStatus),
    /// A second signal came, and the command had not ended.
    Abandoned(i32),
}

impl End {
    /// In words, as a recording keeps it.
    pub fn words(self) -> String {
        match self {
            End::Asked => "as asked".into(),
            End::Command(status) => format!("with the command: {status}"),
            End::Abandoned(signal) => format!("by signal {signal}, before the command"),
        }
    }

    /// The exit status for it; `complete` says whether everything else went well.
    pub fn code(self, complete: bool) -> io::Result<ExitCode> {
        Ok(match self {
            End::Command(status) if !status.success() => exit_code(status),
            End::Abandoned(signal) => {
                writeln!(io::stderr(), "exitscope: stopped by a second signal; the command runs on")?;
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
            }
            End::Command(_) | End::Asked => crate::command::code(complete),
        })
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// When to stop, and when to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Stop after this.
    pub duration: Option<Duration>,
    /// A block is complete each time this is over.
    pub interval: Option<Duration>,
}

/// What is to be counted, before anything is.
pub struct Plan<'a> {
    watch: &'a cli::Watch,
    command: &'a [OsString],
    select: Select,
    guest: bool,
    events: Events,
}

impl<'a> Plan<'a> {
    /// Finds what `watch` names, and listens for signals. Where there is a command, its VMs are meant.
    pub fn new(watch: &'a cli::Watch, command: &'a [OsString]) -> anyhow::Result<Plan<'a>> {
        let select = if command.is_empty() { watch::select(watch)? } else { Select::Descendants };
        Ok(Plan { watch, command, select, guest: false, events: Events::listen()? })
    }

    /// The same, and what the guests are doing is looked at too.
    pub fn with_guest(mut self, guest: bool) -> Plan<'a> {
        self.guest = guest;
        self
    }

    /// Starts to count; `None` where a signal came before KVM did.
    pub fn start(self) -> anyhow::Result<Option<Counting<'a>>> {
        let options = Options { guest: self.guest, ..watch::options(self.watch, self.select) };
        let watch = Watch::start(&options, &self.events, self.command.is_empty())?;
        Ok(watch.map(|watch| Counting {
            watch,
            events: self.events,
            command: self.command,
            child: None,
            alone: false,
            interrupted: Cell::new(false),
        }))
    }
}

/// What is counting.
pub struct Counting<'a> {
    /// What counts.
    pub watch: Watch,
    events: Events,
    command: &'a [OsString],
    child: Option<libc::pid_t>,
    /// It has a process group of its own.
    alone: bool,
    interrupted: Cell<bool>,
}

impl Counting<'_> {
    /// Starts the command, if there is one. Its VMs are watched because this process is while it forks.
    pub fn start_command(&mut self) -> anyhow::Result<()> {
        self.start_prepared(|_| Ok(()))
    }

    /// The same of a command that `prepare` puts into a process group of its own, which then hears of signals by us alone.
    pub fn start_command_alone(
        &mut self,
        prepare: impl FnOnce(&mut Command) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        self.alone = true;
        self.start_prepared(prepare)
    }

    fn start_prepared(&mut self, prepare: impl FnOnce(&mut Command) -> io::Result<()>) -> anyhow::Result<()> {
        let mut words = self.command.iter();
        let Some(program) = words.next().cloned() else { return Ok(()) };
        let mut command = Command::new(&program);
        prepare(command.args(words))?;
        let child = command.spawn().map_err(|cause| CannotRun { program, cause })?;
        self.watch.stop_following()?;
        self.child = Some(libc::pid_t::try_from(child.id())?);
        self.events.watch(child)
    }

    /// Sends a signal to the command, and where it has a process group of its own to all of that.
    pub fn signal(&self, signal: i32) {
        let Some(child) = self.child else { return };
        // SAFETY: a plain system call. The process is our child, whose end we have not heard of.
        unsafe { libc::kill(if self.alone { -child } else { child }, signal) };
    }

    /// Where threads can ask for a look.
    pub fn waker(&self) -> Waker {
        self.events.waker()
    }

    /// Whether the command ends within this time, and before a signal comes.
    pub fn ends_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.events.until(deadline) {
                Event::Ended(_) => return true,
                Event::Signal(_) => {
                    self.interrupted.set(true);
                    return false;
                }
                Event::Time => return false,
                Event::Look => {}
            }
        }
    }

    /// Counts until it is time to stop, or until `look` says so. It is called now and then, to take what has happened; with
    /// `true` where a block is complete.
    pub fn until_end(
        &mut self,
        times: Times,
        mut look: impl FnMut(&mut Watch, bool) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<End> {
        let start = Instant::now();
        let end = times.duration.map(|duration| start + duration);
        let mut block_end = times.interval.map(|interval| start + interval);
        let mut next_look = start + HOUSEKEEPING;
        let mut asked_to_stop = 0;
        loop {
            let next = [Some(next_look), end, block_end].into_iter().flatten().min().unwrap_or(next_look);
            let event = self.events.until(next);
            if !matches!(event, Event::Time | Event::Look) {
                match self.stops(event, &mut asked_to_stop) {
                    Some(end) => return Ok(end),
                    None => continue,
                }
            }
            // What was asked for is taken at its time, however long that takes.
            let now = Instant::now();
            let complete = block_end.is_some_and(|moment| now >= moment);
            if look(&mut self.watch, complete)?.is_break() {
                return Ok(End::Asked);
            }
            let now = Instant::now();
            next_look = now + HOUSEKEEPING;
            if let (Some(moment), Some(interval), true) = (block_end, times.interval, complete) {
                // Where a look took longer than an interval, the next block is longer, not late for ever.
                let periods = (now - moment).as_nanos() / interval.as_nanos() + 1;
                block_end = Some(moment + interval * u32::try_from(periods).unwrap_or(u32::MAX));
            }
            if end.is_some_and(|end| now >= end) {
                return Ok(End::Asked);
            }
        }
    }

    /// Whether a signal came, which is for all that was asked for.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.get()
    }

    /// Waits for the end of the command, without a look at the counters.
    pub fn wait_for_command(&self) -> End {
        let mut asked_to_stop = 0;
        loop {
            let event = self.events.within(HOUSEKEEPING);
            if self.child.is_none() {
                return End::Asked;
            }
            if event != Event::Time
                && let Some(end) = self.stops(event, &mut asked_to_stop)
            {
                return end;
            }
        }
    }

    /// Whether `event` ends the counting. `asked` is how often a signal has come.
    fn stops(&self, event: Event, asked: &mut u32) -> Option<End> {
        match (event, self.child) {
            (Event::Ended(status), _) => Some(End::Command(status)),
            (_, None) => Some(End::Asked),
            (Event::Signal(signal), Some(_)) => {
                // A terminal sends Ctrl-C to the command too, and it is the command that ends us.
                if signal == SIGTERM || self.alone {
                    self.signal(signal);
                }
                self.interrupted.set(true);
                *asked += 1;
                (*asked > 1).then_some(End::Abandoned(signal))
            }
            (Event::Time | Event::Look, Some(_)) => None,
        }
    }

    /// The last look; beside a command, more until its VMs are gone.
    pub fn farewell(&mut self, mut look: impl FnMut(&mut Watch) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let deadline = Instant::now() + FAREWELL;
        look(&mut self.watch)?;
        if self.command.is_empty() {
            return Ok(());
        }
        while self.watch.live_vms() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            look(&mut self.watch)?;
        }
        let live = self.watch.live_vms();
        if live > 0 {
            let vms = unit::counted(live as u64, "VM");
            writeln!(io::stderr(), "exitscope: {vms} of the command still there; counted up to now")?;
        }
        Ok(())
    }
}
