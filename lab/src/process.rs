//! A program in the background that cannot outlive the lab: QEMU, for one.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use crate::command::show;
use crate::error::Error;

/// A running program, killed when this is dropped, and by the kernel when the thread that started it ends.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it; it inherits the descriptors `inherited` under their own numbers.
    pub(crate) fn start(command: &mut Command, inherited: Vec<OwnedFd>) -> Result<Self, Error> {
        let shown = show(command);
        let parent = getpid();
        let numbers: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // Had the lab died before the call above, no signal would come.
            if getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
            for &number in &numbers {
                // SAFETY: the descriptors are open: `inherited` lives until after the fork.
                let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
                rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: `prepare` runs between fork and exec: it only makes system calls and allocates nothing.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().map_err(Error::io(shown))?;
        drop(inherited);
        Ok(Self { child })
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status if the process has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.try_wait().map_err(Error::io("waiting for the program"))
    }

    /// Waits for it to end by itself, for at most `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, Error> {
        let end = Instant::now() + patience;
        loop {
            let status = self.ended()?;
            if status.is_some() || Instant::now() >= end {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits a while for that, so that it can clean up.
    pub(crate) fn terminate(&mut self) {
        // Fails only if it has ended already.
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::TERM);
        if !matches!(self.wait(Duration::from_secs(10)), Ok(Some(_))) {
            self.kill();
        }
    }

    /// Takes its standard output, if it was started with a pipe for it. The second call returns `None`.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
