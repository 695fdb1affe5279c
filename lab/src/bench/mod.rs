//! Cost of watching exits: the instructions that exitscope and other tools add to each exit.
//!
//! Each tool gets an outer VM of its own with one CPU, in which a virtual nanosecond is one instruction. There a guest
//! makes a known number of exits, first alone, then while the tool watches; the difference is what the tool adds. It
//! repeats to within a few instructions on any machine, whatever else that machine does.

mod code;
mod counters;
mod floor;
mod guest;
mod idle;
mod inside;
mod report;
mod tools;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

pub use counters::counters;
pub use floor::floor;
pub use inside::measure;
pub use report::{Report, Row};
pub use tools::{Tool, known};

use crate::{Cache, Error, Kernel, Outer, doctor};

/// A set of figures that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// One vCPU, several kinds of exits.
    Kinds,
    /// Few and many vCPUs, one reason and many.
    Scale,
}

impl Suite {
    /// The word for it on the inner command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Suite::Kinds => "kinds",
            Suite::Scale => "scale",
        }
    }
}

/// One figure, in instructions per exit.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name of the work, and after an `@` the number of vCPUs.
    pub name: String,
    /// Without the tool.
    pub bare: f64,
    /// With it.
    pub watched: f64,
}

/// A benchmark on one kernel.
pub struct Bench {
    outer: Outer,
    release: String,
    build: PathBuf,
    me: PathBuf,
}

impl Bench {
    /// A benchmark on `kernel` of the `exitscope` in the directory `build`. Each tool may take `time_limit`; when `stop`
    /// holds a signal's number instead of 0, it ends.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn new(
        cache: Cache,
        kernel: Kernel,
        build: PathBuf,
        time_limit: Duration,
        stop: Arc<AtomicUsize>,
    ) -> Result<Self, Error> {
        let me = std::env::current_exe().map_err(Error::io("the lab's own program"))?;
        let mut path = build.clone().into_os_string();
        path.push(":");
        path.push(me.parent().unwrap_or(&me));
        path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let release = kernel.release.clone();
        let outer = Outer::with(cache, kernel)?.icount(true).env("PATH", path);
        Ok(Self { outer: outer.time_limit(time_limit).stop_on(stop), release, build, me })
    }

    /// Measures each tool in turn; `say` tells how it goes.
    ///
    /// # Errors
    /// Those of the lab. A tool that is missing or fails is none: its row says so.
    pub fn run(&self, tools: Vec<Tool>, say: &dyn Fn(&str)) -> Result<Report, Error> {
        let mut rows = Vec::new();
        for tool in tools {
            say(&format!("{}: {}", tool.label, tool.command));
            let figures = match self.missing(&tool) {
                Some(reason) => Err(reason),
                None => self.one(&tool)?,
            };
            match &figures {
                Ok(figures) => say(&report::line(figures)),
                Err(reason) => say(&format!("no figure: {reason}")),
            }
            rows.push(Row { tool, figures });
        }
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let date = date.split('T').next().unwrap_or_default().to_owned();
        let versions = self.versions(&rows);
        Ok(Report { kernel: self.release.clone(), date, versions, rows })
    }

    fn missing(&self, tool: &Tool) -> Option<String> {
        let (program, remedy) = tool.needs?;
        let there = program == "lab" || self.build.join(program).exists() || doctor::program(program).is_ok();
        (!there).then(|| format!("{program} is not installed ({remedy})"))
    }

    fn one(&self, tool: &Tool) -> Result<Result<Vec<Figure>, String>, Error> {
        let command: [OsString; 4] = [
            self.me.clone().into(),
            "bench-inside".into(),
            tool.suite.name().into(),
            tool.command.clone().into(),
        ];
        let finished = match self.outer.run(&command) {
            // A tool that breaks the outer VM or never comes to an end spoils its own row alone.
            Err(
                error @ (Error::TimeLimit { .. }
                | Error::Stalled { .. }
                | Error::Panic { .. }
                | Error::EmulatorDied { .. }
                | Error::WentDown { .. }),
            ) => return Ok(Err(error.to_string())),
            finished => finished?,
        };
        let said = String::from_utf8_lossy(&finished.stdout).into_owned();
        if finished.status != 0 {
            let why = crate::command::tail(&finished.stderr);
            return Ok(Err(format!("measuring failed (status {}): {why}", finished.status)));
        }
        read(&said)
    }

    /// Returns the versions that the programs print.
    fn versions(&self, rows: &[Row]) -> Vec<String> {
        let measured = rows.iter().filter(|row| row.figures.is_ok()).filter_map(|row| row.tool.needs);
        let mut programs = vec!["qemu-system-x86_64"];
        for (program, _) in measured {
            if !programs.contains(&program) {
                programs.push(program);
            }
        }
        programs.into_iter().filter_map(|program| version(&self.build, program)).collect()
    }
}

fn version(build: &std::path::Path, program: &str) -> Option<String> {
    let own = build.join(program);
    let path = if own.exists() { own } else { doctor::program(program).ok()? };
    let output = Command::new(path).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// Reads what [`measure`] prints.
fn read(said: &str) -> Result<Result<Vec<Figure>, String>, Error> {
    let strange = |line: &str| Error::Bench(format!("cannot read the measurement {line:?}"));
    let mut figures: Vec<Figure> = Vec::new();
    for line in said.lines() {
        if line == "done" {
            return if figures.iter().all(|figure| figure.watched > 0.0) {
                Ok(Ok(figures))
            } else {
                Err(Error::Bench("figures are missing".into()))
            };
        }
        if let Some(reason) = line.strip_prefix("none ") {
            return Ok(Err(reason.to_owned()));
        }
        let mut words = line.split(' ');
        let (Some("figure"), Some(name), Some(when), Some(value)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(strange(line));
        };
        let value: f64 = value.parse().map_err(|_| strange(line))?;
        match (when, figures.iter_mut().find(|figure| figure.name == name)) {
            ("bare", None) => figures.push(Figure { name: name.into(), bare: value, watched: 0.0 }),
            ("watched", Some(figure)) => figure.watched = value,
            _ => return Err(strange(line)),
        }
    }
    Err(Error::Bench("the measurement broke off".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_whole_or_not_at_all() {
        let bare = "figure cpuid bare 2859.0\n";
        let whole = read(&format!("{bare}figure cpuid watched 3527.5\ndone\n")).unwrap().unwrap();
        assert_eq!(whole, [Figure { name: "cpuid".into(), bare: 2859.0, watched: 3527.5 }]);
        assert_eq!(read(&format!("{bare}none it ended\n")).unwrap(), Err("it ended".into()));
        for broken in ["", bare, "figure cpuid watched 1\ndone\n", "figure cpuid bare x\ndone\n"] {
            assert!(read(broken).is_err(), "{broken}");
        }
        assert!(read(&format!("{bare}done\n")).is_err());
    }
}
