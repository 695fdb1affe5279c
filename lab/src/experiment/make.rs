//! Makes the runs, each by `lab run`, and keeps their recordings.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::cell::Cell;
use super::results::{Counted, Results};
use super::run::{Attempt, Run, load};
use crate::OUT;
use crate::command::{show, tail};
use crate::error::{EXIT_TIME_LIMIT, Error};
use crate::machine::Machine;
use crate::process::Process;

/// Attempts at a run that ends at its time limit.
const ATTEMPTS: usize = 3;
/// The recording's name in `LAB_OUT`.
const RECORDING: &str = "run.rec";

/// The runs to be made.
pub struct Experiment {
    /// The `lab` program.
    pub lab: PathBuf,
    /// The exitscope that counts.
    pub exitscope: PathBuf,
    /// The directory where the runs are kept.
    pub out: PathBuf,
    /// The suite of the outer VM's kernel.
    pub suite: String,
    /// Release of that kernel.
    pub kernel: String,
    /// Time limit of a run.
    pub time_limit: Duration,
    /// Number of runs side by side.
    pub jobs: usize,
    /// Number of the signal that asks to stop, or 0.
    pub stop: Arc<AtomicUsize>,
}

impl Experiment {
    /// Makes the runs 1 to `runs` of each cell that are not there yet. Returns the reason for each run that failed; `say`
    /// gets progress messages.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Experiment`] for a broken file, [`Error::Cancelled`].
    pub fn make(&self, cells: &[Cell], runs: u32, say: &(dyn Fn(&str) + Sync)) -> Result<Vec<String>, Error> {
        fs::create_dir_all(&self.out).map_err(Error::io(&self.out))?;
        // All cells once before any twice: what there is after an interruption is as even as can be.
        let mut queue = VecDeque::new();
        for number in 1..=runs {
            for cell in cells {
                if load(&self.out, cell, number)?.is_none() {
                    queue.push_back((*cell, number));
                }
            }
        }
        say(&format!(
            "{} runs to make, {} are there",
            queue.len(),
            cells.len() * runs as usize - queue.len()
        ));
        let queue = Mutex::new(queue);
        let failed = Mutex::new(Vec::new());
        let worker = || -> Result<(), Error> {
            loop {
                let next = queue.lock().map_or(None, |mut queue| queue.pop_front());
                let Some((cell, number)) = next else { return Ok(()) };
                if let Err(reason) = self.one(&cell, number, say)? {
                    let reason = format!("{cell}, run {number}: {reason}");
                    say(&reason);
                    if let Ok(mut failed) = failed.lock() {
                        failed.push(reason);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(worker)).collect();
            let lost = || Err(Error::Experiment("a thread that makes runs panicked".into()));
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| lost()))
        })?;
        Ok(failed.into_inner().unwrap_or_default())
    }

    /// Makes one run, in a few attempts if it ends at its time limit. The inner error is the reason of this run's failure.
    fn one(&self, cell: &Cell, number: u32, say: &dyn Fn(&str)) -> Result<Result<(), String>, Error> {
        let name = cell.file(number);
        let mut attempts = Vec::new();
        loop {
            let scratch = tempfile::Builder::new()
                .prefix(".run-")
                .tempdir_in(&self.out)
                .map_err(Error::io(&self.out))?;
            let mut command = self.command(cell, scratch.path());
            let shown = show(&command);
            let log = self.out.join(format!("{name}.log"));
            let file = File::create(&log).map_err(Error::io(&log))?;
            let other = file.try_clone().map_err(Error::io(&log))?;
            command.stdin(Stdio::null()).stdout(file).stderr(other);
            say(&format!("{cell}, run {number}: starts"));
            let start = Instant::now();
            let status = self.wait(Process::start(&mut command, Vec::new())?)?;
            let seconds = start.elapsed().as_secs_f64();
            attempts.push(Attempt { status, seconds });
            if status == i32::from(EXIT_TIME_LIMIT) && attempts.len() < ATTEMPTS {
                say(&format!("{cell}, run {number}: the time limit passed; once more"));
                continue;
            }
            if status != 0 {
                let said = tail(&fs::read(&log).unwrap_or_default());
                return Ok(Err(format!(
                    "status {status} after {seconds:.0} s: {said}; all of it is in {}",
                    log.display()
                )));
            }
            let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            let run = Run { name, kernel: self.kernel.clone(), date, command: shown, attempts };
            let recording = scratch.path().join(RECORDING);
            let counted = Results::new().and_then(|mut results| results.add(0, cell, &run, &recording));
            let Counted { exits, exact } = match counted {
                Ok(counted) => counted,
                Err(reason) => return Ok(Err(format!("its recording is broken: {reason}"))),
            };
            let exact = if exact { "exact" } else { "NOT EXACT" };
            say(&format!("{cell}, run {number}: {exits} exits, {exact}, in {seconds:.0} s"));
            return self.keep(&run, scratch.path()).map(Ok);
        }
    }

    /// Keeps the run's files. The recording goes first: without the file beside it, the run is made again.
    fn keep(&self, run: &Run, scratch: &Path) -> Result<(), Error> {
        let new = scratch.join("run");
        let text = serde_json::to_vec(run).map_err(|error| Error::Experiment(error.to_string()))?;
        fs::write(&new, text).map_err(Error::io(&new))?;
        for (from, extension) in [(scratch.join(RECORDING), "rec"), (new, "json")] {
            let path = self.out.join(format!("{}.{extension}", run.name));
            fs::rename(&from, &path).map_err(Error::io(&path))?;
        }
        Ok(())
    }

    fn wait(&self, mut process: Process) -> Result<i32, Error> {
        loop {
            let signal = self.stop.load(Ordering::Relaxed);
            if signal != 0 {
                process.terminate();
                return Err(Error::Cancelled(i32::try_from(signal).unwrap_or(i32::MAX)));
            }
            if let Some(status) = process.wait(Duration::from_millis(200))? {
                use std::os::unix::process::ExitStatusExt;
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
        }
    }

    /// Returns `lab run ... -- exitscope record ... -- lab inner ...`.
    fn command(&self, cell: &Cell, scratch: &Path) -> Command {
        let (machine, system) = (cell.machine, cell.system.name());
        let mut command = Command::new(&self.lab);
        command.args(["run", "--machine", machine.name(), "--no-stdin", "--timing", "--time-limit"]);
        command.arg(self.time_limit.as_secs().to_string());
        if machine != Machine::Host {
            command.args(["--suite", &self.suite]);
        }
        if machine == Machine::Vmx {
            command.args(["--bring-system", system]);
        }
        let out = if machine == Machine::Host { scratch } else { Path::new(OUT) };
        command.arg("--out").arg(scratch).arg("--").arg(&self.exitscope);
        command.args(["record", "--interval", "1s", "--output"]).arg(out.join(RECORDING));
        command.arg("--").arg(&self.lab).args(["inner", "--name", system, "--system", system]);
        command.args(["--bus", cell.bus_name(), "--ping"]);
        command
    }
}
