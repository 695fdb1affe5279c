//! Steps of a build, each with a log of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::command::{show, tail};
use crate::error::Error;

/// Runs the steps.
pub(super) struct Steps<'a> {
    logs: PathBuf,
    progress: &'a dyn Fn(&str),
}

impl<'a> Steps<'a> {
    /// Steps with their logs in `logs`.
    pub(super) fn new(logs: &Path, progress: &'a dyn Fn(&str)) -> Result<Self, Error> {
        fs::create_dir_all(logs).map_err(Error::io(logs))?;
        Ok(Self { logs: logs.into(), progress })
    }

    /// Runs one step to its end.
    ///
    /// # Errors
    /// [`Error::Step`] with the end of the log.
    pub(super) fn run(&self, name: &'static str, what: &str, command: &mut Command) -> Result<(), Error> {
        let start = Instant::now();
        (self.progress)(&format!("{name}: {what}"));
        let log = self.logs.join(format!("{name}.log"));
        let file = File::create(&log).map_err(Error::io(&log))?;
        let both = file.try_clone().map_err(Error::io(&log))?;
        let status = command.stdout(file).stderr(both).status().map_err(Error::io(show(command)))?;
        if !status.success() {
            let said = fs::read(&log).map_err(Error::io(&log))?;
            return Err(Error::Step { step: name, status, said: tail(&said), log });
        }
        (self.progress)(&format!("{name}: done in {:.0} s", start.elapsed().as_secs_f64()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_and_leaves_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs");
        let steps = Steps::new(&logs, &|_| {}).unwrap();
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            command
        };
        steps.run("first", "saying something", &mut script("echo out; echo err >&2")).unwrap();
        assert_eq!(fs::read_to_string(logs.join("first.log")).unwrap(), "out\nerr\n");
        let failed = steps.run("second", "failing", &mut script("echo the cause; exit 3")).unwrap_err();
        let said = failed.to_string();
        for part in ["second", "exit status: 3", "the cause", &logs.join("second.log").display().to_string()]
        {
            assert!(said.contains(part), "{said}");
        }
    }
}
