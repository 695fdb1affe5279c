//! Sums of exits and of their host time.

use exitscope_model::Counters;
use std::iter;
use std::ops::Add;

/// Exits, and the host time that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Exits.
    pub exits: u64,
    /// Host time that was not halted (ns); 0 where times are not measured.
    pub busy_ns: u64,
    /// Time in the VMM, in user space (ns).
    pub user_ns: u64,
    /// Time without a CPU though the vCPU could run (ns).
    pub waiting_ns: u64,
    /// Halted time (ns).
    pub halted_ns: u64,
    /// Part of the halted time in which KVM polled (ns).
    pub polled_ns: u64,
    /// Exits that went out to user space.
    pub user_exits: u64,
}

impl Sum {
    /// The part of this sum that `exits` of its exits stand for, with their share of the times.
    #[must_use]
    pub fn part(self, exits: u64) -> Sum {
        let scale = |value: u64| {
            let scaled = u128::from(value) * u128::from(exits) / u128::from(self.exits.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        Sum {
            exits,
            busy_ns: scale(self.busy_ns),
            user_ns: scale(self.user_ns),
            waiting_ns: scale(self.waiting_ns),
            halted_ns: scale(self.halted_ns),
            polled_ns: scale(self.polled_ns),
            user_exits: scale(self.user_exits),
        }
    }
}

impl From<&Counters> for Sum {
    fn from(counters: &Counters) -> Sum {
        let split = &counters.split;
        Sum {
            exits: counters.count,
            busy_ns: counters.busy_ns(),
            user_ns: split.user_ns,
            waiting_ns: split.waiting_ns,
            halted_ns: split.halted_ns,
            polled_ns: split.polled_ns,
            user_exits: split.user_exits,
        }
    }
}

impl Add for Sum {
    type Output = Sum;

    fn add(self, more: Sum) -> Sum {
        Sum {
            exits: self.exits + more.exits,
            busy_ns: self.busy_ns + more.busy_ns,
            user_ns: self.user_ns + more.user_ns,
            waiting_ns: self.waiting_ns + more.waiting_ns,
            halted_ns: self.halted_ns + more.halted_ns,
            polled_ns: self.polled_ns + more.polled_ns,
            user_exits: self.user_exits + more.user_exits,
        }
    }
}

impl iter::Sum for Sum {
    fn sum<I: Iterator<Item = Sum>>(sums: I) -> Sum {
        sums.fold(Sum::default(), Add::add)
    }
}
