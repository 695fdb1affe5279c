//! Small drawings beside figures: what a whole is made of, and how times are spread.

use super::markup::{Markup, Px, at};
use super::scale::Scale;
use crate::unit;
use exitscope_model::{BUCKETS, Histogram, float};

/// A bar of parts, each with the class of its colour, its name and its share of 1.
pub fn parts(m: &mut Markup, parts: &[(&'static str, &str, f64)]) {
    let wide = Scale::new(1.0, 0.0, 200.0);
    let attributes = at![
        "class" = "bar",
        "viewBox" = "0 0 200 12",
        "preserveAspectRatio" = "none",
        "aria-hidden" = "true"
    ];
    m.with("svg", attributes, |m| {
        let mut from = 0.0;
        for (class, name, share) in parts.iter().filter(|(.., share)| *share > 0.0) {
            let (left, right) = (wide.at(from), wide.at(from + share));
            let attributes = at!["class" = class, "x" = Px(left), "width" = Px(right - left), "height" = 12];
            m.with("rect", attributes, |m| {
                m.with("title", &[], |m| m.format(format_args!("{name} {}", unit::share(*share))));
            });
            from += share;
        }
    });
}

/// The buckets between the first and the last that hold anything.
pub fn filled(histogram: &Histogram) -> Vec<(usize, u64)> {
    let buckets = histogram.buckets();
    let first = buckets.iter().position(|count| *count > 0).unwrap_or(0);
    let last = buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    (first..last).map(|bucket| (bucket, buckets[bucket])).collect()
}

/// Drawing of a histogram: a bar for each power of two, all drawings of a page with the same range of
/// buckets.
pub fn histogram(m: &mut Markup, name: &str, histogram: &Histogram, (first, last): (usize, usize)) {
    let buckets = filled(histogram);
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let (width, height, base) = (320.0, 92.0, 72.0);
    let number = float((last + 1).saturating_sub(first).max(1) as u64);
    let each = (width / number).min(40.0);
    let x = |bucket: usize| float((bucket - first) as u64) * each;
    let y = Scale::new(float(most), base, 4.0);
    let label = format!("how long {name} took");
    let attributes = at![
        "class" = "histogram",
        "viewBox" = format!("0 0 {width} {height}"),
        "role" = "img",
        "aria-label" = label
    ];
    m.with("svg", attributes, |m| {
        for (bucket, count) in buckets {
            if count == 0 {
                continue;
            }
            // What is there is seen, however little it is.
            let top = y.at(float(count)).min(base - 1.5);
            let attributes = at![
                "class" = "bucket",
                "x" = Px(x(bucket) + 0.5),
                "y" = Px(top),
                "width" = Px(each - 1.0),
                "height" = Px(base - top)
            ];
            m.with("rect", attributes, |m| {
                m.with("title", &[], |m| {
                    m.format(format_args!("{}: {}", reach(bucket), unit::counted(count, "exit")));
                });
            });
        }
        m.leaf("line", at!["class" = "axis", "x1" = 0, "x2" = width, "y1" = base, "y2" = base]);
        // A power of ten each, or of a thousand where there is no room.
        let reach = float(first as u64)..=float(last as u64 + 1);
        let step = if each * 10f64.log2() < 48.0 { 3 } else { 1 };
        for power in (0..12).step_by(step) {
            let ns = 10u64.pow(power);
            let place = float(ns).log2();
            if reach.contains(&place) {
                let at = (place - reach.start()) * each;
                let class = match at {
                    at if at < 20.0 => "faint",
                    at if at > width - 20.0 => "faint end",
                    _ => "faint middle",
                };
                let x = Px(at);
                m.leaf("line", at!["class" = "axis", "x1" = x, "x2" = x, "y1" = base, "y2" = base + 4.0]);
                m.tag("text", at!["class" = class, "x" = x, "y" = base + 16.0], &round(ns));
            }
        }
    });
}

/// A power of ten of nanoseconds in its unit.
fn round(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}

/// The times of a bucket, as people read them.
pub fn reach(bucket: usize) -> String {
    let bounds = Histogram::bounds(bucket);
    if bucket + 1 == BUCKETS {
        format!("{} and more", unit::time(*bounds.start()))
    } else {
        format!("{} to {}", unit::time(*bounds.start()), unit::time(bounds.end() + 1))
    }
}
