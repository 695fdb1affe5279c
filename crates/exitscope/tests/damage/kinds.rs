//! More recordings that were made to do harm, of the kinds that `hostile` has: other trees, lengths that lie, chains that
//! lead back, schemas that have more in them than tables.

use super::forge::{Forge, Tree, Value, text};
use super::hostile::{bounded, good, nothing};
use super::{ALONE, Scratch};
use rusqlite::Connection;

/// Changes a schema as SQLite would not.
fn schema(statements: &str) -> impl Fn(&Connection) {
    move |file: &Connection| {
        file.pragma_update(None, "writable_schema", true).unwrap();
        file.execute_batch(statements).unwrap_or_else(|error| panic!("{error}: {statements}"));
        file.pragma_update(None, "writable_schema", false).unwrap();
    }
}

#[test]
fn chains_that_lead_back_are_refused() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("cycle"));
    let fact = |_| vec![Value::Text(b"cpu".into()), text(1 << 20)];
    let line = |number: u64| vec![Value::Null, Value::Int(number.cast_signed()), text(16 << 10)];
    type Rows<'a> = (&'a str, Tree, u64, &'a dyn Fn(u64) -> Vec<Value>);
    let all: [Rows<'_>; 2] = [("facts", Tree::Index, 1, &fact), ("console", Tree::Table, 40, &line)];
    for (table, tree, rows, row) in all {
        for back in [1, 2, 7] {
            let mut forge = Forge::of(&good.0, &file.0, 512, nothing);
            forge.share_cycle(table, tree, rows, row, back);
            let length = forge.save();
            bounded(&format!("{table} in a cycle of {back}"), &file.0, length).expect(table);
        }
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("lengths"));
    // A payload's length, a rowid and a record's header: the longest varints are negative numbers of 64 bits.
    let (most, large, negative) =
        ([0xff; 9], [0x87, 0xff, 0xff, 0xff, 0x7f], [0x90, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]);
    let lies: [&[u8]; 3] = [&most, &large, &negative];
    for table in [
        "intervals",
        "minutes",
        "blocks",
        "vms",
        "vcpus",
        "reasons",
        "console",
        "marks",
        "phases",
        "breakdowns",
    ] {
        for lie in lies {
            for field in 0..3 {
                let mut forge = Forge::of(&good.0, &file.0, 4096, nothing);
                // Length of the payload, rowid, and length of its header with the type of its first column.
                let mut parts: [&[u8]; 3] = [&[40], &[1], &[2, 1]];
                parts[field] = lie;
                forge.lie(table, Tree::Table, &[parts.concat(), vec![7; 60]].concat());
                let length = forge.save();
                bounded(&format!("{table}, field {field}"), &file.0, length);
            }
        }
    }
    for table in ["facts", "hour_exits", "hour_spans", "labels", "kvm_parameters"] {
        for lie in lies {
            for parts in [[lie, &[2, 1]], [&[40], lie]] {
                let mut forge = Forge::of(&good.0, &file.0, 4096, nothing);
                forge.lie(table, Tree::Index, &[parts.concat(), vec![7; 60]].concat());
                let length = forge.save();
                bounded(table, &file.0, length);
            }
        }
    }
}

#[test]
fn schemas_with_more_than_tables_do_no_harm() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("schema"));
    let many = |what: &str| {
        format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30000)
             INSERT INTO sqlite_schema SELECT {what} FROM n"
        )
    };
    let long = "1+".repeat(14_000);
    let statements = [
        // Indexes that SQLite would like to use: of expressions, partial, over all columns.
        "CREATE INDEX i ON intervals (id, start_ns, end_ns, offset_ns, length_ns);
         CREATE INDEX j ON blocks (id, level, first_interval, last_interval) WHERE level >= 0;
         CREATE INDEX k ON facts (length(value || name))"
            .to_owned(),
        // What runs when something is read, or would.
        "CREATE VIEW v AS WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT * FROM n;
         CREATE TRIGGER t AFTER INSERT ON facts BEGIN INSERT INTO facts SELECT name || 'x', value FROM facts; END;
         CREATE TRIGGER u INSTEAD OF INSERT ON v BEGIN SELECT zeroblob(1000000000); END"
            .to_owned(),
        "CREATE TABLE g (a, b GENERATED ALWAYS AS (zeroblob(1000000000)) STORED, c AS (hex(b)), CHECK (length(c) > a));
         CREATE TABLE w (a PRIMARY KEY, b DEFAULT (randomblob(1000000000))) WITHOUT ROWID"
            .to_owned(),
        // Tables that a module would have to answer for, statistics, sequences.
        "INSERT INTO sqlite_schema VALUES ('table', 'f', 'f', 0, 'CREATE VIRTUAL TABLE f USING fts5(a)');
         INSERT INTO sqlite_schema VALUES ('table', 'd', 'd', 0, 'CREATE VIRTUAL TABLE d USING dbstat')"
            .to_owned(),
        "ANALYZE; UPDATE sqlite_stat1 SET stat = '1 0 0 0 0 unordered noskipscan sz=1'".to_owned(),
        // Entries without end: of tables, of views, of nothing.
        many("'table', 'x' || n, 'x' || n, 2, 'CREATE TABLE x' || n || '(a)'"),
        many("'view', 'x' || n, 'x' || n, 0, 'CREATE VIEW x' || n || ' AS SELECT 1'"),
        many("'index', 'x' || n, 'facts', 2, 'CREATE INDEX x' || n || ' ON facts (value)'"),
        many("null, null, null, null, null"),
        format!("INSERT INTO sqlite_schema VALUES ('view', 'v', 'v', 0, 'CREATE VIEW v AS SELECT {long}1')"),
        format!("INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 2, 'CREATE TABLE v ({})')", vec!["a"; 20_000].join(", a")),
        format!("INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 2, '{}')", "x".repeat(2 << 20)),
        // Roots that are others', or nobody's.
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'blocks') WHERE name = 'minutes'".to_owned(),
        "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'vms'".to_owned(),
        "UPDATE sqlite_schema SET rootpage = 2147483647 WHERE name = 'facts'".to_owned(),
        "UPDATE sqlite_schema SET rootpage = -5 WHERE name = 'console'".to_owned(),
        // A table that is not what it is called.
        "UPDATE sqlite_schema SET type = 'view' WHERE name = 'reasons'".to_owned(),
        "UPDATE sqlite_schema SET tbl_name = 'facts' WHERE name = 'vcpus'".to_owned(),
        "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'vms'".to_owned(),
    ];
    for statement in &statements {
        let begin: String = statement.chars().take(60).collect();
        let length = Forge::as_it_is(&good.0, &file.0, schema(statement));
        bounded(&begin, &file.0, length);
    }
    // A recording that somebody has indexed and summed up is still one.
    let length = Forge::as_it_is(&good.0, &file.0, schema(&statements[0]));
    assert!(bounded("indexed", &file.0, length).is_none());
}

#[test]
fn pages_that_are_no_trees_are_refused() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("pages"));
    let tables = ["facts", "intervals", "vms", "minutes", "blocks", "marks"];
    for table in tables {
        // A cell count that the page has no room for, cells that lie in the header, an inner node that is its own child.
        for change in [
            |page: &mut [u8], _: u32| page[3..5].copy_from_slice(&[0xff, 0xff]),
            |page: &mut [u8], _: u32| page[8..40].fill(0),
            |page: &mut [u8], number: u32| {
                page[0] = if page[0] > 9 && page[0] != 13 { 2 } else { 5 };
                page[3..5].copy_from_slice(&[0, 0]);
                page[8..12].copy_from_slice(&number.to_be_bytes());
            },
            |page: &mut [u8], _: u32| page.fill(0),
            |page: &mut [u8], _: u32| page.fill(0xff),
        ] {
            let mut forge = Forge::of(&good.0, &file.0, 4096, nothing);
            let root = forge.root(table);
            forge.change(root, change);
            let length = forge.save();
            bounded(table, &file.0, length);
        }
    }
    // The header: free pages without end, in a circle; bytes of each page that are kept from use; texts of other width.
    for (at, bytes) in [
        (32, vec![0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff]),
        (20, vec![255]),
        (21, vec![1, 1, 1]),
        (56, vec![0, 0, 0, 2]),
        (48, vec![0x7f, 0xff, 0xff, 0xff]),
        (44, vec![0xff, 0xff, 0xff, 0xff]),
        (18, vec![9, 9]),
        (52, vec![0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let mut forge = Forge::of(&good.0, &file.0, 4096, nothing);
        forge.change(1, |page, _| page[at..at + bytes.len()].copy_from_slice(&bytes));
        let length = forge.save();
        bounded(&format!("header at {at}"), &file.0, length);
    }
}

/// A log whose frames say that the database is larger than any, or the same page again and again.
#[test]
fn a_log_that_lies_is_refused_or_not_believed() {
    let _alone = ALONE.lock();
    let file = Scratch::new("log");
    let writer = super::recorded(&file.0);
    let (bytes, log) = (std::fs::read(&file.0).unwrap(), std::fs::read(file.beside("-wal")).unwrap());
    drop(writer);
    for pages in [1_u32, 2, u32::MAX] {
        let mut log = log.clone();
        claim(&mut log, pages);
        let _ = std::fs::remove_file(file.beside("-shm"));
        std::fs::write(&file.0, &bytes).unwrap();
        std::fs::write(file.beside("-wal"), &log).unwrap();
        bounded(&format!("a log of {pages} pages"), &file.0, (bytes.len() + log.len()) as u64);
    }
}

/// Has each commit in a log say that the database has so many pages, with sums that are right (SQLite's file format,
/// "WAL File Format" and "Checksum Algorithm").
fn claim(log: &mut [u8], pages: u32) {
    let word = |log: &[u8], at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let page = usize::try_from(word(log, 8)).unwrap();
    let is_big = word(log, 0) & 1 == 1;
    let sum = |mut sums: [u32; 2], bytes: &[u8]| {
        for pair in bytes.chunks_exact(8) {
            let read = |at: usize| {
                let word = pair[at..at + 4].try_into().unwrap();
                if is_big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
            };
            sums[0] = sums[0].wrapping_add(read(0)).wrapping_add(sums[1]);
            sums[1] = sums[1].wrapping_add(read(4)).wrapping_add(sums[0]);
        }
        sums
    };
    let mut sums = [word(log, 24), word(log, 28)];
    for frame in log[32..].chunks_exact_mut(24 + page) {
        if word(frame, 4) != 0 {
            frame[4..8].copy_from_slice(&pages.to_be_bytes());
        }
        sums = sum(sum(sums, &frame[..8]), &frame[24..]);
        frame[16..20].copy_from_slice(&sums[0].to_be_bytes());
        frame[20..24].copy_from_slice(&sums[1].to_be_bytes());
    }
}

/// Trees that share a page: of tables that have the same columns each may be read as the other.
#[test]
fn one_page_in_two_trees_does_no_harm() {
    let _alone = ALONE.lock();
    let (good, file) = (good(), Scratch::new("joined"));
    for (table, other) in
        [("blocks", "vms"), ("minutes", "intervals"), ("hour_losses", "facts"), ("vcpus", "vms")]
    {
        let mut forge = Forge::of(&good.0, &file.0, 4096, nothing);
        let (root, from) = (forge.root(table), forge.root(other));
        let page = forge.page(from);
        forge.change(root, |into, _| into.copy_from_slice(&page));
        let length = forge.save();
        bounded(&format!("{table} with the page of {other}"), &file.0, length);
    }
}
