//! Two sides of runs, for people and for machines. `docs/recording.md` is the contract of the JSON.

use super::grid::Cells;
use super::prose::{Kind, Line, NAME};
use super::table::Page;
use super::{json, text, unit, value};
use exitscope_model::figure::Value;
use exitscope_model::{Comparison, Difference, Level, Measured, Pair, Summary};
use exitscope_reason as reason;
use serde::Serialize;
use std::io;

/// The version of the JSON.
const VERSION: u32 = 1;

/// Names of the runs, as they were given.
pub type Names = [Vec<String>; 2];

/// A table with what is to be said about it.
pub fn render(compared: &Comparison, names: &Names, width: Option<usize>, color: bool) -> String {
    let mut page = Page { out: String::new(), width, color };
    let plain = |kind, text: String| Line { kind, text };
    for (letter, names, seconds) in
        [("A", &names[0], compared.seconds.a), ("B", &names[1], compared.seconds.b)]
    {
        page.prose(&plain(Kind::Heading, format!("{letter}: {}", who(names, seconds))));
    }
    page.out.push('\n');
    page.grid(columns(compared), true);
    page.out.push('\n');
    let several = compared.runs.iter().any(|runs| *runs > 1);
    if several {
        let text = "Figures are medians of the runs. `beyond spread` names those whose medians lie further apart than the runs \
                    of either side do among themselves.";
        page.prose(&plain(Kind::Plain, text.into()));
    }
    if compared.runs.contains(&1) {
        let text = "One run tells no spread: whether a difference is more than chance cannot be said. Give several with -a and -b.";
        page.prose(&plain(Kind::Aside, text.into()));
    }
    if compared.measured == Measured::Counts {
        page.prose(&plain(Kind::Aside, "Times are not in all of the recordings, and not compared.".into()));
    }
    page.out
}

fn who(names: &[String], seconds: Summary) -> String {
    let names: Vec<String> = names.iter().map(|name| text::clean(name, 2 * NAME)).collect();
    let time = |seconds: f64| figure_time(seconds * 1e9);
    match &names[..] {
        [name] => format!("{name} ({})", time(seconds.median)),
        _ => {
            let (median, least, most) = (time(seconds.median), time(seconds.least), time(seconds.most));
            format!("{} runs, {median} ({least} to {most}): {}", names.len(), names.join(", "))
        }
    }
}

/// A median may lie between two whole numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(figure: f64) -> u64 {
    figure.abs().round() as u64
}

/// A time (ns) that may lie between two whole numbers.
pub fn figure_time(ns: f64) -> String {
    unit::time(whole(ns))
}

/// A count, likewise.
pub fn figure_count(count: f64) -> String {
    unit::count(whole(count))
}

fn change(pair: Pair, show: fn(f64) -> String) -> String {
    let shown = show(pair.change());
    match pair.change() {
        0.0 => "0".into(),
        more if more > 0.0 => format!("+{shown}"),
        _ => format!("-{shown}"),
    }
}

/// By how much b has more or less than a, in percent of a.
fn percent(pair: Pair) -> String {
    match (pair.a.median, pair.change()) {
        (_, 0.0) => "0.0%".into(),
        (0.0, _) => "new".into(),
        (a, change) if change == -a => "gone".into(),
        (a, change) => {
            let percent = change / a * 100.0;
            if percent.abs() >= 999.5 {
                format!("{}{}%", if percent < 0.0 { "-" } else { "+" }, figure_count(percent))
            } else {
                format!("{percent:+.1}%")
            }
        }
    }
}

/// Returns the first cell of a row: its reason, and whose exits they are.
pub(super) fn name(row: &Difference) -> String {
    let Some((level, code)) = row.reason else { return "total".into() };
    let whose = if level == Level::L2 { "L2 " } else { "" };
    let about = row.subject.map_or(String::new(), |subject| {
        format!(" {}", text::clean(&value::human(&Value::Subject(subject)), 2 * NAME))
    });
    format!("{whose}{}{about}", text::clean(&reason::name(code), NAME))
}

fn columns(compared: &Comparison) -> Vec<Cells> {
    let column = |heading: &str, right, dispensable, show: &dyn Fn(&Difference) -> String| {
        let rows = compared.rows.iter().map(show).collect();
        Cells::new(heading, right, dispensable, rows).with_total(show(&compared.total))
    };
    let mut columns = vec![
        column("reason", false, 0, &name),
        column("count A", true, 2, &|row| figure_count(row.count.a.median)),
        column("count B", true, 2, &|row| figure_count(row.count.b.median)),
        column("+/-", true, 0, &|row| change(row.count, figure_count)),
        column("+/- %", true, 0, &|row| percent(row.count)),
        column("A/s", true, 4, &|row| unit::rate(row.rate.a.median)),
        column("B/s", true, 4, &|row| unit::rate(row.rate.b.median)),
        column("rate %", true, 3, &|row| percent(row.rate)),
    ];
    if let Some(time) = compared.time() {
        let word = time.heading;
        let pair = |row: &Difference| row.time_ns.unwrap_or_default();
        columns.extend([
            column(&format!("{word} A"), true, 2, &|row| figure_time(pair(row).a.median)),
            column(&format!("{word} B"), true, 2, &|row| figure_time(pair(row).b.median)),
            column(&format!("{word} +/-"), true, 0, &|row| change(pair(row), figure_time)),
            column(&format!("{word} %"), true, 1, &|row| percent(pair(row))),
        ]);
    }
    if !compared.runs.contains(&1) {
        columns.push(column("beyond spread", false, 0, &|row| {
            let exceeding = [("count", Some(row.count)), ("rate", Some(row.rate)), ("time", row.time_ns)];
            let exceeding =
                exceeding.into_iter().filter(|(_, pair)| pair.is_some_and(|p| p.exceeds_spread()));
            let words: Vec<&str> = exceeding.map(|(word, _)| word).collect();
            if words.is_empty() { "-".into() } else { words.join(", ") }
        }));
    }
    columns
}

#[derive(Serialize)]
struct Object<'a> {
    version: u32,
    a: &'a [String],
    b: &'a [String],
    measured: &'static str,
    seconds: Figure,
    rows: Vec<Row>,
    total: Row,
}

#[derive(Serialize)]
struct Row {
    level: Option<u8>,
    isa: Option<&'static str>,
    code: Option<i64>,
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    count: Figure,
    rate: Figure,
    time_ns: Option<Figure>,
}

/// Medians, extremes, and what they come to.
#[derive(Serialize)]
struct Figure {
    a: [f64; 3],
    b: [f64; 3],
    change: f64,
    exceeds_spread: Option<bool>,
}

/// The same as one line of JSON.
pub fn render_json(compared: &Comparison, names: &Names) -> io::Result<Vec<u8>> {
    let several = !compared.runs.contains(&1);
    let figure = |pair: Pair| {
        let side = |side: Summary| [side.median, side.least, side.most];
        let exceeds_spread = several.then(|| pair.exceeds_spread());
        Figure { a: side(pair.a), b: side(pair.b), change: pair.change(), exceeds_spread }
    };
    let row = |row: &Difference| Row {
        level: row.reason.map(|(level, _)| level.number()),
        isa: row.reason.map(|(_, code)| code.isa.name()),
        code: row.reason.map(|(_, code)| code.code),
        reason: row.reason.map(|(_, code)| reason::name(code).into_owned()),
        detail: row.subject.map(|subject| value::plain(&Value::Subject(subject))),
        count: figure(row.count),
        rate: figure(row.rate),
        time_ns: row.time_ns.map(figure),
    };
    json::line(&Object {
        version: VERSION,
        a: &names[0],
        b: &names[1],
        measured: json::measured(compared.measured),
        seconds: figure(compared.seconds),
        rows: compared.rows.iter().map(row).collect(),
        total: row(&compared.total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::fixture;
    use exitscope_model::{DetailCounters, Interval, compare, compare_by};

    fn names(a: &[&str], b: &[&str]) -> Names {
        [a, b].map(|names| names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Another run, with more of one reason and without another.
    fn other() -> Interval {
        let mut other = fixture::busy();
        let port = other.rows.iter_mut().find(|row| row.code.code == 0x7b).unwrap();
        port.counters.add(&fixture::counters(30_000, 6_120));
        let gone = other.rows.pop().unwrap();
        other.vcpus[0].exits += 30_000;
        other.vcpus[0].exits -= gone.counters.count;
        other
    }

    #[test]
    fn what_changed_stands_first() {
        let (a, b) = (fixture::busy(), other());
        let one = compare(&[&a], &[&b]);
        insta::assert_snapshot!(render(&one, &names(&["a.rec"], &[fixture::HOSTILE]), Some(160), false));
        let several = compare(&[&a, &a], &[&b, &b, &b]);
        let text = render(&several, &names(&["a1", "a2"], &["b1", "b2", "b3"]), None, false);
        insta::assert_snapshot!("several", text);
        insta::assert_snapshot!(
            "counts",
            render(&compare(&[&a], &[&fixture::counts()]), &names(&["a"], &["b"]), Some(60), false)
        );
    }

    #[test]
    fn details_are_compared_one_by_one() {
        let (a, mut b) = (fixture::busy(), fixture::busy());
        let port = b.rows.iter_mut().find(|row| row.code.code == 0x7b).unwrap();
        let (_, console) = port.counters.details.counts.iter_mut().next_back().unwrap();
        console.add(&DetailCounters { count: 100, time_ns: 7_000_000, max_ns: 9 });
        port.counters.count += 100;
        port.counters.time_ns += 7_000_000;
        b.vcpus[0].exits += 100;
        let compared = compare_by(&[&a], &[&b], true);
        let changed: Vec<&Difference> =
            compared.rows.iter().filter(|row| row.count.change() != 0.0).collect();
        assert_eq!((changed.len(), changed[0]), (1, &compared.rows[0]));
        assert_eq!((changed[0].count.change(), changed[0].time_ns.unwrap().change()), (100.0, 7e6));
        let text = render(&compared, &names(&["a"], &["b"]), Some(120), false);
        insta::assert_snapshot!("details", text);
        let bytes = render_json(&compared, &names(&["a"], &["b"])).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["rows"][0]["detail"], "out:0xc0e4");
    }

    #[test]
    fn machines_read_the_same() {
        let (a, b) = (fixture::busy(), other());
        let bytes =
            render_json(&compare(&[&a, &a], &[&b, &b]), &names(&["a1", "a2"], &["b1", "\x1b[2J"])).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with("}\n") && !text.contains('\x1b'), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["b"][1], "\x1b[2J");
        let first = &json["rows"][0];
        assert_eq!((&first["reason"], &first["level"]), (&"IOIO".into(), &1.into()));
        assert_eq!(
            (&first["count"]["change"], &first["count"]["exceeds_spread"]),
            (&30_000.0.into(), &true.into())
        );
        assert_eq!(json["total"]["reason"], serde_json::Value::Null);
    }
}
