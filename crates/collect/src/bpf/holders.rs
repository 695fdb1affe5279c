//! Largest holders of tables that had no room.

use super::object::Sizes;
use super::table::peek;
use super::tables::{Found, Tables};
use super::vms::Vms;
use super::wire;
use exitscope_model::{self as model, Holder, Loss, VmId};
use std::collections::BTreeMap;

/// Losses up to the last sample, for want of a place.
#[derive(Default)]
pub struct Holders {
    no_row: u64,
    no_vcpu: u64,
    no_return: u64,
    no_detail: u64,
}

/// Places that a process holds, and of its VMs the one that holds the most.
#[derive(Default)]
struct Process {
    places: u64,
    vms: BTreeMap<u32, u64>,
}

impl Holders {
    /// Returns the largest holder of each table for want of whose places something was lost since the last call.
    pub fn find(
        &mut self,
        loss: &Loss,
        found: &[Found],
        tables: &Tables,
        vms: &mut Vms,
        sizes: Sizes,
    ) -> model::Holders {
        let mut largest = |is_lost: bool, table: u32, len: u32| {
            let held = |slot: u32| match table {
                wire::FAIR_ROWS => peek!(tables.vcpus.at(slot), rows).into(),
                wire::FAIR_RETURNS => tables.count_returns(slot),
                wire::FAIR_DETAILS => tables.count_details(slot),
                _ => 1,
            };
            is_lost.then(|| holder(found, tables, vms, held, len)).flatten()
        };
        let holders = model::Holders {
            rows: largest(loss.no_row > self.no_row, wire::FAIR_ROWS, sizes.rows),
            vcpus: largest(loss.no_vcpu > self.no_vcpu, wire::FAIR_VCPUS, sizes.vcpus),
            returns: largest(loss.no_return > self.no_return, wire::FAIR_RETURNS, sizes.returns),
            details: largest(loss.no_detail > self.no_detail, wire::FAIR_DETAILS, sizes.details),
        };
        (self.no_row, self.no_vcpu) = (loss.no_row, loss.no_vcpu);
        (self.no_return, self.no_detail) = (loss.no_return, loss.no_detail);
        holders
    }
}

fn holder(
    found: &[Found],
    tables: &Tables,
    vms: &mut Vms,
    held: impl Fn(u32) -> u64,
    len: u32,
) -> Option<Holder> {
    let mut processes: BTreeMap<u32, Process> = BTreeMap::new();
    let mut slots: BTreeMap<u32, u32> = BTreeMap::new();
    for &Found { slot, vm, .. } in found {
        let process = processes.entry(peek!(tables.vcpus.at(slot), pid)).or_default();
        let places = held(slot);
        process.places += places;
        *process.vms.entry(vm).or_default() += places;
        slots.entry(vm).or_insert(slot);
    }
    let (pid, process) = processes.into_iter().max_by_key(|(_, process)| process.places)?;
    let (vm, _) = process.vms.into_iter().max_by_key(|(_, places)| *places)?;
    let vm = vms.of_slot(tables, *slots.get(&vm)?).map_or(VmId(0), |vm| vm.id);
    Some(Holder { vm, pid, held: process.places, of: u64::from(len) - 1 })
}
