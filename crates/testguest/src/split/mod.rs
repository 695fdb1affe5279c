//! Guests whose host time goes to a known place: to the VMM, to waiting for an event, to waiting for a CPU.
//!
//! Each has one vCPU, and runs rounds without end: some work, then one write to a port, which brings it out to us. What
//! we do about the write, and whether there is another round, is the caller's choice. The thread that runs the vCPU
//! reads its own clocks around every KVM_RUN, so that what anyone else says about its time can be held against
//! [`Spent`], on any machine, however fast.

mod clock;
pub(super) mod program;

pub use clock::Moment;

use super::asm::{self, Block};
use super::error::{RUN, kvm};
use super::stats::Stats;
use super::vcpu::Vcpu;
use super::{Error, Made, PATIENCE, make, wait};
use clock::Clock;
use kvm_bindings::{
    KVM_CAP_HALT_POLL, KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT, Msrs, kvm_enable_cap,
    kvm_msr_entry,
};
use kvm_ioctls::{VcpuExit, VmFd};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// `IA32_APIC_BASE`: the APIC is enabled, in x2APIC mode (SDM vol. 3, "x2APIC State Transitions").
const X2APIC: u64 = 1 << 11 | 1 << 10;

/// The guest's work between two writes to the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Nothing,
    /// [`EACH`] CPUID.
    Cpuid,
    /// [`EACH`] times: writes its TSC, `IA32_TSC_ADJUST`, and where KVM is to keep a clock for it, which makes KVM take the TSC
    /// anew. The VMM sets the TSC too, and how fast it goes, after each write to the port.
    Tsc,
    /// [`EACH`] times: sets the timer of its local APIC, which KVM emulates in the kernel, and halts until it fires.
    Halt {
        /// The timer (ns).
        timer_ns: u32,
        /// Longest time that KVM may poll before it blocks (ns); it begins with little and doubles
        /// (`grow_halt_poll_ns()`, virt/kvm/kvm_main.c). 0: no polling.
        poll_ns: u32,
        /// The guest halts the CPU itself, without an exit, as QEMU's `-overcommit cpu-pm=on` has it.
        cpu_pm: bool,
    },
}

/// Units of work in a round.
pub const EACH: u32 = 16;

/// The VMM's decision after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another round.
    Round,
    /// The VM ends here and now; the vCPU does not enter again.
    End,
}

/// KVM's own statistics of the vCPU (`KVM_GET_STATS_FD`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KvmSpent {
    /// Exits.
    pub exits: u64,
    /// Blocked, after the polling (ns).
    pub halt_wait_ns: u64,
    /// Polled, and the event came meanwhile (ns).
    pub halt_poll_success_ns: u64,
    /// Polled in vain (ns).
    pub halt_poll_fail_ns: u64,
    /// Halts that blocked; the others did not give up the CPU.
    pub halts_blocked: u64,
    /// Halts in which it polled, and did not block.
    pub halts_polled: u64,
}

/// Where the time of the vCPU's thread went, by its own clocks, and what the guest did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// The thread's number.
    pub tid: u32,
    /// Writes to the port. Each came out to the VMM, and all but the last were followed by an entry.
    pub writes: u64,
    /// CPUIDs or halts, all before the last write.
    pub works: u64,
    /// Before the first call of KVM_RUN.
    pub start: Moment,
    /// After its first return.
    pub first_return: Moment,
    /// Before its last call.
    pub last_call: Moment,
    /// After its last return.
    pub last_return: Moment,
    /// When the VM was no more; all zero until then.
    pub end: Moment,
    /// All calls of KVM_RUN together (ns).
    pub in_kvm_ns: u64,
    /// Between them, all together (ns).
    pub in_vmm_ns: u64,
    /// At the last return; `None` from a kernel before 5.14, or where it lacks any of these.
    pub kvm: Option<KvmSpent>,
}

impl Spent {
    /// Returns the time for which the thread was runnable without a CPU, from the first return of KVM_RUN to its last
    /// call (ns).
    pub fn delay_ns(&self) -> u64 {
        self.last_call.delay_ns.saturating_sub(self.first_return.delay_ns)
    }
}

/// Runs a VM that does this work, asks `next` at each write to the port, and ends the VM when that says so.
///
/// # Errors
/// If KVM is not there or refuses, if the guest did not do exactly what was planned, or takes more than a minute.
pub fn run(work: Work, mut next: impl FnMut(&Spent) -> Next + Send + 'static) -> Result<Spent, Error> {
    let Made { vm, memory, processor } = make(1)?;
    if let Work::Halt { poll_ns, cpu_pm, .. } = work {
        // Before the vCPU, which gets its local APIC from it.
        vm.create_irq_chip().map_err(kvm("make an interrupt controller"))?;
        let cap = KVM_CAP_HALT_POLL;
        vm.enable_cap(&kvm_enable_cap { cap, args: [poll_ns.into(), 0, 0, 0], ..Default::default() })
            .map_err(kvm("set how long it polls (KVM_CAP_HALT_POLL, Linux 5.10)"))?;
        if cpu_pm {
            let cap = KVM_CAP_X86_DISABLE_EXITS;
            let args = [KVM_X86_DISABLE_EXITS_HLT.into(), 0, 0, 0];
            vm.enable_cap(&kvm_enable_cap { cap, args, ..Default::default() })
                .map_err(kvm("let the guest halt the CPU (KVM_CAP_X86_DISABLE_EXITS)"))?;
        }
    }
    let fd = vm.create_vcpu(0).map_err(kvm("make a vCPU"))?;
    let program = program::program(work, EACH, processor.machine(0));
    let vcpu = Vcpu::new(fd, 0, Arc::clone(&memory), &processor, &program)?.alone_in(&vm);
    if let Work::Halt { .. } = work {
        let mut sregs = vcpu.fd.get_sregs().map_err(kvm("read a vCPU's registers"))?;
        sregs.apic_base |= X2APIC;
        vcpu.fd.set_sregs(&sregs).map_err(kvm("set a vCPU's registers"))?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let thread = thread::Builder::new()
        .name("vcpu 0".into())
        .spawn(move || rounds(vcpu, vm, work, &told, &mut next))
        .map_err(|source| Error::System { what: "start a thread for a vCPU", source })?;
    let spent = wait(vec![thread], &stop, PATIENCE)?.pop().ok_or(Error::Thread)?;
    // It outlives the VM, which the thread has ended.
    drop(memory);
    spent
}

/// Runs the vCPU, and ends it and its VM.
fn rounds(
    mut vcpu: Vcpu,
    vm: VmFd,
    work: Work,
    stop: &AtomicBool,
    next: &mut dyn FnMut(&Spent) -> Next,
) -> Result<Spent, Error> {
    let clock = Clock::here()?;
    // SAFETY: a plain system call.
    let tid = unsafe { libc::gettid() };
    let mut spent = Spent { tid: tid.unsigned_abs(), ..Spent::default() };
    loop {
        let call = clock.before()?;
        let exit = vcpu.fd.run();
        let back = clock.after()?;
        spent.in_kvm_ns += back.at_ns - call.at_ns;
        spent.writes += 1;
        match exit {
            Ok(VcpuExit::IoOut(asm::PORT, data)) if number(data) == Some(spent.writes) => {}
            Ok(VcpuExit::Hlt) => {
                vcpu.check()?;
                return Err(vcpu.unexpected("HLT"));
            }
            Ok(other) => {
                let what = format!("{other:?}");
                return Err(vcpu.unexpected(what));
            }
            Err(error) if error.errno() == libc::EINTR => {
                let what = if stop.load(Ordering::Relaxed) { "request to stop" } else { "signal" };
                return Err(vcpu.unexpected(what));
            }
            Err(error) => return Err(kvm(RUN)(error)),
        }
        if spent.writes == 1 {
            (spent.start, spent.first_return) = (call, back);
        } else {
            spent.in_vmm_ns += call.at_ns - spent.last_return.at_ns;
        }
        (spent.last_call, spent.last_return) = (call, back);
        spent.kvm = vcpu.stats.as_ref().and_then(read);
        if work == Work::Tsc {
            set_tsc(&vcpu, spent.writes)?;
        }
        if work != Work::Nothing {
            spent.works += u64::from(EACH);
        }
        if next(&spent) == Next::End {
            break;
        }
    }
    if let Work::Halt { .. } = work {
        let (planned, seen) = (spent.works, vcpu.memory.note(0, Block::Ticks));
        // QEMU's emulation now and then lets a guest take an interrupt twice that KVM has injected once, or before its
        // HLT; then the guest sets the timer again.
        if seen < planned || seen > planned && !super::host::emulated() {
            return Err(Error::Disagrees { vcpu: 0, what: "interrupts of the timer", planned, seen });
        }
    }
    // The kernel takes a VM apart when the last of its descriptors is closed, before that returns.
    drop(vcpu);
    drop(vm);
    spent.end = clock.after()?;
    Ok(spent)
}

/// Sets the vCPU's TSC to one of two values that are far apart, and on every other call how fast it goes, where this hardware
/// can change that.
fn set_tsc(vcpu: &Vcpu, call: u64) -> Result<(), Error> {
    const TSC: u32 = 0x10;
    let data = if call.is_multiple_of(2) { 0 } else { 1 << 60 };
    let msrs = Msrs::from_entries(&[kvm_msr_entry { index: TSC, data, ..Default::default() }])
        .map_err(|_| vcpu.unexpected("no room for an MSR"))?;
    vcpu.fd.set_msrs(&msrs).map_err(kvm("set a vCPU's TSC"))?;
    if call.is_multiple_of(2) {
        let khz = vcpu.fd.get_tsc_khz().map_err(kvm("ask how fast a vCPU's TSC goes"))?;
        // KVM takes no other where the hardware has no scaling.
        let _ = vcpu.fd.set_tsc_khz(if call.is_multiple_of(4) { khz / 3 * 2 } else { khz / 2 * 3 });
    }
    Ok(())
}

fn number(data: &[u8]) -> Option<u64> {
    Some(u32::from_le_bytes(data.try_into().ok()?).into())
}

fn read(stats: &Stats) -> Option<KvmSpent> {
    Some(KvmSpent {
        exits: stats.get("exits")?,
        halt_wait_ns: stats.get("halt_wait_ns")?,
        halt_poll_success_ns: stats.get("halt_poll_success_ns")?,
        halt_poll_fail_ns: stats.get("halt_poll_fail_ns")?,
        halts_blocked: stats.sum("halt_wait_hist")?,
        halts_polled: stats.get("halt_successful_poll")?,
    })
}

/// Writes to the port `writes` times. The VMM sleeps for `time` after each, and the vCPU enters again after
/// all but the last.
///
/// # Errors
/// Those of [`run`].
pub fn sleeping(writes: u64, time: Duration) -> Result<Spent, Error> {
    run(Work::Nothing, move |spent| {
        thread::sleep(time);
        if spent.writes < writes { Next::Round } else { Next::End }
    })
}

/// Halts until a timer fires, at least `halts` times, and until `enough` of what KVM knows.
///
/// # Errors
/// Those of [`run`].
pub fn halting(
    halts: u64,
    timer_ns: u32,
    poll_ns: u32,
    enough: impl Fn(&KvmSpent) -> bool + Send + 'static,
) -> Result<Spent, Error> {
    run(Work::Halt { timer_ns, poll_ns, cpu_pm: false }, move |spent| {
        let more = spent.works < halts || spent.kvm.is_some_and(|kvm| !enough(&kvm));
        if more { Next::Round } else { Next::End }
    })
}

/// Writes the TSC and what belongs to it, and to the port `writes` times.
///
/// # Errors
/// Those of [`run`].
pub fn changing_tsc(writes: u64) -> Result<Spent, Error> {
    run(Work::Tsc, move |spent| if spent.writes < writes { Next::Round } else { Next::End })
}

/// Halts until a timer fires, at least `halts` times, without an exit for the HLT.
///
/// # Errors
/// Those of [`run`].
pub fn halting_the_cpu(halts: u64, timer_ns: u32) -> Result<Spent, Error> {
    run(Work::Halt { timer_ns, poll_ns: 0, cpu_pm: true }, move |spent| {
        if spent.works < halts { Next::Round } else { Next::End }
    })
}

/// Runs CPUIDs until the thread has been runnable without a CPU for that long, which takes another one that wants it.
///
/// # Errors
/// Those of [`run`].
pub fn sharing(until: Duration) -> Result<Spent, Error> {
    run(
        Work::Cpuid,
        move |spent| {
            if u128::from(spent.delay_ns()) < until.as_nanos() { Next::Round } else { Next::End }
        },
    )
}
