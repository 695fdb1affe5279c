// SPDX-License-Identifier: GPL-2.0

//! The counters of each CPU, and the countdown to the next report.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use kernel::prelude::*;

use crate::count::Tally;
use crate::{glue, log};

/// Counters of one CPU. All zero is a valid value.
#[repr(C)]
struct Cpu {
    tally: Tally,
    /// Exits that are left until [`refill`].
    left: AtomicU64,
    /// Value of `left` after the last [`refill`].
    batch: AtomicU64,
}

impl Cpu {
    fn refill(&self, batch: u64) -> u64 {
        self.left.store(batch, Relaxed);
        self.batch.swap(batch, Relaxed)
    }
}

/// Per-CPU memory: an offset for `gs:`, not an address; 0 is none.
static CPUS: AtomicUsize = AtomicUsize::new(0);

/// At most so many exits pass on a CPU without being told to [`log`].
const LONGEST: u64 = 1000;
/// And so many do, where the period is not shorter: all CPUs write where they tell it.
const SHORTEST: u64 = 64;

/// Makes the counters.
pub(crate) fn start() -> Result {
    let memory = glue::percpu_alloc(size_of::<Cpu>(), align_of::<Cpu>());
    if memory == 0 {
        return Err(ENOMEM);
    }
    CPUS.store(memory, Relaxed);
    let batch = batch();
    each(|_, cpu| {
        cpu.refill(batch);
    });
    Ok(())
}

/// Gives them back.
pub(crate) fn stop() {
    let memory = CPUS.swap(0, Relaxed);
    // SAFETY: it is ours or 0, and nobody uses it any more: no VM is left, no file open.
    unsafe { glue::exitscope_percpu_free(memory) };
}

/// Counts an exit of this CPU. The hot path.
///
/// # Safety
///
/// Interrupts are off, after [`start`] and before [`stop`]. `slot` is one of [`crate::count::slot`].
#[inline(always)]
pub(crate) unsafe fn add(slot: usize) {
    let cpus = CPUS.load(Relaxed);
    // SAFETY: the slots are the first field all the way down (asserted below), `slot` is one of them, and no other context of
    // this CPU writes here.
    unsafe {
        asm!(
            "inc qword ptr gs:[{cpus} + {slot} * 8]",
            "dec qword ptr gs:[{cpus} + {left}]",
            "jz {empty}",
            cpus = in(reg) cpus,
            slot = in(reg) slot,
            left = const offset_of!(Cpu, left),
            empty = label { refill() },
            options(nostack),
        );
    }
}

const _: () = assert!(offset_of!(Cpu, tally) == 0 && offset_of!(Tally, now) == 0);

/// Counts an exit of this CPU whose code has no slot.
///
/// # Safety
///
/// The same as for [`add`].
#[cold]
pub(crate) unsafe fn add_rare(code: u64) {
    // SAFETY: interrupts are off, so this stays our CPU.
    let cpu = unsafe { here() };
    cpu.tally.now.add_rare(code);
    let left = cpu.left.load(Relaxed).wrapping_sub(1);
    cpu.left.store(left, Relaxed);
    if left == 0 {
        refill();
    }
}

/// This CPU's countdown is over; interrupts are off.
#[cold]
#[inline(never)]
fn refill() {
    // SAFETY: interrupts are off, so this stays our CPU.
    let cpu = unsafe { here() };
    log::passed(cpu.refill(batch()));
}

/// A report comes at most an eighth of its period late, or [`SHORTEST`] exits of each CPU, however they are spread over the CPUs.
fn batch() -> u64 {
    match glue::every() {
        0 => LONGEST,
        every => (every / 8 / glue::online_cpus().max(1)).clamp(every.min(SHORTEST), LONGEST),
    }
}

/// # Safety
///
/// Interrupts are off while the reference lives, after [`start`].
unsafe fn here<'a>() -> &'a Cpu {
    // SAFETY: by this function's contract there is memory, of this type since `start`.
    unsafe { &*glue::exitscope_percpu_here(CPUS.load(Relaxed)).cast() }
}

fn each(mut act: impl FnMut(c_uint, &Cpu)) {
    for number in glue::cpus() {
        // SAFETY: this is called between `start` and `stop`, with a CPU that can be there; all fields are atomic.
        act(number, unsafe { &*glue::exitscope_percpu_of(CPUS.load(Relaxed), number).cast() });
    }
}

/// The counters of every CPU, one after the other.
pub(crate) fn tallies(mut act: impl FnMut(c_uint, &Tally)) {
    each(|number, cpu| act(number, &cpu.tally));
}

/// Begins anew.
pub(crate) fn reset() {
    tallies(|_, tally| tally.reset());
}
