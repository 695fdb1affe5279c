//! Registry of the threads that work for a VM beside its vCPUs.

use super::VmId;
use super::accumulate::accumulated;

/// One figure of [`WorkerTimes`].
pub struct WorkerFigure {
    /// Name in JSON and in recordings.
    pub key: &'static str,
    /// Meaning.
    pub help: &'static str,
    get: fn(&WorkerTimes) -> u64,
    get_mut: fn(&mut WorkerTimes) -> &mut u64,
}

impl WorkerFigure {
    /// Returns the time (ns).
    pub fn ns(&self, times: &WorkerTimes) -> u64 {
        (self.get)(times)
    }

    /// Returns its place, to be written to.
    pub fn ns_mut<'a>(&self, times: &'a mut WorkerTimes) -> &'a mut u64 {
        (self.get_mut)(times)
    }
}

/// A kind of thread that works for a VM.
pub struct Worker {
    /// Name for people.
    pub name: &'static str,
    /// Meaning.
    pub help: &'static str,
    /// Their CPU time.
    pub cpu: &'static WorkerFigure,
    /// Their run delay.
    pub waiting: &'static WorkerFigure,
}

/// Defines a figure.
macro_rules! figure {
    ($field:ident, $help:expr) => {
        WorkerFigure {
            key: stringify!($field),
            help: $help,
            get: |times| times.$field,
            get_mut: |times| &mut times.$field,
        }
    };
}

/// Defines [`WorkerTimes`], the kinds of thread, and the list of figures.
macro_rules! workers {
    ($($kind:ident($cpu:ident, $waiting:ident): $name:literal, $help:literal;)*) => {
        accumulated! {
            /// Times of the threads that work for a VM beside its vCPUs, in nanoseconds. By the scheduler's figures
            /// (`/proc/PID/task/TID/schedstat`).
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
            pub struct WorkerTimes {
                /// Length of the time that the others are of.
                pub span_ns: u64,
                $(
                    #[doc = concat!("CPU time of: ", $help, ".")]
                    pub $cpu: u64,
                    #[doc = concat!("Run delay of: ", $help, ".")]
                    pub $waiting: u64,
                )*
            }
        }

        $(
            #[doc = concat!("Kind of thread: ", $help, ".")]
            pub static $kind: Worker = Worker {
                name: $name,
                help: $help,
                cpu: &figure!($cpu, concat!("CPU time of: ", $help)),
                waiting: &figure!($waiting, concat!("time in which it could run and had no CPU: ", $help)),
            };
        )*

        /// All kinds of thread.
        pub static WORKERS: &[&Worker] = &[$(&$kind),*];

        impl WorkerTimes {
            /// All figures, the length of time first.
            pub const FIGURES: &'static [WorkerFigure] = &[
                figure!(
                    span_ns,
                    "length of the time that the others are of: from the first look at the VM's process, or its start, \
                     to the last"
                ),
                $(
                    figure!($cpu, concat!("CPU time of: ", $help)),
                    figure!($waiting, concat!("time in which it could run and had no CPU: ", $help)),
                )*
            ];
        }
    };
}

workers! {
    MAIN_LOOP(main_cpu_ns, main_waiting_ns): "main loop",
        "the VMM's first thread, in which its main loop runs";
    IO_THREADS(io_cpu_ns, io_waiting_ns): "iothreads",
        "threads of the VMM for devices, known by their names";
    OTHERS(other_cpu_ns, other_waiting_ns): "others",
        "all other threads of the VMM that run no vCPU, those that have ended included";
    VHOST(vhost_cpu_ns, vhost_waiting_ns): "vhost",
        "the kernel's vhost workers for the VMM";
    KVM(kvm_cpu_ns, kvm_waiting_ns): "KVM",
        "KVM's own workers for the VM: its interval timer, and the recovery of huge pages";
}

/// Times of one VM's workers: in a [`Sample`](super::Sample) since the watching began, in an
/// [`Interval`](super::Interval) within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSpan {
    /// The VM. Where a process has several, the first of them has its threads.
    pub vm: VmId,
    /// The times.
    pub times: WorkerTimes,
}

impl WorkerTimes {
    /// Returns the CPU time of all of them (ns).
    ///
    /// ```
    /// use exitscope_model::WorkerTimes;
    /// let times = WorkerTimes { main_cpu_ns: 700, vhost_cpu_ns: 50, vhost_waiting_ns: 8, ..WorkerTimes::default() };
    /// assert_eq!((times.cpu_ns(), times.waiting_ns()), (750, 8));
    /// ```
    pub fn cpu_ns(&self) -> u64 {
        WORKERS.iter().map(|worker| worker.cpu.ns(self)).fold(0, u64::saturating_add)
    }

    /// Returns the run delay of all of them (ns).
    pub fn waiting_ns(&self) -> u64 {
        WORKERS.iter().map(|worker| worker.waiting.ns(self)).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_figure_has_a_place_of_its_own() {
        let mut times = WorkerTimes::default();
        for (number, figure) in (1..).zip(WorkerTimes::FIGURES) {
            *figure.ns_mut(&mut times) = number;
        }
        let read: Vec<u64> = WorkerTimes::FIGURES.iter().map(|figure| figure.ns(&times)).collect();
        assert_eq!(read, (1..=read.len() as u64).collect::<Vec<_>>());
        let of_kinds: BTreeSet<&str> =
            WORKERS.iter().flat_map(|worker| [worker.cpu.key, worker.waiting.key]).collect();
        let all: BTreeSet<&str> = WorkerTimes::FIGURES.iter().map(|figure| figure.key).collect();
        assert_eq!(all.difference(&of_kinds).copied().collect::<Vec<_>>(), ["span_ns"]);
    }
}
