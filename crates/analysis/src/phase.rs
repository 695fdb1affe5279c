//! Table of phases: the console lines that begin them.
//!
//! The built-in table is `phases.txt`, in the form that `--phases` reads and `--list-phases` prints. It names what the
//! programs print that boot a machine, each with an example.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// Name of the phase before anything is known.
pub const FIRST: &str = "start";
/// Name of the phase that the guest is in with exits in real mode, or in protected mode before there is a kernel.
pub const FIRMWARE: &str = "firmware";
/// Name of the phase that the guest is in with exits in long mode before there is a kernel.
pub const DECOMPRESSION: &str = "kernel decompression";
/// Name of the phase that the guest is in with exits in the upper half of the addresses.
pub const KERNEL: &str = "kernel";
/// Name of the phase that the guest is in with exits in the lower half, once there is a kernel.
pub const USER: &str = "user space";
/// Name of the phase that a boot ends with, unless something else is waited for.
pub const LOGIN: &str = "login";
/// Name of the phase of a machine that goes down; what follows is a new beginning.
pub const SHUTDOWN: &str = "shutdown";
/// Name of the phase that begins where the boot has failed. It has no place in the order of the others.
pub const FAILED: &str = "failed";

/// The built-in table, in the form of a file.
pub const BUILT_IN: &str = include_str!("phases.txt");
/// The most lines of a table, those of the built-in one among them.
const MOST_MARKERS: usize = 700;
/// Memory that one expression may take, and its automaton again, in bytes.
const MOST_MEMORY: usize = 256 << 10;
/// Line of a file in whose place the built-in table stands.
const INCLUDE: &str = "@built-in";

/// Time stamp of a kernel's message that begins in the middle of a line.
static STAMP: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\[ *[0-9]{1,7}\.[0-9]{6,7}\](\[ *[TC][0-9]+\])? ").ok());

/// Effect of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Begins its phase.
    Sure,
    /// Begins its phase unless an earlier one follows (`?`).
    Unsure,
    /// Begins its phase, and the machine again if there was a kernel (`!`).
    Begins,
    /// Begins its phase, and the machine again if it was further on (`!!`).
    BeginsAlways,
    /// Begins its phase and takes nothing back (`~`).
    AtLeast,
    /// Takes back later phases that are not sure (`<`).
    TakesBack,
}

/// Phase of a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A phase, by its place in the order.
    Phase(usize),
    /// A failure, with its cause.
    Failed(String),
    /// None: the rest of the line says nothing, and with [`Sign::Begins`] the machine is about to begin again.
    Nothing,
}

/// Pattern of a line, and the phase that begins with it.
#[derive(Clone, Debug)]
pub struct Marker {
    /// The phase.
    pub target: Target,
    /// The effect.
    pub sign: Sign,
    pattern: Regex,
    /// It is held against lines that have not ended.
    prompt: bool,
}

/// Phases in the order in which a machine goes through them, and their markers.
///
/// Clones share the expressions and their caches, which take milliseconds to build.
#[derive(Clone, Debug)]
pub struct Rules {
    phases: Vec<String>,
    markers: Arc<[Marker]>,
    ended: Arc<RegexSet>,
    /// Those that are held against lines that have not ended, and their places.
    unfinished: Arc<RegexSet>,
    prompts: Vec<usize>,
}

/// Error of a table of phases.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line has no expression.
    #[error("{0}, line {1}: {2:?} is no phase; a line is NAME, white space, and a regular expression")]
    Line(PathBuf, usize, String),
    /// A line has an expression that cannot be used.
    #[error("{0}, line {1}: {2}")]
    Pattern(PathBuf, usize, Box<regex::Error>),
    /// There are too many lines.
    #[error("{0} has more than {MOST_MARKERS} phases, those that it includes among them")]
    Many(PathBuf),
    /// The expressions are too large together.
    #[error("the expressions in {0} cannot be used together: {1}")]
    Together(PathBuf, Box<regex::Error>),
    /// The file has no phase.
    #[error("there is no phase in {0}; a line is NAME, white space, and a regular expression")]
    Empty(PathBuf),
}

/// Lines of a table that are neither empty nor comments, with their numbers and those of included tables.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let own = text.lines().enumerate().map(|(place, line)| (place + 1, line.trim_start()));
    own.flat_map(|(number, line)| {
        let included = if line.trim_end() == INCLUDE { BUILT_IN } else { "" };
        let line = (included.is_empty()).then_some(line);
        line.into_iter().chain(included.lines()).map(move |line| (number, line))
    })
    .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
}

/// Splits `NAME!` into its name and sign.
fn sign(word: &str) -> (&str, Sign) {
    const SIGNS: [(&str, Sign); 5] = [
        ("!!", Sign::BeginsAlways),
        ("!", Sign::Begins),
        ("?", Sign::Unsure),
        ("~", Sign::AtLeast),
        ("<", Sign::TakesBack),
    ];
    let found = SIGNS.iter().find_map(|&(end, sign)| Some((word.strip_suffix(end)?, sign)));
    found.filter(|(name, _)| !name.is_empty()).unwrap_or((word, Sign::Sure))
}

/// Returns the text of a table with what it includes.
pub fn text(text: &str) -> String {
    let line = |line: &str| if line.trim() == INCLUDE { BUILT_IN.to_owned() } else { format!("{line}\n") };
    text.lines().map(line).collect()
}

impl Default for Rules {
    fn default() -> Self {
        // Checked by a test.
        Rules::parse(BUILT_IN, Path::new("the built-in phases"))
            .unwrap_or_else(|error| unreachable!("the built-in phases: {error}"))
    }
}

impl Rules {
    /// Takes the table in the text of a file. A line [`INCLUDE`] stands for the built-in table.
    ///
    /// # Errors
    /// If a line cannot be used, or there are too many.
    pub fn parse(text: &str, file: &Path) -> Result<Rules, Error> {
        let entries: Vec<(usize, &str, &str)> = lines(text)
            .map(|(number, line)| {
                let (word, pattern) = line
                    .split_once(char::is_whitespace)
                    .ok_or_else(|| Error::Line(file.into(), number, line.into()))?;
                Ok((number, word, pattern.trim()))
            })
            .collect::<Result<_, Error>>()?;
        if entries.len() > MOST_MARKERS {
            return Err(Error::Many(file.into()));
        }
        let phases = order(entries.iter().map(|(_, word, _)| *word));
        if phases.is_empty() {
            return Err(Error::Empty(file.into()));
        }
        // Without a sign for it, the first phase is the one that a machine begins with again.
        let begins =
            entries.iter().any(|(_, word, _)| matches!(sign(word).1, Sign::Begins | Sign::BeginsAlways));
        let mut markers = Vec::new();
        for &(number, word, pattern) in &entries {
            let (target, mut sign) = target(word, &phases);
            if !begins && target == Target::Phase(0) && sign == Sign::Sure {
                sign = Sign::BeginsAlways;
            }
            let prompt = pattern.ends_with('$') || pattern.contains("$|");
            let pattern = RegexBuilder::new(pattern)
                .size_limit(MOST_MEMORY)
                .dfa_size_limit(MOST_MEMORY)
                .build()
                .map_err(|error| Error::Pattern(file.into(), number, Box::new(error)))?;
            markers.push(Marker { target, sign, pattern, prompt });
        }
        let together = |markers: &[&Marker]| {
            RegexSetBuilder::new(markers.iter().map(|marker| marker.pattern.as_str()))
                .size_limit(16 << 20)
                .dfa_size_limit(16 << 20)
                .build()
                .map(Arc::new)
                .map_err(|error| Error::Together(file.into(), Box::new(error)))
        };
        let ended = together(&markers.iter().collect::<Vec<_>>())?;
        let prompts: Vec<usize> = (0..markers.len()).filter(|&place| markers[place].prompt).collect();
        let unfinished = together(&prompts.iter().map(|&place| &markers[place]).collect::<Vec<_>>())?;
        Ok(Rules { phases, markers: markers.into(), ended, unfinished, prompts })
    }

    /// Finds the markers in a line, in their order. Of those that match at one place the first of the table counts, beside
    /// those that take something back. Before a line has `ended`, only markers of prompts count.
    pub fn find(&self, line: &str, ended: bool) -> Vec<usize> {
        let mut found = Vec::new();
        let mut from = 0;
        let stamps = STAMP.iter().flat_map(|stamp| stamp.find_iter(line)).map(|stamp| stamp.start());
        // A log that quotes the kernel's is no message of the kernel.
        let cuts =
            stamps.filter(|&at| at > 0 && !line[..at].trim_end().ends_with("kernel:")).chain([line.len()]);
        for to in cuts {
            found.extend(self.find_in(&line[from..to], ended || to < line.len()));
            from = to;
        }
        found
    }

    fn find_in(&self, text: &str, ended: bool) -> Vec<usize> {
        let places: Vec<usize> = if ended {
            self.ended.matches(text).iter().collect()
        } else {
            self.unfinished.matches(text).iter().map(|place| self.prompts[place]).collect()
        };
        let mut found: Vec<(usize, bool, usize)> = places
            .into_iter()
            .filter_map(|place| {
                let marker = &self.markers[place];
                Some((marker.pattern.find(text)?.start(), marker.sign != Sign::TakesBack, place))
            })
            .collect();
        found.sort_unstable();
        let ignored = |&(_, _, place): &(usize, bool, usize)| {
            let marker = &self.markers[place];
            marker.target == Target::Nothing && marker.sign == Sign::Sure
        };
        let until = found.iter().find(|one| ignored(one)).map_or(usize::MAX, |one| one.0);
        found.retain(|one| one.0 < until);
        found.dedup_by(|next, last| next.0 == last.0 && next.1 && last.1);
        found.into_iter().map(|(_, _, place)| place).collect()
    }

    /// Returns a marker by its place in the table.
    pub fn marker(&self, place: usize) -> Option<&Marker> {
        self.markers.get(place)
    }

    /// Returns the place of the phase with this name.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.phases.iter().position(|phase| phase == name)
    }

    /// Returns the name of a phase, or that of the time before any.
    pub fn name(&self, place: Option<usize>) -> &str {
        place.and_then(|place| self.phases.get(place)).map_or(FIRST, |phase| phase)
    }
}

/// Returns the names of all phases, in order: a new one comes after the one that stands before it in the table.
fn order<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let (mut phases, mut last): (Vec<String>, Option<usize>) = (Vec::new(), None);
    for word in words {
        let name = sign(word).0.replace('_', " ");
        // What takes back or ignores may stand anywhere.
        if matches!(sign(word).1, Sign::TakesBack) || name == "-" || name.split(':').next() == Some(FAILED) {
            continue;
        }
        let place = phases.iter().position(|phase| *phase == name).unwrap_or_else(|| {
            let place = last.map_or(0, |last| last + 1);
            phases.insert(place, name);
            place
        });
        last = Some(place);
    }
    phases
}

fn target(word: &str, phases: &[String]) -> (Target, Sign) {
    let (name, sign) = sign(word);
    let name = name.replace('_', " ");
    let target = match name.split_once(':') {
        _ if name == "-" => Target::Nothing,
        _ if name == FAILED => Target::Failed(FAILED.into()),
        Some((FAILED, cause)) => Target::Failed(cause.to_owned()),
        _ => phases.iter().position(|phase| *phase == name).map_or(Target::Nothing, Target::Phase),
    };
    (target, sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each marker of the table is followed by examples of lines that it matches, and that no other takes from it.
    #[test]
    fn each_marker_of_the_table_finds_its_examples() {
        let rules = Rules::default();
        let (mut place, mut examples, mut wrong) = (None, 0, Vec::new());
        for line in BUILT_IN.lines() {
            if let Some(example) = line.strip_prefix("#= ") {
                let place: usize = place.unwrap();
                let marker = &rules.markers[place];
                let found = rules.find(example, true);
                let same = |other: &usize| rules.markers[*other].target == marker.target;
                let ignored = marker.target == Target::Nothing;
                let fits = marker.pattern.is_match(example) && (ignored || found.iter().any(same));
                if !fits {
                    wrong.push(format!("{example:?} tells {found:?}, and not {place}, {}", marker.pattern));
                }
                assert!(marker.prompt || !marker.pattern.as_str().ends_with('$'));
                examples += 1;
            } else if !line.is_empty() && !line.starts_with('#') {
                assert!(place.is_none() || examples > 0, "no example before {line}");
                (place, examples) = (Some(place.map_or(0, |place| place + 1)), 0);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(examples > 0 && place == Some(rules.markers.len() - 1));
        let expected = [
            FIRMWARE,
            "network boot",
            "boot loader",
            DECOMPRESSION,
            KERNEL,
            "initramfs",
            USER,
            LOGIN,
            SHUTDOWN,
        ];
        assert_eq!(rules.phases, expected);
    }

    #[test]
    fn two_markers_in_a_line_are_found_in_their_order() {
        let rules = Rules::default();
        let names = |line: &str, ended| -> Vec<String> {
            let name = |place: usize| match &rules.markers[place].target {
                Target::Phase(place) => rules.phases[*place].clone(),
                Target::Failed(cause) => cause.clone(),
                Target::Nothing => "-".into(),
            };
            rules.find(line, ended).into_iter().map(name).collect()
        };
        assert_eq!(names("Booting from ROM..Linux version 5.3", true), ["boot loader", "kernel"]);
        assert_eq!(names("host login: [    2.332786] random: crng init done", true), ["login", "kernel"]);
        assert_eq!(names("host login: ", false), ["login"]);
        assert_eq!(names("Welcome to Debian", false), [""; 0]);
        for none in
            ["My login: is not a prompt", "Last login: ", "x kernel: [    0.000000] Linux version 6.1"]
        {
            let found = names(none, true);
            assert!(found.iter().all(|name| name == "kernel" && none.starts_with('x')), "{none}: {found:?}");
        }
    }

    #[test]
    fn a_file_of_ones_own_replaces_the_table_or_adds_to_it() {
        let say = |text: &str| Rules::parse(text, Path::new("phases"));
        let rules = say("# mine\nunikernel_start  ^hello (there|you)\n\nwork ^work$\n").unwrap();
        assert_eq!(rules.phases, ["unikernel start", "work"]);
        assert_eq!(rules.find("hello you", true), [0]);
        assert_eq!(rules.markers[0].sign, Sign::BeginsAlways);
        let rules = say("@built-in\nuser_space ^my init\nservices ^up$\nfailed:disk ^no disk\n").unwrap();
        let places = [USER, "services", LOGIN].map(|name| rules.named(name).unwrap());
        assert_eq!(places, [6, 7, 8]);
        let [found] = rules.find("no disk", true)[..] else { panic!() };
        assert_eq!(rules.markers[found].target, Target::Failed("disk".into()));
        let error = |text: &str| say(text).unwrap_err().to_string();
        assert!(error("alone\n").contains("line 1: \"alone\" is no phase"));
        assert!(error("ok fine\nbad (\n").contains("line 2: regex parse error"));
        assert!(error("# none\n").contains("there is no phase in"));
        assert!(error(&"p x\n".repeat(MOST_MARKERS + 1)).contains("more than 700 phases"));
        assert!(error("big (\\pL{4}){100}\n").contains("line 1"));
    }
}
