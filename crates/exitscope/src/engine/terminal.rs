//! A pseudoterminal for a command, whose output passes through here.

use anyhow::Context;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The pseudoterminal of a command, from its start on.
pub struct Terminal {
    ours: File,
    /// Open until the command has it: were it not, the terminal would be over before it began.
    theirs: Option<OwnedFd>,
    /// Settings of our own terminal to put back, if the command reads from it.
    before: Option<Termios>,
}

impl Terminal {
    /// Opens one, as wide as ours.
    ///
    /// # Errors
    /// If this system has none to give.
    pub fn open() -> anyhow::Result<Terminal> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("cannot open a pseudoterminal (/dev/ptmx)")?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let theirs = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("cannot open the pseudoterminal {}", name.to_string_lossy()))?;
        if io::stdout().is_terminal() {
            if let Ok(size) = tcgetwinsize(io::stdout()) {
                tcsetwinsize(&ours, size)?;
            }
        } else {
            // What goes into a file or a pipe is left as it is: no carriage returns.
            let mut mode = tcgetattr(&theirs)?;
            mode.output_modes.remove(OutputModes::OPOST);
            tcsetattr(&theirs, OptionalActions::Now, &mode)?;
        }
        Ok(Terminal { ours: ours.into(), theirs: Some(theirs), before: None })
    }

    /// Connects a command to it, in a process group of its own: its output, and its input too if ours is a terminal.
    ///
    /// # Errors
    /// If no more files can be opened.
    pub fn attach(&self, command: &mut Command) -> io::Result<()> {
        let Some(theirs) = &self.theirs else { return Ok(()) };
        command.stdout(theirs.try_clone()?);
        if !io::stdin().is_terminal() {
            command.process_group(0);
            return Ok(());
        }
        command.stdin(Stdio::from(theirs.try_clone()?));
        // SAFETY: between fork and exec there are only system calls, and nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        Ok(())
    }

    /// Starts to pass keys to the command, and its output to standard output. Calls `said` with the output too, in a thread
    /// of its own, and with no bytes at the end.
    ///
    /// # Errors
    /// If our terminal cannot be set, or no thread can be started.
    pub fn pass_through(&mut self, mut said: impl FnMut(&[u8]) + Send + 'static) -> anyhow::Result<()> {
        self.theirs = None;
        if io::stdin().is_terminal() {
            let before = tcgetattr(io::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            // Our own messages still begin at the left.
            raw.output_modes = before.output_modes;
            tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
            self.before = Some(before);
            let mut to = self.ours.try_clone()?;
            std::thread::Builder::new().name("keys".into()).spawn(move || {
                // Until the command has gone, or we.
                let _ = io::copy(&mut io::stdin().lock(), &mut to);
            })?;
        }
        let mut from = self.ours.try_clone()?;
        std::thread::Builder::new().name("console".into()).spawn(move || {
            let mut buffer = vec![0; 65_536];
            let mut shown = true;
            // When nobody has it open any more, reading is an error.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                said(&buffer[..length]);
                if shown {
                    let mut out = io::stdout().lock();
                    // Nobody may want to see it; the boot goes on.
                    shown = out.write_all(&buffer[..length]).and_then(|()| out.flush()).is_ok();
                }
            }
            said(&[]);
        })?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // There is nobody to tell.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
