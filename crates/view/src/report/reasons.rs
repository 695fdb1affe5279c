//! Why the guest was left: a table of all reasons, and of each what it means, where its time went, and what
//! helps.

use super::Story;
use super::bars;
use super::chart::Chart;
use super::markup::{Markup, at};
use super::tables::{Head, cell, number, table};
use super::theme::KINDS;
use crate::table::heading;
use crate::{details, text, unit, value};
use exitscope_model::figure::{self, Context, FIGURES, Figure, Value};
use exitscope_model::{
    BUCKETS, By, DetailCounters, Group, Interval, Level, Measured, Sort, Source, float, group, sort,
};
use exitscope_reason as reason;

/// The longest cell, in columns.
const CELL: usize = 48;
/// Number of reasons whose cards are open from the start.
const OPEN: usize = 6;
/// Number of a reason's details that are shown.
const DETAILS: usize = 8;

/// The reasons of an interval, the most frequent first.
fn groups(whole: &Interval) -> Vec<Group> {
    let mut groups = group(whole, By { level: whole.has_l2(), reason: true, ..By::NOTHING });
    groups.retain(|group| group.counters.count > 0);
    sort(&mut groups, Sort::COUNT, &Context::new(whole), reason::name);
    groups
}

fn name(group: &Group) -> String {
    let name = group.code.map_or(String::new(), |code| text::clean(&reason::name(code), CELL));
    if group.level == Some(Level::L2) { format!("{name} of L2") } else { name }
}

/// The class of a reason's colour in the timeline.
fn color(chart: &Chart, group: &Group) -> String {
    let kind = chart.kinds.iter().find(|kind| kind.code.is_some() && kind.code == group.code);
    format!("key k{}", kind.map_or(KINDS, |kind| kind.color))
}

/// Both sections; nothing where there was no exit.
pub fn sections(m: &mut Markup, story: &Story, chart: &Chart) {
    let whole = &story.boot.whole;
    let groups = groups(whole);
    if groups.is_empty() {
        return;
    }
    let classes = whole.source == Source::KvmStat;
    m.with("section", at!["id" = "reasons"], |m| {
        m.tag("h2", &[], if classes { "Classes" } else { "Reasons" });
        if classes {
            let note =
                "KVM's statistics have classes of exits, which overlap: they do not add up to the total.";
            m.tag("p", at!["class" = "hint"], note);
        }
        rows(m, whole, &groups, chart);
    });
    m.with("section", at!["id" = "each"], |m| {
        m.tag("h2", &[], if classes { "Class by class" } else { "Reason by reason" });
        let range = range(&groups);
        m.with("div", at!["class" = "cards"], |m| {
            for (place, group) in groups.iter().enumerate() {
                card(m, whole, group, chart, place, range);
            }
        });
    });
}

fn rows(m: &mut Markup, whole: &Interval, groups: &[Group], chart: &Chart) {
    let by = By { level: true, reason: true, ..By::NOTHING };
    let columns: Vec<&Figure> = FIGURES
        .iter()
        .copied()
        .filter(|figure| figure.rank.is_some() && figure.is_there(by, whole))
        .collect();
    let head = |figure: &&Figure| Head(heading(figure, whole.source), figure.kind.is_number(), figure.help);
    let heads: Vec<Head> = columns.iter().map(head).collect();
    let context = Context::new(whole);
    table(m, &heads, |m| {
        for (place, group) in groups.iter().enumerate() {
            m.with("tr", &[], |m| {
                for figure in &columns {
                    let shown = text::clean(&value::human(&figure.value(&context, group)), CELL);
                    match figure.key {
                        key if key == figure::REASON.key => m.with("td", at!["class" = "name"], |m| {
                            m.tag("span", at!["class" = color(chart, group)], "");
                            m.tag("a", at!["href" = format!("#r{place}")], &shown);
                        }),
                        _ if figure.kind.is_number() => number(m, &shown),
                        _ => cell(m, &shown),
                    }
                }
            });
        }
        if whole.source != Source::KvmStat {
            m.with("tr", at!["class" = "total"], |m| {
                for (place, figure) in columns.iter().enumerate() {
                    let shown = match figure.value(&context, &context.total) {
                        Value::Nothing if place == 0 => "total".into(),
                        Value::Nothing => String::new(),
                        found => text::clean(&value::human(&found), CELL),
                    };
                    if figure.kind.is_number() { number(m, &shown) } else { cell(m, &shown) }
                }
            });
        }
    });
}

/// The buckets that any reason needs, so that all are drawn alike.
fn range(groups: &[Group]) -> (usize, usize) {
    let filled = groups.iter().flat_map(|group| bars::filled(&group.counters.histogram));
    let (first, last) =
        filled.fold((BUCKETS, 0), |(first, last), (bucket, _)| (first.min(bucket), last.max(bucket)));
    (first.min(last), last)
}

fn card(m: &mut Markup, whole: &Interval, group: &Group, chart: &Chart, place: usize, range: (usize, usize)) {
    let counters = &group.counters;
    let share = unit::share(float(counters.count) / float(whole.exits().max(1)));
    let attributes = at!["class" = "card", "id" = format!("r{place}"), "open" = "open"];
    m.with("details", if place < OPEN { attributes } else { &attributes[..2] }, |m| {
        m.with("summary", &[], |m| {
            m.tag("span", at!["class" = color(chart, group)], "");
            m.tag("b", &[], &name(group));
            m.with("span", at!["class" = "faint"], |m| {
                m.format(format_args!(" {}, {share}", unit::counted(counters.count, "exit")));
            });
        });
        if let Some(known) = group.code.and_then(reason::get) {
            m.tag("p", &[], known.what);
            for (label, text) in [("Usual causes: ", known.why), ("What helps: ", known.help)] {
                m.with("p", &[], |m| {
                    m.tag("b", &[], label);
                    m.prose(text);
                });
            }
        } else {
            m.tag("p", &[], "No manual that is known here defines this number.");
        }
        time(m, whole, group);
        if counters.histogram.count() > 0 {
            times(m, group, range);
        }
        about(m, group);
    });
}

/// Where the host time went.
fn time(m: &mut Markup, whole: &Interval, group: &Group) {
    let counters = &group.counters;
    if whole.measured != Measured::Breakdown || counters.time_ns == 0 {
        return;
    }
    let split = &counters.split;
    let parts = [
        ("p-kernel", "kernel", split.kernel_ns(counters.time_ns)),
        ("p-user", "user", split.user_ns),
        ("p-waiting", "waiting", split.waiting_ns),
        ("p-polled", "polled", split.polled_ns),
        ("p-idle", "idle", split.halted_ns.saturating_sub(split.polled_ns)),
    ];
    let total = float(counters.time_ns);
    bars::parts(m, &parts.map(|(class, name, ns)| (class, name, float(ns) / total)));
    let said: Vec<String> = parts
        .iter()
        .filter(|(.., ns)| *ns > 0)
        .map(|(_, name, ns)| format!("{name} {} ({})", unit::time(*ns), unit::share(float(*ns) / total)))
        .collect();
    m.with("p", at!["class" = "hint"], |m| {
        m.format(format_args!("{} of host time: {}.", unit::time(counters.time_ns), said.join(", ")));
    });
}

/// Histogram of the host times.
fn times(m: &mut Markup, group: &Group, range: (usize, usize)) {
    let histogram = &group.counters.histogram;
    let q = |q: f64| group.percentile(q).map_or("-".into(), unit::time);
    let most = group.counters.extremes.map_or("-".into(), |extremes| unit::time(extremes.max_ns));
    bars::histogram(m, &name(group), histogram, range);
    m.with("p", at!["class" = "hint"], |m| {
        m.format(format_args!(
            "Half took up to {}, 95% up to {}, 99% up to {}, the longest {most}.",
            q(0.5),
            q(0.95),
            q(0.99)
        ));
    });
    m.with("details", &[], |m| {
        m.tag("summary", &[], "in figures");
        let heads = [Head("host time", false, ""), Head("exits", true, ""), Head("exits %", true, "")];
        table(m, &heads, |m| {
            for (bucket, count) in bars::filled(histogram) {
                m.with("tr", &[], |m| {
                    cell(m, &bars::reach(bucket));
                    number(m, &unit::count(count));
                    number(m, &unit::share(float(count) / float(histogram.count())));
                });
            }
        });
    });
}

/// Lists the details of the exits, and what KVM_RUN returned with.
fn about(m: &mut Markup, group: &Group) {
    let counters = &group.counters;
    let found = details::by_frequency(&counters.details);
    if !found.is_empty() {
        m.with("ul", at!["class" = "about"], |m| {
            for &(detail, DetailCounters { count, .. }) in found.iter().take(DETAILS) {
                m.with("li", &[], |m| {
                    let share = unit::share(float(count) / float(counters.count.max(1)));
                    m.format(format_args!("{}: {} ({share})", details::human(detail), unit::count(count)));
                });
            }
            let rest: u64 = found.iter().skip(DETAILS).map(|(_, counters)| counters.count).sum();
            if rest + counters.details.other.count > 0 {
                m.with("li", &[], |m| {
                    m.format(format_args!("others: {}", unit::count(rest + counters.details.other.count)))
                });
            }
        });
    }
    if !counters.returns.is_empty() {
        let returns = value::human(&Value::Returns(counters.returns.clone()));
        let exits = unit::counted(counters.split.user_exits, "exit");
        m.with("p", at!["class" = "hint"], |m| {
            m.format(format_args!("Out to user space: {exits}; KVM_RUN returned with {returns}."));
        });
    }
}
