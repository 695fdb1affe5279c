//! Makes a vCPU's thread leave KVM_RUN, by a signal.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::OnceLock;
use std::thread::JoinHandle;

/// A real-time signal that is rarely taken.
fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 7
}

extern "C" fn nothing(_: libc::c_int) {}

/// Makes the signal end a system call and do nothing else. Once for the process.
pub fn prepare() -> io::Result<()> {
    static DONE: OnceLock<Option<i32>> = OnceLock::new();
    let failed = DONE.get_or_init(|| {
        // SAFETY: all zero is a valid sigaction: no flags (so no SA_RESTART), an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the action is complete, and its handler touches nothing.
        let failed = unsafe { libc::sigaction(signal(), &raw const action, std::ptr::null_mut()) } != 0;
        failed.then(|| io::Error::last_os_error().raw_os_error().unwrap_or(0))
    });
    failed.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
}

/// Sends the signal to a thread that has not been joined.
pub fn kick<T>(thread: &JoinHandle<T>) {
    // SAFETY: the handle is not joined, so the thread's id is still its own.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), signal()) };
}
