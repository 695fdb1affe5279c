//! Recordings that were made to harm who reads them: each is read or refused within bounds that follow from its length.

use super::forge::{Forge, Tree, Value, text};
use super::{ALONE, MOST, NOW, Scratch, WORK, interval, recorded, report};
use exitscope::top::Accumulator;
use exitscope_model::{Interval, Row, VcpuSpan};
use exitscope_record::{Error, Notes, Part, Recording};
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// More than this, and twice its length, no file may take at once.
const MEMORY: usize = 64 << 20;

/// All that is allocated, in bytes for each byte of a file, and what any file may take besides: work, counted.
const WORK_PER_BYTE: usize = 400;
const WORK_OF_ANY: usize = 256 << 20;

/// Reports a file of so many bytes, unpacked, and checks what that took; the error, if it was refused.
pub fn bounded(name: &str, path: &Path, length: u64) -> Option<Error> {
    let length = usize::try_from(length).unwrap();
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    WORK.store(0, Ordering::Relaxed);
    // SAFETY: it only reads and resets a figure of SQLite's own.
    unsafe { rusqlite::ffi::sqlite3_memory_highwater(1) };
    let error = report(path).err();
    let most = MOST.load(Ordering::Relaxed) - before;
    let work = WORK.load(Ordering::Relaxed);
    // SAFETY: as above.
    let of_sqlite = usize::try_from(unsafe { rusqlite::ffi::sqlite3_memory_highwater(0) }).unwrap();
    println!("{name}: {length} bytes, {most} + {of_sqlite} at once, {work} in all: {error:?}");
    assert!(most + of_sqlite < MEMORY + 2 * length, "{name}: {most} and {of_sqlite} bytes at once");
    assert!(work < WORK_OF_ANY + WORK_PER_BYTE * length, "{name}: {work} bytes in all");
    error
}

/// Checks that a file is refused with these words.
pub fn refused(name: &str, path: &Path, length: u64, words: &str) {
    let error = bounded(name, path, length).unwrap_or_else(|| panic!("{name} was not refused")).to_string();
    assert!(error.contains(words), "{name}: {error}");
}

pub fn good() -> Scratch {
    let file = Scratch::new("good");
    recorded(&file.0).finish("as asked").unwrap();
    file
}

pub fn nothing(_: &Connection) {}

#[test]
fn rows_that_share_their_bytes_are_refused() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("shared"));
    let int = |number: u64| Value::Int(number.cast_signed());
    // Each field as long as a recorder makes it at most.
    let facts = |number| vec![Value::Text(format!("fact {number:09}").into_bytes()), text(1 << 20)];
    let vms = |number| {
        let command = [b"[\"", &[b'a'; 300_000][..], b"\"]"].concat();
        vec![
            Value::Null,
            int(7),
            text(2),
            text(2),
            Value::Text(command),
            int(1),
            Value::Null,
            int(0),
            int(number),
        ]
    };
    let console = |number| vec![Value::Null, int(number), text(512)];
    let marks = |number| {
        vec![Value::Null, int(number), Value::Text(b"hand".into()), Value::Null, Value::Null, text(512)]
    };
    // Blocks that share their bytes, each of which looks like the next.
    let block: Vec<u8> = Connection::open(&good.0)
        .unwrap()
        .query_row("SELECT rows FROM blocks ORDER BY id LIMIT 1", [], |row| row.get(0))
        .unwrap();
    let blocks = |number: u64| {
        let rows = block.iter().copied().chain(std::iter::repeat_n(0, 100_000)).collect();
        vec![
            Value::Null,
            int(0),
            int(1 + number),
            int(1 + number),
            Value::Blob(block.clone()),
            Value::Blob(rows),
        ]
    };
    type Rows<'a> = (&'a str, Tree, u64, &'a dyn Fn(u64) -> Vec<Value>);
    let all: [Rows<'_>; 5] = [
        ("facts", Tree::Index, 300, &facts),
        ("vms", Tree::Table, 1000, &vms),
        ("console", Tree::Table, 3000, &console),
        ("marks", Tree::Table, 3000, &marks),
        ("blocks", Tree::Table, 2000, &blocks),
    ];
    for (table, tree, rows, row) in all {
        let mut forge = Forge::of(&good.0, &file.0, 512, nothing);
        forge.share(table, tree, rows, row);
        let length = forge.save();
        let error = bounded(table, &file.0, length).expect(table);
        println!("{error}");
    }
}

#[test]
fn trees_without_end_are_refused() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("endless"));
    let int = Value::Int;
    let word = |text: &str| Value::Text(text.as_bytes().into());
    let rows: [(&str, Tree, Vec<Value>); 7] = [
        ("facts", Tree::Index, vec![word("cpu"), word("1")]),
        ("intervals", Tree::Table, vec![Value::Null, int(0), int(0), int(0), int(0), int(0)]),
        ("minutes", Tree::Table, vec![Value::Null, int(1), int(0), int(0), int(0), int(0), int(0)]),
        ("vcpus", Tree::Table, vec![Value::Null, int(1), int(1), int(1), Value::Null]),
        ("reasons", Tree::Table, vec![Value::Null, int(1), word("svm"), int(1), word("x")]),
        ("phases", Tree::Table, vec![Value::Null, word("x"), int(1)]),
        (
            "blocks",
            Tree::Table,
            vec![Value::Null, int(0), int(1), int(1), Value::Blob(vec![1; 9]), Value::Blob(vec![1; 9])],
        ),
    ];
    for (table, tree, row) in rows {
        let mut forge = Forge::of(&good.0, &file.0, 4096, nothing);
        let root = forge.root(table);
        forge.endless(root, tree, &row);
        let length = forge.save();
        let words = match table {
            "intervals" | "minutes" => "does not follow",
            _ => "order",
        };
        refused(table, &file.0, length, words);
    }
    // The schema itself, and a table that SQLite reads with it.
    let index = ["index", "sqlite_autoindex_zz_1", "zz"].map(word);
    let entry = [&index[..], &[int(2), Value::Null]].concat();
    let mut forge =
        Forge::of(&good.0, &file.0, 65_536, |file| file.execute_batch("CREATE TABLE zz (a UNIQUE)").unwrap());
    forge.endless_schema(&entry);
    let length = forge.save();
    refused("schema", &file.0, length, "steps of SQLite");
    let mut forge = Forge::of(&good.0, &file.0, 4096, |file| file.execute_batch("ANALYZE").unwrap());
    let root = forge.root("sqlite_stat1");
    forge.endless(
        root,
        Tree::Table,
        &[word("hour_exits"), word("sqlite_autoindex_hour_exits_1"), word("9 1 1 1")],
    );
    let length = forge.save();
    bounded("statistics", &file.0, length);
}

#[test]
fn many_that_do_nothing_cost_no_more_than_they_say() {
    let _alone = ALONE.lock();
    let (good, file) = (Scratch::new("good"), Scratch::new("idle"));
    let mut writer = recorded(&good.0);
    let nobody = Interval {
        vms: Default::default(),
        vcpus: Vec::new(),
        workers: Vec::new(),
        rows: Vec::new(),
        length: Duration::ZERO,
        ..interval(0)
    };
    for _ in 0..4000 {
        writer.write(&nobody, &Notes::default()).unwrap();
    }
    writer.finish("as asked").unwrap();
    let change = |file: &Connection| {
        let made = "
            INSERT INTO vms SELECT 3, pid, name, vmm, command, 1, NULL, 0 FROM vms LIMIT 1;
            WITH RECURSIVE n (n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM n WHERE n < 8100)
                INSERT INTO vcpus SELECT n, 3, n, 1, NULL FROM n;";
        file.execute_batch(made).unwrap();
    };
    let length = Forge::of(&good.0, &file.0, 4096, change).save();
    assert!(bounded("idle", &file.0, length).is_none());
}

/// Blocks that claim more than they have: bytes, rows, intervals.
#[test]
fn blocks_that_unpack_to_more_than_they_may_are_refused() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("bomb"));
    let bomb = zstd::bulk::compress(&vec![0; 1 << 30], 3).unwrap();
    // One interval of a million rows of zeros, in 90 bytes: 13 numbers in front, then columns.
    let mut rows = vec![1, 1, 0, 0, 0xc0, 0x84, 0x3d];
    rows.resize(60, 0);
    let claims = zstd::bulk::compress(&[&[60, 0][..], &rows].concat(), 3).unwrap();
    for (name, rows, words) in [
        ("bomb", bomb, "say that they unpack to 1073741824"),
        ("claims", claims, "no checksum"),
        ("nothing", Vec::new(), "no frame of zstd"),
        ("zeros", vec![0; 1 << 20], "no frame of zstd"),
    ] {
        let change = |file: &Connection| {
            for column in ["rows", "totals"] {
                let update = format!("UPDATE blocks SET {column} = ?");
                file.execute(&update, [&rows]).unwrap();
            }
        };
        let length = Forge::of(&good.0, &file.0, 4096, change).save();
        refused(name, &file.0, length, words);
    }
}

/// An interval of these vCPUs of one VM, each with so many of the rows that a vCPU has.
fn with_vcpus(vcpus: std::ops::Range<u32>, rows: usize) -> Interval {
    let mut whole = interval(0);
    let (span, of_one) = (whole.vcpus[0], whole.rows[..rows].to_vec());
    whole.vms.retain(|vm, _| *vm == span.vm);
    let rows = vcpus.clone().flat_map(|vcpu| of_one.iter().map(move |row| Row { vcpu, ..row.clone() }));
    Interval { rows: rows.collect(), vcpus: vcpus.map(|vcpu| VcpuSpan { vcpu, ..span }).collect(), ..whole }
}

#[test]
fn many_rows_take_memory_as_their_file_does() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("many"));
    let reasons = |file: &Connection| {
        let made = "
            WITH RECURSIVE n (n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
                INSERT INTO reasons SELECT n, 1, 'svm', n, 'x' FROM n;";
        file.execute_batch(made).unwrap();
    };
    let length = Forge::of(&good.0, &file.0, 4096, reasons).save();
    refused("reasons", &file.0, length, "more than 2048 reasons");
    drop(file);
    // All rows are the same, which no real ones are: nothing packs better.
    let file = Scratch::new("many");
    let mut writer = recorded(&file.0);
    writer.write(&with_vcpus(0..6000, 10), &Notes::default()).unwrap();
    writer.finish("as asked").unwrap();
    let length = file.0.metadata().unwrap().len();
    let unpacked = length + 60_000 * u64::try_from(size_of::<Row>()).unwrap();
    assert!(bounded("vcpus", &file.0, unpacked).is_none());
}

#[test]
fn steps_forward_cost_what_they_bring() {
    let _alone = ALONE.lock();
    let file = Scratch::new("steps");
    // 3,000 intervals, each of which has a row of a vCPU that no other has.
    let mut writer = recorded(&file.0);
    for number in 11..=3000 {
        writer.write(&with_vcpus(100 + number..101 + number, 1), &Notes::default()).unwrap();
    }
    writer.finish("as asked").unwrap();
    let length = usize::try_from(file.0.metadata().unwrap().len()).unwrap();
    let recording = Recording::open(&file.0).unwrap();
    let mut seen = Accumulator::default().adding();
    let before = WORK.load(Ordering::Relaxed);
    recording
        .each(Part::default(), |interval| {
            seen.take(interval);
            Ok::<_, Error>(())
        })
        .unwrap();
    let work = WORK.load(Ordering::Relaxed) - before;
    println!("steps: {length} bytes, {work} in all");
    assert_eq!(seen.rows(), 3000 - 10 + 30);
    assert!(work < WORK_PER_BYTE * length, "{work} bytes in all, for {length}");
}
