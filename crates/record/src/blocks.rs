//! Blocks of a recording that is being written: intervals as they come, and the same again by minute and by hour.

use super::histogram;
use super::pack::{Block, Content, Of, Total, pack_totals};
use super::writer::int;
use exitscope_model::WorkerTimes;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use std::collections::{BTreeMap, HashMap};

/// Levels of blocks: intervals as they were recorded, sums of minutes, and of hours.
pub const FULL: i64 = 0;
/// Sums of minutes.
pub const MINUTE: i64 = 1;
/// Sums of hours.
pub const HOUR: i64 = 2;

/// Lengths (ns).
const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_NS: u64 = 60 * MINUTE_NS;

/// Rows of vCPUs from which on an interval has a block of its own, which is never joined with others.
const ALONE: usize = 4_096;

/// Intervals, and rows, with which blocks of one interval become one.
const JOINED: usize = 64;
const JOINED_ROWS: usize = 8_192;

/// The most rows of vCPUs in one block; an interval that has more has several blocks.
const MOST_ROWS: usize = 1 << 16;

/// Place of an interval, or of several together, in time.
#[derive(Clone, Copy)]
pub struct Span {
    /// Its number; of several, the first.
    pub first: i64,
    /// The last of them.
    pub last: i64,
    /// Begin and end by the host's clock.
    pub start_ns: i64,
    /// End by the host's clock.
    pub end_ns: i64,
    /// Begin since that of the recording.
    pub offset_ns: u64,
    /// Length.
    pub length_ns: u64,
}

/// A minute or an hour that is not over.
struct Open {
    /// Minutes or hours before it.
    number: u64,
    span: Span,
    /// Intervals or minutes in it.
    parts: u64,
    content: Content,
    total: Total,
}

impl Open {
    fn add(open: &mut Option<Open>, number: u64, span: Span, content: &Content, total: &Total) {
        match open {
            Some(open) => {
                open.span.last = span.last;
                open.span.end_ns = span.end_ns;
                open.span.length_ns += span.length_ns;
                open.parts += 1;
                open.content.extend(content);
                open.total.add(total);
            }
            None => {
                let (content, total) = (content.clone(), total.clone());
                *open = Some(Open { number, span, parts: 1, content, total });
            }
        }
    }
}

/// Blocks, minutes and hours that are not complete.
#[derive(Default)]
pub struct Blocks {
    /// Blocks of one interval each, with their keys, that become one when there are enough.
    pending: Vec<(i64, Content)>,
    pending_rows: usize,
    minute: Option<Open>,
    hour: Option<Open>,
    /// Minutes and hours are written even where they are one interval: those will be thrown away.
    always: bool,
    /// No blocks are written, only what SQL reads.
    plain: bool,
}

impl Blocks {
    /// Only the tables that SQL reads.
    pub fn plain() -> Blocks {
        Blocks { plain: true, ..Blocks::default() }
    }

    /// Writes each minute and hour, also where that is one interval.
    pub fn write_all(&mut self) {
        self.always = true;
    }

    /// Writes the interval that follows. Returns true if a minute ended before it.
    pub fn add(
        &mut self,
        transaction: &Transaction<'_>,
        span: Span,
        content: Content,
        of: Of<'_>,
    ) -> rusqlite::Result<bool> {
        let (minute, hour) = (span.offset_ns / MINUTE_NS, span.offset_ns / HOUR_NS);
        let ended = self.minute.as_ref().is_some_and(|open| open.number != minute);
        if ended {
            self.end_minute(transaction, of)?;
        }
        if self.hour.as_ref().is_some_and(|open| open.number != hour) {
            self.end_hour(transaction, of)?;
        }
        let total = Total::of(&content);
        let exits = int(total.exits)?;
        transaction.prepare_cached("INSERT INTO intervals VALUES (?, ?, ?, ?, ?, ?)")?.execute(params![
            span.first,
            span.start_ns,
            span.end_ns,
            int(span.offset_ns)?,
            int(span.length_ns)?,
            exits
        ])?;
        Open::add(&mut self.minute, minute, span, &content, &total);
        if self.plain {
            return Ok(ended);
        }
        let rows = content.len();
        if rows >= ALONE {
            self.join(transaction, of)?;
            write_divided(transaction, FULL, (span, content, total), of)?;
        } else {
            let id = write_block(transaction, (FULL, span), std::slice::from_ref(&content), &[total], of)?;
            self.pending.push((id, content));
            self.pending_rows += rows;
            if self.pending.len() >= JOINED || self.pending_rows >= JOINED_ROWS {
                self.join(transaction, of)?;
            }
        }
        Ok(ended)
    }

    /// Makes one block of those of one interval each.
    fn join(&mut self, transaction: &Transaction<'_>, of: Of<'_>) -> rusqlite::Result<()> {
        self.pending_rows = 0;
        let (ids, contents): (Vec<i64>, Vec<Content>) = self.pending.drain(..).unzip();
        let (Some(first), Some(last)) = (contents.first(), contents.last()) else { return Ok(()) };
        if ids.len() == 1 {
            return Ok(());
        }
        for id in ids {
            transaction.prepare_cached("DELETE FROM blocks WHERE id = ?")?.execute([id])?;
        }
        let number = |content: &Content| i64::try_from(content.interval).unwrap_or(i64::MAX);
        let span = Span {
            first: number(first),
            last: number(last),
            start_ns: 0,
            end_ns: 0,
            offset_ns: 0,
            length_ns: 0,
        };
        let totals: Vec<Total> = contents.iter().map(Total::of).collect();
        write_block(transaction, (FULL, span), &contents, &totals, of).map(drop)
    }

    fn end_minute(&mut self, transaction: &Transaction<'_>, of: Of<'_>) -> rusqlite::Result<()> {
        self.join(transaction, of)?;
        let Some(Open { span, parts, content, total, .. }) = self.minute.take() else { return Ok(()) };
        Open::add(&mut self.hour, span.offset_ns / HOUR_NS, span, &content, &total);
        if let Some(hour) = &self.hour {
            write_hour(transaction, hour)?;
        }
        write_minute(transaction, span.first, &content)?;
        if parts > 1 || self.always {
            write_span(transaction, "minutes", span, total.exits)?;
            if !self.plain {
                write_divided(transaction, MINUTE, (span, content, total), of)?;
            }
        }
        Ok(())
    }

    fn end_hour(&mut self, transaction: &Transaction<'_>, of: Of<'_>) -> rusqlite::Result<()> {
        let Some(Open { span, parts, content, total, .. }) = self.hour.take() else { return Ok(()) };
        if (parts > 1 || self.always) && !self.plain {
            write_divided(transaction, HOUR, (span, content, total), of)?;
        }
        Ok(())
    }

    /// Ends the minute and the hour that are not over.
    pub fn end(&mut self, transaction: &Transaction<'_>, of: Of<'_>) -> rusqlite::Result<()> {
        self.end_minute(transaction, of)?;
        self.end_hour(transaction, of)
    }
}

fn said(what: String) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(what.into())
}

/// Writes one interval, or what several add up to, in as many blocks as it takes.
fn write_divided(
    transaction: &Transaction<'_>,
    level: i64,
    (span, content, total): (Span, Content, Total),
    of: Of<'_>,
) -> rusqlite::Result<()> {
    let mut total = Some(total);
    for part in content.divide(MOST_ROWS) {
        write_block(transaction, (level, span), &[part], total.take().as_slice(), of)?;
    }
    Ok(())
}

fn write_block(
    transaction: &Transaction<'_>,
    (level, span): (i64, Span),
    contents: &[Content],
    totals: &[Total],
    of: Of<'_>,
) -> rusqlite::Result<i64> {
    let totals = if totals.is_empty() { Vec::new() } else { pack_totals(totals).map_err(said)? };
    let rows = Block::pack(contents, of).map_err(said)?;
    let mut statement = transaction.prepare_cached("INSERT INTO blocks VALUES (NULL, ?, ?, ?, ?, ?)")?;
    statement.insert(params![level, span.first, span.last, totals, rows])
}

fn write_span(transaction: &Transaction<'_>, table: &str, span: Span, exits: u64) -> rusqlite::Result<()> {
    let query = format!("INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?)");
    transaction.prepare_cached(&query)?.execute(params![
        span.first,
        span.last,
        span.start_ns,
        span.end_ns,
        int(span.offset_ns)?,
        int(span.length_ns)?,
        int(exits)?
    ])?;
    Ok(())
}

/// Writes exits of a minute by VM and reason into the table that SQL reads.
fn write_minute(transaction: &Transaction<'_>, first: i64, content: &Content) -> rusqlite::Result<()> {
    let mut vms: HashMap<u32, i64> = HashMap::new();
    let there = "SELECT id, vm FROM vcpus WHERE last_interval IS NULL OR last_interval >= ?";
    let mut statement = transaction.prepare_cached(there)?;
    let mut rows = statement.query([first])?;
    while let Some(row) = rows.next()? {
        vms.insert(row.get(0)?, row.get(1)?);
    }
    let rows = content.rows.iter().filter_map(|row| {
        let longest = row.extremes.map(|extremes| extremes.max_ns);
        Some((*vms.get(&row.vcpu)?, row.reason.into(), row.count, row.time_ns, longest))
    });
    write_reasons(transaction, first, rows)
}

/// Writes the rows of a minute, each with the keys of its VM and reason, exits, their time, and the longest (ns).
pub fn write_reasons(
    connection: &Connection,
    minute: i64,
    rows: impl Iterator<Item = (i64, i64, u64, u64, Option<u64>)>,
) -> rusqlite::Result<()> {
    let mut sums: BTreeMap<(i64, i64), (u64, u64, Option<u64>)> = BTreeMap::new();
    for (vm, reason, count, time_ns, longest) in rows {
        let sum = sums.entry((vm, reason)).or_default();
        *sum = (sum.0 + count, sum.1 + time_ns, sum.2.max(longest));
    }
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO minute_reasons VALUES (?, ?, ?, ?, ?, ?)")?;
    for ((vm, reason), (count, time_ns, longest)) in sums {
        let longest = longest.map(int).transpose()?;
        statement.execute(params![minute, vm, reason, int(count)?, int(time_ns)?, longest])?;
    }
    Ok(())
}

/// Writes the sums of an hour, as far as it has come, into the tables that SQL reads.
fn write_hour(transaction: &Transaction<'_>, hour: &Open) -> rusqlite::Result<()> {
    let (span, content) = (hour.span, &hour.content);
    write_span(transaction, "hours", span, hour.total.exits)?;
    let some = |number: Option<u64>| number.map(int).transpose();
    let mut spans = transaction
        .prepare_cached("INSERT OR REPLACE INTO hour_spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    for row in &content.spans {
        let time = row.time.as_ref();
        spans.execute(params![
            span.first,
            row.vcpu,
            int(row.exits)?,
            some(row.kvm_exits)?,
            some(time.map(|time| time.guest_ns))?,
            some(time.map(|time| time.kernel_ns))?,
            some(time.map(|time| time.user_ns))?,
            some(time.map(|time| time.waiting_ns))?,
            some(time.map(|time| time.halted_ns))?,
            some(time.map(|time| time.polled_ns))?,
        ])?;
    }
    let mut exits = transaction.prepare_cached(
        "INSERT OR REPLACE INTO hour_exits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for row in &content.rows {
        exits.execute(params![
            span.first,
            row.vcpu,
            row.reason,
            int(row.count)?,
            int(row.time_ns)?,
            some(row.extremes.map(|extremes| extremes.min_ns))?,
            some(row.extremes.map(|extremes| extremes.max_ns))?,
            int(row.split.user_exits)?,
            int(row.split.user_ns)?,
            int(row.split.waiting_ns)?,
            int(row.split.halted_ns)?,
            int(row.split.polled_ns)?,
            int(row.nested.to_l1)?,
            int(row.nested.l1_done)?,
            int(row.nested.l1_exits)?,
            int(row.nested.l1_ns)?,
            histogram::encode(&row.histogram),
        ])?;
    }
    let mut breakdowns =
        transaction.prepare_cached("INSERT OR REPLACE INTO hour_breakdowns VALUES (?, ?, ?, ?, ?, ?)")?;
    for row in &content.breakdowns {
        let of = row.counters;
        breakdowns.execute(params![
            span.first,
            row.vcpu,
            row.breakdown,
            int(of.count)?,
            int(of.time_ns)?,
            int(of.max_ns)?
        ])?;
    }
    let places = vec!["?"; 2 + WorkerTimes::FIGURES.len()].join(", ");
    let mut workers =
        transaction.prepare_cached(&format!("INSERT OR REPLACE INTO hour_workers VALUES ({places})"))?;
    for row in &content.workers {
        let figures = WorkerTimes::FIGURES.iter().map(|figure| int(figure.ns(&row.times)));
        let values = [Ok(span.first), Ok(row.vm.cast_signed())].into_iter().chain(figures);
        workers.execute(params_from_iter(values.collect::<Result<Vec<i64>, _>>()?))?;
    }
    let mut losses = transaction.prepare_cached("INSERT OR REPLACE INTO hour_losses VALUES (?, ?, ?)")?;
    for (figure, count) in content.loss.figures().filter(|(_, count)| *count > 0) {
        losses.execute(params![span.first, figure.key, int(count)?])?;
    }
    Ok(())
}
