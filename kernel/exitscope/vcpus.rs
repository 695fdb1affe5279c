// SPDX-License-Identifier: GPL-2.0

//! The vCPUs: those that live, and those that ended not long ago.

use core::ffi::c_void;
use core::sync::atomic::{
    fence, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use kernel::alloc::flags::{__GFP_ZERO, GFP_KERNEL, GFP_KERNEL_ACCOUNT};
use kernel::prelude::*;

use crate::count::{Counts, Tally};
use crate::glue;

/// Maximum number of ended vCPUs that are kept, for whoever reads the counts a little later. The oldest goes
/// first.
pub(crate) const ENDED: usize = 512;
/// A vCPU that runs while it is read is read again, so many times at most.
const TRIES: usize = 100;

/// KVM's statistic where no exit was counted yet.
const NONE: u64 = u64::MAX;

/// Counters of one vCPU, written by the exit path. All zero is a valid value.
///
/// KVM's own statistic, as it was just before an exit, is another one for each exit. It is written before the exit is counted
/// and after: whoever finds it in `done`, reads the counters, and finds the same in `begun` then, has read no exit half.
#[repr(C)]
pub(crate) struct Counters {
    pub(crate) tally: Tally,
    /// KVM's statistic before the last exit whose counting has begun.
    begun: AtomicU64,
    /// The same of the last one that was counted.
    done: AtomicU64,
    /// Each vCPU has another one, in the order in which they were made.
    pub(crate) serial: u64,
}

impl Counters {
    /// An exit will be counted.
    #[inline(always)]
    pub(crate) fn begin(&self, kvm_exits: u64) {
        self.begun.store(kvm_exits, Relaxed);
        // Whoever sees the counter that is written after this sees the line above too.
        fence(Release);
    }

    /// It has been counted.
    #[inline(always)]
    pub(crate) fn done(&self, kvm_exits: u64) {
        self.done.store(kvm_exits, Release);
    }
}

/// A process: `struct exitscope_owner` in glue.h. Its numbers are those of the first PID namespace.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Owner {
    pub(crate) pid: c_int,
    /// Its ancestors, nearest first, those below init; zero is none.
    pub(crate) parents: [c_int; 15],
    /// When it started, in nanoseconds since the host did.
    pub(crate) started: u64,
    /// Its name. Untrusted: any bytes, up to the first that is zero.
    pub(crate) comm: [u8; 16],
}

/// A vCPU.
pub(crate) struct Vcpu {
    counters: KBox<Counters>,
    /// Its VM: numbered by the first vCPU's serial.
    pub(crate) vm: u64,
    /// The process that made it.
    pub(crate) owner: Owner,
    /// Its number in the VM.
    pub(crate) id: c_uint,
    /// KVM's structures: the VM's to know it again, never to be followed.
    kvm: usize,
    life: Life,
}

enum Life {
    /// KVM's vCPU, there until [`remove`].
    Lives(*const c_void),
    Ended {
        kvm_exits: u64,
        nested: bool,
    },
}

// SAFETY: the pointer is followed under the lock alone, and by functions that any thread may call.
unsafe impl Send for Vcpu {}

struct All {
    /// By serial.
    live: KVVec<KBox<Vcpu>>,
    /// In the order in which they ended.
    ended: KVVec<KBox<Vcpu>>,
    /// Where a vCPU is copied to, to be read in peace.
    copy: Option<KBox<Counts>>,
    next: u64,
    vmx: bool,
    evicted: u64,
    resets: u64,
}

kernel::sync::global_lock! {
    // SAFETY: `start` does this before anything else is called.
    unsafe(uninit) static ALL: Mutex<All> = All {
        live: KVVec::new(), ended: KVVec::new(), copy: None, next: 0, vmx: false, evicted: 0, resets: 0,
    };
}

/// Gets ready.
pub(crate) fn start() -> Result {
    // SAFETY: called once, by the module's initialisation.
    unsafe { ALL.init() };
    let mut all = ALL.lock();
    // From here on a vCPU's end needs no memory.
    all.ended.reserve(ENDED, GFP_KERNEL)?;
    all.copy = Some(Counts::new()?);
    Ok(())
}

/// Gives everything back.
pub(crate) fn stop() {
    let mut all = ALL.lock();
    all.live = KVVec::new();
    all.ended = KVVec::new();
    all.copy = None;
}

/// A new vCPU; the memory is its owner's.
pub(crate) fn add(
    vcpu: *const c_void,
    vm: *const c_void,
    owner: Owner,
    id: c_uint,
    vmx: bool,
) -> Result<*const Counters> {
    let zeroed = KBox::<Counters>::new_uninit(GFP_KERNEL_ACCOUNT | __GFP_ZERO)?;
    // SAFETY: all zero is a valid value.
    let mut counters = unsafe { zeroed.assume_init() };
    let mut all = ALL.lock();
    let serial = all.next;
    counters.serial = serial;
    counters.begin(NONE);
    counters.done(NONE);
    let kvm = vm as usize;
    // A VM's structure stays as long as it has a vCPU; most often the newest one is its.
    let vm = all.live.iter().rev().find(|other| other.kvm == kvm).map_or(serial, |other| other.vm);
    let pointer = &raw const *counters;
    let new = Vcpu { counters, vm, owner, id, kvm, life: Life::Lives(vcpu) };
    let new = KBox::new(new, GFP_KERNEL_ACCOUNT)?;
    all.live.push(new, GFP_KERNEL)?;
    all.next = serial.wrapping_add(1);
    all.vmx = vmx;
    Ok(pointer)
}

/// A vCPU's end; it will not run again.
pub(crate) fn remove(serial: u64) {
    let mut gone = None;
    {
        let mut all = ALL.lock();
        let Ok(at) = all.live.binary_search_by_key(&serial, |vcpu| vcpu.counters.serial) else { return };
        let Ok(mut vcpu) = all.live.remove(at) else { return };
        let (kvm_exits, nested) = vcpu.now();
        vcpu.life = Life::Ended { kvm_exits, nested };
        // One that never ran has nothing to tell.
        if vcpu.counters.tally.now.total() == 0 && kvm_exits == 0 {
            return;
        }
        if all.ended.len() >= ENDED {
            gone = all.ended.remove(0).ok();
            all.evicted = all.evicted.wrapping_add(1);
        }
        // There is room: it was reserved.
        let _ = all.ended.push_within_capacity(vcpu);
    }
    // Freed without the lock.
    drop(gone);
}

impl Vcpu {
    /// KVM's statistic now, and whether its guest has run guests.
    fn now(&self) -> (u64, bool) {
        match self.life {
            // SAFETY: KVM's vCPU is there until `remove`, which needs the lock that the caller has.
            Life::Lives(vcpu) => unsafe {
                (glue::exitscope_kvm_exits(vcpu), glue::exitscope_has_nested(vcpu))
            },
            Life::Ended { kvm_exits, nested } => (kvm_exits, nested),
        }
    }
}

/// A vCPU as it was at one moment.
pub(crate) struct Reading<'a> {
    pub(crate) vmx: bool,
    pub(crate) vcpu: &'a Vcpu,
    pub(crate) serial: u64,
    pub(crate) counts: &'a Counts,
    pub(crate) tally: &'a Tally,
    pub(crate) ended: bool,
    /// KVM's own statistic at the same moment.
    pub(crate) kvm_exits: u64,
    pub(crate) nested: bool,
    /// It ran all the while, so that its figures may be of slightly different moments.
    pub(crate) torn: bool,
}

/// Shows the vCPU with this serial, if it is still there.
pub(crate) fn read(serial: u64, show: impl FnOnce(&Reading<'_>)) {
    let all = ALL.lock();
    let Some(vcpu) = first(&all, serial).filter(|vcpu| vcpu.counters.serial == serial) else { return };
    let Some(copy) = all.copy.as_deref() else { return };
    let counters = &*vcpu.counters;
    let mut tries = 0;
    let (before, now, torn) = loop {
        let before = counters.done.load(Acquire);
        copy.copy(&counters.tally.now);
        let now = vcpu.now();
        // What was read above was read before what follows.
        fence(Acquire);
        let torn = counters.begun.load(Relaxed) != before;
        tries += 1;
        if !torn || tries == TRIES {
            break (before, now, torn);
        }
    };
    let ended = matches!(vcpu.life, Life::Ended { .. });
    let (kvm_exits, nested) = now;
    // While it lives, what belongs to the counts is what stood beside the last exit, and that exit.
    let kvm_exits = if ended || before == NONE { kvm_exits } else { before.wrapping_add(1) };
    let (vmx, tally) = (all.vmx, &counters.tally);
    show(&Reading { vmx, vcpu, serial, counts: copy, tally, ended, kvm_exits, nested, torn });
}

/// The serial of the first vCPU from `serial` on.
pub(crate) fn next(serial: u64) -> Option<u64> {
    first(&ALL.lock(), serial).map(|vcpu| vcpu.counters.serial)
}

fn first(all: &All, serial: u64) -> Option<&Vcpu> {
    let at = all.live.partition_point(|vcpu| vcpu.counters.serial < serial);
    let ended = all.ended.iter().filter(|vcpu| vcpu.counters.serial >= serial);
    let ended = ended.min_by_key(|vcpu| vcpu.counters.serial);
    let serial = |vcpu: &&KBox<Vcpu>| vcpu.counters.serial;
    Iterator::chain(ended.into_iter(), all.live.get(at)).min_by_key(serial).map(|vcpu| &**vcpu)
}

/// State of the counters that is common to all vCPUs.
pub(crate) struct Summary {
    /// The processor is Intel's.
    pub(crate) vmx: bool,
    /// vCPUs that ended and were kept no longer.
    pub(crate) evicted: u64,
    /// Number of resets of the counts.
    pub(crate) resets: u64,
}

/// Returns the state that is common to all vCPUs.
pub(crate) fn summary() -> Summary {
    let all = ALL.lock();
    Summary { vmx: all.vmx, evicted: all.evicted, resets: all.resets }
}

/// Begins the counts of all vCPUs since the last reset anew.
pub(crate) fn reset() {
    let mut all = ALL.lock();
    for vcpu in Iterator::chain(all.live.iter(), all.ended.iter()) {
        vcpu.counters.tally.reset();
    }
    all.resets = all.resets.wrapping_add(1);
}
