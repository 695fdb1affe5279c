//! All counters at one moment.

use super::{Counters, ExitCode, Labels, Level, Loss, Measured, VcpuTime, WorkerSpan};
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
    /// Name, chosen by its owner. Untrusted: any bytes that are valid UTF-8, control characters included.
    pub name: String,
    /// The program that runs it, e.g. `qemu`.
    pub vmm: String,
    /// Its process's command line, arguments separated by NUL, at most 64 KiB of it; empty where it is not
    /// known. Untrusted too.
    pub command: Arc<str>,
    /// Other names of the VM, and the source of its name.
    pub labels: Arc<Labels>,
    /// It is no more: its counters are final.
    pub ended: bool,
}

/// Where the numbers come from, which decides what they can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// BPF programs typed by the kernel's BTF: every figure.
    Btf,
    /// BPF programs on the raw tracepoints of kernels before 5.16, without types of KVM's modules: every figure but the
    /// guest's mode and nested guests, KVM's own statistic only for whole VMs.
    Raw,
    /// BPF programs on the plain tracepoints: every figure, KVM's own statistic only for whole VMs.
    Tracepoint,
    /// KVM's own statistics: totals and classes; no reasons, no times.
    KvmStat,
    /// A KVM that counts its own exits: reasons and counts; no times.
    Kernel,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 5] =
        [Source::Btf, Source::Raw, Source::Tracepoint, Source::KvmStat, Source::Kernel];

    /// Word for it: on the command line, in messages, JSON, CSV and recordings.
    ///
    /// ```
    /// use exitscope_model::Source;
    /// assert_eq!(Source::KvmStat.word(), "kvmstat");
    /// // Older recordings have an older word.
    /// assert_eq!(Source::from_word("kvm_stat"), Some(Source::KvmStat));
    /// ```
    pub fn word(self) -> &'static str {
        match self {
            Source::Btf => "btf",
            Source::Raw => "raw",
            Source::Tracepoint => "tracepoint",
            Source::KvmStat => "kvmstat",
            Source::Kernel => "kernel",
        }
    }

    /// Source of a word; `None` if it is no source's.
    pub fn from_word(word: &str) -> Option<Source> {
        let word = if word == "kvm_stat" { "kvmstat" } else { word };
        Source::ALL.into_iter().find(|source| source.word() == word)
    }
}

/// One reason of one vCPU. In a [`Sample`] counts and times are cumulative since the watching began;
/// the extremes alone are those since the sample before, because extremes cannot be subtracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonCount {
    /// The level.
    pub level: Level,
    /// The reason.
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
    /// Parts of its time since its first exit; `None` where times are not measured.
    pub time: Option<VcpuTime>,
    /// The reasons that occurred.
    pub reasons: Vec<ReasonCount>,
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
    /// Level of detail.
    pub measured: Measured,
    /// Every VM that has a vCPU here, by id.
    pub vms: Vec<Vm>,
    /// Every vCPU, by VM and number. A vCPU of a VM that ended is in one sample after that, then gone.
    pub vcpus: Vec<VcpuSample>,
    /// Threads that work for VMs beside their vCPUs, by VM; those VMs of which they are known.
    pub workers: Vec<WorkerSpan>,
    /// Losses since the watching began.
    pub loss: Loss,
}
