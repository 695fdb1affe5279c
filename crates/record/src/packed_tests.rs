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

fn sum(intervals: &[Interval]) -> Option<Interval> {
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
fn old_intervals_give_way_to_minutes_and_hours_and_sums_stay() {
    let folder = Folder::new("thinned");
    let path = folder.file("x");
    // 50 hours, of which two are kept as they were, and the minutes of one day.
    let intervals = intervals(50 * 120, 30);
    let hour = Duration::from_secs(3600);
    let mut writer = Writer::create(&path, true, &Generator::about()).unwrap();
    writer.hurry();
    writer.keep(Keep { full: 2 * hour, keep: Some(30 * hour), max_size: None }).unwrap();
    let mut reader = None;
    for (number, interval) in intervals.iter().enumerate() {
        writer.write(interval, &Notes::default()).unwrap();
        // Whoever reads meanwhile sees what was there when it began.
        if number == 45 * 120 {
            let recording = Recording::open(&path).unwrap();
            let whole = recording.whole(Part::default()).unwrap().unwrap();
            reader = Some((recording, whole));
        }
    }
    let (recording, whole) = reader.unwrap();
    assert!(recording.whole(Part::default()).unwrap().unwrap() == whole);
    drop(recording);
    for ended in [false, true] {
        let recording = Recording::open(&path).unwrap();
        let lengths: Vec<u64> = recording.moments().map(|(_, length)| length.as_secs()).collect();
        let of = |wanted: u64| lengths.iter().filter(|length| **length == wanted).count();
        assert_eq!(of(3600) + of(60) + of(30), lengths.len());
        assert!(lengths.is_sorted_by(|a, b| a >= b), "the older, the longer");
        // The last minute and hour are not over, and are thinned after that.
        assert!((240..=243).contains(&of(30)), "{} intervals", of(30));
        assert!((22 * 60..=23 * 60 + 1).contains(&of(60)), "{} minutes", of(60));
        assert!((5..=7).contains(&of(3600)), "{} hours", of(3600));
        let first = recording.moments().next().unwrap().0;
        let gone = usize::try_from(first.as_secs() / 30).unwrap();
        let whole = recording.whole(Part::default()).unwrap().unwrap();
        let mut expected = sum(&intervals[gone..]).unwrap();
        // One that ended before that is not known any more, and nothing of it is left.
        expected.vms.retain(|vm, _| whole.vms.contains_key(vm));
        assert!(whole == expected);
        let boot = recording.boot_report(Part::default()).unwrap().unwrap();
        assert!(boot.whole == whole);
        assert_eq!(boot.series.slices()[0].at, first);
        let mut each = None;
        recording
            .each(Part::default(), |interval| {
                Interval::append(&mut each, interval);
                Ok::<_, Error>(())
            })
            .unwrap();
        assert!(each.unwrap() == whole);
        if ended {
            break;
        }
        drop(recording);
        writer.hurry();
    }
    writer.finish("as asked").unwrap();
    assert!(Recording::open(&path).unwrap().whole(Part::default()).unwrap().is_some());
}

#[test]
fn a_recording_stays_within_its_size() {
    let folder = Folder::new("within");
    let path = folder.file("x");
    let mut writer = Writer::create(&path, true, &Generator::about()).unwrap();
    writer.hurry();
    let hour = Duration::from_secs(3600);
    let small = Keep { full: hour, keep: None, max_size: Some(LEAST_SIZE - 1) };
    assert!(matches!(writer.keep(small), Err(Error::TooSmall { .. })));
    writer.keep(Keep { max_size: Some(LEAST_SIZE), ..small }).unwrap();
    let mut exits = 0;
    let mut most = 0;
    for (number, mut interval) in Generator::new(20, 4).take(900).enumerate() {
        interval.length = Duration::from_secs(1);
        writer.write(&interval, &Notes::default()).unwrap();
        exits += interval.exits();
        if number % 10 == 0 {
            most = most.max(writer.size());
        }
    }
    writer.finish("as asked").unwrap();
    most = most.max(std::fs::metadata(&path).unwrap().len());
    println!("at most {most} bytes");
    assert!(most <= LEAST_SIZE, "{most} bytes");
    let recording = Recording::open(&path).unwrap();
    assert!(recording.len() < 900 && recording.len() > 15, "{} moments", recording.len());
    assert_eq!(recording.whole(Part::default()).unwrap().unwrap().exits(), exits);
    // What no minute's end makes room for ends the recording, and says so.
    let mut writer = Writer::create(&folder.file("y"), true, &Generator::about()).unwrap();
    writer.hurry();
    writer.keep(Keep { max_size: Some(LEAST_SIZE), ..small }).unwrap();
    let mut generator = Generator::new(100, 8);
    let error = loop {
        match writer.write(&generator.next().unwrap(), &Notes::default()) {
            Ok(()) => assert!(writer.intervals() < 100),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("--max-size"), "{error}");
    drop(writer);
    assert!(!Recording::open(&folder.file("y")).unwrap().is_empty());
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
    let ask = |statement: &str| -> Result<String, String> {
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
    let exits: u64 = intervals.iter().map(Interval::exits).sum();
    for query in [
        "sum(exits) FROM spans",
        "sum(count) FROM exits",
        "sum(count) FROM exit_rows",
        "sum(exits) FROM rate",
        "sum(exits) FROM rate_by_reason",
        "sum(exits) FROM by_reason",
        "sum(exits) FROM hour_spans",
    ] {
        assert_eq!(ask(&format!("SELECT {query}")).unwrap(), format!("{exits}\n"), "{query}");
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
