//! The screen: from [`State`] to cells.

mod help;
mod list;
pub mod paint;
mod reason;

use super::hits::Hits;
use super::row::{List, Scope, reason_name};
use super::state::{Asked, Mode, Replay, State, View};
use exitscope_analysis::advice::advise_vm;
use exitscope_model::{Interval, Measured, Source};
use exitscope_record::Resolution;
use exitscope_view::advice::brief;
use exitscope_view::prose::{self, Kind};
use exitscope_view::{text, unit, workers};
use paint::{Look, PARTS, put};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

/// Draws the whole screen.
pub fn draw(state: &State, look: Look, area: Rect, buf: &mut Buffer) -> Hits {
    let area = area.intersection(buf.area);
    let mut rest = area;
    let mut take = |lines: u16, at_top: bool, least: u16| -> Rect {
        let lines = if rest.height >= least { lines.min(rest.height) } else { 0 };
        let y = if at_top { rest.y } else { rest.y + rest.height - lines };
        let taken = Rect { y, height: lines, ..rest };
        rest = Rect { y: if at_top { rest.y + lines } else { rest.y }, height: rest.height - lines, ..rest };
        taken
    };
    let footer = take(1, false, 3);
    let title = take(1, true, 4);
    let crumbs = take(1, true, 5);
    let replay = take(u16::from(matches!(state.mode, Mode::Replay(_))), true, 6);
    let notes = notes(state, usize::from(area.width));
    let room = notes_room(area.height);
    let shown = notes.len().min(room);
    let below = take(u16::try_from(shown).unwrap_or(0), false, 7);
    let totals = take(1, false, 6);

    draw_title(state, look, title, buf);
    draw_crumbs(state, look, crumbs, buf);
    if let Mode::Replay(at) = &state.mode {
        draw_replay(at, look, replay, buf);
    }
    draw_totals(state, look, totals, buf);
    for (y, (number, (kind, text))) in (below.top()..below.bottom()).zip(notes.iter().enumerate()) {
        let cut = number + 1 == shown && notes.len() > shown;
        let text = if cut {
            format!("{} …", text::clean(text, usize::from(area.width).saturating_sub(2)))
        } else {
            text.clone()
        };
        put(buf, below, below.x, y, usize::from(below.width), &text, look.prose(*kind));
    }
    let mut hits = body(state, look, rest, buf);
    hits.cursor = draw_footer(state, look, hits.lines > 0, footer, buf);
    hits
}

fn body(state: &State, look: Look, area: Rect, buf: &mut Buffer) -> Hits {
    if let Some(top) = state.help {
        let lines = help::lines(state, usize::from(area.width));
        let last = lines.len().saturating_sub(usize::from(area.height));
        for (y, (heading, line)) in (area.top()..area.bottom()).zip(lines.iter().skip(top.min(last))) {
            let style = if *heading { look.strong() } else { Style::new() };
            put(buf, area, area.x, y, usize::from(area.width), line, style);
        }
        return Hits { rows: area, lines: last, ..Hits::default() };
    }
    match state.page().view {
        View::List(list, _) if state.rows().is_empty() => {
            let mut hits = list::draw(state, list, look, area, buf);
            let text = nothing(state, list);
            for (y, line) in
                (area.top() + 1..area.bottom()).zip(text::wrap(&text, usize::from(area.width).max(20)))
            {
                put(buf, area, area.x, y, usize::from(area.width), &line, look.faint());
            }
            hits.lines = 0;
            hits
        }
        View::List(list, _) => list::draw(state, list, look, area, buf),
        View::Reason(scope, which) => {
            let lines = reason::draw(state, scope, which, look, area, buf);
            Hits { rows: area, lines, ..Hits::default() }
        }
    }
}

/// Returns a sentence on why there is no row.
fn nothing(state: &State, list: List) -> String {
    let what = match list {
        List::Vms => "VM",
        List::Vcpus => "vCPU",
        List::Reasons => "exit",
    };
    let seen = state.shown().total.as_ref().is_some_and(|all| !all.vms.is_empty());
    if seen && (state.page().filter.is_some() || !state.filters.is_none()) {
        return format!("No {what} fits the filter; c takes it away.");
    }
    match (&state.mode, seen) {
        (Mode::Live, false) => "No VM has exited yet. One that starts appears here.".into(),
        (Mode::Replay(_), false) => "No VM was there at this moment.".into(),
        (_, true) => format!("No {what} yet."),
    }
}

fn draw_title(state: &State, look: Look, area: Rect, buf: &mut Buffer) {
    let width = usize::from(area.width);
    let shown = state.shown();
    let what = match shown.last.as_ref() {
        Some(now) => {
            let live = now.vms.values().filter(|vm| !vm.ended).count() as u64;
            let vcpus = unit::counted(now.vcpus.len() as u64, "vCPU");
            let source = if now.source == Source::KvmStat { ", KVM's statistics" } else { "" };
            format!("{}, {vcpus}{source}", unit::counted(live, "VM"))
        }
        None => "waiting for the first look".into(),
    };
    let mut x = area.x;
    x += put(buf, area, x, area.y, width, "exitscope top", look.strong());
    x += put(buf, area, x, area.y, width, &format!("  {what}"), Style::new());
    let span = match (state.since_start, state.span()) {
        (true, Some(all)) => format!("figures since the start, {}", long(all.length)),
        (false, Some(now)) => format!("figures of the last {}", unit::duration(now.length)),
        (_, None) => String::new(),
    };
    let clock =
        state.moment().map_or(String::new(), |moment| format!("{} UTC", &unit::moment(moment)[11..19]));
    let frozen = if state.is_frozen() { "FROZEN" } else { "" };
    let mut right = String::new();
    for word in [span.as_str(), clock.as_str()] {
        let longer = if right.is_empty() { word.to_owned() } else { format!("{right}  {word}") };
        let room = usize::from(area.right().saturating_sub(x)).saturating_sub(frozen.width() + 4);
        if longer.width() <= room {
            right = longer;
        }
    }
    let at = area.right().saturating_sub(u16::try_from(right.width()).unwrap_or(0));
    put(buf, area, at, area.y, width, &right, look.faint());
    if !frozen.is_empty() {
        let end = if right.is_empty() { at } else { at.saturating_sub(2) };
        let at = end.saturating_sub(u16::try_from(frozen.width() + 2).unwrap_or(0)).max(x.min(area.right()));
        put(buf, area, at, area.y, width, &format!(" {frozen} "), look.chosen());
    }
}

/// A length of time to the second: `1 min 20 s`.
fn long(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) => unit::duration(time),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{} h {minutes} min", unit::count(hours)),
    }
}

/// Where we are, what narrows it, and what the bars are made of.
fn draw_crumbs(state: &State, look: Look, area: Rect, buf: &mut Buffer) {
    let width = usize::from(area.width);
    let mut x = area.x;
    let first = state.pages()[0].view;
    if state.pages().len() == 1 {
        for (list, name) in [(List::Vms, "VMs"), (List::Vcpus, "vCPUs"), (List::Reasons, "Reasons")] {
            let here = matches!(first, View::List(now, _) if now == list);
            let style = if here { look.chosen() } else { Style::new() };
            x += put(buf, area, x, area.y, width, &format!(" {name} "), style);
        }
    } else {
        let names: Vec<String> = state.pages().iter().map(|page| crumb(state, page.view)).collect();
        let room = width.saturating_sub(2);
        let text = names.join(" › ");
        // Of a long way the end says the most.
        let text = if text.width() > room { names[names.len() - 1].clone() } else { text };
        x += put(buf, area, x, area.y, width, &text::clean(&text, room), look.name().patch(look.strong()));
    }
    let mut filters = Vec::new();
    if let Some(filter) = &state.page().filter {
        filters.push(format!("/{}/", filter.text));
    }
    if let Some(guest) = &state.filters.guest {
        filters.push(format!("guest {}", guest.text));
    }
    if !state.filters.pids.is_empty() {
        let pids: Vec<String> = state.filters.pids.iter().map(u32::to_string).collect();
        filters.push(format!("pid {}", pids.join(",")));
    }
    if !filters.is_empty() {
        let text = text::clean(&format!("  only {}", filters.join(", ")), width);
        x += put(buf, area, x, area.y, width, &text, look.prose(Kind::Warning));
    }
    if state.measured() == Measured::Counts || state.help.is_some() {
        return;
    }
    let names: &[usize] = match (state.measured(), state.page().view) {
        (Measured::Breakdown, View::List(List::Vms | List::Vcpus, _)) => &[0, 1, 2, 3, 4],
        (Measured::Breakdown, _) => &[1, 2, 3, 4],
        (_, View::List(List::Vms | List::Vcpus, _)) => &[0, 1],
        _ => &[],
    };
    let whole = state.measured() == Measured::Latency;
    let label = |at: usize| if whole && at == 1 { "host" } else { PARTS[at].name };
    let room: usize = names.iter().map(|at| label(*at).width() + 3).sum();
    if names.is_empty() || usize::from(x - area.x) + 2 + room > width + 1 {
        return;
    }
    let mut x = area.right() - u16::try_from(room - 1).unwrap_or(0);
    for at in names {
        x += put(buf, area, x, area.y, 1, &PARTS[*at].glyph.to_string(), look.part(*at));
        x += put(buf, area, x, area.y, width, &format!(" {} ", label(*at)), look.faint());
    }
}

/// Returns the title of a screen.
fn crumb(state: &State, view: View) -> String {
    let name = |scope: Scope| {
        let vm = scope.vm.and_then(|vm| state.vm_name(vm));
        match (vm, scope.vcpu) {
            (Some(vm), Some(vcpu)) => format!("{vm} vCPU {vcpu}"),
            (Some(vm), None) => vm,
            (None, _) => "all VMs".into(),
        }
    };
    match view {
        View::List(List::Vms, _) => "VMs".into(),
        View::List(List::Vcpus, Scope { vm: None, .. }) => "vCPUs".into(),
        View::List(List::Vcpus, scope) => format!("vCPUs of {}", name(scope)),
        View::List(List::Reasons, Scope { vm: None, .. }) => "Reasons".into(),
        View::List(List::Reasons, scope) => name(scope),
        View::Reason(scope, which) => match scope.vcpu {
            Some(vcpu) => format!("{} on vCPU {vcpu}", reason_name(which)),
            None => reason_name(which),
        },
    }
}

fn draw_replay(at: &Replay, look: Look, area: Rect, buf: &mut Buffer) {
    let width = usize::from(area.width);
    let clock = |time: Duration| {
        let seconds = time.as_secs();
        format!("{}:{:02}.{}", seconds / 60, seconds % 60, time.subsec_millis() / 100)
    };
    let sign = if at.playing { "▶" } else { "■" };
    let text = format!(
        "{sign} {} of {}, {} {} of {}  ",
        clock(at.time),
        clock(at.length),
        match at.resolution {
            Resolution::Full => "interval",
            Resolution::Minute => "sum of a minute,",
            Resolution::Hour => "sum of an hour,",
        },
        unit::count(at.at as u64 + 1),
        unit::count(at.count as u64)
    );
    let x = area.x + put(buf, area, area.x, area.y, width, &text, look.strong());
    let room = usize::from(area.right().saturating_sub(x)).saturating_sub(at.name.width().min(40) + 2);
    if room < 10 {
        return;
    }
    // How busy it was when: the greatest of what falls together, so that no spike hides.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let part = |number: usize| (number as f64 / at.count.max(1) as f64 * room as f64) as usize;
    let mut rates = vec![None; room.min(at.count)];
    let scale = |number: usize| if at.count < room { number } else { part(number) };
    for (number, rate) in at.rates.iter().enumerate() {
        if let Some(most) = rates.get_mut(scale(number)) {
            *most = Some(most.map_or(*rate, |most: f64| most.max(*rate)));
        }
    }
    let overview = paint::sparkline(&rates);
    let taken = put(buf, area, x, area.y, room, &overview, look.figure());
    let here = x.saturating_add(u16::try_from(scale(at.at)).unwrap_or(u16::MAX));
    if here < x + taken {
        buf.set_style(Rect { x: here, width: 1, ..area }.intersection(area), look.chosen());
    }
    let x = x + taken;
    put(buf, area, x, area.y, 42, &format!("  {}", text::clean(&at.name, 40)), look.faint());
}

/// All exits.
fn draw_totals(state: &State, look: Look, area: Rect, buf: &mut Buffer) {
    let Some((now, all)) = state.shown().last.as_ref().zip(state.shown().total.as_ref()) else { return };
    #[allow(clippy::cast_precision_loss)]
    let rate = now.exits() as f64 / now.length.as_secs_f64().max(1e-9);
    let mut text = format!(
        "All VMs: {} exits/s, {} in {}",
        unit::rate(rate),
        unit::counted(all.exits(), "exit"),
        long(all.length)
    );
    if state.shown().forgotten > 0 {
        let vms = unit::counted(state.shown().forgotten, "VM");
        text += &format!(" (without {vms} that ended longest ago)");
    }
    put(buf, area, area.x, area.y, usize::from(area.width), &text, look.strong());
}

/// Returns the number of lines for notes on a screen of this height: rows come first, and advice takes a paragraph.
fn notes_room(height: u16) -> usize {
    match height {
        0..16 => 1,
        16..32 => 3,
        _ => usize::from(height / 5),
    }
}

/// The check against KVM's count, what was lost, and advice, in lines.
fn notes(state: &State, width: usize) -> Vec<(Kind, String)> {
    let Some(all) = state.shown().total.as_ref().filter(|all| !all.vms.is_empty()) else { return Vec::new() };
    let wrap = |(kind, text): (Kind, String)| {
        text::wrap(&text, width.max(20)).into_iter().map(move |line| (kind, line))
    };
    sentences(state, all).into_iter().flat_map(wrap).collect()
}

fn sentences(state: &State, all: &Interval) -> Vec<(Kind, String)> {
    let first = match all.source {
        Source::KvmStat => prose::statistics_only(&state.explanation),
        Source::Btf | Source::Raw | Source::Tracepoint | Source::Kernel => {
            prose::check(all, &state.explanation)
        }
    };
    let thinned = state.explanation.thinned.as_ref().map(prose::thinned);
    let trust =
        std::iter::once(first).chain(thinned).chain(prose::losses(all)).map(|line| (line.kind, line.text));
    trust.chain(beside(state)).chain(advice(state, all)).collect()
}

/// Returns the sentence on the threads beside the vCPUs of the VM that is open.
fn beside(state: &State) -> Option<(Kind, String)> {
    let View::List(_, Scope { vm: Some(vm), .. }) = state.page().view else { return None };
    let times = state.with_input(|input| input.workers_of(vm))??;
    let line = workers::line(&times);
    Some((line.kind, line.text))
}

/// Returns the few pieces of advice that would save most of the VM that is open.
fn advice(state: &State, all: &Interval) -> Vec<(Kind, String)> {
    let View::List(_, Scope { vm: Some(id), .. }) = state.page().view else { return Vec::new() };
    let Some(vm) = all.vms.get(&id) else { return Vec::new() };
    let few = brief(&advise_vm(all, vm, &state.host), all);
    few.iter().map(|text| (Kind::Plain, text::clean(text, 2000))).collect()
}

/// Draws the prompt, else a message, else the keys. Returns the place of the cursor in the prompt.
fn draw_footer(state: &State, look: Look, scrolls: bool, area: Rect, buf: &mut Buffer) -> Option<Position> {
    let width = usize::from(area.width);
    if let Some(prompt) = &state.prompt {
        let label = match prompt.asked {
            Asked::Filter => "only rows with (regex): ",
            Asked::Guest => "only guests named (regex): ",
            Asked::Pid => "only these processes: ",
            Asked::Delay => "time between looks: ",
        };
        let mut x = area.x + put(buf, area, area.x, area.y, width, label, look.strong());
        let room = width.saturating_sub(label.width() + 1);
        let wrong = prompt.wrong.as_deref().map_or(String::new(), |wrong| format!("  {wrong}"));
        x += put(buf, area, x, area.y, room, &text::clean(&prompt.text, room), Style::new());
        let cursor = Position { x: x.min(area.right().saturating_sub(1)), y: area.y };
        put(buf, area, x, area.y, width, &text::clean(&wrong, room), look.prose(Kind::Alarm));
        return (area.height > 0 && area.width > 0).then_some(cursor);
    }
    if let Some(message) = &state.message {
        let style = if message.alarm { look.prose(Kind::Alarm) } else { look.strong() };
        put(buf, area, area.x, area.y, width, &text::clean(&message.text, width), style);
        return None;
    }
    let live = matches!(state.mode, Mode::Live);
    let (space, arrows) = match &state.mode {
        Mode::Live if state.is_frozen() => ("go on", None),
        Mode::Live => ("freeze", None),
        Mode::Replay(at) => (if at.playing { "stop" } else { "play" }, Some(("←→", "time"))),
    };
    let in_list = matches!(state.page().view, View::List(..)) && state.help.is_none();
    let mut keys: Vec<(&str, &str)> = vec![("?", if state.help.is_some() { "close" } else { "help" })];
    keys.extend(in_list.then_some(("Enter", "open")));
    keys.extend((state.pages().len() > 1 || state.help.is_some()).then_some(("Esc", "back")));
    keys.extend((!in_list && scrolls).then_some(("↑↓", "scroll")));
    keys.extend(arrows.filter(|_| !live));
    keys.push(("space", space));
    keys.extend(
        in_list
            .then_some([("/", "filter"), ("<>", "sort"), ("Tab", "lists"), ("v", "vCPUs"), ("x", "apart")])
            .into_iter()
            .flatten(),
    );
    keys.push(("a", if state.since_start { "last interval" } else { "since start" }));
    keys.extend([("w", "write"), ("q", "quit")]);
    let mut x = area.x;
    for (key, does) in keys {
        if usize::from(x - area.x) + key.width() + does.width() + 1 > width {
            break;
        }
        x += put(buf, area, x, area.y, width, key, look.chosen());
        x += put(buf, area, x, area.y, width, &format!(" {does}  "), look.faint());
    }
    None
}
