//! CSV in long rows, one per group and interval. `docs/output.md` is its contract.

use super::json::{measured, seconds};
use super::{Options, text, value};
use exitscope_model::figure::{Context, FIGURES, Figure};
use exitscope_model::{Interval, group, sort};
use exitscope_reason as reason;
use std::io::{self, Write};

/// Columns that say the same on each row of an interval: key and meaning.
pub const INTERVAL_COLUMNS: [(&str, &str); 7] = [
    ("start", "begin of the interval, in seconds since 1970-01-01 00:00 UTC"),
    ("end", "its end, likewise"),
    ("source", "where the numbers come from: `btf`, `raw`, `tracepoint`, `kvmstat` or `kernel`"),
    (
        "measured",
        "what is measured beside the number of exits: nothing (`counts`), their host times (`times`), or also \
         where these went (`split`)",
    ),
    ("total", "exits of all vCPUs in the interval"),
    ("kvm_exits", "KVM's own count of them; empty where it could not be read"),
    ("lost", "exits that happened and are missing from the rows; 0 is the rule"),
];

/// Writes the interval's rows, after the header if it is the first.
pub fn render(interval: &Interval, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    let columns = columns(options);
    if options.first {
        let keys = INTERVAL_COLUMNS.iter().map(|(key, _)| *key);
        writer.write_record(keys.chain(columns.iter().map(|figure| figure.key))).map_err(io_error)?;
    }
    let context = Context::new(interval);
    let mut groups = group(interval, options.by);
    sort(&mut groups, options.sort, &context, reason::name);
    let same = [
        seconds(interval.start).to_string(),
        seconds(interval.end).to_string(),
        interval.source.word().to_owned(),
        measured(interval.measured).to_string(),
        interval.exits().to_string(),
        interval.kvm_exits().map_or(String::new(), |exits| exits.to_string()),
        interval.loss.lost().to_string(),
    ];
    for group in &groups {
        let cells = columns.iter().map(|figure| text::escape(&value::plain(&figure.value(&context, group))));
        writer.write_record(same.iter().cloned().chain(cells)).map_err(io_error)?;
    }
    writer.flush()
}

/// Figures that a row has.
fn columns(options: &Options) -> Vec<&'static Figure> {
    if !options.columns.is_empty() {
        return options.columns.clone();
    }
    FIGURES.iter().copied().filter(|figure| figure.is_machine(options.by)).collect()
}

fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exitscope_model::By;
    use exitscope_model::fixture;

    fn text(interval: &Interval, options: &Options) -> String {
        let mut bytes = Vec::new();
        render(interval, options, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn two_intervals_make_one_file() {
        let options = Options { by: By::ALL, ..Options::default() };
        let (one, two) = (fixture::busy(), fixture::hostile());
        let file = text(&one, &options) + &text(&two, &Options { first: false, ..options });
        let mut reader = csv::Reader::from_reader(file.as_bytes());
        let header = reader.headers().unwrap().clone();
        let column = |key: &str| header.iter().position(|found| found == key).unwrap();
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), one.rows.len() + two.rows.len());
        let sum: u64 = records.iter().map(|record| record[column("count")].parse::<u64>().unwrap()).sum();
        assert_eq!(sum, one.exits() + two.exits());
        assert_eq!(file.lines().count(), records.len() + 1, "a record is a line, whatever a VM is called");
        let buckets = records[0][column("histogram")].split(';').map(|n| n.parse::<u64>().unwrap());
        assert_eq!(buckets.clone().count(), exitscope_model::BUCKETS);
        assert_eq!(buckets.sum::<u64>(), records[0][column("count")].parse::<u64>().unwrap());
    }

    #[test]
    fn hostile_names_are_quoted_and_escaped() {
        insta::assert_snapshot!(text(&fixture::hostile(), &Options::default()));
    }
}
