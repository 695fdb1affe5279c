//! Recordings as boot reports.

use super::Error;
use super::assembly::Who;
use super::metadata::Moment;
use super::reader::{Part, Recording};
use super::timeline::Timeline;
use super::total::Total;
use exitscope_analysis::advice::Host;
use exitscope_analysis::boot_report::BootReport;
use exitscope_analysis::phase::FIRST;
use exitscope_analysis::series::{Series, Slice};
use exitscope_analysis::spike;
use std::collections::HashSet;

impl Recording {
    /// The names of its phases, each once, in the order in which they began first; none where they were not recorded.
    pub fn phases(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        self.timeline
            .phases
            .iter()
            .map(|phase| phase.name.as_str())
            .filter(|name| seen.insert(*name))
            .collect()
    }

    /// Returns the report of a part; `None` if no interval is in it. Its times are since the beginning of the
    /// recording, and its spikes stand out among all that was recorded. The words for its end, like all other
    /// text in it, are as they are in the file: untrusted.
    ///
    /// # Errors
    /// If the recording is damaged, or cannot be read.
    pub fn boot_report(&self, part: Part) -> Result<Option<BootReport>, Error> {
        let Timeline { console, marks, phases, left_out, until, outcome, evidence } = &self.timeline;
        let mut phases = phases.iter().peekable();
        let first = phases.next_if(|phase| phase.first == 1).map_or(FIRST, |phase| &phase.name);
        let (mut all, mut series, mut whole) = (Series::new(first), Series::new(first), Total::default());
        // A recording that has thrown away its beginning begins later.
        let begin_at = self.begin();
        all.skip(begin_at);
        series.skip(begin_at);
        let holds = self.holds(&part);
        let mut begin = |all: &mut Series, series: &mut Series, by: i64| {
            while let Some(phase) = phases.next_if(|phase| phase.first <= by) {
                all.begin(&phase.name);
                series.begin(&phase.name);
            }
        };
        let packed = self.each_total(|moment, exits, by_code| {
            begin(&mut all, &mut series, moment.last);
            all.add_slice(moment.length, exits, by_code.clone());
            if holds(moment) {
                series.add_slice(moment.length, exits, by_code);
            } else {
                series.skip(moment.length);
            }
        })?;
        let sum = if packed { self.sum(&holds)? } else { None };
        // A filter, and older schemas, take reading every row.
        self.each_moment(
            Who::Active,
            |_| !packed,
            |moment, interval| {
                begin(&mut all, &mut series, moment.id);
                all.add(&interval);
                if holds(moment) {
                    series.add(&interval);
                    whole.add(moment, interval);
                } else {
                    series.skip(interval.length);
                }
                Ok::<_, Error>(())
            },
        )?;
        begin(&mut all, &mut series, i64::MAX);
        let Some(whole) = sum.or_else(|| self.finish(whole)) else { return Ok(None) };
        let last = |series: &Series| series.slices().last().map(Slice::end);
        let end = match until {
            _ if last(&series) != last(&all) => "the end of this part".to_owned(),
            Some(until) => until.clone(),
            None => self.ended().to_owned(),
        };
        let mut boot = BootReport {
            whole,
            series,
            spikes: spike::find(&all),
            console: console.clone(),
            left_out: left_out.lines,
            bytes_left_out: left_out.bytes,
            marks: marks.clone(),
            marks_left_out: left_out.marks,
            end,
            outcome: outcome.clone(),
            evidence: evidence.clone(),
            advice: Vec::new(),
        };
        boot.advise(&Host::from(self.about()));
        if boot.series.whole().length != all.whole().length {
            boot.cut();
        }
        Ok(Some(boot))
    }

    /// Returns the end of a recording that has no fact `until`, in words that continue "until".
    fn ended(&self) -> &'static str {
        match self.end() {
            Some(end) if end.starts_with("with the command") => "the command's end",
            Some(_) => "the end of the recording",
            None => "the last interval that was written",
        }
    }

    /// Returns a predicate that is true for an interval in `part`.
    pub(super) fn holds<'a>(&'a self, part: &'a Part) -> impl Fn(&Moment) -> bool + 'a {
        move |moment| {
            part.holds(moment)
                && (part.phases.is_empty() || {
                    let begun = self.timeline.phases.partition_point(|phase| phase.first <= moment.last);
                    let phase = begun.checked_sub(1).map(|at| &self.timeline.phases[at].name);
                    phase.is_some_and(|phase| part.phases.contains(phase))
                })
        }
    }
}
