//! One reason: what it costs, how its times are spread, where it occurs, what it is about, and what helps.

use super::paint::{self, Look, PARTS};
use crate::top::column;
use crate::top::row::{Row, RowInput, Scope, Which, reason_name};
use crate::top::state::State;
use exitscope_model::{Counters, DetailCounters, Group, Histogram, Measured, float};
use exitscope_reason as reason;
use exitscope_view::details::{self, human};
use exitscope_view::prose::vm_name;
use exitscope_view::value::by_frequency;
use exitscope_view::{text, unit};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use std::cmp::Reverse;

/// Least width, in cells, at which there are two columns.
const TWO: usize = 116;

/// Number of vCPUs and of details that are listed.
const LISTED: usize = 24;

/// Width of a detail's mean and longest host time.
const TIMES: usize = 27;

/// Width of a name with its bar that times are left out for.
const NARROWEST: usize = 24;

/// Width of a label that has something beside it, in cells.
const LABEL: usize = 13;

type Lines = Vec<Line<'static>>;

/// Draws the reason into `area`, from line `top` on. Returns the greatest sensible `top`.
pub fn draw(state: &State, scope: Scope, which: Which, look: Look, area: Rect, buf: &mut Buffer) -> usize {
    let width = usize::from(area.width);
    let columns = if width >= TWO {
        let left = width * 6 / 11;
        vec![(0, left - 2), (left, width - left)]
    } else {
        vec![(0, width)]
    };
    let Some(blocks) = state.with_input(|source| {
        let parts = Parts::of(source, scope, which);
        columns
            .iter()
            .enumerate()
            .map(|(at, (_, width))| {
                let (width, by_time) = (*width, state.details_by_time);
                let page = Writer { look, width, source, scope, which, parts: &parts, by_time };
                match (columns.len(), at) {
                    (1, _) => {
                        [page.figures(), page.spread(), page.about(), page.meaning(), page.vcpus()].concat()
                    }
                    (_, 0) => [page.figures(), page.spread(), page.meaning()].concat(),
                    // Without the empty line above the first.
                    _ => [page.about(), page.vcpus()].concat().split_off(1),
                }
            })
            .collect::<Vec<Lines>>()
    }) else {
        return 0;
    };
    let longest = blocks.iter().map(Vec::len).max().unwrap_or(0);
    let last = longest.saturating_sub(usize::from(area.height));
    let top = state.page().top.min(last);
    for ((x, width), lines) in columns.into_iter().zip(blocks) {
        let x = area.x.saturating_add(u16::try_from(x).unwrap_or(u16::MAX));
        for (y, line) in (area.top()..area.bottom()).zip(lines.iter().skip(top)) {
            if area.intersection(buf.area).contains((x, y).into()) {
                buf.set_line(x, y, line, u16::try_from(width).unwrap_or(u16::MAX));
            }
        }
    }
    last
}

/// Figures of the reason in the scope.
struct Parts {
    /// Sum over the scope; `None` if the reason has not occurred.
    row: Option<Row>,
    /// Counters of each vCPU, those with most exits first.
    vcpus: Vec<(exitscope_model::VmId, u32, Counters)>,
}

impl Parts {
    fn of(source: &RowInput, scope: Scope, which: Which) -> Parts {
        let rows = source.rows(crate::top::row::List::Reasons, scope, false);
        let row = rows.into_iter().find(|row| row.id.reason == Some(which));
        let mut vcpus = source.on_vcpus(scope, which);
        vcpus.sort_by_key(|(vm, vcpu, counters)| (Reverse(counters.count), *vm, *vcpu));
        Parts { row, vcpus }
    }
}

struct Writer<'a> {
    look: Look,
    width: usize,
    source: &'a RowInput<'a>,
    scope: Scope,
    which: Which,
    parts: &'a Parts,
    /// Details are in the order of their host time, not of their number.
    by_time: bool,
}

impl Writer<'_> {
    fn heading(&self, text: impl Into<String>) -> Line<'static> {
        Line::styled(text.into(), self.look.strong())
    }

    /// A word, and text beside it.
    fn beside(&self, label: &str, sentence: &str) -> Lines {
        let lines = text::wrap(sentence, self.width.saturating_sub(LABEL).max(20)).into_iter().enumerate();
        let line = |(at, line): (usize, String)| {
            let label = if at == 0 { label } else { "" };
            Line::from(format!("{}{}", text::left(label, LABEL), line.trim_start().replace('\u{a0}', " ")))
        };
        lines.map(line).collect()
    }

    fn group(&self) -> Option<&Group> {
        self.parts.row.as_ref()?.group.as_ref()
    }

    fn counters(&self) -> Option<&Counters> {
        self.group().map(|group| &group.counters)
    }

    /// Returns lines on the rate, the times, and where the time went.
    fn figures(&self) -> Lines {
        let Some(row) = &self.parts.row else {
            return vec![Line::from(format!("{} has not occurred.", reason_name(self.which)))];
        };
        let share = row.share.map_or(String::new(), |share| format!(", {} of all", unit::share(share)));
        let total = unit::counted(row.total, "exit");
        let mut lines = vec![Line::from(vec![
            Span::styled(format!("{} exits/s", unit::rate(row.rate)), self.look.strong()),
            Span::raw(format!("{share}; {total} since the start")),
        ])];
        let keys = self.source.keys(row);
        let room = self.width.saturating_sub(LABEL).min(60);
        if !keys.is_empty() && room > 0 {
            let rates = self.source.accumulator.history.rates(keys, room);
            let line = Span::styled(paint::sparkline(&rates), self.look.figure());
            lines.push(Line::from(vec![Span::raw("last minute  "), line]));
        }
        if self.source.span.measured == Measured::Counts {
            return lines;
        }
        let Some(group) = self.group() else { return lines };
        let ns = |ns: Option<u64>| ns.map_or("-".to_owned(), unit::time);
        let extremes = group.counters.extremes;
        let figures = [
            ("avg", ns(group.avg_ns())),
            ("min", ns(extremes.map(|extremes| extremes.min_ns))),
            ("p50", ns(group.percentile(0.50))),
            ("p95", ns(group.percentile(0.95))),
            ("p99", ns(group.percentile(0.99))),
            ("max", ns(extremes.map(|extremes| extremes.max_ns))),
        ];
        let words: Vec<String> =
            figures.iter().map(|(name, figure)| together(&format!("{name} {figure}"))).collect();
        let all = together(&format!("{} in all", unit::time(group.counters.time_ns)));
        lines.extend(self.beside("host time", &format!("{all}; {}", words.join(", "))));
        if self.source.span.measured == Measured::Breakdown && group.counters.time_ns > 0 {
            let parts = column::parts(row);
            let mut bar = vec![Span::raw("             ")];
            for (at, cells) in paint::cells(parts, room).into_iter().enumerate() {
                bar.push(Span::styled(
                    std::iter::repeat_n(PARTS[at].glyph, cells).collect::<String>(),
                    self.look.part(at),
                ));
            }
            lines.push(Line::from(bar));
            let time = group.counters.time_ns;
            let share = |at: usize| {
                together(&format!("{} {}", PARTS[at].name, unit::share(float(parts[at]) / float(time))))
            };
            lines.extend(self.beside("", &(1..5).map(share).collect::<Vec<_>>().join(", ")));
        }
        lines
    }

    /// The histogram of its host times.
    fn spread(&self) -> Lines {
        let Some(counters) = self.counters().filter(|counters| counters.histogram.count() > 0) else {
            return Vec::new();
        };
        let mut lines = vec![Line::default(), self.heading("How long they took, at least")];
        let buckets = counters.histogram.buckets();
        let (count, most) = (counters.histogram.count(), buckets.iter().copied().max().unwrap_or(0));
        let used: Vec<usize> = (0..buckets.len()).filter(|at| buckets[*at] > 0).collect();
        let (Some(&first), Some(&last)) = (used.first(), used.last()) else { return lines };
        let room = self.width.saturating_sub(9 + 2 + 8 + 2 + 8).clamp(4, 50);
        for (at, entries) in buckets.iter().enumerate().take(last + 1).skip(first) {
            let low = *Histogram::bounds(at).start();
            let from =
                if at + 1 == buckets.len() { format!("≥ {}", unit::time(low)) } else { unit::time(low) };
            let gauge = paint::gauge(float(*entries) / float(most.max(1)), room);
            let share =
                if *entries > 0 { unit::share(float(*entries) / float(count)) } else { String::new() };
            lines.push(Line::from(vec![
                Span::raw(format!("{}  ", text::right(&from, 9))),
                Span::styled(text::left(&gauge, room), self.look.figure()),
                Span::raw(format!(
                    " {:>8} {}",
                    share,
                    if *entries > 0 { unit::count(*entries) } else { String::new() }
                )),
            ]));
        }
        lines
    }

    /// Returns lines on what KVM_RUN returned with, and on the details of the exits.
    fn about(&self) -> Lines {
        let mut lines = Vec::new();
        let Some(counters) = self.counters() else { return lines };
        let returns = by_frequency(&counters.returns);
        if !returns.is_empty() {
            lines.extend([Line::default(), self.heading("Out to user space, with")]);
            let all = returns.iter().map(|(_, count)| count).sum::<u64>();
            for (name, count) in returns.iter().take(LISTED) {
                lines.push(self.share(&text::clean(name, 32), *count, all));
            }
        }
        if counters.details.count() > 0 {
            let kinds = details::by_kind(&counters.details);
            let kind = kinds.first().map_or("Details", |(info, _)| info.plural);
            // A recording of schema 2 has counts alone.
            let by_time = self.by_time && counters.details.time_ns() > 0;
            let heading = if by_time { format!("{kind}, by time") } else { kind.to_owned() };
            lines.extend([Line::default(), self.heading(heading)]);
            let mut most = details::by_frequency(&counters.details);
            if by_time {
                most.sort_by_key(|(detail, of)| (Reverse(of.time_ns), *detail));
            }
            let line = |name: &str, of: &DetailCounters| {
                let avg = of.time_ns.checked_div(of.count).filter(|_| of.time_ns > 0);
                let times = avg.map_or(String::new(), |avg| {
                    format!(", avg {}, max {}", unit::time(avg), unit::time(of.max_ns))
                });
                if by_time {
                    let time = unit::time(of.time_ns);
                    self.share_and(name, of.time_ns, counters.details.time_ns(), &time, &times)
                } else {
                    self.share_and(name, of.count, counters.details.count(), &unit::count(of.count), &times)
                }
            };
            lines.extend(most.iter().take(LISTED).map(|(detail, of)| line(&human(*detail), of)));
            let mut rest = DetailCounters::default();
            most.iter().skip(LISTED).for_each(|(_, of)| rest.add(of));
            let others = unit::counted(most.len().saturating_sub(LISTED) as u64, "other");
            for (name, of) in [(others.as_str(), rest), ("not told apart", counters.details.other)] {
                if of.count > 0 {
                    lines.push(line(name, &of));
                }
            }
            let help =
                most.first().and_then(|(detail, _)| reason::known(*detail)).map_or("", |known| known.help);
            lines.extend(wrapped(help, self.width, Style::new()).into_iter().filter(|_| !help.is_empty()));
        }
        lines
    }

    /// A name, a bar, a share and a count.
    fn share(&self, name: &str, count: u64, all: u64) -> Line<'static> {
        self.share_and(name, count, all, &unit::count(count), "")
    }

    /// A name, the share of a part as a bar and a number, its figure, and more behind that.
    fn share_and(&self, name: &str, part: u64, all: u64, figure: &str, more: &str) -> Line<'static> {
        let share = float(part) / float(all.max(1));
        let room = |more: &str| {
            let times = if more.is_empty() { 0 } else { TIMES };
            self.width.saturating_sub(2 + 10 + 11 + 8 + times).min(70)
        };
        // A name says more than its times.
        let more = if room(more) < NARROWEST { "" } else { more };
        let room = room(more);
        let (label, bar) = (room * 7 / 10, room - room * 7 / 10);
        Line::from(vec![
            Span::raw(format!("  {} ", text::left(&text::clean(name, label), label))),
            Span::styled(text::left(&paint::gauge(share, bar), bar), self.look.figure()),
            Span::raw(format!(" {:>8} {figure}", unit::share(share))),
            Span::styled(more.to_owned(), self.look.faint()),
        ])
    }

    /// Returns a line for each vCPU that has such exits.
    fn vcpus(&self) -> Lines {
        let mut lines = vec![Line::default(), self.heading("vCPUs")];
        let all: u64 = self.parts.vcpus.iter().map(|(.., counters)| counters.count).sum();
        for (vm, vcpu, counters) in self.parts.vcpus.iter().take(LISTED) {
            let name = match self.source.all.vms.get(vm).filter(|_| self.scope.vm.is_none()) {
                Some(vm) => format!("{} vCPU {vcpu}", vm_name(vm)),
                None => format!("vCPU {vcpu}"),
            };
            let mut line = self.share(&name, counters.count, all);
            if let Some(avg) = counters.time_ns.checked_div(counters.histogram.count()) {
                line.push_span(Span::styled(format!(", avg {}", unit::time(avg)), self.look.faint()));
            }
            lines.push(line);
        }
        let more = self.parts.vcpus.len().saturating_sub(LISTED);
        if more > 0 {
            lines.push(Line::from(format!(
                "  {} more (x in the list of reasons tells all apart)",
                unit::count(more as u64)
            )));
        }
        if self.parts.vcpus.is_empty() {
            lines.push(Line::styled("  none in the last interval", self.look.faint()));
        }
        lines
    }

    /// Returns the meaning of the reason, what causes many such exits, and what helps.
    fn meaning(&self) -> Lines {
        let mut lines = vec![Line::default(), self.heading("What it means")];
        for modifier in reason::modifiers(self.which.1) {
            lines.extend(wrapped(modifier, self.width, Style::new()));
        }
        let Some(reason) = reason::get(self.which.1) else {
            lines.push(Line::from("No manual that exitscope knows defines this number."));
            return lines;
        };
        for (label, text) in [("", reason.what), ("Many when: ", reason.why), ("What helps: ", reason.help)] {
            if !text.is_empty() {
                lines.extend(wrapped(&format!("{label}{text}"), self.width, Style::new()));
            }
        }
        lines
    }
}

/// Text that is not to be broken at its spaces.
fn together(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

/// Text in lines; those after the first begin where it did.
fn wrapped(sentence: &str, width: usize, style: Style) -> Lines {
    let indent = sentence.len() - sentence.trim_start().len();
    let lines = text::wrap(sentence.trim_start(), width.saturating_sub(indent).max(20));
    lines.into_iter().map(|line| Line::styled(format!("{}{line}", " ".repeat(indent)), style)).collect()
}
