//! A source and its last sample: gives the intervals between samples.

use super::events::{Event, Events};
use anyhow::{Context, bail};
use exitscope_collect::{self as collect, Collect, Error, Options, PortMarks, Workers, host};
use exitscope_model::{Filter, Interval, Loss, Measured, Sample, Source};
use exitscope_view::Explanation;
use std::io::Write;
use std::time::{Duration, SystemTime};

/// Time between two attempts to start while KVM is not loaded.
const RETRY: Duration = Duration::from_millis(200);

/// Reads samples from a source, and subtracts each from the next.
pub struct Sampler {
    source: Box<dyn Collect>,
    last: Sample,
    workers: Option<Workers>,
    command_lines: bool,
    filter: Filter,
}

impl Sampler {
    /// Starts to count with the source that [`collect::start`] chooses. With `wait`, waits until KVM is loaded.
    /// Returns `None` if a signal came before that.
    ///
    /// # Errors
    /// Those of [`collect::start`].
    pub fn start(options: &Options, events: &Events, wait: bool) -> anyhow::Result<Option<Sampler>> {
        let mut announced = false;
        loop {
            match Sampler::try_start(options)? {
                Some(sampler) => return Ok(Some(sampler)),
                None if !wait => return Err(Error::NoKvm.into()),
                None => {
                    if !announced {
                        writeln!(std::io::stderr(), "exitscope: {}; waiting for it", Error::NoKvm)?;
                        announced = true;
                    }
                    if let Event::Signal(_) = events.within(RETRY) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Starts to count with the source that [`collect::start`] chooses. Returns `None` if KVM is not loaded.
    ///
    /// # Errors
    /// Others of [`collect::start`], and if the source lacks what is asked for.
    pub fn try_start(options: &Options) -> anyhow::Result<Option<Sampler>> {
        let sampler = match collect::start(options) {
            Err(Error::NoKvm) => return Ok(None),
            started => Sampler::new(started?),
        };
        if !options.filter.reasons.is_empty() && sampler.source() == Source::KvmStat {
            bail!(
                "--reason needs exits told apart by reason, and the source {} has KVM's classes alone; \
                 `exitscope doctor` says what a better source needs",
                sampler.source().word()
            );
        }
        if !options.filter.details.is_empty() && !sampler.counts_details() {
            bail!(
                "--detail needs details, which the source {} does not count here; see `exitscope doctor`",
                sampler.source().word()
            );
        }
        let (command_lines, filter) = (options.command_lines, options.filter.clone());
        Ok(Some(Sampler { command_lines, filter, ..sampler }))
    }

    /// Takes a source that has just begun to count: every counter is zero at this moment.
    pub fn new(source: Box<dyn Collect>) -> Sampler {
        let last = Sample {
            monotonic_ns: collect::monotonic_ns(),
            wall: SystemTime::now(),
            source: source.source(),
            measured: source.measured(),
            vms: Vec::new(),
            vcpus: Vec::new(),
            workers: Vec::new(),
            loss: Loss::default(),
        };
        Sampler {
            source,
            last,
            workers: Some(Workers::new()),
            command_lines: true,
            filter: Filter::default(),
        }
    }

    /// Spares itself the threads that work for VMs beside their vCPUs.
    pub fn without_workers(self) -> Sampler {
        Sampler { workers: None, ..self }
    }

    /// Reads a sample. Returns the interval since the last one, or since the start, of the exits that are asked for.
    ///
    /// # Errors
    /// If the counters cannot be read, or one went backwards.
    pub fn next_interval(&mut self) -> anyhow::Result<Interval> {
        let mut now = self.source.sample().context("cannot read the counters")?;
        if !self.command_lines {
            now.vms.iter_mut().for_each(|vm| vm.command = "".into());
        }
        if let Some(workers) = &mut self.workers {
            now.workers = workers.look(&now.vms, self.source.vcpu_threads());
        }
        let mut interval = Interval::between(&self.last, &now)?;
        self.filter.apply(&mut interval);
        self.last = now;
        Ok(interval)
    }

    /// Time of the last sample, or of the start (`CLOCK_MONOTONIC`, ns).
    pub fn monotonic_ns(&self) -> u64 {
        self.last.monotonic_ns
    }

    /// Bytes that guests wrote to ports for marks since the last call; none unless [`Options::guest`] asked for them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn take_marks(&mut self) -> anyhow::Result<PortMarks> {
        self.source.take_marks().context("cannot read what guests wrote to ports")
    }

    /// Kind of the source.
    pub fn source(&self) -> Source {
        self.source.source()
    }

    /// Returns true if command lines may be kept.
    pub fn keeps_command_lines(&self) -> bool {
        self.command_lines
    }

    /// Level of detail that the source measures.
    pub fn measured(&self) -> Measured {
        self.source.measured()
    }

    /// Returns true if the source counts what exits were about.
    fn counts_details(&self) -> bool {
        self.source() == Source::Btf && self.measured() == Measured::Breakdown
    }

    /// Number of VMs that were alive in the last sample.
    pub fn live_vms(&self) -> usize {
        self.last.vms.iter().filter(|vm| !vm.ended).count()
    }

    /// Excludes processes that this one starts from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stop_following(&mut self) -> anyhow::Result<()> {
        Ok(self.source.stop_following()?)
    }

    /// Remarks about the figures. They change as VMs come and go.
    pub fn explanation(&self) -> Explanation {
        let note = self.source.note();
        Explanation {
            // vcpu_enter_guest() counts an exit on its slow path alone before 6.4 (arch/x86/kvm/x86.c).
            kvm_counts_fewer: host::kernel_is_before(6, 4)
                .then(|| "kernels before 6.4 do not count exits handled on the fast path".to_owned()),
            kvm_missing: note.clone(),
            source: note,
            thinned: None,
        }
    }
}
