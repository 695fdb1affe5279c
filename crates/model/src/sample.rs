//! All counters at one moment.

use super::{Details, ExitCode, Histogram, Level, Measured, Modes, Nested, Returns, Split, VcpuTime};
use std::sync::Arc;
use std::time::SystemTime;

/// One VM of one run of the tool. Never used twice: a process id that comes back is another VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId(pub u64);

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Identity.
    pub id: VmId,
    /// The process that runs it.
    pub pid: u32,
    /// What its owner calls it. Untrusted: any bytes that are valid UTF-8, control characters included.
    pub name: String,
    /// The program that runs it, e.g. `qemu`.
    pub vmm: String,
    /// Its process's command line, arguments separated by NUL, at most 64 KiB of it; empty where it is not known. Untrusted too.
    pub command: Arc<str>,
    /// It is no more: its counters are final.
    pub ended: bool,
}

/// Where the numbers come from, which decides what they can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// BPF programs typed by the kernel's BTF: every figure.
    Btf,
    /// BPF programs on the plain tracepoints: every figure, KVM's own statistic only for whole VMs.
    Tracepoint,
    /// KVM's own statistics: totals and classes; no reasons, no times.
    KvmStat,
    /// A KVM that counts its own exits: reasons and counts; no times.
    Kernel,
}

/// The counters of one reason on one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Exits.
    pub count: u64,
    /// Host time, from exit to the next entry, of the exits that have entered again (ns).
    pub time_ns: u64,
    /// Shortest and longest host time (ns); `None` where no exit has entered again.
    pub extremes: Option<Extremes>,
    /// Host times of the exits that have entered again; its count may be below `count` by the
    /// exit that is being handled.
    pub histogram: Histogram,
    /// Where the host time went.
    pub split: Split,
    /// With what KVM_RUN returned to the VMM.
    pub returns: Returns,
    /// What they cost L1, where they are exits of L2.
    pub nested: Nested,
    /// Which ports and MSRs they were about. Empty where they were about none, and where that is not counted.
    pub details: Details,
    /// What mode the guest was in at those that have been handled. All zero where that is not counted.
    pub modes: Modes,
}

/// The shortest and the longest of some times, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extremes {
    /// Shortest.
    pub min_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

impl Extremes {
    /// The extremes of both sets of times.
    pub fn merge(a: Option<Extremes>, b: Option<Extremes>) -> Option<Extremes> {
        match (a, b) {
            (Some(a), Some(b)) => {
                Some(Extremes { min_ns: a.min_ns.min(b.min_ns), max_ns: a.max_ns.max(b.max_ns) })
            }
            (one, other) => one.or(other),
        }
    }
}

impl Counters {
    /// Host time that was not halted (ns): KVM's, the VMM's, and that without a CPU.
    pub fn busy_ns(&self) -> u64 {
        self.time_ns.saturating_sub(self.split.halted_ns)
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Counters { extremes: self.extremes, ..Counters::default() }
    }

    /// Adds other exits to these.
    pub fn add(&mut self, other: &Counters) {
        self.count += other.count;
        self.time_ns += other.time_ns;
        self.extremes = Extremes::merge(self.extremes, other.extremes);
        self.histogram.add(&other.histogram);
        self.split.add(&other.split);
        self.nested.add(&other.nested);
        self.details.add(&other.details);
        self.modes.add(&other.modes);
        for (reason, count) in &other.returns {
            *self.returns.entry(*reason).or_default() += count;
        }
    }
}

/// One reason of one vCPU. In a [`Sample`] counts and times are cumulative since the watching began;
/// the extremes alone are those since the sample before, because extremes cannot be subtracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonCount {
    /// Whose exits.
    pub level: Level,
    /// Which reason.
    pub code: ExitCode,
    /// Its counters.
    pub counters: Counters,
}

/// One vCPU at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuSample {
    /// The VM it belongs to.
    pub vm: VmId,
    /// Its number in the VM.
    pub vcpu: u32,
    /// Exits of all reasons since the watching began, those without a row included.
    pub exits: u64,
    /// KVM's own statistic `exits` over the same span; `None` where it could not be read.
    pub kvm_exits: Option<u64>,
    /// What it did with its time since its first exit; `None` where times are not measured.
    pub time: Option<VcpuTime>,
    /// The reasons that occurred.
    pub reasons: Vec<ReasonCount>,
}

/// What was not counted as it should be. All zero is the rule; anything else is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Exits that were counted for their vCPU, but not by reason or time: the table of rows was full.
    pub no_row: u64,
    /// Exits that were counted for no vCPU: the table of vCPUs was full.
    pub no_vcpu: u64,
    /// Entries into a guest that had not exited: an entry failed without a VM exit.
    pub entry_without_exit: u64,
    /// Exits of a guest that was out already: their predecessor has no host time.
    pub exit_without_entry: u64,
    /// Returns of KVM_RUN to the VMM whose reason found no place: it had too many.
    pub no_return: u64,
    /// Runs of a program that the kernel skipped.
    pub skipped: u64,
    /// Runs that the kernel skipped of the programs that tell apart where host time went.
    pub skipped_split: u64,
    /// vCPUs that ran so fast while they were read that their figures may be of slightly different moments.
    pub torn: u64,
    /// Processes of the watched command that could not be followed.
    pub unfollowed: u64,
    /// vCPUs whose guests run guests of their own, where the exits of these cannot be told from its own.
    pub no_level: u64,
}

impl Loss {
    /// Each figure with its name, as machines read it, and what it means.
    pub fn figures(&self) -> [(&'static str, u64, &'static str); 10] {
        [
            ("no_row", self.no_row, "exits without a reason: the table of rows is full (--max-rows)"),
            (
                "no_vcpu",
                self.no_vcpu,
                "exits of vCPUs that found no room: the table of vCPUs is full (--max-vcpus)",
            ),
            ("entry_without_exit", self.entry_without_exit, "entries that failed without a VM exit"),
            ("exit_without_entry", self.exit_without_entry, "exits without an entry before them"),
            (
                "no_return",
                self.no_return,
                "returns to user space without their reason: the table of them is full",
            ),
            ("skipped", self.skipped, "runs of a BPF program that the kernel skipped"),
            (
                "skipped_split",
                self.skipped_split,
                "runs that the kernel skipped of programs that watch exits on their way out of KVM",
            ),
            ("torn", self.torn, "vCPUs read in the middle of an exit"),
            (
                "unfollowed",
                self.unfollowed,
                "forks of the command that could not be followed: too many processes at once",
            ),
            (
                "no_level",
                self.no_level,
                "vCPUs whose guest runs guests itself (L2): their exits are counted as its own",
            ),
        ]
    }

    /// Exits that happened and are missing from the rows.
    pub fn lost(&self) -> u64 {
        self.no_row + self.no_vcpu + self.skipped
    }

    /// Whether there is nothing to say.
    pub fn is_none(&self) -> bool {
        *self == Loss::default()
    }

    /// Adds up two losses.
    pub fn add(&mut self, other: &Loss) {
        self.no_row += other.no_row;
        self.no_vcpu += other.no_vcpu;
        self.entry_without_exit += other.entry_without_exit;
        self.exit_without_entry += other.exit_without_entry;
        self.no_return += other.no_return;
        self.skipped += other.skipped;
        self.skipped_split += other.skipped_split;
        self.torn += other.torn;
        self.unfollowed += other.unfollowed;
        self.no_level += other.no_level;
    }

    /// This loss less an earlier one; `None` if any figure shrank.
    pub fn since(&self, earlier: &Loss) -> Option<Loss> {
        Some(Loss {
            no_row: self.no_row.checked_sub(earlier.no_row)?,
            no_vcpu: self.no_vcpu.checked_sub(earlier.no_vcpu)?,
            entry_without_exit: self.entry_without_exit.checked_sub(earlier.entry_without_exit)?,
            exit_without_entry: self.exit_without_entry.checked_sub(earlier.exit_without_entry)?,
            no_return: self.no_return.checked_sub(earlier.no_return)?,
            skipped: self.skipped.checked_sub(earlier.skipped)?,
            skipped_split: self.skipped_split.checked_sub(earlier.skipped_split)?,
            torn: self.torn.checked_sub(earlier.torn)?,
            unfollowed: self.unfollowed.checked_sub(earlier.unfollowed)?,
            no_level: self.no_level.checked_sub(earlier.no_level)?,
        })
    }
}

/// All counters at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// The same moment by the wall clock.
    pub wall: SystemTime,
    /// Where the numbers come from.
    pub source: Source,
    /// What is measured beside the number of exits.
    pub measured: Measured,
    /// Every VM that has a vCPU here, by id.
    pub vms: Vec<Vm>,
    /// Every vCPU, by VM and number. A vCPU of a VM that ended is in one sample after that, then gone.
    pub vcpus: Vec<VcpuSample>,
    /// What was missed since the watching began.
    pub loss: Loss,
}
