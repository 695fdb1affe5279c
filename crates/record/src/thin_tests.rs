//! Recordings that are thinned while they go on, and clocks that jump meanwhile.

use super::files::beside;
use super::packed_tests::{intervals, sum};
use super::tests::{Folder, all};
use super::*;
use exitscope_model::Interval;
use exitscope_model::generator::Generator;
use std::time::{Duration, SystemTime};

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
        let thinned = recording.thinned().unwrap();
        assert_eq!(thinned.gone, first);
        assert_eq!(
            [thinned.hours, thinned.minutes],
            [of(3600), of(60)]
                .map(|n| u32::try_from(n).unwrap())
                .into_iter()
                .zip([3600, 60])
                .map(|(n, s)| n * Duration::from_secs(s))
                .collect::<Vec<_>>()[..]
        );
        assert_eq!(recording.resolution(0), Resolution::Hour);
        assert_eq!(recording.resolution(recording.len() - 1), Resolution::Full);
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

/// A host's clock that is set forwards by a day, backwards by two, and to before 1970, in the middle of a minute.
#[test]
fn a_clock_that_jumps_changes_no_sum() {
    let folder = Folder::new("clock");
    let mut intervals = intervals(900, 10);
    let day = Duration::from_secs(24 * 3600);
    let moved = |time: &mut SystemTime, number: usize| match number {
        200..400 => *time += day,
        400..600 => *time -= 2 * day,
        600..620 => *time = SystemTime::UNIX_EPOCH,
        _ => {}
    };
    for (number, interval) in intervals.iter_mut().enumerate() {
        moved(&mut interval.start, number);
        // The clock is set while an interval is going on.
        moved(&mut interval.end, number + 1);
    }
    let whole = sum(&intervals).unwrap();
    for keep in [None, Some(Keep { full: Duration::from_secs(600), keep: None, max_size: None })] {
        let path = folder.file("x");
        let mut writer = Writer::create(&path, true, &Generator::about()).unwrap();
        writer.hurry();
        if let Some(keep) = keep {
            writer.keep(keep).unwrap();
        }
        for interval in &intervals {
            writer.write(interval, &Notes::default()).unwrap();
        }
        writer.finish("as asked").unwrap();
        let recording = Recording::open(&path).unwrap();
        assert!(recording.whole(Part::default()).unwrap().unwrap() == whole);
        let boot = recording.boot_report(Part::default()).unwrap().unwrap();
        assert_eq!(boot.series.whole().exits, whole.exits());
        assert_eq!(recording.thinned().is_some(), keep.is_some());
        if keep.is_some() {
            continue;
        }
        assert!(all(&recording) == intervals);
        // A part by the host's clock has whatever lies in it by that clock, wherever that is in the recording.
        for (from, to) in [(0, 900), (100, 300), (350, 450), (599, 640)] {
            let (from, to) = (intervals[from].start, intervals[to - 1].end);
            let part = Part { from: Some(When::At(from)), to: Some(When::At(to)), ..Part::default() };
            let wanted = |interval: &&Interval| interval.end > from && interval.start < to;
            let some: Vec<Interval> = intervals.iter().filter(wanted).cloned().collect();
            let found = recording.whole(part).unwrap();
            assert_eq!(found.as_ref().map(Interval::exits), sum(&some).as_ref().map(Interval::exits));
        }
        let after = (When::After(Duration::from_secs(1990)), When::After(Duration::from_secs(2010)));
        let part = Part { from: Some(after.0), to: Some(after.1), ..Part::default() };
        assert!(recording.whole(part).unwrap() == sum(&intervals[199..201]));
    }
}

/// At every place at which its log can end, whoever reads finds what was written up to some interval, thinned or not.
#[test]
fn a_recorder_that_dies_while_it_thins_loses_the_last_intervals_at_most() {
    let folder = Folder::new("dies");
    let (path, copy) = (folder.file("x"), folder.file("y"));
    let intervals = intervals(240, 30);
    let mut so_far = 0;
    let sums: Vec<u64> = intervals
        .iter()
        .map(|interval| {
            so_far += interval.exits();
            so_far
        })
        .collect();
    let mut writer = Writer::create(&path, true, &Generator::about()).unwrap();
    writer.hurry();
    writer.keep(Keep { full: Duration::from_secs(600), keep: None, max_size: None }).unwrap();
    let (mut thinned, mut cut) = (0, 0);
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    for (number, interval) in intervals.iter().enumerate() {
        let log = beside(&path, "-wal");
        let before = (read(&path), read(&log).len());
        writer.write(interval, &Notes::default()).unwrap();
        let (file, bytes) = (read(&path), read(&log));
        let mut ends = vec![bytes.len()];
        // What was written is at the end of the log, unless that went into the file, or began anew.
        if number > 0 && before.0 == file && before.1 < bytes.len() {
            let more = bytes.len() - before.1;
            ends.extend([before.1, before.1 + more * (number % 7) / 7, bytes.len() - 1]);
        }
        for end in ends {
            std::fs::write(&copy, &file).unwrap();
            std::fs::write(beside(&copy, "-wal"), &bytes[..end]).unwrap();
            let recording = Recording::open(&copy).unwrap();
            let exits = recording.whole(Part::default()).unwrap().map_or(0, |whole| whole.exits());
            let expected = if end == bytes.len() { sums[number] } else { sums[number - 1] };
            assert_eq!(exits, expected, "after {number}, with {end} of {} bytes of the log", bytes.len());
            thinned += u32::from(recording.thinned().is_some());
            cut += u32::from(end < bytes.len());
            drop(recording);
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(beside(&copy, suffix));
            }
        }
    }
    assert!(cut > 10, "{cut}");
    assert!(thinned > 20, "{thinned}");
    // And a disk that is full: of what was to be written nothing is there, and all else is.
    writer.limit_pages();
    let error = loop {
        match writer.write(&intervals[0], &Notes::default()) {
            Ok(()) => so_far += intervals[0].exits(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full(_)), "{error}");
    drop(writer);
    let whole = Recording::open(&path).unwrap().whole(Part::default()).unwrap().unwrap();
    assert_eq!(whole.exits(), so_far);
}
