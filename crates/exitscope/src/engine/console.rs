//! Listener on a command's console: passes the output through, keeps its lines, and finds phases in them.

use super::events::PollHandle;
use super::terminal::Terminal;
use exitscope_analysis::console::{Console, Line};
use exitscope_analysis::phase::Rules;
use exitscope_collect as collect;
use regex::Regex;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Largest number of phases that lines may tell: a guest can say anything for ever, and each costs a poll.
const MAX_PHASES: usize = 10_000;

/// Time to wait for the end of the console once the command is gone: something that it has left behind may hold it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Lines and phases since the last time they were taken.
#[derive(Default)]
pub struct ConsoleNews {
    /// Lines that ended.
    pub lines: Vec<Line>,
    /// Places of the phases that lines told, in [`Rules`]; never the same twice in a row.
    pub phases: Vec<usize>,
    /// Number of lines that were not kept, since the beginning.
    pub lines_left_out: u64,
    /// Number of bytes of kept lines that were not kept, since the beginning.
    pub bytes_left_out: u64,
}

#[derive(Default)]
struct Heard {
    console: Console,
    phases: Vec<usize>,
    /// The line that was waited for.
    found: Option<String>,
    last: Option<usize>,
    count: usize,
    /// The console has ended.
    over: bool,
}

impl Heard {
    /// Feeds console bytes, none at the end. Returns true if the counters should be read now: a line told a phase, or is
    /// the one that was waited for.
    fn feed(&mut self, at: Duration, bytes: &[u8], rules: &Rules, until: Option<&Regex>) -> bool {
        let Heard { console, phases, found, last, count, over } = self;
        *over |= bytes.is_empty();
        let (before, had) = (phases.len(), found.is_some());
        console.take(at, bytes, |Line { text, .. }, ended| {
            // Ignores input after the terminating line.
            if found.is_some() {
                return;
            }
            let ends = until.is_some_and(|until| until.is_match(text));
            if let Some(place) =
                rules.told(text, ended || ends).filter(|place| *last != Some(*place) && *count < MAX_PHASES)
            {
                *last = Some(place);
                *count += 1;
                phases.push(place);
            }
            if ends {
                *found = Some(text.clone());
            }
        });
        phases.len() > before || found.is_some() != had
    }
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
        let listener = ConsoleListener(Arc::default());
        let heard = listener.clone();
        terminal.pass_through(move |bytes| {
            let at = Duration::from_nanos(collect::monotonic_ns().saturating_sub(origin_ns));
            if heard.lock().feed(at, bytes, &rules, until.as_ref()) {
                poll.request();
            }
        })?;
        Ok(listener)
    }

    /// A listener that a test feeds.
    #[cfg(test)]
    pub(super) fn unattached() -> ConsoleListener {
        ConsoleListener(Arc::default())
    }

    /// Feeds console bytes by hand.
    #[cfg(test)]
    pub(super) fn feed(&self, at: Duration, bytes: &[u8], rules: &Rules, until: Option<&Regex>) -> bool {
        self.lock().feed(at, bytes, rules, until)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        // Whoever panicked left it whole: a line is taken or not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if an interval should end now.
    pub fn has_news(&self) -> bool {
        let heard = self.lock();
        !heard.phases.is_empty() || heard.found.is_some()
    }

    /// Takes the lines and phases since the last call.
    pub fn take(&self) -> ConsoleNews {
        let mut heard = self.lock();
        ConsoleNews {
            lines: heard.console.drain(),
            phases: std::mem::take(&mut heard.phases),
            lines_left_out: heard.console.lines_left_out(),
            bytes_left_out: heard.console.bytes_left_out(),
        }
    }

    /// The line that was waited for, once it has come.
    pub fn found(&self) -> Option<String> {
        self.lock().found.clone()
    }

    /// Takes the line that has not ended as it is.
    pub fn end_line(&self) {
        self.lock().console.finish();
    }

    /// Waits, but not for long, until all output has come.
    pub fn wait_for_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.lock().over && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_tells_of_nothing_but_a_prompt() {
        let (mut heard, rules) = (Heard::default(), Rules::default());
        for byte in b"Welcome to GRUB!\r\nWelcome to Debian!\r\ninner login: " {
            heard.feed(Duration::ZERO, &[*byte], &rules, None);
        }
        let places = ["boot loader", "user space", "login"].map(|name| rules.named(name).unwrap());
        assert_eq!(heard.phases, places);
        // The line that is waited for tells its phase as far as it is there.
        let (mut heard, until) = (Heard::default(), Regex::new("Run /init as").unwrap());
        assert!(heard.feed(Duration::ZERO, b"[ 1.0] Run /init as init process", &rules, Some(&until)));
        assert_eq!(heard.phases, [rules.named("initramfs").unwrap()]);
    }

    #[test]
    fn a_console_that_tells_phases_for_ever_is_bounded() {
        let (mut heard, rules) = (Heard::default(), Rules::default());
        let until = Regex::new("^end").unwrap();
        let text = b"SeaBIOS (version 1\nSeaBIOS (version 1\nlogin: \n";
        let polls =
            (0..MAX_PHASES).filter(|_| heard.feed(Duration::ZERO, text, &rules, Some(&until))).count();
        assert_eq!((polls, heard.phases.len()), (MAX_PHASES / 2, MAX_PHASES));
        assert!(heard.feed(Duration::ZERO, b"the end\nend", &rules, Some(&until)));
        assert_eq!(heard.found.as_deref(), Some("end"));
        assert!(!heard.feed(Duration::ZERO, b"ing\nendless\n", &rules, Some(&until)));
        assert_eq!(heard.found.as_deref(), Some("end"));
    }
}
