//! The comparison as text.

use super::{Report, Verdict};
use exitscope_model::ExitCode;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The comparison as a table, and a last line that says how it ended. `name` gives a reason's name.
pub fn render(report: &Report, name: impl Fn(ExitCode) -> String) -> String {
    let mut out = String::new();
    let mut lines: BTreeMap<u32, Vec<[String; 6]>> = BTreeMap::new();
    for row in &report.rows {
        let mut by: Vec<String> = row.kinds.iter().map(|kind| kind.name().to_owned()).collect();
        if row.faults > 0 {
            by.push(format!("{} page faults", row.faults));
        }
        let done = match (row.most == row.done, row.verdict) {
            (_, Verdict::HostsOwn | Verdict::Unexplained) => "-".to_owned(),
            (true, _) => row.done.to_string(),
            (false, _) => format!("{} to {}", row.done, row.most),
        };
        let verdict = match row.verdict {
            Verdict::Exact => "exact".to_owned(),
            Verdict::HostsOwn => "host's own".to_owned(),
            Verdict::Unexplained => "NOT EXPLAINED".to_owned(),
            Verdict::Wrong if row.counted < row.done => format!("{} MISSING", row.done - row.counted),
            Verdict::Wrong => format!("{} TOO MANY", row.counted - row.most),
        };
        lines.entry(row.vcpu).or_default().push([
            row.vcpu.to_string(),
            name(row.code),
            done,
            row.counted.to_string(),
            verdict,
            by.join(", "),
        ]);
    }
    for total in &report.totals {
        let kvm = total.kvm.map_or_else(|| "-".to_owned(), |kvm| kvm.to_string());
        let (verdict, by) = if total.agrees() {
            ("exact".to_owned(), "done: KVM's own count of exits".to_owned())
        } else {
            ("DIFFERS".to_owned(), format!("rows {}, counted {}, KVM {kvm}", total.rows, total.counted))
        };
        let counted = total.counted.to_string();
        let line = [total.vcpu.to_string(), "(all)".to_owned(), kvm, counted, verdict, by];
        lines.entry(total.vcpu).or_default().push(line);
    }
    if !lines.is_empty() {
        let head = ["vCPU", "reason", "done", "counted", "", "made by"].map(str::to_owned);
        let all: Vec<&[String; 6]> = std::iter::once(&head).chain(lines.values().flatten()).collect();
        let width: Vec<usize> = (0..6)
            .map(|column| all.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for [vcpu, reason, done, counted, verdict, by] in all {
            let line = format!(
                "{vcpu:>0$}  {reason:<1$}  {done:>2$}  {counted:>3$}  {verdict:<4$}  {by}",
                width[0], width[1], width[2], width[3], width[4]
            );
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for problem in &report.problems {
        let _ = writeln!(out, "problem: {problem}");
    }
    let counted: u64 = report.totals.iter().map(|total| total.counted).sum();
    let vcpus = match report.totals.len() {
        1 => "1 vCPU".to_owned(),
        vcpus => format!("{vcpus} vCPUs"),
    };
    let _ = if report.is_exact() {
        writeln!(out, "exact: {counted} exits of {vcpus}")
    } else {
        writeln!(out, "NOT EXACT: {counted} exits of {vcpus}")
    };
    out
}
