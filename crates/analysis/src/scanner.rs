//! Looks for markers of phases, and for a line that is waited for, in what comes on a console.

use super::console::{Console, Line};
use super::phase::{Rules, Sign, Target};
use super::phase_detector::Hit;
use regex::Regex;
use std::time::Duration;

/// Number of markers that are told at most: a guest can say anything for ever, and each ends an interval.
const MOST: usize = 10_000;

/// Console with the markers that were found on it.
#[derive(Debug)]
pub struct Scanner {
    /// The lines.
    pub console: Console,
    /// Line that was waited for.
    pub found: Option<Line>,
    /// Time at which something last came.
    pub heard: Option<Duration>,
    rules: Rules,
    until: Option<Regex>,
    hits: Vec<Hit>,
    told: Told,
}

/// Markers that were told.
#[derive(Debug, Default)]
struct Told {
    count: usize,
    last: Option<usize>,
    /// Phase of the last one that was sure.
    phase: Option<usize>,
    /// Markers in the line that has not ended.
    in_line: Vec<usize>,
}

impl Scanner {
    /// Scanner that ends with a line that `until` matches, if there is one.
    pub fn new(rules: Rules, until: Option<Regex>) -> Scanner {
        Scanner {
            console: Console::default(),
            found: None,
            heard: None,
            rules,
            until,
            hits: Vec::new(),
            told: Told::default(),
        }
    }

    /// Feeds bytes that came at `at`. Returns true if the counters should be read now.
    pub fn take(&mut self, at: Duration, bytes: &[u8]) -> bool {
        let Scanner { console, found, rules, until, hits, told, heard, .. } = self;
        let (before, had) = (hits.len(), found.is_some());
        if !bytes.is_empty() {
            *heard = Some(at);
        }
        let mut lines = console.lines_ended();
        console.take(at, bytes, |line, ended| {
            look(line, ended, lines, (rules, until.as_ref()), found, told, hits);
            lines += u64::from(ended);
        });
        hits.len() > before || found.is_some() != had
    }

    /// Ends the last line: nothing comes after it.
    pub fn finish(&mut self) {
        let Scanner { console, found, rules, until, hits, told, .. } = self;
        let lines = console.lines_ended();
        if let Some(line) = console.unfinished() {
            look(&line, true, lines, (rules, until.as_ref()), found, told, hits);
        }
        console.finish();
    }

    /// Returns the markers that were found since the last call.
    pub fn drain_hits(&mut self) -> Vec<Hit> {
        std::mem::take(&mut self.hits)
    }

    /// Returns true if there is something that the counters should be read for.
    pub fn has_news(&self) -> bool {
        !self.hits.is_empty() || self.found.is_some()
    }
}

fn look(
    line: &Line,
    ended: bool,
    lines: u64,
    (rules, until): (&Rules, Option<&Regex>),
    found: &mut Option<Line>,
    told: &mut Told,
    hits: &mut Vec<Hit>,
) {
    if found.is_some() {
        return;
    }
    let ends = until.is_some_and(|until| until.is_match(&line.text));
    for place in rules.find(&line.text, ended || ends) {
        if told.is_new(rules, place) {
            hits.push(Hit { marker: place, line: line.clone(), lines });
        }
    }
    if ended {
        told.in_line.clear();
    }
    if ends {
        // Ignores input after the line that ends it.
        *found = Some(line.clone());
    }
}

impl Told {
    /// Returns true if this marker says more than those before it.
    fn is_new(&mut self, rules: &Rules, place: usize) -> bool {
        let Some(marker) = rules.marker(place) else { return false };
        let begins = matches!(marker.sign, Sign::Begins | Sign::BeginsAlways);
        let phase = match marker.target {
            Target::Phase(phase) => Some(phase),
            _ => None,
        };
        let is_old = self.in_line.contains(&place)
            || !begins && self.last == Some(place)
            || marker.sign == Sign::AtLeast && phase.is_some() && phase <= self.phase
            || self.count == MOST;
        if is_old {
            return false;
        }
        self.in_line.push(place);
        self.last = Some(place);
        if phase.is_some() && !matches!(marker.sign, Sign::Unsure | Sign::TakesBack) {
            self.phase = phase;
        }
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::phase::{KERNEL, LOGIN, USER};
    use super::*;

    fn phases(scanner: &mut Scanner) -> Vec<String> {
        let hits = scanner.drain_hits();
        let target = |hit: &Hit| match &scanner.rules.marker(hit.marker).unwrap().target {
            Target::Phase(place) => scanner.rules.name(Some(*place)).to_owned(),
            Target::Failed(cause) => cause.clone(),
            Target::Nothing => "-".into(),
        };
        hits.iter().map(target).collect()
    }

    #[test]
    fn half_a_line_tells_of_nothing_but_a_prompt() {
        let mut scanner = Scanner::new(Rules::default(), None);
        for byte in b"Welcome to GRUB!\r\nWelcome to Debian!\r\ninner login: " {
            scanner.take(Duration::ZERO, &[*byte]);
        }
        assert_eq!(phases(&mut scanner), ["boot loader", USER, LOGIN]);
        // What is waited for tells of its phase as far as it is there.
        let until = Regex::new("Run /init as init process").unwrap();
        let mut scanner = Scanner::new(Rules::default(), Some(until));
        assert!(scanner.take(Duration::ZERO, b"[ 1.0] Run /init as init process"));
        assert_eq!(phases(&mut scanner), [KERNEL, "initramfs"]);
        // And so does the last line, which nothing ends.
        let mut scanner = Scanner::new(Rules::default(), None);
        assert!(!scanner.take(Duration::ZERO, b"Booting the kernel"));
        scanner.finish();
        assert_eq!(phases(&mut scanner), [KERNEL]);
    }

    #[test]
    fn a_console_that_tells_of_phases_for_ever_is_bounded() {
        let mut scanner = Scanner::new(Rules::default(), Some(Regex::new("^end").unwrap()));
        let looks = (0..MOST).filter(|_| scanner.take(Duration::ZERO, b"SeaBIOS (version 1\nlogin: \n"));
        assert_eq!((looks.count(), scanner.drain_hits().len()), (MOST / 2, MOST));
        assert!(scanner.take(Duration::ZERO, b"the end\nend"));
        assert_eq!(scanner.found.as_ref().unwrap().text, "end");
        assert!(!scanner.take(Duration::ZERO, b"ing\nendless\n"));
        assert_eq!(scanner.found.as_ref().unwrap().text, "end");
    }
}
