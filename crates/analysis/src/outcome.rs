//! Outcome of a boot: whether it reached what was waited for, and if not, why.

use super::console::Line;
use std::time::Duration;

/// Failure of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Cause, like `kernel panic`.
    pub cause: String,
    /// Phase in which it failed.
    pub phase: String,
    /// Line that told of it: untrusted text.
    pub line: Line,
}

/// Times at which lines and the guest's mode told of the same phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Name of the phase.
    pub phase: String,
    /// Interval in which the mode was first seen.
    pub mode: Option<(Duration, Duration)>,
    /// Time of the line.
    pub line: Option<Duration>,
    /// The phase begins with the line (`true`) or with the mode; `None` where neither began it.
    pub by_line: Option<bool>,
}

impl Evidence {
    /// Returns true if both tell of the phase, and not of the same interval.
    pub fn differs(&self) -> bool {
        match (self.mode, self.line) {
            (Some((from, to)), Some(line)) => self.by_line.is_some() && !(from..=to).contains(&line),
            _ => false,
        }
    }
}

/// Number of entries of evidence that are kept at most.
const MOST: usize = 1000;

/// Way of a machine so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Failure that the machine is in.
    pub failure: Option<Failure>,
    /// Number of failures.
    pub failures: u32,
    /// Line of the login prompt.
    pub login: Option<Line>,
    /// Number of times that the machine has begun again, and when it last did.
    pub began_again: u32,
    /// Time of the last beginning.
    pub last_began: Duration,
    /// Evidence for phases that the guest's mode tells as well.
    pub evidence: Vec<Evidence>,
}

impl Way {
    /// Changes the evidence for a phase; earlier runs have left the first `earlier` entries.
    pub(super) fn evidence(&mut self, earlier: usize, phase: &str, change: impl FnOnce(&mut Evidence)) {
        let place = self.evidence[earlier..].iter().position(|evidence| evidence.phase == phase);
        if let Some(place) = place {
            change(&mut self.evidence[earlier + place]);
        } else if self.evidence.len() < MOST {
            let mut evidence = Evidence { phase: phase.to_owned(), ..Evidence::default() };
            change(&mut evidence);
            self.evidence.push(evidence);
        }
    }

    /// Notes whether a phase begins with its line.
    pub(super) fn taken(&mut self, earlier: usize, phase: &str, by_line: bool) {
        let mut of_run = self.evidence[earlier..].iter_mut();
        if let Some(evidence) = of_run.find(|evidence| evidence.phase == phase) {
            evidence.by_line.get_or_insert(by_line);
        }
    }
}

/// End of a boot, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The end that was waited for was reached.
    Reached,
    /// The boot failed, and did not begin again.
    Failed,
    /// The machine began again, and did not reach that end.
    BeganAgain,
    /// The command ended before that end.
    Ended,
    /// The time was over.
    TimedOut,
    /// A signal came before that end.
    Interrupted,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] =
        [Kind::Reached, Kind::Failed, Kind::BeganAgain, Kind::Ended, Kind::TimedOut, Kind::Interrupted];

    /// Returns the word for it in JSON and recordings.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Reached => "reached",
            Kind::Failed => "failed",
            Kind::BeganAgain => "began again",
            Kind::Ended => "ended",
            Kind::TimedOut => "timed out",
            Kind::Interrupted => "interrupted",
        }
    }
}

/// Outcome of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The end, in one word.
    pub kind: Kind,
    /// Time of it since the start.
    pub at: Duration,
    /// Phase that the machine was in; of a failure the one before.
    pub phase: String,
    /// Cause of a failure, or the thing that was reached, in a word or two.
    pub cause: Option<String>,
    /// Line that told of it, or the last one that the machine said: untrusted text.
    pub line: Option<String>,
    /// Number of times that the machine had begun again.
    pub began_again: u32,
    /// Number of failures, those that it left by beginning again included.
    pub failures: u32,
}
