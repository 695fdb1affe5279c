//! Table of the vCPUs' time.

use super::Story;
use super::bars;
use super::markup::{Markup, at};
use super::tables::{Head, cell, number, table};
use crate::names::Names;
use crate::unit;
use crate::vcpus::{is_ambiguous, parts, share_of, sum};
use exitscope_model::figure::Time;
use exitscope_model::{VcpuSpan, VcpuTime, float};
use std::cmp::Reverse;

/// Number of vCPUs that have a row: of more, the busiest.
const MOST: usize = 64;

/// The section; nothing where there is no vCPU.
pub fn section(m: &mut Markup, story: &Story) {
    let whole = &story.boot.whole;
    if whole.vcpus.is_empty() {
        return;
    }
    let timed = whole.vcpus.iter().any(|span| span.time.is_some_and(|time| time.total_ns() > 0));
    let parts = if timed { parts(whole) } else { Vec::new() };
    let busy = |span: &VcpuSpan| span.time.map_or(0, |time| time.total_ns() - time.idle_ns());
    let mut spans: Vec<&VcpuSpan> = whole.vcpus.iter().collect();
    spans.sort_by_key(|span| (Reverse((busy(span), span.exits)), span.vm, span.vcpu));
    let others = spans.split_off(MOST.min(spans.len()));
    spans.sort_by_key(|span| (span.vm, span.vcpu));

    let mut heads = Vec::new();
    let several = whole.vms.len() > 1;
    if several {
        heads.push(Head("vm", false, ""));
    }
    heads.push(Head("vCPU", true, "its number in the VM"));
    heads.push(Head("exits", true, ""));
    heads.push(Head("exits/s", true, ""));
    if timed {
        heads.push(Head("time", false, "what it did with its time"));
        heads.extend(parts.iter().map(|part| Head(part.name, true, part.help)));
    }
    let seconds = whole.length.as_secs_f64().max(1e-9);
    let row = |m: &mut Markup, exits: u64, time: VcpuTime| {
        number(m, &unit::count(exits));
        number(m, &unit::rate(float(exits) / seconds));
        if timed {
            m.with("td", at!["class" = "drawn"], |m| bar(m, &parts, &time));
            parts.iter().for_each(|part| number(m, &share_of(part, &time)));
        }
    };
    let all = |spans: &[&VcpuSpan]| {
        let times: Vec<VcpuTime> = spans.iter().filter_map(|span| span.time).collect();
        (spans.iter().map(|span| span.exits).sum(), sum(&times))
    };
    m.with("section", at!["id" = "vcpus"], |m| {
        m.tag("h2", &[], "vCPUs");
        if timed {
            m.with("p", at!["class" = "legend"], |m| {
                for part in &parts {
                    m.tag(
                        "span",
                        at!["class" = format!("key p-{}", part.name), "title" = part.help],
                        part.name,
                    );
                }
            });
        }
        table(m, &heads, |m| {
            let names = Names::of(whole.vms.values());
            for span in &spans {
                m.with("tr", &[], |m| {
                    if several {
                        let vm = whole.vms.get(&span.vm);
                        let name = vm.map_or("-".into(), |vm| names.show(vm));
                        cell(m, &if is_ambiguous(whole) { format!("{name} ({})", span.vm.0) } else { name });
                    }
                    number(m, &span.vcpu.to_string());
                    row(m, span.exits, span.time.unwrap_or_default());
                });
            }
            let total: Vec<&VcpuSpan> = whole.vcpus.iter().collect();
            let more = format!("{} more", unit::count(others.len() as u64));
            for (name, spans) in [(more.as_str(), &others), ("all", &total)] {
                if spans.len() > 1 || (name != "all" && !spans.is_empty()) {
                    m.with("tr", at!["class" = "total"], |m| {
                        if several {
                            cell(m, name);
                        }
                        number(m, if several { "" } else { name });
                        let (exits, time) = all(spans);
                        row(m, exits, time);
                    });
                }
            }
        });
    });
}

fn bar(m: &mut Markup, parts: &[&Time], time: &VcpuTime) {
    let total = float(time.total_ns().max(1));
    let shares: Vec<_> =
        parts.iter().map(|part| (class(part.name), part.name, float(part.ns(time)) / total)).collect();
    bars::parts(m, &shares);
}

/// The class of a part's colour.
pub fn class(part: &str) -> &'static str {
    match part {
        "guest" => "p-guest",
        "kernel" | "host" => "p-kernel",
        "user" => "p-user",
        "waiting" => "p-waiting",
        "polled" => "p-polled",
        _ => "p-idle",
    }
}
