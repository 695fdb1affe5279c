//! Threads that work for VMs beside their vCPUs: the VMM's own, and the kernel's for it.
//!
//! Their CPU time and run delay are the scheduler's figures, read from `/proc` at each sample: no program runs for that.
//! A process's CPU clock has the time of its threads that have ended, too, so that threads that come and go between two
//! samples are counted among the others.

mod kernel;
mod task;
#[cfg(test)]
mod tests;

use super::monotonic_ns;
use exitscope_model::worker::{IO_THREADS, KVM, MAIN_LOOP, OTHERS, VHOST};
use exitscope_model::{Vm, VmId, Worker, WorkerSpan, WorkerTimes};
use kernel::KernelThreads;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use task::{Task, Times};

/// Most threads of one process that are looked at; of a process with more nothing is told.
const MAX_THREADS: usize = 4096;
/// Number of looks after which a thread has the name that it was to get.
const NAMED_AFTER: u32 = 3;

/// Kind of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A thread of the VMM: the first, one for devices, or another.
    Main,
    Io,
    Other,
    /// The kernel's.
    Vhost,
    Kvm,
    /// It runs a vCPU, and is none of the workers.
    Vcpu,
}

impl Kind {
    fn worker(self) -> Option<&'static Worker> {
        match self {
            Kind::Main => Some(&MAIN_LOOP),
            Kind::Io => Some(&IO_THREADS),
            Kind::Other => Some(&OTHERS),
            Kind::Vhost => Some(&VHOST),
            Kind::Kvm => Some(&KVM),
            Kind::Vcpu => None,
        }
    }
}

/// A thread as it was at the last look.
struct Known {
    kind: Kind,
    times: Times,
    looks: u32,
}

/// A process as it was at the last look.
struct Process {
    /// Start after boot (ns), by which a process id that is used again is recognised.
    started_ns: u64,
    /// Time of the last look (`CLOCK_MONOTONIC`, ns).
    looked_ns: u64,
    threads: HashMap<u32, Known>,
    /// CPU time of the process at the first look, or 0 where it was watched from its start.
    clock_base_ns: u64,
    /// CPU time of all threads since then, as far as it was seen.
    seen_ns: u64,
    /// CPU time of threads that ended before it was seen.
    unseen_ns: u64,
}

/// Reads the times of workers.
pub struct Workers {
    /// Where processes are; `None` where process ids are not the host's.
    proc: Option<PathBuf>,
    /// Begin of the watching (`CLOCK_BOOTTIME`, ns).
    begin_ns: u64,
    processes: HashMap<u32, Process>,
    kernel: KernelThreads,
    totals: BTreeMap<VmId, WorkerTimes>,
}

impl Workers {
    /// Begins at this moment. Nothing is read in a PID namespace of its own, where the numbers of VMs' processes are others'.
    pub fn new() -> Workers {
        let is_host = super::host::in_first_pid_namespace();
        Workers::at(is_host.then(|| PathBuf::from("/proc")))
    }

    fn at(proc: Option<PathBuf>) -> Workers {
        Workers {
            proc,
            begin_ns: task::boottime_ns(),
            processes: HashMap::new(),
            kernel: KernelThreads::default(),
            totals: BTreeMap::new(),
        }
    }

    /// Looks at the processes of these VMs, which are sorted by id. Returns the times since the begin, by VM, of those VMs that
    /// could be looked at. `vcpus` are the threads that run vCPUs; where the source does not know them, their names and the time
    /// that they were in a guest tell.
    pub fn look(&mut self, vms: &[Vm], vcpus: Option<&HashSet<u32>>) -> Vec<WorkerSpan> {
        let Some(proc) = self.proc.clone() else { return Vec::new() };
        let mut first_of: BTreeMap<u32, &Vm> = BTreeMap::new();
        for vm in vms.iter().filter(|vm| !vm.ended) {
            first_of.entry(vm.pid).or_insert(vm);
        }
        self.processes.retain(|pid, _| first_of.contains_key(pid));
        let there: HashSet<VmId> = vms.iter().map(|vm| vm.id).collect();
        self.totals.retain(|id, _| there.contains(id));
        if !first_of.is_empty() {
            self.kernel.look(&proc);
        }
        for (pid, vm) in first_of {
            match self.look_at(&proc, pid, &vm.vmm, vcpus) {
                Ok(times) => self.totals.entry(vm.id).or_default().add(&times),
                // It ended; what is known of it stays.
                Err(Unread::Gone) => drop(self.processes.remove(&pid)),
                Err(Unread::TooMany) => drop((self.processes.remove(&pid), self.totals.remove(&vm.id))),
            }
        }
        self.totals.iter().map(|(vm, times)| WorkerSpan { vm: *vm, times: *times }).collect()
    }

    /// Returns the times since the last look at a process.
    fn look_at(
        &mut self,
        proc: &Path,
        pid: u32,
        vmm: &str,
        vcpus: Option<&HashSet<u32>>,
    ) -> Result<WorkerTimes, Unread> {
        let folder = proc.join(pid.to_string());
        let started_ns = task::started_ns(&folder).ok_or(Unread::Gone)?;
        if self.processes.get(&pid).is_some_and(|known| known.started_ns != started_ns) {
            self.processes.remove(&pid);
        }
        let is_new = !self.processes.contains_key(&pid);
        // One that started since then did all that it has done since then. Its start is known to the tick.
        let is_whole = started_ns > self.begin_ns;
        let now = monotonic_ns();
        // The clock is read before the threads, so that what these do meanwhile is not taken for that of threads that have
        // ended; at the first look after them, for the same reason.
        let before = task::clock_ns(pid);
        let tasks = task::list(&folder, MAX_THREADS).map_err(|()| Unread::TooMany)?;
        let others = self.kernel.of(pid, &tasks);
        let process = self.processes.entry(pid).or_insert_with(|| Process {
            started_ns,
            looked_ns: now,
            threads: HashMap::new(),
            clock_base_ns: 0,
            seen_ns: 0,
            unseen_ns: 0,
        });
        let mut times = WorkerTimes::default();
        let mut there = HashSet::new();
        let own = tasks.iter().map(|tid| (Task::of_process(&folder, *tid), None));
        let kernels = others.iter().map(|(tid, kind)| (Task::of_kernel(proc, *tid), Some(*kind)));
        for (task, kernels) in own.chain(kernels) {
            let Some(now) = task.times() else { continue };
            there.insert(task.tid);
            let known = process.threads.get(&task.tid).filter(|known| known.times.cpu_ns <= now.cpu_ns);
            let looks = known.map_or(0, |known| known.looks);
            let kind = match (kernels, known) {
                (Some(kind), _) => kind,
                (None, Some(known))
                    if known.kind == Kind::Vcpu || vcpus.is_some_and(|set| set.contains(&task.tid)) =>
                {
                    Kind::Vcpu
                }
                (None, Some(known)) if looks >= NAMED_AFTER && vcpus.is_some() => known.kind,
                (None, _) => task.kind(pid, vmm, vcpus),
            };
            let last = match known {
                Some(known) => known.times,
                None if is_new && !is_whole => now,
                None => Times::default(),
            };
            let cpu_ns = now.cpu_ns - last.cpu_ns;
            if kernels.is_none() {
                process.seen_ns += cpu_ns;
            }
            if let Some(worker) = kind.worker() {
                *worker.cpu.ns_mut(&mut times) += cpu_ns;
                *worker.waiting.ns_mut(&mut times) += now.waiting_ns.saturating_sub(last.waiting_ns);
            }
            process.threads.insert(task.tid, Known { kind, times: now, looks: looks + 1 });
        }
        let lost_vcpu =
            process.threads.iter().any(|(tid, known)| known.kind == Kind::Vcpu && !there.contains(tid));
        process.threads.retain(|tid, _| there.contains(tid));
        if there.is_empty() {
            return Err(Unread::Gone);
        }
        if is_new && !is_whole {
            process.clock_base_ns = task::clock_ns(pid).unwrap_or_default();
        } else if let Some(clock) = before {
            let unseen = clock.saturating_sub(process.clock_base_ns).saturating_sub(process.seen_ns);
            // Of a vCPU's thread that has ended, what it did last is in it, too, and cannot be told apart.
            if !lost_vcpu {
                times.other_cpu_ns += unseen.saturating_sub(process.unseen_ns);
            }
            process.unseen_ns = process.unseen_ns.max(unseen);
        }
        times.span_ns = match (is_new, is_whole) {
            (true, true) => task::boottime_ns().saturating_sub(started_ns),
            _ => now.saturating_sub(process.looked_ns),
        };
        process.looked_ns = now;
        Ok(times)
    }
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::new()
    }
}

/// Cause for which a process was not looked at.
enum Unread {
    /// It has ended.
    Gone,
    /// It has too many threads.
    TooMany,
}
