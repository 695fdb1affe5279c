//! What is in a recording beside what was counted: what the machine said, marks, and phases.

use super::Error;
use super::about;
use super::metadata::{Moment, Reader};
use super::reader::{Part, Recording};
use super::rows::Order;
use exitscope_analysis::boot_report::{BootReport, LeftOut, Mark, Origin};
use exitscope_analysis::console::{Line, MAX_BYTES, MAX_LINES};
use exitscope_analysis::phase::FIRST;
use exitscope_analysis::series::{Series, Slice};
use exitscope_analysis::spike;
use exitscope_model::Interval;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// No recorder writes more phases or marks.
const MOST: usize = 40_000;

/// A phase, and with which interval it begins.
pub struct Phase {
    pub name: String,
    pub first: i64,
}

/// All of it. Empty in a recording of version 1, and where none of it was recorded.
#[derive(Default)]
pub struct Timeline {
    pub console: Vec<Line>,
    pub marks: Vec<Mark>,
    pub phases: Vec<Phase>,
    pub left_out: LeftOut,
    pub until: Option<String>,
}

impl Timeline {
    /// From version 2 on.
    pub fn read(read: &Reader<'_>, facts: &BTreeMap<String, String>) -> Result<Timeline, Error> {
        let mut left_out = LeftOut::default();
        for (name, _) in about::left_out(left_out) {
            let Some(found) = facts.get(name) else { continue };
            let count = found.parse().map_err(|_| read.damaged(format!("its fact {name:?} is {found:?}")))?;
            match name {
                "console_lines_left_out" => left_out.lines = count,
                "console_bytes_left_out" => left_out.bytes = count,
                _ => left_out.marks = count,
            }
        }
        Ok(Timeline {
            console: console(read)?,
            marks: marks(read)?,
            phases: phases(read)?,
            left_out,
            until: facts.get("until").cloned(),
        })
    }
}

fn console(read: &Reader<'_>) -> Result<Vec<Line>, Error> {
    let mut lines: Vec<Line> = Vec::new();
    let (mut order, mut bytes) = (Order::default(), 0);
    read.rows("SELECT id, at_ns, text FROM console ORDER BY id", |row| {
        let line = Line { at: Duration::from_nanos(row.number(1)?), text: row.text(2)? };
        let later = lines.last().is_none_or(|last| last.at <= line.at);
        bytes += line.text.len();
        if order.next(row.int(0)?).is_err() || !later {
            return Err(read.damaged("the lines of its console are not in order"));
        }
        if lines.len() == MAX_LINES || bytes > MAX_BYTES {
            return Err(read.damaged("it has more lines of a console than are ever recorded"));
        }
        lines.push(line);
        Ok(())
    })?;
    Ok(lines)
}

fn marks(read: &Reader<'_>) -> Result<Vec<Mark>, Error> {
    let mut marks = Vec::new();
    let mut order = Order::default();
    read.rows("SELECT id, at_ns, origin, port, value, text FROM marks ORDER BY id", |row| {
        let wrong = |what: &str| read.damaged(format!("its marks {what}"));
        order.next(row.int(0)?).map_err(|()| wrong("are not in order"))?;
        let origin = match (row.text(2)?.as_str(), row.maybe(3)?, row.maybe(4)?) {
            ("hand", None, None) => Origin::Hand,
            ("port", Some(_), Some(_)) => Origin::Port { port: row.narrow(3)?, value: row.narrow(4)? },
            _ => return Err(wrong("are neither by hand nor of a port")),
        };
        if marks.len() == MOST {
            return Err(wrong("are more than are ever recorded"));
        }
        marks.push(Mark { at: Duration::from_nanos(row.number(1)?), origin, text: row.text(5)? });
        Ok(())
    })?;
    marks.sort_by_key(|mark| mark.at);
    Ok(marks)
}

/// In the order in which they began.
fn phases(read: &Reader<'_>) -> Result<Vec<Phase>, Error> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut order = Order::default();
    read.rows("SELECT first_interval, id, name FROM phases ORDER BY first_interval, id", |row| {
        let first = row.int(0)?;
        if order.next((first, row.int(1)?)).is_err() || first < 1 || phases.len() == MOST {
            return Err(read.damaged("its phases are not in order, or more than are ever recorded"));
        }
        phases.push(Phase { name: row.text(2)?, first });
        Ok(())
    })?;
    Ok(phases)
}

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

    /// What there is to tell of a part; `None` where no interval is in it. Its times are since the beginning of the recording,
    /// and what stands out does so among all that was recorded. The words for its end, as all else that it says, are as they are in
    /// the file: untrusted.
    ///
    /// # Errors
    /// If the recording is damaged, or cannot be read.
    pub fn boot_report(&self, part: Part) -> Result<Option<BootReport>, Error> {
        let Timeline { console, marks, phases, left_out, until } = &self.timeline;
        let mut phases = phases.iter().peekable();
        let first = phases.next_if(|phase| phase.first == 1).map_or(FIRST, |phase| &phase.name);
        let (mut all, mut series, mut whole) = (Series::new(first), Series::new(first), None);
        let holds = self.holds(&part);
        let mut begin = |all: &mut Series, series: &mut Series, by: i64| {
            while let Some(phase) = phases.next_if(|phase| phase.first <= by) {
                all.begin(&phase.name);
                series.begin(&phase.name);
            }
        };
        self.each_moment(
            |_| true,
            |moment, interval| {
                begin(&mut all, &mut series, moment.id);
                all.add(&interval);
                if holds(moment) {
                    series.add(&interval);
                    Interval::append(&mut whole, interval);
                } else {
                    series.skip(interval.length);
                }
                Ok::<_, Error>(())
            },
        )?;
        begin(&mut all, &mut series, i64::MAX);
        let Some(whole) = whole else { return Ok(None) };
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
        };
        if boot.series.whole().length != all.whole().length {
            boot.cut();
        }
        Ok(Some(boot))
    }

    /// What it ended with, in words that continue "until", where nobody has said more.
    fn ended(&self) -> &'static str {
        match self.end() {
            Some(end) if end.starts_with("with the command") => "the command's end",
            Some(_) => "the end of the recording",
            None => "the last interval that was written",
        }
    }

    /// Whether an interval is in a part.
    pub(super) fn holds<'a>(&'a self, part: &'a Part) -> impl Fn(&Moment) -> bool + 'a {
        move |moment| {
            part.holds(moment)
                && (part.phases.is_empty() || {
                    let begun = self.timeline.phases.partition_point(|phase| phase.first <= moment.id);
                    let phase = begun.checked_sub(1).map(|at| &self.timeline.phases[at].name);
                    phase.is_some_and(|phase| part.phases.contains(phase))
                })
        }
    }
}
