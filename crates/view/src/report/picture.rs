//! The timeline as a picture of its own, for a text or a paper.

use super::Story;
use super::chart::Chart;
use super::labels::width;
use super::markup::{Markup, Px, at};
use super::page::{DRAWING, title};
use super::theme::Theme;
use super::timeline::{ALONE, Drawing, TEXT};
use crate::{prose, text, unit};
use exitscope_model::float;

/// Distance between lines of the legend.
const LINE: f64 = 20.0;

/// The timeline in SVG, 1200 wide, with its title and its legend.
pub fn svg(story: &Story, theme: Theme) -> String {
    let chart = Chart::new(&story.boot.series, story.boot.whole.source, ALONE.room());
    let drawing = Drawing::new(story.boot, &chart, ALONE, 58.0);
    let (left, right) = drawing.reach();
    let legend = legend(&chart, left, right);
    let lines = legend.last().map_or(1.0, |(_, line, _)| line + 1.0);
    let below = drawing.end() + 10.0;
    let height = below + lines * LINE + 6.0;

    let mut m = Markup::new();
    let attributes = at![
        "xmlns" = "http://www.w3.org/2000/svg",
        "width" = ALONE.width,
        "height" = Px(height),
        "viewBox" = format!("0 0 {} {}", ALONE.width, Px(height)),
        "role" = "img"
    ];
    m.with("svg", attributes, |m| {
        m.with("title", &[], |m| m.format(format_args!("VM exits of {}", title(story))));
        // Colours and sizes alone: nothing to escape.
        m.with("style", &[], |m| m.text(&theme.fill(DRAWING).replace('\n', " ")));
        m.leaf("rect", at!["class" = "paper", "width" = "100%", "height" = "100%"]);
        m.with("text", at!["class" = "title", "x" = 4, "y" = 22], |m| {
            m.format(format_args!("VM exits of {}", title(story)));
        });
        m.tag("text", at!["class" = "faint", "x" = 4, "y" = 42], &subtitle(story));
        drawing.draw(m);
        for (x, line, kind) in &legend {
            let kind = &chart.kinds[*kind];
            let y = below + line * LINE;
            let class = format!("k{}", kind.color);
            m.leaf("rect", at!["class" = class, "x" = Px(*x), "y" = Px(y), "width" = 12, "height" = 12]);
            m.tag(
                "text",
                at!["class" = "plain", "x" = Px(x + 17.0), "y" = Px(y + 10.5)],
                &name(&chart, kind.color),
            );
        }
    });
    m.constant("\n");
    m.finish()
}

fn name(chart: &Chart, color: usize) -> String {
    let all: u64 = chart.kinds.iter().map(|kind| kind.exits).sum();
    let kind = chart.kinds.iter().find(|kind| kind.color == color);
    kind.map_or(String::new(), |kind| {
        format!("{} {}", kind.name, unit::share(float(kind.exits) / float(all.max(1))))
    })
}

/// Place, line and number of each kind.
fn legend(chart: &Chart, left: f64, right: f64) -> Vec<(f64, f64, usize)> {
    let (mut x, mut line) = (left, 0.0);
    let mut places = Vec::new();
    for (number, kind) in chart.kinds.iter().enumerate() {
        let wide = width(&name(chart, kind.color)) + 17.0 + TEXT * 1.5;
        if x + wide > right && x > left {
            (x, line) = (left, line + 1.0);
        }
        places.push((x, line, number));
        x += wide;
    }
    places
}

fn subtitle(story: &Story) -> String {
    let all = story.boot.series.whole();
    let mut said = format!(
        "{} in {}, {} per second; {}",
        unit::counted(all.exits, "exit"),
        unit::duration(all.length),
        unit::rate(all.rate()),
        prose::date(story.boot.whole.start)
    );
    let kernel = story.facts.kernel.split_whitespace().next().unwrap_or_default();
    if !kernel.is_empty() {
        said += &format!("; Linux {}", text::clean(kernel, 40));
    }
    if !story.facts.cpu.trim().is_empty() {
        said += &format!(", {}", text::clean(&story.facts.cpu, 60));
    }
    if story.boot.spikes.is_empty() { said } else { said + ". Triangles are spikes." }
}
