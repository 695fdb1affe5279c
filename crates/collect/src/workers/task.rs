//! One thread, by `/proc`.

use super::Kind;
use crate::identity;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Flag of a kernel's thread in a user's process, as vhost's workers are since 6.4 (`PF_USER_WORKER`, include/linux/sched.h).
const USER_WORKER: u64 = 0x4000;

/// CPU time and run delay (`/proc/PID/task/TID/schedstat`, Documentation/scheduler/sched-stats.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub cpu_ns: u64,
    pub waiting_ns: u64,
}

/// A thread.
pub struct Task {
    pub tid: u32,
    folder: PathBuf,
}

impl Task {
    /// A thread of the process with this directory.
    pub fn of_process(process: &Path, tid: u32) -> Task {
        Task { tid, folder: process.join("task").join(tid.to_string()) }
    }

    /// A thread of the kernel.
    pub fn of_kernel(proc: &Path, tid: u32) -> Task {
        Task { tid, folder: proc.join(tid.to_string()) }
    }

    /// Returns its times; `None` if it has ended.
    pub fn times(&self) -> Option<Times> {
        let text = fs::read_to_string(self.folder.join("schedstat")).ok()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        Some(Times { cpu_ns: numbers.next()?.ok()?, waiting_ns: numbers.next()?.ok()? })
    }

    /// Returns its name in the kernel, which it may have chosen itself.
    pub fn comm(&self) -> String {
        let name = fs::read(self.folder.join("comm")).unwrap_or_default();
        String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned()
    }

    /// Returns a number of its `stat` file (proc(5)).
    pub fn stat(&self, field: usize) -> Option<u64> {
        identity::field_of_stat(&fs::read(self.folder.join("stat")).ok()?, field)
    }

    /// Returns the kind of a thread of the process `pid` of a VMM. `vcpus` are threads that run vCPUs, if they are known.
    pub fn kind(&self, pid: u32, vmm: &str, vcpus: Option<&HashSet<u32>>) -> Kind {
        let is_vcpu = |name: &str| match vcpus {
            Some(vcpus) => vcpus.contains(&self.tid),
            // Field 43: time in which it ran a guest, in ticks.
            None => runs_vcpu(name) || self.stat(43).is_some_and(|ticks| ticks > 0),
        };
        let name = self.comm();
        if is_vcpu(&name) {
            return Kind::Vcpu;
        }
        let kernels = name.starts_with("vhost-").then_some(Kind::Vhost);
        let kernels = kernels.or_else(|| name.starts_with("kvm-").then_some(Kind::Kvm));
        if let Some(kind) = kernels
            && self.stat(9).is_some_and(|flags| flags & USER_WORKER != 0)
        {
            return kind;
        }
        match () {
            () if self.tid == pid => Kind::Main,
            () if is_io_thread(vmm, &name) => Kind::Io,
            () => Kind::Other,
        }
    }
}

/// Beginnings of the names that VMMs give threads which run vCPUs.
const VCPU_NAMES: [&str; 6] = ["CPU ", "vcpu", "fc_vcpu", "crosvm_vcpu", "kvm-vcpu-", "VCPU"];

/// Beginnings of the names that a VMM gives threads for devices.
const IO_NAMES: [(&str, &[&str]); 5] = [
    // QEMU's iothreads are called after their objects, with `-name debug-threads=on`.
    ("qemu", &["IO "]),
    ("stratovirt", &["iothread"]),
    ("crosvm", &["v_"]),
    ("kvmtool", &["virtio-", "io_thread"]),
    ("alioth", &["virtio-"]),
];

fn runs_vcpu(name: &str) -> bool {
    VCPU_NAMES.iter().any(|begin| name.starts_with(begin))
}

/// True for a thread that works for devices. Cloud Hypervisor's are called after device and queue, `_disk0_q0`, `_net1_qp0`.
pub fn is_io_thread(vmm: &str, name: &str) -> bool {
    let of_queue = || {
        let (_, queue) = name.rsplit_once("_q")?;
        let number = queue.strip_prefix('p').unwrap_or(queue);
        Some(!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match vmm {
        "cloud-hypervisor" => of_queue().unwrap_or(false),
        _ => {
            IO_NAMES.iter().any(|(of, names)| *of == vmm && names.iter().any(|begin| name.starts_with(begin)))
        }
    }
}

/// Lists the threads of a process, at most so many.
///
/// # Errors
/// If there are more. A process that has ended has none.
pub fn list(process: &Path, most: usize) -> Result<Vec<u32>, ()> {
    let Ok(entries) = process.join("task").read_dir() else { return Ok(Vec::new()) };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let tids: Vec<u32> = numbers.take(most + 1).collect();
    if tids.len() > most { Err(()) } else { Ok(tids) }
}

/// Returns the start of a process after boot, in nanoseconds to the tick.
pub fn started_ns(process: &Path) -> Option<u64> {
    identity::start_ns(&fs::read(process.join("stat")).ok()?)
}

/// Returns the CPU time of a process, that of its threads which have ended included (clock_getcpuclockid(3)).
pub fn clock_ns(pid: u32) -> Option<u64> {
    // The kernel's encoding: the inverted process id, and 2 for the scheduler's clock (include/linux/posix-timers_types.h).
    let clock = (!i32::try_from(pid).ok()?) << 3 | 2;
    clock_gettime(clock)
}

/// Returns `CLOCK_BOOTTIME`, in nanoseconds.
pub fn boottime_ns() -> u64 {
    clock_gettime(libc::CLOCK_BOOTTIME).unwrap_or_default()
}

/// Returns the CPU time of the thread that calls.
#[cfg(test)]
pub fn thread_clock_ns() -> u64 {
    clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or_default()
}

fn clock_gettime(clock: libc::clockid_t) -> Option<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing; an unknown clock is an error.
    let result = unsafe { libc::clock_gettime(clock, &raw mut now) };
    (result == 0).then(|| now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}
