//! Registry of what a vCPU did with its time.

use crate::{Measured, VcpuTime};

/// A part of a vCPU's time.
#[derive(Debug)]
pub struct Time {
    /// Name in JSON.
    pub key: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// Meaning, for people.
    pub help: &'static str,
    /// Further words for the documentation of JSON; empty where there are none.
    pub note: &'static str,
    /// Level of detail that it takes.
    pub needs: Measured,
    /// True if JSON has it.
    pub machine: bool,
    /// Rank in the small table of vCPUs, whose parts add up to all of the time: the highest goes first where there is
    /// little room, 0 stays. `None`: it is no such part.
    pub rank: Option<u8>,
    /// True if `top` has a column of it.
    pub top: bool,
    ns: fn(&VcpuTime) -> u64,
}

impl Time {
    /// Returns the time (ns).
    pub fn ns(&self, time: &VcpuTime) -> u64 {
        (self.ns)(time)
    }

    /// Returns true if it is shown for itself at this level of detail, and its own parts are not.
    pub fn is_shown(&self, measured: Measured) -> bool {
        let whole = self.key == HOST_NS.key;
        if whole { measured == Measured::Latency } else { measured >= self.needs }
    }

    /// Returns the parts that add up to all of the time at this level of detail.
    pub fn parts(measured: Measured) -> impl Iterator<Item = &'static Time> {
        // Of vCPUs without a time there is nothing to show, and it does not matter in which parts.
        let measured = measured.max(Measured::Latency);
        TIMES.iter().copied().filter(move |time| time.rank.is_some() && time.is_shown(measured))
    }

    /// Returns those that `top` has a column of at this level of detail.
    pub fn of_top(measured: Measured) -> impl Iterator<Item = &'static Time> {
        TIMES.iter().copied().filter(move |time| time.top && time.is_shown(measured))
    }
}

/// A part that JSON, the table and `top` have.
const PART: Time = Time {
    key: "",
    name: "",
    help: "",
    note: "",
    needs: Measured::Breakdown,
    machine: true,
    rank: Some(0),
    top: true,
    ns: |_| 0,
};

/// Defines the parts and lists them.
macro_rules! times {
    ($($name:ident: $time:expr;)*) => {
        $(static $name: Time = $time;)*

        /// All parts of a vCPU's time.
        pub static TIMES: &[&Time] = &[$(&$name),*];
    };
}

times! {
    GUEST_NS: Time {
        key: "guest_ns",
        name: "guest",
        help: "time in the guest",
        needs: Measured::Latency,
        ns: |time| time.guest_ns,
        ..PART
    };
    HOST_NS: Time {
        key: "host_ns",
        name: "host",
        help: "time out of the guest, for whatever reason",
        note: "It has the time of an exit that has not entered again, which no row has yet.",
        needs: Measured::Latency,
        ns: VcpuTime::host_ns,
        ..PART
    };
    KERNEL_NS: Time {
        key: "kernel_ns",
        name: "kernel",
        help: "time in KVM",
        note: "With `user_ns`, `waiting_ns` and `halted_ns` it adds up to `host_ns`.",
        rank: Some(2),
        ns: |time| time.kernel_ns,
        ..PART
    };
    USER_NS: Time {
        key: "user_ns",
        name: "user",
        help: "time in the VMM, in user space",
        rank: Some(3),
        ns: |time| time.user_ns,
        ..PART
    };
    WAITING_NS: Time {
        key: "waiting_ns",
        name: "waiting",
        help: "time in which it could run, but had no CPU",
        rank: Some(4),
        ns: |time| time.waiting_ns,
        ..PART
    };
    HALTED_NS: Time {
        key: "halted_ns",
        name: "halted",
        help: "time in which it waited for an event, polling or asleep",
        rank: None,
        ns: |time| time.halted_ns,
        ..PART
    };
    POLLED_NS: Time {
        key: "polled_ns",
        name: "polled",
        help: "the part of the halted time in which KVM polled and kept its CPU busy",
        rank: Some(5),
        top: false,
        ns: |time| time.polled_ns,
        ..PART
    };
    IDLE_NS: Time {
        key: "idle_ns",
        name: "idle",
        help: "the part of the halted time in which it slept",
        machine: false,
        rank: Some(1),
        top: false,
        ns: VcpuTime::idle_ns,
        ..PART
    };
}
