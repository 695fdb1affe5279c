//! Waits for the end of a run: the command's, or the machine's.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::stall::{LONGEST_PAUSE, StallDetector};
use super::{Machine, Outer, Place, vmx};
use crate::command::tail;
use crate::error::{Error, Wreck};
use crate::process::Process;

/// Time after which a run reads the clock and checks for a request to stop.
const TICK: Duration = Duration::from_millis(100);

/// An event of a run.
pub(super) enum Event {
    Control(Vec<u8>),
    ControlClosed,
    OutputFailed(io::Error),
}

/// Result of a run.
pub(super) enum Verdict {
    Exit(u8, Duration),
    Failed(Error),
    Wrecked(Box<dyn FnOnce(Box<Wreck>) -> Error>),
}

impl Event {
    /// Returns the error if output could not be passed on.
    pub(super) fn failure(self) -> Option<io::Error> {
        match self {
            Self::OutputFailed(error) => Some(error),
            _ => None,
        }
    }
}

impl Outer {
    /// Waits for the command's exit status or for whatever comes instead.
    pub(super) fn watch(
        &self,
        happened: &Receiver<Event>,
        process: &mut Process,
        emulator: &'static str,
        start: Instant,
        place: &Place,
    ) -> Verdict {
        let mut boot = None;
        let mut stall = StallDetector::of(process);
        loop {
            let signal = self.stop.load(Ordering::Relaxed);
            if signal != 0 {
                return Verdict::Failed(Error::Cancelled(i32::try_from(signal).unwrap_or(i32::MAX)));
            }
            if start.elapsed() >= self.time_limit {
                let limit = self.time_limit;
                return Verdict::Wrecked(Box::new(move |wreck| Error::TimeLimit { limit, wreck }));
            }
            if !matches!(self.machine, Machine::Host) && stall.has_stalled() {
                let patience = LONGEST_PAUSE;
                return Verdict::Wrecked(Box::new(move |wreck| Error::Stalled { emulator, patience, wreck }));
            }
            match happened.recv_timeout(TICK) {
                // Not every emulator can be told to end where the machine would start again.
                Ok(Event::Control(line)) if line == b"up" && boot.is_some() => {
                    let line = "it rebooted".into();
                    return Verdict::Wrecked(Box::new(move |wreck| Error::WentDown { line, wreck }));
                }
                Ok(Event::Control(line)) if line == b"up" => boot = Some(start.elapsed()),
                Ok(Event::Control(line)) => {
                    if let Some(status) = exit_status(&line) {
                        return Verdict::Exit(status, boot.unwrap_or_default());
                    }
                    if let Some(reason) = line.strip_prefix(b"failed ") {
                        return Verdict::Failed(Error::Out(String::from_utf8_lossy(reason).into_owned()));
                    }
                }
                Ok(Event::OutputFailed(error)) => return Verdict::Failed(Error::Output(error)),
                Ok(Event::ControlClosed) | Err(RecvTimeoutError::Disconnected) => {
                    return post_mortem(process, emulator, place);
                }
                // Bochs does not end with the kernel that panicked.
                Err(RecvTimeoutError::Timeout)
                    if matches!(self.machine, Machine::Vmx(_)) && panicked(&place.console) =>
                {
                    process.kill();
                    return post_mortem(process, emulator, place);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Passes on the control port's lines.
pub(super) fn listen(mut port: Box<dyn Read + Send>, events: Sender<Event>) {
    std::thread::spawn(move || {
        let (mut line, mut buffer) = (Vec::new(), [0; 256]);
        while let Ok(length @ 1..) = port.read(&mut buffer) {
            for &byte in &buffer[..length] {
                if byte == b'\n' {
                    // As above: the run may be over.
                    let _ = events.send(Event::Control(std::mem::take(&mut line)));
                } else if line.len() < 4096 {
                    line.push(byte);
                }
            }
        }
        let _ = events.send(Event::ControlClosed);
    });
}

/// `exit N`, as the second part of the outer VM's init says it.
fn exit_status(line: &[u8]) -> Option<u8> {
    std::str::from_utf8(line.strip_prefix(b"exit ")?).ok()?.parse().ok()
}

const PANIC: &str = "Kernel panic - not syncing";

fn panicked(console: &Path) -> bool {
    // A log that cannot be read says nothing; it is read again in the end.
    fs::read(console).is_ok_and(|log| String::from_utf8_lossy(&log).contains(PANIC))
}

/// Says why the machine ended before the command did.
fn post_mortem(process: &mut Process, emulator: &'static str, place: &Place) -> Verdict {
    let status = match process.wait(Duration::from_secs(10)) {
        Err(error) => return Verdict::Failed(error),
        Ok(status) => status,
    };
    // A log that cannot be read leaves the reason empty, and the message names the log.
    let log = fs::read(&place.console).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let line =
        |wanted: &str| log.lines().find(|line| line.contains(wanted)).map(|line| line.trim().to_string());
    if let Some(line) = line(PANIC) {
        return Verdict::Wrecked(Box::new(move |wreck| Error::Panic { line, wreck }));
    }
    let said = tail(&fs::read(&place.messages).unwrap_or_default());
    match status {
        // SIGTERM ends QEMU with status 0 all the same, and a guest that powers off ends Bochs with 1.
        Some(status)
            if said.contains("terminating on signal")
                || !status.success() && !said.contains(vmx::POWERED_OFF) =>
        {
            Verdict::Wrecked(Box::new(move |wreck| Error::EmulatorDied {
                emulator,
                status,
                stderr: said,
                wreck,
            }))
        }
        _ => {
            let line = line("lab: ").unwrap_or_default();
            Verdict::Wrecked(Box::new(move |wreck| Error::WentDown { line, wreck }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_exit_lines_are_a_status() {
        assert_eq!(exit_status(b"exit 0"), Some(0));
        assert_eq!(exit_status(b"exit 137"), Some(137));
        for line in [&b"exit 256"[..], b"exit", b"exit -1", b"up", b"exit 1 "] {
            assert_eq!(exit_status(line), None);
        }
    }
}
