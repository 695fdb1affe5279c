//! KVM's own statistics (`struct kvm_vcpu_stat`), for hosts where `kvm_exit` never fires: exits in total and by
//! KVM's classes, no reasons and no times.
//!
//! A BPF program reads them out of the kernel for each vCPU ([`walk`]); where BPF is forbidden, debugfs has them for
//! each VM ([`debugfs`]). [`track`] makes counters since the start of either. Neither costs an exit anything.

mod debugfs;
#[cfg(all(test, feature = "lab-tests"))]
mod live_tests;
mod track;
#[cfg(test)]
mod track_tests;
mod unknown;
mod walk;
mod wire;

use super::host::{self, Backend};
use super::{Collect, Error, Options, Select, identity, monotonic_ns};
use debugfs::Debugfs;
use exitscope_model::{Loss, Measured, Sample, Source, VmId};
use std::collections::HashMap;
use std::time::SystemTime;
use track::{Reading, Tracker};
use unknown::Unknown;
use walk::{Lost, Walk};

/// Reads KVM's own statistics from [`KvmStat::start`] on.
pub struct KvmStat {
    layer: Layer,
    tracker: Tracker,
    backend: Backend,
    /// Identities of VMs, each read once, while the VM lives.
    names: HashMap<VmId, identity::Identity>,
    lost: Lost,
    /// Exits of vCPUs that are not found; not compared where only whole VMs are.
    unknown: Option<Unknown>,
    /// Reason why no better source was used.
    because: Option<String>,
}

/// KVM's count of one vCPU, for a comparison with another source's.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// One of this source's; no other knows it.
    pub vm: VmId,
    /// The process that runs the VM.
    pub pid: u32,
    /// The vCPU's number.
    pub vcpu: u32,
    /// Exits since the start.
    pub exits: u64,
    /// State of the VM's end.
    pub end: End,
    /// It was not found any more, and its end, which is about to be told, may bring more exits.
    pub vanished: bool,
    /// It stands for all vCPUs of the VM together.
    pub whole_vm: bool,
}

/// State of a VM's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It lives.
    None,
    /// The count is final.
    Final,
    /// The VM ended, and exits after the last look at it are unknown.
    CutOff,
}

enum Layer {
    Walk(Walk),
    Debugfs {
        debugfs: Debugfs,
        /// Reason why the walk does not work.
        cause: String,
    },
}

impl KvmStat {
    /// Starts counting, from the figures that are found now.
    ///
    /// # Errors
    /// If neither BPF nor debugfs lets us see the statistics; the text says what to do about both.
    pub fn start(options: &Options) -> Result<KvmStat, Error> {
        let follow = options.select == Select::Descendants;
        let backend = host::backend();
        if backend == Backend::NoKvm {
            return Err(Error::NoKvm);
        }
        let layer = match Walk::load(follow) {
            Ok(walk) => Layer::Walk(walk),
            Err(error) => {
                let cause = format!("BPF is not usable ({error:#})");
                match Debugfs::open(follow) {
                    Ok(debugfs) => Layer::Debugfs { debugfs, cause },
                    Err(other) => {
                        return Err(Error::Source {
                            source_name: Source::KvmStat.word(),
                            cause: format!("{cause}, and {other}"),
                        });
                    }
                }
            }
        };
        Self::begin(layer, options.select.clone(), backend)
    }

    fn begin(layer: Layer, select: Select, backend: Backend) -> Result<KvmStat, Error> {
        let told = matches!(&layer, Layer::Walk(walk) if walk.told);
        if let Layer::Walk(walk) = &layer
            && select == Select::Descendants
        {
            walk.follow(std::process::id())
                .map_err(|cause| kernel("following this process's children", cause))?;
        }
        let tracker = Tracker::new(select, told);
        let mut stat = KvmStat {
            layer,
            tracker,
            backend,
            names: HashMap::new(),
            lost: Lost::default(),
            unknown: None,
            because: None,
        };
        let readings = stat.look()?;
        if let Layer::Walk(_) = stat.layer {
            stat.unknown = Some(Unknown::start(host::debugfs(), &readings));
        }
        stat.tracker.look(readings, true);
        Ok(stat)
    }

    fn look(&mut self) -> Result<Vec<Reading>, Error> {
        match &mut self.layer {
            Layer::Walk(walk) => walk.look(),
            Layer::Debugfs { debugfs, .. } => debugfs.look(),
        }
        .map_err(|cause| kernel("reading KVM's statistics", cause))
    }

    /// One look at everything, and what was lost up to it.
    fn take_in(&mut self) -> Result<(), Error> {
        let sum = self.unknown.as_ref().and_then(Unknown::sum);
        let readings = self.look()?;
        if let Some(unknown) = &mut self.unknown {
            unknown.compare(sum, &readings);
            if let Layer::Walk(walk) = &mut self.layer {
                walk.meet(unknown.grows()).map_err(|cause| kernel("watching for vCPUs that run", cause))?;
            }
        }
        self.tracker.look(readings, false);
        if let Layer::Walk(walk) = &self.layer {
            self.lost = walk.lost().map_err(|cause| kernel("reading what was lost", cause))?;
        }
        Ok(())
    }

    /// Has [`Collect::note`] say why it had to be this source.
    pub fn because(mut self, cause: String) -> KvmStat {
        self.because = Some(cause);
        self
    }

    /// For looks that follow each other faster than the kernel destroys a VM.
    pub fn patiently(mut self) -> KvmStat {
        self.tracker.patience = 200;
        self
    }

    /// KVM's count of every vCPU since the start. One of a VM that ended is in one of these, then gone. For whoever
    /// takes no samples of this source.
    ///
    /// # Errors
    /// If the kernel refuses what it granted at the start.
    pub fn counts(&mut self) -> Result<Vec<Count>, Error> {
        self.take_in()?;
        let whole_vm = self.only_whole_vms().is_some();
        let counts = self.tracker.wanted().flat_map(|(vm, ended)| {
            let end = match (ended, vm.cut_off) {
                (false, _) => End::None,
                (true, false) => End::Final,
                (true, true) => End::CutOff,
            };
            let count = move |(vcpu, exits, missed)| Count {
                vm: vm.id,
                pid: vm.process.pid,
                vcpu,
                exits,
                end,
                vanished: missed && !ended,
                whole_vm,
            };
            vm.exits().map(count)
        });
        let counts = counts.collect();
        self.tracker.forget_ended();
        Ok(counts)
    }

    /// Births and ends of vCPUs that nobody was told of: from then on any count may be incomplete.
    pub fn lost_changes(&self) -> u64 {
        self.lost.changes
    }

    /// Returns the reason why counts are those of whole VMs, if they are; they are shown as vCPU 0 then.
    pub fn only_whole_vms(&self) -> Option<&str> {
        match &self.layer {
            Layer::Walk(_) => None,
            Layer::Debugfs { cause, .. } => Some(cause),
        }
    }
}

impl Collect for KvmStat {
    fn source(&self) -> Source {
        Source::KvmStat
    }

    fn measured(&self) -> Measured {
        Measured::Counts
    }

    fn sample(&mut self) -> Result<Sample, Error> {
        self.take_in()?;
        let (monotonic_ns, wall) = (monotonic_ns(), SystemTime::now());
        let mut vms = Vec::new();
        let mut vcpus = Vec::new();
        for (vm, ended) in self.tracker.wanted() {
            let process = &vm.process;
            let name = self.names.entry(vm.id).or_insert_with(|| {
                identity::identify(process.pid, Some(process.started_ns), &process.args, &process.comm)
            });
            vms.push(name.vm(vm.id, process.pid, ended));
            vcpus.extend(vm.samples());
        }
        self.names.retain(|id, _| vms.iter().any(|vm| vm.id == *id && !vm.ended));
        self.tracker.forget_ended();
        let no_vcpu = self.unknown.as_ref().map_or(0, Unknown::exits);
        let loss = Loss { unfollowed: self.lost.processes, no_vcpu, ..Loss::default() };
        Ok(Sample {
            monotonic_ns,
            wall,
            source: Source::KvmStat,
            measured: Measured::Counts,
            vms,
            vcpus,
            workers: Vec::new(),
            loss,
        })
    }

    fn stop_following(&mut self) -> Result<(), Error> {
        match &mut self.layer {
            Layer::Walk(walk) => walk.unfollow(std::process::id()),
            Layer::Debugfs { debugfs, .. } => debugfs.unfollow(),
        }
        .map_err(|cause| kernel("letting go of this process's children", cause))
    }

    fn note(&self) -> Option<String> {
        let mut notes = Vec::new();
        match &self.backend {
            Backend::Software(modules) => {
                let modules = modules.join(" and ");
                notes.push(format!("KVM's backend here is {modules}, whose exits never pass kvm_exit"));
            }
            Backend::None => notes.push("no backend of KVM is loaded here (kvm_intel or kvm_amd)".to_owned()),
            Backend::Vendor(_) | Backend::NoKvm => {}
        }
        if let Some(cause) = &self.because {
            notes.push(format!("the programs that count more do not work here ({cause})"));
        }
        if let Some(cause) = self.only_whole_vms() {
            notes.push(format!("they are those of whole VMs, shown as their vCPU 0, because {cause}"));
        }
        if self.tracker.cut_off > 0 {
            notes.push(format!(
                "what {} VMs did between the last look at them and their end is not counted",
                self.tracker.cut_off
            ));
        }
        if let Some(unknown) = self.unknown.as_ref().filter(|unknown| unknown.exits() > 0) {
            notes.push(format!(
                "at least {} exits are of nobody we know: no process has a descriptor of their vCPUs, as where a VMM \
                 closes it while the vCPU runs",
                unknown.exits()
            ));
        }
        if self.unknown.as_ref().is_some_and(|unknown| !unknown.is_compared()) {
            notes.push(
                "debugfs, which has KVM's sum of exits, cannot be read: a vCPU whose descriptors were closed before the \
                 start is missed and not told"
                    .to_owned(),
            );
        }
        if self.lost.changes > 0 {
            notes.push(format!("{} births and ends of vCPUs came too fast to be told of", self.lost.changes));
        }
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

fn kernel(what: &str, cause: String) -> Error {
    Error::Kernel { what: what.to_owned(), cause }
}
