//! Features of this kernel's BPF, found by trying them.

use libbpf_rs::libbpf_sys;
use std::fs;
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

/// Returns true if this kernel may preempt a BPF program on a function, or on a tracepoint that is met with preemption
/// enabled: then it skips the program wherever another thread gets to it on that CPU meanwhile.
///
/// Programs on functions may be preempted since 5.12, those on tracepoints since 7.0, wherever the kernel preempts itself.
pub fn preempts_programs() -> bool {
    static PREEMPTS: LazyLock<bool> = LazyLock::new(|| {
        let chosen = fs::read_to_string("/sys/kernel/debug/sched/preempt");
        is_preemptible(chosen.ok().as_deref(), &fs::read_to_string("/proc/version").unwrap_or_default())
    });
    *PREEMPTS
}

/// Returns true if a kernel preempts itself by what it has in debugfs, such as `none (voluntary) full`, and by its version.
/// One that may be told to, where it cannot be seen whether it was, counts as one that does.
fn is_preemptible(chosen: Option<&str>, version: &str) -> bool {
    let mode = chosen.and_then(|modes| modes.split_once('(')?.1.split_once(')'));
    match mode {
        Some((mode, _)) => !matches!(mode, "none" | "voluntary"),
        None => version.split_whitespace().any(|word| word.starts_with("PREEMPT")),
    }
}

#[cfg(test)]
mod tests {
    use super::is_preemptible;

    #[test]
    fn kernels_that_preempt_themselves_are_told() {
        let dynamic = "Linux version 6.12.1 (builder) #1 SMP PREEMPT_DYNAMIC Debian 6.12.1-1";
        assert!(!is_preemptible(Some("none (voluntary) full \n"), dynamic));
        assert!(!is_preemptible(Some("(none) voluntary full \n"), dynamic));
        assert!(is_preemptible(Some("full (lazy) \n"), dynamic));
        assert!(is_preemptible(Some("none voluntary (full) \n"), dynamic));
        assert!(is_preemptible(None, dynamic));
        assert!(is_preemptible(Some("something else"), "Linux version 6.1 #1 SMP PREEMPT_RT"));
        assert!(!is_preemptible(None, "Linux version 5.10.0 #1 SMP Debian 5.10.1"));
    }
}
