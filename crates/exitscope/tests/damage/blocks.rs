//! Packed blocks that were made to do harm: their checksums are right, and what they say is not.

use super::forge::Forge;
use super::hostile::{bounded, good, refused};
use super::{ALONE, MEMORY, MOST, NOW, Scratch, Seeded, interval, recorded};
use exitscope::top::Accumulator;
use exitscope_model::compare;
use exitscope_record::{Error, Notes, Part, Recording, Resolution};
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A frame with a checksum, which may unpack to as much as the reader allows: it is filled up by a frame that unpacks to nothing
/// (RFC 8878, section 3.1.2).
fn pack(bytes: &[u8], least: usize) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    compressor.include_checksum(true).unwrap();
    let mut packed = compressor.compress(bytes).unwrap();
    if let Some(zeros) = least.checked_sub(packed.len() + 8) {
        packed.extend([0x50, 0x2a, 0x4d, 0x18]);
        packed.extend(u32::try_from(zeros).unwrap().to_le_bytes());
        packed.resize(packed.len() + zeros, 0);
    }
    packed
}

/// A number as LEB128.
fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let seven = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(seven);
            return bytes;
        }
        bytes.push(seven | 0x80);
    }
}

/// The bytes of a block of these parts.
fn block(head: &[u8], lengths: &[u8], bits: &[u8]) -> Vec<u8> {
    [&number(head.len() as u64), &number(lengths.len() as u64), head, lengths, bits].concat()
}

/// Reads a recording in every way there is.
fn read(path: &Path) -> Result<(), Error> {
    let recording = Recording::open(path)?;
    let whole = recording.boot_report(Part::default())?.map(|boot| boot.whole);
    recording.exits()?;
    let mut seen = Accumulator::default().adding();
    for longest in [Resolution::Full, Resolution::Minute, Resolution::Hour] {
        recording.each_sum(0..recording.len(), longest, |_, interval| {
            seen.take(interval);
            Ok::<_, Error>(())
        })?;
    }
    if let Some(whole) = &whole {
        compare(&[whole], &[whole]);
    }
    let sql = recording.into_sql()?;
    for table in ["spans", "exits", "breakdown_rows", "losses", "minute_rows", "moments"] {
        // An error of a statement is one of the recording.
        let _ = sql.query::<String>(&format!("SELECT * FROM {table}"), |_| Ok(()), |_| Ok(()));
    }
    Ok(())
}

/// A recording of 130 seconds: two minutes and some, with a block of each kind.
fn long() -> Scratch {
    let file = Scratch::new("long");
    let mut writer = recorded(&file.0);
    for second in super::INTERVALS..130 {
        writer.write(&interval(second), &Notes::default()).unwrap();
    }
    writer.finish("as asked").unwrap();
    file
}

#[test]
fn blocks_with_right_checksums_and_wrong_content_do_no_harm() {
    let _alone = ALONE.lock();
    let (good, file) = (long(), Scratch::new("forged"));
    std::fs::copy(&good.0, &file.0).unwrap();
    let connection = Connection::open(&file.0).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    let mut statement = connection.prepare("SELECT id, rows, totals FROM blocks ORDER BY id").unwrap();
    let blocks: Vec<(i64, [Vec<u8>; 2])> = statement
        .query_map([], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?])))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    drop(statement);
    assert!(blocks.len() >= 5, "{} blocks", blocks.len());
    assert!(read(&file.0).is_ok());
    let mut seeded = Seeded(0x2545_f491_4f6c_dd1d);
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..200 {
        let (id, columns) = &blocks[seeded.below(blocks.len())];
        // Mostly the rows.
        let which = usize::from(round % 5 == 0);
        let mut bytes = zstd::decode_all(&columns[which][..]).unwrap();
        for _ in 0..1 + seeded.below(4) {
            // The head says how much there is of everything; it is at the beginning.
            let within = if seeded.below(3) == 0 { bytes.len() } else { bytes.len().min(120) };
            let at = seeded.below(within);
            match seeded.below(6) {
                0 => bytes[at] = 0xff,
                1 => bytes[at] = 0,
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, u8::try_from(seeded.below(256)).unwrap()),
                4 => drop(bytes.splice(at..=at, number(u64::MAX >> seeded.below(64)))),
                _ => bytes[at] ^= u8::try_from(1 + seeded.below(255)).unwrap(),
            }
        }
        let column = ["rows", "totals"][which];
        let change = format!("UPDATE blocks SET {column} = ? WHERE id = ?");
        connection.execute(&change, rusqlite::params![pack(&bytes, columns[which].len()), id]).unwrap();
        match read(&file.0) {
            Ok(()) => taken += 1,
            Err(error) => {
                assert!(error.to_string().contains("exitscope-damage"), "{error}");
                refused += 1;
            }
        }
        connection.execute(&change, rusqlite::params![columns[which], id]).unwrap();
    }
    let most = MOST.load(Ordering::Relaxed) - before;
    println!("{refused} refused, {taken} taken; at most {most} bytes at once");
    assert!(refused > 50 && taken > 5, "{refused} refused, {taken} taken");
    assert!(most < 4 * MEMORY, "{most} bytes at once");
}

#[test]
fn what_a_block_says_of_its_size_is_not_believed() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("sizes"));
    // One interval, number 1, without length and losses; then so many rows of exits whose places are all zeros.
    let rows = |count: u64| [&[1, 1, 0, 0][..], &number(count), &[0; 60]].concat();
    let far = |count: u64| [&number(count)[..], &[1, 0], &[0; 60]].concat();
    // Rows by an interval column of differences: 0, 1, 2 …; each says that it has all 38 buckets.
    let many = 100_000_u64;
    for (name, bytes, least, words) in [
        ("rows of nothing", block(&rows(1 << 40), &[], &[]), 4096, "more rows than its bytes allow"),
        ("rows of zeros", block(&rows(many), &[], &[]), 900_000, "not in order"),
        ("intervals", block(&far(1 << 40), &[], &[]), 4096, "intervals"),
        ("more intervals", block(&far(4096), &[], &[]), 4096, ""),
        ("losses", block(&[1, 1, 0, 0xff, 0xff, 0xff, 0x7f], &[], &[]), 64, "cut off"),
        ("a long text", block(&[1, 1, 0, 1, 0xff, 0xff, 0xff, 0x7f], &[], &[]), 64, "cut off"),
        ("no such loss", block(&[1, 1, 0, 1, 1, b'x', 5], &[], &[]), 64, "not known"),
        ("a column of no mode", block(&[1, 1, 9], &[], &[]), 64, "unknown mode"),
        ("parts", [number(u64::MAX), number(u64::MAX)].concat(), 64, "longer than the whole"),
        ("too long a number", block(&[0xff; 40], &[], &[]), 64, "more than 64 bits"),
        ("nothing", Vec::new(), 64, "cut off"),
        ("a length of 255 bits", block(&[1, 1, 1], &[0, 255], &[]), 64, "more than 64 bits"),
        ("bits that are not there", block(&[1, 1, 1], &[0, 60], &[0; 3]), 64, "cut off"),
    ] {
        let packed = pack(&bytes, least);
        let change = |file: &Connection| {
            file.execute("UPDATE blocks SET rows = ?", [&packed]).unwrap();
        };
        let length = Forge::of(&good.0, &file.0, 4096, change).save();
        refused(name, &file.0, length, words);
    }
    for (name, bytes, words) in [
        ("intervals", block(&number(1 << 50), &[], &[]), "more rows than its bytes allow"),
        ("entries", block(&[&[1, 0, 0][..], &number(1 << 50), &[0; 9]].concat(), &[], &[]), "more rows"),
        ("none", block(&[0, 0, 0, 0, 0, 0, 0], &[], &[]), "other totals than it says"),
    ] {
        let packed = pack(&bytes, 64);
        let change = |file: &Connection| {
            file.execute("UPDATE blocks SET totals = ?", [&packed]).unwrap();
        };
        let length = Forge::of(&good.0, &file.0, 4096, change).save();
        refused(name, &file.0, length, words);
    }
}

/// Sums that are not those of their intervals, times that go back or nowhere: all can be read, or is refused.
#[test]
fn sums_and_times_that_contradict_one_another_do_no_harm() {
    let _alone = ALONE.lock();
    let (good, file) = (long(), Scratch::new("contradicts"));
    for (change, words) in [
        // The sum of the first minute stands for the second.
        (
            "UPDATE blocks SET rows = (SELECT rows FROM blocks WHERE level = 1 ORDER BY id LIMIT 1) WHERE level = 1",
            Some("other intervals than it says"),
        ),
        (
            "UPDATE blocks SET totals = (SELECT totals FROM blocks WHERE level = 0 LIMIT 1)",
            Some("other totals"),
        ),
        // Totals of one minute in the other.
        (
            "UPDATE blocks SET totals = (SELECT totals FROM blocks WHERE level = 1 ORDER BY id DESC LIMIT 1) WHERE level = 1",
            None,
        ),
        ("UPDATE minutes SET last_interval = last_interval - 1", None),
        ("UPDATE minutes SET length_ns = 1", None),
        ("DELETE FROM intervals WHERE id < 100", None),
        ("DELETE FROM intervals; DELETE FROM minutes", None),
        ("DELETE FROM intervals; UPDATE minutes SET length_ns = length_ns + 1", Some("does not follow")),
        ("UPDATE intervals SET offset_ns = 0", Some("does not follow")),
        ("UPDATE intervals SET offset_ns = offset_ns + 5 WHERE id > 50", Some("does not follow")),
        ("UPDATE intervals SET length_ns = 0x7fffffffffffffff", Some("longer than time")),
        ("UPDATE intervals SET start_ns = 0x7fffffffffffffff - start_ns, end_ns = 0", None),
        ("UPDATE intervals SET length_ns = -1", Some("length_ns")),
        ("UPDATE blocks SET first_interval = -5 WHERE level = 1", Some("not in order")),
        (
            "UPDATE blocks SET last_interval = 0x7fffffffffffffff WHERE id = (SELECT max(id) FROM blocks)",
            None,
        ),
        ("UPDATE minute_reasons SET count = -1, time_ns = -1", None),
        ("UPDATE minute_reasons SET minute = minute + 1000", None),
    ] {
        let length = Forge::as_it_is(&good.0, &file.0, |file| file.execute_batch(change).unwrap());
        let error = bounded(change, &file.0, length);
        let of_all = read(&file.0);
        if let Some(words) = words {
            let error = error.or(of_all.err()).unwrap_or_else(|| panic!("not refused: {change}"));
            assert!(error.to_string().contains(words), "{change}: {error}");
        }
    }
    // Sums of numbers that fit their types one by one and not together.
    let file = Scratch::new("large");
    let mut writer = recorded(&file.0);
    let mut large = interval(0);
    large.length = Duration::from_secs(1);
    large.rows[0].counters.count = 1 << 62;
    for _ in 0..3 {
        writer.write(&large, &Notes::default()).unwrap();
    }
    drop(writer);
    let recording = Recording::open(&file.0).unwrap();
    let error = recording.whole(Part::default()).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
}
