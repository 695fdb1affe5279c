//! Families of metrics, and how they are written.

use super::Exposition;
use crate::text;
use exitscope_model::figure::{Figure, Kind, Metric};
use std::collections::HashMap;
use std::io::Write;

/// The longest value of a label that somebody else chose, in columns.
pub const LONGEST: usize = 128;

/// Prefix of every name.
const PREFIX: &str = "exitscope_";

/// Type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number that only grows.
    Counter,
    /// A number.
    Gauge,
    /// Times in cumulative buckets.
    Histogram,
    /// Labels, with the number 1.
    Info,
}

/// Labels of a series, as they are written between the braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// No labels.
    pub const fn new() -> Labels {
        Labels(String::new())
    }

    /// These and another one, whose value may be anything.
    pub fn and(&self, name: &str, value: &str) -> Labels {
        let mut text = self.0.clone();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in text::clean(value, LONGEST).chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                _ => text.push(c),
            }
        }
        text.push('"');
        Labels(text)
    }

    /// These and another one, if it has a value.
    pub fn and_some(self, name: &str, value: Option<&str>) -> Labels {
        match value {
            Some(value) => self.and(name, value),
            None => self,
        }
    }

    /// These and others.
    pub fn with(&self, more: &Labels) -> Labels {
        match (self.0.is_empty(), more.0.is_empty()) {
            (_, true) => self.clone(),
            (true, _) => more.clone(),
            _ => Labels(format!("{},{}", self.0, more.0)),
        }
    }
}

/// A metric with all its series.
struct Family {
    name: String,
    kind: Type,
    unit: &'static str,
    help: String,
    lines: Vec<u8>,
    series: usize,
}

/// Place of a family in [`Families`].
#[derive(Clone, Copy, Debug)]
pub struct Place(usize);

/// Lengths of all families at a moment, to go back to.
pub struct Mark(Vec<(usize, usize)>);

/// All families, in the order in which they came.
#[derive(Default)]
pub struct Families {
    list: Vec<Family>,
    places: HashMap<String, Place>,
}

impl Families {
    /// Finds a family by its name without prefix, or makes it. The unit is `seconds`, `bytes`, or empty.
    pub fn place(&mut self, name: &str, kind: Type, unit: &'static str, help: &str) -> Place {
        let name = if unit.is_empty() { format!("{PREFIX}{name}") } else { format!("{PREFIX}{name}_{unit}") };
        if let Some(place) = self.places.get(&name) {
            return *place;
        }
        let place = Place(self.list.len());
        self.places.insert(name.clone(), place);
        self.list.push(Family { name, kind, unit, help: help.into(), lines: Vec::new(), series: 0 });
        place
    }

    /// The family of a figure, with `before` in front of its name.
    pub fn of_figure(&mut self, before: &str, figure: &Figure, metric: &Metric) -> Place {
        let (kind, unit) = type_of(figure.kind);
        // Of details there is the whole time alone.
        let is_whole = metric.part.is_some() && !before.is_empty();
        let help = if metric.help.is_empty() || is_whole { figure.help } else { metric.help };
        self.place(&format!("{before}{}", metric.name), kind, unit, help)
    }

    /// Adds a series with a whole number.
    pub fn count(&mut self, place: Place, labels: &Labels, number: u64) {
        self.line(place, "", labels, |out| write!(out, "{number}"));
    }

    /// Adds a series with a whole number that may be negative.
    pub fn signed(&mut self, place: Place, labels: &Labels, number: i128) {
        self.line(place, "", labels, |out| write!(out, "{number}"));
    }

    /// Adds a series with a time.
    pub fn seconds(&mut self, place: Place, labels: &Labels, ns: u64) {
        self.line(place, "", labels, |out| write_seconds(out, ns));
    }

    /// Adds the series of a histogram: cumulative counts up to each bound (ns), count and sum (ns).
    pub fn histogram(
        &mut self,
        place: Place,
        labels: &Labels,
        buckets: &[(u64, u64)],
        count: u64,
        sum_ns: u64,
    ) {
        for (bound, below) in buckets {
            let mut le = Vec::new();
            // Writing to memory does not fail.
            let _ = write_seconds(&mut le, *bound);
            let labels = labels.and("le", &String::from_utf8_lossy(&le));
            self.line(place, "_bucket", &labels, |out| write!(out, "{below}"));
        }
        self.line(place, "_bucket", &labels.and("le", "+Inf"), |out| write!(out, "{count}"));
        self.line(place, "_count", labels, |out| write!(out, "{count}"));
        self.line(place, "_sum", labels, |out| write_seconds(out, sum_ns));
    }

    fn line(
        &mut self,
        place: Place,
        suffix: &str,
        labels: &Labels,
        value: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>,
    ) {
        let family = &mut self.list[place.0];
        let out = &mut family.lines;
        out.extend_from_slice(family.name.as_bytes());
        let suffix = match family.kind {
            Type::Counter => "_total",
            Type::Info => "_info",
            Type::Gauge | Type::Histogram => suffix,
        };
        out.extend_from_slice(suffix.as_bytes());
        if !labels.0.is_empty() {
            out.push(b'{');
            out.extend_from_slice(labels.0.as_bytes());
            out.push(b'}');
        }
        out.push(b' ');
        // Writing to memory does not fail.
        let _ = value(out);
        out.push(b'\n');
        family.series += 1;
    }

    /// Number of series in all families.
    pub fn series(&self) -> usize {
        self.list.iter().map(|family| family.series).sum()
    }

    /// Notes how long all families are.
    pub fn mark(&self) -> Mark {
        Mark(self.list.iter().map(|family| (family.lines.len(), family.series)).collect())
    }

    /// Takes away what came after `mark`.
    pub fn back_to(&mut self, mark: &Mark) {
        for (at, family) in self.list.iter_mut().enumerate() {
            let (length, series) = mark.0.get(at).copied().unwrap_or_default();
            family.lines.truncate(length);
            family.series = series;
        }
    }

    /// Writes all families that have a series.
    pub fn render(&self, format: Exposition) -> Vec<u8> {
        let length: usize = self.list.iter().map(|family| family.lines.len() + 300).sum();
        let mut out = Vec::with_capacity(length);
        for family in self.list.iter().filter(|family| family.series > 0) {
            family.head(format, &mut out);
            out.extend_from_slice(&family.lines);
        }
        if format == Exposition::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
        out
    }
}

impl Family {
    /// Writes type, unit and help. The formats differ in the name that these have, and in the types that they know.
    fn head(&self, format: Exposition, out: &mut Vec<u8>) {
        let (suffix, kind) = match (self.kind, format) {
            (Type::Counter, Exposition::Prometheus) => ("_total", "counter"),
            (Type::Counter, Exposition::OpenMetrics) => ("", "counter"),
            (Type::Info, Exposition::Prometheus) => ("_info", "gauge"),
            (Type::Info, Exposition::OpenMetrics) => ("", "info"),
            (Type::Gauge, _) => ("", "gauge"),
            (Type::Histogram, _) => ("", "histogram"),
        };
        let name = &self.name;
        let mut head = format!("# HELP {name}{suffix} {}\n# TYPE {name}{suffix} {kind}\n", self.help);
        if format == Exposition::OpenMetrics && !self.unit.is_empty() {
            head += &format!("# UNIT {name} {}\n", self.unit);
        }
        out.extend_from_slice(head.as_bytes());
    }
}

/// Type and unit of a figure's metric.
fn type_of(kind: Kind) -> (Type, &'static str) {
    match kind {
        Kind::Ns => (Type::Counter, "seconds"),
        Kind::Buckets => (Type::Histogram, "seconds"),
        _ => (Type::Counter, ""),
    }
}

/// Writes nanoseconds as seconds, exactly.
fn write_seconds(out: &mut Vec<u8>, ns: u64) -> std::io::Result<()> {
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    write!(out, "{seconds}")?;
    if rest > 0 {
        write!(out, ".{rest:09}")?;
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    Ok(())
}
