//! Makes the runs, each by `lab run`, and keeps what they report.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cell::Cell;
use super::report::Boot;
use crate::OUT;
use crate::command::{show, tail};
use crate::error::{EXIT_TIME_LIMIT, Error};
use crate::machine::Machine;
use crate::process::Process;

/// How often a run is made that does not come to its end.
const ATTEMPTS: usize = 3;
/// The report's name in `LAB_OUT`.
const REPORT: &str = "report.json";

/// What became of one attempt at a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The exit status of `lab run`; 124: the time limit passed.
    pub status: i32,
    /// How long it took, in seconds of this machine's clock.
    pub seconds: f64,
}

/// One run, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The cell and the number, as in the file's name.
    pub name: String,
    /// The outer VM's kernel.
    pub kernel: String,
    /// When it ended: RFC 3339, UTC.
    pub date: String,
    /// The command line.
    pub command: String,
    /// All attempts, the last of which succeeded.
    pub attempts: Vec<Attempt>,
    /// What exitscope wrote, an object for each interval.
    pub reports: Vec<Value>,
}

/// The runs to be made.
pub struct Experiment {
    /// The `lab` program.
    pub lab: PathBuf,
    /// The exitscope that counts.
    pub exitscope: PathBuf,
    /// Where the runs are kept.
    pub out: PathBuf,
    /// The suite of the outer VM's kernel.
    pub suite: String,
    /// That kernel's release.
    pub kernel: String,
    /// How long a run may take.
    pub time_limit: Duration,
    /// How many run side by side.
    pub jobs: usize,
    /// Ends all when this holds a signal's number instead of 0.
    pub stop: Arc<AtomicUsize>,
}

/// Reads a run that was kept; `None` where there is none.
///
/// # Errors
/// [`Error::Io`]; [`Error::Experiment`] if the file is not what [`Experiment::make`] writes.
pub fn load(out: &Path, cell: &Cell, number: u32) -> Result<Option<(Run, Boot)>, Error> {
    let name = cell.file(number);
    let path = out.join(format!("{name}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let broken = |reason: String| {
        Error::Experiment(format!("{}: {reason}; remove it, and the run is made again", path.display()))
    };
    let run: Run = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    if run.name != name {
        return Err(broken(format!("it is the run {}", run.name)));
    }
    let boot = Boot::read(&run.reports).map_err(broken)?;
    check(cell, &boot).map_err(broken)?;
    Ok(Some((run, boot)))
}

/// A report of the other processor is no figure of this cell.
fn check(cell: &Cell, boot: &Boot) -> Result<(), String> {
    if cell.machine != Machine::Host && boot.isa != cell.machine.name() {
        return Err(format!("its exits are of {}", boot.isa));
    }
    Ok(())
}

impl Experiment {
    /// Makes the runs 1 to `runs` of each cell that are not there yet; `say` tells how it goes. Returns what could not be
    /// made, with the reason.
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

    /// Makes one run, and once more where it does not come to its end.
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
                say(&format!("{cell}, run {number}: sleeps for ever; once more"));
                continue;
            }
            if status != 0 {
                let said = tail(&fs::read(&log).unwrap_or_default());
                return Ok(Err(format!(
                    "status {status} after {seconds:.0} s: {said}; all of it is in {}",
                    log.display()
                )));
            }
            let report = scratch.path().join(REPORT);
            let text = fs::read_to_string(&report).map_err(Error::io(&report))?;
            let reports: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
            let checked = reports.map_err(|error| error.to_string()).and_then(|reports| {
                let boot = Boot::read(&reports)?;
                check(cell, &boot)?;
                Ok((reports, boot))
            });
            let (reports, boot) = match checked {
                Ok(checked) => checked,
                Err(reason) => return Ok(Err(format!("its report is broken: {reason}"))),
            };
            let exact = if boot.exact() { "exact" } else { "NOT EXACT" };
            say(&format!("{cell}, run {number}: {} exits, {exact}, in {seconds:.0} s", boot.total));
            let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            let kernel = self.kernel.clone();
            let run = Run { name: name.clone(), kernel, date, command: shown, attempts, reports };
            return self.keep(&run, scratch.path()).map(Ok);
        }
    }

    /// Writes the run's file, whole or not at all.
    fn keep(&self, run: &Run, scratch: &Path) -> Result<(), Error> {
        let new = scratch.join("run");
        let text = serde_json::to_vec(run).map_err(|error| Error::Experiment(error.to_string()))?;
        fs::write(&new, text).map_err(Error::io(&new))?;
        let path = self.out.join(format!("{}.json", run.name));
        fs::rename(&new, &path).map_err(Error::io(&path))
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

    /// `lab run ... -- exitscope stat ... -- lab inner ...`
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
        command.args(["stat", "--format", "json", "--interval", "1s", "--output"]).arg(out.join(REPORT));
        command.arg("--").arg(&self.lab).args(["inner", "--name", system, "--system", system]);
        command.args(["--bus", cell.bus_name(), "--ping"]);
        command
    }
}

impl Run {
    /// How often the run slept for ever before it succeeded.
    #[must_use]
    pub fn slept(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.status == i32::from(EXIT_TIME_LIMIT)).count()
    }

    /// How long the attempt that succeeded took, in seconds of this machine's clock.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.attempts.last().map_or(0.0, |attempt| attempt.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::interval;
    use super::*;
    use crate::system::{Bus, System};

    const CELL: Cell = Cell { machine: Machine::Svm, system: System::Busybox, bus: Bus::Ide };

    /// With a program in place of `lab` that puts the file `report` into the directory after `--out`, does what `script`
    /// says, and counts its calls.
    fn experiment(directory: &Path, script: &str) -> Experiment {
        let lab = directory.join("lab");
        let text = format!(
            "#!/bin/sh\ncd {}\necho x >>calls\nuntil [ \"$1\" = --out ]; do shift; done\ncp report \"$2/{REPORT}\"\n{script}\n",
            directory.display()
        );
        // Written by another process: while this one had it open, a program that another test starts just then would
        // inherit it, and the kernel runs no file that is open for writing.
        let write = "printf %s \"$2\" >\"$1\" && chmod +x \"$1\"";
        let status = Command::new("sh").args(["-c", write, "sh"]).arg(&lab).arg(text).status().unwrap();
        assert!(status.success());
        Experiment {
            lab,
            exitscope: "exitscope".into(),
            out: directory.join("out"),
            suite: "bookworm".into(),
            kernel: "6.1".into(),
            time_limit: Duration::from_secs(9),
            jobs: 2,
            stop: Arc::default(),
        }
    }

    fn calls(directory: &Path) -> usize {
        fs::read_to_string(directory.join("calls")).map_or(0, |calls| calls.lines().count())
    }

    #[test]
    fn runs_are_made_again_until_they_end_and_not_once_they_are_there() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path();
        let reports = [interval(1.0, &[("IOIO", 30, 20)]), interval(3.0, &[("CPUID", 4, 0)])];
        fs::write(at.join("report"), format!("{}\n{}\n", reports[0], reports[1])).unwrap();
        // The first call of all sleeps for ever.
        let sleeps = experiment(at, "[ -e slept ] || { touch slept; exit 124; }");
        let only = Experiment { jobs: 1, ..sleeps };
        assert_eq!(only.make(&[CELL], 2, &|_| {}).unwrap(), Vec::<String>::new());
        assert_eq!(calls(at), 3);
        let (run, boot) = load(&only.out, &CELL, 1).unwrap().unwrap();
        assert_eq!((run.slept(), run.attempts.len(), boot.total), (1, 2, 34));
        assert!(
            run.command.contains("inner --name busybox --system busybox --bus ide --ping"),
            "{}",
            run.command
        );
        // One more run: only that is made.
        only.make(&[CELL], 3, &|_| {}).unwrap();
        assert_eq!(calls(at), 4);
        assert_eq!(load(&only.out, &CELL, 3).unwrap().unwrap().0.slept(), 0);
        assert!(load(&only.out, &CELL, 4).unwrap().is_none());
        // A file that somebody has changed is no run, and is not silently made again.
        fs::rename(only.out.join("svm-busybox-ide-1.json"), only.out.join("svm-busybox-ide-2.json")).unwrap();
        let error = only.make(&[CELL], 3, &|_| {}).unwrap_err().to_string();
        assert!(
            error.contains("svm-busybox-ide-2.json: it is the run svm-busybox-ide-1; remove it"),
            "{error}"
        );
    }

    #[test]
    fn a_run_that_fails_leaves_no_figures() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path();
        let report = |reports: &Value| fs::write(at.join("report"), format!("{reports}\n")).unwrap();
        let fails = |script: &str, why: &str, expected_calls: usize| {
            fs::remove_file(at.join("calls")).unwrap_or_default();
            let failed = experiment(at, script).make(&[CELL], 1, &|_| {}).unwrap();
            assert!(failed.len() == 1 && failed[0].contains(why), "{failed:?}");
            assert_eq!(calls(at), expected_calls);
            assert!(load(&at.join("out"), &CELL, 1).unwrap().is_none());
        };
        report(&interval(1.0, &[("IOIO", 30, 20)]));
        fails("exit 124", "status 124", ATTEMPTS);
        fails("echo no disk; exit 1", "status 1 after 0 s: no disk", 1);
        let mut broken = interval(1.0, &[("IOIO", 30, 20)]);
        broken["total"] = 31.into();
        report(&broken);
        fails("exit 0", "its report is broken: interval 1: its rows have 30 exits", 1);
        broken["total"] = 30.into();
        broken["rows"][0]["isa"] = "vmx".into();
        report(&broken);
        fails("exit 0", "its exits are of vmx", 1);
    }
}
