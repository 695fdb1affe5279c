//! Intervals that are packed in blocks, as recordings have them from schema 5 on.

use super::blocks::{FULL, HOUR, MINUTE};
use super::columns::{Columns, Order};
use super::metadata::{Breakdowns, Moment};
use super::open::Database;
use super::pack::{Block, Content, ExitRow, Total, unpack_totals};
use super::present::Present;
use super::rows::{MAX_ROWS, Sum, Sums, Who};
use super::writer::no_time;
use super::{Error, breakdown};
use breakdown::BreakdownKey;
use exitscope_model::{
    About, Counters, ExitCode, Interval, Level, Loss, Measured, Nested, Row, Source, Split, Unit, VcpuSpan,
    VmId, WorkerSpan, WorkerTimes,
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

    /// Returns where the longest sum ends that begins with the moment at `at` and ends by `end`, and its level.
    pub fn longest(&self, moments: &[Moment], at: usize, end: usize) -> (i64, usize) {
        for level in [HOUR, MINUTE].into_iter().filter(|level| *level > moments[at].level) {
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
    source: Source,
    measured: Measured,
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
        let (source, measured) = (about.source, about.measured);
        let (sums, left) = (Sums::default(), VecDeque::new());
        Packed { database, index, source, measured, reasons, breakdowns, sums, left }
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

    /// The interval of this moment, or of several that are summed up at this level. It is later than those before.
    pub fn interval(
        &mut self,
        moment: &Moment,
        level: i64,
        present: &Present<'_>,
        who: Who,
    ) -> Result<Interval, Error> {
        let content = self.content(moment, level)?;
        if u128::from(content.length_ns) != moment.length.as_nanos() {
            return Err(self.damaged(format!("interval {} has two lengths", moment.id)));
        }
        let loss = content.loss;
        for (_, count) in Loss::figures(&loss) {
            self.sum(Sum::Losses, count)?;
        }
        let mut vcpus = self.spans(moment, &content, present, who)?;
        let workers = self.workers(moment, &content, present)?;
        let rows = self.rows(moment, content, present)?;
        let vms = match who {
            Who::All => {
                self.database.list(present.vms().len())?;
                present.vms().collect()
            }
            Who::Active => {
                for row in &rows {
                    vcpus.entry((row.vm, row.vcpu)).or_insert_with(|| self.idle(row.vm, row.vcpu));
                }
                let mut vms: Vec<VmId> = vcpus.keys().map(|(vm, _)| *vm).collect();
                vms.dedup();
                vms.into_iter().filter_map(|vm| present.vm(vm)).collect()
            }
        };
        Ok(Interval {
            start: moment.start,
            end: moment.end,
            length: moment.length,
            source: self.source,
            measured: self.measured,
            vms,
            vcpus: vcpus.into_values().collect(),
            workers,
            rows,
            loss,
        })
    }

    fn sum(&mut self, sum: Sum, number: u64) -> Result<u64, Error> {
        self.sums.take(self.database, sum, number)
    }

    fn idle(&self, vm: VmId, vcpu: u32) -> VcpuSpan {
        VcpuSpan { vm, vcpu, exits: 0, kvm_exits: Some(0), time: no_time(self.measured) }
    }

    fn not_there(&self, moment: &Moment, vcpu: u32) -> Error {
        self.damaged(format!("interval {} has a row of vCPU {vcpu}, which was not there", moment.id))
    }

    /// The vCPUs; those that did nothing have no row.
    fn spans(
        &mut self,
        moment: &Moment,
        content: &Content,
        present: &Present<'_>,
        who: Who,
    ) -> Result<BTreeMap<(VmId, u32), VcpuSpan>, Error> {
        let mut spans: BTreeMap<(VmId, u32), VcpuSpan> = BTreeMap::new();
        if who == Who::All {
            self.database.list(present.vcpus().len())?;
            spans.extend(present.vcpus().map(|(vm, vcpu)| ((vm, vcpu), self.idle(vm, vcpu))));
        }
        for row in &content.spans {
            let id = present.vcpu(row.vcpu.into()).ok_or_else(|| self.not_there(moment, row.vcpu))?;
            self.sum(Sum::Exits, row.exits)?;
            if let Some(exits) = row.kvm_exits {
                self.sum(Sum::KvmExits, exits)?;
            }
            if let Some(time) = row.time {
                for part in [
                    time.guest_ns,
                    time.kernel_ns,
                    time.user_ns,
                    time.waiting_ns,
                    time.halted_ns,
                    time.polled_ns,
                ] {
                    self.sum(Sum::VcpuTimes, part)?;
                }
            }
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
        &mut self,
        moment: &Moment,
        content: &Content,
        present: &Present<'_>,
    ) -> Result<Vec<WorkerSpan>, Error> {
        let mut workers = Vec::with_capacity(content.workers.len());
        for row in &content.workers {
            let vm = VmId(row.vm);
            if !present.has(vm) {
                let what =
                    format!("interval {} has workers of VM {}, which was not there", moment.id, row.vm);
                return Err(self.damaged(what));
            }
            for figure in WorkerTimes::FIGURES {
                self.sum(Sum::Workers, figure.ns(&row.times))?;
            }
            workers.push(WorkerSpan { vm, times: row.times });
        }
        Ok(workers)
    }

    fn rows(&mut self, moment: &Moment, content: Content, present: &Present<'_>) -> Result<Vec<Row>, Error> {
        let keys: Vec<(u32, u32)> = content.rows.iter().map(|row| (row.vcpu, row.reason)).collect();
        let mut rows = Vec::with_capacity(content.rows.len());
        for row in content.rows {
            rows.push(self.row(moment, row, present)?);
        }
        for of in &content.breakdowns {
            let &(reason, what) = self.breakdowns.get(&of.breakdown.into()).ok_or_else(|| {
                self.damaged(format!(
                    "interval {} has a breakdown {}, which is not known",
                    moment.id, of.breakdown
                ))
            })?;
            let sum = match what {
                BreakdownKey::Return(_) => Sum::Returns,
                BreakdownKey::Detail(_) | BreakdownKey::Other => Sum::Details,
                BreakdownKey::Mode(_) => Sum::Modes,
            };
            self.sum(sum, of.counters.count)?;
            self.sum(Sum::DetailTimes, of.counters.time_ns)?;
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
        rows.sort_by_key(|row| (row.vm, row.vcpu, row.level, row.code));
        let is_same = |a: &Row, b: &Row| (a.vm, a.vcpu, a.level, a.code) == (b.vm, b.vcpu, b.level, b.code);
        if rows.windows(2).any(|pair| is_same(&pair[0], &pair[1])) {
            if moment.id == moment.last {
                return Err(
                    self.damaged(format!("interval {} has two rows of one vCPU and reason", moment.id))
                );
            }
            rows.dedup_by(|next, row| {
                let same = is_same(next, row);
                if same {
                    row.counters.add(&next.counters);
                }
                same
            });
        }
        Ok(rows)
    }

    fn row(&mut self, moment: &Moment, row: ExitRow, present: &Present<'_>) -> Result<Row, Error> {
        let (vm, vcpu) = present.vcpu(row.vcpu.into()).ok_or_else(|| self.not_there(moment, row.vcpu))?;
        let &(level, code) = self.reasons.get(&row.reason.into()).ok_or_else(|| {
            self.damaged(format!(
                "interval {} has a row of reason {}, which is not known",
                moment.id, row.reason
            ))
        })?;
        let counters: Counters = row.counters();
        self.sum(Sum::Counts, counters.count)?;
        self.sum(Sum::Times, counters.time_ns)?;
        self.sum(Sum::Histogram, counters.histogram.count())?;
        for (part, sums) in [
            (Split::COUNTERS, [Sum::Counts, Sum::Times]),
            (Nested::COUNTERS, [Sum::Nested, Sum::NestedTimes]),
        ] {
            for counter in part {
                let sum = if counter.unit == Unit::Ns { sums[1] } else { sums[0] };
                self.sum(sum, counter.get(&counters))?;
            }
        }
        Ok(Row { vm, vcpu, level, code, counters })
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
