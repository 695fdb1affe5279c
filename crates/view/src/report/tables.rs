//! The figures of what is drawn, and of what stands out, as tables.

use super::chart::Chart;
use super::console::said;
use super::markup::{Attributes, Markup, at};
use super::{Story, scale};
use crate::names::Names;
use crate::{details, phases, text, unit};
use exitscope_analysis::boot_report::{BootReport, Origin};
use exitscope_analysis::series::Slice;
use exitscope_analysis::spike::Spike;
use exitscope_model::{By, Detail, DetailCounters, Group, VmId, float, group};
use exitscope_reason as reason;

/// The longest name, in columns.
const NAME: usize = 40;
/// Rows of a table, where there may be thousands.
const MOST: usize = 200;
/// Lines of the console that are shown with a spike.
const SAID: usize = 4;
/// Number of details that are shown.
const DETAILS: usize = 40;

/// A column's heading: what it says, whether its cells are numbers, and what it means.
pub struct Head<'a>(pub &'a str, pub bool, pub &'a str);

/// A table that moves sideways where it is too wide.
pub fn table(m: &mut Markup, heads: &[Head], body: impl FnOnce(&mut Markup)) {
    m.with("div", at!["class" = "scroll", "tabindex" = 0], |m| {
        m.with("table", &[], |m| {
            m.with("thead", &[], |m| {
                m.with("tr", &[], |m| {
                    for Head(text, right, help) in heads {
                        let class = if *right { "n" } else { "" };
                        let attributes: Attributes = at!["scope" = "col", "class" = class, "title" = help];
                        let shown = if help.is_empty() { &attributes[..2] } else { attributes };
                        m.tag("th", shown, text);
                    }
                });
            });
            m.with("tbody", &[], body);
        });
    });
}

/// A cell with text.
pub fn cell(m: &mut Markup, text: &str) {
    m.tag("td", &[], text);
}

/// A cell with a number.
pub fn number(m: &mut Markup, text: &str) {
    m.tag("td", at!["class" = "n"], text);
}

/// The times that stand out.
pub fn spikes(m: &mut Markup, boot: &BootReport) {
    m.with("section", at!["id" = "spikes"], |m| {
        m.tag("h2", &[], "Spikes");
        if boot.spikes.is_empty() {
            m.tag("p", &[], "No time stands out from what was around it.");
            return;
        }
        let mut shown: Vec<(usize, &Spike)> = boot.spikes.iter().enumerate().collect();
        if shown.len() > MOST {
            shown.sort_by(|a, b| b.1.excess.total_cmp(&a.1.excess));
            shown.truncate(MOST);
            shown.sort_by_key(|(number, _)| *number);
            let all = unit::count(boot.spikes.len() as u64);
            m.with("p", at!["class" = "hint"], |m| m.format(format_args!("The {MOST} largest of {all}.")));
        }
        let heads = [
            Head("#", true, "its number in the timeline"),
            Head("at", true, "when it began, since the start"),
            Head("for", true, "how long it was"),
            Head("phase", false, "in which phase it began"),
            Head("exits", true, "its exits"),
            Head("exits/s", true, "its exits per second"),
            Head("usual", true, "exits per second around it: the median"),
            Head("made by", false, "the reasons of which there were more than around it, and how many more"),
            Head("console", false, "what the machine said meanwhile, from the line before it on"),
        ];
        table(m, &heads, |m| {
            for (place, spike) in shown {
                let at = spike.at.as_secs_f64();
                let attributes = at!["data-at" = format!("{at:.3}"), "class" = "jump"];
                m.with("tr", attributes, |m| spike_row(m, boot, place, spike));
            }
        });
    });
}

fn spike_row(m: &mut Markup, boot: &BootReport, place: usize, spike: &Spike) {
    number(m, &(place + 1).to_string());
    number(m, &unit::duration(spike.at));
    number(m, &unit::duration(spike.length));
    cell(m, &phase(boot, spike.phase));
    number(m, &unit::count(spike.exits));
    number(m, &unit::rate(float(spike.exits) / spike.length.as_secs_f64().max(1e-9)));
    number(m, &unit::rate(spike.usual));
    let reasons = spike.reasons.iter().filter(|(_, more)| *more >= 0.5).take(3);
    let reasons: Vec<_> = reasons
        .map(|(code, more)| format!("{} +{}", reason::name(*code), unit::count(rounded(*more))))
        .collect();
    cell(m, &reasons.join(", "));
    let after = boot.console.partition_point(|line| line.at <= spike.at);
    let until = boot.console.partition_point(|line| line.at <= spike.at + spike.length).max(after);
    let lines = &boot.console[after.saturating_sub(1)..until];
    m.with("td", at!["class" = "said"], |m| {
        // The first and the last ones, where there are many.
        let (first, last) = if lines.len() > SAID { (SAID / 2, SAID / 2) } else { (lines.len(), 0) };
        let line = |m: &mut Markup, text: &str| m.tag("code", &[], &text::clean(&said(text), 70));
        lines[..first].iter().for_each(|l| line(m, &l.text));
        if lines.len() > SAID {
            let more = unit::counted((lines.len() - SAID) as u64, "more line");
            m.tag("span", at!["class" = "faint"], &format!("… {more} …"));
        }
        lines[lines.len() - last..].iter().for_each(|l| line(m, &l.text));
    });
}

/// To a whole number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

fn phase(boot: &BootReport, place: usize) -> String {
    text::clean(boot.series.stretches().get(place).map_or("", |stretch| &stretch.name), NAME)
}

/// Table of the phases.
pub fn phases(m: &mut Markup, boot: &BootReport) {
    let whole = boot.series.whole();
    let heads = [
        Head("phase", false, ""),
        Head("from", true, "when it began, since the start"),
        Head("time", true, "how long it was"),
        Head("exits", true, ""),
        Head("exits %", true, "its part of all exits"),
        Head("exits/s", true, ""),
        Head("most frequent", false, "its two most frequent reasons, and their parts of its exits"),
    ];
    m.with("section", at!["id" = "phases"], |m| {
        m.tag("h2", &[], "Phases");
        let stretches = boot.series.stretches();
        if stretches.len() > MOST {
            let all = unit::count(stretches.len() as u64);
            m.with("p", at!["class" = "hint"], |m| m.format(format_args!("The first {MOST} of {all}.")));
        }
        table(m, &heads, |m| {
            let row = |m: &mut Markup, name: &str, slice: &Slice| {
                cell(m, name);
                number(m, &unit::duration(slice.at));
                number(m, &unit::duration(slice.length));
                number(m, &unit::count(slice.exits));
                number(m, &unit::share(whole.part(slice.exits)));
                number(m, &unit::rate(slice.rate()));
                cell(m, &phases::most(slice));
            };
            for stretch in stretches.iter().take(MOST) {
                let at = format!("{:.3}", stretch.whole.at.as_secs_f64());
                m.with("tr", at!["data-at" = at, "class" = "jump"], |m| {
                    row(m, &text::clean(&stretch.name, NAME), &stretch.whole);
                });
            }
            m.with("tr", at!["class" = "total"], |m| row(m, "total", &whole));
        });
    });
}

/// Moments that were marked; nothing where none was.
pub fn marks(m: &mut Markup, boot: &BootReport) {
    if boot.marks.is_empty() && boot.marks_left_out == 0 {
        return;
    }
    m.with("section", at!["id" = "marks"], |m| {
        m.tag("h2", &[], "Marks");
        table(
            m,
            &[Head("at", true, "since the start"), Head("mark", false, ""), Head("from", false, "")],
            |m| {
                for mark in boot.marks.iter().take(MOST) {
                    let at = format!("{:.3}", mark.at.as_secs_f64());
                    m.with("tr", at!["data-at" = at, "class" = "jump"], |m| {
                        number(m, &unit::duration(mark.at));
                        cell(m, &text::clean(&mark.text, 100));
                        match mark.origin {
                            Origin::Hand => cell(m, "by hand"),
                            Origin::Port { port, value } => {
                                cell(m, &format!("port {port:#x}, byte {value:#04x}"))
                            }
                        }
                    });
                }
            },
        );
        if boot.marks.len() > MOST {
            let all = unit::count(boot.marks.len() as u64);
            m.with("p", at!["class" = "hint"], |m| m.format(format_args!("The first {MOST} of {all}.")));
        }
        if boot.marks_left_out > 0 {
            let more = unit::count(boot.marks_left_out);
            m.with("p", at!["class" = "hint"], |m| m.format(format_args!("{more} more were not kept.")));
        }
    });
}

/// The VMs, where there are several.
pub fn vms(m: &mut Markup, story: &Story) {
    let whole = &story.boot.whole;
    if whole.vms.len() < 2 {
        return;
    }
    let mut groups = group(whole, By { vm: true, ..By::NOTHING });
    groups.sort_by_key(|group| (std::cmp::Reverse(group.counters.count), group.vm));
    m.with("section", at!["id" = "vms"], |m| {
        m.tag("h2", &[], "Virtual machines");
        m.tag(
            "p",
            at!["class" = "hint"],
            "The timeline, the phases and the reasons are of all of them together.",
        );
        let heads = [
            Head("vm", false, ""),
            Head("run by", false, ""),
            Head("pid", true, "its process"),
            Head("vCPUs", true, ""),
            Head("exits", true, ""),
            Head("exits %", true, "its part of all exits"),
            Head("exits/s", true, ""),
            Head("KVM's count", true, "how many exits KVM itself counted"),
            Head("most frequent", false, "its most frequent reason"),
        ];
        table(m, &heads, |m| {
            let names = Names::of(whole.vms.values());
            for found in groups.iter().take(MOST) {
                if let Some((id, vm)) = found.vm.and_then(|id| Some((id, whole.vms.get(&id)?))) {
                    m.with("tr", &[], |m| {
                        cell(m, &names.show(vm));
                        cell(m, &text::clean(&vm.vmm, NAME));
                        number(m, &vm.pid.to_string());
                        vm_row(m, story, id, found);
                    });
                }
            }
        });
        if groups.len() > MOST {
            let more = unit::count((groups.len() - MOST) as u64);
            m.with("p", at!["class" = "hint"], |m| {
                m.format(format_args!("And {more} more with fewer exits."))
            });
        }
    });
}

fn vm_row(m: &mut Markup, story: &Story, id: VmId, found: &Group) {
    let whole = &story.boot.whole;
    let spans: Vec<_> = whole.vcpus.iter().filter(|span| span.vm == id).collect();
    let exits = found.counters.count;
    number(m, &unit::count(spans.len() as u64));
    number(m, &unit::count(exits));
    number(m, &unit::share(float(exits) / float(whole.exits().max(1))));
    number(m, &unit::rate(float(exits) / whole.length.as_secs_f64().max(1e-9)));
    let kvm: Option<u64> = spans.iter().map(|span| span.kvm_exits).sum();
    number(m, &kvm.map_or("-".into(), unit::count));
    let rows = whole.rows.iter().filter(|row| row.vm == id);
    let mut counts = std::collections::BTreeMap::new();
    rows.for_each(|row| *counts.entry(row.code).or_insert(0) += row.counters.count);
    let most = counts.iter().max_by_key(|(code, count)| (**count, std::cmp::Reverse(**code)));
    cell(m, &most.map_or(String::new(), |(code, _)| reason::name(*code).into_owned()));
}

/// Writes a table of details; nothing if they were not counted.
pub fn ports(m: &mut Markup, story: &Story) {
    let whole = &story.boot.whole;
    let all = Group::total(whole).counters.details;
    if all.count() == 0 {
        return;
    }
    m.with("section", at!["id" = "details"], |m| {
        m.tag("h2", &[], "What exits were about");
        let found = details::by_frequency(&all);
        let heads = [
            Head("which", false, ""),
            Head("exits", true, ""),
            Head("exits %", true, "its part of all exits"),
            Head("time", true, "their host time in all"),
            Head("max", true, "the longest of them"),
            Head("what helps", false, ""),
        ];
        let share = |count: u64| unit::share(float(count) / float(whole.exits().max(1)));
        table(m, &heads, |m| {
            let mut told: Vec<&str> = Vec::new();
            for &(detail, counters) in found.iter().take(DETAILS) {
                m.with("tr", &[], |m| {
                    cell(m, &which(detail));
                    number(m, &unit::count(counters.count));
                    number(m, &share(counters.count));
                    number(m, &unit::time(counters.time_ns));
                    number(m, &unit::time(counters.max_ns));
                    let help = reason::known(detail).map_or("", |known| known.help);
                    // Once for each device.
                    m.with("td", at!["class" = "help"], |m| {
                        m.prose(if told.contains(&help) { "" } else { help })
                    });
                    told.push(help);
                });
            }
            let mut rest = DetailCounters::default();
            found.iter().skip(DETAILS).for_each(|(_, counters)| rest.add(counters));
            let others = unit::counted(found.len().saturating_sub(DETAILS) as u64, "other");
            for (name, counters) in [(others.as_str(), rest), ("not told apart", all.other)] {
                if counters.count > 0 {
                    m.with("tr", &[], |m| {
                        cell(m, name);
                        number(m, &unit::count(counters.count));
                        number(m, &share(counters.count));
                        number(m, &unit::time(counters.time_ns));
                        number(m, &unit::time(counters.max_ns));
                        cell(m, "");
                    });
                }
            }
        });
    });
}

fn which(detail: Detail) -> String {
    format!("{} {}", detail.info().singular, details::human(detail))
}

/// Table of the timeline's figures.
pub fn columns(m: &mut Markup, chart: &Chart) {
    m.with("details", at!["class" = "figures", "id" = "figures"], |m| {
        m.tag("summary", &[], "The timeline in figures");
        let mut heads = vec![
            Head("from", true, "seconds since the start"),
            Head("to", true, ""),
            Head("exits", true, ""),
        ];
        if chart.joined.is_some() {
            heads.push(Head("mean", true, "exits per second, on average"));
            heads.push(Head("highest", true, "exits per second in the busiest slice of this time"));
        } else {
            heads.push(Head("exits/s", true, ""));
        }
        let one = chart.kinds.len() == 1;
        heads.extend(
            chart.kinds.iter().filter(|_| !one).map(|kind| Head(&kind.name, true, "exits per second")),
        );
        table(m, &heads, |m| {
            for column in &chart.columns {
                let attributes = at![
                    "data-from" = format!("{:.3}", column.from.as_secs_f64()),
                    "data-to" = format!("{:.3}", column.to.as_secs_f64())
                ];
                m.with("tr", attributes, |m| {
                    number(m, &scale::moment(column.from));
                    number(m, &scale::moment(column.to));
                    number(m, &unit::count(column.exits));
                    if chart.joined.is_some() {
                        number(m, &unit::rate(column.mean()));
                    }
                    number(m, &unit::rate(column.highest));
                    for rate in column.parts.iter().filter(|_| !one) {
                        number(m, &if *rate > 0.0 { unit::rate(*rate) } else { "0".into() });
                    }
                });
            }
        });
    });
}
