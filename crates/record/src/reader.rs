//! A recording into intervals.
//!
//! A recording is untrusted: it may be damaged, or made to do damage. Nothing that it says about lengths and
//! numbers is believed: SQLite is bounded in what it hands out, rows must come in the order of their keys, in
//! which no page can be twice, and whatever is added up later fits its type.

use super::Error;
use super::about::Notes;
use super::assembly::Who;
use super::blocks::{FULL, HOUR, MINUTE};
use super::metadata::{Moment, VcpuLife, VmLife};
use super::open::Database;
use super::packed::{self, Index, Packed};
use super::present::Present;
use super::rows::{Counted, Rows, Table};
use super::timeline::Timeline;
use super::total::Total;
use exitscope_model::{About, ExitCode, Filter, Interval, Level, Thinned, Vm};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A part of a recording: from a moment to a moment, each by the host's clock or by how long after the recording began, and of
/// that the phases that are asked for.
/// Intervals are not cut: one that is in it at all is in it whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Moment from which the part goes; `None` from the beginning.
    pub from: Option<When>,
    /// Moment to which it goes; `None` to the end.
    pub to: Option<When>,
    /// Names of phases that it has; all, if there are none.
    pub phases: Vec<String>,
}

/// Span that a figure of a recording is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// An interval as it was recorded.
    #[default]
    Full,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Time since the beginning of the recording.
    After(Duration),
    /// Time of the host's clock.
    At(SystemTime),
}

impl Moment {
    /// The moment that some make together, which are not none.
    pub fn join(moments: &[Moment]) -> Moment {
        let (first, last) = (moments[0], moments[moments.len() - 1]);
        let length = last.offset + last.length - first.offset;
        Moment { last: last.last, end: last.end, length, ..first }
    }
}

impl Part {
    /// Returns true if an interval is in the part by its time.
    pub(super) fn holds(&self, moment: &Moment) -> bool {
        self.from.is_none_or(|from| match from {
            When::After(from) => moment.offset + moment.length > from,
            When::At(from) => moment.end > from,
        }) && self.to.is_none_or(|to| match to {
            When::After(to) => moment.offset < to,
            When::At(to) => moment.start < to,
        })
    }
}

/// A recording that was opened to be read. Nothing is changed in it, or beside it if it was ended.
pub struct Recording {
    database: Database,
    about: About,
    notes: Notes,
    end: Option<String>,
    moments: Vec<Moment>,
    vms: Vec<VmLife>,
    vcpus: Vec<VcpuLife>,
    reasons: HashMap<i64, (Level, ExitCode)>,
    counted: Counted,
    version: usize,
    /// Blocks of a recording of version 5 or later.
    index: Option<Index>,
    filter: Filter,
    pub(super) timeline: Timeline,
}

impl Recording {
    /// Opens a recording, one that is still being written or was never ended included.
    ///
    /// # Errors
    /// If it is none, is damaged or newer than this program, or cannot be read.
    pub fn open(path: &Path) -> Result<Recording, Error> {
        let read = Database::open(path)?;
        let version = read.check_schema()?;
        let facts = read.facts()?;
        let about = read.about(&facts)?;
        let note = |name: &str| facts.get(name).cloned();
        let notes = Notes {
            kvm_counts_fewer: note("note_kvm_counts_fewer"),
            kvm_missing: note("note_kvm_missing"),
            source: note("note_source"),
        };
        let end = note("end");
        let index = if version >= 5 { Some(Index::read(&read)?) } else { None };
        let moments = if index.is_some() { read.packed_moments()? } else { read.moments()? };
        let (mut vms, vcpus, reasons) = (read.vms()?, read.vcpus()?, read.reasons()?);
        if version >= 4 {
            read.labels(&mut vms)?;
        }
        let (counted, timeline) = match version {
            1 => (Counted::Returns, Timeline::default()),
            2 => (Counted::Second(read.breakdowns(version)?), Timeline::read(&read, &facts)?),
            _ => (Counted::Breakdowns(read.breakdowns(version)?), Timeline::read(&read, &facts)?),
        };
        let filter = Filter::default();
        Ok(Recording {
            database: read,
            about,
            notes,
            end,
            moments,
            vms,
            vcpus,
            reasons,
            counted,
            version,
            index,
            filter,
            timeline,
        })
    }

    /// Leaves exits out of all intervals that are read from now on ([`Filter::apply`]).
    pub fn choose(&mut self, filter: Filter) {
        self.filter = filter;
    }

    /// Returns the description of host, command and tool.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Returns the recorder's last remarks on the numbers.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Returns the end of the recording, in words; `None` if it is still being written, or was cut off.
    pub fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Returns where the first interval begins: later than the recording if its beginning was thrown away.
    pub(super) fn begin(&self) -> Duration {
        self.moments.first().map_or(Duration::ZERO, |moment| moment.offset)
    }

    /// Returns the number of intervals.
    pub fn len(&self) -> usize {
        self.moments.len()
    }

    /// Returns true if there is no interval.
    pub fn is_empty(&self) -> bool {
        self.moments.is_empty()
    }

    /// Returns begin and end by the host's clock, and the length.
    ///
    /// # Errors
    /// [`Error::NoInterval`] where there is no interval.
    pub fn span(&self) -> Result<(SystemTime, SystemTime, Duration), Error> {
        match (self.moments.first(), self.moments.last()) {
            (Some(first), Some(last)) => {
                Ok((first.start, last.end, last.offset + last.length - first.offset))
            }
            _ => Err(Error::NoInterval(self.database.path().to_owned())),
        }
    }

    /// Returns begin (since that of the recording) and length of each interval.
    pub fn moments(&self) -> impl ExactSizeIterator<Item = (Duration, Duration)> {
        self.moments.iter().map(|moment| (moment.offset, moment.length))
    }

    /// Returns what was thinned; `None` where every interval is there.
    pub fn thinned(&self) -> Option<Thinned> {
        let of = |level: i64| self.moments.iter().filter(move |moment| moment.level == level);
        let length = |level| of(level).map(|moment| moment.length).sum::<Duration>();
        let thinned =
            Thinned { gone: self.begin(), hours: length(HOUR), minutes: length(MINUTE), full: length(FULL) };
        (thinned != Thinned { full: thinned.full, ..Thinned::default() }).then_some(thinned)
    }

    /// Returns what the moment of this number is: an interval as it was recorded, or a sum.
    pub fn resolution(&self, number: usize) -> Resolution {
        match self.moments.get(number).map_or(FULL, |moment| moment.level) {
            HOUR => Resolution::Hour,
            MINUTE => Resolution::Minute,
            _ => Resolution::Full,
        }
    }

    /// Returns every VM that was there, by id.
    pub fn vms(&self) -> impl Iterator<Item = &Vm> + Clone {
        self.vms.iter().map(|span| &span.vm)
    }

    /// Returns a part as one interval; `None` if no interval is in it.
    ///
    /// # Errors
    /// If the recording is damaged, or cannot be read.
    pub fn whole(&self, part: Part) -> Result<Option<Interval>, Error> {
        self.sum(self.holds(&part))
    }

    /// Returns the intervals that `wanted` says yes to as one, from sums of minutes and hours where there are some.
    pub(super) fn sum(&self, wanted: impl Fn(&Moment) -> bool) -> Result<Option<Interval>, Error> {
        let mut whole = Total::default();
        match &self.index {
            Some(index) if self.filter.is_all() => {
                self.each_run(index, wanted, |moments, packed, present| {
                    present.advance(moments[0].id, moments[moments.len() - 1].last)?;
                    whole.add(&Moment::join(moments), packed.sum(moments, present, Who::Active)?);
                    Ok(())
                })?
            }
            // Sums of intervals cannot tell in which of them a detail was that is chosen.
            _ => self.each_moment(Who::Active, wanted, |moment, interval| {
                whole.add(moment, interval);
                Ok::<_, Error>(())
            })?,
        }
        Ok(self.finish(whole))
    }

    /// Returns the exits of each interval, if that can be told without reading what each vCPU did.
    ///
    /// # Errors
    /// If the recording is damaged, or cannot be read.
    pub fn exits(&self) -> Result<Option<Vec<u64>>, Error> {
        let Some(index) = self.index.as_ref().filter(|_| self.filter.is_all()) else { return Ok(None) };
        let mut exits = Vec::with_capacity(self.moments.len());
        packed::each_total(&self.database, index, &self.moments, |_, total| {
            exits.push(total.exits);
            Ok(())
        })?;
        Ok(Some(exits))
    }

    pub(super) fn path(&self) -> &Path {
        self.database.path()
    }

    /// Returns the version of its schema.
    pub(super) fn version(&self) -> usize {
        self.version
    }

    /// Returns the key of each reason, by level and code.
    pub(super) fn reason_keys(&self) -> HashMap<(Level, ExitCode), i64> {
        self.reasons.iter().map(|(key, reason)| (*reason, *key)).collect()
    }

    /// Returns the number of the interval at this place; of several together, of the first.
    pub(super) fn first_interval(&self, place: usize) -> i64 {
        self.moments.get(place).map_or(0, |moment| moment.id)
    }

    /// Returns the place of the first interval whose number is at least this.
    pub(super) fn place(&self, interval: i64) -> usize {
        self.moments.partition_point(|moment| moment.id < interval)
    }

    /// Gives each row of a query of ours to `take`, within the bounds of one table.
    pub(super) fn table_rows(
        &self,
        query: &str,
        mut take: impl FnMut(&rusqlite::Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.database.bounds().restart();
        self.database.rows(query, |columns| take(columns.row))
    }

    /// Gives exits by code of each moment to `take`. Returns false in a recording that does not tell them apart from the rest.
    pub(super) fn each_total(
        &self,
        mut take: impl FnMut(&Moment, u64, BTreeMap<ExitCode, u64>),
    ) -> Result<bool, Error> {
        let Some(index) = self.index.as_ref().filter(|_| self.filter.is_all()) else { return Ok(false) };
        packed::each_total(&self.database, index, &self.moments, |moment, total| {
            let mut by_code = BTreeMap::new();
            for (reason, count) in total.by_reason {
                let known = self.reasons.get(&reason.into());
                let (_, code) = known.ok_or_else(|| {
                    self.database.damaged(format!("interval {} has an unknown reason {reason}", moment.id))
                })?;
                *by_code.entry(*code).or_default() += count;
            }
            take(moment, total.exits, by_code);
            Ok(())
        })?;
        Ok(true)
    }

    /// Gives each moment to `take` that `wanted` says yes to, by runs of moments that follow one another, with who is there in any
    /// of them.
    fn each_run<E: From<Error>>(
        &self,
        index: &Index,
        wanted: impl Fn(&Moment) -> bool,
        mut take: impl FnMut(&[Moment], &mut Packed<'_>, &mut Present<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let database = &self.database;
        let Counted::Breakdowns(breakdowns) = &self.counted else { return Ok(()) };
        database.bounds().restart();
        let mut packed = Packed::new(database, index, &self.about, &self.reasons, breakdowns);
        let mut present = Present::new(database.path(), &self.vms, &self.vcpus);
        let mut moments = self.moments.as_slice();
        loop {
            let skipped = moments.iter().take_while(|moment| !wanted(moment)).count();
            let length = moments[skipped..].iter().take_while(|moment| wanted(moment)).count();
            let (run, rest) = moments[skipped..].split_at(length);
            if run.is_empty() {
                return Ok(());
            }
            take(run, &mut packed, &mut present)?;
            moments = rest;
        }
    }

    fn each_packed<E: From<Error>>(
        &self,
        index: &Index,
        who: Who,
        wanted: impl Fn(&Moment) -> bool,
        mut take: impl FnMut(&Moment, Interval) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_run(index, wanted, |moments, packed, present| {
            for moment in moments {
                present.advance(moment.id, moment.last)?;
                let mut interval = packed.interval(moment, present, who)?;
                self.filter.apply(&mut interval);
                take(moment, interval)?;
            }
            Ok(())
        })
    }

    pub(super) fn finish(&self, whole: Total) -> Option<Interval> {
        whole.finish(&self.vms, &self.vcpus)
    }

    /// Gives each interval of a part to `take`, in their order, as it was when it was recorded. All figures of all of them
    /// may be added up.
    ///
    /// # Errors
    /// Those of `take`; [`Error`] if the recording is damaged, or cannot be read.
    pub fn each<E: From<Error>>(
        &self,
        part: Part,
        mut take: impl FnMut(Interval) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_moment(Who::All, self.holds(&part), |_, interval| take(interval))
    }

    /// The same with those VMs and vCPUs alone that did something: intervals cost what is in the file for them, however many
    /// VMs are there.
    ///
    /// # Errors
    /// Likewise.
    pub fn each_active<E: From<Error>>(
        &self,
        part: Part,
        mut take: impl FnMut(Interval) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_moment(Who::Active, self.holds(&part), |_, interval| take(interval))
    }

    /// The same of the intervals with these numbers, the first of all being 0.
    ///
    /// # Errors
    /// Likewise.
    pub fn each_of<E: From<Error>>(
        &self,
        numbers: Range<usize>,
        mut take: impl FnMut(Interval) -> Result<(), E>,
    ) -> Result<(), E> {
        let some = self.moments.get(numbers.start..numbers.end.min(self.moments.len())).unwrap_or_default();
        let (Some(first), Some(last)) = (some.first(), some.last()) else { return Ok(()) };
        let wanted = |moment: &Moment| (first.id..=last.id).contains(&moment.id);
        self.each_moment(Who::All, wanted, |_, interval| take(interval))
    }

    /// Gives the intervals with these numbers to `take`, several together where there is a sum of them that is no longer than
    /// `longest`, with the numbers that each is of: it costs as many rows as that takes.
    ///
    /// # Errors
    /// Likewise.
    pub fn each_sum<E: From<Error>>(
        &self,
        numbers: Range<usize>,
        longest: Resolution,
        mut take: impl FnMut(Range<usize>, Interval) -> Result<(), E>,
    ) -> Result<(), E> {
        let numbers = numbers.start..numbers.end.min(self.moments.len());
        let mut at = numbers.start;
        // Sums of intervals cannot tell in which of them a detail was that is chosen.
        let Some(index) = self.index.as_ref().filter(|_| self.filter.is_all()) else {
            return self.each_of(numbers, |interval| {
                at += 1;
                take(at - 1..at, interval)
            });
        };
        let some = self.moments.get(numbers).unwrap_or_default();
        let (Some(first), Some(last)) = (some.first(), some.last()) else { return Ok(()) };
        let wanted = |moment: &Moment| (first.id..=last.id).contains(&moment.id);
        self.each_run(index, wanted, |mut moments, packed, present| {
            while let Some(first) = moments.first() {
                let (_, count) = index.longest(moments, 0, moments.len(), longest);
                let (sum, rest) = moments.split_at(count);
                present.advance(first.id, sum[count - 1].last)?;
                take(at..at + count, packed.sum(sum, present, Who::All)?)?;
                (at, moments) = (at + count, rest);
            }
            Ok(())
        })
    }

    /// Gives each interval to `take` that `wanted` says yes to.
    pub(super) fn each_moment<E: From<Error>>(
        &self,
        who: Who,
        wanted: impl Fn(&Moment) -> bool,
        mut take: impl FnMut(&Moment, Interval) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(index) = &self.index {
            return self.each_packed(index, who, wanted, take);
        }
        let database = &self.database;
        let Some(first) = self.moments.iter().find(|moment| wanted(moment)) else { return Ok(()) };
        database.bounds().restart();
        let prepare = |table: Table| {
            let query = database.said(table.query(database.connection()))?;
            Ok((table, database.said(database.connection().prepare(&query))?))
        };
        let mut statements = Table::of(&self.counted, self.version)
            .into_iter()
            .map(prepare)
            .collect::<Result<Vec<_>, Error>>()?;
        let (reasons, counted) = (&self.reasons, &self.counted);
        let mut rows = Rows::new(database, &mut statements, first.id, &self.about, reasons, counted)?;
        let mut present = Present::new(database.path(), &self.vms, &self.vcpus);
        for moment in &self.moments {
            present.advance(moment.id, moment.id)?;
            if wanted(moment) {
                let mut interval = rows.interval(moment, &present, who)?;
                self.filter.apply(&mut interval);
                take(moment, interval)?;
            }
        }
        Ok(())
    }
}
