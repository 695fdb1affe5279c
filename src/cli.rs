//! The command line. `--help`, the man pages and the completions are all made from these definitions.

use crate::model::{By, Isa, Measured, Sort, Source};
use crate::reason::{Known, MSRS, PORTS};
use crate::record::When;
use crate::view::{self, Format};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Count the VM exits of KVM guests: which, how many, how long
///
/// Why does my VM exit, how often, and what does it cost? exitscope counts the exits of every KVM virtual machine on
/// this host, exactly: by VM, vCPU and reason, with the time that the host spends on each, and where.
#[derive(Debug, Parser)]
#[command(name = "exitscope", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count exits, and print them by reason.
    ///
    /// Counts until Ctrl-C, for --duration, or until COMMAND ends; then prints a table, or what --format asks for: by reason
    /// how many exits, their host time, and where that went: in KVM (kernel), in the VMM (user), waiting for a CPU, or halted.
    /// The table's order is by time that was not halted; below it stands what the vCPUs did with their time. With
    /// COMMAND, only the VMs that it starts are counted, from the first exit to the last; the report goes to standard
    /// error unless -o names a file, and the exit status is COMMAND's (125 where exitscope itself fails, 126 where
    /// COMMAND cannot be run, 127 where it is not found). It needs root.
    ///
    /// Without COMMAND the exit status is 0, or 1 where exitscope fails; 2 for a wrong command line.
    Stat(Stat),
    /// Run a VMM, lay what its VM says beside its exits, and answer how a boot exits
    ///
    /// Runs COMMAND with its output on a terminal of its own, which is passed through, and with it the serial console, where
    /// the VMM has that on standard output (qemu-system-x86_64 -nographic). Prints when the boot is over: at a login prompt,
    /// at what --until asks for, or where COMMAND ends. Then COMMAND is ended too, unless --keep. The report goes to standard
    /// error unless -o names a file: the table of stat; the phases of the boot; and in words whether the rate of exits was
    /// stable, when it was not, and what helps.
    ///
    /// The exit status is 0 where the boot came to its end, COMMAND's where that came first and was none, 1 where --until was
    /// never seen; 125 where exitscope itself fails, 126 where COMMAND cannot be run, 127 where it is not found. It needs root.
    Boot(Boot),
    /// Record exits into a file, interval by interval.
    ///
    /// Records until Ctrl-C, for --duration, or until COMMAND ends. What is recorded is on the disk at the end of each interval:
    /// whatever happens costs the last one at most. `exitscope report` reads the file, and so do SQLite and DuckDB
    /// (docs/recording.md). With COMMAND, only the VMs that it starts are recorded, from the first exit to the last, and
    /// the exit status is COMMAND's (125 where exitscope itself fails, 126 where COMMAND cannot be run, 127 where it is
    /// not found). It needs root.
    ///
    /// Where the file can no longer be written, e.g. for want of room, it is said, COMMAND runs on to its end, and the exit
    /// status is 1 if COMMAND's is 0. Without COMMAND the exit status is 0, or 1 where exitscope fails; 2 for a wrong
    /// command line.
    Record(Record),
    /// Print a recording, or a part of it, as `stat` prints
    ///
    /// The exit status is 1 where FILE is no recording, is damaged, or has nothing in the part that was asked for. It needs no
    /// root.
    Report(Report),
    /// Print two recordings side by side: what got more, and what got less
    ///
    /// By reason, in count, rate and time; what changed most in time comes first. With several recordings a side (-a and
    /// -b), figures are medians, and where medians lie further apart than the runs of either side do among themselves, it
    /// is said. It needs no root.
    Diff(Diff),
    /// Explain exit reasons: what the guest did, what causes many of them, what helps.
    ///
    /// Without a reason, lists them all. With `user`, says what KVM_RUN returns to the VMM with (KVM_EXIT_*). The exit status
    /// is 1 where no reason has that name or number.
    Reasons(Reasons),
    /// Write the statistics to the kernel log (dmesg) each time N more exits have happened
    Kmsg(Kmsg),
    /// Run a guest whose exits are known, and compare them with what is counted
    ///
    /// Prints too what being watched costs an exit on this host: counting only, with times, and with times told apart; and
    /// how long each kind of exit takes. The exit status is 1 at any difference.
    Selftest(Selftest),
    /// Say whether exits can be counted on this host, and what to do if not
    ///
    /// The exit status is 1 if exits cannot be counted at all.
    Doctor,
    /// Write the man pages, or the completions of a shell.
    #[command(hide = true)]
    Generate(Generate),
}

/// Which VMs to watch, and how.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// Watch only the VMs of these processes, e.g. 4242,4250
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Watch only the VM with this name (column vm); may be given several times
    #[arg(short, long, value_name = "NAME")]
    pub guest: Vec<String>,
    /// What to count with
    #[arg(long, value_enum, default_value_t, value_name = "SOURCE")]
    pub source: SourceChoice,
    /// Do not tell apart where the host time of exits went: kernel, user space, halted, waiting; cheaper for exits that
    /// leave KVM. On plain tracepoints that cannot be told at all
    #[arg(long)]
    pub no_split: bool,
    /// Count exits, and measure no times; the cheapest
    #[arg(long)]
    pub no_time: bool,
    /// Room for N pairs of vCPU and reason [default: 2048 per CPU rounded up to a power of two less
    /// one, at least 8191, at most 65534]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_534))]
    pub max_rows: Option<u32>,
    /// Room for N vCPUs [default: 64 per CPU rounded up to a power of two less one, at least 511, at most 8191]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_534))]
    pub max_vcpus: Option<u32>,
}

impl Watch {
    /// What to measure beside the number of exits.
    pub fn measure(&self) -> Measured {
        if self.no_time {
            Measured::Counts
        } else if self.no_split {
            Measured::Times
        } else {
            Measured::Split
        }
    }
}

/// Where to count.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum SourceChoice {
    /// The best that works here
    #[default]
    Auto,
    /// BPF programs typed by the kernel's BTF.
    Btf,
    /// BPF programs on the plain tracepoints; no BTF needed, dearer
    Tracepoint,
    /// KVM's own statistics: totals and classes, no reasons, no times.
    Kvmstat,
    /// A KVM that counts its own exits (docs/kernel.md): reasons, no times; no BPF needed
    Kernel,
}

impl From<SourceChoice> for Option<Source> {
    fn from(choice: SourceChoice) -> Self {
        match choice {
            SourceChoice::Auto => None,
            SourceChoice::Btf => Some(Source::Btf),
            SourceChoice::Tracepoint => Some(Source::Tracepoint),
            SourceChoice::Kvmstat => Some(Source::KvmStat),
            SourceChoice::Kernel => Some(Source::Kernel),
        }
    }
}

/// What is printed, how, and where.
#[derive(Args, Debug)]
pub struct Print {
    /// Tell rows apart by these, separated by commas: vm, vcpu, level, reason [default: vm,level,reason; all for json and csv]
    ///
    /// The level is whose exits they are: the VM's own (L1), or those of guests that it runs itself (L2). A table has it only
    /// where there are any of L2.
    #[arg(long, value_name = "KEYS")]
    pub by: Option<By>,
    /// Sort rows by: busy (time that is not halted), count, rate, time, kernel, user, halted, polled, waiting,
    /// user-exits, to-l1, l1-exits, l1-time, min, avg, max, p50, p95, p99, name, vm, vcpu
    ///
    /// What is not measured leaves the order to count: with --no-split busy, kernel, user, halted, polled, waiting and
    /// user-exits are not, with --no-time no time is.
    #[arg(short, long, default_value_t, value_name = "KEY")]
    pub sort: Sort,
    /// table, json (one object a line), csv, or kmsg (as in the kernel log)
    #[arg(short, long, default_value_t)]
    pub format: Format,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl Print {
    /// The same for the view.
    pub fn options(&self) -> view::Options {
        let by = self.by.unwrap_or(if self.format == Format::Table { By::default() } else { By::ALL });
        view::Options { format: self.format, by, sort: self.sort, ..view::Options::default() }
    }
}

/// Options of `stat`.
#[derive(Args, Debug)]
pub struct Stat {
    /// Which VMs.
    #[command(flatten)]
    pub watch: Watch,
    /// Watch only these vCPUs, by number, e.g. 0,2-3.
    #[arg(long, value_name = "LIST", value_parser = parse_numbers)]
    pub vcpu: Option<Numbers>,
    /// Stop after this time: 10s, 1min, 500ms; a bare number is seconds
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,
    /// Print a block for each interval of this length, at least 10ms.
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval)]
    pub interval: Option<Duration>,
    /// How to print.
    #[command(flatten)]
    pub print: Print,
    /// Run this command, and count the VMs that it starts until it ends
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["pid", "guest", "duration"])]
    pub command: Vec<OsString>,
}

/// Options of `boot`.
#[derive(Args, Debug)]
pub struct Boot {
    /// How to count.
    #[command(flatten)]
    pub watch: Watch,
    /// How long the slices of time are that rates and spikes are made of, at least 10ms.
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval, default_value = "100ms")]
    pub interval: Duration,
    /// The boot is over with a line of the console that this regular expression matches [default: a login prompt]
    #[arg(long, value_name = "REGEX")]
    pub until: Option<regex::Regex>,
    /// Leave COMMAND running after that, until it ends by itself; what it does then is not counted
    #[arg(long)]
    pub keep: bool,
    /// Boot so many times, and give medians and spread in the end
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// The phases that lines of the console begin, in place of the built-in ones: lines of NAME, white space, and a regular
    /// expression, in the order in which a machine goes through them
    #[arg(long, value_name = "FILE")]
    pub phases: Option<PathBuf>,
    /// Write the report to this file instead of standard error
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The VMM and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND", conflicts_with_all = ["pid", "guest"])]
    pub command: Vec<OsString>,
}

/// Options of `record`.
#[derive(Args, Debug)]
pub struct Record {
    /// Which VMs.
    #[command(flatten)]
    pub watch: Watch,
    /// Record into this file
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace FILE if it exists
    #[arg(long)]
    pub force: bool,
    /// Record an interval of this length after the other, at least 10ms.
    #[arg(short, long, default_value = "1s", value_name = "TIME", value_parser = parse_interval)]
    pub interval: Duration,
    /// Stop after this time: 10s, 1min, 500ms; a bare number is seconds
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,
    /// Run this command, and record the VMs that it starts until it ends
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["pid", "guest", "duration"])]
    pub command: Vec<OsString>,
}

/// Options of `report`.
#[derive(Args, Debug)]
pub struct Report {
    /// The recording
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// From this moment on: a time since the recording began (90, 1min30s), or one of the host's clock in UTC
    /// (2026-11-05T14:30:00Z)
    ///
    /// Intervals are not cut: one that is in the part at all is in it whole.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    pub from: Option<When>,
    /// Up to this moment, likewise.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    pub to: Option<When>,
    /// How to print.
    #[command(flatten)]
    pub print: Print,
}

/// Options of `diff`.
#[derive(Args, Debug)]
pub struct Diff {
    /// The one recording
    #[arg(value_name = "A", required_unless_present = "a", requires = "second")]
    pub first: Option<PathBuf>,
    /// The other
    #[arg(value_name = "B", required_unless_present = "b")]
    pub second: Option<PathBuf>,
    /// Recordings of the one side, separated by commas
    #[arg(short, value_name = "FILES", value_delimiter = ',', requires = "b", conflicts_with_all = ["first", "second"])]
    pub a: Vec<PathBuf>,
    /// Recordings of the other side, separated by commas
    #[arg(short, value_name = "FILES", value_delimiter = ',', requires = "a", conflicts_with_all = ["first", "second"])]
    pub b: Vec<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: DiffFormat,
}

/// Formats of `diff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people
    #[default]
    Table,
    /// One object
    Json,
}

/// Options of `reasons`.
#[derive(Args, Debug)]
pub struct Reasons {
    /// vmx or svm; may be left out. user: not reasons, but what KVM_RUN returns to user space with; port, msr: the names
    /// of ports and MSRs, and what helps where many exits go there
    #[arg(value_name = "vmx|svm|user|port|msr|REASON")]
    pub first: Option<String>,
    /// A name (EPT_VIOLATION, npf; MMIO) or a number (48, 0x400; 6)
    #[arg(value_name = "NAME|NUMBER", allow_negative_numbers = true)]
    pub second: Option<String>,
}

impl Reasons {
    /// Whether it is about what KVM_RUN returns to user space with.
    pub fn is_user(&self) -> bool {
        self.begins("user")
    }

    /// The table of ports or of MSRs, if it is about these.
    pub fn known(&self) -> Option<&'static [Known]> {
        if self.begins("port") { Some(PORTS) } else { self.begins("msr").then_some(MSRS) }
    }

    fn begins(&self, word: &str) -> bool {
        self.first.as_deref().is_some_and(|first| first.eq_ignore_ascii_case(word))
    }

    /// The instruction set and the reason that were asked for.
    pub fn asked(&self) -> (Option<Isa>, Option<&str>) {
        let isa = match self.first.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("vmx") => Some(Isa::Vmx),
            Some("svm") => Some(Isa::Svm),
            _ => None,
        };
        let text = if isa.is_some() { &self.second } else { &self.first };
        (isa, text.as_deref())
    }
}

/// Options of `kmsg`.
#[derive(Args, Debug)]
pub struct Kmsg {
    /// Which VMs.
    #[command(flatten)]
    pub watch: Watch,
    /// Write after every N exits
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    /// Write at most N lines a second; what is held back comes with the next report
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_lines: u32,
    /// Stop after this time: 10s, 1min, 500ms; a bare number is seconds
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,
}

/// Options of `selftest`.
#[derive(Args, Debug)]
pub struct Selftest {
    /// Run N vCPUs at once [default: first 1, then 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub vcpus: Option<u32>,
    /// What to count with
    #[arg(long, value_enum, default_value_t, value_name = "SOURCE")]
    pub source: SourceChoice,
}

/// Options of `generate`.
#[derive(Args, Debug)]
pub struct Generate {
    /// Write the man pages into this folder.
    #[arg(long, value_name = "DIR")]
    pub man: Option<PathBuf>,
    /// Print the completions of this shell.
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<clap_complete::Shell>,
    /// Print the names of the exit reasons for KVM's own counters: kernel/exitscope/names.rs.
    #[arg(long)]
    pub kernel_names: bool,
}

/// Some numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(pub BTreeSet<u32>);

/// The highest vCPU number that KVM gives on x86 (`KVM_MAX_VCPU_IDS`, arch/x86/include/asm/kvm_host.h).
const MAX_VCPU_ID: u32 = 16_383;

fn parse_numbers(text: &str) -> Result<Numbers, String> {
    let number = |text: &str| {
        let number: u32 =
            text.trim().parse().map_err(|_| format!("{text:?} is no number; give e.g. 0,2-3"))?;
        if number > MAX_VCPU_ID {
            return Err(format!("KVM numbers vCPUs from 0 to {MAX_VCPU_ID}, found {number}"));
        }
        Ok(number)
    };
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = match part.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(part)?, number(part)?),
        };
        if from > to {
            return Err(format!("the range {part} ends before it begins"));
        }
        numbers.extend(from..=to);
    }
    Ok(Numbers(numbers))
}

fn parse_time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => {
            humantime::parse_duration(text).map_err(|error| format!("{error}; give e.g. 10s or 500ms"))?
        }
    };
    if time.is_zero() {
        return Err("a time of nothing counts nothing".into());
    }
    if time > Duration::from_secs(100 * 365 * 24 * 3600) {
        return Err("at most a hundred years".into());
    }
    Ok(time)
}

/// Zero is a moment too, that of the beginning.
fn parse_when(text: &str) -> Result<When, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(When::At(time));
    }
    match text.parse::<f64>() {
        Ok(0.0) => Ok(When::After(Duration::ZERO)),
        _ => parse_time(text)
            .map(When::After)
            .map_err(|_| format!("{text:?} is no moment; give e.g. 90, 1min30s or 2026-11-05T14:30:00Z")),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time < Duration::from_millis(10) { Err("an interval takes at least 10ms".into()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_order_is_in_the_help() {
        let mut stat = Cli::command().find_subcommand("stat").cloned().unwrap().term_width(1000);
        let help = stat.render_help().to_string();
        let line = help.lines().find(|line| line.contains("--sort")).unwrap();
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
        for (word, _) in Sort::WORDS {
            assert!(words.contains(&word), "{word} is not in {line:?}");
        }
    }

    #[test]
    fn numbers_are_lists_and_ranges() {
        assert_eq!(parse_numbers("0,2-4,3").unwrap().0, BTreeSet::from([0, 2, 3, 4]));
        for wrong in ["", "x", "1-", "4-2", "-1", "1,,2", "99999999999", "16384"] {
            assert!(parse_numbers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_are_lengths_or_times_of_the_clock() {
        assert_eq!(parse_when("0"), Ok(When::After(Duration::ZERO)));
        assert_eq!(parse_when("1min30s"), Ok(When::After(Duration::from_secs(90))));
        let moment = When::At(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_762_353_000));
        assert_eq!(parse_when("2025-11-05T14:30:00Z"), Ok(moment));
        assert_eq!(parse_when("2025-11-05 14:30:00"), Ok(moment));
        for wrong in ["", "-1", "soon", "2025-11-05", "14:30"] {
            assert!(parse_when(wrong).unwrap_err().contains("is no moment"), "{wrong}");
        }
    }

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        assert_eq!(parse_time("1.5").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_time("500ms").unwrap(), Duration::from_millis(500));
        for wrong in ["", "0", "-1", "1x", "nan", "inf", "1e300", "9e18"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
