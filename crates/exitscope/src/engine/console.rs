//! The console of a command: passed through, and heard.

use super::events::Waker;
use super::terminal::Terminal;
use exitscope_analysis::console::{Console, Line};
use exitscope_analysis::phase::Rules;
use exitscope_collect as collect;
use regex::Regex;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// So many lines may tell of a phase: a guest can say anything for ever, and each is a look at the counters.
const MOST_TOLD: usize = 10_000;

/// How long the end of the console is waited for once the command is gone: something that it has left behind may hold it.
const PATIENCE: Duration = Duration::from_millis(500);

/// What was heard.
#[derive(Default)]
pub struct Heard {
    /// Lines.
    pub console: Console,
    /// The phases that lines told of since somebody asked, by place, not the same twice in a row.
    pub told: Vec<usize>,
    /// The line that was waited for.
    pub found: Option<String>,
    last: Option<usize>,
    count: usize,
    /// It has ended.
    over: bool,
}

impl Heard {
    /// Takes what came; whether that is worth a look.
    fn take(&mut self, at: Duration, bytes: &[u8], rules: &Rules, until: Option<&Regex>) -> bool {
        let Heard { console, told, found, last, count, over } = self;
        *over |= bytes.is_empty();
        let (before, had) = (told.len(), found.is_some());
        console.take(at, bytes, |Line { text, .. }, ended| {
            if found.is_some() {
                return;
            }
            // Of the line that it ends with nothing more is heard.
            let ends = until.is_some_and(|until| until.is_match(text));
            if let Some(place) =
                rules.told(text, ended || ends).filter(|place| *last != Some(*place) && *count < MOST_TOLD)
            {
                *last = Some(place);
                *count += 1;
                told.push(place);
            }
            if ends {
                *found = Some(text.clone());
            }
        });
        told.len() > before || found.is_some() != had
    }
}

/// Hears.
#[derive(Clone)]
pub struct Listener(Arc<Mutex<Heard>>);

impl Listener {
    /// From here on, hears what comes on the terminal; times are since `origin_ns`. A line that tells of a phase, or that
    /// `until` matches, is worth a look.
    pub fn start(
        terminal: &mut Terminal,
        origin_ns: u64,
        rules: Rules,
        until: Option<Regex>,
        waker: Waker,
    ) -> anyhow::Result<Listener> {
        let listener = Listener(Arc::default());
        let heard = listener.clone();
        terminal.pass_through(move |bytes| {
            let at = Duration::from_nanos(collect::monotonic_ns().saturating_sub(origin_ns));
            if heard.lock().take(at, bytes, &rules, until.as_ref()) {
                waker.wake();
            }
        })?;
        Ok(listener)
    }

    /// What was heard so far.
    pub fn lock(&self) -> MutexGuard<'_, Heard> {
        // Whoever panicked left it whole: a line is taken or not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything that was said has come, but not for long.
    pub fn hear_out(&self) {
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
            heard.take(Duration::ZERO, &[*byte], &rules, None);
        }
        let places = ["boot loader", "user space", "login"].map(|name| rules.named(name).unwrap());
        assert_eq!(heard.told, places);
        // What is waited for tells of its phase as far as it is there.
        let (mut heard, until) = (Heard::default(), Regex::new("Run /init as").unwrap());
        assert!(heard.take(Duration::ZERO, b"[ 1.0] Run /init as init process", &rules, Some(&until)));
        assert_eq!(heard.told, [rules.named("initramfs").unwrap()]);
    }

    #[test]
    fn a_console_that_tells_of_phases_for_ever_is_bounded() {
        let (mut heard, rules) = (Heard::default(), Rules::default());
        let until = Regex::new("^end").unwrap();
        let looks = (0..MOST_TOLD).filter(|_| {
            heard.take(
                Duration::ZERO,
                b"SeaBIOS (version 1\nSeaBIOS (version 1\nlogin: \n",
                &rules,
                Some(&until),
            )
        });
        assert_eq!((looks.count(), heard.told.len()), (MOST_TOLD / 2, MOST_TOLD));
        assert!(heard.take(Duration::ZERO, b"the end\nend", &rules, Some(&until)));
        assert_eq!(heard.found.as_deref(), Some("end"));
        assert!(!heard.take(Duration::ZERO, b"ing\nendless\n", &rules, Some(&until)));
        assert_eq!(heard.found.as_deref(), Some("end"));
    }
}
