//! Kernel to [`Sample`]: what this host offers, the BPF programs, a KVM that counts by itself, KVM's own statistics.
//!
//! [`start`] chooses the best source that works here. Whatever it is, [`Collect::sample`] gives all
//! counters, cumulative since the start. `exitscope`'s engine reads sources through this trait alone.

mod bpf;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use bpf::bench;
mod choose;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod identity;
mod image;
pub mod kernel;
pub mod kvmstat;
mod skipped;
mod workers;

pub use choose::{Choice, Refused, candidates, choose};
pub use error::Error;
pub use workers::Workers;

use exitscope_model::{DetailKind, Filter, Measured, Sample, Source, VmId};
use std::collections::HashSet;

/// Choice of the VMs that are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// Every VM of the host.
    All,
    /// The VMs of these processes.
    Pids(Vec<u32>),
    /// The VMs of processes that this process starts from now on, and of theirs, until
    /// [`Collect::stop_following`] is called.
    Descendants,
}

/// BPF programs that see an exit whose time is measured, of [`Source::Btf`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probes {
    /// One at the exit and one at the entry.
    Pair,
    /// One at the entry, which is cheaper and needs the TSC as the kernel's clock source. Where [`Options::guest`] or counts
    /// alone are asked for, it is as with [`Probes::Pair`].
    One,
    /// One where this host can, else the pair, and [`Collect::note`] says why.
    #[default]
    Auto,
}

/// Choice of VMs, source and measurements.
#[derive(Clone, Debug)]
pub struct Options {
    /// VMs that are counted.
    pub select: Select,
    /// A source to use whether or not a better one works; `None` for the best.
    pub source: Option<Source>,
    /// Level of detail to measure, as far as the source can.
    pub measure: Measured,
    /// Look at the guest too, which costs each exit something: count exits by its mode ([`exitscope_model::Modes`]), and hear
    /// the bytes that it writes to ports for marks ([`Collect::take_marks`]). Only [`Source::Btf`] with
    /// [`Measured::Breakdown`] can; others leave both empty.
    pub guest: bool,
    /// Keep the command lines of VMs.
    pub command_lines: bool,
    /// Kinds of detail to count, with [`Source::Btf`] and [`Measured::Breakdown`].
    pub details: Vec<DetailKind>,
    /// Exits that are asked for. A source may spare itself the details of others; [`Filter::apply`] leaves them out.
    pub filter: Filter,
    /// Maximum number of rows (vCPU and reason); `None` for a figure that fits this host.
    pub max_rows: Option<u32>,
    /// Maximum number of vCPUs; `None` for a figure that fits this host.
    pub max_vcpus: Option<u32>,
    /// Programs with which [`Source::Btf`] sees an exit.
    pub probes: Probes,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            select: Select::All,
            source: None,
            measure: Measured::Breakdown,
            guest: false,
            command_lines: true,
            details: DetailKind::defaults(),
            filter: Filter::default(),
            max_rows: None,
            max_vcpus: None,
            probes: Probes::default(),
        }
    }
}

/// A byte that a guest wrote to one of the ports by which firmwares, kernels and test programs tell how far they are: 0x80
/// (POST codes; Linux also writes there to pass time, with whatever it had in the register), 0xf4 and 0xf5 (QEMU's
/// isa-debug-exit and boot-time tests), and 123 to 0x3f0 (Firecracker's boot timer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMark {
    /// When the guest exited for it (`CLOCK_MONOTONIC`, ns), as [`Sample::monotonic_ns`].
    pub monotonic_ns: u64,
    /// VM of the guest that wrote it.
    pub vm: VmId,
    /// The vCPU's number in the VM.
    pub vcpu: u32,
    /// The port.
    pub port: u16,
    /// The byte.
    pub value: u8,
}

/// Bytes that guests wrote to ports for marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMarks {
    /// In the order of time.
    pub marks: Vec<PortMark>,
    /// Number of marks that were lost: a guest may write any number, and some thousands are kept.
    pub lost: u64,
}

/// BPF programs that see each exit, as they were attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// [`Probes::One`] or [`Probes::Pair`].
    pub probes: Probes,
    /// Reason why [`Probes::Auto`] had to be the pair.
    pub because: Option<String>,
}

/// A source of samples that is counting.
///
/// ```
/// use exitscope_collect::{Collect, Error, monotonic_ns};
/// use exitscope_model::{Loss, Measured, Sample, Source};
/// use std::time::SystemTime;
///
/// /// A host without VMs.
/// struct Idle;
///
/// impl Collect for Idle {
///     fn sample(&mut self) -> Result<Sample, Error> {
///         Ok(Sample {
///             monotonic_ns: monotonic_ns(),
///             wall: SystemTime::now(),
///             source: self.source(),
///             measured: self.measured(),
///             vms: Vec::new(),
///             vcpus: Vec::new(),
///             workers: Vec::new(),
///             loss: Loss::default(),
///         })
///     }
///     fn stop_following(&mut self) -> Result<(), Error> {
///         Ok(())
///     }
///     fn source(&self) -> Source {
///         Source::KvmStat
///     }
///     fn measured(&self) -> Measured {
///         Measured::Counts
///     }
///     fn note(&self) -> Option<String> {
///         None
///     }
/// }
///
/// assert!(Idle.sample()?.vcpus.is_empty());
/// # Ok::<(), Error>(())
/// ```
pub trait Collect {
    /// Returns all counters since the start. A vCPU that ended is in one more sample, then gone.
    ///
    /// # Errors
    /// If the kernel refuses what it granted at the start.
    fn sample(&mut self) -> Result<Sample, Error>;

    /// With [`Select::Descendants`]: stops counting processes that this process starts from now on. Those
    /// that it has started are still counted.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn stop_following(&mut self) -> Result<(), Error>;

    /// With [`Options::guest`]: returns the bytes that guests wrote to ports for marks since the last call.
    /// Without it, nothing.
    ///
    /// # Errors
    /// If the kernel refuses what it granted at the start.
    fn take_marks(&mut self) -> Result<PortMarks, Error> {
        Ok(PortMarks::default())
    }

    /// Returns the threads that run vCPUs, as of the last sample; `None` where the source does not know them.
    fn vcpu_threads(&self) -> Option<&HashSet<u32>> {
        None
    }

    /// Where the numbers come from.
    fn source(&self) -> Source;

    /// Returns the level of detail that is measured.
    fn measured(&self) -> Measured;

    /// Returns the programs that see each exit whose time is measured; `None` where there is no choice of them.
    fn programs(&self) -> Option<Programs> {
        None
    }

    /// Returns one line about this source, e.g. which numbers it cannot give; `None` if there is none.
    fn note(&self) -> Option<String>;
}

/// Starts to count with the best source that works here, or with the one that `options` ask for. This is
/// [`choose()`]'s result.
///
/// # Errors
/// [`Error::NoKvm`] if there is no KVM (yet); [`Error::PidNamespace`] if processes cannot be chosen; otherwise
/// the reason why no source works.
pub fn start(options: &Options) -> Result<Box<dyn Collect>, Error> {
    choose(options).result
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing, and CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
