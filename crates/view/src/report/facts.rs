//! Provenance of the figures, and doubts about them.

use super::Story;
use super::markup::{Markup, at};
use crate::names::Names;
use crate::prose::{self, Kind};
use crate::{text, unit};
use exitscope_model::{Interval, Measured, Source};

/// The longest command line, in columns.
const COMMAND: usize = 2000;
/// Number of VMs whose command lines are shown.
const COMMANDS: usize = 20;

fn source(interval: &Interval) -> &'static str {
    match interval.source {
        Source::Btf => {
            "BPF programs on KVM's exits and entries, typed by the kernel's BTF: every exit is counted, none sampled"
        }
        Source::Raw => {
            "BPF programs on the raw tracepoints kvm_exit and kvm_entry: every exit is counted, none sampled"
        }
        Source::Tracepoint => {
            "BPF programs on the plain tracepoints kvm_exit and kvm_entry: every exit is counted, none sampled"
        }
        Source::Kernel => {
            "the counters of a KVM that counts its exits itself: every exit, by reason; no times"
        }
        Source::KvmStat => {
            "KVM's own statistics: the number of exits, and classes of them that overlap; no reasons, no times"
        }
    }
}

fn measured(interval: &Interval) -> &'static str {
    match (interval.source, interval.measured) {
        (Source::KvmStat, _) | (_, Measured::Counts) => "the number of exits; no times",
        (_, Measured::Latency) => {
            "the number of exits, and the host time of each, from the exit to the next entry"
        }
        (_, Measured::Breakdown) => {
            "the number of exits, the host time of each, from the exit to the next entry, and where it went: KVM, user \
             space, waiting for a CPU, halted"
        }
    }
}

/// The check against KVM's own count, what was missed, and where and how all was measured.
pub fn section(m: &mut Markup, story: &Story) {
    let (whole, facts) = (&story.boot.whole, story.facts);
    m.with("section", at!["id" = "measured"], |m| {
        m.tag("h2", &[], "How it was measured");
        for line in prose::trust(whole, story.explanation) {
            let class = match line.kind {
                Kind::Good => "good",
                Kind::Warning => "warning",
                Kind::Alarm => "alarm",
                Kind::Heading | Kind::Plain | Kind::Aside => "plain",
            };
            m.tag("p", at!["class" = class], &line.text);
        }
        if whole.loss.is_none() {
            m.tag("p", at!["class" = "good"], "Nothing was missed.");
        }
        m.with("dl", &[], |m| {
            let mut row = |name: &str, value: &str| {
                if !value.trim().is_empty() {
                    m.tag("dt", &[], name);
                    m.tag("dd", &[], &text::clean(value, COMMAND));
                }
            };
            row("counted by", source(whole));
            row("measured", measured(whole));
            let span = format!("{} to {}", unit::moment(whole.start), unit::moment(whole.end));
            row("time", &format!("{span}, read every {}", unit::duration(facts.interval)));
            row("host", &facts.host);
            row("kernel", &facts.kernel);
            let cpus = unit::counted(facts.cpus.into(), "CPU");
            row(
                "processor",
                &if facts.cpus > 0 { format!("{}, {cpus}", facts.cpu) } else { facts.cpu.clone() },
            );
            let others = facts.facts.iter().map(|(name, value)| format!("{name}={value}"));
            row("host facts", &others.collect::<Vec<_>>().join(" "));
            let parameters =
                facts.kvm.iter().map(|((module, name), value)| format!("{module}.{name}={value}"));
            row("KVM", &parameters.collect::<Vec<_>>().join(" "));
            row("command", &facts.command.join(" "));
            let names = Names::of(whole.vms.values());
            for vm in whole.vms.values().filter(|vm| !vm.command.is_empty()).take(COMMANDS) {
                row(&format!("command line of {}", names.show(vm)), &vm.command.replace('\0', " "));
            }
            row("exitscope", &facts.tool);
        });
    });
}
