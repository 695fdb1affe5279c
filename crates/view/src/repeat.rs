//! Several runs of one command: medians and spread. `docs/json.md` is the contract of the JSON.

use super::compare::{figure_count, figure_time, name};
use super::grid::Cells;
use super::prose::{Kind, Line};
use super::table::Page;
use super::{json, unit};
use exitscope_model::{Comparison, Difference, Interval, Measured, Summary, compare};
use exitscope_reason as reason;
use serde::Serialize;
use std::io;

/// The version of the JSON.
const VERSION: u32 = 1;

/// The runs as one side, which has a summary of each figure.
fn summarized(runs: &[Interval]) -> Comparison {
    compare(&runs.iter().collect::<Vec<_>>(), &[])
}

/// A table with what is to be said about it. `wanted` is how many runs were asked for.
pub fn render(runs: &[Interval], wanted: u32, width: Option<usize>, color: bool) -> String {
    let all = summarized(runs);
    let mut page = Page { out: String::new(), width, color };
    let seconds = all.seconds.a;
    let time = |seconds: f64| figure_time(seconds * 1e9);
    let of = if runs.len() as u64 == u64::from(wanted) { String::new() } else { format!(" of {wanted}") };
    let (median, least, most) = (time(seconds.median), time(seconds.least), time(seconds.most));
    let heading = format!("{}{of} runs, {median} ({least} to {most})", runs.len());
    page.prose(&Line { kind: Kind::Heading, text: heading });
    page.out.push('\n');
    page.grid(columns(&all), true);
    page.out.push('\n');
    let text = "Figures are medians of the runs; `+/-` is their spread: by how much the greatest is above the smallest, \
                in percent of the median.";
    page.prose(&Line { kind: Kind::Plain, text: text.into() });
    let lost: u64 = runs.iter().map(|run| run.loss.lost()).sum();
    if lost > 0 {
        let text = format!("{} of all runs are missing from the rows.", unit::counted(lost, "exit"));
        page.prose(&Line { kind: Kind::Warning, text });
    }
    page.out
}

fn spread(summary: Summary) -> String {
    if summary.median > 0.0 {
        format!("{:.1}%", summary.spread() / summary.median * 100.0)
    } else if summary.most > 0.0 {
        "-".into()
    } else {
        "0.0%".into()
    }
}

fn columns(all: &Comparison) -> Vec<Cells> {
    let column = |heading: &str, right, dispensable, show: &dyn Fn(&Difference) -> String| {
        let rows = all.rows.iter().map(show).collect();
        Cells::new(heading, right, dispensable, rows).with_total(show(&all.total))
    };
    let mut columns = vec![
        column("reason", false, 0, &name),
        column("count", true, 0, &|row| figure_count(row.count.a.median)),
        column("+/-", true, 0, &|row| spread(row.count.a)),
        column("least", true, 3, &|row| figure_count(row.count.a.least)),
        column("most", true, 3, &|row| figure_count(row.count.a.most)),
        column("exits/s", true, 2, &|row| unit::rate(row.rate.a.median)),
        column("exits/s +/-", true, 4, &|row| spread(row.rate.a)),
    ];
    if all.measured != Measured::Counts {
        let word = if all.measured == Measured::Breakdown { "busy" } else { "time" };
        let time = |row: &Difference| row.time_ns.unwrap_or_default().a;
        columns.extend([
            column(word, true, 1, &|row| figure_time(time(row).median)),
            column(&format!("{word} +/-"), true, 1, &|row| spread(time(row))),
            column(&format!("{word} least"), true, 5, &|row| figure_time(time(row).least)),
            column(&format!("{word} most"), true, 5, &|row| figure_time(time(row).most)),
        ]);
    }
    columns
}

#[derive(Serialize)]
struct Object {
    version: u32,
    runs: usize,
    measured: &'static str,
    seconds: [f64; 3],
    rows: Vec<Row>,
    total: Row,
    lost: u64,
}

#[derive(Serialize)]
struct Row {
    level: Option<u8>,
    isa: Option<&'static str>,
    code: Option<i64>,
    reason: Option<String>,
    count: [f64; 3],
    rate: [f64; 3],
    time_ns: Option<[f64; 3]>,
}

/// The same as one line of JSON: of each figure median, smallest and greatest.
///
/// # Errors
/// None in practice: what is written is memory.
pub fn render_json(runs: &[Interval]) -> io::Result<Vec<u8>> {
    let all = summarized(runs);
    let figure = |summary: Summary| [summary.median, summary.least, summary.most];
    let row = |row: &Difference| Row {
        level: row.reason.map(|(level, _)| level.number()),
        isa: row.reason.map(|(_, code)| code.isa.name()),
        code: row.reason.map(|(_, code)| code.code),
        reason: row.reason.map(|(_, code)| reason::name(code).into_owned()),
        count: figure(row.count.a),
        rate: figure(row.rate.a),
        time_ns: row.time_ns.map(|pair| figure(pair.a)),
    };
    json::line(&Object {
        version: VERSION,
        runs: runs.len(),
        measured: json::measured(all.measured),
        seconds: figure(all.seconds.a),
        rows: all.rows.iter().map(row).collect(),
        total: row(&all.total),
        lost: runs.iter().map(|run| run.loss.lost()).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;

    /// Three runs: as it is, without one reason, and with all of it twice.
    fn runs() -> Vec<Interval> {
        let (one, mut less, mut twice) = (fixture::busy(), fixture::busy(), fixture::busy());
        let code = one.rows[0].code;
        less.rows.retain(|row| row.code != code);
        twice.extend(&one);
        vec![one, less, twice]
    }

    #[test]
    fn medians_and_spread() {
        insta::assert_snapshot!(render(&runs(), 3, Some(120), false));
    }

    #[test]
    fn one_run_has_no_spread_and_says_how_many_were_wanted() {
        let text = render(&[fixture::busy()], 5, None, false);
        assert!(text.starts_with("1 of 5 runs"), "{text}");
        let total = text.lines().find(|line| line.starts_with("total")).unwrap();
        assert!(total.contains("0.0%"), "{total}");
    }

    #[test]
    fn json_has_the_same_figures() {
        let value: serde_json::Value = serde_json::from_slice(&render_json(&runs()).unwrap()).unwrap();
        let exits = fixture::busy().exits();
        assert_eq!((&value["runs"], &value["total"]["count"][2]), (&3.into(), &(2.0 * exits as f64).into()));
        let missing = value["rows"].as_array().unwrap().iter().filter(|row| row["count"][1] == 0.0);
        assert_eq!(missing.count(), 1);
    }
}
