//! Lines of the console, as a list.

use super::markup::{Markup, at};
use super::scale;
use crate::{text, unit};
use exitscope_analysis::boot_report::BootReport;
use std::collections::BTreeSet;

/// The most lines in a page. Of more, those are chosen that are next to something that is told of, the first
/// and the last, and of the rest each so many.
const MOST: usize = 3000;
/// Lines shown on either side of a moment that is told of.
const AROUND: usize = 5;
/// Lines shown of the begin, and of the end.
const ENDS: usize = 300;
/// The longest line, in columns.
const LINE: usize = 240;

/// The lines that were last when a phase or spike began, or a spike ended, or something was marked.
fn told(boot: &BootReport) -> BTreeSet<usize> {
    let phases = boot.series.stretches().iter().map(|stretch| stretch.whole.at);
    let spikes = boot.spikes.iter().flat_map(|spike| [spike.at, spike.at + spike.length]);
    let moments = phases.chain(spikes).chain(boot.marks.iter().map(|mark| mark.at));
    moments
        .map(|moment| boot.console.partition_point(|line| line.at <= moment).saturating_sub(1))
        .filter(|place| *place < boot.console.len())
        .collect()
}

/// Lines that are in the page.
fn chosen(boot: &BootReport, told: &BTreeSet<usize>) -> Vec<usize> {
    let all = boot.console.len();
    if all <= MOST {
        return (0..all).collect();
    }
    let mut chosen: BTreeSet<usize> = (0..ENDS).chain(all - ENDS..all).collect();
    for &place in told {
        if chosen.len() + 2 * AROUND + 1 > MOST {
            break;
        }
        chosen.extend(place.saturating_sub(AROUND)..(place + AROUND + 1).min(all));
    }
    let step = all / (MOST + 1).saturating_sub(chosen.len()).max(1) + 1;
    for place in (0..all).step_by(step) {
        if chosen.len() < MOST {
            chosen.insert(place);
        }
    }
    chosen.into_iter().collect()
}

/// The section with the list; nothing where nothing was said.
pub fn section(m: &mut Markup, boot: &BootReport) {
    if boot.console.is_empty() {
        return;
    }
    let told = told(boot);
    let chosen = chosen(boot, &told);
    m.with("section", at!["class" = "console", "id" = "console"], |m| {
        m.tag("h2", &[], "Console");
        m.with("p", at!["class" = "hint"], |m| {
            m.format(format_args!(
                "{} in seconds since the start.",
                unit::counted(boot.console.len() as u64, "line")
            ));
            if chosen.len() < boot.console.len() {
                let shown = unit::count(chosen.len() as u64);
                m.format(format_args!(
                    " {shown} are here: those next to what is told of, and some of the rest."
                ));
            }
            if boot.left_out > 0 {
                let more = unit::counted(boot.left_out, "line");
                m.format(format_args!(" {more} came after that, and were not kept."));
            }
            if boot.bytes_left_out > 0 {
                let bytes = unit::counted(boot.bytes_left_out, "byte");
                m.format(format_args!(" {bytes} of lines that were too long were not kept."));
            }
            m.with("span", at!["class" = "script"], |m| {
                m.text(" Point at one to see its moment in the timeline.")
            });
            m.with("span", at!["class" = "paper"], |m| {
                m.text(" On paper only those next to what is told of.")
            });
        });
        m.with("ol", at!["class" = "lines", "tabindex" = 0], |m| {
            let mut next = 0;
            for place in chosen {
                if place > next {
                    let gap = unit::counted((place - next) as u64, "line");
                    m.with("li", at!["class" = "gap"], |m| m.format(format_args!("{gap} left out")));
                }
                next = place + 1;
                let line = &boot.console[place];
                let class = if told.contains(&place) { "told" } else { "" };
                let attributes = at!["class" = class, "data-at" = format!("{:.3}", line.at.as_secs_f64())];
                m.with("li", attributes, |m| {
                    m.tag("time", &[], &scale::moment(line.at));
                    m.tag("code", &[], &said(&line.text));
                });
            }
        });
    });
}

/// A line as a terminal would show it, without colours and the like.
pub fn said(line: &str) -> String {
    text::clean(text::on_terminal(line).trim_end(), LINE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_analysis::console::Line;
    use exitscope_analysis::series;
    use exitscope_model::fixture;
    use std::time::Duration;

    #[test]
    fn of_many_lines_those_are_there_that_are_told_of() {
        let mut slices: Vec<&[(i64, u64)]> = vec![&[(0x72, 100)]; 60];
        slices[30] = &[(0x72, 9000)];
        let mut boot = BootReport::new(fixture::busy(), series::fixture(&slices), "a signal".into());
        let line = |n: u64| Line { at: Duration::from_micros(60 * n), text: format!("line {n}") };
        boot.console = (0..100_000).map(line).collect();
        let told = told(&boot);
        let chosen = chosen(&boot, &told);
        assert!(chosen.len() <= MOST && chosen.len() > MOST - MOST / 20, "{}", chosen.len());
        assert_eq!(told.into_iter().collect::<Vec<_>>(), [0, 50_000, 51_666]);
        assert!((49_995..=50_005).all(|place| chosen.contains(&place)));
        assert!(chosen.contains(&99_999));
        let widest = chosen.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest < Some(100), "{widest:?}");
    }
}
