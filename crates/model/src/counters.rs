//! Counters of exits. A new counter is one entry here, one line in `bpf/wire.h`, and one in the schema of
//! recordings.

use super::accumulate::accumulated;
use super::{Details, Histogram, Modes, Returns};

accumulated! {
    /// Counters of one reason on one vCPU, or of several added up.
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
        /// Parts of the host time.
        pub split: Split,
        /// Returns of KVM_RUN to the VMM, by reason.
        pub returns: Returns,
        /// Cost to L1, where the exits are L2's.
        pub nested: Nested,
        /// Ports and MSRs of the exits. Empty where they have none, and where these are not counted.
        pub details: Details,
        /// Exits that have been handled, by the guest's mode. All zero where that is not counted.
        pub modes: Modes,
    }
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

/// A counter that is a plain number, in one of the parts of [`Counters`].
pub struct Counter {
    /// Name, as in `bpf/wire.h` and in the tables of recordings.
    pub key: &'static str,
    /// Unit of the number.
    pub unit: Unit,
    get: fn(&Counters) -> u64,
    get_mut: fn(&mut Counters) -> &mut u64,
}

impl Counter {
    /// Returns its number.
    pub fn get(&self, counters: &Counters) -> u64 {
        (self.get)(counters)
    }

    /// Returns its place, to be written to.
    pub fn get_mut<'a>(&self, counters: &'a mut Counters) -> &'a mut u64 {
        (self.get_mut)(counters)
    }
}

/// Unit of a [`Counter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of exits.
    Exits,
    /// Nanoseconds.
    Ns,
}

/// Defines parts of [`Counters`] whose fields are plain numbers: the struct, the list of its counters, and
/// the macro that copies them off the wire.
macro_rules! parts {
    ($dollar:tt $(
        $(#[$meta:meta])* $part:ident: $name:ident {
            $($(#[$doc:meta])* $field:ident: $unit:ident,)*
        }
    )*) => {
        $(
            accumulated! {
                $(#[$meta])*
                #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
                pub struct $name {
                    $($(#[$doc])* pub $field: u64,)*
                }
            }

            impl $name {
                /// Its counters, in the order of their columns in recordings.
                pub const COUNTERS: &'static [Counter] = &[$(Counter {
                    key: stringify!($field),
                    unit: Unit::$unit,
                    get: |counters| counters.$part.$field,
                    get_mut: |counters| &mut counters.$part.$field,
                },)*];
            }
        )*

        /// Copies each plain counter of [`Counters`](exitscope_model::Counters) from the field of that name.
        #[macro_export]
        macro_rules! copy_counters {
            ($dollar from:expr => $dollar into:expr) => {
                $($($dollar into.$part.$field = $dollar from.$field;)*)*
            };
        }
    };
}

parts! { $
    /// Parts of the host time of some exits, and how many of them went out to user space. The rest of
    /// [`Counters::time_ns`] was spent by KVM itself, in the kernel. Zero where it is not measured.
    split: Split {
        /// Exits that KVM did not handle alone: KVM_RUN returned to the VMM at least once before the next
        /// entry.
        user_exits: Exits,
        /// In the VMM: from `kvm_userspace_exit` until it called KVM_RUN again (ns).
        user_ns: Ns,
        /// Runnable, but not on a CPU: the scheduler's run delay of the vCPU's thread (ns).
        waiting_ns: Ns,
        /// Halted: the vCPU waited for an event, polling and blocked together (ns).
        halted_ns: Ns,
        /// The part of `halted_ns` in which it polled, and kept its CPU busy (ns).
        polled_ns: Ns,
    }

    /// Cost of exits of L2 to L1. All zero for exits of L1.
    nested: Nested {
        /// Exits of L2 after which KVM entered L1, to have it handle them; KVM handled the others alone.
        to_l1: Exits,
        /// Exits among those that L1 has handled: it has entered an L2 again.
        l1_done: Exits,
        /// Exits that L1 made itself until it had handled those; that with which it entered L2 is one of
        /// them.
        l1_exits: Exits,
        /// Time that L1 took for those, from the entry into L1 to that into L2 (ns), in L1 and in its exits.
        /// Zero where times are not measured.
        l1_ns: Ns,
    }
}

impl Split {
    /// Returns the part of `time_ns`, the host time of the same exits, that KVM itself took.
    pub fn kernel_ns(&self, time_ns: u64) -> u64 {
        time_ns.saturating_sub(self.user_ns + self.halted_ns + self.waiting_ns)
    }
}

impl Counters {
    /// Host time that was not halted (ns): KVM's, the VMM's, and that without a CPU.
    pub fn busy_ns(&self) -> u64 {
        self.time_ns.saturating_sub(self.split.halted_ns)
    }

    /// Returns true if nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Counters { extremes: self.extremes, ..Counters::default() }
    }
}
