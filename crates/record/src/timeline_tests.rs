//! Events of intervals, and recordings of older versions.

use super::tests::{Folder, about, all, fixture, recorded};
use super::*;
use exitscope_analysis::boot_report::{BootReport, IntervalEvents, LeftOut, Mark, Origin};
use exitscope_analysis::console::Line;
use exitscope_analysis::outcome::{Evidence, Kind, Outcome};
use exitscope_analysis::phase_detector::PhaseStart;
use exitscope_model::{Details, Interval, Modes};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn line(second: u64, text: &str) -> Line {
    Line { at: at(second), text: text.into() }
}

fn hand(second: u64, text: &str) -> Mark {
    Mark { at: at(second), origin: Origin::Hand, text: text.into() }
}

fn phase(name: &str, second: u64) -> PhaseStart {
    PhaseStart { name: name.into(), at: at(second) }
}

/// Five intervals of ten seconds, with a reboot, and what came with each.
fn events() -> Vec<IntervalEvents> {
    let left_out = LeftOut { lines: 3, bytes: 4, marks: 5 };
    let mut events = vec![IntervalEvents::default(); 5];
    events[0].phases = vec![phase("start", 0), phase("firmware", 10)];
    events[1].lines = vec![line(12, "SeaBIOS <script>\u{1b}[2J\u{202e}"), line(19, "GRUB")];
    events[2].marks = vec![Mark::port(at(25), 0xf4, 0x10), hand(26, "half;way")];
    // The one is known only now; the other begins with this interval, and a third after it.
    events[3].phases = vec![phase("kernel decompression", 20), phase("kernel", 30), phase("firmware", 40)];
    events[3].left_out = left_out;
    events[4].phases = vec![phase("login", 50)];
    events[4].left_out = left_out;
    events
}

fn record(path: &Path, until: Option<&str>) -> Writer {
    let interval = fixture::busy();
    let mut writer = recorded(path, &[]);
    for events in events() {
        writer.write_events(&interval, &Notes::default(), &events).unwrap();
    }
    if let Some(until) = until {
        writer.until(until).unwrap();
    }
    writer
}

fn phases(boot: &BootReport) -> Vec<(&str, u64, u64)> {
    let all = boot.series.stretches().iter();
    all.map(|phase| (phase.name.as_str(), phase.whole.at.as_secs(), phase.whole.length.as_secs())).collect()
}

#[test]
fn a_life_is_as_it_was_seen_also_where_it_was_cut_off() {
    let folder = Folder::new("events");
    let path = folder.file("x");
    let writer = record(&path, None);
    let check = |end: &str| {
        let recording = Recording::open(&path).unwrap();
        let boot = recording.boot_report(Part::default()).unwrap().unwrap();
        let expected = [
            ("start", 0, 10),
            ("firmware", 10, 10),
            ("kernel decompression", 20, 10),
            ("kernel", 30, 10),
            ("firmware", 40, 10),
            ("login", 50, 0),
        ];
        assert_eq!(phases(&boot), expected);
        let events = events();
        assert_eq!((&boot.console, &boot.marks), (&events[1].lines, &events[2].marks));
        assert_eq!((boot.left_out, boot.bytes_left_out, boot.marks_left_out), (3, 4, 5));
        assert_eq!(boot.end, end);
        assert_eq!(recording.phases(), ["start", "firmware", "kernel decompression", "kernel", "login"]);
        let part = |names: &[&str]| {
            let phases = names.iter().map(|&name| name.to_owned()).collect();
            recording.boot_report(Part { phases, ..Part::default() }).unwrap()
        };
        let firmware = part(&["firmware"]).unwrap();
        assert_eq!(phases(&firmware), [("firmware", 10, 10), ("firmware", 40, 10)]);
        assert_eq!((firmware.console.len(), firmware.marks.len()), (2, 0));
        assert_eq!(firmware.whole.length, at(20));
        let kernel = part(&["kernel decompression", "kernel"]).unwrap();
        assert_eq!(
            (kernel.console.len(), kernel.marks.len(), kernel.end.as_str()),
            (0, 2, "the end of this part")
        );
        assert!(part(&["login"]).is_none(), "nothing was counted in it");
    };
    check("the last interval that was written");
    drop(writer);
    check("the last interval that was written");
    std::fs::remove_file(&path).unwrap();
    let _ = std::fs::remove_file(files::beside(&path, "-wal"));
    record(&path, Some("a login prompt")).finish("as asked").unwrap();
    check("a login prompt");

    let connection = Connection::open(&path).unwrap();
    let rows = |query: &str| -> Vec<String> {
        let mut statement = connection.prepare(query).unwrap();
        let columns = statement.column_count();
        let text = |row: &rusqlite::Row<'_>| -> rusqlite::Result<String> {
            let cells: Vec<String> = (0..columns)
                .map(|column| match row.get_ref_unwrap(column) {
                    rusqlite::types::ValueRef::Real(number) => number.to_string(),
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    _ => "-".into(),
                })
                .collect();
            Ok(cells.join("|"))
        };
        statement.query_map([], text).unwrap().map(Result::unwrap).collect()
    };
    let exits = fixture::busy().exits();
    let phase = |name: &str, second: u64| format!("{name}|{second}|10|{exits}");
    assert_eq!(
        rows("SELECT phase, second, seconds, exits FROM by_phase"),
        [
            phase("start", 0),
            phase("firmware", 10),
            phase("kernel decompression", 20),
            phase("kernel", 30),
            phase("firmware", 40),
            "login|-|0|0".into()
        ]
    );
    let rate = rows("SELECT per_second FROM rate LIMIT 1");
    assert_eq!(
        rows("SELECT second, phase, per_second FROM console_lines"),
        [format!("12|firmware|{}", rate[0]), format!("19|firmware|{}", rate[0])]
    );
    assert_eq!(
        rows("SELECT origin, port, value, text FROM marks"),
        ["port|244|16|port 0xf4: 0x10", "hand|-|-|half;way"]
    );
    let high: u64 =
        fixture::busy().rows.iter().map(|row| row.counters.modes.get(exitscope_model::Mode::LongHigh)).sum();
    assert_eq!(rows("SELECT exits FROM by_mode WHERE mode = 'long, upper half'"), [(5 * high).to_string()]);
}

/// The recording is like those of the first version of this program.
#[test]
fn a_recording_of_version_1_is_read() {
    let folder = Folder::new("first");
    let (new, old) = (folder.file("new"), folder.file("old"));
    let mut interval = fixture::busy();
    interval.workers.clear();
    for row in &mut interval.rows {
        (row.counters.details, row.counters.modes) = (Details::default(), Modes::default());
    }
    let intervals: Vec<Interval> = vec![interval; 3];
    recorded(&new, &intervals).finish("as asked").unwrap();
    assert_eq!(older::make(&new, &old, 1), intervals);
    let connection = Connection::open(&old).unwrap();
    let returns: i64 = connection.query_row("SELECT count(*) FROM returns", [], |row| row.get(0)).unwrap();
    assert!(returns > 0);
    drop(connection);

    let recording = Recording::open(&old).unwrap();
    assert_eq!(all(&recording), intervals);
    assert_eq!((recording.about(), recording.end()), (&about(&intervals[0]), Some("as asked")));
    let boot = recording.boot_report(Part::default()).unwrap().unwrap();
    assert_eq!(phases(&boot), [("start", 0, 30)]);
    assert_eq!((boot.end.as_str(), boot.console, boot.marks), ("the end of the recording", vec![], vec![]));
}

#[test]
fn the_outcome_is_kept() {
    let folder = Folder::new("outcome");
    let path = folder.file("x");
    let mut writer = record(&path, Some("the failure"));
    let outcome = Outcome {
        kind: Kind::Failed,
        at: at(31),
        phase: "kernel".into(),
        cause: Some("kernel panic".into()),
        line: Some("Kernel panic - not syncing: \u{202e}".into()),
        began_again: 1,
        failures: 2,
    };
    let evidence = |line| Evidence {
        phase: "user space".into(),
        mode: Some((at(10), at(20))),
        line: Some(at(line)),
        by_line: Some(true),
    };
    writer.outcome(&outcome, &[evidence(30), evidence(15)]).unwrap();
    writer.finish("as asked").unwrap();
    let boot = Recording::open(&path).unwrap().boot_report(Part::default()).unwrap().unwrap();
    assert_eq!((boot.outcome, boot.evidence), (Some(outcome), vec![evidence(30)]));
    for (name, value) in
        [("outcome", "won"), ("outcome_at_ns", "-1"), ("phase_evidence", "line 1 2 x kernel")]
    {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let before: String =
            connection.query_row("SELECT value FROM facts WHERE name = ?", [name], |row| row.get(0)).unwrap();
        let set =
            |value: &str| connection.execute("UPDATE facts SET value = ? WHERE name = ?", [value, name]);
        set(value).unwrap();
        let error = Recording::open(&path).err().map(|error| error.to_string()).unwrap();
        assert!(error.contains(&format!("{name:?}")) && error.contains(value), "{error}");
        set(&before).unwrap();
    }
}

/// A recording of version 2 has details as counts alone, in one blob with the returns.
#[test]
fn a_recording_of_version_2_is_read() {
    let folder = Folder::new("second");
    let (new, old) = (folder.file("new"), folder.file("old"));
    let mut intervals: Vec<Interval> = vec![fixture::busy(); 3];
    recorded(&new, &intervals).finish("as asked").unwrap();
    assert_eq!(older::make(&new, &old, 2), intervals);
    let connection = Connection::open(&old).unwrap();
    let uses: i64 = connection.query_row("SELECT count(*) FROM uses", [], |row| row.get(0)).unwrap();
    assert!(uses > 10);
    drop(connection);

    for interval in &mut intervals {
        interval.workers.clear();
        for row in &mut interval.rows {
            let details = &mut row.counters.details;
            for of in details.counts.values_mut().chain([&mut details.other]) {
                (of.time_ns, of.max_ns) = (0, 0);
            }
        }
    }
    assert_eq!(all(&Recording::open(&old).unwrap()), intervals);
}

/// Recordings of versions 3 and 4 have a row for each reason of each vCPU.
#[test]
fn recordings_of_versions_3_and_4_are_read() {
    let folder = Folder::new("plain");
    for (number, interval) in fixture::all().into_iter().enumerate() {
        let new = folder.file(&format!("new-{number}"));
        let mut intervals = vec![interval; 2];
        recorded(&new, &intervals).finish("as asked").unwrap();
        for version in [4, 3] {
            let old = folder.file(&format!("{version}-{number}"));
            older::make(&new, &old, version);
            if version == 3 {
                intervals.iter_mut().for_each(|interval| interval.workers.clear());
            }
            let recording = Recording::open(&old).unwrap();
            assert_eq!(all(&recording), intervals);
            let mut whole = intervals[0].clone();
            whole.extend(&intervals[1]);
            assert_eq!(recording.whole(Part::default()).unwrap(), Some(whole));
        }
    }
}

/// Many ports and MSRs: what is told apart is bounded, and the sum is right.
#[test]
fn more_breakdowns_than_are_told_apart_are_others() {
    use super::breakdown::MOST;
    use exitscope_model::{Detail, DetailCounters, DetailKind};
    let folder = Folder::new("breakdowns");
    let path = folder.file("x");
    let mut interval = fixture::single();
    let counters = &mut interval.rows[0].counters;
    counters.details = Details::default();
    let most = MOST as u64;
    let twice = DetailCounters { count: 2, time_ns: 9, max_ns: 5 };
    for msr in 0..most {
        counters.details.counts.insert(Detail::new(DetailKind::Msr, msr, true), twice);
    }
    recorded(&path, std::slice::from_ref(&interval)).finish("as asked").unwrap();
    let read = all(&Recording::open(&path).unwrap()).remove(0);
    let (before, after) = (&interval.rows[0].counters, &read.rows[0].counters);
    assert_eq!(after.details.count(), before.details.count());
    assert_eq!(after.details.time_ns(), before.details.time_ns());
    assert!(after.details.counts.len() > MOST / 3 && after.details.other.count > most / 3);
    assert_eq!((&after.returns, after.modes), (&before.returns, before.modes));
}
