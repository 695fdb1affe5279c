//! A recording into intervals.
//!
//! A recording is untrusted: it may be damaged, or made to do damage. Nothing that it says about lengths and
//! numbers is believed: SQLite is bounded in what it hands out, rows must come in the order of their keys, in
//! which no page can be twice, and whatever is added up later fits its type.

use super::Error;
use super::about::Notes;
use super::metadata::{Moment, VcpuLife, VmLife};
use super::open::Database;
use super::present::Present;
use super::rows::{Counted, Rows, Table, Who};
use super::timeline::Timeline;
use super::total::Total;
use exitscope_model::{About, ExitCode, Filter, Interval, Level, Vm};
use std::collections::HashMap;
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

/// A moment of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Time since the beginning of the recording.
    After(Duration),
    /// Time of the host's clock.
    At(SystemTime),
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
        let (moments, mut vms, vcpus, reasons) =
            (read.moments()?, read.vms()?, read.vcpus()?, read.reasons()?);
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
            (Some(first), Some(last)) => Ok((first.start, last.end, last.offset + last.length)),
            _ => Err(Error::NoInterval(self.database.path().to_owned())),
        }
    }

    /// Returns begin (since that of the recording) and length of each interval.
    pub fn moments(&self) -> impl ExactSizeIterator<Item = (Duration, Duration)> {
        self.moments.iter().map(|moment| (moment.offset, moment.length))
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
        let mut whole = Total::default();
        self.each_moment(Who::Active, self.holds(&part), |moment, interval| {
            whole.add(moment, interval);
            Ok::<_, Error>(())
        })?;
        Ok(self.finish(whole))
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
        let wanted =
            |moment: &Moment| usize::try_from(moment.id - 1).is_ok_and(|number| numbers.contains(&number));
        self.each_moment(Who::All, wanted, |_, interval| take(interval))
    }

    /// Gives each interval to `take` that `wanted` says yes to.
    pub(super) fn each_moment<E: From<Error>>(
        &self,
        who: Who,
        wanted: impl Fn(&Moment) -> bool,
        mut take: impl FnMut(&Moment, Interval) -> Result<(), E>,
    ) -> Result<(), E> {
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
            present.advance(moment.id)?;
            if wanted(moment) {
                let mut interval = rows.interval(moment, &present, who)?;
                self.filter.apply(&mut interval);
                take(moment, interval)?;
            }
        }
        Ok(())
    }
}
