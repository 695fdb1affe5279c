//! Reads an inner VM's console, and from it the guest's results.

use std::io::{self, Read, Write};
use std::process::ChildStdout;
use std::thread::JoinHandle;

use crate::error::Error;
use crate::system::System;

/// Result of an inner VM's boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// True if the guest reached the outer VM by ping; `None` if it did not get that far.
    pub guest_ping: Option<bool>,
    /// True if the data that the guest read from and wrote to its disk were right; `None` if it did not try.
    pub disk: Option<bool>,
    /// True if `login: ` was on the console; `None` for a system without login.
    pub login: Option<bool>,
    /// The exit status of the shell line, if it ran to its end.
    pub shell_status: Option<u8>,
    /// True if the outer VM reached the guest by ping; `None` if that was not asked for.
    pub outer_ping: Option<bool>,
    /// True if the guest powered off by itself.
    pub powered_off: bool,
}

impl Outcome {
    /// Returns the result of a VM that has not booted this system yet: everything that has to happen is false.
    pub(super) fn of(system: System) -> Self {
        match system {
            System::Busybox => Self { disk: Some(false), ..Self::default() },
            System::Debian => Self { login: Some(false), ..Self::default() },
        }
    }

    /// The exit status for the whole: the shell line's own, 1 for a ping that failed, a disk that was wrong, a `login:`
    /// that did not come, or a guest that did not come to its end, 0 otherwise.
    #[must_use]
    pub fn status(&self) -> u8 {
        let failed = self.guest_ping != Some(true)
            || self.outer_ping == Some(false)
            || self.disk == Some(false)
            || self.login == Some(false)
            || !self.powered_off;
        match self.shell_status {
            Some(status @ 1..) => status,
            _ => u8::from(failed),
        }
    }

    /// Takes a line of the console into account.
    fn read(&mut self, line: &str) {
        let Some((before, said)) =
            line.trim_end().strip_prefix("lab: guest ").and_then(|rest| rest.rsplit_once(": "))
        else {
            return;
        };
        let what = before.rsplit_once(": ").map_or("", |(_, what)| what);
        match said {
            "ok" | "failed" if what.starts_with("ping ") => self.guest_ping = Some(said == "ok"),
            "ok" | "failed" if what.starts_with("disk ") => self.disk = Some(said == "ok"),
            "powering off" => self.powered_off = true,
            _ => {
                if let Some(status) = said.strip_prefix("exit ") {
                    self.shell_status = status.parse().ok();
                }
            }
        }
    }
}

/// Copies the guest's console to standard output and reads the lab's lines in it.
pub(super) fn pass_on(mut console: ChildStdout, mut outcome: Outcome) -> Result<Outcome, io::Error> {
    let (mut line, mut buffer) = (Vec::new(), [0; 4096]);
    let mut stdout = io::stdout();
    loop {
        let length = match console.read(&mut buffer)? {
            0 => return Ok(outcome),
            length => length,
        };
        stdout.write_all(&buffer[..length]).and_then(|()| stdout.flush())?;
        for &byte in &buffer[..length] {
            if byte == b'\n' {
                outcome.read(&String::from_utf8_lossy(&line));
                line.clear();
            } else if line.len() < 4096 {
                // A guest may write lines without end; the lab's own are short.
                line.push(byte);
                // The line stays open, for the name of who logs in.
                if line.ends_with(b"login: ") {
                    outcome.login = outcome.login.map(|_| true);
                }
            }
        }
    }
}

pub(super) fn join(reader: JoinHandle<Result<Outcome, io::Error>>) -> Result<Outcome, Error> {
    let lost = || io::Error::other("the thread that reads it panicked");
    reader.join().map_err(|_| Error::Output(lost()))?.map_err(Error::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(console: &str) -> Outcome {
        let mut outcome = Outcome::default();
        console.lines().for_each(|line| outcome.read(line));
        outcome
    }

    #[test]
    fn the_console_tells_the_outcome() {
        let all = "[0.1] boot\nlab: guest a: b: ping 10.77.0.1: ok\r\nlab: guest x: exec: exit 3\r\n\
                   lab: guest x: powering off\r\n";
        let expected = Outcome {
            guest_ping: Some(true),
            shell_status: Some(3),
            powered_off: true,
            ..Outcome::default()
        };
        assert_eq!(outcome(all), expected);
        assert_eq!(expected.status(), 3);
        let without = outcome("lab: guest x: ping 10.77.0.1: ok\nlab: guest x: powering off\n");
        assert_eq!(without.status(), 0);
        assert_eq!(Outcome { outer_ping: Some(false), ..without }.status(), 1);
        assert_eq!(outcome("lab: guest x: ping 10.77.0.1: ok\n").status(), 1);
        assert_eq!(outcome("lab: guest x: ping 10.77.0.1: failed\nlab: guest x: powering off\n").status(), 1);
        let with_disk = |said: &str| {
            let mut outcome = Outcome::of(System::Busybox);
            [said, "lab: guest x: ping 10.77.0.1: ok", "lab: guest x: powering off"]
                .iter()
                .for_each(|line| outcome.read(line));
            outcome.status()
        };
        assert_eq!(with_disk("lab: guest x: disk sda1: ok"), 0);
        assert_eq!(with_disk("lab: guest x: disk sda1: failed"), 1);
        assert_eq!(with_disk("lab: guest disk x: ok"), 1);
        assert_eq!(Outcome { login: Some(false), ..without }.status(), 1);
        assert_eq!(outcome("Kernel panic - not syncing\n").status(), 1);
    }
}
