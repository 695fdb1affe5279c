//! Filters for VMs and rows.

use super::row::Row;
use exitscope_model::Vm;
use regex::{Regex, RegexBuilder};

/// Maximum length of what can be typed.
pub const LONGEST: usize = 200;

/// A regular expression, as it was typed. Capitals and small letters are the same.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Expression as it was typed.
    pub text: String,
    regex: Regex,
}

impl Filter {
    /// Compiles an expression; `None` if it is empty.
    ///
    /// # Errors
    /// A line that says what is wrong with the expression.
    pub fn parse(text: &str) -> Result<Option<Filter>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let built = RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build();
        let wrong = |error: regex::Error| {
            let last = error.to_string().lines().last().unwrap_or_default().to_owned();
            last.trim_start_matches("error: ").to_owned()
        };
        built.map(|regex| Some(Filter { text: text.to_owned(), regex })).map_err(wrong)
    }

    fn finds(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The rows that it finds by VM or reason, with those that belong to them; or by what belongs to them.
    pub fn rows(&self, rows: Vec<Row>) -> Vec<Row> {
        let mut kept: Vec<Row> = Vec::new();
        // The row that the following belong to, where it is not there by itself.
        let mut parent: Option<Row> = None;
        let mut all_children = false;
        for row in rows {
            if !row.child {
                let by_reason = row.top.as_ref().is_some_and(|(name, _)| self.finds(name));
                let found =
                    self.finds(&row.vm) || self.finds(&row.reason) || (by_reason && row.id.reason.is_none());
                all_children = self.finds(&row.vm);
                parent = (!found).then(|| row.clone());
                kept.extend(found.then_some(row));
            } else if all_children || self.finds(&row.reason) {
                kept.extend(parent.take());
                kept.push(row);
            }
        }
        kept
    }
}

/// Filters for the VMs that are shown.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Shows VMs whose name this matches.
    pub guest: Option<Filter>,
    /// Shows VMs of these processes; all if it is empty.
    pub pids: Vec<u32>,
}

impl Filters {
    /// Returns true if `vm` is shown.
    pub fn shows(&self, vm: &Vm) -> bool {
        self.guest.as_ref().is_none_or(|filter| filter.finds(&vm.name))
            && (self.pids.is_empty() || self.pids.contains(&vm.pid))
    }

    /// Returns true if all VMs are shown.
    pub fn is_none(&self) -> bool {
        self.guest.is_none() && self.pids.is_empty()
    }

    /// Parses process ids that commas or spaces separate.
    ///
    /// # Errors
    /// A line that names the word that is no process id.
    pub fn parse_pids(text: &str) -> Result<Vec<u32>, String> {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        let number =
            |word: &str| word.parse().map_err(|_| format!("{word:?} is no process; give e.g. 4242,4250"));
        words.map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::accumulator::Accumulator;
    use crate::top::row::{List, RowInput, Scope};
    use exitscope_model::fixture;

    #[test]
    fn a_filter_finds_vms_and_reasons_whatever_their_letters() {
        let mut seen = Accumulator::default();
        seen.take(fixture::busy());
        let (span, all) = (seen.last.as_ref().unwrap(), seen.total.as_ref().unwrap());
        let source = RowInput { accumulator: &seen, span, all, shows: &|_| true };
        let found = |text: &str, list: List, apart: bool| -> Vec<String> {
            let filter = Filter::parse(text).unwrap().unwrap();
            let rows = filter.rows(source.rows(list, Scope::default(), apart));
            rows.into_iter().map(|row| if row.id.reason.is_some() { row.reason } else { row.vm }).collect()
        };
        assert_eq!(found("POSTGRES|runner", List::Vms, false), ["postgres-main", "ci-runner-07"]);
        assert_eq!(found("^ioio$", List::Reasons, false), ["IOIO"]);
        assert_eq!(found("vmm.?call", List::Vms, true), ["ci-runner-07", "VMMCALL"]);
        assert_eq!(found("cpuid", List::Vms, true), ["web-1", "CPUID"]);
        assert_eq!(found("runner", List::Vms, true).len(), 6);
        assert!(Filter::parse("a(").unwrap_err().contains("unclosed group"));
        assert!(Filter::parse("").unwrap().is_none());
        assert!(Filter::parse(&"(a{1000}){1000}".repeat(3)).is_err(), "too large a machine");
    }

    #[test]
    fn processes_are_numbers() {
        assert_eq!(Filters::parse_pids(" 4242,7 9"), Ok(vec![4242, 7, 9]));
        assert_eq!(Filters::parse_pids(""), Ok(vec![]));
        assert!(Filters::parse_pids("web").unwrap_err().contains("no process"));
    }
}
