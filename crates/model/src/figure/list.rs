//! The figures, from left to right. To add one, add an entry.

use super::{
    Figure, Kind, Metric, Needs, Order, Rank, TopColumn, Value, detailed, each, nested, ns, rate, share,
};
use crate::{Key, Measured};

/// A column that stays.
const STAYS: Option<Rank> = Some(Rank { whole: 0, split: 0 });

/// A column that is there where host times are broken down.
const fn split(rank: u8) -> Option<Rank> {
    Some(Rank { whole: rank, split: rank })
}

/// The ranks of a column where host times are whole, and where they are broken down.
const fn ranks(whole: u8, split: u8) -> Option<Rank> {
    Some(Rank { whole, split })
}

/// A column of `top`.
const fn top(rank: u8, min: usize, max: usize) -> Option<TopColumn> {
    Some(TopColumn { rank, min, max })
}

/// A metric that is this figure.
const fn metric(name: &'static str) -> Option<Metric> {
    Some(Metric { name, help: "", part: None, until: None })
}

/// A part of the metric of host times.
const fn host_time(part: &'static str, until: Option<Measured>) -> Option<Metric> {
    let help = "host time, from each exit to the vCPU's next entry, by where it went";
    Some(Metric { name: "host_time", help, part: Some(part), until })
}

/// A figure that nothing but JSON and CSV has.
const FIGURE: Figure = Figure {
    key: "",
    heading: "",
    unit: "",
    help: "",
    note: "",
    kind: Kind::Text,
    needs: Needs::Nothing,
    partial: false,
    sort: Order::No,
    rank: None,
    machine: true,
    top: None,
    of_details: false,
    metric: None,
    value: |_, _| Value::Nothing,
};

/// A number of exits.
const EXITS: Figure = Figure { kind: Kind::Count, unit: "exits", ..FIGURE };

/// A share, which JSON and CSV leave to their readers.
const SHARE: Figure = Figure { kind: Kind::Share, machine: false, ..FIGURE };

/// A part of the host time.
const PART: Figure = Figure { kind: Kind::Ns, unit: "ns", needs: Needs::Breakdown, ..FIGURE };

/// A share of a reason's own host time, which `top` has in place of the part.
const OF_TIME: Figure = Figure { needs: Needs::Breakdown, top: top(12, 7, 7), ..SHARE };

/// A host time of one exit.
const TIME: Figure = Figure { kind: Kind::Ns, unit: "ns", needs: Needs::Latency, ..FIGURE };

/// A host time of one exit, which JSON and CSV leave to their readers, who have the histogram.
const ESTIMATE: Figure = Figure { machine: false, ..TIME };

/// Defines figures, and lists them.
macro_rules! figures {
    ($($name:ident: $figure:expr;)*) => {
        $(#[doc = concat!("Figure `", stringify!($name), "`; its `help` says what it means.")]
        pub static $name: Figure = $figure;)*

        /// All figures, from left to right.
        pub static FIGURES: &[&Figure] = &[$(&$name),*];
    };
}

figures! {
    VM: Figure {
        key: "vm",
        heading: "vm",
        help: "name of the VM",
        note: "It is exactly that; null if it is not known.",
        needs: Needs::Key(Key::Vm),
        partial: true,
        sort: Order::By("vm"),
        rank: STAYS,
        value: |context, exits| {
            context.vm(exits).map_or(Value::Nothing, |vm| Value::Vm(vm.name.clone(), vm.pid))
        },
        ..FIGURE
    };
    PID: Figure {
        key: "pid",
        heading: "pid",
        help: "process that runs the VM",
        kind: Kind::Id,
        needs: Needs::Key(Key::Vm),
        partial: true,
        rank: ranks(8, 16),
        value: |context, exits| context.vm(exits).map_or(Value::Nothing, |vm| Value::Id(vm.pid.into())),
        ..FIGURE
    };
    VM_ID: Figure {
        key: "vm_id",
        heading: "id",
        help: "number that tells the VMs of one process apart; never used twice in one run",
        kind: Kind::Id,
        needs: Needs::Key(Key::Vm),
        rank: STAYS,
        value: |_, exits| {
            let id = exits.vm.and_then(|vm| i64::try_from(vm.0).ok());
            id.map_or(Value::Nothing, Value::Id)
        },
        ..FIGURE
    };
    VCPU: Figure {
        key: "vcpu",
        heading: "vcpu",
        help: "number of the vCPU in its VM",
        kind: Kind::Id,
        needs: Needs::Key(Key::Vcpu),
        sort: Order::By("vcpu"),
        rank: STAYS,
        value: |_, exits| exits.vcpu.map_or(Value::Nothing, |vcpu| Value::Id(vcpu.into())),
        ..FIGURE
    };
    LEVEL: Figure {
        key: "level",
        heading: "level",
        help: "whose exits: the VM's own (L1), or those of the guests that it runs itself (L2)",
        note: "1 or 2; the guests of one vCPU are one L2. Null where the source cannot tell: there they are L1's.",
        kind: Kind::Level,
        needs: Needs::Key(Key::Level),
        rank: STAYS,
        value: |_, exits| exits.level.map_or(Value::Nothing, Value::Level),
        ..FIGURE
    };
    ISA: Figure {
        key: "isa",
        heading: "isa",
        help: "whose exit codes: `vmx` (Intel), `svm` (AMD), `kvm` (a class of KVM's statistics)",
        kind: Kind::Isa,
        needs: Needs::Key(Key::Reason),
        value: |_, exits| exits.code.map_or(Value::Nothing, |code| Value::Isa(code.isa)),
        ..FIGURE
    };
    CODE: Figure {
        key: "code",
        heading: "code",
        help: "exit code of the hardware, whole and signed; for `kvm` the number of the class",
        note: "VMX's has the modifier bits of the exit reason field (bit 31 is a failed entry); SVM's `VMEXIT_INVALID` is -1.",
        kind: Kind::Code,
        needs: Needs::Key(Key::Reason),
        value: |_, exits| exits.code.map_or(Value::Nothing, |code| Value::Id(code.code)),
        ..FIGURE
    };
    REASON: Figure {
        key: "reason",
        heading: "reason",
        help: "name of the exit reason, or its number where no manual names it",
        needs: Needs::Key(Key::Reason),
        sort: Order::By("name"),
        rank: STAYS,
        value: |_, exits| exits.code.map_or(Value::Nothing, Value::Reason),
        ..FIGURE
    };
    DETAIL: Figure {
        key: "detail",
        heading: "about",
        help: "what the exits were about, such as a port; the others of the reason are `other`",
        note: "As in CSV: `out:0x3f8`, `wrmsr:0x6e0`, `gpa-write:0xfec00010`. Null where the reason has no details. Of such a \
               row there are count, host time and the longest, and no other figures.",
        kind: Kind::Subject,
        needs: Needs::Key(Key::Detail),
        partial: true,
        sort: Order::By("detail"),
        rank: STAYS,
        value: |_, exits| exits.subject.map_or(Value::Nothing, Value::Subject),
        ..FIGURE
    };
    COUNT: Figure {
        key: "count",
        heading: "count",
        help: "exits in the interval",
        sort: Order::By("count"),
        rank: STAYS,
        of_details: true,
        metric: Some(Metric { name: "exits", help: "VM exits", part: None, until: None }),
        value: |_, exits| Value::Count(exits.counters.count),
        ..EXITS
    };
    COUNT_SHARE: Figure {
        key: "count_share",
        heading: "count %",
        help: "part of all exits",
        needs: Needs::Apart,
        rank: ranks(4, 13),
        of_details: true,
        value: |context, exits| share(exits.counters.count, context.total.counters.count),
        ..SHARE
    };
    RATE: Figure {
        key: "rate",
        heading: "exits/s",
        unit: "exits per second",
        help: "exits per second of the interval",
        kind: Kind::Rate,
        sort: Order::By("rate"),
        rank: ranks(9, 10),
        machine: false,
        of_details: true,
        value: rate,
        ..FIGURE
    };
    USER_EXITS: Figure {
        key: "user_exits",
        heading: "user exits",
        help: "exits that went out to user space: KVM_RUN returned to the VMM at least once",
        needs: Needs::Breakdown,
        sort: Order::By("user-exits"),
        rank: split(8),
        metric: metric("user_exits"),
        value: |_, exits| Value::Count(exits.counters.split.user_exits),
        ..EXITS
    };
    TO_L1: Figure {
        key: "to_l1",
        heading: "to L1",
        help: "exits of L2 after which KVM entered L1, to have it handle them; the others KVM handled alone",
        needs: Needs::Nested,
        sort: Order::By("to-l1"),
        rank: ranks(1, 2),
        metric: metric("l2_exits_to_l1"),
        value: |_, exits| nested(exits, |nested| Value::Count(nested.to_l1)),
        ..EXITS
    };
    L1_DONE: Figure {
        key: "l1_done",
        heading: "handled",
        help: "how many of those L1 has handled: it has entered an L2 again",
        needs: Needs::Nested,
        metric: metric("l2_exits_handled_by_l1"),
        value: |_, exits| nested(exits, |nested| Value::Count(nested.l1_done)),
        ..EXITS
    };
    L1_EXITS: Figure {
        key: "l1_exits",
        heading: "L1 exits",
        help: "exits that L1 made itself until it had handled those, that with which it entered L2 included",
        note: "They are by KVM's own count, and in the rows of level 1, too.",
        needs: Needs::Nested,
        sort: Order::By("l1-exits"),
        rank: ranks(2, 3),
        metric: metric("l1_exits_for_l2"),
        value: |_, exits| nested(exits, |nested| Value::Count(nested.l1_exits)),
        ..EXITS
    };
    L1_EXITS_EACH: Figure {
        key: "l1_exits_each",
        heading: "each",
        unit: "exits",
        help: "how many of these L1 made for one exit of L2, on average",
        kind: Kind::Rate,
        needs: Needs::Nested,
        rank: ranks(1, 1),
        machine: false,
        value: |_, exits| nested(exits, |nested| each(nested.l1_exits, nested.l1_done)),
        ..FIGURE
    };
    L1_NS: Figure {
        key: "l1_ns",
        heading: "L1 time",
        help: "how long L1 took for those, its exits included, from KVM's entry into L1 to that into L2",
        needs: Needs::NestedLatency,
        sort: Order::By("l1-time"),
        rank: ranks(4, 5),
        metric: metric("l1_time_for_l2"),
        value: |_, exits| nested(exits, |nested| Value::Ns(nested.l1_ns)),
        ..TIME
    };
    TIME_NS: Figure {
        key: "time_ns",
        heading: "time",
        help: "host time: from each exit to the vCPU's next entry, added up",
        sort: Order::By("time"),
        rank: ranks(3, 14),
        of_details: true,
        metric: host_time("all", Some(Measured::Breakdown)),
        value: |_, exits| ns(exits.time_ns()),
        ..TIME
    };
    TIME_SHARE: Figure {
        key: "time_share",
        heading: "time %",
        help: "part of the host time of all exits",
        needs: Needs::Latency,
        rank: ranks(5, 18),
        of_details: true,
        value: |context, exits| {
            exits.time_ns().map_or(Value::Nothing, |time| share(time, context.total.counters.time_ns))
        },
        ..SHARE
    };
    BUSY_NS: Figure {
        key: "busy_ns",
        heading: "busy",
        help: "host time that was not halted: kernel, user and waiting",
        sort: Order::By("busy"),
        rank: split(9),
        machine: false,
        top: top(2, 8, 8),
        value: |_, exits| Value::Ns(exits.counters.busy_ns()),
        ..PART
    };
    BUSY_SHARE: Figure {
        key: "busy_share",
        heading: "busy %",
        help: "part of the busy time of all exits",
        needs: Needs::Breakdown,
        sort: Order::Shows("busy"),
        rank: split(1),
        value: |context, exits| share(exits.counters.busy_ns(), context.total.counters.busy_ns()),
        ..SHARE
    };
    KERNEL_NS: Figure {
        key: "kernel_ns",
        heading: "kernel",
        help: "host time in KVM: the rest of the host time",
        note: "With `user_ns`, `waiting_ns` and `halted_ns` it adds up to `time_ns`.",
        sort: Order::By("kernel"),
        rank: split(2),
        metric: host_time("kernel", None),
        value: |_, exits| Value::Ns(exits.counters.split.kernel_ns(exits.counters.time_ns)),
        ..PART
    };
    USER_NS: Figure {
        key: "user_ns",
        heading: "user",
        help: "host time in the VMM, out in user space",
        sort: Order::By("user"),
        rank: split(3),
        metric: host_time("user", None),
        value: |_, exits| Value::Ns(exits.counters.split.user_ns),
        ..PART
    };
    WAITING_NS: Figure {
        key: "waiting_ns",
        heading: "waiting",
        help: "host time in which the vCPU could run and had no CPU",
        sort: Order::By("waiting"),
        rank: split(4),
        metric: host_time("waiting", None),
        value: |_, exits| Value::Ns(exits.counters.split.waiting_ns),
        ..PART
    };
    HALTED_NS: Figure {
        key: "halted_ns",
        heading: "halted",
        help: "host time in which the vCPU waited for an event, polling or asleep",
        sort: Order::By("halted"),
        rank: split(5),
        metric: host_time("halted", None),
        value: |_, exits| Value::Ns(exits.counters.split.halted_ns),
        ..PART
    };
    POLLED_NS: Figure {
        key: "polled_ns",
        heading: "polled",
        help: "the part of the halted time in which it polled and kept its CPU busy",
        sort: Order::By("polled"),
        rank: split(15),
        metric: metric("polled_time"),
        value: |_, exits| Value::Ns(exits.counters.split.polled_ns),
        ..PART
    };
    KERNEL_PART: Figure {
        key: "kernel_part",
        heading: "kernel",
        help: "part of the host time in KVM",
        sort: Order::Shows("kernel"),
        value: |_, exits| {
            let counters = &exits.counters;
            share(counters.split.kernel_ns(counters.time_ns), counters.time_ns)
        },
        ..OF_TIME
    };
    USER_PART: Figure {
        key: "user_part",
        heading: "user",
        help: "part of the host time in the VMM, in user space",
        sort: Order::Shows("user"),
        value: |_, exits| share(exits.counters.split.user_ns, exits.counters.time_ns),
        ..OF_TIME
    };
    WAITING_PART: Figure {
        key: "waiting_part",
        heading: "waiting",
        help: "part of the host time in which it could run and had no CPU",
        sort: Order::Shows("waiting"),
        value: |_, exits| share(exits.counters.split.waiting_ns, exits.counters.time_ns),
        ..OF_TIME
    };
    HALTED_PART: Figure {
        key: "halted_part",
        heading: "halted",
        help: "part of the host time in which it waited for an event",
        sort: Order::Shows("halted"),
        value: |_, exits| share(exits.counters.split.halted_ns, exits.counters.time_ns),
        ..OF_TIME
    };
    MIN_NS: Figure {
        key: "min_ns",
        heading: "min",
        help: "shortest host time of one exit",
        note: "Null where no exit has entered again.",
        partial: true,
        sort: Order::By("min"),
        rank: ranks(11, 19),
        value: |_, exits| ns(exits.counters.extremes.map(|extremes| extremes.min_ns)),
        ..TIME
    };
    AVG_NS: Figure {
        key: "avg_ns",
        heading: "avg",
        help: "mean host time of the exits that have entered again",
        sort: Order::By("avg"),
        rank: ranks(2, 6),
        top: top(4, 7, 8),
        of_details: true,
        value: |_, exits| ns(exits.avg_ns()),
        ..ESTIMATE
    };
    USER_AVG_NS: Figure {
        key: "user_avg_ns",
        heading: "user avg",
        help: "mean time in the VMM of the exits that went out to user space",
        sort: Order::By("user-avg"),
        rank: split(21),
        machine: false,
        top: top(13, 8, 8),
        value: |_, exits| ns(exits.counters.split.user_ns.checked_div(exits.counters.split.user_exits)),
        ..PART
    };
    MAX_NS: Figure {
        key: "max_ns",
        heading: "max",
        help: "longest host time of one exit",
        note: "Null where no exit has entered again.",
        partial: true,
        sort: Order::By("max"),
        rank: ranks(7, 11),
        of_details: true,
        value: |_, exits| ns(exits.max_ns()),
        ..TIME
    };
    P50_NS: Figure {
        key: "p50_ns",
        heading: "p50",
        help: "host time that half of the exits did not exceed; an estimate from the histogram",
        sort: Order::By("p50"),
        rank: ranks(12, 20),
        top: top(10, 7, 8),
        value: |_, exits| ns(exits.percentile(0.50)),
        ..ESTIMATE
    };
    P95_NS: Figure {
        key: "p95_ns",
        heading: "p95",
        help: "host time that 95 % of the exits did not exceed; an estimate from the histogram",
        sort: Order::By("p95"),
        rank: ranks(10, 17),
        top: top(11, 7, 8),
        value: |_, exits| ns(exits.percentile(0.95)),
        ..ESTIMATE
    };
    P99_NS: Figure {
        key: "p99_ns",
        heading: "p99",
        help: "host time that 99 % of the exits did not exceed; an estimate from the histogram",
        sort: Order::By("p99"),
        rank: ranks(6, 7),
        top: top(5, 7, 8),
        value: |_, exits| ns(exits.percentile(0.99)),
        ..ESTIMATE
    };
    HISTOGRAM: Figure {
        key: "histogram",
        heading: "histogram",
        unit: "exits",
        help: "exits by host time in 38 buckets: the first up to 1 ns, number b (from 0) from 2^b to \
               2^(b+1)-1 ns, the last also all longer ones",
        note: "Its sum may be below `count` by the exits that have not entered again.",
        kind: Kind::Buckets,
        needs: Needs::Latency,
        metric: Some(Metric {
            name: "exit_duration",
            help: "host times of the exits that have entered again",
            part: None,
            until: None,
        }),
        value: |_, exits| Value::Buckets(Box::new(exits.counters.histogram.clone())),
        ..FIGURE
    };
    RETURNS: Figure {
        key: "returns",
        heading: "returned",
        unit: "returns",
        help: "what KVM_RUN returned to the VMM with, the most frequent first; one exit may return several times",
        note: "`KVM_EXIT_*` of `<linux/kvm.h>` without the prefix (`IO`, `MMIO`; `INTR` is a signal; `KVM_EXIT_99` for a \
               number that has no name), or the error's name (`EFAULT`). Their sum may be above `user_exits`.",
        kind: Kind::Returns,
        needs: Needs::Breakdown,
        rank: split(12),
        metric: metric("user_returns"),
        value: |_, exits| Value::Returns(exits.counters.returns.clone()),
        ..FIGURE
    };
    DETAILS: Figure {
        key: "details",
        heading: "details",
        unit: "exits",
        help: "exits by what they were about, such as a port, the most frequent first",
        note: "Each is an object, see below. Only exits that have been handled are in it.",
        kind: Kind::Details,
        needs: Needs::Breakdown,
        value: |_, exits| detailed(exits, |details| Value::Details(details.clone())),
        ..FIGURE
    };
    DETAILS_OTHER: Figure {
        key: "details_other",
        heading: "other details",
        help: "exits whose details are not told apart; with those of `details` all that have been handled and have any",
        note: "Of a row of one vCPU and one reason they add up to `count`, but for an exit that was being handled when the \
               interval began, and one when it ended; if the VM lived and ended within the interval, to the exit.",
        needs: Needs::Breakdown,
        value: |_, exits| detailed(exits, |details| Value::Count(details.other.count)),
        ..EXITS
    };
    DETAILS_OTHER_NS: Figure {
        key: "details_other_ns",
        heading: "other details' time",
        help: "host time of the exits of `details_other`",
        note: "With the times of `details` it adds up to `time_ns` of exits that have any.",
        value: |_, exits| detailed(exits, |details| Value::Ns(details.other.time_ns)),
        ..PART
    };
}
