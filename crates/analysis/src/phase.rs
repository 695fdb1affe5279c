//! What a machine is doing, known from what it says.
//!
//! The built-in patterns are what the programs print that boot a PC: SeaBIOS (`src/post.c`), iPXE, GRUB (`grub-core/kern/main.c`,
//! its boot sector), Linux (`init/version-timestamp.c`, `init/main.c`), systemd (`src/core/main.c`), getty and login.

use regex::Regex;
use std::path::{Path, PathBuf};

/// What a machine does before it says anything.
pub const FIRST: &str = "start";

/// A login prompt.
pub const LOGIN: &str = r"(^|\s)login: *$";

/// A pattern, and the phase that begins with a line that it matches.
#[derive(Clone, Debug)]
struct Rule {
    phase: String,
    pattern: Regex,
}

/// Patterns and their phases, in the order in which a machine goes through these.
#[derive(Clone, Debug)]
pub struct Rules(Vec<Rule>);

/// A table of phases that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the phases in {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// A line is none.
    #[error("{0}, line {1}: {2:?} is no phase; a line is NAME, white space, and a regular expression")]
    Line(PathBuf, usize, String),
    /// A regular expression is none.
    #[error("{0}, line {1}: {2}")]
    Pattern(PathBuf, usize, Box<regex::Error>),
    /// There is nothing in it.
    #[error("there is no phase in {0}; a line is NAME, white space, and a regular expression")]
    Empty(PathBuf),
}

/// What a machine does in real mode, and in protected mode before there is a kernel.
pub const FIRMWARE: &str = "firmware";
/// What it does in long mode before there is a kernel.
pub const DECOMPRESSION: &str = "kernel decompression";
/// What it does in the upper half of the addresses.
pub const KERNEL: &str = "kernel";
/// What it does in the lower half, once there is a kernel.
pub const USER: &str = "user space";

const BUILT_IN: [(&str, &str); 9] = [
    (FIRMWARE, r"SeaBIOS \(version|BdsDxe: |UEFI firmware"),
    ("network boot", r"iPXE (\d|initialising)|Configuring \(net"),
    (
        "boot loader",
        r"^GRUB (loading|version)|Welcome to GRUB|GNU GRUB|^Booting from (Hard Disk|ROM)|^ISOLINUX |^SYSLINUX ",
    ),
    (DECOMPRESSION, r"Decompressing Linux|^early console in (extract|decompress)_kernel"),
    (KERNEL, r"(^|\] )Linux version \d|^Booting the kernel"),
    ("initramfs", r"(Run|Starting) /init as init process|Loading, please wait|^Begin: "),
    (
        USER,
        r"systemd\[1\]: (systemd \d|Hostname set|Detected architecture)|^Welcome to |^INIT: version|Run /sbin/init as",
    ),
    ("login", LOGIN),
    ("shutdown", r"reboot: (Power down|System halted|Restarting)|systemd-shutdown"),
];

impl Default for Rules {
    fn default() -> Self {
        let rule = |(phase, pattern): &(&str, &str)| Rule {
            phase: (*phase).to_owned(),
            // Checked by a test.
            pattern: Regex::new(pattern).unwrap_or_else(|_| unreachable!("a built-in pattern")),
        };
        Rules(BUILT_IN.iter().map(rule).collect())
    }
}

impl Rules {
    /// Those of a file, in place of the built-in ones: a line for each, of a name, white space and a regular expression; `#`
    /// begins a comment, and an underscore in a name stands for a space.
    ///
    /// # Errors
    /// Where the file cannot be read, or a line is none.
    pub fn read(file: &Path) -> Result<Rules, Error> {
        let text = std::fs::read_to_string(file).map_err(|error| Error::Read(file.into(), error))?;
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (phase, pattern) = line
                .split_once(char::is_whitespace)
                .ok_or_else(|| Error::Line(file.into(), number + 1, line.into()))?;
            let pattern = Regex::new(pattern.trim())
                .map_err(|error| Error::Pattern(file.into(), number + 1, Box::new(error)))?;
            rules.push(Rule { phase: phase.replace('_', " "), pattern });
        }
        if rules.is_empty() {
            return Err(Error::Empty(file.into()));
        }
        Ok(Rules(rules))
    }

    /// Those of a file, if there is one, and else the built-in ones.
    ///
    /// # Errors
    /// Those of [`Rules::read`].
    pub fn of(file: Option<&Path>) -> Result<Rules, Error> {
        file.map_or_else(|| Ok(Rules::default()), Rules::read)
    }

    /// The place of the phase that a line tells, whatever phase is on.
    pub fn told(&self, line: &str, ended: bool) -> Option<usize> {
        let fits = |rule: &Rule| ended || rule.pattern.as_str().ends_with('$');
        self.0.iter().position(|rule| fits(rule) && rule.pattern.is_match(line))
    }

    /// The place of the phase of this name, if there is one.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|rule| rule.phase == name)
    }

    /// A phase's name.
    pub fn name(&self, place: Option<usize>) -> &str {
        place.and_then(|place| self.0.get(place)).map_or(FIRST, |rule| &rule.phase)
    }
}

#[cfg(test)]
mod tests {
    use super::super::phase_detector::PhaseDetector;
    use super::*;
    use std::time::Duration;

    fn phases(rules: &Rules, lines: &[&str]) -> Vec<String> {
        let mut detector = PhaseDetector::new(rules.clone());
        let told = lines.iter().filter_map(|line| rules.told(line, true)).collect::<Vec<_>>();
        let begun = detector.step(Duration::ZERO, Duration::ZERO, None, &told);
        begun.into_iter().map(|begun| begun.name).collect()
    }

    #[test]
    fn a_debian_with_grub() {
        let lines = [
            "SeaBIOS (version 1.16.2-debian-1.16.2-1)",
            "iPXE (http://ipxe.org) 00:03.0 CA00 PCI2.10 PnP PMM+1EFCB1A0+1EF0B1A0 CA00",
            "Booting from Hard Disk...",
            "GRUB loading.",
            "Welcome to GRUB!",
            "[    0.000000] Linux version 6.1.0-50-amd64 (debian-kernel@lists.debian.org)",
            "[    2.511111] Run /init as init process",
            "Begin: Running /scripts/init-premount ... done.",
            "[    9.115551] systemd[1]: systemd 252.39-1~deb12u1 running in system mode",
            "Welcome to Debian GNU/Linux 12 (bookworm)!",
            "My login: is not a prompt",
            "inner login: ",
            "[   20.0] reboot: Power down",
        ];
        let rules = Rules::default();
        let found = phases(&rules, &lines);
        let expected = ["firmware", "boot loader", "kernel", "initramfs", "user space", "login", "shutdown"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_kernel_in_memory_and_a_reboot() {
        let rules = Rules::default();
        assert_eq!(rules.name(None), FIRST);
        let lines = [
            "Linux version 7.0",
            "[    1.0] Run /init as init process",
            "SeaBIOS (version x)",
            "Linux version 7.0",
        ];
        assert_eq!(phases(&rules, &lines), ["kernel", "initramfs", "firmware", "kernel"]);
    }

    #[test]
    fn a_file_of_ones_own() {
        let file = std::env::temp_dir().join(format!("exitscope-phases-{}", std::process::id()));
        let say = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Rules::read(&file)
        };
        let rules = say("# mine\nunikernel_start  ^hello (there|you)\n\nwork ^work$\n").unwrap();
        assert_eq!(
            phases(&rules, &["hello you", "work", "hello there"]),
            ["unikernel start", "work", "unikernel start"]
        );
        let error = |text: &str| say(text).unwrap_err().to_string();
        assert!(error("alone\n").contains("line 1: \"alone\" is no phase"));
        assert!(error("ok fine\nbad (\n").contains("line 2: regex parse error"));
        assert!(error("# none\n").contains("there is no phase in"));
        std::fs::remove_file(&file).unwrap();
        assert!(Rules::read(&file).unwrap_err().to_string().contains("cannot read the phases in"));
    }
}
