//! Options of every command that counts: which VMs, and with which source.

use super::parse::{ChosenKeys, Kinds, Reasons, parse_detail, parse_kinds, parse_reasons};
use clap::{Args, ValueEnum};
use exitscope_collect::Probes;
use exitscope_model::{Filter, KINDS, Measured, Source};

/// Source to count with.
#[derive(Args, Clone, Debug)]
pub struct Counting {
    /// Source of the counts
    #[arg(long, value_enum, default_value_t, value_name = "SOURCE")]
    pub source: SourceChoice,
    /// BPF programs of the source btf that see an exit whose time is measured
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "PROBES",
        env = "EXITSCOPE_PROBES",
        hide_env_values = true
    )]
    pub probes: ProbesChoice,
}

/// VMs to watch, and source to count with.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// Watch only the VMs of these processes, e.g. 4242,4250
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Watch only the VM with this name (column vm), UUID, Proxmox id, libvirt domain, pod (NAME or NAMESPACE/NAME) or
    /// container; or all VMs that a pattern fits, e.g. 'web-*'. May be given several times
    #[arg(short, long, value_name = "VM")]
    pub guest: Vec<String>,
    /// Source of the counts.
    #[command(flatten)]
    pub counting: Counting,
    /// Do not tell apart where the host time of exits went: kernel, user space, halted, waiting; cheaper for exits that
    /// leave KVM. On plain tracepoints that cannot be told at all
    #[arg(long)]
    pub no_split: bool,
    /// Count exits, and measure no times; the cheapest
    #[arg(long)]
    pub no_time: bool,
    /// Keep no command lines, neither of VMs nor of COMMAND. Otherwise they are in recordings and pages, without the
    /// passwords, tokens and keys that are recognised in them
    #[arg(long)]
    pub no_command_lines: bool,
    /// Kinds of details to count.
    #[arg(long, value_name = "KINDS", value_parser = parse_kinds, help = help_of_details(), long_help = long_help_of_details())]
    pub details: Option<Kinds>,
    /// Room for N pairs of vCPU and reason [default: 2048 per CPU rounded up to a power of two less
    /// one, at least 8191, at most 65534]; one process gets six sevenths of it at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_534))]
    pub max_rows: Option<u32>,
    /// Room for N vCPUs [default: 64 per CPU rounded up to a power of two less one, at least 511, at most 8191]; one process
    /// gets six sevenths of it at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_534))]
    pub max_vcpus: Option<u32>,
}

/// Exits to count or show.
#[derive(Args, Clone, Debug, Default)]
pub struct Choose {
    /// Only exits for these reasons, by name or number, e.g. NPF,0x7b; how many others there were is said in the end
    #[arg(long, value_name = "REASONS", value_parser = parse_reasons)]
    pub reason: Vec<Reasons>,
    /// Only reasons that have exits about this detail: a kind and a number or name, e.g. port:0x3f8, msr:IA32_TSC_DEADLINE,
    /// or a kind alone. May be given several times
    ///
    /// Other exits for these reasons are `other`, and not told apart. The names are those of `exitscope reasons KIND`. An
    /// address means the 2 MiB of memory that it lies in, too; a CPUID leaf all its subleaves. Live, that kind is counted
    /// unless --details says otherwise.
    #[arg(long, value_name = "KIND:KEY", value_parser = parse_detail)]
    pub detail: Vec<ChosenKeys>,
}

impl Choose {
    /// Returns the choice.
    pub fn filter(&self) -> Filter {
        Filter {
            reasons: self.reason.iter().flat_map(|reasons| reasons.0.clone()).collect(),
            details: self.detail.iter().flat_map(|keys| keys.0.clone()).collect(),
        }
    }
}

impl Watch {
    /// Level of detail that these options ask for.
    pub fn measure(&self) -> Measured {
        if self.no_time {
            Measured::Counts
        } else if self.no_split {
            Measured::Latency
        } else {
            Measured::Breakdown
        }
    }
}

/// Words of all kinds of details.
fn kind_words() -> String {
    KINDS.iter().map(|info| info.word).collect::<Vec<_>>().join(", ")
}

fn help_of_details() -> String {
    let words = kind_words();
    format!(
        "Count what exits were about of these kinds, separated by commas: {words}; default (those that are counted \
         without this option), all, none"
    )
}

/// Help on `--details` of a recording.
pub fn help_of_listed() -> String {
    let words = kind_words();
    format!("List what exits were about of these kinds below a table, separated by commas: {words}; all")
}

fn long_help_of_details() -> String {
    let kinds = KINDS.iter().map(|info| {
        let by_default = if info.by_default { "" } else { "; only if asked for" };
        format!("- {}: {}{by_default}\n", info.word, info.help)
    });
    format!(
        "{}\n\n{}\nEach detail has its exits, their host time in all and the longest, and the table lists all of them if this \
         option is given. A kind costs the exits that have it; others pay nothing. Needs times that are told apart: not \
         with --no-split or --no-time, nor on plain tracepoints.",
        help_of_details(),
        kinds.collect::<String>()
    )
}

pub fn help_of_first() -> String {
    let words = kind_words();
    format!(
        "vmx or svm; may be left out. user: not reasons, but what KVM_RUN returns to user space with; a kind of detail \
         ({words}): the names of that kind, and what helps where many exits are about it"
    )
}

/// Choices of `--source`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum SourceChoice {
    /// The best that works here
    #[default]
    Auto,
    /// BPF programs typed by the kernel's BTF.
    Btf,
    /// BPF programs on the raw tracepoints of kernels before 5.16, whose KVM has no BTF.
    Raw,
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
            SourceChoice::Raw => Some(Source::Raw),
            SourceChoice::Tracepoint => Some(Source::Tracepoint),
            SourceChoice::Kvmstat => Some(Source::KvmStat),
            SourceChoice::Kernel => Some(Source::Kernel),
        }
    }
}

/// Choices of `--probes`: BPF programs that see an exit.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum ProbesChoice {
    /// One at the exit and one at the entry
    Pair,
    /// One at the entry, which is cheaper; needs the TSC as the kernel's clock source
    One,
    /// One where this host can, else the pair
    #[default]
    Auto,
}

impl From<ProbesChoice> for Probes {
    fn from(choice: ProbesChoice) -> Self {
        match choice {
            ProbesChoice::Pair => Probes::Pair,
            ProbesChoice::One => Probes::One,
            ProbesChoice::Auto => Probes::Auto,
        }
    }
}
