// SPDX-License-Identifier: GPL-2.0

//! Counts VM exits in KVM itself, by reason, for each vCPU and each CPU.
//!
//! [`count`] is the exit path. [`cpus`] and [`vcpus`] hold the counters, [`log`] reports to the kernel log, [`file`] writes
//! `/sys/kernel/debug/exitscope/counts`. This file is the boundary: every function that C calls, see `glue.h`.

// The atomics are core's; the kernel's own are calls of C functions. Each counter has one writer, so the hot path makes do with
// loads and stores, of which LLVM makes one `inc`, and with fences that are no instructions on x86: readers need to know which
// counts belong together, see `vcpus::Counters`. Elsewhere the CPUs share one sum, and really add to it (`log`).

mod count;
mod cpus;
mod file;
mod glue;
mod log;
mod name;
mod names;
mod vcpus;

use core::ffi::c_void;
use kernel::bindings;
use kernel::prelude::*;

/// Prefix of each line of `pr_info!`.
const __LOG_PREFIX: &[u8] = b"exitscope\0";

/// Counts one exit: see `exitscope_hook` in exitscope.h. The hot path.
///
/// # Safety
///
/// `counters` is what [`exitscope_add`] returned for the vCPU that exited, not yet removed. Interrupts are off, and nobody else
/// runs that vCPU.
#[no_mangle]
unsafe extern "C" fn exitscope_count(counters: *const vcpus::Counters, code: u64, kvm_exits: u64) {
    // SAFETY: by this function's contract the counters live.
    let counters = unsafe { &*counters };
    counters.begin(kvm_exits);
    match count::slot(code) {
        Some(slot) => {
            counters.tally.now.add(slot);
            counters.done(kvm_exits);
            // SAFETY: interrupts are off, and a vCPU runs only after `exitscope_start`.
            unsafe { cpus::add(slot) };
        }
        // SAFETY: as above.
        None => unsafe { count_rare(counters, code, kvm_exits) },
    }
}

/// Apart, so that the hot path saves no registers for it.
///
/// # Safety
///
/// The same as for [`exitscope_count`].
#[cold]
#[inline(never)]
unsafe fn count_rare(counters: &vcpus::Counters, code: u64, kvm_exits: u64) {
    counters.tally.now.add_rare(code);
    counters.done(kvm_exits);
    // SAFETY: by this function's contract.
    unsafe { cpus::add_rare(code) };
}

/// Gets ready to count. Returns 0, or a negative error number.
#[no_mangle]
extern "C" fn exitscope_start() -> c_int {
    match cpus::start().and_then(|()| vcpus::start()) {
        Ok(()) => 0,
        Err(error) => {
            cpus::stop();
            error.to_errno()
        }
    }
}

/// Gives everything back. No VM is left, and no file is open.
#[no_mangle]
extern "C" fn exitscope_stop() {
    vcpus::stop();
    cpus::stop();
}

/// Counters for a new vCPU, or null where there is no memory.
///
/// # Safety
///
/// `owner` is valid for reading.
#[no_mangle]
unsafe extern "C" fn exitscope_add(
    vcpu: *const c_void,
    vm: *const c_void,
    owner: *const vcpus::Owner,
    id: c_uint,
    vmx: bool,
) -> *const vcpus::Counters {
    // SAFETY: by this function's contract.
    let owner = unsafe { *owner };
    vcpus::add(vcpu, vm, owner, id, vmx).unwrap_or(core::ptr::null())
}

/// Ends a vCPU's counters: its figures stay for a while, see [`vcpus::ENDED`].
///
/// # Safety
///
/// `counters` is what [`exitscope_add`] returned, not yet removed; its vCPU is still there and will not run again.
#[no_mangle]
unsafe extern "C" fn exitscope_remove(counters: *const vcpus::Counters) {
    // SAFETY: by this function's contract the counters live.
    vcpus::remove(unsafe { &*counters }.serial);
}

/// Reports to the kernel log.
#[no_mangle]
extern "C" fn exitscope_report() {
    log::report();
}

/// Begins all counts anew, but for those that programs read as "ever".
#[no_mangle]
extern "C" fn exitscope_reset() {
    cpus::reset();
    vcpus::reset();
}

/// # Safety
///
/// `at` is valid for reading and writing.
#[no_mangle]
unsafe extern "C" fn exitscope_seq_start(
    _: *mut bindings::seq_file,
    at: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: by this function's contract.
    file::from(unsafe { &mut *at })
}

/// # Safety
///
/// `at` is valid for reading and writing.
#[no_mangle]
unsafe extern "C" fn exitscope_seq_next(
    _: *mut bindings::seq_file,
    _: *mut c_void,
    at: *mut bindings::loff_t,
) -> *mut c_void {
    // SAFETY: by this function's contract.
    let at = unsafe { &mut *at };
    *at = at.saturating_add(1);
    file::from(at)
}

/// Nothing is held between the calls.
#[no_mangle]
extern "C" fn exitscope_seq_stop(_: *mut bindings::seq_file, _: *mut c_void) {}

/// # Safety
///
/// `to` is a seq_file that this thread alone uses, `item` came from one of the two functions above.
#[no_mangle]
unsafe extern "C" fn exitscope_seq_show(to: *mut bindings::seq_file, item: *mut c_void) -> c_int {
    // SAFETY: by this function's contract.
    file::show(unsafe { kernel::seq_file::SeqFile::from_raw(to) }, item);
    0
}
