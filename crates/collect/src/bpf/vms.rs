//! VMs whose vCPUs are in the tables.

use super::super::identity;
use super::table::peek;
use super::tables::Tables;
use super::wire;
use exitscope_model::{Source, Vm, VmId};
use std::collections::HashMap;

/// First of the upper bits of an id, which number the VMs of its process.
const NTH: u32 = 40;

/// Assignment of one process's vCPUs to VMs: the first of each number makes the first VM, and so on.
#[derive(Default)]
struct Guess {
    /// VMs before this one have ended.
    first: u64,
    /// Index of the VM that the next vCPU of a number makes.
    next: HashMap<u32, u64>,
}

/// VMs whose vCPUs are in the tables.
pub struct Vms {
    source: Source,
    /// By id.
    known: HashMap<VmId, Vm>,
    /// Index of a slot's VM in its process, where the programs cannot tell (see `alias`).
    aliases: HashMap<u32, u64>,
    /// Assignments so far, by the programs' id.
    guesses: HashMap<u64, Guess>,
}

impl Vms {
    /// Begins without VMs.
    pub fn new(source: Source) -> Vms {
        Vms { source, known: HashMap::new(), aliases: HashMap::new(), guesses: HashMap::new() }
    }

    /// Returns the VM of a slot, looked at closely when it is new; `None` for one that is nobody's.
    pub fn of_slot(&mut self, tables: &Tables, index: u32) -> Option<&Vm> {
        let slot = tables.vcpus.at(index);
        let info = tables.vms.at(peek!(slot, vm));
        let id = peek!(info, id);
        if id == 0 {
            return None;
        }
        let id = if self.source == Source::Tracepoint { self.alias(tables, index, id) } else { id };
        let id = VmId(id);
        Some(self.known.entry(id).or_insert_with(|| {
            let pid = peek!(info, pid);
            let args: [u8; wire::ARGS_BYTES as usize] = peek!(info, args).map(i8::cast_unsigned);
            let args = &args[..(peek!(info, args_len) as usize).min(args.len())];
            let comm: Vec<u8> =
                peek!(info, comm).iter().map(|c| c.cast_unsigned()).take_while(|&c| c != 0).collect();
            let started = Some(peek!(info, started_ns)).filter(|&ns| ns != 0);
            let found = identity::identify(pid, started, args, &String::from_utf8_lossy(&comm));
            found.vm(id, pid, false)
        }))
    }

    /// On the plain tracepoints a VM is known as its process. Where two threads of one process run a vCPU of the
    /// same number, they run two VMs: the second gets an id of its own.
    fn alias(&mut self, tables: &Tables, index: u32, id: u64) -> u64 {
        if let Some(&alias) = self.aliases.get(&index) {
            return alias;
        }
        let number = peek!(tables.vcpus.at(index), vcpu_id);
        let guess = self.guesses.entry(id).or_default();
        let next = guess.next.entry(number).or_default();
        let nth = guess.first.max(*next);
        *next = nth + 1;
        let alias = id | nth << NTH;
        self.aliases.insert(index, alias);
        alias
    }

    /// Forgets a slot that is no vCPU's any more.
    pub fn forget_slot(&mut self, index: u32) {
        self.aliases.remove(&index);
    }

    /// Forgets an id that the programs do not know any more.
    pub fn forget(&mut self, id: u64) {
        self.guesses.remove(&id);
    }

    /// Forgets VMs that ended, after a sample; `vms` are all that were in it.
    pub fn retain_living<'a>(&mut self, vms: impl Iterator<Item = &'a Vm>) {
        let mut living = HashMap::new();
        for vm in vms {
            if !vm.ended {
                living.extend(self.known.remove_entry(&vm.id));
            } else if let Some(guess) = self.guesses.get_mut(&(vm.id.0 & ((1 << NTH) - 1))) {
                guess.first = guess.first.max((vm.id.0 >> NTH) + 1);
            }
        }
        self.known = living;
    }
}
