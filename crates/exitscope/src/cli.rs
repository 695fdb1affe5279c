//! The command line. `--help`, the man pages and the completions are all made from these definitions.

mod parse;
mod serve;
mod watch;

pub use parse::{Columns, Kinds, Numbers};
pub use serve::{HistogramChoice, Serve, ServeHttp, Web};
pub use watch::{Choose, Counting, Watch};

use clap::{Args, Parser, Subcommand, ValueEnum};
use exitscope_model::figure::{FIGURES, Needs};
use exitscope_model::{By, DetailKind, Isa, Sort};
use exitscope_record::When;
use exitscope_view::report;
use exitscope_view::{self as view, Format};
use parse::{
    column_word, parse_columns, parse_delay, parse_interval, parse_numbers, parse_size, parse_time,
    parse_when,
};
use std::borrow::Cow;
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
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count exits, and print them by reason.
    ///
    /// Counts until Ctrl-C, for --duration, or until COMMAND ends; then prints a table, or what --format asks for: by reason
    /// how many exits, their host time, and where that went: in KVM (kernel), in the VMM (user), waiting for a CPU, or halted.
    /// The table's order is by time that was not halted; below it stands what the vCPUs did with their time. With
    /// COMMAND, only the VMs that it starts are counted, from the first exit to the last. With -p or -g, VMs that run
    /// already are counted for as long as COMMAND runs. With COMMAND the report goes to standard error unless -o names a
    /// file, and the exit status is COMMAND's (125 where exitscope itself fails, 126 where COMMAND cannot be run, 127 where
    /// it is not found). It needs root.
    ///
    /// Without COMMAND the exit status is 0, or 1 where exitscope fails; 2 for a wrong command line.
    Stat(Stat),
    /// Profile a VM's boot: phases, spikes, suggestions
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
    /// If the file can no longer be written, e.g. on a full disk, this is said, COMMAND runs on to its end, and the exit
    /// status is 1 if COMMAND's is 0. Without COMMAND the exit status is 0, or 1 where exitscope fails; 2 for a wrong
    /// command line.
    Record(Record),
    /// Mark this moment in everything that is being recorded
    ///
    /// `record` and `boot` keep it with its time; it is shown by them and by `report`, and `boot --until-mark` ends with it. It is on
    /// the disk when this command ends. The exit status is 1 where nothing is recording, or not each recorder has kept it. Run it as the user
    /// that runs the recorder.
    Mark(Mark),
    /// Print a recording, or a part of it, as `stat` prints
    ///
    /// A table is followed by what `boot` tells below it: the phases, the marks, and the answers in words.
    ///
    /// The exit status is 1 where FILE is no recording, is damaged, or has nothing in the part that was asked for. It needs no
    /// root.
    Report(Report),
    /// Ask a recording by SQL
    ///
    /// Prints what the statement returns as CSV, with a line of headings. The tables and views are those of
    /// docs/recording.md; exits, spans, breakdown_rows and losses, which are packed in the file, are read as virtual tables
    /// within the bounds of `report`. Nothing of the file is run, and nothing is written. It needs no root.
    Sql(Sql),
    /// Compare two recordings: what got more, and what got less
    ///
    /// By reason, in count, rate and time; what changed most in time comes first. With several recordings a side (-a and
    /// -b), figures are medians, and where medians lie further apart than the runs of either side do among themselves, it
    /// is said. It needs no root.
    Diff(Diff),
    /// Show the exits of all VMs live, in the terminal; or replay a recording
    ///
    /// Begins with a line for each VM: exits per second, the last minute, what its vCPUs did with their time, its most frequent
    /// reason. Enter opens a VM's reasons, then one reason: its histogram, ports and MSRs, vCPUs, and what helps. `?` lists
    /// the keys; most are kvm_stat's. With FILE the same of a recording: the arrow keys move in time, space plays.
    /// Live it needs root; both need a terminal. The environment's NO_COLOR is heeded.
    Top(Top),
    /// Say what would reduce exits, with the reason, the option and the source
    ///
    /// Counts for --duration, or reads a recording, and holds rules against what was counted, each VM's command line, and the
    /// host's parameters of KVM. What would save most host time comes first. Without enough evidence it says nothing. Live it
    /// needs root.
    Advise(Advise),
    /// Explain exit reasons: what the guest did, what causes many of them, what helps.
    ///
    /// Without a reason, lists them all. With `user`, says what KVM_RUN returns to the VMM with (KVM_EXIT_*). The exit status
    /// is 1 where no reason has that name or number.
    Reasons(Reasons),
    /// Count all the time, and serve the counts to Prometheus
    ///
    /// Answers /metrics in OpenMetrics or Prometheus' text format, on 127.0.0.1:9839 unless told otherwise. Counts by VM and
    /// reason, with host time and where it went; docs/fleet.md lists the metrics. One process counts, as root, and touches
    /// no network; another one speaks HTTP, as a user without rights. Waits for KVM where it is not loaded.
    ///
    /// The exit status is 1 where nothing can be counted or served. It needs root.
    Serve(Serve),
    /// Speak HTTP for a collector that has started this process.
    #[command(hide = true)]
    ServeHttp(ServeHttp),
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

/// Options of a printed report.
#[derive(Args, Debug)]
pub struct Print {
    /// Tell rows apart by these, separated by commas: vm, vcpu, level, reason, detail [default: vm,level,reason; for json
    /// and csv vm,vcpu,level,reason]
    ///
    /// The level is whose exits they are: the VM's own (L1), or those of guests that it runs itself (L2). A table has it only
    /// where there are any of L2. The detail is what they were about, such as a port: such a row has count, host time and the
    /// longest, and nothing else. With --detail a table has details without being asked.
    #[arg(long, value_name = "KEYS")]
    pub by: Option<By>,
    // Its help is made from the registry of figures.
    #[allow(missing_docs)]
    #[arg(short, long, value_name = "KEY", help = sort_help(), long_help = sort_long_help())]
    pub sort: Option<Sort>,
    /// Print at most N rows of a table, and one for all others; 0 for no limit [default: 40 on a terminal, else 0]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    // Its help is made from the registry of figures.
    #[allow(missing_docs)]
    #[arg(long, value_name = "COLUMNS", value_parser = parse_columns, help = columns_help())]
    pub columns: Option<Columns>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// One line of help on `--sort`.
fn sort_help() -> String {
    let words: Vec<String> = Sort::all()
        .map(|sort| {
            let default = if sort == Sort::BUSY { " (time that is not halted)" } else { "" };
            format!("{sort}{default}")
        })
        .collect();
    format!("Sort rows by: {} [default: busy; with details time]", words.join(", "))
}

/// Help on `--columns`.
fn columns_help() -> String {
    let words: Vec<String> = FIGURES.iter().map(|figure| column_word(figure)).collect();
    format!("Print these columns of a table or CSV, separated by commas: {}", words.join(", "))
}

/// More help on `--sort`: the orders that take more than counts.
fn sort_long_help() -> String {
    let needs = |needs: Needs| -> String {
        let words: Vec<&str> =
            Sort::all().filter(|sort| sort.figure().needs == needs).map(Sort::word).collect();
        words.join(", ")
    };
    format!(
        "{}\n\nWhere a figure was not measured, rows are sorted by count. --no-split does not measure {}; --no-time neither \
         these nor {}, {}.",
        sort_help(),
        needs(Needs::Breakdown),
        needs(Needs::Latency),
        needs(Needs::NestedLatency),
    )
}

impl Print {
    /// Checks that such an output has columns to choose, if any are chosen.
    ///
    /// # Errors
    /// With what is asked for and cannot be.
    pub fn check(&self, format: Format) -> Result<(), String> {
        if self.columns.is_some() && !matches!(format, Format::Table | Format::Csv) {
            return Err(format!("--columns chooses the columns of a table or of CSV, and {format} has none"));
        }
        Ok(())
    }

    /// The same for the view, of exits that are chosen like this.
    pub fn options(&self, format: Format, choose: &Choose) -> view::Options {
        let by = self.by.unwrap_or(match format {
            Format::Table => By { detail: !choose.detail.is_empty(), ..By::default() },
            _ => By::ALL,
        });
        view::Options {
            format,
            by,
            sort: self.sort.unwrap_or(if by.detail { Sort::TIME } else { Sort::default() }),
            columns: self.columns.clone().map_or_else(Vec::new, |columns| columns.0),
            limit: self.limit,
            ..view::Options::default()
        }
    }
}

/// Options of `stat`.
#[derive(Args, Debug)]
pub struct Stat {
    /// VMs to watch, and the source.
    #[command(flatten)]
    pub watch: Watch,
    /// Exits to count or show.
    #[command(flatten)]
    pub choose: Choose,
    /// Watch only these vCPUs, by number, e.g. 0,2-3.
    #[arg(long, value_name = "LIST", value_parser = parse_numbers)]
    pub vcpu: Option<Numbers>,
    /// Stop after this time: 10s, 1min, 500ms; a bare number is seconds
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,
    /// Print a block for each interval of this length, at least 10ms.
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval)]
    pub interval: Option<Duration>,
    /// Run COMMAND so many times, and print medians and spread, as a table or as JSON. Ends with a run that fails
    #[arg(short, long, value_name = "N", requires = "command", conflicts_with = "interval",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: Option<u32>,
    /// table, json (one object a line), csv, or kmsg (as in the kernel log)
    #[arg(short, long, default_value_t)]
    pub format: Format,
    /// Options of the report.
    #[command(flatten)]
    pub print: Print,
    /// Run this command, and count until it ends: the VMs that it starts, or with -p or -g those that run
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "duration")]
    pub command: Vec<OsString>,
}

/// Options of `boot`.
#[derive(Args, Debug)]
pub struct Boot {
    /// VMs to watch, and the source.
    #[command(flatten)]
    pub watch: Watch,
    /// Length of the slices of time that rates and spikes are made of, at least 10ms.
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval, default_value = "100ms")]
    pub interval: Duration,
    /// The boot is over with a line of the console that this regular expression matches [default: a login prompt]
    #[arg(long, value_name = "REGEX")]
    pub until: Option<regex::Regex>,
    /// The boot is over with a mark that this regular expression matches: one by `exitscope mark`, or a byte that the guest writes to
    /// a port for marks, whose text is like "port 0xf4: 0x10". A login prompt does not end it then
    #[arg(long, value_name = "REGEX")]
    pub until_mark: Option<regex::Regex>,
    /// End the boot after this time, if it is not over by then: 60s, 5min
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub timeout: Option<Duration>,
    /// Leave COMMAND running after that, until it ends by itself; what it does then is not counted
    #[arg(long)]
    pub keep: bool,
    /// Boot so many times, and give medians and spread in the end; boots that failed are counted beside them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// The phases that lines of the console begin, in place of the built-in ones, or beside them where FILE has a line
    /// @built-in: lines of NAME, white space, and a regular expression, in the order in which a machine goes through them
    #[arg(long, value_name = "FILE")]
    pub phases: Option<PathBuf>,
    /// Print the phases in the form that --phases reads, and end
    #[arg(long)]
    pub list_phases: bool,
    /// Record the boot into this file too, as `record --console` does; with --runs N into FILE-1 to FILE-N
    #[arg(short, long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Replace the file of --record if it exists
    #[arg(long, requires = "record")]
    pub force: bool,
    /// table, or json: an object a line for each boot
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: BootFormat,
    /// Write the report to this file instead of standard error
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write it to this file as a page, too; of several runs the last
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The VMM and its arguments
    #[arg(last = true, required_unless_present = "list_phases", value_name = "COMMAND", conflicts_with_all = ["pid", "guest"])]
    pub command: Vec<OsString>,
}

/// Formats of `boot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BootFormat {
    /// For people
    #[default]
    Table,
    /// One object a line for each boot
    Json,
}

/// Options of `mark`.
#[derive(Args, Debug)]
pub struct Mark {
    /// Text of the mark, at most 512 bytes
    #[arg(value_name = "TEXT", required = true)]
    pub text: Vec<String>,
    /// Only in the recorder that is this process
    #[arg(short, long, value_name = "PID")]
    pub pid: Option<u32>,
}

/// Options of `record`.
#[derive(Args, Debug)]
pub struct Record {
    /// VMs to watch, and the source.
    #[command(flatten)]
    pub watch: Watch,
    /// Exits to count or show.
    #[command(flatten)]
    pub choose: Choose,
    /// Record into this file
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace FILE if it exists
    #[arg(long)]
    pub force: bool,
    /// Record an interval of this length after the other, at least 10ms.
    #[arg(short, long, default_value = "1s", value_name = "TIME", value_parser = parse_interval)]
    pub interval: Duration,
    /// Drop what is older than this: 7d, 12h
    ///
    /// With this or --max-size, old intervals give way to sums of minutes, those after a day to sums of hours, while
    /// recording goes on. Sums stay exact.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub keep: Option<Duration>,
    /// Thin earlier where the file would be larger than this: 500M, 2G; K, M, G, T are powers of 1024, at least 8M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// Keep intervals as they were recorded for this long, if --keep or --max-size is given [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub full: Option<Duration>,
    /// Give COMMAND a terminal for its output, as `boot` does, and record what its VM says on the serial console there, line by line,
    /// and the phases of its life
    #[arg(long, requires = "command")]
    pub console: bool,
    /// The phases that lines of the console begin, in place of the built-in ones, as for `boot`
    #[arg(long, value_name = "FILE", requires = "console")]
    pub phases: Option<PathBuf>,
    /// Stop after this time: 10s, 1min, 500ms; a bare number is seconds
    #[arg(short, long, value_name = "TIME", value_parser = parse_time)]
    pub duration: Option<Duration>,
    /// Run this command, and record until it ends: the VMs that it starts, or with -p or -g those that run
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "duration")]
    pub command: Vec<OsString>,
}

/// Options of `sql`.
#[derive(Args, Debug)]
pub struct Sql {
    /// The recording
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The statement, e.g. "SELECT * FROM by_reason"
    #[arg(value_name = "STATEMENT")]
    pub statement: String,
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
    /// Only these phases, by name, separated by commas: kernel,"user space"
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub phase: Vec<String>,
    /// Exits to show.
    #[command(flatten)]
    pub choose: Choose,
    // Its help is made from the registry of kinds.
    #[allow(missing_docs)]
    #[arg(long, value_name = "KINDS", value_parser = parse::parse_kinds, help = watch::help_of_listed())]
    pub details: Option<Kinds>,
    /// table, json (one object a line), csv, or kmsg (as in the kernel log); html, a page with everything; svg or png, its
    /// timeline alone
    #[arg(short, long, default_value_t)]
    pub format: report::Format,
    /// The picture is for a dark ground; a page looks as its reader likes it
    #[arg(long)]
    pub dark: bool,
    /// Options of the report.
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
    /// Compare what exits were about, too: a row for each port, MSR, address and so on
    #[arg(long)]
    pub details: bool,
    /// Format of the output
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

/// Options of `top`.
#[derive(Args, Debug)]
pub struct Top {
    /// VMs to watch, and the source.
    #[command(flatten)]
    pub watch: Watch,
    /// Exits to count or show.
    #[command(flatten)]
    pub choose: Choose,
    /// Look this often, from 100ms to 1h [default: 1s; of a recording, as it was recorded, at most 1s]
    #[arg(short, long, value_name = "TIME", value_parser = parse_delay)]
    pub interval: Option<Duration>,
    /// Replay this recording instead (`exitscope record`)
    #[arg(value_name = "FILE", conflicts_with_all = ["source", "no_split", "no_time", "max_rows", "max_vcpus"])]
    pub file: Option<PathBuf>,
}

/// Options of `advise`.
#[derive(Args, Debug)]
pub struct Advise {
    /// VMs to watch, and the source.
    #[command(flatten)]
    pub watch: Watch,
    /// Count for this time: 10s, 1min, 500ms; a bare number is seconds
    #[arg(short, long, value_name = "TIME", value_parser = parse_time, default_value = "10s")]
    pub duration: Duration,
    /// text, or json: one object a line
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: AdviseFormat,
    /// Read this recording instead (`exitscope record`)
    #[arg(value_name = "FILE", conflicts_with_all = ["source", "no_split", "no_time", "max_rows", "max_vcpus", "duration"])]
    pub file: Option<PathBuf>,
}

/// Formats of `advise`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AdviseFormat {
    /// For people
    #[default]
    Text,
    /// One object a line
    Json,
}

/// Options of `reasons`.
#[derive(Args, Debug)]
pub struct Reasons {
    /// Numbering, kind of detail or reason.
    #[arg(value_name = "vmx|svm|user|KIND|REASON", help = watch::help_of_first())]
    pub first: Option<String>,
    /// A name (EPT_VIOLATION, npf; MMIO; COM1) or a number (48, 0x400; 6; 0x3f8)
    #[arg(value_name = "NAME|NUMBER", allow_negative_numbers = true)]
    pub second: Option<String>,
}

impl Reasons {
    /// Returns true if the question is what KVM_RUN returns to user space with.
    pub fn is_user(&self) -> bool {
        self.begins("user")
    }

    /// Returns the kind of detail that it is about, if it is about one.
    pub fn kind(&self) -> Option<DetailKind> {
        self.first.as_deref().and_then(DetailKind::from_word)
    }

    fn begins(&self, word: &str) -> bool {
        self.first.as_deref().is_some_and(|first| first.eq_ignore_ascii_case(word))
    }

    /// The instruction set and the reason that were asked for.
    pub fn asked(&self) -> (Option<Isa>, Option<Cow<'_, str>>) {
        let isa = match self.first.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("vmx") => Some(Isa::Vmx),
            Some("svm") => Some(Isa::Svm),
            _ => None,
        };
        let (first, second) = (self.first.as_deref(), self.second.as_deref());
        let text = match (isa, first, second) {
            (Some(_), _, second) => second.map(Cow::from),
            // perf's names have spaces: PF excp.
            (None, Some(first), Some(second)) => Some(format!("{first} {second}").into()),
            (None, first, _) => first.map(Cow::from),
        };
        (isa, text)
    }
}

/// Options of `kmsg`.
#[derive(Args, Debug)]
pub struct Kmsg {
    /// VMs to watch, and the source.
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
    /// Source of the counts.
    #[command(flatten)]
    pub counting: Counting,
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

#[cfg(test)]
mod tests {
    use super::watch::SourceChoice;
    use super::*;
    use clap::CommandFactory;
    use exitscope_model::{KINDS, Source};

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_source_has_one_word() {
        for source in Source::ALL {
            let choice = SourceChoice::from_str(source.word(), false).unwrap();
            assert_eq!(Option::<Source>::from(choice), Some(source));
        }
        assert!(SourceChoice::from_str("kvm_stat", false).is_err());
    }

    #[test]
    fn every_kind_of_detail_is_in_the_help() {
        let mut stat = Cli::command().find_subcommand("stat").cloned().unwrap().term_width(1000);
        let help = stat.render_long_help().to_string();
        let at = help.find("--details <KINDS>").unwrap();
        for info in KINDS {
            let line = format!("- {}: {}", info.word, info.help);
            assert!(help[at..].contains(&line), "{line:?} is not in {help:?}");
        }
        let kinds = Cli::command().find_subcommand("reasons").unwrap().clone().render_long_help().to_string();
        for info in KINDS {
            assert!(kinds.contains(info.word), "{} is not in {kinds}", info.word);
        }
    }

    #[test]
    fn a_reason_may_have_two_words() {
        let asked = |words: &[&str]| {
            let words = ["exitscope", "reasons"].iter().chain(words);
            let Command::Reasons(reasons) = Cli::try_parse_from(words).unwrap().command else { panic!() };
            let (isa, text) = reasons.asked();
            (isa, text.map(Cow::into_owned))
        };
        assert_eq!(asked(&["PF", "excp"]), (None, Some("PF excp".into())));
        assert_eq!(asked(&["svm", "PF excp"]), (Some(Isa::Svm), Some("PF excp".into())));
        assert_eq!(asked(&["48"]), (None, Some("48".into())));
        assert_eq!(asked(&["vmx"]), (Some(Isa::Vmx), None));
    }

    #[test]
    fn every_order_is_in_the_help() {
        let mut stat = Cli::command().find_subcommand("stat").cloned().unwrap().term_width(1000);
        let help = stat.render_help().to_string();
        let line = help.lines().find(|line| line.contains("--sort")).unwrap();
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
        for order in Sort::all() {
            assert!(words.contains(&order.word()), "{order} is not in {line:?}");
        }
    }
}
