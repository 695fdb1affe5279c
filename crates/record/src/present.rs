//! VMs and vCPUs that are there, interval by interval.

use super::Error;
use super::metadata::{VcpuLife, VmLife};
use exitscope_model::{Vm, VmId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// No more VMs, or vCPUs, are there at once: so many the collector has room for.
const MAX_AT_ONCE: usize = 65_534;

/// A vCPU by its VM and number.
pub type VcpuId = (VmId, u32);

/// VMs and vCPUs that are there in one interval. Going to the next costs what has changed, not what is there.
pub struct Present<'a> {
    path: &'a Path,
    vms_to_come: &'a [VmLife],
    vcpus_to_come: &'a [VcpuLife],
    now: i64,
    vms: BTreeMap<VmId, &'a VmLife>,
    vcpus: BTreeMap<VcpuId, &'a VcpuLife>,
    by_key: HashMap<i64, VcpuId>,
    /// VMs whose last interval is known, by that interval.
    vms_to_go: BTreeSet<(i64, VmId)>,
    vcpus_to_go: BTreeSet<(i64, i64, VcpuId)>,
}

impl<'a> Present<'a> {
    /// Begins before the first interval; both lists are by when they came.
    pub fn new(path: &'a Path, vms: &'a [VmLife], vcpus: &'a [VcpuLife]) -> Present<'a> {
        Present {
            path,
            vms_to_come: vms,
            vcpus_to_come: vcpus,
            now: 0,
            vms: BTreeMap::new(),
            vcpus: BTreeMap::new(),
            by_key: HashMap::new(),
            vms_to_go: BTreeSet::new(),
            vcpus_to_go: BTreeSet::new(),
        }
    }

    /// Goes to the next interval, or to several together, of which it is told who was there in any.
    ///
    /// # Errors
    /// If a vCPU comes that is there already, or whose VM is not, or there are too many.
    pub fn advance(&mut self, begin: i64, now: i64) -> Result<(), Error> {
        self.now = now;
        while let Some(&(last, key, vcpu)) = self.vcpus_to_go.first().filter(|(last, ..)| *last < begin) {
            self.vcpus_to_go.remove(&(last, key, vcpu));
            self.by_key.remove(&key);
            if self.vcpus.get(&vcpu).is_some_and(|life| life.key == key) {
                self.vcpus.remove(&vcpu);
            }
        }
        while let Some(&(last, vm)) = self.vms_to_go.first().filter(|(last, _)| *last < begin) {
            self.vms_to_go.remove(&(last, vm));
            self.vms.remove(&vm);
        }
        let over = |last: Option<i64>| last.is_some_and(|last| last < begin);
        while let Some((life, rest)) = self.vms_to_come.split_first().filter(|(life, _)| life.first <= now) {
            self.vms_to_come = rest;
            if !over(life.last) {
                self.vms.insert(life.vm.id, life);
                self.vms_to_go.extend(life.last.map(|last| (last, life.vm.id)));
            }
        }
        while let Some((life, rest)) = self.vcpus_to_come.split_first().filter(|(life, _)| life.first <= now)
        {
            self.vcpus_to_come = rest;
            if !over(life.last) {
                self.begin(life)?;
            }
        }
        if begin == now && self.vms.len().max(self.vcpus.len()) > MAX_AT_ONCE {
            let what = format!("more than {MAX_AT_ONCE} VMs or vCPUs are there at once");
            return Err(Error::damaged(self.path, what));
        }
        Ok(())
    }

    fn begin(&mut self, life: &'a VcpuLife) -> Result<(), Error> {
        let vcpu = (life.vm, life.number);
        let before = self.vcpus.insert(vcpu, life);
        let is_there = before.is_some_and(|before| before.last.is_none_or(|last| last >= life.first));
        if !self.vms.contains_key(&life.vm) || is_there {
            let what = format!("vCPU {} of VM {} is there twice, or without it", life.number, life.vm.0);
            return Err(Error::damaged(self.path, what));
        }
        self.by_key.insert(life.key, vcpu);
        self.vcpus_to_go.extend(life.last.map(|last| (last, life.key, vcpu)));
        Ok(())
    }

    /// The vCPU that rows call by this key.
    pub fn vcpu(&self, key: i64) -> Option<VcpuId> {
        self.by_key.get(&key).copied()
    }

    /// All vCPUs.
    pub fn vcpus(&self) -> impl ExactSizeIterator<Item = VcpuId> {
        self.vcpus.keys().copied()
    }

    /// All VMs.
    pub fn vms(&self) -> impl ExactSizeIterator<Item = (VmId, Vm)> {
        self.vms.iter().map(|(&id, life)| (id, life.at(self.now)))
    }

    /// Returns true if a VM is there.
    pub fn has(&self, id: VmId) -> bool {
        self.vms.contains_key(&id)
    }

    /// One VM.
    pub fn vm(&self, id: VmId) -> Option<(VmId, Vm)> {
        self.vms.get(&id).map(|life| (id, life.at(self.now)))
    }
}

impl VmLife {
    /// The VM as it was in an interval.
    pub fn at(&self, interval: i64) -> Vm {
        Vm { ended: self.vm.ended && self.last.is_some_and(|last| last <= interval), ..self.vm.clone() }
    }
}
