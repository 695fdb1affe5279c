// SPDX-License-Identifier: GPL-2.0

//! The functions of `glue.c`, made safe where they are.

use core::ffi::c_void;
use kernel::prelude::*;

unsafe extern "C" {
    static mut exitscope_every: c_ulong;
    safe fn exitscope_report_soon();
    safe fn exitscope_percpu_alloc(size: usize, align: usize) -> usize;
    pub(crate) unsafe fn exitscope_percpu_free(memory: usize);
    pub(crate) unsafe fn exitscope_percpu_of(memory: usize, cpu: c_uint) -> *mut c_void;
    pub(crate) unsafe fn exitscope_percpu_here(memory: usize) -> *mut c_void;
    safe fn exitscope_next_cpu(cpu: c_int) -> c_int;
    safe fn exitscope_online_cpus() -> c_uint;
    safe fn exitscope_is_on() -> bool;
    pub(crate) unsafe fn exitscope_kvm_exits(vcpu: *const c_void) -> u64;
    pub(crate) unsafe fn exitscope_has_nested(vcpu: *const c_void) -> bool;
}

/// After how many exits to report; 0 is never.
pub(crate) fn every() -> u64 {
    // SAFETY: always there; sysfs may write it meanwhile, a whole word at once.
    unsafe { (&raw const exitscope_every).read_volatile() as u64 }
}

/// Has [`crate::log::report`] called from a workqueue. Can be called with interrupts off.
pub(crate) fn report_soon() {
    exitscope_report_soon();
}

/// Zeroed memory for each CPU: its offset, which is no address; 0 where there is none.
pub(crate) fn percpu_alloc(size: usize, align: usize) -> usize {
    exitscope_percpu_alloc(size, align)
}

/// Every CPU that can ever be there.
pub(crate) fn cpus() -> impl Iterator<Item = c_uint> {
    let next = |after: c_int| Some(exitscope_next_cpu(after)).filter(|cpu| *cpu >= 0);
    core::iter::successors(next(-1), move |cpu| next(*cpu)).map(|cpu| cpu as c_uint)
}

/// Returns the number of CPUs that are online.
pub(crate) fn online_cpus() -> u64 {
    u64::from(exitscope_online_cpus())
}

/// Returns true if exits are counted.
pub(crate) fn is_on() -> bool {
    exitscope_is_on()
}
