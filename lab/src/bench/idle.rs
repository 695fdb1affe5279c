//! A thread that runs while nothing else wants to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::error::Error;

/// Does something over and over whenever the CPU would be idle, until it is dropped. An idle CPU lets virtual time jump to
/// the next timer, also while a file is being read; with this, time passes by instructions alone.
pub(super) struct Idle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Idle {
    pub(super) fn start(work: impl Fn() + Send + 'static) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().spawn(move || {
            let parameter = libc::sched_param { sched_priority: 0 };
            // SAFETY: 0 is the calling thread, and the parameter is a valid structure that outlives the call.
            let failed = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
            // Every process may do this; and without it, all figures would be wrong.
            assert_eq!(failed, 0, "SCHED_IDLE: {}", std::io::Error::last_os_error());
            while !told.load(Ordering::Relaxed) {
                work();
            }
        });
        Ok(Self { stop, thread: Some(thread.map_err(Error::io("a thread for idle time"))?) })
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Had it panicked, it would have said so itself.
            let _ = thread.join();
        }
    }
}
