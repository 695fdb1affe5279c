//! The BPF collector: programs in the kernel count, and this reads their tables.

#[cfg(feature = "bench")]
pub mod bench;
mod check;
mod clock;
#[cfg(all(test, feature = "lab-tests"))]
mod clock_live_tests;
mod features;
mod functions;
mod holders;
#[cfg(all(test, feature = "lab-tests"))]
mod live_tests;
mod marks;
mod object;
mod patch;
mod programs;
mod read;
mod skipped;
mod symbols;
mod table;
mod tables;
mod target;
#[cfg(feature = "bench")]
pub mod twin;
mod vms;
mod wire;

use super::{Collect, Error, Options, PortMarks, Probes, Programs, Select, monotonic_ns};
use check::{Check, Ours};
use exitscope_model::{Loss, Measured, Sample, Source, VcpuSample, Vm, VmId};
use holders::Holders;
use libbpf_rs::MapHandle;
use marks::Marks;
use object::{Loaded, Sizes, Task};
use read::Reading;
use skipped::{Skipped, StoodIn};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};
use table::{Table, peek};
use tables::{Found, Place, Tables, View};
use vms::Vms;

/// Maximum number of a command's processes that are followed at the same time.
const MAX_FOLLOWED: u32 = 16_384;

/// Maximum number of rows, and of vCPUs: their indices have 16 bits, and the first is nobody's.
const MOST: u32 = 65_534;

/// KVM's table of its statistics, up to 5.13: bpf/stats.bpf.h.
const KVM_STATS: &str = "debugfs_entries";

/// Values last shown of a vCPU.
#[derive(Default)]
struct Shown {
    /// KVM's own count, where the programs read it.
    kvm_exits: u64,
    no_row: u64,
}

impl Shown {
    /// Keeps what is said of a vCPU from going back.
    fn correct(&mut self, sample: &mut VcpuSample, loss: &mut Loss) {
        // An exit that was being handled was taken for one that KVM would count, which before 6.4 it does not do on its
        // fast path; and a torn reading may be one ahead.
        if let Some(kvm) = &mut sample.kvm_exits {
            *kvm = (*kvm).max(self.kvm_exits);
            self.kvm_exits = *kvm;
        }
        // Or it was taken for one without a row, and found room for one after all.
        loss.no_row = loss.no_row.max(self.no_row);
        self.no_row = loss.no_row;
    }
}

/// Counts with BPF programs from [`Bpf::start`] on, until it is dropped.
pub struct Bpf {
    source: Source,
    measured: Measured,
    sizes: Sizes,
    tables: Tables,
    holders: Holders,
    vms: Vms,
    free_rows: MapHandle,
    free_returns: MapHandle,
    free_details: MapHandle,
    free_vcpus: MapHandle,
    free_vms: MapHandle,
    selected: MapHandle,
    /// Values last shown of a slot, which must not go back.
    shown: HashMap<u32, Shown>,
    /// Threads that ran the vCPUs of the last sample when these were met.
    threads: HashSet<u32>,
    /// VMs without a vCPU that the programs would still find.
    resting: HashSet<u32>,
    vm_by_key: MapHandle,
    /// The loss of slots that were given back.
    gone: Loss,
    /// Runs of programs that the kernel was found to have skipped.
    skipped: Skipped,
    /// KVM's own count, where the programs do not read it.
    check: Option<Check>,
    /// Ring buffer of marks, if the guest is looked at.
    marks: Option<Marks>,
    /// Reason why no better source was used, or why no more than this is measured.
    because: Option<String>,
    loaded: Loaded,
}

impl Bpf {
    /// Loads and attaches the programs of `source`.
    ///
    /// # Errors
    /// If the kernel refuses, with its reason.
    pub fn start(source: Source, options: &Options) -> Result<Bpf, Error> {
        let cpus =
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        // A vCPU meets some 20 reasons; a host runs some vCPUs a CPU. Both with room to spare, and the tables' lengths
        // are powers of two.
        let size = |asked: Option<u32>, per_cpu: u32, least: u32, most: u32| {
            let fitting = cpus.saturating_mul(per_cpu).clamp(least, most).next_power_of_two() - 1;
            asked.unwrap_or(fitting).clamp(1, MOST) + 1
        };
        let vcpus = size(options.max_vcpus, 64, 512, 8192);
        let rows = size(options.max_rows, 2048, 8192, 65_536);
        let follow = options.select == Select::Descendants;
        let selected = match &options.select {
            Select::All => 1,
            Select::Pids(pids) => u32::try_from(pids.len()).unwrap_or(u32::MAX).max(1),
            Select::Descendants => MAX_FOLLOWED,
        };
        // The plain tracepoints tell no more than times.
        let measured = match (source, options.measure) {
            (Source::Tracepoint, Measured::Breakdown) => Measured::Latency,
            (_, measure) => measure,
        };
        let details = if measured == Measured::Breakdown { rows } else { 1 };
        // Whose exit it is that a tracepoint without a vCPU tells of is known with the split alone.
        let guest = options.guest && source == Source::Btf && measured == Measured::Breakdown;
        let marks = if guest { marks::BYTES } else { marks::LEAST_BYTES };
        let sizes = Sizes { rows, vcpus, vms: vcpus, returns: rows, details, selected, marks };
        // Before ours, so that it has counted whatever ours will.
        let kvm_stats = (source == Source::Raw)
            .then(|| symbols::Symbols::read().and_then(|symbols| symbols.address_in("kvm", KVM_STATS)).ok())
            .flatten();
        let checks = source == Source::Tracepoint || source == Source::Raw && kvm_stats.is_none();
        let check = checks.then(|| Check::start(options));
        let kinds = options.details.iter().fold(0, |bits, kind| bits | 1 << *kind as u32);
        // Whoever counts alone has one program as it is, and who looks at the guest has to see it as the exit left it.
        let alone = source == Source::Btf && measured != Measured::Counts && !guest;
        let probes = if alone { options.probes } else { Probes::Pair };
        let only_selected = options.select != Select::All;
        let task = Task { source, measured, only_selected, follow, guest, kinds, probes, kvm_stats };
        let loaded = Loaded::load(task, sizes, &options.filter)?;
        let mut bpf = Bpf {
            source,
            measured,
            tables: Tables {
                control: table(&loaded, "control", 1)?,
                rows: table(&loaded, "rows", rows)?,
                vcpus: table(&loaded, "vcpus", vcpus)?,
                returns: table(&loaded, "returns", rows)?,
                details: table(&loaded, "details", details)?,
                vms: table(&loaded, "vms", vcpus)?,
                holdings: table(&loaded, "holdings", wire::HOLDINGS)?,
            },
            vms: Vms::new(source),
            holders: Holders::default(),
            free_rows: loaded.map("free_rows")?,
            free_returns: loaded.map("free_returns")?,
            free_details: loaded.map("free_details")?,
            free_vcpus: loaded.map("free_vcpus")?,
            free_vms: loaded.map("free_vms")?,
            selected: loaded.map("selected")?,
            shown: HashMap::new(),
            threads: HashSet::new(),
            sizes,
            resting: HashSet::new(),
            vm_by_key: loaded.map("vm_by_key")?,
            skipped: Skipped::default(),
            gone: Loss::default(),
            check,
            marks: guest.then(|| Marks::open(&loaded)).transpose()?,
            because: None,
            loaded,
        };
        // Before the programs see an exit: whose it is, is decided once for each vCPU.
        match &options.select {
            Select::All => {}
            Select::Pids(pids) => pids.iter().try_for_each(|&pid| object::select(&bpf.selected, pid))?,
            Select::Descendants => object::select(&bpf.selected, std::process::id())?,
        }
        bpf.loaded.attach()?;
        if let Some(check) = &mut bpf.check {
            check.attached();
        }
        Ok(bpf)
    }

    /// Has [`Collect::note`] say why it had to be this source, or no more than this measured.
    pub fn because(mut self, cause: String) -> Bpf {
        self.because = Some(cause);
        self
    }

    /// Returns true if the programs read KVM's own count.
    fn kvm_counts(&self) -> bool {
        self.source == Source::Btf || peek!(self.tables.control.at(0), exits_at) != 0
    }

    /// Returns what the kernel skipped so far. What seems to be new is looked at again for a while: a second program may
    /// be about to do what the first was skipped for.
    fn skipped(&mut self) -> Result<Skipped, Error> {
        const LOOKS: u32 = 10;
        for look in 1..=LOOKS {
            let control = self.tables.control.at(0);
            let stood_in = StoodIn { split: peek!(control, stood_in), marks: peek!(control, stood_in_marks) };
            let found = self.loaded.skipped(stood_in)?;
            if look == LOOKS || self.skipped.covers(found) {
                self.skipped = self.skipped.max(found);
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.skipped)
    }

    /// Gives the places of vCPUs that ended, and were read, back to the programs; and those of their VMs that have no
    /// other, `living` being the VMs that have.
    fn recycle(&mut self, ended: &[Found], living: &HashSet<u32>) -> Result<(), Error> {
        for found in ended {
            self.tables.clear(found.slot, |place| match place {
                Place::Row(index) => object::give_back(&self.free_rows, index),
                Place::Return(index) => object::give_back(&self.free_returns, index),
                Place::Detail(index) => object::give_back(&self.free_details, index),
                Place::Vcpu(index) => object::give_back(&self.free_vcpus, index),
            })?;
            self.vms.forget_slot(found.slot);
            self.shown.remove(&found.slot);
        }
        let over: HashSet<u32> = ended.iter().map(|found| found.vm).chain(self.resting.drain()).collect();
        for vm in over.into_iter().filter(|vm| !living.contains(vm)) {
            let info = self.tables.vms.at(vm);
            // Where a process stands for its VMs, it may make more.
            if object::find(&self.vm_by_key, peek!(info, key))? == Some(vm) {
                self.resting.insert(vm);
                continue;
            }
            self.vms.forget(peek!(info, id));
            self.tables.clear_vm(vm);
            object::give_back(&self.free_vms, vm)?;
        }
        Ok(())
    }
}

impl Collect for Bpf {
    fn sample(&mut self) -> Result<Sample, Error> {
        if let Some(check) = &mut self.check {
            check.before();
        }
        let clock = if self.loaded.is_one() && !clock::is_tsc() { wire::NEED_CLOCK } else { 0 };
        self.tables.set_needs(clock);
        let control = self.tables.control.at(0);
        let epoch = self.tables.begin_epoch();
        let full = peek!(control, next_row) >= self.sizes.rows && object::is_empty(&self.free_rows);
        let (now, wall) = (monotonic_ns(), SystemTime::now());
        let view = View {
            kvm_counts: self.kvm_counts(),
            measured: self.measured,
            guest: self.marks.is_some(),
            full,
            now,
        };
        let mut found = self.tables.look(epoch, view);
        let needs = found.iter().fold(clock, |needs, found| needs | found.needs);
        self.loaded.note_exits(needs != 0)?;

        self.threads = found.iter().map(|found| peek!(self.tables.vcpus.at(found.slot), thread)).collect();
        let mut ours = Vec::new();
        for Found { slot, ended, reading, .. } in &mut found {
            let Some(Reading { sample, loss }) = reading else { continue };
            // Nobody's.
            let Some(vm) = self.vms.of_slot(&self.tables, *slot) else {
                *reading = None;
                continue;
            };
            sample.vm = vm.id;
            self.shown.entry(*slot).or_default().correct(sample, loss);
            ours.push(Ours {
                slot: *slot,
                pid: vm.pid,
                vcpu: sample.vcpu,
                exits: sample.exits,
                ended: *ended,
            });
        }
        if let Some(marks) = &mut self.marks {
            marks.read()?;
        }
        let no_vcpu = peek!(control, no_vcpu);
        if let Some(check) = &mut self.check {
            let counts = check.after(&mut ours, no_vcpu);
            let counted =
                found.iter_mut().filter_map(|found| Some((&mut found.ended, found.reading.as_mut()?)));
            for (((ended, reading), count), of) in counted.zip(counts).zip(&ours) {
                // It may have to stay until KVM's last word on it is heard.
                *ended = of.ended;
                reading.sample.kvm_exits = count;
            }
        }

        let mut vcpus = Vec::with_capacity(found.len());
        let mut vms: BTreeMap<VmId, Vm> = BTreeMap::new();
        let mut loss = self.gone;
        for Found { slot, ended, reading, .. } in &mut found {
            let Some(mut reading) = reading.take() else { continue };
            // A reading is torn once, and the next one is not.
            let torn = std::mem::take(&mut reading.loss.torn);
            self.gone.torn += torn;
            loss.torn += torn;
            loss.add(&reading.loss);
            if *ended {
                self.gone.add(&reading.loss);
            }
            if let Some(vm) = self.vms.of_slot(&self.tables, *slot) {
                let entry = vms.entry(vm.id).or_insert_with(|| Vm { ended: true, ..vm.clone() });
                entry.ended &= *ended;
            }
            vcpus.push(reading.sample);
        }
        loss.no_vcpu = no_vcpu;
        loss.no_return = peek!(control, no_return);
        loss.holders = self.holders.find(&loss, &found, &self.tables, &mut self.vms, self.sizes);
        let (ended, here): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.ended);
        self.recycle(&ended, &here.iter().map(|found| found.vm).collect())?;
        self.vms.retain_living(vms.values());
        loss.unfollowed = peek!(control, unfollowed);
        loss.moved_details = peek!(control, moved_details);
        loss.no_level = peek!(control, no_level);
        let skipped = self.skipped()?;
        (loss.skipped, loss.skipped_split) = (skipped.counting, skipped.split);
        vcpus.sort_by_key(|vcpu| (vcpu.vm, vcpu.vcpu));
        let (source, measured) = (self.source, self.measured);
        Ok(Sample {
            monotonic_ns: now,
            wall,
            source,
            measured,
            vms: vms.into_values().collect(),
            vcpus,
            workers: Vec::new(),
            loss,
        })
    }

    fn stop_following(&mut self) -> Result<(), Error> {
        if let Some(check) = &mut self.check {
            check.stop_following()?;
        }
        object::deselect(&self.selected, std::process::id())
    }

    fn take_marks(&mut self) -> Result<PortMarks, Error> {
        if self.marks.is_none() {
            return Ok(PortMarks::default());
        }
        // What the kernel skipped may have been for other ports.
        let lost = peek!(self.tables.control.at(0), no_mark) + self.skipped()?.marks;
        self.marks.as_mut().map_or(Ok(PortMarks::default()), |marks| marks.take(lost))
    }

    fn vcpu_threads(&self) -> Option<&HashSet<u32>> {
        Some(&self.threads)
    }

    fn source(&self) -> Source {
        self.source
    }

    fn measured(&self) -> Measured {
        self.measured
    }

    fn programs(&self) -> Option<Programs> {
        let probes = if self.loaded.is_one() { Probes::One } else { Probes::Pair };
        let chosen = self.source == Source::Btf && self.measured != Measured::Counts;
        chosen.then(|| Programs { probes, because: self.loaded.why_pair().map(str::to_owned) })
    }

    fn note(&self) -> Option<String> {
        let cause = self.because.as_ref().map(|cause| format!(", because: {cause}")).unwrap_or_default();
        let raw =
            "counting on the raw tracepoints of an older kernel, where nested guests are not told apart";
        let Some(check) = &self.check else {
            if self.source == Source::Raw {
                return Some(format!("{raw}{cause}"));
            }
            let less = "where the host time of exits goes is not told apart here";
            let less = self.because.is_some().then(|| format!("{less}{cause}"));
            let two = "two BPF programs see each exit, which costs more than one, because";
            let two = self.loaded.why_pair().map(|why| format!("{two} {why}"));
            return match (less, two) {
                (Some(less), Some(two)) => Some(format!("{less}; {two}")),
                (less, two) => less.or(two),
            };
        };
        let check = check.note();
        let plain = "counting on the plain tracepoints, which costs more for each exit";
        let how = if self.source == Source::Raw { raw } else { plain };
        Some(format!("{how}{cause}; {check}"))
    }
}

fn table<T: table::Wire>(loaded: &Loaded, name: &str, len: u32) -> Result<Table<T>, Error> {
    Table::map(&loaded.map(name)?, len).map_err(|error| Error::Kernel {
        what: format!("mapping the BPF table {name}"),
        cause: error.to_string(),
    })
}
