//! A VM whose turns are known, and of what KVM counts of it.

use super::tool::{Background, guest_program};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, Stdio};

/// A guest whose VM runs a turn of 1000 CPUIDs when it is told to.
pub struct Turns {
    guest: Background,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Turns {
    pub fn start() -> Turns {
        let mut command = Command::new(guest_program());
        command.args(["many", "1", "1000"]);
        Turns::spawn(command)
    }

    /// The same with another command line, `argv[0]` first.
    pub fn called(line: &[&str]) -> Turns {
        let mut command = Command::new(guest_program());
        command.arg0(line[0]).args(&line[1..]).env("EXITSCOPE_GUEST", "many 1 1000");
        Turns::spawn(command)
    }

    fn spawn(mut command: Command) -> Turns {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Turns { guest: Background(child), answers }
    }

    pub fn pid(&self) -> u32 {
        self.guest.pid()
    }

    /// Tells it, and waits for its answer.
    pub fn say(&mut self, line: &str) -> Value {
        self.begin(line);
        serde_json::from_str(&self.answer()).unwrap()
    }

    /// Tells it.
    pub fn begin(&mut self, line: &str) {
        writeln!(self.guest.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for the next line of its answer.
    pub fn answer(&mut self) -> String {
        self.answers.next().unwrap().unwrap()
    }

    /// KVM's own count of its exits since it began, as its VMM reads it.
    pub fn kvm_exits(&mut self) -> u64 {
        let vm = self.say("show");
        // The answer ends with null.
        assert_eq!(self.answer(), "null");
        vm["vcpus"][0]["kvm_exits"].as_u64().unwrap_or_else(|| panic!("{vm}"))
    }
}
