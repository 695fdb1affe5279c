//! The picture of a machine's life: exits over time by reason, with phases, spikes, marks and what it said
//! beside them.

use super::chart::{Chart, Column};
use super::labels::{Label, place, width};
use super::markup::{Markup, Px, at};
use super::scale::{self, Scale};
use super::theme::KINDS;
use crate::{text, unit};
use exitscope_analysis::boot_report::BootReport;
use exitscope_model::float;
use std::fmt::Write;
use std::time::Duration;

/// Size of a drawing, and its parts.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its class in the page; empty for a picture of its own.
    pub class: &'static str,
    /// Width of the drawing, in pixels.
    pub width: f64,
    /// Height of the part with the rates, in pixels.
    pub height: f64,
    /// Lines that the names of phases may take.
    pub lines: usize,
    /// Number of marks on the axis of time, about.
    pub ticks: u32,
    /// True if each column has a title that tells what is under the pointer: where nothing else does.
    pub titles: bool,
}

/// In a page on a screen.
pub const WIDE: Shape =
    Shape { class: "wide", width: 900.0, height: 300.0, lines: 3, ticks: 9, titles: true };
/// In a page on a phone.
pub const NARROW: Shape =
    Shape { class: "narrow", width: 400.0, height: 230.0, lines: 4, ticks: 4, titles: false };
/// For a text or a paper.
pub const ALONE: Shape =
    Shape { class: "", width: 1200.0, height: 360.0, lines: 3, ticks: 11, titles: false };

/// The size of text, in pixels; the drawing's style says the same.
pub const TEXT: f64 = 12.0;
const LINE: f64 = 16.0;
/// The longest name of a phase or mark, in columns.
const NAME: usize = 28;
/// Number of spikes that are numbered.
const NUMBERED: usize = 30;
/// Number of phases that are drawn: no drawing has room for more, and a console chooses how many there are.
pub const MOST_PHASES: usize = 200;
/// Number of marks that are drawn, likewise.
pub const MOST_MARKS: usize = 500;

impl Shape {
    /// Number of columns that are drawn: one for each two pixels.
    pub fn room(&self) -> usize {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let room = ((self.right() - self.left()) / 2.0) as usize;
        room
    }

    fn left(&self) -> f64 {
        if self.class == "narrow" { 46.0 } else { 64.0 }
    }

    fn right(&self) -> f64 {
        self.width - 14.0
    }
}

/// Layout of a drawing.
struct Places {
    time: Scale,
    rate: Scale,
    /// The names of phases stand below this.
    phases: f64,
    /// The part with the rates.
    top: f64,
    bottom: f64,
    /// The middle of the line that shows when the console had something to say.
    console: f64,
    /// Text on the axis of time.
    axis: f64,
    marks: f64,
    end: f64,
}

/// Height of a drawing, and the function that draws it, `above` pixels below the top.
pub struct Drawing<'a> {
    boot: &'a BootReport,
    chart: &'a Chart,
    shape: Shape,
    phases: Vec<Label>,
    marks: Vec<Label>,
    places: Places,
}

impl<'a> Drawing<'a> {
    /// Lays everything out.
    pub fn new(boot: &'a BootReport, chart: &'a Chart, shape: Shape, above: f64) -> Drawing<'a> {
        let (left, right) = (shape.left(), shape.right());
        let time = Scale::between(chart.start.as_secs_f64(), chart.end.as_secs_f64(), left, right);
        let x = |at: Duration| time.at(at.as_secs_f64());
        let phases = boot.series.stretches().iter().take(MOST_PHASES).map(|stretch| {
            let name = text::clean(&stretch.name, NAME);
            (x(stretch.whole.at), x(stretch.whole.end()), name)
        });
        let phases = place(phases, right, shape.lines);
        let marks = boot.marks.iter().take(MOST_MARKS).enumerate().map(|(number, mark)| {
            // Of several alike the first has the name.
            let again = number > 0 && boot.marks[number - 1].text == mark.text;
            (x(mark.at), x(mark.at), if again { String::new() } else { text::clean(&mark.text, NAME) })
        });
        let marks = place(marks, right, 2);
        let lines = |labels: &[Label]| {
            labels.iter().filter_map(|label| label.line).max().map_or(0.0, |line| float(line as u64) + 1.0)
        };
        let names = above + LINE + 4.0;
        // Below the names the numbers of the spikes.
        let top = names + lines(&phases) * LINE + LINE + 8.0;
        let bottom = top + shape.height;
        let said = if boot.console.is_empty() { 0.0 } else { 14.0 };
        let axis = bottom + said + LINE + 2.0;
        let marked = axis + LINE + 4.0;
        let end = marked + lines(&marks) * LINE;
        let rate = Scale::new(chart.highest * 1.02, bottom, top);
        let console = bottom + 9.0;
        let places = Places { time, rate, phases: names, top, bottom, console, axis, marks: marked, end };
        Drawing { boot, chart, shape, phases, marks, places }
    }

    /// The lower end.
    pub fn end(&self) -> f64 {
        self.places.end
    }

    fn x(&self, at: Duration) -> f64 {
        self.places.time.at(at.as_secs_f64())
    }

    /// Where the time begins and ends, in pixels.
    pub fn reach(&self) -> (f64, f64) {
        (self.shape.left(), self.shape.right())
    }

    /// Draws it.
    pub fn draw(&self, m: &mut Markup) {
        self.bands(m);
        self.stems(m);
        self.grid(m);
        self.areas(m);
        self.names(m);
        self.console(m);
        self.spikes(m);
        self.marks(m);
        if self.shape.titles {
            self.titles(m);
        }
        if !self.shape.class.is_empty() {
            let Places { top, bottom, .. } = self.places;
            let x = self.shape.left();
            m.leaf("line", at!["class" = "cross", "x1" = x, "x2" = x, "y1" = Px(top), "y2" = Px(bottom)]);
        }
    }

    /// Every other phase is shaded, and each has its name where it begins.
    fn bands(&self, m: &mut Markup) {
        let Places { top, bottom, phases, .. } = self.places;
        for (number, (stretch, label)) in self.boot.series.stretches().iter().zip(&self.phases).enumerate() {
            let (from, to) = (self.x(stretch.whole.at), self.x(stretch.whole.end()));
            if number % 2 == 1 {
                let attributes = at![
                    "class" = "band",
                    "x" = Px(from),
                    "y" = Px(top),
                    "width" = Px(to - from),
                    "height" = Px(bottom - top)
                ];
                m.leaf("rect", attributes);
            }
            let line = label.line.map_or(top, |line| phases + float(line as u64) * LINE + 5.0);
            if number > 0 {
                m.leaf(
                    "line",
                    at![
                        "class" = "edge",
                        "x1" = Px(from),
                        "x2" = Px(from),
                        "y1" = Px(line),
                        "y2" = Px(bottom)
                    ],
                );
            }
        }
        for label in &self.phases {
            if let Some(line) = label.line {
                let y = phases + float(line as u64) * LINE + TEXT + 3.0;
                let class = if label.flip { "phase end" } else { "phase" };
                m.tag("text", at!["class" = class, "x" = Px(label.x), "y" = Px(y)], &label.text);
            }
        }
    }

    fn grid(&self, m: &mut Markup) {
        let Places { rate, bottom, axis, .. } = self.places;
        let (left, right) = self.reach();
        let title = "exits per second";
        m.tag("text", at!["class" = "faint", "x" = Px(4.0), "y" = Px(self.places.phases - 6.0)], title);
        for tick in scale::ticks(0.0, self.chart.highest, 5) {
            let y = rate.at(tick);
            m.leaf(
                "line",
                at!["class" = "grid", "x1" = Px(left), "x2" = Px(right), "y1" = Px(y), "y2" = Px(y)],
            );
            let text = short(tick);
            m.tag("text", at!["class" = "faint end", "x" = Px(left - 6.0), "y" = Px(y + 4.0)], &text);
        }
        let most = self.chart.end;
        for tick in scale::times(self.chart.start, most, self.shape.ticks) {
            let x = self.places.time.at(tick);
            m.leaf(
                "line",
                at!["class" = "axis", "x1" = Px(x), "x2" = Px(x), "y1" = Px(bottom), "y2" = Px(bottom + 4.0)],
            );
            let class = if x > right - 20.0 { "faint end" } else { "faint middle" };
            m.tag("text", at!["class" = class, "x" = Px(x), "y" = Px(axis)], &scale::clock(tick, most));
        }
        m.leaf(
            "line",
            at!["class" = "axis", "x1" = Px(left), "x2" = Px(right), "y1" = Px(bottom), "y2" = Px(bottom)],
        );
    }

    /// Each kind's area, the most frequent at the bottom, and the mean where columns show the busiest of
    /// several.
    fn areas(&self, m: &mut Markup) {
        let columns = &self.chart.columns;
        let mut base = vec![0.0; columns.len()];
        let mut labels = Vec::new();
        for (number, kind) in self.chart.kinds.iter().enumerate() {
            let tops: Vec<f64> = columns
                .iter()
                .zip(&base)
                .map(|(column, base)| base + column.parts.get(number).copied().unwrap_or(0.0))
                .collect();
            let class = format!("k{}", kind.color.min(KINDS));
            m.leaf("path", at!["class" = class, "d" = self.area(&base, &tops)]);
            labels.extend(self.inside(&base, &tops, &kind.name).map(|(x, y)| (x, y, kind)));
            base = tops;
        }
        if self.chart.is_crowded() {
            let mut path = String::new();
            for column in columns {
                let y = Px(self.places.rate.at(column.mean()));
                let (from, to) = (Px(self.x(column.from)), Px(self.x(column.to)));
                let command = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{command}{from} {y}H{to}");
            }
            m.leaf("path", at!["class" = "mean", "d" = path]);
        }
        for (x, y, kind) in labels {
            let class = if kind.color == 0 { "on first" } else { "on" };
            m.tag("text", at!["class" = class, "x" = Px(x), "y" = Px(y)], &kind.name);
        }
    }

    /// The area between two lines of steps; columns with time between them are areas of their own.
    fn area(&self, base: &[f64], tops: &[f64]) -> String {
        let columns = &self.chart.columns;
        let y = |rate: f64| Px(self.places.rate.at(rate));
        let mut path = String::new();
        let mut first = 0;
        while first < columns.len() {
            let gap = (first + 1..columns.len()).find(|&next| columns[next].from > columns[next - 1].to);
            let last = gap.unwrap_or(columns.len());
            let forth = (first..last).map(|place| (columns[place].to, tops[place]));
            let back = (first..last).rev().map(|place| (columns[place].from, base[place]));
            let _ = write!(path, "M{} {}", Px(self.x(columns[first].from)), y(base[first]));
            self.steps(&mut path, forth);
            self.steps(&mut path, back);
            path.push('Z');
            first = last;
        }
        path
    }

    /// A line of steps, each at its height up to its end; those of the same height are one.
    fn steps(&self, path: &mut String, steps: impl Iterator<Item = (Duration, f64)>) {
        let mut last: Option<(String, f64)> = None;
        for (end, rate) in steps {
            let y = Px(self.places.rate.at(rate)).to_string();
            if let Some((_, x)) = last.as_ref().filter(|(height, _)| *height != y) {
                let _ = write!(path, "H{}", Px(*x));
                last = None;
            }
            if last.is_none() {
                let _ = write!(path, "V{y}");
            }
            last = Some((y, self.x(end)));
        }
        if let Some((_, x)) = last {
            let _ = write!(path, "H{}", Px(x));
        }
    }

    /// Where in an area there is most room for its name; `None` where there is too little.
    fn inside(&self, base: &[f64], tops: &[f64], name: &str) -> Option<(f64, f64)> {
        let columns = &self.chart.columns;
        let needed = width(name) + 8.0;
        let mut best: Option<(f64, f64, f64)> = None;
        let mut last = 0;
        for first in 0..columns.len() {
            let from = self.x(columns[first].from);
            last = last.max(first);
            while last < columns.len() && self.x(columns[last].to) - from < needed {
                last += 1;
            }
            if last == columns.len() {
                break;
            }
            let floor = base[first..=last].iter().fold(0.0, |a: f64, b| a.max(*b));
            let ceiling = tops[first..=last].iter().fold(f64::MAX, |a: f64, b| a.min(*b));
            let (low, high) = (self.places.rate.at(floor), self.places.rate.at(ceiling));
            if low - high >= 15.0 && best.is_none_or(|(room, ..)| low - high > room + 2.0) {
                best = Some((low - high, from + needed / 2.0, (low + high) / 2.0 + 4.0));
            }
        }
        best.map(|(_, x, y)| (x, y))
    }

    fn names(&self, m: &mut Markup) {
        if self.chart.columns.is_empty() || self.chart.highest == 0.0 {
            let (left, right) = self.reach();
            let y = (self.places.top + self.places.bottom) / 2.0;
            m.tag(
                "text",
                at!["class" = "faint middle", "x" = Px((left + right) / 2.0), "y" = Px(y)],
                "no exit",
            );
        }
    }

    /// A stroke for each pixel in whose time a line began.
    fn console(&self, m: &mut Markup) {
        let y = self.places.console;
        let mut path = String::new();
        let mut last = f64::MIN;
        for line in &self.boot.console {
            let x = self.x(line.at).round();
            if x > last && (self.chart.start..=self.chart.end).contains(&line.at) {
                let _ = write!(path, "M{} {}v7", Px(x), Px(y - 3.0));
                last = x;
            }
        }
        if !path.is_empty() {
            m.leaf("path", at!["class" = "said", "d" = path]);
            let left = self.shape.left();
            m.tag(
                "text",
                at!["class" = "faint small end", "x" = Px(left - 6.0), "y" = Px(y + 4.0)],
                "console",
            );
        }
    }

    /// A triangle over each spike, with its number in the table where there is room for it.
    fn spikes(&self, m: &mut Markup) {
        let y = self.places.top - 2.0;
        let mut largest: Vec<f64> = self.boot.spikes.iter().map(|spike| spike.excess).collect();
        largest.sort_by(|a, b| b.total_cmp(a));
        let least = largest.get(NUMBERED.min(largest.len()).saturating_sub(1)).copied().unwrap_or(0.0);
        let (mut free, mut drawn) = (f64::MIN, f64::MIN);
        for (number, spike) in self.boot.spikes.iter().enumerate() {
            let x = self.x(spike.at + spike.length / 2);
            let name = (number + 1).to_string();
            let half = width(&name) / 2.0 + 2.0;
            let named = spike.excess >= least && x - half > free;
            // One for each pixel is enough.
            if !named && x.round() <= drawn {
                continue;
            }
            drawn = x.round();
            let rate = unit::rate(float(spike.exits) / spike.length.as_secs_f64().max(1e-9));
            let path = format!("M{} {}h8l-4 6z", Px(x - 4.0), Px(y - 6.0));
            m.with("path", at!["class" = "spike", "d" = path, "data-at" = spike.at.as_secs_f64()], |m| {
                let (at, length) = (unit::duration(spike.at), unit::duration(spike.length));
                m.with("title", &[], |m| {
                    m.format(format_args!(
                        "Spike {}: at {at} for {length}, {rate} exits per second",
                        number + 1
                    ));
                });
            });
            if named {
                m.tag("text", at!["class" = "number", "x" = Px(x), "y" = Px(y - 9.0)], &name);
                free = x + half;
            }
        }
    }

    /// From marks down to their names.
    fn stems(&self, m: &mut Markup) {
        let Places { bottom, marks, .. } = self.places;
        for (mark, label) in self.boot.marks.iter().zip(&self.marks) {
            if let Some(line) = label.line {
                let y = marks + float(line as u64) * LINE + TEXT;
                m.leaf(
                    "path",
                    at!["class" = "mark", "d" = format!("M{} {}V{}", Px(self.x(mark.at)), Px(bottom), Px(y))],
                );
            }
        }
    }

    fn marks(&self, m: &mut Markup) {
        let Places { top, bottom, marks, .. } = self.places;
        let mut drawn = f64::MIN;
        for (mark, label) in self.boot.marks.iter().zip(&self.marks) {
            let x = self.x(mark.at);
            // One for each pixel is enough.
            if label.line.is_none() && x.round() <= drawn {
                continue;
            }
            drawn = x.round();
            let y = label.line.map_or(bottom, |line| marks + float(line as u64) * LINE);
            let path = format!("M{} {}V{}", Px(x), Px(top), Px(bottom));
            m.with("path", at!["class" = "mark", "d" = path], |m| {
                m.with("title", &[], |m| {
                    m.format(format_args!("{}: {}", unit::duration(mark.at), text::clean(&mark.text, 200)));
                });
            });
            if label.line.is_some() {
                let class = if label.flip { "marked end" } else { "marked" };
                m.tag("text", at!["class" = class, "x" = Px(label.x), "y" = Px(y + TEXT)], &label.text);
            }
        }
    }

    /// Titles of the columns, for readers without the script.
    fn titles(&self, m: &mut Markup) {
        let Places { top, bottom, .. } = self.places;
        m.with("g", at!["class" = "titles"], |m| {
            for column in &self.chart.columns {
                let (from, to) = (self.x(column.from), self.x(column.to));
                let attributes =
                    at!["x" = Px(from), "y" = Px(top), "width" = Px(to - from), "height" = Px(bottom - top)];
                m.with("rect", attributes, |m| m.tag("title", &[], &self.told(column)));
            }
        });
    }

    fn told(&self, column: &Column) -> String {
        let mut said =
            format!("{} s: {} exits per second", scale::moment(column.from), unit::rate(column.highest));
        let mut parts: Vec<_> =
            self.chart.kinds.iter().zip(&column.parts).filter(|(_, rate)| **rate > 0.0).collect();
        parts.sort_by(|a, b| b.1.total_cmp(a.1));
        for (kind, rate) in parts.into_iter().take(3) {
            let _ = write!(said, ", {} {}", kind.name, unit::rate(*rate));
        }
        said
    }
}

/// A rate as an axis names it: `0`, `500`, `20k`, `1.5M`.
fn short(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{}M", r / 1e6),
        r if r >= 10_000.0 => format!("{}k", r / 1e3),
        r => format!("{}", (r * 1e6).round() / 1e6),
    }
}
