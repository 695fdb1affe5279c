// SPDX-License-Identifier: GPL-2.0

//! Counters by reason, of one vCPU or one CPU. One writer adds, anybody reads at any time.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use kernel::alloc::flags::{__GFP_ZERO, GFP_KERNEL};
use kernel::prelude::*;

/// Codes below this have a slot of their own: all basic reasons of VMX, and of SVM those of instructions, exceptions and
/// registers.
const DENSE: usize = 0xc0;
/// SVM's codes of nested paging and AVIC begin here (APM vol. 2, appendix C).
const PAGING: u64 = 0x400;
const PAGING_LENGTH: usize = 0x10;
/// Number of slots.
const SLOTS: usize = DENSE + PAGING_LENGTH;
/// Number of codes without a slot that are counted apart: a processor knows a few, a guest cannot make up
/// any.
const RARE: usize = 8;

/// Returns the slot of a code; the rare codes have none.
#[inline(always)]
pub(crate) fn slot(code: u64) -> Option<usize> {
    if code < DENSE as u64 {
        return Some(code as usize);
    }
    let paging = code.wrapping_sub(PAGING);
    (paging < PAGING_LENGTH as u64).then(|| (paging as usize).wrapping_add(DENSE))
}

/// Returns the code of a slot.
fn code(slot: usize) -> u64 {
    if slot < DENSE {
        slot as u64
    } else {
        (slot - DENSE) as u64 + PAGING
    }
}

/// A code that has no slot. The code is written before the count that is no longer zero, and read after it.
struct Rare {
    code: AtomicU64,
    count: AtomicU64,
}

/// The counters. All zero is a valid value, and none counted.
#[repr(C)]
pub(crate) struct Counts {
    slots: [AtomicU64; SLOTS],
    /// In the order in which the codes first came; a count of zero is a free place.
    rare: [Rare; RARE],
    /// Exits whose codes found no place.
    rest: AtomicU64,
}

/// One more. There is one writer, so nothing is lost between the two; for LLVM it is one `inc`.
#[inline(always)]
fn increment(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

impl Counts {
    /// None counted.
    pub(crate) fn new() -> Result<KBox<Self>> {
        let zeroed = KBox::<Self>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: all zero is a valid value.
        Ok(unsafe { zeroed.assume_init() })
    }

    /// Counts an exit. Out of range is not counted: [`slot`] gives no such.
    #[inline(always)]
    pub(crate) fn add(&self, slot: usize) {
        if let Some(counter) = self.slots.get(slot) {
            increment(counter);
        }
    }

    /// Counts an exit whose code has no slot.
    #[cold]
    pub(crate) fn add_rare(&self, code: u64) {
        let counter = self.rare(code).unwrap_or(&self.rest);
        counter.store(counter.load(Relaxed).wrapping_add(1), Release);
    }

    /// The counter of a code that has no slot, at the first time a free one.
    fn rare(&self, code: u64) -> Option<&AtomicU64> {
        let rare = self.rare.iter().find(|rare| {
            if rare.count.load(Relaxed) == 0 {
                rare.code.store(code, Relaxed);
            }
            rare.code.load(Relaxed) == code
        })?;
        Some(&rare.count)
    }

    /// Makes these a copy of `other`.
    pub(crate) fn copy(&self, other: &Counts) {
        let copy = |to: &AtomicU64, from: &AtomicU64| to.store(from.load(Relaxed), Relaxed);
        for (to, from) in self.slots.iter().zip(&other.slots) {
            copy(to, from);
        }
        for (to, from) in self.rare.iter().zip(&other.rare) {
            to.count.store(from.count.load(Acquire), Relaxed);
            copy(&to.code, &from.code);
        }
        copy(&self.rest, &other.rest);
    }

    /// Counts so many exits at once; `None` for codes that found no place.
    pub(crate) fn add_many(&self, code: Option<u64>, count: u64) {
        let counter = match (code, code.and_then(slot)) {
            (_, Some(slot)) => self.slots.get(slot),
            (Some(code), None) => self.rare(code),
            (None, None) => None,
        };
        let counter = counter.unwrap_or(&self.rest);
        counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// All exits.
    pub(crate) fn total(&self) -> u64 {
        (0..PLACES).fold(0, |sum, place| self.place(place).1.wrapping_add(sum))
    }

    /// Each code that occurred, with its count: in the order of the codes, rare ones after them; `None` for those that found no
    /// place.
    pub(crate) fn each(&self, mut act: impl FnMut(Option<u64>, u64)) {
        for (code, count) in (0..PLACES).map(|place| self.place(place)) {
            if count != 0 {
                act(code, count);
            }
        }
    }

    fn place(&self, place: usize) -> (Option<u64>, u64) {
        if let Some(count) = self.slots.get(place) {
            return (Some(code(place)), count.load(Relaxed));
        }
        match self.rare.get(place.wrapping_sub(SLOTS)) {
            Some(rare) => {
                let count = rare.count.load(Acquire);
                (Some(rare.code.load(Relaxed)), count)
            }
            None => (None, self.rest.load(Relaxed)),
        }
    }
}

/// The slots, the rare codes, and the rest.
const PLACES: usize = SLOTS + RARE + 1;

/// Counters, and what they were when somebody last reset them. A reset does not write what the exit path writes.
#[repr(C)]
pub(crate) struct Tally {
    pub(crate) now: Counts,
    base: Counts,
}

impl Tally {
    /// Begins the counts since the last reset anew.
    pub(crate) fn reset(&self) {
        self.base.copy(&self.now);
    }

    /// Each code that occurred, with its count since the last reset and ever.
    pub(crate) fn each(&self, act: impl FnMut(Option<u64>, u64, u64)) {
        self.each_of(&self.now, act);
    }

    /// The same of a copy of the counts.
    pub(crate) fn each_of(&self, counts: &Counts, mut act: impl FnMut(Option<u64>, u64, u64)) {
        for place in 0..PLACES {
            let (code, ever) = counts.place(place);
            if ever != 0 {
                // A copy may be older than the last reset.
                act(code, ever.saturating_sub(self.base.place(place).1), ever);
            }
        }
    }
}
