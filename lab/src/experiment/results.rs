//! Tables of medians and spreads over the runs: queries over their recordings, printed as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use exitscope_model::Summary;
use exitscope_record::{Part, Recording};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::cell::Cell;
use super::run::Run;
use crate::machine::Machine;
use crate::thousands::group;

/// The runs in memory, in an SQLite database of their own.
pub struct Results {
    database: Connection,
}

/// Counts of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// All exits.
    pub exits: u64,
    /// True if nothing was lost and KVM counted the same.
    pub exact: bool,
}

impl Results {
    /// Makes a database without runs.
    ///
    /// # Errors
    /// SQLite's message.
    pub fn new() -> Result<Self, String> {
        let make = || {
            // Not the default flags: they take a path that begins with `file:` for a URI.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let database = Connection::open_in_memory_with_flags(flags)?;
            add_functions(&database)?;
            database.execute_batch(include_str!("schema.sql"))?;
            database.execute_batch(include_str!("tables.sql"))?;
            Ok(database)
        };
        make().map(|database| Self { database }).map_err(|error: rusqlite::Error| error.to_string())
    }

    /// Adds a run with its recording. Runs are shown in the order in which they are added; `cell_number` orders the cells.
    ///
    /// # Errors
    /// The reason, if the recording cannot be read, has no end, or is not that of one VM's boot on this cell's machine.
    pub fn add(
        &mut self,
        cell_number: u32,
        cell: &Cell,
        run: &Run,
        recording: &Path,
    ) -> Result<Counted, String> {
        // SQLite would make a file that is not there.
        std::fs::metadata(recording).map_err(|error| error.to_string())?;
        let sqlite = |error: rusqlite::Error| format!("SQLite: {error}");
        let path = recording.to_str().ok_or("its path is not UTF-8")?;
        self.database.execute("ATTACH ? AS recording", [path]).map_err(broken)?;
        let added = check(&self.database, cell).and_then(|()| {
            let reasons = reasons(recording).map_err(|error| error.to_string())?;
            self.copy(cell_number, cell, run, &reasons).map_err(sqlite)
        });
        self.database.execute("DETACH recording", []).map_err(sqlite)?;
        added
    }

    fn copy(
        &mut self,
        cell_number: u32,
        cell: &Cell,
        run: &Run,
        reasons: &[(f64, String, i64)],
    ) -> rusqlite::Result<Counted> {
        let transaction = self.database.transaction()?;
        let id: i64 = transaction.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))?;
        for (second, reason, exits) in reasons {
            let insert = "INSERT INTO interval_reasons VALUES (?, ?, ?, ?)";
            transaction.execute(insert, params![id, second, reason, exits])?;
        }
        let mut statements = rusqlite::Batch::new(&transaction, include_str!("copy.sql"));
        while let Some(mut statement) = statements.next()? {
            match statement.parameter_count() {
                1 => statement.execute([id])?,
                _ => statement.execute(params![
                    id,
                    cell_number,
                    cell.to_string(),
                    cell.short(),
                    run.name,
                    run.seconds(),
                    run.stalls(),
                ])?,
            };
        }
        let counted = transaction.query_row(
            "SELECT exits, id IN (SELECT id FROM exact) FROM runs WHERE id = ?",
            [id],
            |row| Ok(Counted { exits: row.get::<_, i64>(0)?.unsigned_abs(), exact: row.get(1)? }),
        )?;
        transaction.commit()?;
        Ok(counted)
    }

    /// Returns the Markdown of the table with this name, or `None` if tables.sql has no such table.
    ///
    /// # Errors
    /// SQLite's message.
    pub fn table(&self, name: &str) -> Result<Option<String>, String> {
        let table = || {
            for kind in ["table", "pivot"] {
                let view = format!("{kind}: {name}");
                let known = "SELECT 1 FROM sqlite_schema WHERE type = 'view' AND name = ?";
                if self.database.query_row(known, [&view], |_| Ok(())).optional()?.is_some() {
                    let rows = self.rows(&view)?;
                    return Ok(Some(markdown(&if kind == "pivot" { pivot(&rows) } else { rows })));
                }
            }
            Ok(None)
        };
        table().map_err(|error: rusqlite::Error| format!("table {name}: {error}"))
    }

    /// Returns the rows of a view as texts, headings first.
    fn rows(&self, view: &str) -> rusqlite::Result<Vec<Vec<String>>> {
        let mut statement =
            self.database.prepare(&format!("SELECT * FROM \"{}\"", view.replace('"', "\"\"")))?;
        let head: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let texts = |row: &rusqlite::Row<'_>| {
            (0..head.len()).map(|at| Ok(row.get::<_, Option<String>>(at)?.unwrap_or_default())).collect()
        };
        let rows: Vec<Vec<String>> = statement.query_map([], texts)?.collect::<rusqlite::Result<_>>()?;
        Ok(std::iter::once(head).chain(rows).collect())
    }
}

/// Exits of each interval by reason, with the second at which it began. SQL alone does not read them: they are packed.
fn reasons(recording: &Path) -> Result<Vec<(f64, String, i64)>, exitscope_record::Error> {
    let recording = Recording::open(recording)?;
    let seconds: Vec<f64> = recording.moments().map(|(begin, _)| begin.as_secs_f64()).collect();
    let (mut all, mut seconds) = (Vec::new(), seconds.into_iter());
    recording.each_active(Part::default(), |interval| {
        let mut by_reason: BTreeMap<String, i64> = BTreeMap::new();
        for row in &interval.rows {
            let exits = i64::try_from(row.counters.count).unwrap_or(i64::MAX);
            *by_reason.entry(exitscope_reason::name(row.code).to_string()).or_default() += exits;
        }
        let second = seconds.next().unwrap_or_default();
        all.extend(by_reason.into_iter().map(|(reason, exits)| (second, reason, exits)));
        Ok::<_, exitscope_record::Error>(())
    })?;
    Ok(all)
}

fn broken(error: rusqlite::Error) -> String {
    format!("it is no recording: {error}")
}

/// Refuses an attached recording that is not one whole boot of one VM on this cell's machine.
fn check(database: &Connection, cell: &Cell) -> Result<(), String> {
    let fact = |name: &str| {
        let query = "SELECT value FROM recording.facts WHERE name = ?";
        database.query_row(query, [name], |row| row.get::<_, String>(0)).optional()
    };
    let texts = |query: &str| -> rusqlite::Result<Vec<String>> {
        database.prepare(query)?.query_map([], |row| row.get(0))?.collect()
    };
    if fact("end").map_err(broken)?.is_none() {
        return Err("the recording has no end".into());
    }
    let measured = fact("measured").map_err(broken)?.unwrap_or_default();
    if measured != "split" {
        return Err(format!("it measured {measured:?}; \"split\" is needed"));
    }
    let vms = "SELECT DISTINCT vm_id || '' FROM recording.by_vcpu WHERE exits > 0";
    let vms = texts(vms).map_err(broken)?.len();
    if vms != 1 {
        return Err(format!("it has {vms} VMs with exits; one boot has one"));
    }
    let isas = texts("SELECT DISTINCT isa FROM recording.reasons ORDER BY isa").map_err(broken)?;
    match &isas[..] {
        [isa] if cell.machine == Machine::Host || isa == cell.machine.name() => Ok(()),
        _ => Err(format!("its exits are of {}", isas.join(" and "))),
    }
}

/// Adds `median`, `spread` and `shown`, which take all figures of a group, and `grouped`.
fn add_functions(database: &Connection) -> rusqlite::Result<()> {
    // Views call them, and SQLite lets views call nothing that is not innocuous.
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    database.create_aggregate_function("median", 1, flags, Figures(|summary| summary.median))?;
    database.create_aggregate_function("spread", 1, flags, Figures(|summary| summary.spread()))?;
    database.create_aggregate_function("shown", 1, flags, Figures(shown))?;
    database
        .create_scalar_function("grouped", 1, flags, |context| Ok(context.get::<Option<f64>>(0)?.map(group)))
}

/// An SQL function of all figures of a group; NULL if there are none.
struct Figures<T>(fn(Summary) -> T);

impl<T: rusqlite::types::ToSql> Aggregate<Vec<f64>, Option<T>> for Figures<T> {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Vec<f64>> {
        Ok(Vec::new())
    }

    fn step(&self, context: &mut Context<'_>, figures: &mut Vec<f64>) -> rusqlite::Result<()> {
        figures.push(context.get(0)?);
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, figures: Option<Vec<f64>>) -> rusqlite::Result<Option<T>> {
        Ok(Summary::of(figures.unwrap_or_default()).map(self.0))
    }
}

/// Writes `1,234 (1,200 to 1,250)`, and the median alone if all figures are shown alike.
fn shown(summary: Summary) -> String {
    let [median, least, most] = [summary.median, summary.least, summary.most].map(group);
    if least == most { median } else { format!("{median} ({least} to {most})") }
}

/// Makes a table of rows of three: heading of the row, heading of the column, text. Headings keep their order.
fn pivot(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut table = vec![vec![rows[0][0].clone()]];
    for row in &rows[1..] {
        if table.last().is_none_or(|last| table.len() == 1 || last[0] != row[0]) {
            table.push(vec![row[0].clone()]);
        }
        if !table[0][1..].contains(&row[1]) {
            table[0].push(row[1].clone());
        }
        if let Some(last) = table.last_mut() {
            last.push(row[2].clone());
        }
    }
    table
}

/// Writes a table whose first row has the headings. Columns of figures are aligned to the right.
fn markdown(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    if rows.len() < 2 {
        return "No run of these yet.\n".into();
    }
    let is_figure = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit()) || cell == "–";
    for (number, row) in rows.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(out, "| {} |", row.join(" | "));
        if number == 0 {
            for column in 0..row.len() {
                let figures = rows[1..].iter().filter_map(|row| row.get(column)).all(is_figure);
                out.push_str(if figures { "|---:" } else { "|---" });
            }
            out.push_str("|\n");
        }
    }
    out
}
