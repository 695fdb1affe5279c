//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lab::Machine;
use lab::system::{Bus, Loader, System};

/// Boots a KVM host (the outer VM) in software, and virtual machines on it (inner VMs).
#[derive(Parser)]
#[command(name = "lab", version, arg_required_else_help = true)]
pub struct Cli {
    /// The lab's command.
    #[command(subcommand)]
    pub action: Action,
}

/// The lab's commands.
#[derive(Subcommand)]
pub enum Action {
    /// Runs a command as root in an outer VM
    #[command(after_long_help = RUN_HELP)]
    Run(Run),
    /// Boots an inner VM; works in the outer VM only
    #[command(after_long_help = INNER_HELP)]
    Inner(Inner),
    /// Downloads the kernels of Debian suites, for offline use from then on
    Fetch(Fetch),
    /// Builds KVM's modules that count their own exits, for the kernel of a Debian suite
    #[command(after_long_help = KERNEL_HELP)]
    Kernel(Kernel),
    /// Measures what watching exits costs, exitscope and other tools side by side
    #[command(after_long_help = BENCH_HELP)]
    Bench(Bench),
    /// The part of `lab bench` in the outer VM
    #[command(hide = true)]
    BenchInside(BenchInside),
    /// Two BPF programs that do nothing at each exit and entry
    #[command(hide = true)]
    BenchFloor,
    /// Has KVM count its own exits, where it can
    #[command(hide = true)]
    BenchCounters,
    /// Boots every system on every machine from every disk, several times, and puts the figures into a document
    #[command(after_long_help = EXPERIMENT_HELP)]
    Experiment(Experiment),
    /// Says what the lab needs, and how to install what is missing
    Doctor,
}

const RUN_HELP: &str = "\
In the outer VM the command finds this machine's files in the same places and starts in the same directory; \
what it writes is gone afterwards, except for the files in the directory that LAB_OUT names. /dev, /proc, /run and \
/sys are the outer VM's own. Files that change on this machine meanwhile may be seen old, new or torn. Of the \
environment only TERM comes along; see --env. When the command ends, so does everything that it started.

Exit status: the command's own, 128+N if signal N killed it, 126 or 127 if it cannot be executed or found;
  121  the outer VM's kernel panicked (an oops counts as one)
  122  QEMU or Bochs died
  123  the outer VM powered off or rebooted before the command ended
  124  the time limit passed, or the outer VM stalled
  125  the lab itself failed
  128+N  the lab was stopped by signal N (141: nobody read its output any more)";

const INNER_HELP: &str = "\
The guest boots Debian's kernel with busybox, takes the address 10.77.N.2 on its tap device labN (the outer VM's end is \
10.77.N.1, N the first that is free), pings the outer VM, runs the --exec line, and powers off. Lines that start with \
`lab: guest NAME: ` on its console tell how far it is. The console is on standard input and output, QEMU's command \
line on standard error.

With --system debian it boots Debian with systemd, from a disk, to its login prompt, and then does the same. With --bus \
busybox lives on a disk too, of which it reads 4 MiB and writes as much. What a guest writes is gone with it. \
LAB_SYSTEM_DEBIAN and LAB_SYSTEM_BUSYBOX name an image or a block device in place of the cache's.

Exit status: that of the --exec line; 1 if a ping failed, the disk's data were wrong, no login prompt came, or the guest \
did not come to its end;
  122  QEMU failed
  125  the lab itself failed
  128+N  the lab was stopped by signal N";

const KERNEL_HELP: &str = "\
The sources are patched and compiled in a root of their own with the tools that Debian built the kernel with; nothing is \
installed on this machine. --out holds a kernel and its modules afterwards: lab run --kernel OUT/vmlinuz --modules OUT. \
Where it is up to date, nothing is done and nothing downloaded; with `lab fetch --refresh SUITE` it is for the newest \
kernel from then on.

Exit status: 0; 125 where a step failed, which is named with its log.";

const BENCH_HELP: &str = "\
Each tool gets an outer VM of its own, in which a virtual nanosecond is one instruction, and watches a guest there that \
makes known exits. The figures are what the tool adds to each exit, and repeat to within a few instructions. A tool that \
is not installed, or fails, is named in the end.

Exit status: 0, or 1 where no tool gave figures; else as `lab run`.";

const EXPERIMENT_HELP: &str = "\
Each run is `lab run -- exitscope record -- lab inner`. Its recording stays in --out as NAME.rec, with NAME.json about \
the run and its output in NAME.log. A run that is there is not made again; remove NAME.json to repeat it. A run that \
stalls is made up to three times.

In the document, only what is between the lines `<!-- figures: begin NAME -->` and `<!-- figures: end -->` is replaced.

Exit status: 0, or 1 where a run could not be made or is not exact; else as `lab run`.";

/// Options of `lab experiment`.
#[derive(Args)]
pub struct Experiment {
    /// Runs of each cell
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub runs: u32,
    /// Only these outer machines
    #[arg(long, value_enum, value_delimiter = ',', default_value = "svm,vmx")]
    pub machine: Vec<Machine>,
    /// Only these inner systems
    #[arg(long, value_enum, value_delimiter = ',', default_value = "busybox,debian")]
    pub system: Vec<System>,
    /// Only disks that are attached this way
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ide,virtio")]
    pub bus: Vec<Bus>,
    /// Runs side by side
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: u32,
    /// The Debian suite of the outer VM's kernel
    #[arg(long, default_value = "bookworm")]
    pub suite: String,
    /// Time limit of a run
    #[arg(long, value_name = "SECONDS", default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..))]
    pub time_limit: u64,
    /// The directory where the runs' recordings are kept
    #[arg(long, value_name = "DIR", default_value = "target/experiment")]
    pub out: PathBuf,
    /// The exitscope that counts [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub exitscope: Option<PathBuf>,
    /// The document whose figures are replaced, with all cells that have runs
    #[arg(long, value_name = "FILE", default_value = "docs/experiment.md")]
    pub document: PathBuf,
    /// Makes no run, and puts the figures of those that are there into the document
    #[arg(long)]
    pub figures: bool,
}

/// Options of `lab bench`.
#[derive(Args)]
pub struct Bench {
    /// The Debian suite whose kernel boots
    #[arg(long, default_value = "bookworm", conflicts_with_all = ["kernel", "modules"])]
    pub suite: String,
    /// A kernel image of your own
    #[arg(long, value_name = "VMLINUZ", requires = "modules")]
    pub kernel: Option<PathBuf>,
    /// Its module tree: /lib/modules/RELEASE, or a directory with lib/modules/RELEASE in it
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,
    /// The directory of the exitscope to measure
    #[arg(long, value_name = "DIR", default_value = "target/release")]
    pub build: PathBuf,
    /// Only these tools, by the words that --list prints, separated by commas
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Prints the tools, and runs nothing
    #[arg(long)]
    pub list: bool,
    /// The tables as Markdown too, in this file
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Time limit of each tool
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub time_limit: u64,
    /// Commands of your own that watch exits until they are killed, instead of all tools or beside those of --only
    #[arg(value_name = "LABEL=COMMAND")]
    pub own: Vec<String>,
}

/// Arguments of `lab bench-inside`.
#[derive(Args)]
pub struct BenchInside {
    /// The set of figures
    #[arg(value_parser = ["kinds", "scale"])]
    pub suite: String,
    /// The shell line that runs the tool
    pub command: String,
}

/// Options of `lab inner`.
#[derive(Args)]
pub struct Inner {
    /// The VM's name [default: inner-N]
    #[arg(long)]
    pub name: Option<OsString>,
    /// Memory
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(64..))]
    pub memory: u32,
    /// vCPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// The guest's system
    #[arg(long, value_enum, default_value = "busybox")]
    pub system: System,
    /// Attaches the system's disk this way [default: ide for debian; busybox has no disk]
    #[arg(long, value_enum)]
    pub bus: Option<Bus>,
    /// Loader of the kernel from the system's disk
    #[arg(long, value_enum, default_value = "none")]
    pub loader: Loader,
    /// The Debian suite that the kernel and the system are of
    #[arg(long, default_value = lab::INNER_SUITE)]
    pub suite: String,
    /// Boots the kernel for every machine instead of the small one for virtual machines; systems on a disk always do
    #[arg(long)]
    pub plain: bool,
    /// One more disk for the guest, as virtio-blk: an image, qcow2 or raw, or a block device
    #[arg(long, value_name = "IMAGE")]
    pub disk: Option<PathBuf>,
    /// A shell line that the guest runs once its network is up
    #[arg(long, value_name = "SHELL-LINE", default_value = "", hide_default_value = true)]
    pub exec: OsString,
    /// Time for which the guest stays up before it powers off
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub keep: u32,
    /// Pings the guest from the outer VM too; the guest stays up for that
    #[arg(long)]
    pub ping: bool,
    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU-ARGUMENT", allow_hyphen_values = true)]
    pub extra: Vec<OsString>,
}

/// Options of `lab run`.
#[derive(Args)]
pub struct Run {
    /// The machine on which the command runs
    #[arg(long, value_enum, default_value = "svm")]
    pub machine: Machine,
    /// The Debian suite whose kernel boots, such as bookworm, trixie, trixie-backports or sid [default: bookworm]
    #[arg(long, conflicts_with_all = ["kernel", "modules"])]
    pub suite: Option<String>,
    /// A kernel image of your own
    #[arg(long, value_name = "VMLINUZ", requires = "modules")]
    pub kernel: Option<PathBuf>,
    /// Its module tree: /lib/modules/RELEASE, or a directory with lib/modules/RELEASE in it
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,
    /// CPUs, which take turns: a guest that calibrates its clock may hang on more than one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub smp: u32,
    /// Memory; half of it is there for files that the command writes [default: 4096; with --machine vmx 1536, and at
    /// most 2048]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..))]
    pub memory: Option<u32>,
    /// With --machine vmx, a file or directory that comes along; with a program come the libraries it is linked with.
    /// The command itself, its arguments that name files, and the usual tools are there without this
    #[arg(long, value_name = "PATH")]
    pub bring: Vec<PathBuf>,
    /// With --machine vmx, a system on a disk that comes along for `lab inner --system`
    #[arg(long, value_enum, value_name = "SYSTEM")]
    pub bring_system: Vec<System>,
    /// Time limit of boot and command together
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub time_limit: u64,
    /// Boots and runs the command again, up to N times in all, if the time limit passes or the machine stalls: now and
    /// then an emulator loses an interrupt
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub attempts: u32,
    /// The directory that LAB_OUT names inside; made if need be
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The file for the console log; without it the log is kept only where something went wrong
    #[arg(long, value_name = "FILE")]
    pub console: Option<PathBuf>,
    /// Makes a virtual nanosecond one instruction, the same in every run; idle time passes at once
    #[arg(long)]
    pub icount: bool,
    /// Sets a variable of the command's environment; a NAME alone passes on this one's
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,
    /// Gives the command /dev/null to read; without it the lab's own standard input is passed on, except
    /// from the background of a terminal
    #[arg(short = 'n', long)]
    pub no_stdin: bool,
    /// Says on standard error how long the boot and the whole run took
    #[arg(long)]
    pub timing: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Options of `lab kernel`.
#[derive(Args)]
pub struct Kernel {
    /// The Debian suite whose kernel it is for
    #[arg(long, default_value = "trixie-backports")]
    pub suite: String,
    /// The directory with the patch and the sources
    #[arg(long, value_name = "DIR", default_value = "kernel")]
    pub sources: PathBuf,
    /// Where the kernel and its modules go; what is there is replaced
    #[arg(long, value_name = "DIR", default_value = "target/kernel")]
    pub out: PathBuf,
    /// Where the logs go
    #[arg(long, value_name = "DIR", default_value = "target/kernel-logs")]
    pub logs: PathBuf,
}

/// Options of `lab fetch`.
#[derive(Args)]
pub struct Fetch {
    /// Downloads the newest kernels in place of those that are there
    #[arg(long)]
    pub refresh: bool,
    /// The suites' cloud kernels too, for `lab inner --suite`
    #[arg(long)]
    pub cloud: bool,
    /// Makes these systems of the suites too, on disk images for `lab inner`
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SYSTEM")]
    pub system: Vec<System>,
    /// The suites; the inner VM's kernel comes along
    #[arg(value_name = "SUITE", default_value = "bookworm")]
    pub suites: Vec<String>,
}
