//! Boot report as one line of JSON. `docs/boot.md` is its contract.

use super::{answers, json};
use exitscope_analysis::boot_report::{BootReport, Mark, Origin};
use exitscope_analysis::outcome::{Evidence, Outcome};
use exitscope_analysis::series::{Slice, Stretch};
use exitscope_analysis::spike::Spike;
use exitscope_model::ExitCode;
use exitscope_reason as reason;
use serde::Serialize;
use std::io;
use std::time::Duration;

/// The format's version.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Object<'a> {
    version: u32,
    start: f64,
    seconds: f64,
    exits: u64,
    per_second: f64,
    kvm_exits: Option<u64>,
    lost: u64,
    end: &'a str,
    outcome: Option<OutcomeObject<'a>>,
    reasons: Vec<Reason>,
    phases: Vec<Phase<'a>>,
    phase_evidence: Vec<EvidenceObject<'a>>,
    spikes: Vec<SpikeObject<'a>>,
    marks: Vec<MarkObject<'a>>,
    marks_left_out: u64,
    console: Vec<Line<'a>>,
    console_lines_left_out: u64,
    console_bytes_left_out: u64,
    answers: Vec<String>,
}

#[derive(Serialize)]
struct OutcomeObject<'a> {
    kind: &'static str,
    second: f64,
    phase: &'a str,
    cause: Option<&'a str>,
    line: Option<&'a str>,
    began_again: u32,
    failures: u32,
}

#[derive(Serialize)]
struct EvidenceObject<'a> {
    phase: &'a str,
    taken: &'static str,
    mode: f64,
    line: f64,
}

#[derive(Serialize)]
struct Reason {
    isa: &'static str,
    code: i64,
    reason: String,
    count: u64,
}

#[derive(Serialize)]
struct Phase<'a> {
    phase: &'a str,
    from: f64,
    seconds: f64,
    exits: u64,
    per_second: f64,
    reasons: Vec<Reason>,
}

#[derive(Serialize)]
struct SpikeObject<'a> {
    from: f64,
    seconds: f64,
    phase: &'a str,
    exits: u64,
    excess: f64,
    usual_per_second: f64,
    reasons: Vec<More>,
    line_before: Option<&'a str>,
    line_after: Option<&'a str>,
}

#[derive(Serialize)]
struct More {
    isa: &'static str,
    code: i64,
    reason: String,
    excess: f64,
}

#[derive(Serialize)]
struct MarkObject<'a> {
    second: f64,
    origin: &'static str,
    port: Option<u16>,
    value: Option<u8>,
    text: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    second: f64,
    text: &'a str,
}

/// To the microsecond.
fn seconds(time: Duration) -> f64 {
    json::seconds(std::time::SystemTime::UNIX_EPOCH + time)
}

fn reasons(slice: &Slice) -> Vec<Reason> {
    let of = |(code, count): (ExitCode, u64)| {
        let ExitCode { isa, code: number } = code;
        Reason { isa: isa.name(), code: number, reason: reason::name(code).to_string(), count }
    };
    slice.by_frequency().into_iter().map(of).collect()
}

fn phase(stretch: &Stretch) -> Phase<'_> {
    let whole = &stretch.whole;
    Phase {
        phase: &stretch.name,
        from: seconds(whole.at),
        seconds: seconds(whole.length),
        exits: whole.exits,
        per_second: whole.rate(),
        reasons: reasons(whole),
    }
}

fn spike<'a>(boot: &'a BootReport, spike: &Spike) -> SpikeObject<'a> {
    let more = |&(code, excess): &(ExitCode, f64)| More {
        isa: code.isa.name(),
        code: code.code,
        reason: reason::name(code).to_string(),
        excess,
    };
    let line = |moment| boot.line(moment).map(|line| line.text.as_str());
    SpikeObject {
        from: seconds(spike.at),
        seconds: seconds(spike.length),
        phase: boot.series.stretches().get(spike.phase).map_or("", |stretch| &stretch.name),
        exits: spike.exits,
        excess: spike.excess,
        usual_per_second: spike.usual,
        reasons: spike.reasons.iter().map(more).collect(),
        line_before: line(spike.at),
        line_after: line(spike.at + spike.length),
    }
}

fn outcome(outcome: &Outcome) -> OutcomeObject<'_> {
    OutcomeObject {
        kind: outcome.kind.name(),
        second: seconds(outcome.at),
        phase: &outcome.phase,
        cause: outcome.cause.as_deref(),
        line: outcome.line.as_deref(),
        began_again: outcome.began_again,
        failures: outcome.failures,
    }
}

/// Evidence of a phase that lines and the guest's mode tell of at different times.
fn evidence(evidence: &Evidence) -> Option<EvidenceObject<'_>> {
    let ((mode, _), line) = (evidence.mode?, evidence.line?);
    let taken = if evidence.by_line? { "line" } else { "mode" };
    let object = EvidenceObject { phase: &evidence.phase, taken, mode: seconds(mode), line: seconds(line) };
    evidence.differs().then_some(object)
}

fn mark(mark: &Mark) -> MarkObject<'_> {
    let (origin, port, value) = match mark.origin {
        Origin::Hand => ("hand", None, None),
        Origin::Port { port, value } => ("port", Some(port), Some(value)),
    };
    MarkObject { second: seconds(mark.at), origin, port, value, text: &mark.text }
}

/// Returns the report as one line, ending with a newline.
///
/// # Errors
/// None that is known: nothing in it cannot be written.
pub fn render(boot: &BootReport) -> io::Result<String> {
    let whole = boot.series.whole();
    let object = Object {
        version: VERSION,
        start: json::seconds(boot.whole.start),
        seconds: seconds(whole.length),
        exits: whole.exits,
        per_second: whole.rate(),
        kvm_exits: boot.whole.kvm_exits(),
        lost: boot.whole.loss.lost(),
        end: &boot.end,
        outcome: boot.outcome.as_ref().map(outcome),
        reasons: reasons(&whole),
        phases: boot.series.stretches().iter().map(phase).collect(),
        phase_evidence: boot.evidence.iter().filter_map(evidence).collect(),
        spikes: boot.spikes.iter().map(|one| spike(boot, one)).collect(),
        marks: boot.marks.iter().map(mark).collect(),
        marks_left_out: boot.marks_left_out,
        console: boot
            .console
            .iter()
            .map(|line| Line { second: seconds(line.at), text: &line.text })
            .collect(),
        console_lines_left_out: boot.left_out,
        console_bytes_left_out: boot.bytes_left_out,
        answers: answers::answers(boot),
    };
    String::from_utf8(json::line(&object)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use exitscope_analysis::console::Line;
    use exitscope_analysis::outcome::Kind;
    use exitscope_analysis::series;
    use exitscope_model::fixture;
    use serde_json::Value;

    #[test]
    fn a_boot_fits_the_published_schema() {
        let mut slices: Vec<&[(i64, u64)]> = vec![&[(0x72, 100), (0x7b, 10)]; 60];
        slices[30] = &[(0x72, 110), (0x7b, 1010)];
        let mut series = series::fixture(&slices);
        series.begin_at(Duration::from_millis(2900), "<kernel>\u{1b}[2J");
        let mut boot = BootReport::new(fixture::busy(), series, "the command's end".into());
        boot.console.push(Line { at: Duration::from_millis(3050), text: "\u{202e}hostile\u{1b}]0;".into() });
        boot.marks.push(Mark::port(Duration::from_millis(12), 0xf4, 0x10));
        boot.marks.push(Mark { at: Duration::from_secs(1), origin: Origin::Hand, text: "half".into() });
        boot.outcome = Some(Outcome {
            kind: Kind::Failed,
            at: Duration::from_millis(1800),
            phase: "kernel".into(),
            cause: Some("kernel panic".into()),
            line: None,
            began_again: 1,
            failures: 2,
        });
        let evidence = |line| Evidence {
            phase: "kernel".into(),
            mode: Some((Duration::from_secs(1), Duration::from_secs(2))),
            line: Some(Duration::from_secs(line)),
            by_line: Some(false),
        };
        boot.evidence = vec![evidence(2), evidence(3)];
        let line = render(&boot).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.trim_end().chars().any(crate::text::is_unsafe), "{line}");
        let object: Value = serde_json::from_str(&line).unwrap();
        let schema = Schema::new(include_str!("../../../docs/boot.schema.json"));
        schema.check(&object);
        assert_eq!(object["outcome"]["kind"], "failed");
        let [evidence] = &object["phase_evidence"].as_array().unwrap()[..] else { panic!("{object}") };
        assert_eq!((&evidence["taken"], &evidence["mode"]), (&"mode".into(), &1.0.into()));
        let spike = &object["spikes"][0];
        assert_eq!(
            [&spike["phase"], &spike["line_before"]],
            ["<kernel>\u{1b}[2J".into(), Value::Null].each_ref()
        );
        assert_eq!(spike["line_after"], "\u{202e}hostile\u{1b}]0;");
        assert_eq!(
            (&object["marks"][0]["text"], &object["marks"][0]["port"]),
            (&"port 0xf4: 0x10".into(), &0xf4.into())
        );
        // Of nothing, too.
        let nothing = BootReport::new(fixture::idle(), series::fixture(&[]), "a signal".into());
        schema.check(&serde_json::from_str(&render(&nothing).unwrap()).unwrap());
        let documentation = include_str!("../../../docs/boot.md");
        for key in schema.published["properties"].as_object().unwrap().keys() {
            assert!(documentation.contains(&format!("`{key}`")), "docs/boot.md does not tell of {key}");
        }
    }
}
