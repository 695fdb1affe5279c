//! Kernel to [`Sample`]: what this host offers, the BPF programs, a KVM that counts by itself, KVM's own statistics.
//!
//! [`start`] chooses the best source that works here. Whatever it is, [`Collect::sample`] gives all
//! counters, cumulative since the start.

mod bpf;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use bpf::bench;
mod error;
pub mod host;
pub mod identity;
pub mod kernel;
pub mod kvmstat;
mod skipped;

pub use error::Error;

use exitscope_model::{Measured, Sample, Source, VmId};

/// Which VMs are counted.
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

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which VMs.
    pub select: Select,
    /// A source to use whether or not a better one works; `None` for the best.
    pub source: Option<Source>,
    /// What to measure beside the number of exits, as far as the source can.
    pub measure: Measured,
    /// Look at the guest too, which costs each exit something: count exits by its mode ([`exitscope_model::Modes`]), and hear
    /// the bytes that it writes to ports for marks ([`Collect::take_marks`]). Only [`Source::Btf`] with
    /// [`Measured::Breakdown`] can; others leave both empty.
    pub guest: bool,
    /// How many rows (vCPU and reason) there is room for; `None` for a figure that fits this host.
    pub max_rows: Option<u32>,
    /// How many vCPUs there is room for; `None` for a figure that fits this host.
    pub max_vcpus: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            select: Select::All,
            source: None,
            measure: Measured::Breakdown,
            guest: false,
            max_rows: None,
            max_vcpus: None,
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
    /// Whose.
    pub vm: VmId,
    /// The vCPU's number in the VM.
    pub vcpu: u32,
    /// The port.
    pub port: u16,
    /// The byte.
    pub value: u8,
}

/// What guests wrote to those ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMarks {
    /// In the order of time.
    pub marks: Vec<PortMark>,
    /// How many there were besides: a guest may write any number, and some thousands are kept.
    pub lost: u64,
}

/// A source of samples that is counting.
pub trait Collect {
    /// All counters since the start. A vCPU that ended is in one more sample, then gone.
    ///
    /// # Errors
    /// If the kernel refuses what it granted at the start.
    fn sample(&mut self) -> Result<Sample, Error>;

    /// With [`Select::Descendants`]: what this process starts from now on is no longer counted, what it has
    /// started still is.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn stop_following(&mut self) -> Result<(), Error>;

    /// With [`Options::guest`]: what guests wrote to ports for marks since the last call. Empty where that is not looked at.
    ///
    /// # Errors
    /// If the kernel refuses what it granted at the start.
    fn take_marks(&mut self) -> Result<PortMarks, Error> {
        Ok(PortMarks::default())
    }

    /// Where the numbers come from.
    fn source(&self) -> Source;

    /// What is measured beside the number of exits.
    fn measured(&self) -> Measured;

    /// What there is to say about this source in one line, e.g. which numbers it cannot give; `None` if nothing.
    fn note(&self) -> Option<String>;
}

/// Starts to count at the best source that works here, or at the one that `options` ask for.
///
/// # Errors
/// [`Error::NoKvm`] where there is no KVM (yet); [`Error::PidNamespace`] where processes cannot be chosen; otherwise
/// why no source works.
pub fn start(options: &Options) -> Result<Box<dyn Collect>, Error> {
    // Without a backend nothing can run a VM: it is a module that is still to be loaded.
    if matches!(host::backend(), host::Backend::NoKvm | host::Backend::None) {
        return Err(Error::NoKvm);
    }
    if options.select != Select::All && !host::in_first_pid_namespace() {
        return Err(Error::PidNamespace);
    }
    let bpf = |source| start_bpf(source, options);
    let statistics = || kvmstat::KvmStat::start(options);
    let kernel = || kernel::Kernel::start(options);
    let explained = |error: Error| error.or_not_permitted(&host::Facts::probe());
    match options.source {
        Some(Source::KvmStat) => statistics().map(boxed).map_err(explained),
        Some(Source::Kernel) => kernel().map(boxed),
        Some(source) => bpf(source).map(boxed).map_err(explained),
        None if !kvmstat::kvm_exit_fires() => statistics().map(boxed).map_err(explained),
        None => bpf(Source::Btf).map(boxed).or_else(|first| {
            let plain = bpf(Source::Tracepoint).map(|plain| boxed(plain.because(first.to_string())));
            plain.or_else(|_| {
                // The better source's reason is the one to mend.
                let first = explained(first);
                if kernel::found() == Some(true)
                    && let Ok(kernel) = kernel()
                {
                    return Ok(boxed(kernel.because(first.to_string())));
                }
                statistics().map(|stat| boxed(stat.because(first.to_string()))).map_err(|_| first)
            })
        }),
    }
}

/// Starts the programs of `source`. The split hangs on functions of KVM that a kernel may not have as such, e.g. where
/// the compiler made one a part of another: without it there are still times, and a word about it.
fn start_bpf(source: Source, options: &Options) -> Result<bpf::Bpf, Error> {
    let first = match bpf::Bpf::start(source, options) {
        Err(error) if source == Source::Btf && options.measure == Measured::Breakdown => error,
        done => return done,
    };
    let less = Options { measure: Measured::Latency, ..options.clone() };
    match bpf::Bpf::start(source, &less) {
        Ok(times) => Ok(times.because(first.to_string())),
        // The split was not what it failed for.
        Err(_) => Err(first),
    }
}

fn boxed<'a>(source: impl Collect + 'a) -> Box<dyn Collect + 'a> {
    Box::new(source)
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writing, and CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
