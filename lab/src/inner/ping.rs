//! Pings an inner VM until it answers.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::command::tool;
use crate::error::Error;
use crate::process::Process;

/// A program that sends the guest an echo request each second.
///
/// An answer counts however late it comes: the guest powers off once it has answered a request, and in the emulator an
/// answer takes seconds now and then. A program for each request, which gives up after a while, would miss it.
pub(super) struct Ping {
    address: String,
    process: Process,
    answered: Arc<AtomicBool>,
}

impl Ping {
    pub(super) fn start(address: &str) -> Result<Self, Error> {
        let answered = Arc::new(AtomicBool::new(false));
        Ok(Self { address: address.to_owned(), process: start(address, &answered)?, answered })
    }

    /// Waits for an answer for at most `patience`. Returns true if there was one.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<bool, Error> {
        // It ends by itself where there is no route to the guest yet.
        if self.process.wait(patience)?.is_some() && !self.answered() {
            std::thread::sleep(patience);
            self.process = start(&self.address, &self.answered)?;
        }
        Ok(self.answered())
    }

    fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}

fn start(address: &str, answered: &Arc<AtomicBool>) -> Result<Process, Error> {
    let mut command = tool("busybox")?;
    command.args(["ping", address]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::start(&mut command, Vec::new())?;
    if let Some(output) = process.take_stdout() {
        let answered = Arc::clone(answered);
        std::thread::spawn(move || {
            if BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains(" bytes from "))
            {
                answered.store(true, Ordering::Relaxed);
            }
        });
    }
    Ok(process)
}
