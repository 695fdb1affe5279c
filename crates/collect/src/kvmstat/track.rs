//! From what was seen of vCPUs, in the order of time, to VMs with counters since the start. Pure: no kernel.

use crate::Select;
use exitscope_model::{Counters, ExitCode, Isa, Level, ReasonCount, VcpuSample, VmId};
use std::collections::{BTreeMap, HashSet};

/// Number of classes; a class's index is its code in [`Isa::KvmStat`].
pub const CLASSES: usize = super::wire::KVM_CLASSES as usize;

/// KVM's counters of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    pub exits: u64,
    /// `None`: this kernel does not have it.
    pub classes: [Option<u64>; CLASSES],
}

impl Default for Figures {
    fn default() -> Self {
        Figures { exits: 0, classes: [None; CLASSES] }
    }
}

impl Figures {
    fn zip(self, other: Figures, figure: impl Fn(u64, u64) -> u64) -> Figures {
        let classes = std::array::from_fn(|class| {
            Some(figure(self.classes[class]?, other.classes[class].unwrap_or(0)))
        });
        Figures { exits: figure(self.exits, other.exits), classes }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process has a descriptor of it.
    Seen,
    /// It was met before, and exists; maybe no process has a descriptor of it.
    Known,
    /// It runs, was not met before, and is older than that: what it did before now is not known.
    Met,
    Born,
    /// It is destroyed.
    Ended,
    /// Its process is ending; if no other has the vCPU, it is destroyed next.
    Left,
}

/// One vCPU at one moment, in the hands of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Time by which readings are ordered (ns).
    pub time_ns: u64,
    pub event: Event,
    /// Key of the vCPU, and of its VM in `kvm`; unique among those that exist at the same time.
    pub vcpu: u64,
    pub kvm: u64,
    pub vcpu_id: u32,
    pub process: Process,
    /// With [`Select::Descendants`]: the process is a descendant.
    pub followed: bool,
    pub figures: Figures,
}

/// A process, told apart from later ones with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub started_ns: u64,
    pub comm: String,
    /// The head of its command line, empty if not known.
    pub args: Vec<u8>,
}

impl Process {
    fn is(&self, other: &Process) -> bool {
        (self.pid, self.started_ns) == (other.pid, other.started_ns)
    }
}

/// One VM.
#[derive(Debug)]
pub struct Tracked {
    pub id: VmId,
    /// The one of its processes that began first: others have its files from it.
    pub process: Process,
    kvm: u64,
    holders: Vec<Process>,
    wanted: bool,
    /// It ended, and nobody knows what it did after it was last looked at.
    pub cut_off: bool,
    vcpus: BTreeMap<u32, Vcpu>,
}

#[derive(Debug)]
struct Vcpu {
    key: u64,
    /// Exits before the counters were last set back.
    before: Figures,
    base: Figures,
    last: Figures,
    /// Number of looks in which it has not been found.
    missed: u32,
    /// A process that ended had it; nobody was seen to have it since.
    left: bool,
    /// Its counters are final.
    ended: bool,
}

impl Vcpu {
    fn total(&self) -> Figures {
        self.last.zip(self.base, u64::saturating_sub).zip(self.before, u64::saturating_add)
    }
}

/// All VMs that are there, and those that ended since the last sample.
#[derive(Debug)]
pub struct Tracker {
    select: Select,
    /// Births and ends are told: a VM that is not found any more is about to be reported as ended, and an address is
    /// not another VM's before that.
    told: bool,
    /// After how many looks that did not find a VM its end counts as missed, where ends are told.
    pub patience: u32,
    next_id: u64,
    vms: Vec<Tracked>,
    /// vCPUs that ended with their process, and whose destruction will still be told.
    left: HashSet<u64>,
    /// VMs of which nobody knows what they did after they were last looked at.
    pub cut_off: u64,
}

impl Tracker {
    pub fn new(select: Select, told: bool) -> Tracker {
        Tracker { select, told, patience: 2, next_id: 1, vms: Vec::new(), left: HashSet::new(), cut_off: 0 }
    }

    /// Takes in what one look at all vCPUs found, and what was told meanwhile. On the `first` look the counters that
    /// are found are what is counted from; a VM that comes later counts from 0.
    pub fn look(&mut self, mut readings: Vec<Reading>, first: bool) {
        for vcpu in self.vms.iter_mut().flat_map(|vm| vm.vcpus.values_mut()) {
            vcpu.missed += 1;
        }
        readings.sort_by_key(|reading| reading.time_ns);
        for reading in readings {
            self.take(reading, first);
        }
        // The news of an end may come after the descriptor is gone.
        let patience = if self.told { self.patience } else { 1 };
        for vm in &mut self.vms {
            for vcpu in vm.vcpus.values_mut() {
                vcpu.ended |= vcpu.left && vcpu.missed > 0;
            }
            let gone = vm.vcpus.values().all(|vcpu| vcpu.ended || vcpu.missed >= patience);
            if !gone {
                continue;
            }
            // A birth that nothing followed is a creation that failed.
            let stillborn = |vcpu: &Vcpu| self.told && vcpu.last.exits == 0;
            let cut_off = vm.vcpus.values().any(|vcpu| !vcpu.ended && !stillborn(vcpu));
            vm.cut_off |= cut_off;
            self.cut_off += u64::from(cut_off && vm.wanted);
            vm.vcpus.values_mut().for_each(|vcpu| vcpu.ended = true);
        }
    }

    fn take(&mut self, reading: Reading, first: bool) {
        let Reading { event, vcpu: key, kvm, vcpu_id, process, followed, figures, .. } = reading;
        // Whoever ends a VM need not be its process, but knows the vCPU.
        let found = self.vms.iter().position(|vm| {
            vm.kvm == kvm
                && !vm.ended()
                && match event {
                    Event::Ended => vm.vcpus.values().any(|vcpu| vcpu.key == key),
                    // Two processes that one walk finds with the same VM share it.
                    _ => {
                        self.told
                            || vm.holders.iter().any(|holder| holder.is(&process))
                            || vm.vcpus.values().any(|vcpu| vcpu.missed == 0 && !vcpu.left)
                    }
                }
        });
        // What has no VM here any more was reported as ended.
        if found.is_none() && event == Event::Known && !first {
            return;
        }
        // It was reported as ended when its process had left; the kernel took its time to destroy it.
        if event == Event::Born {
            self.left.remove(&key);
        } else if found.is_none() && self.left.contains(&key) {
            if event == Event::Ended {
                self.left.remove(&key);
            }
            return;
        }
        // Nobody has told of an end, but these are not the counters of the VM that was at this address.
        let replaced = found.filter(|&at| {
            !self.told && self.vms[at].vcpus.get(&vcpu_id).is_some_and(|vcpu| figures.exits < vcpu.last.exits)
        });
        if let Some(at) = replaced {
            self.cut_off += u64::from(self.vms[at].wanted);
            self.vms[at].cut_off = true;
            self.vms[at].vcpus.values_mut().for_each(|vcpu| vcpu.ended = true);
        }
        let at = found.filter(|_| replaced.is_none()).unwrap_or_else(|| {
            self.vms.push(Tracked {
                id: VmId(self.next_id),
                process: process.clone(),
                kvm,
                holders: Vec::new(),
                wanted: false,
                cut_off: false,
                vcpus: BTreeMap::new(),
            });
            self.next_id += 1;
            self.vms.len() - 1
        });
        let vm = &mut self.vms[at];
        if event != Event::Ended || vm.vcpus.is_empty() {
            vm.wanted |= match &self.select {
                Select::All => true,
                Select::Pids(pids) => pids.contains(&process.pid),
                Select::Descendants => followed,
            };
            if process.started_ns < vm.process.started_ns {
                vm.process = process.clone();
            }
            if !vm.holders.iter().any(|holder| holder.is(&process)) {
                vm.holders.push(process);
            }
        }
        let is_older = event == Event::Met || first && event != Event::Born;
        let base = if is_older { figures } else { Figures::default() };
        let new = || Vcpu {
            key,
            before: Figures::default(),
            base,
            last: base,
            missed: 1,
            left: false,
            ended: false,
        };
        let vcpu = vm.vcpus.entry(vcpu_id).or_insert_with(new);
        if vcpu.key != key {
            // Its creation failed before, and was not told of.
            *vcpu = new();
        }
        if figures.exits < vcpu.last.exits {
            // Somebody has cleared the statistics through debugfs.
            vcpu.before = vcpu.total();
            vcpu.base = Figures::default();
        }
        vcpu.last = figures;
        match event {
            Event::Seen | Event::Born | Event::Met => (vcpu.missed, vcpu.left) = (0, false),
            Event::Known if !vcpu.left => vcpu.missed = 0,
            // It is about to be destroyed.
            Event::Known => {}
            Event::Left => vcpu.left = true,
            Event::Ended => (vcpu.ended, vcpu.left) = (true, false),
        }
    }

    /// The VMs that are wanted, and whether each has ended.
    pub fn wanted(&self) -> impl Iterator<Item = (&Tracked, bool)> {
        self.vms.iter().filter(|vm| vm.wanted).map(|vm| (vm, vm.ended()))
    }

    /// Forgets what has ended, now that it was reported.
    pub fn forget_ended(&mut self) {
        let ended = self.vms.extract_if(.., |vm| vm.ended());
        let left = ended.flat_map(|vm| vm.vcpus.into_values()).filter(|vcpu| vcpu.left).map(|vcpu| vcpu.key);
        // Where ends are not told, an address may soon be another's.
        self.left.extend(left.filter(|_| self.told));
    }
}

impl Tracked {
    fn ended(&self) -> bool {
        !self.vcpus.is_empty() && self.vcpus.values().all(|vcpu| vcpu.ended)
    }

    /// Returns number and exits of each vCPU, and true if the last look did not find it.
    pub fn exits(&self) -> impl Iterator<Item = (u32, u64, bool)> {
        self.vcpus.iter().map(|(&number, vcpu)| (number, vcpu.total().exits, vcpu.missed > 0))
    }

    /// Returns a sample of each vCPU.
    pub fn samples(&self) -> impl Iterator<Item = VcpuSample> {
        self.vcpus.iter().map(|(&number, vcpu)| {
            let total = vcpu.total();
            let reasons = (0..).zip(total.classes).filter_map(|(code, count)| {
                let counters = Counters { count: count.filter(|&count| count > 0)?, ..Counters::default() };
                Some(ReasonCount { level: Level::L1, code: ExitCode { isa: Isa::KvmStat, code }, counters })
            });
            VcpuSample {
                vm: self.id,
                vcpu: number,
                exits: total.exits,
                kvm_exits: Some(total.exits),
                time: None,
                reasons: reasons.collect(),
            }
        })
    }
}
