//! Listener on a command's console: passes the output through, keeps its lines, and finds phases in them.

use super::events::PollHandle;
use super::terminal::Terminal;
use exitscope_analysis::console::Line;
use exitscope_analysis::phase::Rules;
use exitscope_analysis::phase_detector::Hit;
use exitscope_analysis::scanner::Scanner;
use exitscope_collect as collect;
use regex::Regex;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Time to wait for the end of the console once the command is gone: something that it has left behind may hold it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Lines and phases since the last time they were taken.
#[derive(Default)]
pub struct ConsoleNews {
    /// Lines that ended.
    pub lines: Vec<Line>,
    /// Markers of phases in them.
    pub hits: Vec<Hit>,
    /// Number of lines that have ended, since the beginning.
    pub lines_ended: u64,
    /// Number of lines that were not kept, since the beginning.
    pub lines_left_out: u64,
    /// Number of bytes of kept lines that were not kept, since the beginning.
    pub bytes_left_out: u64,
}

struct Heard {
    scanner: Scanner,
    /// The console has ended.
    over: bool,
}

/// Handle of the thread that listens.
#[derive(Clone)]
pub struct ConsoleListener(Arc<Mutex<Heard>>);

impl ConsoleListener {
    /// Starts to listen to the command on `terminal`. Times are since `origin_ns`. Asks for a poll when a line tells a
    /// phase by `rules`, or matches `until`.
    ///
    /// # Errors
    /// If the terminal cannot be read.
    pub fn start(
        terminal: &mut Terminal,
        origin_ns: u64,
        rules: Rules,
        until: Option<Regex>,
        poll: PollHandle,
    ) -> anyhow::Result<ConsoleListener> {
        let listener = ConsoleListener::new(rules, until);
        let heard = listener.clone();
        terminal.pass_through(move |bytes| {
            let at = Duration::from_nanos(collect::monotonic_ns().saturating_sub(origin_ns));
            if heard.feed(at, bytes) {
                poll.request();
            }
        })?;
        Ok(listener)
    }

    /// Listener that nothing comes to but by [`ConsoleListener::feed`].
    pub(super) fn new(rules: Rules, until: Option<Regex>) -> ConsoleListener {
        ConsoleListener(Arc::new(Mutex::new(Heard { scanner: Scanner::new(rules, until), over: false })))
    }

    /// Feeds console bytes, none at the end. Returns true if the counters should be read now.
    pub(super) fn feed(&self, at: Duration, bytes: &[u8]) -> bool {
        let mut heard = self.lock();
        heard.over |= bytes.is_empty();
        heard.scanner.take(at, bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        // Whoever panicked left it whole: a line is taken or not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if an interval should end now.
    pub fn has_news(&self) -> bool {
        self.lock().scanner.has_news()
    }

    /// Takes the lines and phases since the last call.
    pub fn take(&self) -> ConsoleNews {
        let scanner = &mut self.lock().scanner;
        ConsoleNews {
            lines: scanner.console.drain(),
            hits: scanner.drain_hits(),
            lines_ended: scanner.console.lines_ended(),
            lines_left_out: scanner.console.lines_left_out(),
            bytes_left_out: scanner.console.bytes_left_out(),
        }
    }

    /// The line that was waited for, once it has come.
    pub fn found(&self) -> Option<Line> {
        self.lock().scanner.found.clone()
    }

    /// Time at which something last came.
    pub fn last_heard(&self) -> Option<Duration> {
        self.lock().scanner.heard
    }

    /// Takes the line that has not ended as it is.
    pub fn end_line(&self) {
        self.lock().scanner.finish();
    }

    /// Waits, but not for long, until all output has come.
    pub fn wait_for_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.lock().over && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
