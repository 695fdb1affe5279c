//! Recordings that were made to harm who reads them: each is read or refused within bounds that follow from its length.

use super::forge::{Forge, Tree, Value, text};
use super::{ALONE, MOST, NOW, Scratch, WORK, recorded, report};
use exitscope::top::Accumulator;
use exitscope_model::Row;
use exitscope_record::{Error, Part, Recording};
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::Ordering;

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
    let exits = |number: u64| {
        let times = [1, 10, 1, 1, 0, 0, 0, 0, 0].map(int);
        let key = [int(1 + number / 1000), int(number % 3), int(number % 10)];
        [&key[..], &times, &[Value::Blob([&[0][..], &[1; 37], &[0; 300]].concat())]].concat()
    };
    let used = |number: u64| {
        let counts = (0..40_000_u64).flat_map(|key| [(key >> 8), key & 0xff, 1]);
        let counts = [2, 1].into_iter().chain(counts).map(|byte| u8::try_from(byte).unwrap()).collect();
        vec![int(1 + number / 1000), int(number % 1000), Value::Blob(counts), Value::Blob(Vec::new())]
    };
    type Rows<'a> = (&'a str, Tree, u64, &'a dyn Fn(u64) -> Vec<Value>);
    let all: [Rows<'_>; 6] = [
        ("facts", Tree::Index, 300, &facts),
        ("vms", Tree::Table, 1000, &vms),
        ("console", Tree::Table, 3000, &console),
        ("marks", Tree::Table, 3000, &marks),
        ("exits", Tree::Index, 6000, &exits),
        ("breakdown_counts", Tree::Index, 1000, &used),
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
    let rows: [(&str, Tree, Vec<Value>); 8] = [
        ("facts", Tree::Index, vec![word("cpu"), word("1")]),
        ("intervals", Tree::Table, vec![Value::Null, int(0), int(0), int(0), int(0)]),
        ("vcpus", Tree::Table, vec![Value::Null, int(1), int(1), int(1), Value::Null]),
        ("reasons", Tree::Table, vec![Value::Null, int(1), word("svm"), int(1), word("x")]),
        ("phases", Tree::Table, vec![Value::Null, word("x"), int(1)]),
        (
            "spans",
            Tree::Index,
            vec![int(1), int(0), int(1), int(1), int(1), int(1), int(1), int(1), int(1), int(1)],
        ),
        (
            "breakdown_counts",
            Tree::Index,
            vec![int(1), int(0), Value::Blob(vec![1, 1, 0, 1]), Value::Blob(vec![])],
        ),
        ("losses", Tree::Index, vec![int(1), word("torn"), int(1)]),
    ];
    for (table, tree, row) in rows {
        let mut forge = Forge::of(&good.0, &file.0, 4096, nothing);
        let root = forge.root(table);
        forge.endless(root, tree, &row);
        let length = forge.save();
        let words = if table == "intervals" { "does not follow" } else { "order" };
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
    forge.endless(root, Tree::Table, &[word("exits"), word("sqlite_autoindex_exits_1"), word("9 1 1 1")]);
    let length = forge.save();
    bounded("statistics", &file.0, length);
}

#[test]
fn many_that_do_nothing_cost_no_more_than_they_say() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("idle"));
    let change = |file: &Connection| {
        let made = "
            WITH RECURSIVE n (n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM n WHERE n < 8100)
                INSERT INTO vcpus SELECT n, 1, n, 1, NULL FROM n;
            WITH RECURSIVE n (n) AS (SELECT 11 UNION ALL SELECT n + 1 FROM n WHERE n < 4000)
                INSERT INTO intervals SELECT n, 0, 0, (SELECT sum(length_ns) FROM intervals), 0 FROM n;";
        file.execute_batch(made).unwrap();
    };
    let length = Forge::of(&good.0, &file.0, 4096, change).save();
    assert!(bounded("idle", &file.0, length).is_none());
}

#[test]
fn many_rows_take_memory_as_their_file_does() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("many"));
    let reasons = |file: &Connection| {
        let made = "
            WITH RECURSIVE n (n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
                INSERT INTO reasons SELECT n, 1, 'svm', n, 'x' FROM n;
            INSERT INTO exits SELECT 1, 0, id, 1, 1, 1, 1, 0, 0, 0, 0, 0, x'0001' FROM reasons WHERE id >= 100;";
        file.execute_batch(made).unwrap();
    };
    let length = Forge::of(&good.0, &file.0, 4096, reasons).save();
    refused("reasons", &file.0, length, "more than 2048 reasons");
    let vcpus = |file: &Connection| {
        let made = "
            WITH RECURSIVE n (n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM n WHERE n < 6099)
                INSERT INTO vcpus SELECT n, 1, n, 1, NULL FROM n;
            INSERT INTO exits SELECT 1, vcpus.id, reasons.id, 1, 1, 1, 1, 0, 0, 0, 0, 0, x'0001'
                FROM vcpus, reasons WHERE vcpus.id >= 100 AND reasons.id < 10;";
        file.execute_batch(made).unwrap();
    };
    let length = Forge::of(&good.0, &file.0, 4096, vcpus).save();
    // 10 rows of each.
    let unpacked = length + 60_000 * u64::try_from(size_of::<Row>()).unwrap();
    assert!(bounded("vcpus", &file.0, unpacked).is_none());
}

#[test]
fn steps_forward_cost_what_they_bring() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("steps"));
    // 3,000 intervals, each of which has a row of a vCPU that no other has.
    let change = |file: &Connection| {
        let made = "
            WITH RECURSIVE n (n) AS (SELECT 11 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
                INSERT INTO intervals SELECT n, 0, 0, (SELECT sum(length_ns) FROM intervals), 0 FROM n;
            WITH RECURSIVE n (n) AS (SELECT 11 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
                INSERT INTO vcpus SELECT n + 100, 1, n + 100, n, n FROM n;
            WITH RECURSIVE n (n) AS (SELECT 11 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
                INSERT INTO exits SELECT n, n + 100, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, x'0001' FROM n;";
        file.execute_batch(made).unwrap();
    };
    let length = usize::try_from(Forge::of(&good.0, &file.0, 4096, change).save()).unwrap();
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
