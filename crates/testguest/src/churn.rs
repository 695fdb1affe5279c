//! VMs that come and go, and get vCPUs while they run.

use super::memory::Memory;
use super::turns::{Runner, even};
use super::vcpu::Processor;
use super::{Error, Kind, Made, host, make};
use exitscope_model::Isa;
use kvm_ioctls::VmFd;
use std::collections::VecDeque;
use std::sync::Arc;

pub use super::turns::{VcpuTurns, VmTurns};

/// Most vCPUs of a VM.
pub const MAX_VCPUS: usize = 4;

/// Each of these makes one exit of a code that nothing else causes, wherever KVM runs.
const KINDS: [Kind; 11] = [
    Kind::Cpuid,
    Kind::PortOut,
    Kind::PortIn,
    Kind::MsrRead,
    Kind::MsrWrite,
    Kind::Hypercall,
    Kind::Hlt,
    Kind::Cr0Write,
    Kind::Cr4Write,
    Kind::DrWrite,
    Kind::Wbinvd,
];
/// Number of these kinds that one vCPU does.
const KINDS_OF_VCPU: usize = 4;

struct Living {
    /// Before the VM and its memory, which must outlive them.
    runners: Vec<Runner>,
    vm: VmFd,
    memory: Arc<Memory>,
    processor: Processor,
    number: usize,
}

/// A pool of VMs, which end when this is dropped.
pub struct Churn {
    living: VecDeque<Living>,
    pool: usize,
    made: usize,
    isa: Option<Isa>,
}

impl Churn {
    /// Begins without VMs; up to `pool` will live at a time.
    pub fn new(pool: usize) -> Churn {
        Churn { living: VecDeque::new(), pool, made: 0, isa: host::isa() }
    }

    /// Every vCPU runs a turn. While they do, a VM is made, and VMs that are to have more vCPUs get one. Then, where the
    /// pool is full, the oldest VM ends: it is no more when this returns what it has done.
    ///
    /// A new VM runs for the first time in the next step, so that VMs first run in the order of their numbers.
    ///
    /// # Errors
    /// If KVM refuses, if a guest did not do exactly what was planned, or takes more than a minute.
    pub fn step(&mut self) -> Result<Option<VmTurns>, Error> {
        let run: Vec<usize> = self.living.iter().map(|vm| vm.runners.len()).collect();
        for vm in &self.living {
            vm.runners.iter().try_for_each(Runner::begin)?;
        }
        for vm in &mut self.living {
            vm.grow()?;
        }
        let Made { vm, memory, processor } = make(MAX_VCPUS)?;
        let mut new = Living { runners: Vec::new(), vm, memory, processor, number: self.made };
        new.grow()?;
        self.made += 1;
        for (vm, run) in self.living.iter_mut().zip(run) {
            for runner in &mut vm.runners[..run] {
                runner.wait()?;
            }
        }
        self.living.push_back(new);
        let over = if self.living.len() > self.pool { self.living.pop_front() } else { None };
        Ok(over.map(|vm| vm.done(self.isa)))
    }

    /// Returns the counts of the VMs that have not ended.
    pub fn living(&self) -> Vec<VmTurns> {
        self.living.iter().map(|vm| vm.done(self.isa)).collect()
    }
}

impl Living {
    /// Adds a vCPU, if there is to be one more.
    fn grow(&mut self) -> Result<(), Error> {
        let index = self.runners.len();
        if index > self.number % MAX_VCPUS {
            return Ok(());
        }
        let begin = self.number * 3 + index;
        let steps = even((0..KINDS_OF_VCPU).map(|nth| {
            let count = 1 + u32::try_from((self.number + index * 2 + nth * 5) % 9).unwrap_or(0);
            (KINDS[(begin + nth) % KINDS.len()], count)
        }));
        self.runners.push(Runner::start(&self.vm, index, &self.memory, &self.processor, steps)?);
        Ok(())
    }

    fn done(&self, isa: Option<Isa>) -> VmTurns {
        VmTurns {
            vm: self.number as u64,
            vcpus: self.runners.iter().map(|runner| runner.done(isa)).collect(),
        }
    }
}
