//! A small 64-bit guest that exits a known number of times for each of many reasons, to prove a count with.
//!
//! It needs nothing but `/dev/kvm`. [`probe`] finds the kinds of exit that exist on this host, [`run`] does a [`Plan`]
//! on one or several vCPUs at once, and [`time`] measures one exit of a kind.
//!
//! ```no_run
//! use exitscope_testguest::{Kind, Plan, run};
//!
//! let plan = Plan { counts: vec![(Kind::Cpuid, 1000), (Kind::PortOut, 20)] };
//! let done = run(&[plan])?;
//! assert_eq!(done.vcpus[0].kinds[&Kind::Cpuid], 1000);
//! # Ok::<(), exitscope_testguest::Error>(())
//! ```

#[cfg(feature = "lab-tests")]
pub mod about;
mod asm;
#[cfg(feature = "lab-tests")]
pub mod beside;
#[cfg(feature = "lab-tests")]
pub mod churn;
#[cfg(feature = "lab-tests")]
pub mod details;
mod error;
mod host;
#[cfg(feature = "lab-tests")]
pub mod hostile;
mod kick;
mod kind;
#[cfg(feature = "lab-tests")]
pub mod many;
mod memory;
#[cfg(feature = "lab-tests")]
pub mod modes;
#[cfg(feature = "lab-tests")]
pub mod nested;
mod plan;
#[cfg(feature = "lab-tests")]
pub mod refused;
#[cfg(feature = "lab-tests")]
pub mod split;
mod stats;
#[cfg(feature = "lab-tests")]
pub mod title;
#[cfg(feature = "lab-tests")]
mod turns;
mod vcpu;

pub use error::Error;
pub use host::{emulated, isa};
pub use kind::Kind;
pub use memory::MAX_VCPUS;
pub use plan::{Done, Found, KvmCount, Plan, VcpuDone};

use asm::Step;
use error::kvm;
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use memory::Memory;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vcpu::{Processor, Seen, Vcpu};

/// Exits of each kind that a probe makes: more than the host's interrupts in that time.
const PROBE: u32 = 256;
/// A guest may take this long, and a millisecond more for each exit.
const PATIENCE: Duration = Duration::from_secs(60);
/// A guest that probes may take this long, and a millisecond more for each exit.
const PROBE_PATIENCE: Duration = Duration::from_secs(4);

/// Keeps a guest that has finished, with its VM and vCPUs as KVM knows them, until it is dropped.
#[derive(Debug)]
pub struct Held {
    _vcpus: Vec<VcpuFd>,
    _vm: VmFd,
    // last: the VM uses it
    _memory: Arc<Memory>,
}

/// Runs one new VM with a vCPU for each plan, all at the same time, each on a thread of its own, and
/// ends the VM.
///
/// # Errors
/// If KVM is not there or refuses, or if the guest did not do exactly what was planned.
pub fn run(plans: &[Plan]) -> Result<Done, Error> {
    run_and_hold(plans).map(|(done, _)| done)
}

/// Like [`run`], but keeps the VM until the [`Held`] is dropped.
///
/// # Errors
/// Those of [`run`].
pub fn run_and_hold(plans: &[Plan]) -> Result<(Done, Held), Error> {
    let isa = isa();
    if let Some(isa) = isa {
        host::require_nested_paging(isa)?;
    }
    let plans: Vec<_> = plans.iter().map(Plan::merged).collect();
    let steps = plans.iter().map(|plan| steps(plan)).collect::<Result<Vec<_>, _>>()?;
    let nmis = host::nmis();
    let Ran { seen, held } = start(&steps, false, PATIENCE)?;
    let host_nmis = nmis.zip(host::nmis()).map(|(before, after)| after.saturating_sub(before));
    let mut vcpus = Vec::new();
    for ((index, seen), plan) in (0..).zip(seen).zip(&plans) {
        vcpus.push(verify(index, &seen, plan)?);
    }
    let pages = held._memory.size() as u64 / 4096;
    Ok((Done { isa, vcpus, host_nmis, emulated: host::emulated(), pages }, held))
}

/// Finds out which kinds of exit exist here, by doing some of each and reading KVM's count of exits.
/// Makes VMs of its own, which have ended when this returns.
///
/// # Errors
/// Those of [`run`]; a kind that this KVM cannot do is no error.
pub fn probe() -> Result<Vec<(Kind, Found)>, Error> {
    let isa = isa();
    let xsave = processor(&open()?)?.xsave;
    let (mut found, mut try_these) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        if kind == Kind::Xsetbv && !xsave {
            found.push((kind, Found::NotOffered));
        } else if isa.is_some_and(|isa| kind.exit_code(isa).is_none()) {
            found.push((kind, Found::NotOnThisIsa));
        } else {
            try_these.push(kind);
        }
    }
    // All at once takes half a second. Where one of them breaks the guest, each gets a guest of its own;
    // a software backend, which does not do all of them, goes there at once.
    let together = isa.map(|_| try_kinds(&try_these, PROBE_PATIENCE));
    match together {
        Some(Ok(more)) => found.extend(more),
        Some(Err(error)) if !error.is_of_the_guest() => return Err(error),
        None | Some(Err(_)) => {
            for kind in try_these {
                match try_kinds(&[kind], PROBE_PATIENCE) {
                    Ok(one) => found.extend(one),
                    Err(error) if error.is_of_the_guest() => {
                        found.push((kind, Found::Fails(error.to_string())));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    found.sort_by_key(|(kind, _)| *kind);
    Ok(found)
}

/// Does some of each of these kinds on one vCPU and asks KVM for its count of exits after each.
fn try_kinds(kinds: &[Kind], patience: Duration) -> Result<Vec<(Kind, Found)>, Error> {
    let steps: Vec<Step> = kinds.iter().map(|&kind| Step { kind, count: PROBE }).collect();
    // An HLT of ours stands before and after each step, and the step of HLT brings PROBE more.
    let seen = start(&[steps], true, patience)?.seen.pop().ok_or(Error::Thread)?;
    let mut marks = seen.marks.into_iter().map(|(_, exits)| exits);
    let mut last = marks.next().flatten();
    let mut found = Vec::new();
    for &kind in kinds {
        let own = if kind == Kind::Hlt { PROBE as usize } else { 0 };
        let now = marks.nth(own).flatten();
        let exits = now.zip(last).map(|(now, last)| now.saturating_sub(last).saturating_sub(1));
        last = now;
        found.push((
            kind,
            match exits {
                None => Found::Unknown,
                Some(exits) if exits >= u64::from(PROBE) => Found::Exits,
                Some(_) => Found::NotIntercepted,
            },
        ));
    }
    Ok(found)
}

/// Measures the wall-clock time (ns) of one exit of a kind, guest and host together, on one vCPU
/// that does `count` of them in a row. The loop around it and one HLT in all are included.
///
/// # Errors
/// Those of [`run`].
pub fn time(kind: Kind, count: u32) -> Result<f64, Error> {
    let count = count.max(1);
    let seen = start(&[vec![Step { kind, count }]], true, PATIENCE)?.seen.pop().ok_or(Error::Thread)?;
    // The first and the last HLT are ours, whatever the kind.
    let (first, last) = seen.marks.first().zip(seen.marks.last()).ok_or(Error::Thread)?;
    Ok(last.0.duration_since(first.0).as_secs_f64() * 1e9 / f64::from(count))
}

fn steps(plan: &[(Kind, u64)]) -> Result<Vec<Step>, Error> {
    plan.iter()
        .map(|&(kind, asked)| {
            // The HLT at the end is one of those asked for.
            let steps = if kind == Kind::Hlt { asked.saturating_sub(1) } else { asked };
            let count = u32::try_from(steps).map_err(|_| Error::Count { kind: kind.name(), asked })?;
            Ok(Step { kind, count })
        })
        .collect()
}

struct Ran {
    seen: Vec<Seen>,
    held: Held,
}

fn open() -> Result<Kvm, Error> {
    Kvm::new().map_err(|error| Error::Open(io::Error::from_raw_os_error(error.errno())))
}

fn processor(kvm_fd: &Kvm) -> Result<Processor, Error> {
    let cpuid = kvm_fd.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(kvm("list its CPUID"))?;
    let call = host::call(isa(), &cpuid);
    Ok(Processor::new(cpuid, call))
}

/// A VM that has no vCPU yet.
struct Made {
    vm: VmFd,
    /// Must outlive the VM.
    memory: Arc<Memory>,
    processor: Processor,
}

/// Makes a VM with memory for that many vCPUs.
fn make(vcpus: usize) -> Result<Made, Error> {
    make_with(memory_for(vcpus)?)
}

fn memory_for(vcpus: usize) -> Result<Arc<Memory>, Error> {
    if !(1..=MAX_VCPUS).contains(&vcpus) {
        return Err(Error::Vcpus { asked: vcpus, most: MAX_VCPUS });
    }
    let what = "map the guest's memory";
    Memory::new(vcpus).map(Arc::new).map_err(|source| Error::System { what, source })
}

/// Makes a VM that has this memory, perhaps as others do.
fn make_with(memory: Arc<Memory>) -> Result<Made, Error> {
    kick::prepare().map_err(|source| Error::System { what: "prepare a signal", source })?;
    let kvm_fd = open()?;
    let processor = processor(&kvm_fd)?;
    let vm = kvm_fd.create_vm().map_err(kvm("make a VM"))?;
    let region = kvm_userspace_memory_region {
        memory_size: memory.size() as u64,
        userspace_addr: memory.host_address(),
        ..Default::default()
    };
    // SAFETY: the region is the whole of a mapping that outlives the VM: every vCPU and whoever holds the VM
    // keeps a reference to it.
    unsafe { vm.set_user_memory_region(region) }.map_err(kvm("give the guest its memory"))?;
    Ok(Made { vm, memory, processor })
}

/// Runs a VM with a vCPU for each list of steps; `patience` is how long it may take, and a millisecond more for each exit.
fn start(programs: &[Vec<Step>], marks: bool, patience: Duration) -> Result<Ran, Error> {
    let made = make(programs.len())?;
    let code =
        |(index, steps): (usize, &Vec<Step>)| asm::program(steps, marks, made.processor.machine(index));
    let codes: Vec<Vec<u8>> = programs.iter().enumerate().map(code).collect();
    let exits: u64 = programs.iter().flatten().map(|step| u64::from(step.count)).sum();
    go(made, &codes, patience + Duration::from_millis(exits))
}

/// Runs a VM with a vCPU for each program, in machine code, for at most `patience`.
fn go(made: Made, codes: &[Vec<u8>], patience: Duration) -> Result<Ran, Error> {
    let Made { vm, memory, processor } = made;
    let mut ready = Vec::with_capacity(codes.len());
    for (index, code) in codes.iter().enumerate() {
        let fd = vm.create_vcpu(index as u64).map_err(kvm("make a vCPU"))?;
        let vcpu = Vcpu::new(fd, index, Arc::clone(&memory), &processor, code)?;
        ready.push(if codes.len() == 1 { vcpu.alone_in(&vm) } else { vcpu });
    }
    // Shut until every thread is there, so that they run at the same time, or not at all.
    let gate = Arc::new(AtomicBool::new(false));
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::with_capacity(codes.len());
    let mut failed = None;
    for (index, mut vcpu) in ready.into_iter().enumerate() {
        let (open, told) = (Arc::clone(&gate), Arc::clone(&stop));
        let thread = thread::Builder::new().name(format!("vcpu {index}")).spawn(move || {
            while !open.load(Ordering::Acquire) {
                thread::park();
            }
            let seen = vcpu.run(&told);
            (seen, vcpu.fd)
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(source) => {
                stop.store(true, Ordering::Relaxed);
                failed = Some(Error::System { what: "start a thread for a vCPU", source });
                break;
            }
        }
    }
    gate.store(true, Ordering::Release);
    threads.iter().for_each(|thread| thread.thread().unpark());
    let ended = wait(threads, &stop, patience);
    if let Some(error) = failed {
        return Err(error);
    }
    let (seen, vcpus): (Vec<_>, Vec<_>) = ended?.into_iter().unzip();
    let seen = seen.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Ran { seen, held: Held { _vcpus: vcpus, _vm: vm, _memory: memory } })
}

/// Waits for all threads. Those that take longer than `limit` are stopped, and so are the others as soon
/// as one has failed.
fn wait<T>(threads: Vec<JoinHandle<T>>, stop: &AtomicBool, limit: Duration) -> Result<Vec<T>, Error> {
    let deadline = Instant::now() + limit;
    let mut late = false;
    while threads.iter().any(|thread| !thread.is_finished()) {
        if Instant::now() > deadline && !late {
            late = true;
            stop.store(true, Ordering::Relaxed);
        }
        if late {
            threads.iter().filter(|thread| !thread.is_finished()).for_each(kick::kick);
        }
        thread::sleep(Duration::from_millis(2));
    }
    let ended = threads.into_iter().map(|thread| thread.join().map_err(|_| Error::Thread)).collect();
    if late { Err(Error::Stuck { seconds: limit.as_secs() }) } else { ended }
}

/// Compares what the guest and user space saw of a vCPU's work with its plan.
fn verify(vcpu: u32, seen: &Seen, plan: &[(Kind, u64)]) -> Result<VcpuDone, Error> {
    let mut kinds: std::collections::BTreeMap<Kind, u64> =
        plan.iter().copied().filter(|(_, count)| *count > 0).collect();
    // The HLT at the end happens in any case.
    kinds.entry(Kind::Hlt).or_insert(1);
    let of = |kind: Kind| kinds.get(&kind).copied().unwrap_or(0);
    // Each loop counts down to 1, and what it sends is its counter.
    let sum = |kind: Kind| of(kind) * (of(kind) + 1) / 2;
    let checks = [
        ("port writes", of(Kind::PortOut), seen.port_out),
        ("the sum written to the port", sum(Kind::PortOut), seen.port_out_sum),
        ("port reads", of(Kind::PortIn), seen.port_in),
        ("the sum read from the port", sum(Kind::PortIn), seen.port_in_sum),
        ("stores without memory", of(Kind::MmioWrite), seen.mmio_write),
        ("the sum of stores without memory", sum(Kind::MmioWrite), seen.mmio_write_sum),
        ("loads without memory", of(Kind::MmioRead) + 1, seen.mmio_read),
        ("the sum of loads without memory", sum(Kind::MmioRead), seen.mmio_read_sum),
        ("HLTs", of(Kind::Hlt), seen.hlt),
        ("breakpoints", of(Kind::Breakpoint), seen.debug + seen.breakpoint),
        ("#UD handled", of(Kind::UndefinedOpcode), seen.undefined),
        ("#DB handled", of(Kind::DebugTrap), seen.trap),
        ("answers to hypercalls", 0, seen.hypercall_answers),
    ];
    for (what, planned, seen) in checks {
        if planned != seen {
            return Err(Error::Disagrees { vcpu: vcpu as usize, what, planned, seen });
        }
    }
    // RDPMC faults every time or never.
    if ![0, of(Kind::Rdpmc)].contains(&seen.protection) {
        let (planned, seen) = (of(Kind::Rdpmc), seen.protection);
        return Err(Error::Disagrees { vcpu: vcpu as usize, what: "#GP handled", planned, seen });
    }
    if let (1.., Some(seen)) = (of(Kind::MsrWrite), seen.msr)
        && seen != 1
    {
        return Err(Error::Disagrees { vcpu: vcpu as usize, what: "the MSR's last value", planned: 1, seen });
    }
    Ok(VcpuDone { vcpu, kinds, first_loads: 1, kvm: seen.kvm })
}
