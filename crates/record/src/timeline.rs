//! Console lines, marks and phases of a recording.

use super::Error;
use super::about;
use super::columns::Order;
use super::open::Database;
use exitscope_analysis::boot_report::{LeftOut, Mark, Origin};
use exitscope_analysis::console::{Line, MAX_BYTES, MAX_LINE, MAX_LINES};
use exitscope_analysis::outcome::{Evidence, Outcome};
use std::collections::BTreeMap;
use std::time::Duration;

/// No recorder writes more phases: 1,000, and the one that is on at the beginning.
const MOST_PHASES: usize = 1_001;

/// No recorder writes more marks: 10,000 by hand, and as many of ports.
const MOST_MARKS: usize = 20_000;

/// No recorder writes a longer text of a mark, or name of a phase (bytes).
const MOST_TEXT: usize = 512;

/// No recorder writes a longer word for where a mark comes from (bytes).
const MOST_WORD: usize = 16;

/// A phase, and the interval with which it begins.
pub struct Phase {
    pub name: String,
    pub first: i64,
}

/// Console lines, marks and phases. Empty in a recording of version 1, and where none of them were recorded.
#[derive(Default)]
pub struct Timeline {
    pub console: Vec<Line>,
    pub marks: Vec<Mark>,
    pub phases: Vec<Phase>,
    pub left_out: LeftOut,
    pub until: Option<String>,
    pub outcome: Option<Outcome>,
    pub evidence: Vec<Evidence>,
}

impl Timeline {
    /// Reads them from a recording of version 2 or later.
    pub fn read(read: &Database, facts: &BTreeMap<String, String>) -> Result<Timeline, Error> {
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
            outcome: about::outcome(facts).map_err(|wrong| read.damaged(wrong))?,
            evidence: about::evidence(facts).map_err(|wrong| read.damaged(wrong))?,
        })
    }
}

fn console(read: &Database) -> Result<Vec<Line>, Error> {
    let mut lines: Vec<Line> = Vec::new();
    let (mut order, mut bytes) = (Order::new(), 0);
    read.rows("SELECT id, at_ns, text FROM console NOT INDEXED", |row| {
        let line = Line { at: Duration::from_nanos(row.number(1)?), text: row.text(2, MAX_LINE)? };
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

fn marks(read: &Database) -> Result<Vec<Mark>, Error> {
    let mut marks = Vec::new();
    let mut order = Order::new();
    read.rows("SELECT id, at_ns, origin, port, value, text FROM marks NOT INDEXED", |row| {
        let wrong = |what: &str| read.damaged(format!("its marks {what}"));
        order.next(row.int(0)?).map_err(|()| wrong("are not in order"))?;
        let origin = match (row.text(2, MOST_WORD)?.as_str(), row.maybe(3)?, row.maybe(4)?) {
            ("hand", None, None) => Origin::Hand,
            ("port", Some(_), Some(_)) => Origin::Port { port: row.narrow(3)?, value: row.narrow(4)? },
            _ => return Err(wrong("are neither by hand nor of a port")),
        };
        if marks.len() == MOST_MARKS {
            return Err(wrong("are more than are ever recorded"));
        }
        marks.push(Mark { at: Duration::from_nanos(row.number(1)?), origin, text: row.text(5, MOST_TEXT)? });
        Ok(())
    })?;
    marks.sort_by_key(|mark| mark.at);
    Ok(marks)
}

/// Phases in the order in which they began.
fn phases(read: &Database) -> Result<Vec<Phase>, Error> {
    let mut phases: Vec<Phase> = Vec::new();
    let mut order = Order::new();
    read.rows("SELECT id, name, first_interval FROM phases NOT INDEXED", |row| {
        let first = row.int(2)?;
        if order.next(row.int(0)?).is_err() || first < 1 || phases.len() == MOST_PHASES {
            return Err(read.damaged("its phases are not in order, or more than are ever recorded"));
        }
        phases.push(Phase { name: row.text(1, MOST_TEXT)?, first });
        Ok(())
    })?;
    phases.sort_by_key(|phase| phase.first);
    Ok(phases)
}
