//! Level of detail of a measurement, and the time of vCPUs.

use std::collections::BTreeMap;

/// Level of detail of a measurement. Each level has everything that the one before it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measured {
    /// Number of exits alone.
    Counts,
    /// Also the host time of each exit.
    Latency,
    /// Also where the host time went: [`Split`](super::Split), returns of KVM_RUN, and all parts of
    /// [`VcpuTime`].
    Breakdown,
}

/// Reason with which KVM_RUN returned to the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserReason(
    /// `KVM_EXIT_*` (include/uapi/linux/kvm.h), or the negated error where KVM_RUN failed. KVM_RUN fails
    /// with EINTR for a signal, which is `KVM_EXIT_INTR` here.
    pub i32,
);

/// Number of KVM_RUN's returns to the VMM, by reason. One exit may return several times before the vCPU
/// enters again. Small, and empty for most reasons.
pub type Returns = BTreeMap<UserReason, u64>;

/// Parts of a vCPU's time. They, [`VcpuTime::polled_ns`] aside, add up to the time that it was watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuTime {
    /// In the guest (ns).
    pub guest_ns: u64,
    /// In KVM (ns); all of the host time where no more is measured.
    pub kernel_ns: u64,
    /// In the VMM (ns).
    pub user_ns: u64,
    /// Halted, polling and blocked together (ns). Blocked is idle: nothing keeps the CPU.
    pub halted_ns: u64,
    /// The part of `halted_ns` in which it polled (ns).
    pub polled_ns: u64,
    /// Runnable, but not on a CPU (ns). What a vCPU that waits right now has waited counts where it was
    /// before, until it runs.
    pub waiting_ns: u64,
}

impl VcpuTime {
    /// Everything.
    pub fn total_ns(&self) -> u64 {
        self.guest_ns + self.host_ns()
    }

    /// Blocked, waiting for an event.
    pub fn idle_ns(&self) -> u64 {
        self.halted_ns.saturating_sub(self.polled_ns)
    }

    /// Out of the guest, for whatever reason.
    pub fn host_ns(&self) -> u64 {
        self.kernel_ns + self.user_ns + self.halted_ns + self.waiting_ns
    }

    /// Adds another time to this.
    pub fn add(&mut self, other: &VcpuTime) {
        self.guest_ns += other.guest_ns;
        self.kernel_ns += other.kernel_ns;
        self.user_ns += other.user_ns;
        self.halted_ns += other.halted_ns;
        self.polled_ns += other.polled_ns;
        self.waiting_ns += other.waiting_ns;
    }

    /// Returns the time after `earlier`. Time that was taken for one part and has turned out to be another's
    /// (see [`VcpuTime::waiting_ns`]) is taken off the parts that grew most, so that the sum is right.
    pub fn since(&self, earlier: &VcpuTime) -> VcpuTime {
        let mut over = 0;
        let mut parts = [
            (self.guest_ns, earlier.guest_ns),
            (self.kernel_ns, earlier.kernel_ns),
            (self.user_ns, earlier.user_ns),
            (self.halted_ns, earlier.halted_ns),
            (self.waiting_ns, earlier.waiting_ns),
        ]
        .map(|(now, then)| {
            over += then.saturating_sub(now);
            now.saturating_sub(then)
        });
        while let Some(largest) = parts.iter_mut().max().filter(|largest| over > 0 && **largest > 0) {
            let off = over.min(*largest);
            *largest -= off;
            over -= off;
        }
        let [guest_ns, kernel_ns, user_ns, halted_ns, waiting_ns] = parts;
        let polled_ns = self.polled_ns.saturating_sub(earlier.polled_ns).min(halted_ns);
        VcpuTime { guest_ns, kernel_ns, user_ns, halted_ns, polled_ns, waiting_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time([guest_ns, kernel_ns, user_ns, halted_ns, polled_ns, waiting_ns]: [u64; 6]) -> VcpuTime {
        let polled_ns = polled_ns.min(halted_ns);
        VcpuTime { guest_ns, kernel_ns, user_ns, halted_ns, polled_ns, waiting_ns }
    }

    #[test]
    fn what_turns_out_to_be_waiting_is_taken_off_what_it_was_taken_for() {
        // Runnable since long in the guest, for all that was known; then it ran, and the delay is known.
        let earlier = time([900, 100, 0, 0, 0, 0]);
        let now = time([400, 110, 0, 0, 0, 590]);
        assert_eq!(now.since(&earlier), time([0, 10, 0, 0, 0, 90]));
        // More than any one part grew.
        let now = time([0, 900, 0, 0, 0, 700]);
        let since = now.since(&earlier);
        assert_eq!((since.total_ns(), since.guest_ns), (600, 0));
        assert_eq!(time([5; 6]).since(&VcpuTime::default()), time([5; 6]));
    }

    proptest! {
        #[test]
        fn parts_of_an_interval_add_up_to_its_length(
            (earlier, later) in any::<([u32; 6], [u32; 6])>(),
        ) {
            let (earlier, later) = (time(earlier.map(u64::from)), time(later.map(u64::from)));
            let since = later.since(&earlier);
            prop_assert_eq!(since.total_ns(), later.total_ns().saturating_sub(earlier.total_ns()));
            prop_assert!(since.polled_ns <= since.halted_ns);
            prop_assert_eq!(since.host_ns() + since.guest_ns, since.total_ns());
            prop_assert_eq!(since.idle_ns() + since.polled_ns, since.halted_ns);
        }
    }
}
