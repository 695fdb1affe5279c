//! Features of this kernel's BPF, found by trying them.

use libbpf_rs::libbpf_sys;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::null;
use std::sync::LazyLock;

/// Size of a value, in bytes, that kernels before 5.16 refuse: above `KMALLOC_MAX_SIZE`, 4 MiB
/// (`array_map_alloc_check()` in kernel/bpf/arraymap.c).
const LARGE_VALUE: u32 = 4 << 20 | 4096;

/// Returns true if the value of a BPF map may be larger than 4 MiB, as global data of the size of our tables is.
///
/// Also if there can be no map at all, e.g. for want of rights: then loading fails, and says why.
pub fn takes_large_values() -> bool {
    static TAKES: LazyLock<bool> = LazyLock::new(|| {
        // SAFETY: the kernel reads no more than these numbers.
        let map = unsafe {
            libbpf_sys::bpf_map_create(libbpf_sys::BPF_MAP_TYPE_ARRAY, null(), 4, LARGE_VALUE, 1, null())
        };
        if map >= 0 {
            // SAFETY: a descriptor of the map alone, which nobody else has.
            drop(unsafe { OwnedFd::from_raw_fd(map) });
        }
        map != -libc::E2BIG
    });
    *TAKES
}
