//! Many VMs of one vCPU each that are there at the same time, and run one after the other.

use super::memory::Memory;
use super::turns::{Runner, VmTurns, even};
use super::{Error, Kind, Made, host, make_with, memory_for};
use exitscope_model::{Isa, Summary};
use kvm_ioctls::VmFd;
use serde::Serialize;
use std::sync::Arc;

/// One turn of each VM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Round {
    /// Exits that the programs made.
    pub exits: u64,
    /// Mean time of an exit, guest and host together (ns).
    pub mean_ns: f64,
    /// Median of the turns' means (ns), which no tick of the host's clock disturbs.
    pub median_ns: f64,
}

/// VMs, which end when this is dropped.
pub struct Many {
    /// Before the memory, which must outlive the VMs.
    vms: Vec<(Runner, VmFd)>,
    _memory: Arc<Memory>,
    isa: Option<Isa>,
}

/// Makes so many VMs, each of which does this often each of these kinds in a turn. They have the same memory, since only
/// one of them runs at a time.
///
/// # Errors
/// If KVM is not there or refuses.
pub fn start(vms: usize, kinds: &[Kind], each: u32) -> Result<Many, Error> {
    allow_files();
    let memory = memory_for(1)?;
    let steps = even(kinds.iter().map(|&kind| (kind, each)));
    let one = || {
        let Made { vm, processor, .. } = make_with(Arc::clone(&memory))?;
        Ok((Runner::start(&vm, 0, &memory, &processor, steps.clone())?, vm))
    };
    let vms = (0..vms).map(|_| one()).collect::<Result<_, Error>>()?;
    Ok(Many { vms, _memory: memory, isa: host::isa() })
}

impl Many {
    /// Lets each VM run a turn, one after the other.
    ///
    /// # Errors
    /// If a guest did not do exactly what was planned, or takes more than a minute.
    pub fn round(&mut self) -> Result<Round, Error> {
        let mut turns = Vec::with_capacity(self.vms.len());
        for (runner, _) in &mut self.vms {
            runner.begin()?;
            turns.push(runner.wait()?.ns);
        }
        let of_turn = self.vms.first().map_or(0, |(runner, _)| runner.exits_of_turn());
        let exits = of_turn * turns.len() as u64;
        let median_ns =
            Summary::of(turns.iter().map(|&ns| ratio(ns, of_turn))).map_or(0.0, |turns| turns.median);
        Ok(Round { exits, mean_ns: ratio(turns.iter().sum(), exits), median_ns })
    }

    /// Returns the counts of each VM up to now.
    pub fn done(&self) -> Vec<VmTurns> {
        let each = self.vms.iter().zip(0..);
        each.map(|((runner, _), vm)| VmTurns { vm, vcpus: vec![runner.done(self.isa)] }).collect()
    }
}

#[allow(clippy::cast_precision_loss)]
fn ratio(of: u64, by: u64) -> f64 {
    of as f64 / by.max(1) as f64
}

/// Allows this process as many open files as it may allow itself: a VM has three.
fn allow_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing, and then for reading. Where it fails, KVM will refuse with a reason.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
