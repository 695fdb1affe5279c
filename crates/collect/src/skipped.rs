//! Runs of a BPF program that the kernel skipped.

use libbpf_rs::libbpf_sys;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Returns how often the kernel did not run the program of this descriptor, because it was running already on
/// that CPU: interrupted, or on newer kernels preempted.
pub fn skipped_runs(program: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut size = u32::try_from(size_of_val(&info)).unwrap_or(u32::MAX);
    // SAFETY: `info` is plain data of `size` bytes, and the descriptor is open while it is borrowed.
    let refused = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
    };
    if refused != 0 {
        return Err(io::Error::from_raw_os_error(refused.abs()));
    }
    Ok(info.recursion_misses)
}
