//! Where intervals go.

use exitscope_analysis::boot_report::IntervalEvents;
use exitscope_model::Interval;
use exitscope_view::Explanation;

/// An interval that is complete, with what came beside the counters.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Difference of the counters.
    pub interval: &'a Interval,
    /// Console lines, marks and phases of this interval.
    pub events: &'a IntervalEvents,
    /// Remarks about the figures as of now.
    pub explanation: &'a Explanation,
}

/// An output of a session.
///
/// Each interval comes once, in order, and each begins where the last one ended.
///
/// ```
/// use exitscope::engine::{Observed, Sink, Sinks};
///
/// /// Adds up the exits of a session.
/// struct Total(u64);
///
/// impl Sink for Total {
///     fn take(&mut self, observed: &Observed<'_>) -> anyhow::Result<()> {
///         self.0 += observed.interval.exits();
///         Ok(())
///     }
/// }
///
/// let mut total = Total(0);
/// // `Session::run` gives it every interval.
/// let sinks = Sinks::default().required(&mut total);
/// assert!(sinks.failed().is_none());
/// ```
pub trait Sink {
    /// Takes the next interval.
    ///
    /// # Errors
    /// If it could not be kept or shown. The sink gets nothing more after that.
    fn take(&mut self, observed: &Observed<'_>) -> anyhow::Result<()>;

    /// Hears of every look at the counters; `exits` is their number since the start.
    fn polled(&mut self, exits: u64) {
        let _ = exits;
    }

    /// Ends, after the last interval.
    ///
    /// # Errors
    /// If what was held back could not be written.
    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

struct Attached<'s> {
    sink: &'s mut dyn Sink,
    required: bool,
}

/// Sinks of one session, and what is to happen if one fails.
#[derive(Default)]
pub struct Sinks<'s> {
    attached: Vec<Attached<'s>>,
    failed: Option<anyhow::Error>,
}

impl<'s> Sinks<'s> {
    /// Adds a sink whose failure ends the session.
    pub fn required(mut self, sink: &'s mut dyn Sink) -> Sinks<'s> {
        self.attached.push(Attached { sink, required: true });
        self
    }

    /// Adds a sink without which the session goes on if it fails. Its error is kept in [`Sinks::failed`].
    pub fn optional(mut self, sink: &'s mut dyn Sink) -> Sinks<'s> {
        self.attached.push(Attached { sink, required: false });
        self
    }

    /// First error of an optional sink.
    pub fn failed(&self) -> Option<&anyhow::Error> {
        self.failed.as_ref()
    }

    /// The same, owned.
    pub fn into_failed(self) -> Option<anyhow::Error> {
        self.failed
    }

    /// Gives an interval to all. A required sink's error ends it.
    pub(super) fn take(&mut self, observed: &Observed<'_>) -> anyhow::Result<()> {
        self.each(|sink| sink.take(observed))
    }

    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.each(|sink| sink.finish())
    }

    pub(super) fn polled(&mut self, exits: u64) {
        self.attached.iter_mut().for_each(|attached| attached.sink.polled(exits));
    }

    /// Drops optional sinks that fail.
    fn each(&mut self, mut act: impl FnMut(&mut dyn Sink) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some(attached) = self.attached.get_mut(at) {
            match act(attached.sink) {
                Ok(()) => at += 1,
                Err(error) if attached.required => return Err(error),
                Err(error) => {
                    self.attached.remove(at);
                    self.failed.get_or_insert(error);
                }
            }
        }
        Ok(())
    }
}
