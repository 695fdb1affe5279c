//! The BPF collector: programs in the kernel count, and this reads their tables.

mod check;
mod object;
mod patch;
mod read;
mod table;
mod wire;

use super::{Collect, Error, Options, Select, identity, monotonic_ns};
use crate::model::{Loss, Measured, Sample, Source, Vm, VmId};
use check::{Check, Ours};
use libbpf_rs::MapHandle;
use object::{Loaded, Sizes, Task};
use read::{Reader, Reading};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;
use table::{Table, peek};

/// How many processes of a command can live at the same time and be followed.
const MAX_FOLLOWED: u32 = 16_384;

/// How vCPUs of one process are put to VMs: the first of each number makes the first VM, and so on.
#[derive(Default)]
struct Guess {
    /// VMs before this one have ended.
    first: u64,
    /// Which VM the next vCPU of a number makes.
    next: HashMap<u32, u64>,
}

/// How many rows and vCPUs there can be: their indices have 16 bits, and the first is nobody's.
const MOST: u32 = 65_534;

/// Which VM of its process an id stands for is in its upper bits.
const NTH: u32 = 40;

/// What was said last of a vCPU.
#[derive(Default)]
struct Shown {
    /// KVM's own count, where the programs read it.
    kvm_exits: u64,
    no_row: u64,
}

/// Counts with BPF programs from [`Bpf::start`] on, until it is dropped.
pub struct Bpf {
    source: Source,
    measured: Measured,
    sizes: Sizes,
    control: Table<wire::control>,
    rows: Table<wire::row>,
    returns: Table<wire::user_return>,
    vcpus: Table<wire::vcpu_slot>,
    vms: Table<wire::vm_info>,
    free_rows: MapHandle,
    free_returns: MapHandle,
    free_vcpus: MapHandle,
    free_vms: MapHandle,
    selected: MapHandle,
    /// What is known of the VMs that are there, by the programs' id.
    known: HashMap<u64, Vm>,
    /// Which VM of its process a slot belongs to, where the programs cannot tell (see `alias`).
    aliases: HashMap<u32, u64>,
    /// What was given out of those, by the programs' id.
    guesses: HashMap<u64, Guess>,
    /// What was said last of a slot that must not go back.
    shown: HashMap<u32, Shown>,
    /// VMs without a vCPU that the programs would still find.
    resting: HashSet<u32>,
    vm_by_key: MapHandle,
    /// The loss of slots that were given back.
    gone: Loss,
    /// KVM's own count, where the programs do not read it.
    check: Option<Check>,
    /// Why it had to be this source.
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
        let sizes = Sizes { rows, vcpus, vms: vcpus, returns: rows, selected };
        // The plain tracepoints tell no more than times.
        let measured = match (source, options.measure) {
            (Source::Tracepoint, Measured::Split) => Measured::Times,
            (_, measure) => measure,
        };
        // Before ours, so that it has counted whatever ours will.
        let check = (source == Source::Tracepoint).then(|| Check::start(options));
        let task = Task { source, measured, only_selected: options.select != Select::All, follow };
        let loaded = Loaded::load(task, sizes)?;
        let mut bpf = Bpf {
            source,
            measured,
            control: table(&loaded, ".data.control", 1)?,
            rows: table(&loaded, ".bss.rows", rows)?,
            vcpus: table(&loaded, ".bss.vcpus", vcpus)?,
            returns: table(&loaded, ".bss.returns", rows)?,
            vms: table(&loaded, "vms", vcpus)?,
            free_rows: loaded.map("free_rows")?,
            free_returns: loaded.map("free_returns")?,
            free_vcpus: loaded.map("free_vcpus")?,
            free_vms: loaded.map("free_vms")?,
            selected: loaded.map("selected")?,
            known: HashMap::new(),
            aliases: HashMap::new(),
            guesses: HashMap::new(),
            shown: HashMap::new(),
            sizes,
            resting: HashSet::new(),
            vm_by_key: loaded.map("vm_by_key")?,
            gone: Loss::default(),
            check,
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

    /// Has [`Collect::note`] say why it had to be this source.
    pub fn because(mut self, cause: String) -> Bpf {
        self.because = Some(cause);
        self
    }

    /// The VM of a slot, looked at closely when it is new.
    fn vm_of(&mut self, index: u32) -> Option<VmId> {
        let slot = self.vcpus.at(index);
        let info = self.vms.at(peek!(slot, vm));
        let id = peek!(info, id);
        if id == 0 {
            return None;
        }
        let id = if self.source == Source::Tracepoint { self.alias(index, id) } else { id };
        self.known.entry(id).or_insert_with(|| {
            let pid = peek!(info, pid);
            let args: [u8; wire::ARGS_BYTES as usize] = peek!(info, args).map(i8::cast_unsigned);
            let args = &args[..(peek!(info, args_len) as usize).min(args.len())];
            let comm: Vec<u8> =
                peek!(info, comm).iter().map(|c| c.cast_unsigned()).take_while(|&c| c != 0).collect();
            let started = Some(peek!(info, started_ns)).filter(|&ns| ns != 0);
            let found = identity::identify(pid, started, args, &String::from_utf8_lossy(&comm));
            Vm { id: VmId(id), pid, name: found.name, vmm: found.vmm, ended: false }
        });
        Some(VmId(id))
    }

    /// On the plain tracepoints a VM is known as its process. Where two threads of one process run a vCPU of the
    /// same number, they run two VMs: the second gets an id of its own.
    fn alias(&mut self, index: u32, id: u64) -> u64 {
        if let Some(&alias) = self.aliases.get(&index) {
            return alias;
        }
        let number = peek!(self.vcpus.at(index), vcpu_id);
        let guess = self.guesses.entry(id).or_default();
        let next = guess.next.entry(number).or_default();
        let nth = guess.first.max(*next);
        *next = nth + 1;
        let alias = id | nth << NTH;
        self.aliases.insert(index, alias);
        alias
    }

    /// Gives the places of vCPUs that ended, and were read, back to the programs.
    fn recycle(&mut self, ended: &[u32]) -> Result<(), Error> {
        for &index in ended {
            let slot = self.vcpus.at(index);
            for mut row in [peek!(slot, first_row), peek!(slot, first_odd)] {
                while row != 0 {
                    let next = peek!(self.rows.at(row), next);
                    let mut returned = peek!(self.rows.at(row), first_return);
                    while returned != 0 {
                        let next = peek!(self.returns.at(returned), next);
                        self.returns.clear(returned);
                        object::give_back(&self.free_returns, returned)?;
                        returned = next;
                    }
                    self.rows.clear(row);
                    object::give_back(&self.free_rows, row)?;
                    row = next;
                }
            }
            self.vcpus.clear(index);
            self.aliases.remove(&index);
            self.shown.remove(&index);
            object::give_back(&self.free_vcpus, index)?;
        }
        Ok(())
    }
}

impl Collect for Bpf {
    fn sample(&mut self) -> Result<Sample, Error> {
        if let Some(check) = &mut self.check {
            check.before();
        }
        let control = self.control.at(0);
        let epoch = peek!(control, epoch);
        // SAFETY: the pointer is into a live mapping; the programs only read this field.
        unsafe { (&raw mut (*control).epoch).write_volatile(epoch + 1) };
        let monotonic_ns = monotonic_ns();
        let wall = SystemTime::now();
        let mut loss = self.gone;
        let mut vcpus = Vec::new();
        let (mut ours, mut of_slots) = (Vec::new(), Vec::new());
        let mut ended = Vec::new();
        let mut live_vms: HashSet<u32> = HashSet::new();
        let mut vms: BTreeMap<VmId, Vm> = BTreeMap::new();
        let used = peek!(control, next_vcpu).min(self.vcpus.len());
        let full = peek!(control, next_row) >= self.sizes.rows && object::is_empty(&self.free_rows);
        for index in 1..used {
            let slot = self.vcpus.at(index);
            let has_ended = match peek!(slot, state) {
                wire::VCPU_ENDED => true,
                // Nobody's yet. One that has counted has no key either while it ends, but must not be missed: it would
                // seem new in the next sample.
                wire::VCPU_NEW if peek!(slot, key) == 0 => continue,
                wire::VCPU_IGNORED => {
                    live_vms.insert(peek!(slot, vm));
                    continue;
                }
                _ => false,
            };
            // Only one that was ignored ends without an exit: it gives its place back, and is nobody's business.
            if has_ended && peek!(slot, rows) == 0 && peek!(slot, no_row) == 0 {
                ended.push(index);
                continue;
            }
            let Some(vm) = self.vm_of(index) else { continue };
            let reader = Reader {
                rows: &self.rows,
                returns: &self.returns,
                source: self.source,
                measured: self.measured,
                full,
                epoch,
                now: monotonic_ns,
            };
            let Reading { mut sample, loss: mut of_slot } = reader.read(slot, vm);
            let shown = self.shown.entry(index).or_default();
            if let Some(kvm) = &mut sample.kvm_exits {
                // The exit that was being handled was taken for one that KVM would count, which before 6.4 it does
                // not do on its fast path; and a torn reading may be one ahead. No counter goes back for that.
                *kvm = (*kvm).max(shown.kvm_exits);
                shown.kvm_exits = *kvm;
            }
            // Nor for an exit that was taken for one without a row, and found room for one after all.
            of_slot.no_row = of_slot.no_row.max(shown.no_row);
            shown.no_row = of_slot.no_row;
            loss.add(&of_slot);
            let pid = self.known[&vm.0].pid;
            ours.push(Ours { slot: index, pid, vcpu: sample.vcpu, exits: sample.exits, ended: has_ended });
            of_slots.push(of_slot);
            vcpus.push(sample);
        }
        loss.no_vcpu = peek!(control, no_vcpu);
        if let Some(check) = &mut self.check {
            let counts = check.after(&mut ours, loss.no_vcpu);
            vcpus.iter_mut().zip(counts).for_each(|(vcpu, kvm)| vcpu.kvm_exits = kvm);
        }
        for ((of, of_slot), vcpu) in ours.iter().zip(&of_slots).zip(&vcpus) {
            if of.ended {
                self.gone.add(of_slot);
                ended.push(of.slot);
            } else {
                live_vms.insert(peek!(self.vcpus.at(of.slot), vm));
            }
            let known = &self.known[&vcpu.vm.0];
            let entry = vms.entry(vcpu.vm).or_insert_with(|| Vm { ended: true, ..known.clone() });
            entry.ended &= of.ended;
        }
        // A VM whose last vCPU ended gives its place back together with it.
        let over: HashSet<u32> = ended.iter().map(|&i| peek!(self.vcpus.at(i), vm)).collect();
        let over: Vec<u32> =
            over.into_iter().chain(self.resting.drain()).filter(|vm| !live_vms.contains(vm)).collect();
        self.recycle(&ended)?;
        for vm in over {
            // Where a process stands for its VMs, it may make more.
            if object::find(&self.vm_by_key, peek!(self.vms.at(vm), key))? == Some(vm) {
                self.resting.insert(vm);
                continue;
            }
            self.guesses.remove(&peek!(self.vms.at(vm), id));
            self.vms.clear(vm);
            object::give_back(&self.free_vms, vm)?;
        }
        for VmId(id) in vms.values().filter(|vm| vm.ended).map(|vm| vm.id) {
            if let Some(guess) = self.guesses.get_mut(&(id & ((1 << NTH) - 1))) {
                guess.first = guess.first.max((id >> NTH) + 1);
            }
        }
        self.known.retain(|id, _| vms.get(&VmId(*id)).is_some_and(|vm| !vm.ended));
        loss.unfollowed = peek!(control, unfollowed);
        loss.skipped = self.loaded.skipped()?;
        vcpus.sort_by_key(|vcpu| (vcpu.vm, vcpu.vcpu));
        Ok(Sample {
            monotonic_ns,
            wall,
            source: self.source,
            measured: self.measured,
            vms: vms.into_values().collect(),
            vcpus,
            loss,
        })
    }

    fn stop_following(&mut self) -> Result<(), Error> {
        if let Some(check) = &mut self.check {
            check.stop_following()?;
        }
        object::deselect(&self.selected, std::process::id())
    }

    fn source(&self) -> Source {
        self.source
    }

    fn measured(&self) -> Measured {
        self.measured
    }

    fn note(&self) -> Option<String> {
        let check = self.check.as_ref()?.note();
        let cause = self.because.as_ref().map(|cause| format!(", because: {cause}")).unwrap_or_default();
        Some(format!("counting on the plain tracepoints, which costs more for each exit{cause}; {check}"))
    }
}

fn table<T: table::Wire>(loaded: &Loaded, name: &str, len: u32) -> Result<Table<T>, Error> {
    Table::map(&loaded.map(name)?, len).map_err(|error| Error::Kernel {
        what: format!("mapping the BPF table {name}"),
        cause: error.to_string(),
    })
}
