//! The table for people.

use super::grid::{Cells, Grid};
use super::names::Names;
use super::prose::{self, Kind, Line, NAME};
use super::{Options, details, text, unit, value, vcpus, workers};
use anstyle::{AnsiColor, Style};
use exitscope_model::figure::{self, Context, FIGURES, Figure, Needs, Value};
use exitscope_model::{By, Group, Interval, Source, group, sort};
use exitscope_reason as reason;

/// Most rows of a table, whatever limit is asked for: nobody reads so many, and whoever made a recording chooses how many
/// there are. CSV has all.
const MOST_ROWS: usize = 10_000;

/// The interval as a table with what is to be said about it, ending with a newline.
pub fn render(interval: &Interval, options: &Options) -> String {
    let mut page = Page { out: String::new(), width: options.width, color: options.color };
    if !options.first {
        page.out.push('\n');
    }
    page.prose(&prose::heading(interval));
    if !interval.is_idle() {
        page.out.push('\n');
        page.grid(columns(interval, options), has_total(interval, options));
        if let Some(columns) = vcpus::columns(interval) {
            page.out.push('\n');
            page.prose(&Line { kind: Kind::Plain, text: "What the vCPUs did with their time:".into() });
            page.grid(columns, true);
        }
        for (kind, columns) in details::tables(interval, options) {
            page.out.push('\n');
            page.prose(&Line { kind: Kind::Plain, text: format!("{}:", kind.plural) });
            page.grid(columns, true);
        }
    }
    let beside = workers::columns(interval);
    let has_tables = !interval.is_idle() || beside.is_some();
    if let Some(columns) = beside {
        page.out.push('\n');
        let text = "Threads beside the vCPUs, in shares of one CPU:".into();
        page.prose(&Line { kind: Kind::Plain, text });
        page.grid(columns, true);
    }
    if has_tables {
        page.out.push('\n');
    }
    for line in prose::notes(interval, options) {
        page.prose(&line);
    }
    page.out
}

/// Lines as wide as there is room for.
pub struct Page {
    /// Text written so far.
    pub out: String,
    /// Greatest width of a line; `None` where there is no limit.
    pub width: Option<usize>,
    /// True if there are colours.
    pub color: bool,
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

    /// Writes prose.
    pub fn prose(&mut self, line: &Line) {
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

    /// Writes columns, and the headings of those that found no room.
    pub fn grid(&mut self, columns: Vec<Cells>, has_total: bool) {
        let grid = Grid::fit(columns, self.width.unwrap_or(usize::MAX));
        self.styled(Style::new().bold(), &grid.header());
        grid.rows().for_each(|row| self.styled(Style::new(), &row));
        if has_total {
            self.styled(Style::new().bold(), &grid.total());
        }
        if !grid.dropped.is_empty() {
            let text = format!("Not shown at this width: {}.", grid.dropped.join(", "));
            self.prose(&Line { kind: Kind::Aside, text });
        }
    }
}

/// Keys that the table's rows are told apart by: the heading names the VM if there is only one, and most
/// guests run none of their own.
fn shown_by(interval: &Interval, options: &Options) -> By {
    let By { vm, level, .. } = options.by;
    By { vm: vm && interval.vms.len() > 1, level: level && interval.has_l2(), ..options.by }
}

fn has_total(interval: &Interval, options: &Options) -> bool {
    shown_by(interval, options) != By::NOTHING
}

/// The table's columns, filled.
fn columns(interval: &Interval, options: &Options) -> Vec<Cells> {
    let context = Context::new(interval);
    let mut groups = group(interval, options.by);
    sort(&mut groups, options.sort, &context, reason::name);
    let limit = options.limit.map_or(MOST_ROWS, |limit| limit.min(MOST_ROWS));
    let others = others(&mut groups, limit);
    let names = Names::of(interval.vms.values());
    let by = shown_by(interval, options);
    let chosen: Vec<(&Figure, u8)> = if options.columns.is_empty() {
        let is_there = |figure: &&&Figure| {
            figure.is_there(by, interval)
                && (vcpus::is_ambiguous(interval) || figure.key != figure::VM_ID.key)
        };
        // Where there is little room, figures that details do not have go first.
        let spare =
            |figure: &Figure| if by.detail && !figure.of_details && !is_key(figure) { 100 } else { 0 };
        let ranked = |figure: &&'static Figure| {
            Some((*figure, figure.rank(interval.measured, options.sort)?.max(spare(figure))))
        };
        FIGURES.iter().filter(is_there).filter_map(ranked).collect()
    } else {
        options.columns.iter().map(|figure| (*figure, 0)).collect()
    };
    let labelled = chosen.iter().position(|(figure, _)| is_key(figure));
    let mut columns: Vec<Cells> = chosen
        .iter()
        .map(|(figure, rank)| cells(figure, *rank, &context, &names, &groups, others.as_ref()))
        .collect();
    if let Some(first) = labelled.and_then(|at| columns.get_mut(at)).filter(|_| by != By::NOTHING) {
        first.total = "total".into();
        if let (Some((number, _)), Some(last)) = (&others, first.rows.last_mut()) {
            *last = unit::counted(*number, "other");
        }
    }
    columns
}

/// Takes the groups after the first ones away, where there are two or more. Returns their number and sum.
fn others(groups: &mut Vec<Group>, limit: usize) -> Option<(u64, Group)> {
    if groups.len() <= limit + 1 {
        return None;
    }
    let rest = groups.split_off(limit);
    Some((rest.len() as u64, Group::sum(&rest)))
}

/// Returns true if a figure tells rows apart.
fn is_key(figure: &Figure) -> bool {
    matches!(figure.needs, Needs::Key(_))
}

fn cells(
    figure: &Figure,
    rank: u8,
    context: &Context,
    names: &Names,
    groups: &[Group],
    others: Option<&(u64, Group)>,
) -> Cells {
    let vm = |group: &Group| group.vm.and_then(|vm| context.vms?.get(&vm));
    let show = |group: &Group| match (figure.value(context, group), vm(group)) {
        (Value::Vm(..), Some(vm)) => names.show(vm),
        (found @ Value::Subject(_), _) => text::clean(&value::human(&found), 2 * NAME),
        (found, _) => text::clean(&value::human(&found), NAME),
    };
    let total = match figure.value(context, &context.total) {
        Value::Nothing => String::new(),
        found => text::clean(&value::human(&found), NAME),
    };
    let others = others.map(|(_, sum)| if is_key(figure) { String::new() } else { show(sum) });
    let rows = groups.iter().map(show).chain(others).collect();
    Cells::new(heading(figure, context.source), figure.kind.is_number(), rank, rows).with_total(total)
}

/// Heading of a figure's column: KVM's statistics have classes in place of reasons.
pub fn heading(figure: &Figure, source: Source) -> &'static str {
    if figure.key == figure::REASON.key && source == Source::KvmStat { "class" } else { figure.heading }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Explanation;
    use exitscope_model::{DetailKind, Filter, Measured, Sort, fixture};
    use unicode_width::UnicodeWidthStr;

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
    fn guests_of_guests_are_told_apart() {
        insta::assert_snapshot!("nested_160", shown(&fixture::nested(), 160));
        let counts = Interval { measured: Measured::Counts, ..fixture::nested() };
        insta::assert_snapshot!("nested_counts_80", shown(&counts, 80));
        let by_vm = Options { by: "vm".parse().unwrap(), width: Some(120), ..Options::default() };
        insta::assert_snapshot!("nested_by_vm", render(&fixture::nested(), &by_vm));
    }

    #[test]
    fn what_is_measured_decides_the_columns() {
        insta::assert_snapshot!("whole_120", shown(&fixture::whole(), 120));
        insta::assert_snapshot!("counts_120", shown(&fixture::counts(), 120));
    }

    #[test]
    fn one_vm_at_usual_widths() {
        for width in [80, 120, 160] {
            insta::assert_snapshot!(format!("single_{width}"), shown(&fixture::single(), width));
        }
    }

    #[test]
    fn of_many_vcpus_the_busiest_are_shown() {
        let by_reason = Options { width: Some(80), by: "reason".parse().unwrap(), ..Options::default() };
        insta::assert_snapshot!("many", render(&fixture::many(), &by_reason));
    }

    #[test]
    fn what_rows_are_sorted_by_is_the_last_to_go() {
        let head = |sort: &str, width| {
            let options = Options { sort: sort.parse().unwrap(), width: Some(width), ..Options::default() };
            render(&fixture::single(), &options)
                .lines()
                .find(|line| line.starts_with("reason"))
                .unwrap()
                .to_string()
        };
        for (sort, heading) in [("p50", "p50"), ("user-exits", "user exits"), ("busy", "busy %")] {
            let words: Vec<String> = head(sort, 55).split("  ").map(|word| word.trim().into()).collect();
            assert!(words.contains(&heading.to_string()), "{words:?}");
        }
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
        let page = shown(&fixture::single(), 160);
        assert_eq!(page.matches("boot").count(), 1);
    }

    #[test]
    fn grouping_decides_the_columns() {
        let by_vcpu =
            Options { by: "vm,vcpu".parse().unwrap(), sort: "vm".parse().unwrap(), ..Options::default() };
        insta::assert_snapshot!("by_vm_vcpu", render(&fixture::busy(), &by_vcpu));
    }

    #[test]
    fn details_are_rows_and_columns_are_chosen() {
        let by_detail = Options {
            by: "vm,reason,detail".parse().unwrap(),
            sort: "time".parse().unwrap(),
            width: Some(120),
            ..Options::default()
        };
        insta::assert_snapshot!("by_detail", render(&fixture::busy(), &by_detail));
        let columns = [&figure::COUNT, &figure::REASON, &figure::CODE, &figure::P99_NS].to_vec();
        let chosen = Options { columns, details: vec![DetailKind::Port], ..by_detail };
        let chosen = Options { by: By::default(), ..chosen };
        insta::assert_snapshot!("chosen_columns", render(&fixture::busy(), &chosen));
    }

    #[test]
    fn one_row_stands_for_all_that_are_too_many() {
        let limited = |limit| {
            let options = Options { limit: Some(limit), sort: Sort::COUNT, ..Options::default() };
            render(&fixture::busy(), &options)
        };
        let all = group(&fixture::busy(), By::default()).len();
        insta::assert_snapshot!("limited", limited(3));
        assert!(limited(2).contains(&format!("\n{} others ", all - 2)));
        for limit in [all - 1, all] {
            assert!(!limited(limit).contains("other "), "one row takes no more room than one for others");
        }
        let details = Options { limit: Some(1), details: vec![DetailKind::Msr], ..Options::default() };
        insta::assert_snapshot!("limited_details", render(&fixture::busy(), &details));
    }

    #[test]
    fn exits_that_were_left_out_are_counted() {
        let mut interval = fixture::busy();
        let code = interval.rows[0].code;
        Filter { reasons: vec![code], ..Filter::default() }.apply(&mut interval);
        insta::assert_snapshot!("filtered", shown(&interval, 100));
        let none = exitscope_model::ExitCode { code: 999, ..code };
        Filter { reasons: vec![none], ..Filter::default() }.apply(&mut interval);
        insta::assert_snapshot!("all_filtered", shown(&interval, 100));
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

    /// Sentence about KVM's own count.
    fn check(change: impl Fn(&mut Interval), explanation: &Explanation) -> String {
        let mut interval = fixture::busy();
        change(&mut interval);
        let page = render(&interval, &Options { explanation: explanation.clone(), ..Options::default() });
        page.lines().find(|line| line.contains("KVM's own")).unwrap().into()
    }

    #[test]
    fn a_source_that_could_do_better_says_so() {
        let source = Some("two BPF programs see each exit, because \u{1b}[31mof the clock".to_owned());
        let options =
            Options { explanation: Explanation { source, ..Explanation::default() }, ..Options::default() };
        let page = render(&fixture::busy(), &options);
        assert!(page.contains("Note: two BPF programs see each exit, because"), "{page}");
        assert!(!page.contains('\x1b'), "{page}");
        assert!(!render(&fixture::busy(), &Options::default()).contains("Note:"));
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
