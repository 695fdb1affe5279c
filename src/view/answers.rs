//! What the figures of a boot say, in sentences.

use super::{text, unit};
use crate::boot::life::Life;
use crate::boot::series::{Series, Slice, Stretch};
use crate::boot::spike::Spike;
use crate::model::{ExitCode, float};
use crate::reason;
use std::fmt::Write;

/// A rate is called stable where its standard deviation is at most this part of its mean.
const STABLE: f64 = 0.25;

/// How many spikes are told one by one.
const TOLD: usize = 5;

/// How many columns of a console's line are shown.
const CONSOLE: usize = 60;

/// The answers, one sentence or a few each.
pub fn answers(life: &Life) -> Vec<String> {
    let whole = life.series.whole();
    if whole.exits == 0 {
        return vec![format!(
            "There was no exit in {} until {}: did the command start a VM?",
            unit::duration(whole.length),
            life.end
        )];
    }
    let mut answers = vec![
        format!(
            "{} in {} until {}: {} per second.",
            unit::counted(whole.exits, "exit"),
            unit::duration(whole.length),
            life.end,
            unit::rate(whole.rate())
        ),
        stability(&life.series, &whole),
        spikes(life),
    ];
    answers.extend(kinds(&whole));
    answers
}

fn stability(series: &Series, whole: &Slice) -> String {
    let mean = whole.rate();
    let seconds = whole.length.as_secs_f64();
    let variance: f64 = series
        .slices()
        .iter()
        .map(|slice| (slice.rate() - mean).powi(2) * slice.length.as_secs_f64() / seconds)
        .sum();
    let variation = variance.sqrt() / mean;
    let mut slices: Vec<&Slice> = series.slices().iter().filter(|slice| !slice.length.is_zero()).collect();
    slices.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    // The rate below which the machine was for this part of the time.
    let quantile = |part: f64| {
        let mut passed = 0.0;
        let found = slices.iter().find(|slice| {
            passed += slice.length.as_secs_f64();
            passed >= part * seconds
        });
        unit::rate(found.map_or(mean, |slice| slice.rate()))
    };
    let is = if variation <= STABLE { "is stable" } else { "is not stable" };
    format!(
        "The rate {is}: half of the time it was between {} and {} per second, a twentieth of the time below {}, and a \
         twentieth above {}; its standard deviation is {variation:.2} times its mean.",
        quantile(0.25),
        quantile(0.75),
        quantile(0.05),
        quantile(0.95)
    )
}

fn spikes(life: &Life) -> String {
    if life.spikes.is_empty() {
        return "No time stands out from what was around it.".into();
    }
    let exits: u64 = life.spikes.iter().map(|spike| spike.exits).sum();
    let mut largest: Vec<&Spike> = life.spikes.iter().collect();
    largest.sort_by(|a, b| b.excess.total_cmp(&a.excess));
    largest.truncate(TOLD);
    largest.sort_by_key(|spike| spike.at);
    let mut said = format!(
        "{} from what was around it, with {} of the exits",
        match life.spikes.len() {
            1 => "One time stands out".to_owned(),
            n => format!("{} times stand out", unit::count(n as u64)),
        },
        unit::share(life.series.whole().part(exits)),
    );
    said += if life.spikes.len() > TOLD { ", most of all: " } else { ": " };
    let told: Vec<String> = largest.iter().map(|spike| tell(life, spike)).collect();
    said + &told.join("; ") + "."
}

fn tell(life: &Life, spike: &Spike) -> String {
    let mut said = format!(
        "at {} for {}, in {}, {} per second in place of {}",
        unit::duration(spike.at),
        unit::duration(spike.length),
        phase(life.series.stretches(), spike.phase),
        unit::rate(float(spike.exits) / spike.length.as_secs_f64()),
        unit::rate(spike.usual)
    );
    if let Some((code, more)) = spike.reasons.first() {
        let share = unit::share((more / spike.excess).min(1.0));
        let _ = write!(said, ", {share} of that more {}", reason::name(*code));
    }
    let line =
        |moment| life.line(moment).map(|line| format!("\"{}\"", text::clean(line.text.trim(), CONSOLE)));
    let (first, last) = (line(spike.at), line(spike.at + spike.length));
    let between = match (first, last) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (_, Some(line)) => line,
        (_, None) => return said,
    };
    let _ = write!(said, " (console: {between})");
    said
}

fn phase(stretches: &[Stretch], place: usize) -> String {
    text::clean(stretches.get(place).map_or("", |stretch| &stretch.name), CONSOLE)
}

/// The most and the least frequent, and what helps.
fn kinds(whole: &Slice) -> Vec<String> {
    let kinds = whole.by_frequency();
    let Some((&(most, count), &(_, least))) = kinds.first().zip(kinds.last()) else { return Vec::new() };
    let share = |count| unit::share(whole.part(count));
    let name = |&(code, count): &(ExitCode, u64)| {
        format!("{} with {} ({})", reason::name(code), unit::count(count), share(count))
    };
    let mut said =
        format!("Most frequent: {}.", kinds.iter().take(3).map(name).collect::<Vec<_>>().join(", "));
    if kinds.len() > 3 {
        let rarest: Vec<_> =
            kinds.iter().filter(|&&(_, count)| count == least).map(|&(code, _)| reason::name(code)).collect();
        let _ = write!(
            said,
            " Least frequent: {}, {}.",
            rarest.join(", "),
            match least {
                1 => "once each".to_owned(),
                n => format!("{} times each", unit::count(n)),
            }
        );
    }
    let mut answers = vec![said];
    if let Some(reason) = reason::get(most) {
        answers.push(format!(
            "What would help most is fewer {} ({} of all). Usual causes: {} What helps: {}",
            reason.name,
            share(count),
            reason.why,
            reason.help
        ));
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::console::Line;
    use crate::boot::series;
    use crate::view::fixture;
    use std::time::Duration;

    fn say(series: &Series, line: Option<&str>) -> String {
        let end = "\"login: \" on the console".into();
        let mut life = Life::new(fixture::busy(), series.clone(), end);
        life.console.extend(line.map(|text| Line { at: Duration::ZERO, text: text.into() }));
        answers(&life).join("\n")
    }

    #[test]
    fn a_boot_with_a_burst() {
        let mut slices: Vec<&[(i64, u64)]> = vec![&[(0x72, 100), (0x7b, 10), (0x78, 1)]; 60];
        slices[30] = &[(0x72, 110), (0x7b, 1010), (0x60, 1)];
        insta::assert_snapshot!(say(&series::fixture(&slices), Some("\x1b[2J<script>\u{202e}")));
    }

    #[test]
    fn a_steady_one_and_none() {
        insta::assert_snapshot!(say(&series::fixture(&[&[(0x72, 100)][..]; 30]), None));
        insta::assert_snapshot!(say(&series::fixture(&[&[][..]; 30]), None));
    }
}
