//! A recording as a sink, with a line on the terminal that says how far it is.

use super::progress::Progress;
use crate::engine::{Observed, Sink};
use exitscope_record::{Notes, Writer};
use exitscope_view::Explanation;
use std::io;

/// Writes intervals into a recording. Each is on the disk when it was taken.
pub struct Recording {
    writer: Writer,
    progress: Option<Progress>,
}

impl Recording {
    /// Records with this writer.
    pub fn new(writer: Writer) -> Recording {
        Recording { writer, progress: None }
    }

    /// Shows the progress, unless `quiet` or standard error is no terminal.
    pub fn with_progress(mut self, quiet: bool) -> Recording {
        self.progress = Some(Progress::start(quiet));
        self
    }

    /// Removes the file: nothing was recorded.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn discard(self) -> io::Result<()> {
        self.writer.discard()
    }

    /// Gives the writer back, to end the recording.
    pub fn into_writer(mut self) -> Writer {
        self.clear_progress();
        self.writer
    }

    /// Takes the progress away from the terminal.
    pub fn clear_progress(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.clear();
        }
    }
}

impl Sink for Recording {
    fn take(&mut self, observed: &Observed<'_>) -> anyhow::Result<()> {
        let notes = notes(observed.explanation);
        Ok(self.writer.write_events(observed.interval, &notes, observed.events)?)
    }

    fn polled(&mut self, exits: u64) {
        if let Some(progress) = &mut self.progress {
            progress.tell(exits, || self.writer.size());
        }
    }
}

fn notes(explanation: &Explanation) -> Notes {
    let Explanation { kvm_counts_fewer, kvm_missing, source, .. } = explanation.clone();
    Notes { kvm_counts_fewer, kvm_missing, source }
}
