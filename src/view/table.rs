//! The table for people.

use super::column::{COLUMNS, Column, Context, Value};
use super::prose::{self, Kind, Line, NAME};
use super::{Options, text};
use crate::model::{By, Group, Interval, Source, group, sort};
use crate::reason;
use anstyle::{AnsiColor, Style};
use std::collections::HashSet;
use unicode_width::UnicodeWidthStr;

/// Spaces between columns.
const GAP: usize = 2;

/// The narrowest that a name is cut to.
const NARROW: usize = 8;

/// The interval as a table with what is to be said about it, ending with a newline.
pub fn render(interval: &Interval, options: &Options) -> String {
    let mut page = Page { out: String::new(), width: options.width, color: options.color };
    if !options.first {
        page.out.push('\n');
    }
    page.prose(&prose::heading(interval));
    if !prose::is_empty(interval) {
        page.out.push('\n');
        let dropped = page.table(interval, options);
        if !dropped.is_empty() {
            let text = format!("Not shown at this width: {}.", dropped.join(", "));
            page.prose(&Line { kind: Kind::Aside, text });
        }
        page.out.push('\n');
    }
    for line in prose::notes(interval, options) {
        page.prose(&line);
    }
    page.out
}

struct Page {
    out: String,
    width: Option<usize>,
    color: bool,
}

impl Page {
    fn styled(&mut self, style: Style, text: &str) {
        let text = text.trim_end();
        if self.color && style != Style::new() && !text.is_empty() {
            self.out.push_str(&format!("{style}{text}{style:#}\n"));
        } else {
            self.out.push_str(text);
            self.out.push('\n');
        }
    }

    fn prose(&mut self, line: &Line) {
        let style = match line.kind {
            Kind::Heading => Style::new().bold(),
            Kind::Plain => Style::new(),
            Kind::Aside => Style::new().dimmed(),
            Kind::Good => AnsiColor::Green.on_default(),
            Kind::Warning => AnsiColor::Yellow.on_default(),
            Kind::Alarm => AnsiColor::Red.on_default().bold(),
        };
        for text in text::wrap(&line.text, self.width.unwrap_or(usize::MAX)) {
            self.styled(style, &text);
        }
    }

    /// Writes the rows; returns the headings of the columns that found no room.
    fn table(&mut self, interval: &Interval, options: &Options) -> Vec<&'static str> {
        let context = Context::new(interval);
        let mut groups = group(interval, options.by);
        sort(&mut groups, options.sort, interval, reason::name);

        // The heading names the VM if there is only one.
        let by = By { vm: options.by.vm && interval.vms.len() > 1, ..options.by };
        let pids: HashSet<u32> = interval.vms.values().map(|vm| vm.pid).collect();
        let ambiguous = pids.len() < interval.vms.len();
        let mut cells: Vec<Cells> = COLUMNS
            .iter()
            .filter(|column| column.dispensable.is_some() && column.is_there(by, interval.source))
            .filter(|column| ambiguous || column.key != "vm_id")
            .map(|column| Cells::new(column, &context, &groups))
            .collect();
        if let Some(first) = cells.first_mut().filter(|_| by != By::NOTHING) {
            first.total = "total".into();
        }
        let dropped = fit(&mut cells, self.width.unwrap_or(usize::MAX));

        let header: Vec<&str> = cells.iter().map(|cells| cells.heading.as_str()).collect();
        self.row(&cells, &header, Style::new().bold());
        for at in 0..groups.len() {
            let row: Vec<&str> = cells.iter().map(|cells| cells.rows[at].as_str()).collect();
            self.row(&cells, &row, Style::new());
        }
        if by != By::NOTHING {
            let total: Vec<&str> = cells.iter().map(|cells| cells.total.as_str()).collect();
            self.row(&cells, &total, Style::new().bold());
        }
        dropped
    }

    fn row(&mut self, cells: &[Cells], texts: &[&str], style: Style) {
        let mut line = String::new();
        for (cells, text) in cells.iter().zip(texts) {
            if !line.is_empty() {
                line.push_str(&" ".repeat(GAP));
            }
            let pad = if cells.column.right { text::right } else { text::left };
            line.push_str(&pad(text, cells.width));
        }
        self.styled(style, &line);
    }
}

/// A column's cells as they are shown.
struct Cells {
    column: &'static Column,
    heading: String,
    rows: Vec<String>,
    total: String,
    width: usize,
}

impl Cells {
    fn new(column: &'static Column, context: &Context, groups: &[Group]) -> Self {
        let show = |group: &Group| match column.value(context, group) {
            Value::Text(text) if text.trim().is_empty() => "(no name)".into(),
            value => text::clean(&value.human(), NAME),
        };
        let heading = match (column.key, context.interval.source) {
            ("reason", Source::KvmStat) => "class".into(),
            _ => column.heading.to_string(),
        };
        let total = match column.value(context, &context.total) {
            Value::Nothing => String::new(),
            value => value.human(),
        };
        let mut cells = Cells { column, heading, rows: groups.iter().map(show).collect(), total, width: 0 };
        cells.measure();
        cells
    }

    fn measure(&mut self) {
        let all = self.rows.iter().chain([&self.heading, &self.total]);
        self.width = all.map(|text| text.width()).max().unwrap_or(0);
    }
}

/// Takes out the most dispensable columns, then shortens names, until the rest is at most `width`
/// wide or nothing more can go. Returns the headings of what was taken out, from left to right.
fn fit(cells: &mut Vec<Cells>, width: usize) -> Vec<&'static str> {
    let mut dropped: Vec<&'static Column> = Vec::new();
    cells.iter_mut().for_each(Cells::measure);
    let excess = |cells: &[Cells]| {
        let all: usize = cells.iter().map(|cells| cells.width + GAP).sum();
        all.saturating_sub(GAP).saturating_sub(width)
    };
    while excess(cells) > 0 {
        let Some(at) = (0..cells.len()).max_by_key(|&at| cells[at].column.dispensable) else { break };
        if cells[at].column.dispensable == Some(0) {
            break;
        }
        dropped.push(cells.remove(at).column);
    }
    for at in 0..cells.len() {
        let excess = excess(cells);
        let cells = &mut cells[at];
        if excess > 0 && !cells.column.right && cells.width > NARROW {
            let width = cells.width.saturating_sub(excess).max(NARROW);
            cells.rows.iter_mut().for_each(|text| *text = text::clean(text, width));
            cells.measure();
        }
    }
    dropped.sort_by_key(|column| COLUMNS.iter().position(|other| other.key == column.key));
    dropped.into_iter().map(|column| column.heading).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Explanation, fixture};
    use super::*;
    use crate::model::Sort;

    fn shown(interval: &Interval, width: usize) -> String {
        render(interval, &Options { width: Some(width), ..Options::default() })
    }

    #[test]
    fn several_vms_at_every_width() {
        insta::assert_snapshot!("busy_unlimited", render(&fixture::busy(), &Options::default()));
        insta::assert_snapshot!("busy_100", shown(&fixture::busy(), 100));
        insta::assert_snapshot!("busy_60", shown(&fixture::busy(), 60));
    }

    #[test]
    fn nothing_is_wider_than_asked() {
        for interval in fixture::all() {
            for width in 40..220 {
                for line in shown(&interval, width).lines() {
                    assert!(line.width() <= width, "{} wide, not {width}: {line}", line.width());
                    assert!(!line.chars().any(text::is_unsafe), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn one_vm_is_named_once() {
        insta::assert_snapshot!(shown(&fixture::single(), 160));
    }

    #[test]
    fn grouping_decides_the_columns() {
        let by_vcpu = Options { by: "vm,vcpu".parse().unwrap(), sort: Sort::Vm, ..Options::default() };
        insta::assert_snapshot!("by_vm_vcpu", render(&fixture::busy(), &by_vcpu));
    }

    #[test]
    fn statistics_promise_no_more_than_they_have() {
        let source = Some("this host's KVM has no VT-x or AMD-V behind it".into());
        let explanation = Explanation { source, ..Explanation::default() };
        insta::assert_snapshot!(render(
            &fixture::statistics(),
            &Options { explanation, ..Options::default() }
        ));
    }

    #[test]
    fn no_exit_is_a_sentence() {
        let mut none = fixture::idle();
        let idle = shown(&none, 160);
        none.vms.clear();
        none.vcpus.clear();
        insta::assert_snapshot!(idle + &shown(&none, 160));
    }

    #[test]
    fn hostile_names_stay_in_their_cell() {
        insta::assert_snapshot!(shown(&fixture::hostile(), 160));
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let mut interval = fixture::lossy();
        interval.vcpus[2].kvm_exits = Some(1);
        let plain = shown(&interval, 120);
        let options = Options { width: Some(120), color: true, ..Options::default() };
        let colored = render(&interval, &options);
        insta::assert_snapshot!("colored", colored.replace('\x1b', "␛"));
        let mut stripped = String::new();
        for (at, part) in colored.split("\x1b[").enumerate() {
            stripped.push_str(if at == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(stripped, plain);
    }

    /// What is said about KVM's own count.
    fn check(change: impl Fn(&mut Interval), explanation: &Explanation) -> String {
        let mut interval = fixture::busy();
        change(&mut interval);
        let page = render(&interval, &Options { explanation: explanation.clone(), ..Options::default() });
        page.lines().find(|line| line.contains("KVM's own")).unwrap().into()
    }

    #[test]
    fn kvms_count_is_compared_and_a_difference_explained_or_flagged() {
        let silent = Explanation::default();
        let known = Explanation {
            kvm_counts_fewer: Some("kernels before 6.4 do not count exits handled on the fast path".into()),
            kvm_missing: Some("it is not in this kernel's statistics".into()),
            ..Explanation::default()
        };
        let kvm = |vcpu: usize, by: i64| {
            move |interval: &mut Interval| {
                let span = &mut interval.vcpus[vcpu];
                span.kvm_exits = span.exits.checked_add_signed(by);
            }
        };
        let mut said = vec![
            check(|_| {}, &silent),
            check(kvm(0, -2), &known),
            check(kvm(0, -2), &silent),
            check(kvm(0, 2), &known),
            check(|interval| interval.vcpus[0].kvm_exits = None, &known),
            check(|interval| interval.vcpus[0].kvm_exits = None, &silent),
        ];
        // One VM's surplus does not make up for another's lack, one vCPU's does.
        said.push(check(|i| (kvm(0, -2)(i), kvm(2, 2)(i)).0, &known));
        said.push(check(|i| (kvm(0, -2)(i), kvm(1, 2)(i)).0, &known));
        said.push(check(|i| (kvm(0, 2)(i), i.loss.skipped = 2).0, &silent));
        said.push(check(|i| (kvm(0, 1)(i), i.loss.torn = 1).0, &silent));
        insta::assert_snapshot!(said.join("\n"));
    }
}
