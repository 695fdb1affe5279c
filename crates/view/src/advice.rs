//! Advice for people and for machines.

use super::{prose, text, unit};
use exitscope_analysis::advice::Advice;
use exitscope_model::{Interval, Vm};
use serde::Serialize;

/// Most pieces of advice that stand below a table.
pub const BRIEF: usize = 3;

/// One piece of advice as an object of JSON.
#[derive(Serialize)]
struct Entry<'a> {
    vm: Option<&'a str>,
    pid: Option<u32>,
    vm_id: u64,
    rule: &'a str,
    seen: &'a str,
    helps: &'a str,
    exits: u64,
    share: f64,
    busy_ns: Option<u64>,
    source: &'a str,
}

/// Renders all advice as text: what was seen, what helps, and the source of each.
pub fn render(advice: &[Advice], interval: &Interval, width: Option<usize>) -> String {
    if advice.is_empty() {
        return format!(
            "No advice: nothing in these {} stands out that something is known to help against.\n",
            unit::counted(interval.exits(), "exit")
        );
    }
    let mut out = String::new();
    for (place, advice) in advice.iter().enumerate() {
        if place > 0 {
            out.push('\n');
        }
        for (first, line) in [
            (format!("{}. ", place + 1), sentence(advice, interval)),
            ("   What helps: ".to_owned(), advice.finding.helps.clone()),
            ("   Source: ".to_owned(), format!("{} [{}]", advice.source, advice.rule)),
        ] {
            wrap(&mut out, &first, &line, width);
        }
    }
    out
}

/// Renders the few pieces of advice that matter most, in a paragraph each, to stand below a table.
pub fn brief(advice: &[Advice], interval: &Interval) -> Vec<String> {
    let shown = advice.iter().take(BRIEF);
    let mut lines: Vec<String> = shown
        .enumerate()
        .map(|(place, advice)| {
            let lead = if place == 0 { "What would help most: " } else { "Also: " };
            format!("{lead}{} {}", sentence(advice, interval), advice.finding.helps)
        })
        .collect();
    if let Some(more) = advice.len().checked_sub(BRIEF).filter(|more| *more > 0) {
        lines.push(format!(
            "{} more of advice: `exitscope advise` prints all.",
            unit::counted(more as u64, "piece")
        ));
    }
    lines
}

/// Renders all advice as one JSON object a line.
///
/// # Errors
/// If an object cannot be written, which no text or number of ours does.
pub fn json(advice: &[Advice], interval: &Interval) -> serde_json::Result<String> {
    let mut out = String::new();
    for Advice { rule, vm, finding, share, source } in advice {
        let known = interval.vms.get(vm);
        let entry = Entry {
            vm: known.map(|vm| vm.name.as_str()),
            pid: known.map(|vm| vm.pid),
            vm_id: vm.0,
            rule,
            seen: &finding.seen,
            helps: &finding.helps,
            exits: finding.about.exits,
            share: *share,
            busy_ns: (interval.measured != exitscope_model::Measured::Counts)
                .then_some(finding.about.busy_ns),
            source,
        };
        out += &serde_json::to_string(&entry)?;
        out.push('\n');
    }
    Ok(out)
}

/// The first sentence, with the VM's name where there are several VMs.
fn sentence(advice: &Advice, interval: &Interval) -> String {
    let several = interval.vms.len() > 1;
    let name = |vm: &Vm| format!("{}: ", text::clean(&prose::vm_name(vm), 40).replace('`', "'"));
    let vm = interval.vms.get(&advice.vm).filter(|_| several).map(name).unwrap_or_default();
    format!("{vm}{}", text::clean(&advice.finding.seen, 1000))
}

fn wrap(out: &mut String, first: &str, line: &str, width: Option<usize>) {
    let indent = " ".repeat(3);
    let room = width.unwrap_or(120).max(40);
    let whole = format!("{}{line}", first.trim_start());
    for (place, part) in text::wrap(&whole, room - indent.len()).into_iter().enumerate() {
        out.push_str(if place == 0 && !first.starts_with(' ') { "" } else { &indent });
        out.push_str(part.trim_start());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_analysis::advice::{Host, advise};
    use exitscope_model::fixture;

    #[test]
    fn advice_is_told_with_what_was_seen_what_helps_and_its_source() {
        let busy = fixture::busy();
        let advice = advise(&busy, &Host::default());
        insta::assert_snapshot!(render(&advice, &busy, Some(100)));
        let objects = json(&advice, &busy).unwrap();
        for (line, advice) in objects.lines().zip(&advice) {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&object["rule"], &object["exits"]),
                (&advice.rule.into(), &advice.finding.about.exits.into())
            );
        }
        assert_eq!(objects.lines().count(), advice.len());
    }

    #[test]
    fn below_a_table_stand_the_few_that_matter_most() {
        let busy = fixture::busy();
        let known = advise(&busy, &Host::default());
        let advice: Vec<Advice> = known.iter().cycle().take(BRIEF + 2).cloned().collect();
        let lines = brief(&advice, &busy);
        assert_eq!(lines.len(), BRIEF + 1);
        assert!(lines[0].starts_with("What would help most: ") && lines[BRIEF].starts_with("2 pieces more"));
        let idle = fixture::idle();
        assert!(render(&[], &idle, None).starts_with("No advice"));
    }
}
