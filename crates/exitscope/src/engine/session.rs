//! What a machine does and says, put together interval by interval: what `record` and `boot` have in common.

use super::console::Listener;
use super::inbox::{Inbox, Request};
use super::watch::Watch;
use exitscope_analysis::boot_report::{BootReport, IntervalEvents, LeftOut, Mark, Origin};
use exitscope_analysis::phase::FIRST;
use exitscope_analysis::phase_detector::{PhaseDetector, PhaseStart};
use exitscope_analysis::series::Series;
use exitscope_collect::host::Machine;
use exitscope_collect::{PortMark, PortMarks};
use exitscope_model::{Interval, Level, Mode, Row};
use exitscope_record::{self as record, About, Notes, Writer};
use exitscope_view::text;
use regex::Regex;
use std::ffi::OsString;
use std::time::Duration;

/// The most marks of either origin that are kept.
const MOST_MARKS: usize = 10_000;

/// Where firmware tells how far it is. Linux writes there as well, to pass some time, whatever it has in the register
/// (`native_io_delay()`, arch/x86/kernel/io_delay.c; `io_delay()`, arch/x86/boot/boot.h); so this is no mark once there is a
/// kernel, and one of many where the byte is the same.
const POST: u16 = 0x80;

/// What a boot is told from.
struct Kept {
    series: Series,
    whole: Option<Interval>,
    events: IntervalEvents,
}

/// Puts it together.
pub struct Session {
    /// All times are since then (`CLOCK_MONOTONIC`).
    origin_ns: u64,
    /// Where it is recorded.
    pub writer: Option<Writer>,
    /// Why it is not recorded any more, though what is kept goes on.
    pub failed: Option<record::Error>,
    listener: Option<Listener>,
    detector: Option<PhaseDetector>,
    /// There was an interval that was complete.
    started: bool,
    inbox: Option<Inbox>,
    /// A mark that ends it, and what came of that.
    until_mark: Option<Regex>,
    found_mark: Option<String>,
    kept: Option<Kept>,
    /// What happened since the last interval that was complete.
    block: Option<Interval>,
    /// The marks of that, and who waits for an answer.
    marks: Vec<Mark>,
    requests: Vec<Request>,
    /// How many there were of each origin, and besides.
    by_hand: usize,
    by_port: usize,
    /// The last byte of [`POST`].
    posted: Option<u8>,
    left_out: LeftOut,
    /// How long all intervals are that were complete.
    length: Duration,
    /// Exits and time of all that was looked at.
    pub exits: u64,
    pub time: Duration,
}

impl Session {
    /// Begins now.
    pub fn new(origin_ns: u64, inbox: Option<Inbox>) -> Session {
        Session {
            origin_ns,
            writer: None,
            failed: None,
            listener: None,
            detector: None,
            started: false,
            inbox,
            until_mark: None,
            found_mark: None,
            kept: None,
            block: None,
            marks: Vec::new(),
            requests: Vec::new(),
            by_hand: 0,
            by_port: 0,
            posted: None,
            left_out: LeftOut::default(),
            length: Duration::ZERO,
            exits: 0,
            time: Duration::ZERO,
        }
    }

    /// Since when all times are.
    pub fn origin_ns(&self) -> u64 {
        self.origin_ns
    }

    /// Finds phases, by this console too.
    pub fn listen(&mut self, listener: Listener, detector: PhaseDetector) {
        self.listener = Some(listener);
        self.detector = Some(detector);
    }

    /// Keeps what [`Session::boot_report`] tells.
    pub fn keep(&mut self) {
        self.kept = Some(Kept { series: Series::new(FIRST), whole: None, events: IntervalEvents::default() });
    }

    /// Ends with a mark that this matches.
    pub fn until_mark(&mut self, until: Option<Regex>) {
        self.until_mark = until;
    }

    /// Takes what has happened; with `complete`, or where a phase or a mark came, it is an interval. Whether that was the end.
    pub fn look(&mut self, watch: &mut Watch, complete: bool) -> anyhow::Result<bool> {
        let interval = watch.next()?;
        self.exits += interval.exits();
        self.time += interval.length;
        Interval::append(&mut self.block, interval);
        let ports = watch.take_marks()?;
        let news = self.take_marks(ports);
        let told = self.listener.as_ref().is_some_and(|listener| {
            let heard = listener.lock();
            !heard.told.is_empty() || heard.found.is_some()
        });
        if complete || news || told {
            self.complete(watch)?;
        }
        Ok(self.found_mark.is_some() || self.found_line().is_some())
    }

    /// The line of the console that was waited for.
    fn found_line(&self) -> Option<String> {
        self.listener.as_ref()?.lock().found.clone()
    }

    /// What it ended with, if what was waited for came, in words that continue "until".
    pub fn found(&self) -> Option<String> {
        let quoted = |text: &str| format!("\"{}\"", text::clean(text.trim(), 60));
        let line = self.found_line().map(|line| format!("{} on the console", quoted(&line)));
        line.or_else(|| self.found_mark.as_ref().map(|mark| format!("the mark {}", quoted(mark))))
    }

    /// The marks that have come; whether one of them is worth an interval that ends here.
    fn take_marks(&mut self, ports: PortMarks) -> bool {
        let mut news = false;
        let requests: Vec<Request> = self.inbox.iter().flat_map(Inbox::take).collect();
        for request in requests {
            if self.failed.is_some() {
                request.refuse("it is not recorded any more");
                continue;
            }
            self.ends_with(&request.text);
            if self.by_hand == MOST_MARKS {
                self.left_out.marks += 1;
                request.refuse(&format!("there are {MOST_MARKS} marks by hand already"));
                continue;
            }
            self.by_hand += 1;
            news = true;
            let at = self.since(request.monotonic_ns);
            self.marks.push(Mark { at, origin: Origin::Hand, text: request.text.clone() });
            self.requests.push(request);
        }
        self.left_out.marks += ports.lost;
        // Or it has come since the last interval that was complete.
        let high = |row: &Row| row.level == Level::L1 && row.counters.modes.get(Mode::LongHigh) > 0;
        let has_kernel = self.detector.as_ref().is_some_and(|detector| {
            detector.has_kernel() || self.block.iter().any(|block| block.rows.iter().any(high))
        });
        for PortMark { monotonic_ns, port, value, .. } in ports.marks {
            if port == POST && (self.posted.replace(value) == Some(value) || has_kernel) {
                continue;
            }
            let mark = Mark::port(self.since(monotonic_ns), port, value);
            // Also by one that is not kept.
            news |= self.ends_with(&mark.text);
            if self.by_port == MOST_MARKS {
                self.left_out.marks += 1;
                continue;
            }
            self.by_port += 1;
            self.marks.push(mark);
        }
        news
    }

    /// Whether this mark, the first that does, ends it.
    fn ends_with(&mut self, mark: &str) -> bool {
        let ends =
            self.found_mark.is_none() && self.until_mark.as_ref().is_some_and(|until| until.is_match(mark));
        if ends {
            self.found_mark = Some(mark.to_owned());
        }
        ends
    }

    fn since(&self, monotonic_ns: u64) -> Duration {
        Duration::from_nanos(monotonic_ns.saturating_sub(self.origin_ns))
    }

    /// What was taken since the last time is an interval.
    pub fn complete(&mut self, watch: &Watch) -> anyhow::Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        let (lines, places) = match &self.listener {
            Some(listener) => {
                let mut heard = listener.lock();
                self.left_out.lines = heard.console.lines_left_out();
                self.left_out.bytes = heard.console.bytes_left_out();
                (heard.console.drain(), std::mem::take(&mut heard.told))
            }
            None => (Vec::new(), Vec::new()),
        };
        let (from, to) = (self.length, self.length + block.length);
        self.length = to;
        let detector = self.detector.as_mut();
        // With what it does before anything is known.
        let start = detector.is_some() && !std::mem::replace(&mut self.started, true);
        let mut phases: Vec<PhaseStart> =
            start.then(|| PhaseStart { name: FIRST.to_owned(), at: Duration::ZERO }).into_iter().collect();
        phases
            .extend(detector.into_iter().flat_map(|detector| detector.step(from, to, Some(&block), &places)));
        let mut marks = std::mem::take(&mut self.marks);
        marks.sort_by_key(|mark| mark.at);
        let events = IntervalEvents { lines, marks, phases, left_out: self.left_out };
        let written =
            self.writer.as_mut().map_or(Ok(()), |writer| writer.write_events(&block, &notes(watch), &events));
        match written {
            Ok(()) => self.requests.drain(..).for_each(Request::confirm),
            Err(error) if self.kept.is_some() => {
                self.writer = None;
                self.requests.drain(..).for_each(|request| request.refuse("it could not be recorded"));
                self.failed = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(kept) = &mut self.kept {
            let known = &events.phases[usize::from(start)..];
            let (by_now, after) = known.split_at(known.partition_point(|phase| phase.at < to));
            by_now.iter().for_each(|phase| kept.series.begin_at(phase.at, &phase.name));
            kept.series.add(&block);
            after.iter().for_each(|phase| kept.series.begin(&phase.name));
            Interval::append(&mut kept.whole, block);
            kept.events.lines.extend(events.lines);
            kept.events.marks.extend(events.marks);
        }
        Ok(())
    }

    /// The last interval. Where the command has ended, all that it said is waited for.
    pub fn finish(&mut self, watch: &mut Watch, ended: bool) -> anyhow::Result<()> {
        if let Some(listener) = &self.listener {
            if ended {
                listener.hear_out();
            }
            listener.lock().console.finish();
            self.look(watch, false)?;
        }
        self.complete(watch)?;
        self.close();
        Ok(())
    }

    /// Takes no more marks by hand.
    pub fn close(&mut self) {
        self.inbox = None;
    }

    /// All that there is to tell, where it was kept; `end` is what it ended with.
    pub fn boot_report(&mut self, end: String) -> Option<BootReport> {
        let Kept { series, whole, mut events } = self.kept.take()?;
        events.marks.sort_by_key(|mark| mark.at);
        Some(BootReport {
            console: events.lines,
            left_out: self.left_out.lines,
            bytes_left_out: self.left_out.bytes,
            marks: events.marks,
            marks_left_out: self.left_out.marks,
            ..BootReport::new(whole?, series, end)
        })
    }
}

/// What a recording keeps of how it was made.
pub fn about(command: &[OsString], interval: Duration, watch: &Watch) -> About {
    let Machine { name, kernel, cpu, cpus, kvm } = Machine::probe();
    About {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        host: name,
        kernel,
        cpu,
        cpus,
        kvm,
        command: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        interval,
        source: watch.source(),
        measured: watch.measured(),
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
