//! One session of counting: polls the source, assembles intervals, and gives them to sinks until something ends it.

use super::child::{Child, End};
use super::console::{ConsoleListener, ConsoleNews};
use super::events::{Event, Events, PollHandle};
use super::inbox::Inbox;
use super::marks::Marks;
use super::sampler::Sampler;
use super::sink::{Observed, Sinks};
use super::terminal::Terminal;
use exitscope_analysis::boot_report::{IntervalEvents, LeftOut};
use exitscope_analysis::console::Line;
use exitscope_analysis::outcome::{Evidence, Failure, Kind, Outcome, Way};
use exitscope_analysis::phase::{FIRST, Rules};
use exitscope_analysis::phase_detector::{PhaseDetector, PhaseStart};
use exitscope_collect::{Options, Select};
use exitscope_model::{Interval, Level, Mode, Row};
use exitscope_view::{text, unit};
use regex::Regex;
use std::ffi::OsString;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Longest time between two polls: VMs that ended give their place in the tables back then.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Time that the kernel is given to take a VM apart whose process has ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// Time without a word on the console after which a boot that has failed is over: a machine may begin again.
const FAILED_FOR_GOOD: Duration = Duration::from_secs(10);
/// Longest time that a machine is waited for that says when it begins again.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

/// Limits of a session in time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Length of the session; `None` for no end.
    pub duration: Option<Duration>,
    /// Length of an interval; `None` for one interval in all.
    pub interval: Option<Duration>,
}

/// A source that is being read, and what belongs to it.
pub struct Session<'a> {
    sampler: Sampler,
    events: Events,
    child: Child<'a>,
    /// The command's VMs are counted, and no others.
    follows: bool,
    /// All times of marks and lines are since then (`CLOCK_MONOTONIC`).
    origin_ns: u64,
    console: Option<ConsoleListener>,
    detector: Option<PhaseDetector>,
    /// The login ends it, and so does a failure that lasts.
    until_login: bool,
    until_failed: bool,
    /// Time after a failure in which the machine has said that it begins again.
    delay: Duration,
    /// Nothing comes any more.
    closing: bool,
    marks: Marks,
    /// Counted since the last complete interval.
    open: Option<Interval>,
    /// Length of all complete intervals, and their number.
    length: Duration,
    intervals: u64,
    exits: u64,
    time: Duration,
}

impl<'a> Session<'a> {
    /// Starts to count what `options` select. Beside a command KVM must be there; without one it is waited for.
    /// Returns `None` if a signal came first.
    ///
    /// # Errors
    /// If no source works.
    pub fn start(
        options: &Options,
        command: &'a [OsString],
        events: Events,
    ) -> anyhow::Result<Option<Session<'a>>> {
        let sampler = Sampler::start(options, &events, command.is_empty())?;
        Ok(sampler.map(|sampler| {
            let mut session = Session::new(sampler, command, events);
            session.follows = options.select == Select::Descendants;
            session
        }))
    }

    /// Takes a source that has begun to count.
    pub fn new(sampler: Sampler, command: &'a [OsString], events: Events) -> Session<'a> {
        Session {
            origin_ns: sampler.monotonic_ns(),
            sampler,
            events,
            child: Child::new(command),
            follows: !command.is_empty(),
            console: None,
            detector: None,
            until_login: false,
            until_failed: false,
            delay: Duration::ZERO,
            closing: false,
            marks: Marks::default(),
            open: None,
            length: Duration::ZERO,
            intervals: 0,
            exits: 0,
            time: Duration::ZERO,
        }
    }

    /// Takes the VMs that are counted for others than the command's.
    #[cfg(test)]
    pub(super) fn count_others(&mut self) {
        self.follows = false;
    }

    /// The source.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// Lets other threads ask for a poll.
    pub fn poll_handle(&self) -> PollHandle {
        self.events.poll_handle()
    }

    /// Number of exits in all polls.
    pub fn exits(&self) -> u64 {
        self.exits
    }

    /// Length of time that was counted.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Forgets what was counted until now: the session begins at this moment.
    ///
    /// # Errors
    /// If the counters cannot be read.
    pub fn begin_here(&mut self) -> anyhow::Result<()> {
        self.sampler.next_interval()?;
        self.sampler.take_marks()?;
        self.origin_ns = self.sampler.monotonic_ns();
        Ok(())
    }

    /// Takes marks by hand from this socket.
    pub fn listen_for_marks(&mut self, inbox: Inbox) {
        self.marks.listen(inbox);
    }

    /// Ends with the first mark that `until` matches.
    pub fn until_mark(&mut self, until: Option<Regex>) {
        self.marks.until(until);
    }

    /// Ends with the login of the machine.
    pub fn until_login(&mut self) {
        self.until_login = true;
    }

    /// Ends with a failure of the machine, once nothing has come on its console for so long that nothing will.
    pub fn until_failed(&mut self) {
        self.until_failed = true;
    }

    /// Starts the command, if there is one. Where its VMs are counted, this process is followed while it forks.
    ///
    /// # Errors
    /// [`CannotRun`](super::CannotRun).
    pub fn start_command(&mut self) -> anyhow::Result<()> {
        if self.child.start(&self.events, None)? && self.follows {
            self.sampler.stop_following()?;
        }
        Ok(())
    }

    /// Starts the command on a terminal of its own, and listens to its console: lines tell phases by `rules`, and the
    /// one that `until` matches ends the session.
    ///
    /// # Errors
    /// [`CannotRun`](super::CannotRun), or if the terminal cannot be read.
    pub fn start_command_on(
        &mut self,
        terminal: &mut Terminal,
        rules: Rules,
        until: Option<Regex>,
    ) -> anyhow::Result<()> {
        if self.child.start(&self.events, Some(&mut |command| terminal.attach(command)))? && self.follows {
            self.sampler.stop_following()?;
        }
        let poll = self.poll_handle();
        let console = ConsoleListener::start(terminal, self.origin_ns, rules.clone(), until, poll)?;
        self.listen_to(console, rules);
        Ok(())
    }

    /// Finds phases by this console, too.
    pub(super) fn listen_to(&mut self, console: ConsoleListener, rules: Rules) {
        self.console = Some(console);
        let mut detector = PhaseDetector::new(rules);
        if self.until_login {
            detector.end_at_login();
        }
        self.detector = Some(detector);
    }

    /// Counts from now to the end: until a signal, the duration, the command's end, or what was waited for. Then gives the
    /// sinks what is left, and finishes them.
    ///
    /// # Errors
    /// If the counters cannot be read, or a required sink fails. The command may still run then.
    pub fn run(&mut self, times: Times, sinks: &mut Sinks<'_>) -> anyhow::Result<End> {
        let end = self.until_end(times, sinks)?;
        let is_cut_off = end == End::Asked && self.child.is_wanted();
        if self.found().is_none() && !is_cut_off {
            self.farewell(sinks)?;
            self.close(end.is_command(), sinks)?;
        } else {
            self.close(false, sinks)?;
        }
        Ok(end)
    }

    fn until_end(&mut self, times: Times, sinks: &mut Sinks<'_>) -> anyhow::Result<End> {
        let start = Instant::now();
        let end = times.duration.map(|duration| start + duration);
        let mut interval_end = times.interval.map(|interval| start + interval);
        let mut next_poll = start + HOUSEKEEPING;
        let mut signals = 0;
        loop {
            let next = [Some(next_poll), end, interval_end].into_iter().flatten().min().unwrap_or(next_poll);
            let event = self.events.until(next);
            if !matches!(event, Event::Time | Event::Poll) {
                match self.child.end_by(event, &mut signals) {
                    Some(end) => return Ok(end),
                    None => continue,
                }
            }
            // What was asked for is taken at its time, however long that takes.
            let now = Instant::now();
            let complete = interval_end.is_some_and(|moment| now >= moment);
            self.poll(complete, sinks)?;
            if self.found().is_some() || self.until_failed && self.has_failed_for_good() {
                return Ok(End::Asked);
            }
            let now = Instant::now();
            next_poll = now + HOUSEKEEPING;
            if let (Some(moment), Some(interval), true) = (interval_end, times.interval, complete) {
                // Where a poll took longer than an interval, the next one is longer, not late for ever.
                let periods = (now - moment).as_nanos() / interval.as_nanos() + 1;
                interval_end = Some(moment + interval * u32::try_from(periods).unwrap_or(u32::MAX));
            }
            if end.is_some_and(|end| now >= end) {
                return Ok(End::Asked);
            }
        }
    }

    /// Polls once more; where a command's VMs are counted, until they are gone.
    fn farewell(&mut self, sinks: &mut Sinks<'_>) -> anyhow::Result<()> {
        let deadline = Instant::now() + FAREWELL;
        self.poll(false, sinks)?;
        if !self.follows {
            return Ok(());
        }
        while self.sampler.live_vms() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            self.poll(false, sinks)?;
        }
        let live = self.sampler.live_vms();
        if live > 0 {
            let vms = unit::counted(live as u64, "VM");
            writeln!(io::stderr(), "exitscope: {vms} of the command still there; counted up to now")?;
        }
        Ok(())
    }

    /// Gives the sinks the last interval. If the command has ended, waits for the rest of its console.
    fn close(&mut self, ended: bool, sinks: &mut Sinks<'_>) -> anyhow::Result<()> {
        if let Some(console) = &self.console {
            if ended {
                console.wait_for_end();
            }
            console.end_line();
            self.closing = true;
            self.poll(false, sinks)?;
        }
        self.complete(sinks)?;
        self.stop_marks();
        sinks.finish()
    }

    /// Takes no more marks by hand.
    pub fn stop_marks(&mut self) {
        self.marks.close();
    }

    /// Reads the counters. With `complete`, or if a phase or a mark came, what was counted since the last interval is
    /// one.
    fn poll(&mut self, complete: bool, sinks: &mut Sinks<'_>) -> anyhow::Result<()> {
        let interval = self.sampler.next_interval()?;
        self.exits += interval.exits();
        self.time += interval.length;
        Interval::append(&mut self.open, interval);
        let ports = self.sampler.take_marks()?;
        let has_kernel = self.has_kernel();
        let marked = self.marks.take(ports, self.origin_ns, has_kernel);
        let heard = self.console.as_ref().is_some_and(|console| console.has_news());
        if complete || marked || heard {
            self.complete(sinks)?;
        }
        sinks.polled(self.exits);
        Ok(())
    }

    /// Returns true if a kernel has run in the guest: before the open interval, or in it.
    fn has_kernel(&self) -> bool {
        let high = |row: &Row| row.level == Level::L1 && row.counters.modes.get(Mode::LongHigh) > 0;
        self.detector.as_ref().is_some_and(|detector| {
            detector.has_kernel() || self.open.iter().any(|open| open.rows.iter().any(high))
        })
    }

    /// Ends the open interval, and gives it to the sinks.
    fn complete(&mut self, sinks: &mut Sinks<'_>) -> anyhow::Result<()> {
        let Some(interval) = self.open.take() else { return Ok(()) };
        let events = self.interval_events(&interval);
        let explanation = self.sampler.explanation();
        let observed = Observed { interval: &interval, events: &events, explanation: &explanation };
        sinks.take(&observed)?;
        self.marks.answer(sinks.failed().is_none());
        Ok(())
    }

    /// Console lines, marks and phases that belong to an interval.
    fn interval_events(&mut self, interval: &Interval) -> IntervalEvents {
        let ConsoleNews { lines, hits, lines_ended, lines_left_out, bytes_left_out } =
            self.console.as_ref().map(|console| console.take()).unwrap_or_default();
        if let Some(delay) = lines.iter().filter_map(delay).next_back() {
            self.delay = delay;
        }
        let (from, to) = (self.length, self.length + interval.length);
        self.length = to;
        self.intervals += 1;
        let mut phases = Vec::new();
        if let Some(detector) = &mut self.detector {
            if self.intervals == 1 {
                // Before anything is known.
                phases.push(PhaseStart { name: FIRST.to_owned(), at: Duration::ZERO });
            }
            phases.extend(detector.step((from, to), Some(interval), &hits, lines_ended));
            if self.closing {
                phases.extend(detector.finish());
            }
        }
        let left_out = LeftOut { lines: lines_left_out, bytes: bytes_left_out, marks: self.marks.left_out() };
        IntervalEvents { lines, marks: self.marks.drain(), phases, left_out }
    }

    /// Returns how the machine came to where it is, if its phases are looked for.
    fn way(&self) -> Option<&Way> {
        self.detector.as_ref().map(PhaseDetector::way)
    }

    /// Returns the console line that was waited for.
    fn found_line(&self) -> Option<Line> {
        let login = self.way().filter(|_| self.until_login).and_then(|way| way.login.clone());
        login.or_else(|| self.console.as_ref()?.found())
    }

    /// Returns true if the machine has failed to boot, and not begun again.
    pub fn has_failed(&self) -> bool {
        self.way().is_some_and(|way| way.failure.is_some())
    }

    fn has_failed_for_good(&self) -> bool {
        let Some(failure) = self.way().and_then(|way| way.failure.as_ref()) else { return false };
        let heard = self.console.as_ref().and_then(ConsoleListener::last_heard).unwrap_or_default();
        let now = Duration::from_nanos(self.sampler.monotonic_ns().saturating_sub(self.origin_ns));
        now > heard.max(failure.line.at) + FAILED_FOR_GOOD + self.delay
    }

    /// Returns the times at which lines and the guest's mode told of the same phase.
    pub fn evidence(&self) -> &[Evidence] {
        self.way().map_or(&[], |way| &way.evidence)
    }

    /// Returns the outcome of a boot that ended with `end`. `last` is the last line of the console.
    pub fn outcome(&self, end: End, last: Option<&Line>) -> Option<Outcome> {
        let way = self.way()?;
        let stopped = match end {
            _ if self.was_interrupted() => Kind::Interrupted,
            End::Asked => Kind::TimedOut,
            End::Command(_) => Kind::Ended,
            End::Abandoned(_) => Kind::Interrupted,
        };
        let outcome = Outcome {
            kind: stopped,
            at: self.length,
            phase: self.detector.as_ref().map_or(FIRST, PhaseDetector::phase).to_owned(),
            cause: None,
            line: last.map(|line| line.text.clone()),
            began_again: way.began_again,
            failures: way.failures,
        };
        Some(if let Some(line) = self.found_line() {
            let cause = if self.until_login { "login prompt" } else { "line" };
            let (cause, line, at) = (Some(cause.to_owned()), Some(line.text), line.at);
            Outcome { kind: Kind::Reached, at, cause, line, ..outcome }
        } else if let Some(mark) = self.marks.found() {
            Outcome {
                kind: Kind::Reached,
                cause: Some("mark".into()),
                line: Some(mark.to_owned()),
                ..outcome
            }
        } else if let Some(Failure { cause, phase, line }) = way.failure.clone() {
            let (cause, text) = (Some(cause), Some(line.text));
            Outcome { kind: Kind::Failed, at: line.at, phase, cause, line: text, ..outcome }
        } else if way.began_again > 0 && stopped != Kind::Interrupted {
            Outcome { kind: Kind::BeganAgain, at: way.last_began, ..outcome }
        } else {
            outcome
        })
    }

    /// Words, continuing "until", for the console line or mark that ended the session, if one did.
    pub fn found(&self) -> Option<String> {
        let quoted = |text: &str| format!("\"{}\"", text::clean(text.trim(), 60));
        let line = self.found_line().map(|line| quoted(&line.text));
        line.map(|line| format!("{line} on the console"))
            .or_else(|| self.marks.found().map(|mark| format!("the mark {}", quoted(mark))))
    }

    /// Waits for the end of the command, without a poll. Returns at once if it has ended, or was not started.
    pub fn wait_for_command(&self) -> End {
        if !self.child.is_started() {
            return End::Asked;
        }
        if let Some(status) = self.child.status() {
            return End::Command(status);
        }
        let mut signals = 0;
        loop {
            let event = self.events.within(HOUSEKEEPING);
            if event != Event::Time
                && let Some(end) = self.child.end_by(event, &mut signals)
            {
                return end;
            }
        }
    }

    /// Asks the command and what it has started to end; kills it if it does not within `patience`.
    ///
    /// # Errors
    /// If standard error cannot be written.
    pub fn stop_command(&self, patience: Duration) -> io::Result<()> {
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            self.child.signal(signal);
            if self.ends_within(patience) {
                return Ok(());
            }
        }
        writeln!(io::stderr(), "exitscope: the command was killed, and is not gone yet")
    }

    /// Returns true if the command ends within `patience`, and before a signal comes.
    fn ends_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match self.events.until(deadline) {
                event @ Event::Ended(_) => {
                    self.child.end_by(event, &mut 0);
                    return true;
                }
                Event::Signal(_) => {
                    self.child.interrupt();
                    return false;
                }
                Event::Time => return false,
                Event::Poll => {}
            }
        }
    }

    /// Returns true if a signal came while the command ran.
    pub fn was_interrupted(&self) -> bool {
        self.child.was_interrupted()
    }
}

/// Returns the time after which a machine says that it begins again.
fn delay(line: &Line) -> Option<Duration> {
    let (_, rest) = line.text.split_once("ebooting in ").or_else(|| line.text.split_once("reboot in "))?;
    let digits = rest.split(|character: char| !character.is_ascii_digit()).next()?;
    Some(Duration::from_secs(digits.parse().ok()?).min(LONGEST_DELAY))
}
