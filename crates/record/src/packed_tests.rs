//! Long recordings: sums of minutes and hours, and parts that use them.

use super::tests::{Folder, all};
use super::*;
use exitscope_model::Interval;
use exitscope_model::generator::Generator;
use std::time::{Duration, SystemTime};

/// Intervals of so many seconds of a host of two VMs, the later of which comes late, and goes, and comes again.
pub fn intervals(count: u64, seconds: u64) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = Generator::new(2, 2).take(usize::try_from(count).unwrap()).collect();
    for (number, interval) in (0_u64..).zip(&mut intervals) {
        interval.start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_792_000_000 + number * seconds);
        interval.length = Duration::from_secs(seconds);
        interval.end = interval.start + interval.length;
        interval.loss.torn = number % 3;
        let last = *interval.vms.keys().last().unwrap();
        let is_there = (20..count - 20).contains(&number);
        // Its second vCPU is plugged in and out, also within a minute.
        let plugged = !number.is_multiple_of(7);
        interval.retain(|vm, vcpu| vm.id != last || (is_there && (vcpu == 0 || plugged)));
    }
    intervals
}

/// A recording of these intervals.
pub fn write(path: &std::path::Path, intervals: &[Interval]) -> Writer {
    let mut writer = Writer::create(path, true, &Generator::about()).unwrap();
    writer.hurry();
    for interval in intervals {
        writer.write(interval, &Notes::default()).unwrap();
    }
    writer
}

/// The sum of intervals.
pub fn sum(intervals: &[Interval]) -> Option<Interval> {
    let mut whole = None;
    intervals.iter().for_each(|interval| Interval::append(&mut whole, interval.clone()));
    whole
}

#[test]
fn parts_of_a_long_recording_are_the_sums_of_their_intervals() {
    let folder = Folder::new("long");
    let path = folder.file("x");
    let intervals = intervals(700, 17);
    let writer = write(&path, &intervals);
    for ended in [false, true] {
        let recording = Recording::open(&path).unwrap();
        assert!(all(&recording) == intervals);
        let of = |number: usize| Duration::from_secs(17 * number as u64);
        for (from, to) in [(0, 700), (0, 1), (3, 4), (1, 699), (211, 212), (2, 430), (212, 640), (100, 140)] {
            let (from_time, to_time) = (When::After(of(from)), When::After(of(to)));
            let part = Part { from: Some(from_time), to: Some(to_time), ..Part::default() };
            let whole = recording.whole(part.clone()).unwrap();
            assert!(whole == sum(&intervals[from..to]), "{from} to {to}, ended: {ended}");
            let boot = recording.boot_report(part).unwrap().unwrap();
            assert!(Some(&boot.whole) == whole.as_ref());
            assert_eq!(boot.series.whole().exits, boot.whole.exits());
            assert_eq!(boot.series.slices().len(), to - from);
        }
        let exits: Vec<u64> = intervals.iter().map(Interval::exits).collect();
        assert_eq!(recording.exits().unwrap(), Some(exits));
        if !ended {
            drop(recording);
        }
    }
    writer.finish("as asked").unwrap();
    let recording = Recording::open(&path).unwrap();
    assert!(recording.whole(Part::default()).unwrap() == sum(&intervals));
}

#[test]
fn sums_and_intervals_are_read_in_one_pass() {
    let folder = Folder::new("passes");
    let path = folder.file("x");
    let intervals = intervals(250, 17);
    write(&path, &intervals).finish("as asked").unwrap();
    let recording = Recording::open(&path).unwrap();
    for numbers in [0..250, 0..1, 5..6, 3..249, 100..100, 240..999] {
        for (longest, most) in [(Resolution::Full, 250), (Resolution::Minute, 90), (Resolution::Hour, 90)] {
            let mut at = numbers.start;
            let mut count = 0;
            let take = |these: std::ops::Range<usize>, interval: Interval| {
                assert_eq!(these.start, at);
                let mut expected = sum(&intervals[these.clone()]).unwrap();
                expected.vms.clone_from(&interval.vms);
                assert!(interval == expected, "{these:?}");
                at = these.end;
                count += 1;
                Ok::<_, Error>(())
            };
            recording.each_sum(numbers.clone(), longest, take).unwrap();
            assert_eq!(at, numbers.end.min(250));
            assert!(count <= most, "{count} for {numbers:?} by {longest:?}");
        }
    }
}

#[test]
fn a_flipped_bit_of_a_block_is_told_from_a_figure() {
    let folder = Folder::new("bits");
    let path = folder.file("x");
    let intervals = intervals(70, 2);
    write(&path, &intervals).finish("as asked").unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    let block: Vec<u8> =
        connection.query_row("SELECT rows FROM blocks ORDER BY id LIMIT 1", [], |row| row.get(0)).unwrap();
    let mut told = 0;
    for at in (0..block.len()).step_by(97) {
        let mut flipped = block.clone();
        flipped[at] ^= 1 << (at % 8);
        let change = "UPDATE blocks SET rows = ? WHERE id = (SELECT min(id) FROM blocks)";
        connection.execute(change, [&flipped]).unwrap();
        let read = Recording::open(&path).and_then(|recording| {
            let mut all = Vec::new();
            recording.each(Part::default(), |interval| {
                all.push(interval);
                Ok::<_, Error>(())
            })?;
            Ok(all)
        });
        match read {
            Ok(read) => assert!(read == intervals, "byte {at}"),
            Err(error) => {
                assert!(error.to_string().contains("block"), "{error}");
                told += 1;
            }
        }
    }
    assert!(told > block.len() / 97 / 2, "{told} of {} bytes", block.len());
}

#[test]
fn a_second_recorder_is_refused() {
    let folder = Folder::new("second-recorder");
    let path = folder.file("x");
    let one = Writer::create(&path, false, &Generator::about()).unwrap();
    let error = Writer::create(&path, true, &Generator::about()).err().unwrap();
    assert!(matches!(&error, Error::Recording(found) if *found == path), "{error}");
    drop(one);
    Writer::create(&path, true, &Generator::about()).unwrap();
}

#[test]
fn sql_reads_what_is_packed() {
    let folder = Folder::new("sql");
    let path = folder.file("x");
    let intervals = intervals(130, 2);
    write(&path, &intervals).finish("as asked").unwrap();
    let sql = Recording::open(&path).unwrap().into_sql().unwrap();
    let ask_of = |sql: &Sql, statement: &str| -> Result<String, String> {
        let mut found = String::new();
        sql.query::<String>(
            statement,
            |_| Ok(()),
            |row| {
                let words = row.iter().map(|value| match value {
                    ValueRef::Integer(number) => number.to_string(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                });
                found += &(words.collect::<Vec<_>>().join("|") + "\n");
                Ok(())
            },
        )?;
        Ok(found)
    };
    let ask = |statement: &str| ask_of(&sql, statement);
    let exits: u64 = intervals.iter().map(Interval::exits).sum();
    for query in [
        "sum(exits) FROM spans",
        "sum(count) FROM exits",
        "sum(count) FROM exit_rows",
        "sum(exits) FROM rate",
        "sum(exits) FROM rate_by_reason",
        "sum(exits) FROM by_reason",
        "sum(exits) FROM hour_spans",
        "sum(count) FROM hour_rows",
        "sum(count) FROM minute_rows",
    ] {
        assert_eq!(ask(&format!("SELECT {query}")).unwrap(), format!("{exits}\n"), "{query}");
    }
    // The same of older schemas: what they lack is made. Their tables are made of a recording in which nobody comes and goes.
    let steady = folder.file("steady");
    let nobody_comes: Vec<Interval> = Generator::new(2, 2)
        .take(130)
        .map(|interval| Interval { length: Duration::from_secs(2), ..interval })
        .collect();
    write(&steady, &nobody_comes).finish("as asked").unwrap();
    let steady_sql = Recording::open(&steady).unwrap().into_sql().unwrap();
    let tables = [
        "SELECT interval_id, vm_id, vcpu, level, isa, code, reason, count, time_ns, min_ns, max_ns FROM exits",
        "SELECT id, offset_ns, length_ns, exits FROM intervals",
        "SELECT minute, start, seconds, vm, vm_id, reason, count, time_ns, max_ns FROM minute_rows",
        "SELECT hour, vm, vcpu, reason, count, time_ns, max_ns FROM hour_rows",
        "SELECT * FROM by_reason ORDER BY exits DESC, reason",
        "SELECT returned, sum(count) FROM returns GROUP BY 1 ORDER BY 1",
    ];
    for version in 1..=5 {
        let old = folder.file("old");
        let _ = std::fs::remove_file(&old);
        if version < 5 {
            super::older::make(&steady, &old, version);
        } else {
            std::fs::copy(&steady, &old).unwrap();
            let connection = rusqlite::Connection::open(&old).unwrap();
            let less = "DROP VIEW minute_rows; DROP TABLE minute_reasons; PRAGMA user_version = 5";
            connection.execute_batch(less).unwrap();
        }
        let old = Recording::open(&old).unwrap().into_sql().unwrap();
        for table in tables {
            assert!(
                ask_of(&old, table).unwrap() == ask_of(&steady_sql, table).unwrap(),
                "{table}, schema {version}"
            );
        }
    }
    let rows: usize = intervals.iter().map(|interval| interval.rows.len()).sum();
    assert_eq!(ask("SELECT count(*) FROM exits").unwrap(), format!("{rows}\n"));
    for (bounds, from, to) in [
        ("interval_id = 70", 69, 70),
        ("interval_id BETWEEN 60 AND 66", 59, 66),
        ("interval_id > 127", 127, 130),
        ("interval_id < 3 OR interval_id IN (1, 2)", 0, 2),
        ("interval_id = 131", 130, 130),
    ] {
        let some: u64 = intervals[from..to].iter().map(Interval::exits).sum();
        let found = ask(&format!("SELECT coalesce(sum(count), 0) FROM exits WHERE {bounds}")).unwrap();
        assert_eq!(found, format!("{some}\n"), "{bounds}");
    }
    let returns: u64 =
        intervals.iter().flat_map(|i| &i.rows).flat_map(|row| row.counters.returns.values()).sum();
    assert_eq!(ask("SELECT sum(count) FROM returns").unwrap(), format!("{returns}\n"));
    assert_eq!(ask("SELECT sum(count) FROM by_return").unwrap(), format!("{returns}\n"));
    let com1 = "SELECT sum(count) FROM details WHERE kind = 'port' AND number = 0x3f8 AND name = 'COM1'";
    assert_eq!(ask(com1).unwrap(), ask("SELECT exits FROM by_port WHERE port = '0x3f8'").unwrap());
    let torn: u64 = intervals.iter().map(|interval| interval.loss.torn).sum();
    assert_eq!(ask("SELECT figure, sum(count) FROM losses").unwrap(), format!("torn|{torn}\n"));
    for (wrong, words) in [
        ("SELECT absent", "no such column"),
        ("DELETE FROM intervals", "readonly"),
        ("ATTACH 'x' AS y", "too many attached"),
    ] {
        let error = ask(wrong).err().unwrap_or_else(|| panic!("{wrong}"));
        assert!(error.contains(words), "{wrong}: {error}");
    }
    // A damaged block is told where it is read.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE blocks SET rows = zeroblob(99) WHERE level = 0", []).unwrap();
    let sql = Recording::open(&path).unwrap().into_sql().unwrap();
    let error = sql.query::<String>("SELECT count(*) FROM exits", |_| Ok(()), |_| Ok(())).unwrap_err();
    assert!(error.contains("block"), "{error}");
}

/// Statements that docs/recording.md gives as examples: SQLite's alone, and those that need this program.
#[test]
fn the_documented_examples_run() {
    let folder = Folder::new("examples");
    let path = folder.file("boot.rec");
    write(&path, &intervals(130, 2)).finish("as asked").unwrap();
    let plain = rusqlite::Connection::open(&path).unwrap();
    let sql = Recording::open(&path).unwrap().into_sql().unwrap();
    let document = include_str!("../../../docs/recording.md");
    let mut run = [0, 0];
    for line in document.lines().filter_map(|line| line.strip_prefix("    ")) {
        let statement = |prefix: &str| {
            let rest = line.strip_prefix(prefix)?;
            let (_, statement) = rest.split_once(['"', '\''])?;
            let quote = rest.chars().find(|c| ['"', '\''].contains(c))?;
            Some(statement.rsplit_once(quote)?.0.to_owned())
        };
        if let Some(statement) = statement("sqlite3 ") {
            let mut prepared = plain.prepare(&statement).unwrap_or_else(|error| panic!("{line}: {error}"));
            let mut rows = prepared.query([]).unwrap();
            while rows.next().unwrap().is_some() {}
            run[0] += 1;
        } else if let Some(statement) = statement("exitscope sql ") {
            sql.query::<String>(&statement, |_| Ok(()), |_| Ok(()))
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            run[1] += 1;
        }
    }
    assert!(run[0] >= 5 && run[1] >= 3, "{run:?} examples");
}
