//! vCPUs that run in turns, each on a thread of its own as in a VMM.

use super::asm::{self, Step};
use super::error::kvm;
use super::vcpu::{Processor, Seen, Vcpu};
use super::{Error, Kind, PATIENCE, kick};
use crate::memory::Memory;
use exitscope_model::Isa;
use kvm_ioctls::VmFd;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Enough for a thread that does nothing but run a vCPU; there may be a thousand.
const STACK: usize = 256 << 10;

/// Counts of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VcpuTurns {
    /// Its number.
    pub vcpu: u32,
    /// Turns that it has run.
    pub turns: u64,
    /// KVM's own count of exits; `None` from a kernel before 5.14.
    pub kvm_exits: Option<u64>,
    /// The exits that its program has made, by the hardware's code. There are others: first touches of memory, and
    /// whatever interrupts the guest.
    pub codes: BTreeMap<i64, u64>,
}

/// Counts of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmTurns {
    /// Its number, in the order in which VMs were made and first ran, from 0.
    pub vm: u64,
    /// Each vCPU, by number.
    pub vcpus: Vec<VcpuTurns>,
}

/// These steps, such that each turn begins as the first did: MOV to CR0 and CR4 change a bit to and fro.
pub fn even(steps: impl IntoIterator<Item = (Kind, u32)>) -> Vec<Step> {
    let step = |(kind, count): (Kind, u32)| match kind {
        Kind::Cr0Write | Kind::Cr4Write => Step { kind, count: count.next_multiple_of(2) },
        _ => Step { kind, count },
    };
    steps.into_iter().map(step).collect()
}

/// Duration of a turn, with all of its exits (ns).
pub struct Turn {
    pub ns: u64,
    kvm_exits: Option<u64>,
}

/// A vCPU that runs a turn when it is told to.
pub struct Runner {
    /// `None` only while it ends.
    go: Option<Sender<()>>,
    done: Receiver<Result<Turn, Error>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    steps: Vec<Step>,
    index: usize,
    turns: u64,
    kvm_exits: Option<u64>,
}

impl Runner {
    /// Adds a vCPU to the VM.
    pub fn start(
        vm: &VmFd,
        index: usize,
        memory: &Arc<Memory>,
        processor: &Processor,
        steps: Vec<Step>,
    ) -> Result<Runner, Error> {
        let fd = vm.create_vcpu(index as u64).map_err(kvm("make a vCPU"))?;
        let program = asm::turns(&steps, processor.machine(index));
        let mut vcpu = Vcpu::new(fd, index, Arc::clone(memory), processor, &program)?;
        let (go, told) = mpsc::channel();
        let (tell, done) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, plan) = (Arc::clone(&stop), steps.clone());
        // Not needed while it runs, and an HLT would read it.
        let stats = vcpu.stats.take();
        let turns = move || {
            let mut first = true;
            while let Ok(()) = told.recv() {
                let turn = turn(&mut vcpu, &stopped, &plan, first).map(|ns| {
                    let kvm_exits = stats.as_ref().and_then(|stats| stats.get("exits"));
                    Turn { ns, kvm_exits }
                });
                first = false;
                if tell.send(turn).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new()
            .name(format!("vcpu {index}"))
            .stack_size(STACK)
            .spawn(turns)
            .map_err(|source| Error::System { what: "start a thread for a vCPU", source })?;
        Ok(Runner { go: Some(go), done, thread: Some(thread), stop, steps, index, turns: 0, kvm_exits: None })
    }

    /// Lets it run a turn.
    pub fn begin(&self) -> Result<(), Error> {
        self.go.as_ref().and_then(|go| go.send(()).ok()).ok_or(Error::Thread)
    }

    /// Waits for the end of the turn that was begun.
    pub fn wait(&mut self) -> Result<Turn, Error> {
        let turn = match self.done.recv_timeout(PATIENCE) {
            Ok(turn) => turn?,
            Err(RecvTimeoutError::Timeout) => return Err(Error::Stuck { seconds: PATIENCE.as_secs() }),
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Thread),
        };
        self.turns += 1;
        self.kvm_exits = turn.kvm_exits;
        Ok(turn)
    }

    /// Returns the exits that the program makes in a turn.
    pub fn exits_of_turn(&self) -> u64 {
        self.steps.iter().map(|step| u64::from(step.count)).sum::<u64>() + 1
    }

    /// Returns the counts up to now.
    pub fn done(&self, isa: Option<Isa>) -> VcpuTurns {
        let mut codes = BTreeMap::new();
        let end = Step { kind: Kind::PortOut, count: 1 };
        for step in self.steps.iter().chain([&end]) {
            if let Some(code) = isa.and_then(|isa| step.kind.exit_code(isa)) {
                *codes.entry(code.code).or_default() += self.turns * u64::from(step.count);
            }
        }
        let vcpu = u32::try_from(self.index).unwrap_or(u32::MAX);
        VcpuTurns { vcpu, turns: self.turns, kvm_exits: self.kvm_exits, codes }
    }
}

impl Drop for Runner {
    /// The vCPU is no more when this returns.
    fn drop(&mut self) {
        self.go = None;
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        // It is in its guest, perhaps, and stays there, for all we know.
        while let Ok(_) | Err(RecvTimeoutError::Timeout) = self.done.recv_timeout(Duration::from_millis(20)) {
            kick::kick(&thread);
        }
        let _ = thread.join();
    }
}

/// Runs one turn and returns its time; checks what came out to us of it.
fn turn(vcpu: &mut Vcpu, stop: &AtomicBool, steps: &[Step], first: bool) -> Result<u64, Error> {
    let mut seen = Seen::default();
    let begin = crate::host::monotonic_ns();
    vcpu.go_on(stop, &mut seen)?;
    let ns = crate::host::monotonic_ns() - begin;
    let of = |kind: Kind| -> u64 {
        steps.iter().filter(|step| step.kind == kind).map(|step| u64::from(step.count)).sum()
    };
    let checks = [
        ("port writes of a turn", of(Kind::PortOut), seen.port_out),
        ("port reads of a turn", of(Kind::PortIn), seen.port_in),
        ("stores without memory of a turn", of(Kind::MmioWrite), seen.mmio_write),
        ("loads without memory of a turn", of(Kind::MmioRead) + u64::from(first), seen.mmio_read),
        ("HLTs of a turn", of(Kind::Hlt), seen.hlt),
    ];
    for (what, planned, seen) in checks {
        if planned != seen {
            return Err(Error::Disagrees { vcpu: vcpu.index, what, planned, seen });
        }
    }
    Ok(ns)
}
