//! Intervals that are packed in blocks, as recordings have them from schema 5 on.

use super::assembly::{Assembly, Parts, Who};
use super::blocks::{FULL, HOUR, MINUTE};
use super::columns::{Columns, Order};
use super::metadata::{Breakdowns, Moment};
use super::open::Database;
use super::pack::{Block, Content, Total, WorkerRow, unpack_totals};
use super::present::{Present, VcpuId};
use super::reader::Resolution;
use super::rows::{MAX_ROWS, Sum, Sums};
use super::{Error, breakdown};
use exitscope_model::{
    About, ExitCode, Interval, Level, Loss, Nested, Row, Split, VcpuSpan, VcpuTime, VmId, WorkerSpan,
    WorkerTimes,
};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The most bytes of a block.
const MOST_BLOCK: usize = 8 << 20;

/// A block: its key, and the intervals that it has. Several blocks of the same intervals are parts of one interval.
#[derive(Clone, Copy)]
struct Entry {
    id: i64,
    first: i64,
    last: i64,
}

/// The blocks of a recording, by level.
pub struct Index {
    levels: [Vec<Entry>; 3],
}

impl Index {
    /// Reads which blocks there are.
    pub fn read(database: &Database) -> Result<Index, Error> {
        let mut levels = [const { Vec::<Entry>::new() }; 3];
        let mut order = Order::new();
        database.rows("SELECT id, level, first_interval, last_interval FROM blocks NOT INDEXED", |row| {
            let entry = Entry { id: row.int(0)?, first: row.int(2)?, last: row.int(3)? };
            let wrong = || database.damaged(format!("its block {} is not in order", entry.id));
            let level = usize::try_from(row.int(1)?).ok().and_then(|level| levels.get_mut(level));
            let level = level.ok_or_else(wrong)?;
            let is_part = |before: &Entry| {
                (before.first, before.last) == (entry.first, entry.last)
                    && (row.int(1).is_ok_and(|level| level != FULL) || entry.first == entry.last)
            };
            let follows = level.last().is_none_or(|before| before.last < entry.first || is_part(before));
            if order.next(entry.id).is_err() || !follows || entry.first < 1 || entry.last < entry.first {
                return Err(wrong());
            }
            level.push(entry);
            Ok(())
        })?;
        Ok(Index { levels })
    }

    fn level(&self, level: i64) -> &[Entry] {
        usize::try_from(level).ok().and_then(|level| self.levels.get(level)).map_or(&[], Vec::as_slice)
    }

    /// The block that has an interval, or its parts.
    fn find(&self, level: i64, interval: i64) -> &[Entry] {
        let entries = self.level(level);
        let first = entries.partition_point(|entry| entry.last < interval);
        let rest = &entries[first..];
        let parts = rest.partition_point(|entry| entry.first <= interval && entry.first == rest[0].first);
        &rest[..parts]
    }

    /// Returns where the longest sum ends that begins with the moment at `at`, ends by `end` and is of no more than `longest`,
    /// and its level.
    pub fn longest(&self, moments: &[Moment], at: usize, end: usize, longest: Resolution) -> (i64, usize) {
        let levels: &[i64] = match longest {
            Resolution::Full => &[],
            Resolution::Minute => &[MINUTE],
            Resolution::Hour => &[HOUR, MINUTE],
        };
        for &level in levels.iter().filter(|level| **level > moments[at].level) {
            let Some(entry) = self.find(level, moments[at].id).first() else { continue };
            let after = moments.partition_point(|moment| moment.last <= entry.last);
            if entry.first == moments[at].id
                && (at + 1..=end).contains(&after)
                && moments[after - 1].last == entry.last
            {
                return (level, after);
            }
        }
        (moments[at].level, at + 1)
    }
}

/// Reads intervals, in their order.
pub struct Packed<'a> {
    database: &'a Database,
    index: &'a Index,
    assembly: Assembly<'a>,
    reasons: &'a HashMap<i64, (Level, ExitCode)>,
    breakdowns: &'a Breakdowns,
    sums: Sums,
    /// Rest of the block that was read last.
    left: VecDeque<Content>,
}

impl<'a> Packed<'a> {
    /// Begins before the first interval.
    pub fn new(
        database: &'a Database,
        index: &'a Index,
        about: &About,
        reasons: &'a HashMap<i64, (Level, ExitCode)>,
        breakdowns: &'a Breakdowns,
    ) -> Packed<'a> {
        let (sums, left) = (Sums::default(), VecDeque::new());
        Packed { database, index, assembly: Assembly::new(database, about), reasons, breakdowns, sums, left }
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        self.database.damaged(what)
    }

    /// Unpacks a block.
    fn block(&self, id: i64) -> Result<Vec<Content>, Error> {
        let of = |breakdown: u32| {
            let (reason, key) = self.breakdowns.get(&breakdown.into())?;
            Some((u32::try_from(*reason).ok()?, key.kind()))
        };
        column_of(self.database, "rows", id, |bytes| Block::unpack(bytes, &of))
    }

    /// The rows of a moment, or of several that are summed up at this level.
    fn content(&mut self, moment: &Moment, level: i64) -> Result<Content, Error> {
        let id = moment.id.unsigned_abs();
        if level == FULL
            && let Some(content) = self.take(id)
        {
            return Ok(content);
        }
        self.left.clear();
        let entries = self.index.find(level, moment.id).to_vec();
        let missing = || self.damaged(format!("interval {} is in no block", moment.id));
        let entry = *entries.first().ok_or_else(missing)?;
        let mut contents = VecDeque::from(self.block(entry.id)?);
        let expected = if level == FULL { (entry.last - entry.first).unsigned_abs() + 1 } else { 1 };
        let is_first = contents.front().is_some_and(|content| content.interval == entry.first.unsigned_abs());
        if contents.len() as u64 != expected || !is_first {
            return Err(self.damaged(format!("block {} has other intervals than it says", entry.id)));
        }
        for part in &entries[1..] {
            let more = self.block(part.id)?;
            let ([more], Some(whole)) = (more.as_slice(), contents.front_mut()) else {
                return Err(self.damaged(format!("block {} is no part of an interval", part.id)));
            };
            append(whole, more).map_err(|what| self.damaged(format!("block {}: {what}", part.id)))?;
            if whole.rows.len() > MAX_ROWS {
                return Err(self.damaged(format!("interval {} has more than {MAX_ROWS} rows", moment.id)));
            }
        }
        self.left = contents;
        let found = self.take(id);
        found.ok_or_else(|| self.damaged(format!("interval {} is in no block", moment.id)))
    }

    /// The interval of this number, if the block that was read last has it still.
    fn take(&mut self, id: u64) -> Option<Content> {
        while self.left.front().is_some_and(|content| content.interval < id) {
            self.left.pop_front();
        }
        if self.left.front().is_some_and(|content| content.interval == id) {
            self.left.pop_front()
        } else {
            None
        }
    }

    /// The interval of this moment. It is later than those before.
    pub fn interval(&mut self, moment: &Moment, present: &Present<'_>, who: Who) -> Result<Interval, Error> {
        let content = self.checked(moment, moment.level)?;
        self.assemble(moment, content, present, who)
    }

    /// The sum of consecutive moments, which are later than those before: of as few blocks as there are for them. Who was there in
    /// any of them is present.
    pub fn sum(&mut self, moments: &[Moment], present: &Present<'_>, who: Who) -> Result<Interval, Error> {
        let mut sums = ContentSums::default();
        let mut at = 0;
        while at < moments.len() {
            let (level, end) = self.index.longest(moments, at, moments.len(), Resolution::Hour);
            sums.add(self.checked(&Moment::join(&moments[at..end]), level)?);
            at = end;
        }
        self.assemble(&Moment::join(moments), sums.finish(), present, who)
    }

    /// The rows of a moment, or of several that are summed up at this level, whose numbers fit their types together with those
    /// of all that were read.
    fn checked(&mut self, moment: &Moment, level: i64) -> Result<Content, Error> {
        let content = self.content(moment, level)?;
        if u128::from(content.length_ns) != moment.length.as_nanos() {
            return Err(self.damaged(format!("interval {} has two lengths", moment.id)));
        }
        let mut sum = |sum: Sum, number: u64| self.sums.take(self.database, sum, number).map(drop);
        for (_, count) in Loss::figures(&content.loss) {
            sum(Sum::Losses, count)?;
        }
        for row in &content.spans {
            sum(Sum::Exits, row.exits)?;
            sum(Sum::KvmExits, row.kvm_exits.unwrap_or(0))?;
            let VcpuTime { guest_ns, kernel_ns, user_ns, halted_ns, polled_ns, waiting_ns } =
                row.time.unwrap_or_default();
            for part in [guest_ns, kernel_ns, user_ns, halted_ns, polled_ns, waiting_ns] {
                sum(Sum::VcpuTimes, part)?;
            }
        }
        for row in &content.rows {
            sum(Sum::Histogram, row.histogram.count())?;
            let Split { user_exits, user_ns, waiting_ns, halted_ns, polled_ns } = row.split;
            let Nested { to_l1, l1_done, l1_exits, l1_ns } = row.nested;
            for count in [row.count, user_exits] {
                sum(Sum::Counts, count)?;
            }
            for part in [row.time_ns, user_ns, waiting_ns, halted_ns, polled_ns] {
                sum(Sum::Times, part)?;
            }
            for count in [to_l1, l1_done, l1_exits] {
                sum(Sum::Nested, count)?;
            }
            sum(Sum::NestedTimes, l1_ns)?;
        }
        for row in &content.breakdowns {
            sum(Sum::Details, row.counters.count)?;
            sum(Sum::DetailTimes, row.counters.time_ns)?;
        }
        for row in &content.workers {
            for figure in WorkerTimes::FIGURES {
                sum(Sum::Workers, figure.ns(&row.times))?;
            }
        }
        Ok(content)
    }

    fn assemble(
        &self,
        moment: &Moment,
        content: Content,
        present: &Present<'_>,
        who: Who,
    ) -> Result<Interval, Error> {
        let loss = content.loss;
        let vcpus = self.spans(moment, &content, present)?;
        let workers = self.workers(moment, &content, present)?;
        let rows = self.rows(moment, content, present)?;
        self.assembly.interval(moment, present, who, Parts { vcpus, rows, workers, loss })
    }

    fn not_there(&self, moment: &Moment, vcpu: u32) -> Error {
        self.damaged(format!("interval {} has a row of vCPU {vcpu}, which was not there", moment.id))
    }

    /// The vCPUs; those that did nothing have no row.
    fn spans(
        &self,
        moment: &Moment,
        content: &Content,
        present: &Present<'_>,
    ) -> Result<BTreeMap<(VmId, u32), VcpuSpan>, Error> {
        let mut spans: BTreeMap<(VmId, u32), VcpuSpan> = BTreeMap::new();
        for row in &content.spans {
            let id = present.vcpu(row.vcpu.into()).ok_or_else(|| self.not_there(moment, row.vcpu))?;
            let (vm, vcpu) = id;
            let span = VcpuSpan { vm, vcpu, exits: row.exits, kvm_exits: row.kvm_exits, time: row.time };
            // One that went and came again within what is summed up has two keys.
            match spans.get_mut(&id) {
                Some(mine) if moment.id < moment.last => mine.add(&span),
                _ => drop(spans.insert(id, span)),
            }
        }
        Ok(spans)
    }

    fn workers(
        &self,
        moment: &Moment,
        content: &Content,
        present: &Present<'_>,
    ) -> Result<Vec<WorkerSpan>, Error> {
        let worker =
            |row: &WorkerRow| match VmId(row.vm) {
                vm if present.has(vm) => Ok(WorkerSpan { vm, times: row.times }),
                VmId(vm) => Err(self
                    .damaged(format!("interval {} has workers of VM {vm}, which was not there", moment.id))),
            };
        content.workers.iter().map(worker).collect()
    }

    fn rows(&self, moment: &Moment, content: Content, present: &Present<'_>) -> Result<Vec<Row>, Error> {
        let keys: Vec<(u32, u32)> = content.rows.iter().map(|row| (row.vcpu, row.reason)).collect();
        let mut rows = Vec::with_capacity(content.rows.len());
        let mut last: Option<(u32, VcpuId)> = None;
        for row in content.rows {
            // The rows of a vCPU lie together.
            let (vm, vcpu) = match last.filter(|(key, _)| *key == row.vcpu) {
                Some((_, vcpu)) => vcpu,
                None => present.vcpu(row.vcpu.into()).ok_or_else(|| self.not_there(moment, row.vcpu))?,
            };
            last = Some((row.vcpu, (vm, vcpu)));
            let &(level, code) = self.reasons.get(&row.reason.into()).ok_or_else(|| {
                let what =
                    format!("interval {} has a row of reason {}, which is not known", moment.id, row.reason);
                self.damaged(what)
            })?;
            rows.push(Row { vm, vcpu, level, code, counters: row.counters() });
        }
        for of in &content.breakdowns {
            let &(reason, what) = self.breakdowns.get(&of.breakdown.into()).ok_or_else(|| {
                let what =
                    format!("interval {} has a breakdown {}, which is not known", moment.id, of.breakdown);
                self.damaged(what)
            })?;
            let key = u32::try_from(reason).ok().map(|reason| (of.vcpu, reason));
            let at = key.and_then(|key| keys.binary_search(&key).ok());
            let row = at.and_then(|at| rows.get_mut(at)).ok_or_else(|| {
                self.damaged(format!(
                    "interval {} has more on reason {reason} of vCPU {}, of which it has no row",
                    moment.id, of.vcpu
                ))
            })?;
            breakdown::add(&mut row.counters, what, of.counters);
        }
        Ok(rows)
    }
}

/// Adds up what consecutive moments have. What has come is added to what is about as much, so that many moments with few new rows
/// each cost no more than few with many.
#[derive(Default)]
struct ContentSums(Vec<Content>);

impl ContentSums {
    fn add(&mut self, content: Content) {
        self.0.push(content);
        while let [.., before, last] = self.0.as_slice()
            && before.len() <= 2 * last.len()
        {
            self.join();
        }
    }

    fn join(&mut self) {
        if let Some(last) = self.0.pop()
            && let Some(before) = self.0.last_mut()
        {
            before.extend(&last);
        }
    }

    fn finish(mut self) -> Content {
        while self.0.len() > 1 {
            self.join();
        }
        self.0.pop().unwrap_or_default()
    }
}

/// Appends the vCPUs of a part to those before it.
fn append(whole: &mut Content, part: &Content) -> Result<(), &'static str> {
    let last = |content: &Content| {
        let spans = content.spans.last().map(|row| row.vcpu);
        let rows = content.rows.last().map(|row| row.vcpu);
        spans.max(rows).max(content.breakdowns.last().map(|row| row.vcpu))
    };
    let firsts = [
        part.spans.first().map(|row| row.vcpu),
        part.rows.first().map(|row| row.vcpu),
        part.breakdowns.first().map(|row| row.vcpu),
    ];
    let first = firsts.into_iter().flatten().min();
    if (part.interval, part.length_ns) != (whole.interval, whole.length_ns)
        || !part.workers.is_empty()
        || first.is_none()
        || last(whole) >= first
    {
        return Err("its vCPUs do not follow those of the part before");
    }
    whole.spans.extend_from_slice(&part.spans);
    whole.rows.extend_from_slice(&part.rows);
    whole.breakdowns.extend_from_slice(&part.breakdowns);
    Ok(())
}

fn column_of<T>(
    database: &Database,
    column: &str,
    id: i64,
    take: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, Error> {
    let query = format!("SELECT {column} FROM blocks NOT INDEXED WHERE id = ?");
    let mut statement = database.said(database.connection().prepare_cached(&query))?;
    let mut rows = database.said(statement.query([id]))?;
    let row = database.said(rows.next())?;
    let row = row.ok_or_else(|| database.damaged(format!("block {id} is gone")))?;
    database.count(row)?;
    let row = Columns { row, path: database.path() };
    take(row.blob(0, MOST_BLOCK)?).map_err(|what| database.damaged(format!("its block {id}: {what}")))
}

/// Gives the total of each moment to `take`, in their order.
pub fn each_total(
    database: &Database,
    index: &Index,
    moments: &[Moment],
    mut take: impl FnMut(&Moment, Total) -> Result<(), Error>,
) -> Result<(), Error> {
    database.bounds().restart();
    let mut sums = Sums::default();
    let mut left: VecDeque<Total> = VecDeque::new();
    let mut until = 0;
    for moment in moments {
        if moment.id > until || left.is_empty() {
            let entry = index.find(moment.level, moment.id).first();
            let missing = || database.damaged(format!("interval {} is in no block", moment.id));
            let entry = entry.filter(|entry| entry.first == moment.id).ok_or_else(missing)?;
            left = column_of(database, "totals", entry.id, unpack_totals)?.into();
            let expected = if moment.level == FULL { entry.last - entry.first } else { 0 };
            if left.len() as u64 != expected.unsigned_abs() + 1 {
                return Err(database.damaged(format!("block {} has other totals than it says", entry.id)));
            }
            until = entry.last;
        }
        let total = left.pop_front().unwrap_or_default();
        sums.take(database, Sum::Exits, total.exits)?;
        for count in total.by_reason.values() {
            sums.take(database, Sum::Counts, *count)?;
        }
        take(moment, total)?;
    }
    Ok(())
}
