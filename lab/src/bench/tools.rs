//! The tools that watch exits, and how each is run.

use super::Suite;

/// A way to watch exits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The word that chooses it.
    pub key: String,
    /// Its name in the table.
    pub label: String,
    /// The shell line that runs it.
    pub command: String,
    /// The program that has to be there, and how to get it; `None` for a command of the user's own.
    pub needs: Option<(&'static str, &'static str)>,
    /// The figures that are measured while it runs.
    pub suite: Suite,
}

const OURS: (&str, &str) = ("exitscope", "cargo build --release");
const LAB: (&str, &str) = ("lab", "cargo build --package lab");
const PERF: (&str, &str) = ("perf", "apt-get install linux-perf");
const BPFTRACE: (&str, &str) = ("bpftrace", "apt-get install bpftrace");
const TRACE_CMD: (&str, &str) = ("trace-cmd", "apt-get install trace-cmd");
const KVM_STAT: (&str, &str) = ("kvm_stat", "tools/kvm/kvm_stat in the kernel's sources");

/// Key, label, command, and what it needs.
type Entry = (&'static str, &'static str, &'static str, (&'static str, &'static str));

const KINDS: &[Entry] = &[
    ("split", "exitscope", "exitscope stat --source btf --probes one", OURS),
    ("pair", "exitscope, two programs an exit", "exitscope stat --source btf --probes pair", OURS),
    ("no-split", "exitscope, without telling times apart", "exitscope stat --source btf --no-split", OURS),
    ("no-time", "exitscope, counting only", "exitscope stat --source btf --no-time", OURS),
    (
        "twice",
        "exitscope beside the service",
        "sh -c 'exitscope serve --collect.textfile /run & exec exitscope stat --source btf --probes one'",
        OURS,
    ),
    ("tracepoint", "exitscope on the plain tracepoints", "exitscope stat --source tracepoint", OURS),
    ("kernel", "KVM's own counters, switched on", "lab bench-counters", LAB),
    ("floor", "two empty BPF programs: the floor", "lab bench-floor", LAB),
    (
        "bpftrace-count",
        "bpftrace, count by thread and reason",
        "bpftrace -e 'tracepoint:kvm:kvm_exit { @[tid, args->exit_reason] = count(); }'",
        BPFTRACE,
    ),
    (
        "trace-cmd",
        "trace-cmd record",
        "trace-cmd record -e kvm:kvm_exit -e kvm:kvm_entry -o /run/trace.dat",
        TRACE_CMD,
    ),
    ("perf-record", "perf kvm stat record", "perf kvm stat record -a -o /run/perf.data", PERF),
    (
        "bpftrace-histogram",
        "bpftrace, histogram of times by thread and reason",
        "bpftrace -e 'tracepoint:kvm:kvm_exit { @at[tid] = nsecs; @why[tid] = args->exit_reason; } \
         tracepoint:kvm:kvm_entry /@at[tid]/ { @[tid, @why[tid]] = hist(nsecs - @at[tid]); delete(@at[tid]); }'",
        BPFTRACE,
    ),
    ("kvm_stat", "kvm_stat -t", "kvm_stat -t -l", KVM_STAT),
    ("perf-live", "perf kvm stat live", "perf kvm stat live -a --event=vmexit", PERF),
    ("perf-mmio", "perf kvm stat live, of MMIO", "perf kvm stat live -a --event=mmio", PERF),
];

const SCALE: &[Entry] = &[
    ("scale", "exitscope", "exitscope stat --source btf --max-vcpus 2048 --max-rows 65534", OURS),
    (
        "scale-no-time",
        "exitscope, counting only",
        "exitscope stat --source btf --no-time --max-vcpus 2048 --max-rows 65534",
        OURS,
    ),
];

/// Every tool that is known, in the order of the tables.
#[must_use]
pub fn known() -> Vec<Tool> {
    let tools = |suite: Suite, entries: &[Entry]| -> Vec<Tool> {
        let tool = |&(key, label, command, needs): &Entry| Tool {
            key: key.into(),
            label: label.into(),
            command: command.into(),
            needs: Some(needs),
            suite,
        };
        entries.iter().map(tool).collect()
    };
    [tools(Suite::Kinds, KINDS), tools(Suite::Scale, SCALE)].concat()
}

impl Tool {
    /// A tool of the user's own: `LABEL=COMMAND`.
    #[must_use]
    pub fn own(text: &str) -> Option<Tool> {
        let (label, command) = text.split_once('=')?;
        (!label.is_empty() && !command.is_empty()).then(|| Tool {
            key: label.into(),
            label: label.into(),
            command: command.into(),
            needs: None,
            suite: Suite::Kinds,
        })
    }
}
