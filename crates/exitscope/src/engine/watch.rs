//! Starts to count, once there is something to count.

use super::events::{Event, Events};
use crate::cli;
use anyhow::{Context, bail};
use exitscope_collect::{self as collect, Collect, Error, Options, PortMarks, Select, host, identity};
use exitscope_model::{Interval, Loss, Measured, Sample, Source};
use exitscope_view::{Explanation, text};
use std::io::Write;
use std::time::{Duration, SystemTime};

/// How long to wait between two looks for KVM.
const PATIENCE: Duration = Duration::from_millis(200);

/// A source that counts, and what was seen of it last.
pub struct Watch {
    source: Box<dyn Collect>,
    last: Sample,
}

impl Watch {
    /// Starts to count; `None` where a signal came before KVM did.
    pub fn start(options: &Options, events: &Events, wait: bool) -> anyhow::Result<Option<Watch>> {
        let mut told = false;
        let source = loop {
            match collect::start(options) {
                Err(error @ Error::NoKvm) if wait => {
                    if !told {
                        writeln!(std::io::stderr(), "exitscope: {error}; waiting for it")?;
                        told = true;
                    }
                    if let Event::Signal(_) = events.within(PATIENCE) {
                        return Ok(None);
                    }
                }
                started => break started?,
            }
        };
        // Before this moment nothing was counted, so that every counter begins at zero here.
        let last = Sample {
            monotonic_ns: collect::monotonic_ns(),
            wall: SystemTime::now(),
            source: source.source(),
            measured: source.measured(),
            vms: Vec::new(),
            vcpus: Vec::new(),
            loss: Loss::default(),
        };
        Ok(Some(Watch { source, last }))
    }

    /// What happened since the last call, or since the start.
    pub fn next(&mut self) -> anyhow::Result<Interval> {
        let now = self.source.sample().context("cannot read the counters")?;
        let interval = Interval::between(&self.last, &now)?;
        self.last = now;
        Ok(interval)
    }

    /// When the last interval ended, or counting began (`CLOCK_MONOTONIC`).
    pub fn monotonic_ns(&self) -> u64 {
        self.last.monotonic_ns
    }

    /// What guests wrote to ports for marks since the last call, where [`Options::guest`] asked for that.
    pub fn take_marks(&mut self) -> anyhow::Result<PortMarks> {
        self.source.take_marks().context("cannot read what guests wrote to ports")
    }

    /// Where the numbers come from.
    pub fn source(&self) -> Source {
        self.source.source()
    }

    /// What is measured beside the number of exits.
    pub fn measured(&self) -> Measured {
        self.source.measured()
    }

    /// How many VMs were there, and had not ended, when we looked last.
    pub fn live_vms(&self) -> usize {
        self.last.vms.iter().filter(|vm| !vm.ended).count()
    }

    /// What this process starts from now on is not watched.
    pub fn stop_following(&mut self) -> anyhow::Result<()> {
        Ok(self.source.stop_following()?)
    }

    /// What is known about the numbers.
    pub fn explanation(&self) -> Explanation {
        let note = self.source.note();
        Explanation {
            // vcpu_enter_guest() counts an exit on its slow path alone before 6.4 (arch/x86/kvm/x86.c).
            kvm_counts_fewer: host::kernel_is_before(6, 4)
                .then(|| "kernels before 6.4 do not count exits handled on the fast path".to_owned()),
            kvm_missing: note.clone(),
            source: note,
        }
    }
}

/// The processes that `-p` and `-g` name.
pub fn select(args: &cli::Watch) -> anyhow::Result<Select> {
    if args.pid.is_empty() && args.guest.is_empty() {
        return Ok(Select::All);
    }
    let here = identity::vms_of_host().context("cannot look for VMs in /proc")?;
    let name = |name: &str| text::clean(name, 60);
    let all = || {
        let names: Vec<_> =
            here.vms.iter().map(|vm| format!("{} ({})", name(&vm.identity.name), vm.pid)).collect();
        let seen =
            if names.is_empty() { "no VM runs".to_owned() } else { format!("running: {}", names.join(", ")) };
        match here.unreadable {
            0 => seen,
            n => format!("{seen}; {n} processes could not be looked into: run this as root"),
        }
    };
    let mut pids = Vec::new();
    for &pid in &args.pid {
        if !here.vms.iter().any(|vm| vm.pid == pid) {
            let what = if std::path::Path::new(&format!("/proc/{pid}")).exists() {
                "runs no VM"
            } else {
                "does not exist"
            };
            bail!("-p {pid}: that process {what}; {}", all());
        }
        pids.push(pid);
    }
    for guest in &args.guest {
        let found: Vec<_> =
            here.vms.iter().filter(|vm| vm.identity.name == *guest).map(|vm| vm.pid).collect();
        match found[..] {
            [pid] => pids.push(pid),
            [] => bail!("-g {}: no VM has that name; {}", name(guest), all()),
            _ => bail!(
                "-g {}: {} VMs have that name, the processes {found:?}; choose by -p",
                name(guest),
                found.len()
            ),
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(Select::Pids(pids))
}

/// What `args` ask the collector for.
pub fn options(args: &cli::Watch, select: Select) -> Options {
    Options {
        select,
        source: args.source.into(),
        measure: args.measure(),
        guest: false,
        max_rows: args.max_rows,
        max_vcpus: args.max_vcpus,
    }
}
