//! The page, from top to bottom.

use super::chart::Chart;
use super::markup::{Markup, at};
use super::timeline::{Drawing, MOST_MARKS, MOST_PHASES, NARROW, Shape, WIDE};
use super::{Story, console, facts, reasons, tables, theme, vcpus};
use crate::{answers, prose, text, unit};
use exitscope_analysis::outcome::Kind;
use exitscope_model::{Source, float};

const STYLE: &str = include_str!("assets/page.css");
/// The style of drawings, which a picture of its own has too.
pub const DRAWING: &str = include_str!("assets/drawing.css");
/// Script that ties the parts of a page together.
pub const SCRIPT: &str = include_str!("assets/page.js");

/// Hash of the only script that a browser may run. A test says what it has to be.
const SCRIPT_HASH: &str = "sha256-7XvKHqYjP77QTM94arhyjlK/gI3Z6bl3L5jLoCbglIM=";

/// The page as one file.
pub fn html(story: &Story) -> String {
    let wide = Chart::new(&story.boot.series, story.boot.whole.source, WIDE.room());
    let narrow = Chart::new(&story.boot.series, story.boot.whole.source, NARROW.room());
    let mut m = Markup::new();
    m.constant("<!DOCTYPE html>");
    let root = at!["lang" = "en", "xmlns" = "http://www.w3.org/1999/xhtml"];
    m.with("html", root, |m| {
        m.with("head", &[], |m| head(m, story));
        m.with("body", &[], |m| {
            m.with("main", &[], |m| {
                header(m, story);
                m.with(
                    "div",
                    at!["class" = if story.boot.console.is_empty() { "over" } else { "over two" }],
                    |m| {
                        timeline(m, story, &wide, &narrow);
                        console::section(m, story.boot);
                    },
                );
                tables::spikes(m, story.boot);
                tables::phases(m, story.boot);
                tables::marks(m, story.boot);
                tables::vms(m, story);
                reasons::sections(m, story, &wide);
                tables::ports(m, story);
                vcpus::section(m, story);
                facts::section(m, story);
            });
            m.with("script", &[], |m| m.constant(SCRIPT));
        });
    });
    m.constant("\n");
    m.finish()
}

/// Title of the page.
pub fn title(story: &Story) -> String {
    let mut vms = story.boot.whole.vms.values();
    match (vms.next(), vms.count()) {
        (None, _) => "No virtual machine".into(),
        (Some(vm), 0) => prose::vm_name(vm),
        (Some(vm), more) => format!("{} and {}", prose::vm_name(vm), unit::counted(more as u64, "other VM")),
    }
}

fn head(m: &mut Markup, story: &Story) {
    m.leaf("meta", at!["charset" = "utf-8"]);
    let policy = format!(
        "default-src 'none'; script-src '{SCRIPT_HASH}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    );
    m.leaf("meta", at!["http-equiv" = "Content-Security-Policy", "content" = policy]);
    m.leaf("meta", at!["name" = "viewport", "content" = "width=device-width, initial-scale=1"]);
    m.leaf("meta", at!["name" = "color-scheme", "content" = "light dark"]);
    m.leaf(
        "meta",
        at!["name" = "generator", "content" = format!("exitscope {}", text::clean(&story.facts.tool, 40))],
    );
    m.with("title", &[], |m| m.format(format_args!("VM exits of {}", title(story))));
    m.with("style", &[], |m| {
        // Colours, numbers and no name: nothing to escape.
        m.text(&theme::variables());
        m.constant(DRAWING);
        m.constant(STYLE);
    });
}

fn header(m: &mut Markup, story: &Story) {
    let (boot, whole) = (story.boot, &story.boot.whole);
    m.with("header", &[], |m| {
        m.with("h1", &[], |m| m.format(format_args!("VM exits of {}", title(story))));
        m.with("p", at!["class" = "hint"], |m| {
            m.format(format_args!("{}", prose::heading(whole).text));
            if !story.facts.host.trim().is_empty() {
                m.format(format_args!(", on {}", text::clean(&story.facts.host, 60)));
            }
        });
        if let Some(outcome) = &boot.outcome {
            let class = match outcome.kind {
                Kind::Reached => "good",
                Kind::Ended | Kind::Interrupted => "plain",
                Kind::Failed | Kind::BeganAgain | Kind::TimedOut => "alarm",
            };
            m.with("p", at!["class" = class], |m| m.prose(&answers::outcome(boot, outcome)));
        }
        let all = boot.series.whole();
        m.with("dl", at!["class" = "tiles"], |m| {
            let mut tile = |name: &str, value: &str| {
                m.with("div", &[], |m| {
                    m.tag("dt", &[], name);
                    m.tag("dd", &[], value);
                });
            };
            tile("exits", &unit::count(all.exits));
            tile("time", &unit::duration(all.length));
            tile("exits per second", &unit::rate(all.rate()));
            if whole.source != Source::KvmStat {
                let first = all.by_frequency().into_iter().next();
                if let Some((code, count)) = first {
                    let name = exitscope_reason::name(code);
                    tile("most frequent", &format!("{name} {}", unit::share(all.part(count))));
                }
            }
            tile("spikes", &unit::count(boot.spikes.len() as u64));
        });
    });
    m.with("section", at!["id" = "answers"], |m| {
        m.tag("h2", &[], "In words");
        m.with("ul", at!["class" = "answers"], |m| {
            for answer in answers::answers(boot) {
                m.with("li", &[], |m| m.prose(&answer));
            }
        });
    });
}

fn timeline(m: &mut Markup, story: &Story, wide: &Chart, narrow: &Chart) {
    m.with("section", at!["id" = "timeline"], |m| {
        m.tag("h2", &[], "Timeline");
        m.with("p", at!["class" = "legend"], |m| legend(m, wide));
        drawing(m, story, wide, WIDE);
        drawing(m, story, narrow, NARROW);
        m.tag("p", at!["class" = "readout", "aria-live" = "polite"], "");
        m.with("p", at!["class" = "hint"], |m| explain(m, story, wide));
        tables::columns(m, wide);
    });
}

/// Each colour's name, with its part of the exits.
fn legend(m: &mut Markup, chart: &Chart) {
    let all: u64 = chart.kinds.iter().map(|kind| kind.exits).sum();
    for kind in &chart.kinds {
        m.with("span", at!["class" = format!("key k{}", kind.color)], |m| {
            m.format(format_args!("{} {}", kind.name, unit::share(float(kind.exits) / float(all.max(1)))));
        });
    }
}

fn explain(m: &mut Markup, story: &Story, chart: &Chart) {
    let boot = story.boot;
    if story.boot.whole.source != Source::KvmStat {
        m.text("Exits per second, stacked by reason. ");
    }
    if let Some(slices) = chart.joined {
        let (slices, columns) = (unit::count(slices as u64), unit::count(chart.columns.len() as u64));
        let mean = if chart.is_crowded() { ", and the line their mean" } else { "" };
        m.format(format_args!(
            "There are {slices} slices of time, more than there is room for: each of the {columns} columns shows the \
             busiest of its slices{mean}. "
        ));
    }
    if !boot.spikes.is_empty() {
        m.text("A triangle is a spike, with its number in the table. ");
    }
    if boot.series.stretches().len() > 1 {
        m.text("Shades are phases. ");
    }
    for (all, most, what) in
        [(boot.series.stretches().len(), MOST_PHASES, "phases"), (boot.marks.len(), MOST_MARKS, "marks")]
    {
        if all > most {
            let all = unit::count(all as u64);
            m.format(format_args!("There are {all} {what}, of which the first {most} are drawn. "));
        }
    }
    if !boot.console.is_empty() {
        m.text("The strokes below show when the machine said something. ");
    }
    m.with("span", at!["class" = "script"], |m| m.text("Point anywhere, or use the arrow keys."));
}

fn drawing(m: &mut Markup, story: &Story, chart: &Chart, shape: Shape) {
    let drawing = Drawing::new(story.boot, chart, shape, 0.0);
    let (left, right) = drawing.reach();
    let attributes = at![
        "class" = format!("timeline {}", shape.class),
        "viewBox" = format!("0 0 {} {}", shape.width, drawing.end().ceil()),
        "role" = "img",
        "aria-label" = "exits per second over time; the same is in the table below, in figures",
        "tabindex" = 0,
        "data-left" = left,
        "data-right" = right,
        "data-start" = chart.start.as_secs_f64(),
        "data-end" = chart.end.as_secs_f64()
    ];
    m.with("svg", attributes, |m| drawing.draw(m));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_knows_the_script() {
        use sha2::{Digest, Sha256};
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut hash = String::from("sha256-");
        for three in Sha256::digest(SCRIPT).chunks(3) {
            let bits =
                three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for place in 0..4 {
                let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap();
                hash.push(if place <= three.len() { char::from(DIGITS[digit]) } else { '=' });
            }
        }
        assert_eq!(SCRIPT_HASH, hash);
    }
}
