//! Answers about a boot, in sentences.

use super::{advice, text, unit};
use exitscope_analysis::boot_report::{BootReport, Mark, Origin};
use exitscope_analysis::outcome::{Kind, Outcome};
use exitscope_analysis::phase::FIRST;
use exitscope_analysis::series::{Series, Slice, Stretch};
use exitscope_analysis::spike::Spike;
use exitscope_model::{ExitCode, Source, float};
use exitscope_reason as reason;
use std::fmt::Write;

/// A rate is called stable where its standard deviation is at most this part of its mean.
const STABLE: f64 = 0.25;

/// Maximum number of spikes, and of marks, that are told one by one.
const TOLD: usize = 5;

/// Width of a line of the console, in columns.
const CONSOLE: usize = 60;

/// Width of the console's line that told how a boot ended, in columns.
const LINE: usize = 100;

/// The answers, one sentence or a few each.
pub fn answers(boot: &BootReport) -> Vec<String> {
    let whole = boot.series.whole();
    let end = boot.end.replace('`', "'");
    let mut answers: Vec<String> = boot.outcome.as_ref().map(|one| outcome(boot, one)).into_iter().collect();
    if whole.exits == 0 {
        let length = unit::duration(whole.length);
        answers.push(match boot.whole.loss.filtered {
            0 => format!("There was no exit in {length} until {end}: did the command start a VM?"),
            _ => format!("There was no such exit in {length} until {end}."),
        });
        return answers;
    }
    answers.push(format!(
        "{} in {} until {}: {} per second.",
        unit::counted(whole.exits, "exit"),
        unit::duration(whole.length),
        end,
        unit::rate(whole.rate())
    ));
    answers.extend(phases(&boot.series, &whole));
    answers.extend(evidence(boot));
    answers.extend(marks(boot));
    answers.push(stability(&boot.series, &whole));
    answers.extend(spikes(boot));
    // Classes overlap: their counts say nothing about each other.
    if boot.whole.source != Source::KvmStat {
        answers.extend(kinds(&whole));
        answers.extend(help(boot, &whole));
    }
    answers
}

/// Returns the sentence that says how a boot ended.
pub fn outcome(boot: &BootReport, outcome: &Outcome) -> String {
    let at = unit::duration(outcome.at);
    let phase = match outcome.phase.as_str() {
        FIRST => "before anything was known of it".to_owned(),
        phase => format!("in phase {}", theirs(phase)),
    };
    let quoted = |text: &str| format!("\"{}\"", text::clean(unstamped(text.trim()), LINE).replace('`', "'"));
    let line = outcome.line.as_deref().map(quoted);
    let told = line.as_ref().map_or_else(String::new, |line| format!(": {line}"));
    let last = || line.as_ref().map_or_else(String::new, |line| format!(" The last line was {line}."));
    let cause = theirs(outcome.cause.as_deref().unwrap_or_default());
    let mut said = match outcome.kind {
        Kind::Reached => {
            let what = match outcome.cause.as_deref() {
                Some("line") => "the line that was waited for".to_owned(),
                Some("mark") => "the mark that was waited for".to_owned(),
                _ => format!("a {cause}"),
            };
            format!("The boot reached {what} at {at}{told}.")
        }
        Kind::Failed => format!("The boot did not complete: {cause} at {at} {phase}{told}."),
        Kind::BeganAgain => {
            let times = unit::counted(outcome.began_again.into(), "time");
            format!(
                "The boot did not complete: the machine began again {times}, the last time at {at}.{}",
                last()
            )
        }
        Kind::Ended => {
            format!("The boot ended early: its command ended after {at} {phase}.{}", last())
        }
        Kind::TimedOut => match boot.console.last() {
            None => format!("The boot did not complete: the machine was still silent after {at}."),
            Some(line) => {
                let heard = unit::duration(line.at);
                format!(
                    "The boot did not complete: it was still {phase} after {at}, and silent since {heard}.{}",
                    last()
                )
            }
        },
        Kind::Interrupted => format!("The boot was interrupted after {at} {phase}."),
    };
    if outcome.began_again > 0 && outcome.kind != Kind::BeganAgain {
        let times = unit::counted(outcome.began_again.into(), "time");
        let _ = write!(said, " The machine had begun again {times} by then");
        if outcome.failures > u32::from(outcome.kind == Kind::Failed) {
            let _ = write!(said, ", and failed {}", unit::counted(outcome.failures.into(), "time"));
        }
        said.push('.');
    }
    said
}

/// Returns a line without a kernel's time stamp: the time that counts here is the host's.
fn unstamped(line: &str) -> &str {
    let stamp = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let is_time = |time: &str| time.trim_start().bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    stamp.filter(|(time, _)| is_time(time)).map_or(line, |(_, rest)| rest)
}

/// Says which was taken where the console and the guest's mode tell of the same phase at different times.
fn evidence(boot: &BootReport) -> Option<String> {
    let told = boot.evidence.iter().filter(|evidence| evidence.differs()).filter_map(|evidence| {
        let ((mode, _), line) = (evidence.mode?, evidence.line?);
        let (taken, other) = if evidence.by_line? {
            ("the console", "the guest's mode")
        } else {
            ("the guest's mode", "the console")
        };
        let (at, later) = if evidence.by_line? { (line, mode) } else { (mode, line) };
        Some(format!(
            "phase {} is taken from {taken}, at {}, and not from {other}, at {}",
            theirs(&evidence.phase),
            unit::duration(at),
            unit::duration(later)
        ))
    });
    let told: Vec<String> = told.take(TOLD).collect();
    let first = told.join("; ");
    let mut letters = first.chars();
    letters.next().map(|letter| format!("{}{}.", letter.to_uppercase(), letters.as_str()))
}

/// Names the phase with most exits, and that in which they are most frequent.
fn phases(series: &Series, whole: &Slice) -> Option<String> {
    let stretches = series.stretches();
    if stretches.len() < 2 {
        return None;
    }
    let name = |stretch: &Stretch| theirs(&stretch.name);
    let most = stretches.iter().max_by_key(|stretch| stretch.whole.exits)?;
    let densest = stretches.iter().max_by(|a, b| a.whole.rate().total_cmp(&b.whole.rate()))?;
    let mut said = format!(
        "Most exits are in {}: {} ({}) in {}",
        name(most),
        unit::count(most.whole.exits),
        unit::share(whole.part(most.whole.exits)),
        unit::duration(most.whole.length)
    );
    said += &if densest == most {
        format!(", and there the rate is highest too: {} per second.", unit::rate(most.whole.rate()))
    } else {
        format!(
            "; the rate is highest in {}: {} per second.",
            name(densest),
            unit::rate(densest.whole.rate())
        )
    };
    Some(said)
}

/// Tells the exits until each mark; of equal marks in a row, until the first.
fn marks(boot: &BootReport) -> Option<String> {
    let alike: Vec<&[Mark]> = boot.marks.chunk_by(|a, b| a.text == b.text).collect();
    let told: Vec<String> = alike
        .iter()
        .take(TOLD)
        .map(|marks| {
            let (first, times) = (&marks[0], marks.len());
            // A mark by hand ends an interval, which it is in for the time that a look takes.
            let until = |slice: &&Slice| match first.origin {
                Origin::Hand => slice.at < first.at,
                Origin::Port { .. } => slice.end() <= first.at,
            };
            let before = boot.series.slices().iter().take_while(until);
            let exits: u64 = before.map(|slice| slice.exits).sum();
            let text = theirs(first.text.trim());
            let times =
                if times > 1 { format!(" ({} times)", unit::count(times as u64)) } else { String::new() };
            format!(
                "\"{text}\"{times} at {}, after {}",
                unit::duration(first.at),
                unit::counted(exits, "exit")
            )
        })
        .collect();
    let more = match alike.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("; and {} more", unit::count(more as u64)),
    };
    (!told.is_empty()).then(|| format!("Marked: {}{more}.", told.join("; ")))
}

fn stability(series: &Series, whole: &Slice) -> String {
    let mean = whole.rate();
    let seconds = whole.length.as_secs_f64();
    if seconds == 0.0 {
        return "It took no time, so that there is no rate.".into();
    }
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
         twentieth above {} (standard deviation: {variation:.2} of the mean).",
        quantile(0.25),
        quantile(0.75),
        quantile(0.05),
        quantile(0.95)
    )
}

/// Tells the number of spikes, and a sentence for each of the largest.
fn spikes(boot: &BootReport) -> Vec<String> {
    if boot.spikes.is_empty() {
        return vec!["There is no spike: no time stands out from what was around it.".into()];
    }
    let exits: u64 = boot.spikes.iter().map(|spike| spike.exits).sum();
    let mut largest: Vec<(usize, &Spike)> = boot.spikes.iter().enumerate().collect();
    largest.sort_by(|(_, a), (_, b)| b.excess.total_cmp(&a.excess));
    largest.truncate(TOLD);
    largest.sort_by_key(|(number, _)| *number);
    let share = unit::share(boot.series.whole().part(exits));
    let mut said = match boot.spikes.len() {
        1 => format!(
            "There is one spike, a time that stands out from what was around it, with {share} of the exits."
        ),
        n => format!(
            "There are {} spikes, times that stand out from what was around them, with {share} of the exits.",
            unit::count(n as u64)
        ),
    };
    if boot.spikes.len() > TOLD {
        let _ = write!(said, " The {TOLD} largest:");
    }
    let told = largest.iter().map(|(number, spike)| tell(boot, *number, spike));
    std::iter::once(said).chain(told).collect()
}

fn tell(boot: &BootReport, number: usize, spike: &Spike) -> String {
    let phase = match boot.series.stretches() {
        [_] => String::new(),
        stretches => format!(" ({})", phase(stretches, spike.phase)),
    };
    let mut said = format!(
        "Spike {} at {}{phase}: {} per second for {} instead of {}",
        number + 1,
        unit::duration(spike.at),
        unit::rate(float(spike.exits) / spike.length.as_secs_f64()),
        unit::duration(spike.length),
        unit::rate(spike.usual)
    );
    if let Some((code, more)) = spike.reasons.first() {
        let _ = match (more / spike.excess).min(1.0) {
            part if part > 0.995 => write!(said, ", all of that more {}", reason::name(*code)),
            part => write!(said, ", {} of that more {}", unit::share(part), reason::name(*code)),
        };
    }
    said.push('.');
    let line = |moment| {
        let line = boot.line(moment)?;
        Some(format!("\"{}\"", theirs(text::on_terminal(&line.text).trim())))
    };
    let (first, last) = (line(spike.at), line(spike.at + spike.length));
    match (first, last) {
        (Some(first), Some(last)) if first != last => {
            let _ = write!(said, " The console went from {first} to {last}.");
        }
        (_, Some(line)) => {
            let _ = write!(said, " Last on the console: {line}.");
        }
        (_, None) => {}
    }
    said
}

/// Returns text that others chose, short and harmless. Backquotes are replaced: in answers they enclose
/// what is to be typed.
fn theirs(text: &str) -> String {
    text::clean(text, CONSOLE).replace('`', "'")
}

fn phase(stretches: &[Stretch], place: usize) -> String {
    theirs(stretches.get(place).map_or("", |stretch| &stretch.name))
}

/// The most and the least frequent.
fn kinds(whole: &Slice) -> Option<String> {
    let kinds = whole.by_frequency();
    let (_, &(_, least)) = kinds.first().zip(kinds.last())?;
    let share = |count| unit::share(whole.part(count));
    let name = |&(code, count): &(ExitCode, u64)| {
        format!("{} with {} ({})", reason::name(code), unit::count(count), share(count))
    };
    let mut said =
        format!("Most frequent: {}.", kinds.iter().take(3).map(name).collect::<Vec<_>>().join(", "));
    if kinds.len() > 3 {
        let rarest: Vec<_> =
            kinds.iter().filter(|&&(_, count)| count == least).map(|&(code, _)| reason::name(code)).collect();
        let each = if rarest.len() > 1 { " each" } else { "" };
        let _ = write!(
            said,
            " Least frequent: {}, {}{each}.",
            rarest.join(", "),
            match least {
                1 => "once".to_owned(),
                n => format!("{} times", unit::count(n)),
            }
        );
    }
    Some(said)
}

/// Returns the advice that matters most; where no rule speaks, what is known of the most frequent reason.
fn help(boot: &BootReport, whole: &Slice) -> Vec<String> {
    if !boot.advice.is_empty() {
        return advice::brief(&boot.advice, &boot.whole);
    }
    let kinds = whole.by_frequency();
    let most = kinds.first().and_then(|&(code, count)| Some((reason::get(code)?, count)));
    // A reason against which nothing helps is no advice.
    let said = most.filter(|(reason, _)| !reason.help.contains("othing to tune")).map(|(reason, count)| {
        format!(
            "What would help most is fewer {} ({} of all). Usual causes: {} What helps: {}",
            reason.name,
            unit::share(whole.part(count)),
            reason.why,
            reason.help
        )
    });
    said.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_analysis::advice::Host;
    use exitscope_analysis::boot_report::Origin;
    use exitscope_analysis::console::Line;
    use exitscope_analysis::series;
    use exitscope_model::fixture;
    use std::time::Duration;

    fn say(series: &Series, line: Option<&str>) -> String {
        let end = "\"login: \" on the console".into();
        let mut boot = BootReport::new(fixture::whole(), series.clone(), end);
        boot.console.extend(line.map(|text| Line { at: Duration::ZERO, text: text.into() }));
        answers(&boot).join("\n")
    }

    #[test]
    fn the_outcome_stands_first() {
        let ms = Duration::from_millis;
        let line = |at, text: &str| Line { at: ms(at), text: text.into() };
        let told = |kind, phase: &str, cause: Option<&str>, text: Option<&str>, began_again, failures| {
            let mut boot = BootReport::new(fixture::idle(), series::fixture(&[]), "a signal".into());
            boot.console.extend(text.map(|text| line(1700, text)));
            let outcome = Outcome {
                kind,
                at: ms(1800),
                phase: phase.into(),
                cause: cause.map(str::to_owned),
                line: text.map(str::to_owned),
                began_again,
                failures,
            };
            boot.outcome = Some(outcome);
            answers(&boot)[0].clone()
        };
        let panic = Some("[    1.7] Kernel panic - not syncing: `x\u{202e}");
        let all = [
            told(Kind::Reached, "login", Some("login prompt"), Some("host login: "), 0, 0),
            told(Kind::Reached, "user space", Some("line"), Some("up"), 1, 1),
            told(Kind::Failed, "kernel", Some("kernel panic"), panic, 0, 1),
            told(Kind::Failed, "start", Some("no bootable device"), Some("No bootable device."), 2, 3),
            told(Kind::BeganAgain, "kernel", None, Some("Restarting system."), 3, 0),
            told(Kind::Ended, "kernel", None, Some("bye"), 0, 0),
            told(Kind::TimedOut, "start", None, None, 0, 0),
            told(Kind::TimedOut, "user space", None, Some("[  OK  ] Started it."), 0, 0),
            told(Kind::Interrupted, "kernel", None, None, 0, 0),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn a_boot_with_a_burst() {
        let mut slices: Vec<&[(i64, u64)]> = vec![&[(0x72, 100), (0x7b, 10), (0x78, 1)]; 60];
        slices[30] = &[(0x72, 110), (0x7b, 1010), (0x60, 1)];
        insta::assert_snapshot!(say(&series::fixture(&slices), Some("\x1b[2J<script>\u{202e}")));
    }

    #[test]
    fn phases_marks_and_ports() {
        let interval = fixture::busy();
        let mut series = Series::new("firmware");
        for _ in 0..3 {
            series.add(&interval);
            series.begin("kernel");
        }
        let mut boot = BootReport::new(interval, series, "a signal".into());
        let mark = |seconds, text: &str| Mark {
            // It comes a little before the interval that it ends is over.
            at: Duration::from_secs(seconds) - Duration::from_millis(1),
            origin: Origin::Hand,
            text: text.into(),
        };
        boot.advise(&Host::default());
        boot.marks = vec![mark(10, "half\u{202e}"), mark(20, "again"), mark(20, "again")];
        insta::assert_snapshot!(answers(&boot).join("\n"));
        boot.whole.source = Source::KvmStat;
        assert!(!answers(&boot).iter().any(|answer| answer.starts_with("Most frequent")), "classes overlap");
    }

    #[test]
    fn a_steady_one_and_none() {
        insta::assert_snapshot!(say(&series::fixture(&[&[(0x72, 100)][..]; 30]), None));
        insta::assert_snapshot!(say(&series::fixture(&[&[][..]; 30]), None));
    }
}
