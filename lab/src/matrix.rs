//! `lab experiment`.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use lab::Machine;
use lab::doctor::{self, Task};
use lab::experiment::{self, Experiment, Results};
use lab::system::{Bus, System};
use lab::{Cache, Flavour};

use super::{cli, prepare, say};

/// Highest number of a cell's run.
const MOST: u32 = 99;

/// Makes the runs that are missing, and writes the figures.
pub fn act(options: &cli::Experiment, stop: Arc<AtomicUsize>) -> anyhow::Result<u8> {
    let document = fs::read_to_string(&options.document).with_context(|| {
        format!("{}: --document names a file with the places for the figures", options.document.display())
    })?;
    // Before the runs: a document that cannot be filled should not be found out hours later.
    fill(&document, options)?;
    let failed = if options.figures { Vec::new() } else { make(options, stop)? };
    let (filled, all) = fill(&document, options)?;
    if filled != document {
        fs::write(&options.document, filled).with_context(|| options.document.display().to_string())?;
    }
    let inexact: Vec<&String> = all.iter().filter(|(_, exact)| !exact).map(|(name, _)| name).collect();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{} runs; their figures are in {}", all.len(), options.document.display())
        .map_err(lab::Error::Output)?;
    for name in &inexact {
        say(&format!("{name} is not exact, and counts nowhere"));
    }
    for reason in &failed {
        say(reason);
    }
    Ok(u8::from(!failed.is_empty() || !inexact.is_empty()))
}

fn make(options: &cli::Experiment, stop: Arc<AtomicUsize>) -> anyhow::Result<Vec<String>> {
    let cells = experiment::cells(&options.machine, &options.system, &options.bus);
    let cache = Cache::open()?;
    let has = |machine: Machine| options.machine.contains(&machine);
    let kernel = if has(Machine::Svm) || has(Machine::Vmx) {
        if has(Machine::Host) {
            bail!("--machine host runs this machine's own kernel: keep it apart, with an --out of its own");
        }
        doctor::check(Task::Run)?;
        if has(Machine::Vmx) {
            doctor::check(Task::Vmx)?;
        }
        match cache.find(&options.suite, Flavour::Plain)? {
            Some(kernel) => kernel.release,
            None => prepare(&cache, &options.suite, false)?.release,
        }
    } else {
        rustix::system::uname().release().to_string_lossy().into_owned()
    };
    for system in &options.system {
        system.prepare(&cache, lab::INNER_SUITE, false, &say)?;
    }
    let own = std::env::current_exe().context("the lab's own program")?;
    let exitscope = options.exitscope.clone().unwrap_or_else(|| own.with_file_name("exitscope"));
    let exitscope = fs::canonicalize(&exitscope).with_context(|| {
        format!("{}: --exitscope names the one that counts; or run: cargo build --bins", exitscope.display())
    })?;
    let experiment = Experiment {
        lab: own,
        exitscope,
        out: options.out.clone(),
        suite: options.suite.clone(),
        kernel,
        time_limit: Duration::from_secs(options.time_limit),
        jobs: usize::try_from(options.jobs)?,
        stop,
    };
    Ok(experiment.make(&cells, options.runs, &say)?)
}

/// Returns the document with the figures of all runs that are there, and for each run its name and whether it is exact.
fn fill(document: &str, options: &cli::Experiment) -> anyhow::Result<(String, Vec<(String, bool)>)> {
    let machines = [Machine::Svm, Machine::Vmx, Machine::Host];
    let cells = experiment::cells(&machines, &[System::Busybox, System::Debian], &[Bus::Ide, Bus::Virtio]);
    let mut results = Results::new().map_err(|error| anyhow!(error))?;
    let mut runs = Vec::new();
    for (cell_number, cell) in (0..).zip(&cells) {
        for number in 1..=MOST {
            let Some((run, recording)) = experiment::load(&options.out, cell, number)? else { continue };
            let counted = results.add(cell_number, cell, &run, &recording).map_err(|reason| {
                anyhow!(
                    "{}: {reason}; remove {}.json, and the run is made again",
                    recording.display(),
                    run.name
                )
            })?;
            runs.push((run.name, counted.exact));
        }
    }
    let filled = experiment::fill(document, &|name| results.table(name))
        .map_err(|reason| anyhow!("{}: {reason}", options.document.display()))?;
    Ok((filled, runs))
}
