//! A run and its files.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use crate::error::{EXIT_TIME_LIMIT, Error};

/// Result of one attempt at a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The exit status of `lab run`; 124: the time limit passed.
    pub status: i32,
    /// Duration in seconds of this machine's clock.
    pub seconds: f64,
}

/// One run; its file `NAME.json` stands beside its recording `NAME.rec`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The cell and the number, as in the file's name.
    pub name: String,
    /// The outer VM's kernel.
    pub kernel: String,
    /// Time of its end: RFC 3339, UTC.
    pub date: String,
    /// The command line.
    pub command: String,
    /// All attempts, the last of which succeeded.
    pub attempts: Vec<Attempt>,
}

impl Run {
    /// Returns how many attempts ended at the time limit before one succeeded.
    #[must_use]
    pub fn stalls(&self) -> u32 {
        self.attempts.iter().map(|attempt| u32::from(attempt.status == i32::from(EXIT_TIME_LIMIT))).sum()
    }

    /// Returns the duration of the attempt that succeeded, in seconds of this machine's clock.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.attempts.last().map_or(0.0, |attempt| attempt.seconds)
    }
}

/// Reads the run of this cell and number, and the path of its recording. Returns `None` if it was not made yet.
///
/// # Errors
/// [`Error::Io`]; [`Error::Experiment`] if the file is not one that [`Experiment::make`] writes.
pub fn load(out: &Path, cell: &Cell, number: u32) -> Result<Option<(Run, PathBuf)>, Error> {
    let name = cell.file(number);
    let path = out.join(format!("{name}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let run: Run = serde_json::from_slice(&text).map_err(|error| broken(&path, &error.to_string()))?;
    if run.name != name {
        return Err(broken(&path, &format!("it is the run {}", run.name)));
    }
    Ok(Some((run, out.join(format!("{name}.rec")))))
}

/// Returns the error for a file of a run that cannot be used.
fn broken(path: &Path, reason: &str) -> Error {
    Error::Experiment(format!("{}: {reason}; remove it, and the run is made again", path.display()))
}
