//! Work of a VMM beside its vCPUs: threads that spin, and a vhost worker of the kernel's.

use super::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// `VHOST_SET_OWNER`, `_IO(0xAF, 0x01)` (include/uapi/linux/vhost.h): makes the caller's worker.
const VHOST_SET_OWNER: libc::c_ulong = 0xaf01;

/// Keeps the thread that calls busy until it has had the CPU for so long.
pub fn spin(time: Duration) {
    let end = cpu_time() + time;
    while cpu_time() < end {
        std::hint::spin_loop();
    }
}

/// Starts a thread that is called like one of QEMU's iothreads, spins for so long, and then sleeps for ever. Returns once it
/// has spun.
///
/// # Errors
/// If no thread can be started.
pub fn io_thread(time: Duration) -> Result<(), Error> {
    let (done, finished) = mpsc::channel();
    let run = move || {
        spin(time);
        // Nobody is left to be told only where this process ends.
        let _ = done.send(());
        loop {
            thread::park();
        }
    };
    let started = thread::Builder::new().name("IO disk".into()).spawn(run);
    started.map_err(|source| Error::System { what: "start a thread", source })?;
    finished.recv().map_err(|_| Error::Thread)
}

/// Starts a thread that spins for so long and ends. Returns once it has ended.
///
/// # Errors
/// If no thread can be started.
pub fn short_thread(time: Duration) -> Result<(), Error> {
    let thread = thread::Builder::new().spawn(move || spin(time));
    let thread = thread.map_err(|source| Error::System { what: "start a thread", source })?;
    thread.join().map_err(|_| Error::Thread)
}

/// Has the kernel start a vhost worker for this process, which lives as long as the file.
///
/// # Errors
/// If there is no `/dev/vhost-net`, or it has an owner.
pub fn vhost() -> Result<File, Error> {
    let vhost = |source| Error::System { what: "own a vhost device (/dev/vhost-net)", source };
    let file = OpenOptions::new().read(true).write(true).open("/dev/vhost-net").map_err(vhost)?;
    // SAFETY: an ioctl without an argument, on a file that is open.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), VHOST_SET_OWNER) };
    if result == 0 { Ok(file) } else { Err(vhost(io::Error::last_os_error())) }
}

/// CPU time of the thread that calls.
fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing, and each thread has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
