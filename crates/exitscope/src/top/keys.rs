//! Effects of keys and of the mouse on the screen.

use super::column::ORDERS;
use super::filter::{Filter, Filters, LONGEST};
use super::row::{List, Scope};
use super::state::{Asked, Mode, Order, Prompt, State, View};
use super::{LONGEST_DELAY, SHORTEST_DELAY, json};
use exitscope_view::unit;
use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
};
use std::time::Duration;

/// Result of a key that is not the screen's alone.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// The end.
    Quit,
    /// Out of the way, until the shell continues us.
    Suspend,
    /// A file is to be written, whose name begins so, and which holds this.
    Write(String, Vec<u8>),
    /// Another length of intervals.
    Delay(Duration),
    /// Read the counters now.
    Poll,
    /// Move so many intervals further in the recording, or back.
    Move(isize),
}

/// Number of rows of a page, if it is not known.
const SCREEN: isize = 10;

/// Number of intervals of a great step in a recording.
const STRIDE: isize = 10;

/// Does what a key, the mouse or a new size asks for.
pub fn handle(state: &mut State, event: &Event) -> Effect {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            state.message = None;
            if state.prompt.is_some() { typed(state, key) } else { pressed(state, key) }
        }
        Event::Mouse(mouse) if state.prompt.is_none() => {
            match mouse.kind {
                MouseEventKind::ScrollDown => scroll(state, 3),
                MouseEventKind::ScrollUp => scroll(state, -3),
                MouseEventKind::Down(MouseButton::Left) => clicked(state, mouse.column, mouse.row),
                _ => {}
            }
            Effect::Nothing
        }
        _ => Effect::Nothing,
    }
}

fn pressed(state: &mut State, key: &KeyEvent) -> Effect {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Effect::Quit,
            KeyCode::Char('z') => Effect::Suspend,
            // The terminal is drawn anew whatever comes.
            _ => Effect::Nothing,
        };
    }
    let page =
        isize::try_from(state.hits.rows.height).ok().filter(|height| *height > 1).map_or(SCREEN, |h| h - 1);
    let stride = if key.modifiers.contains(KeyModifiers::SHIFT) { STRIDE } else { 1 };
    match key.code {
        KeyCode::Down | KeyCode::Char('j') => scroll(state, 1),
        KeyCode::Up | KeyCode::Char('k') => scroll(state, -1),
        KeyCode::PageDown => scroll(state, page),
        KeyCode::PageUp => scroll(state, -page),
        KeyCode::End => scroll(state, isize::MAX),
        KeyCode::Home => home(state),
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => {
            state.help = if state.help.is_some() { None } else { Some(0) };
        }
        KeyCode::Char('q') if state.help.is_some() => state.help = None,
        KeyCode::Char('q') => return Effect::Quit,
        KeyCode::Esc | KeyCode::Backspace => back(state),
        KeyCode::Left | KeyCode::Right if matches!(state.mode, Mode::Replay(_)) => {
            return Effect::Move(if key.code == KeyCode::Left { -stride } else { stride });
        }
        _ if state.help.is_some() => {}
        KeyCode::Enter => {
            if let Some(view) = state.behind() {
                state.open(view);
            }
        }
        KeyCode::Tab => turn(state, 1),
        KeyCode::BackTab => turn(state, -1),
        KeyCode::Char('v') => vcpus(state),
        KeyCode::Char('<') | KeyCode::Left => order(state, -1),
        KeyCode::Char('>') | KeyCode::Right => order(state, 1),
        KeyCode::Char('o') => total_or_rate(state),
        KeyCode::Char('i') => {
            if let View::List(list, _) = state.page().view {
                let order = state.order(list);
                state.sort_by(Order { reversed: !order.reversed, ..order });
            }
        }
        KeyCode::Char('a') => {
            state.since_start = !state.since_start;
            state.update();
        }
        KeyCode::Char('x') => {
            state.apart = !state.apart;
            state.update();
        }
        KeyCode::Char('/' | 'f') => ask(state, Asked::Filter),
        KeyCode::Char('g') => ask(state, Asked::Guest),
        KeyCode::Char('p') => ask(state, Asked::Pid),
        KeyCode::Char('s') => ask(state, Asked::Delay),
        KeyCode::Char('c') => clear(state),
        KeyCode::Char('r') if matches!(state.mode, Mode::Replay(_)) => {
            state.say("a recording is counted from its beginning", true);
        }
        KeyCode::Char('r') => {
            state.accumulator.reset();
            state.freeze(false);
            state.say("counted from here on", false);
        }
        KeyCode::Char(' ') => return space(state),
        KeyCode::Char('w') => match json::screen(state) {
            Some((name, bytes)) => return Effect::Write(name, bytes),
            None => state.say("nothing was seen yet, so nothing is written", true),
        },
        _ => return if state.is_frozen() { Effect::Nothing } else { Effect::Poll },
    }
    Effect::Nothing
}

fn space(state: &mut State) -> Effect {
    match &mut state.mode {
        Mode::Live => {
            let frozen = state.is_frozen();
            state.freeze(!frozen);
            Effect::Nothing
        }
        Mode::Replay(replay) => {
            replay.playing = !replay.playing;
            // From the end it begins anew.
            let at_end = replay.at + 1 >= replay.count;
            if replay.playing && at_end { Effect::Move(isize::MIN) } else { Effect::Nothing }
        }
    }
}

/// Moves the choice in a list, or the text elsewhere.
fn scroll(state: &mut State, by: isize) {
    if let Some(help) = &mut state.help {
        *help = help.saturating_add_signed(by).min(state.hits.lines);
        return;
    }
    match state.page().view {
        View::List(..) => {
            let at = state.page().at.saturating_add_signed(by);
            state.choose(at);
        }
        View::Reason(..) => {
            let last = state.hits.lines;
            let page = state.page_mut();
            page.top = page.top.saturating_add_signed(by).min(last);
        }
    }
}

fn home(state: &mut State) {
    match &mut state.help {
        Some(help) => *help = 0,
        None => state.choose_first(),
    }
}

fn back(state: &mut State) {
    if state.help.take().is_some() || state.back() {
        return;
    }
    // Nothing to leave: then what narrows the view goes, and in the end the way is the other list.
    if state.page().filter.is_some() {
        state.page_mut().filter = None;
        state.update();
    } else if state.page().view != View::List(List::Vms, Scope::default()) {
        state.begin(View::List(List::Vms, Scope::default()));
    }
}

/// Turns to the list of everything that is `by` places after this one.
fn turn(state: &mut State, by: isize) {
    const LISTS: [List; 3] = [List::Vms, List::Vcpus, List::Reasons];
    let now = match state.pages()[0].view {
        View::List(list, _) => LISTS.iter().position(|known| *known == list).unwrap_or(0),
        View::Reason(..) => 0,
    };
    let next = (now + LISTS.len()).saturating_add_signed(by) % LISTS.len();
    state.begin(View::List(LISTS[next], Scope::default()));
}

/// The vCPUs of the VM that is chosen or open, or of all; or back.
fn vcpus(state: &mut State) {
    let scope = match state.page().view {
        View::List(List::Vcpus, _) => {
            if !state.back() {
                state.begin(View::List(List::Vms, Scope::default()));
            }
            return;
        }
        View::List(List::Vms, _) => Scope::default(),
        View::List(List::Reasons, scope) | View::Reason(scope, _) => Scope { vm: scope.vm, vcpu: None },
    };
    state.open(View::List(List::Vcpus, scope));
}

/// Sorts by the column to the left or right, of those that are visible.
fn order(state: &mut State, by: isize) {
    let View::List(list, _) = state.page().view else {
        state.details_by_time = !state.details_by_time;
        return;
    };
    let visible: Vec<&str> = state.hits.headings.iter().map(|heading| heading.key).collect();
    let keys: Vec<&'static str> = state
        .columns(list)
        .iter()
        .map(|column| column.key)
        .filter(|key| visible.is_empty() || visible.contains(key))
        .collect();
    let now = state.order(list).key;
    let at = keys.iter().position(|key| *key == now).unwrap_or(0);
    let next = at.saturating_add_signed(by).min(keys.len().saturating_sub(1));
    if let Some(key) = keys.get(next) {
        state.sort_by(Order { key, reversed: false });
    }
}

fn total_or_rate(state: &mut State) {
    let View::List(list, _) = state.page().view else { return };
    let [rate, total] = ORDERS;
    let key = if state.order(list).key == rate { total } else { rate };
    state.sort_by(Order { key, reversed: false });
    state.say(format!("sorted by {key}"), false);
}

fn clear(state: &mut State) {
    if state.page().filter.is_some() || !state.filters.is_none() {
        state.page_mut().filter = None;
        state.filters = Filters::default();
        state.update();
        return;
    }
    if let Mode::Replay(_) = state.mode {
        state.say("there is no filter", false);
        return;
    }
    let gone = state.accumulator.forget_ended();
    if gone > 0 && state.is_frozen() {
        state.freeze(false);
    }
    state.update();
    let text = if gone == 0 {
        "there is no filter, and no VM has ended".into()
    } else {
        format!("{} that ended taken away", unit::counted(gone as u64, "VM"))
    };
    state.say(text, false);
}

fn ask(state: &mut State, asked: Asked) {
    if asked == Asked::Filter && matches!(state.page().view, View::Reason(..)) {
        return;
    }
    let text = match asked {
        Asked::Filter => state.page().filter.as_ref().map_or(String::new(), |filter| filter.text.clone()),
        Asked::Guest => state.filters.guest.as_ref().map_or(String::new(), |filter| filter.text.clone()),
        Asked::Pid | Asked::Delay => String::new(),
    };
    let before = (state.page().filter.clone(), state.filters.clone());
    state.prompt = Some(Prompt { asked, text, wrong: None, before });
}

/// A key while a line is being typed.
fn typed(state: &mut State, key: &KeyEvent) -> Effect {
    let Some(prompt) = &mut state.prompt else { return Effect::Nothing };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => return give_up(state),
        KeyCode::Char('z') if control => return Effect::Suspend,
        KeyCode::Char('u') if control => prompt.text.clear(),
        KeyCode::Char(c) if !control && !exitscope_view::text::is_unsafe(c) => {
            if prompt.text.chars().count() < LONGEST {
                prompt.text.push(c);
            }
        }
        KeyCode::Backspace => drop(prompt.text.pop()),
        KeyCode::Esc => return give_up(state),
        KeyCode::Enter => return done(state),
        _ => return Effect::Nothing,
    }
    apply(state);
    Effect::Nothing
}

fn give_up(state: &mut State) -> Effect {
    if let Some(prompt) = state.prompt.take() {
        let (filter, filters) = prompt.before;
        state.page_mut().filter = filter;
        state.filters = filters;
        state.update();
    }
    Effect::Nothing
}

/// Applies the typed text at once, if it can be understood.
fn apply(state: &mut State) {
    let Some(mut prompt) = state.prompt.take() else { return };
    let understood = match prompt.asked {
        Asked::Filter => Filter::parse(&prompt.text).map(|filter| {
            state.page_mut().filter = filter;
            state.choose_first();
        }),
        Asked::Guest => Filter::parse(&prompt.text).map(|filter| state.filters.guest = filter),
        Asked::Pid => Filters::parse_pids(&prompt.text).map(|pids| state.filters.pids = pids),
        Asked::Delay => Ok(()),
    };
    prompt.wrong = understood.err();
    state.prompt = Some(prompt);
    state.update();
}

fn done(state: &mut State) -> Effect {
    let Some(prompt) = &mut state.prompt else { return Effect::Nothing };
    if prompt.asked == Asked::Delay && !prompt.text.is_empty() {
        return match delay(&prompt.text) {
            Ok(delay) => {
                state.prompt = None;
                state.delay = delay;
                state.say(format!("a look every {}", unit::duration(delay)), false);
                Effect::Delay(delay)
            }
            Err(wrong) => {
                prompt.wrong = Some(wrong);
                Effect::Nothing
            }
        };
    }
    // What is wrong stays until it is mended or given up.
    if prompt.wrong.is_none() {
        state.prompt = None;
    }
    Effect::Nothing
}

/// A delay from what was typed: seconds, or with a unit.
fn delay(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let time = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|error| format!("{error}; give e.g. 2 or 500ms")),
    }?;
    if (SHORTEST_DELAY..=LONGEST_DELAY).contains(&time) {
        Ok(time)
    } else {
        Err(format!(
            "from {} to {}, not {}",
            unit::duration(SHORTEST_DELAY),
            unit::duration(LONGEST_DELAY),
            unit::duration(time)
        ))
    }
}

/// The left button: a heading sorts, a row is chosen, and opened where it was chosen already.
fn clicked(state: &mut State, x: u16, y: u16) {
    if state.help.is_some() {
        return;
    }
    let heading = state.hits.headings.iter().find(|heading| heading.area.contains((x, y).into())).copied();
    if let (Some(heading), View::List(list, _)) = (heading, state.page().view) {
        let now = state.order(list);
        state.sort_by(Order { key: heading.key, reversed: now.key == heading.key && !now.reversed });
        return;
    }
    let View::List(..) = state.page().view else { return };
    if state.hits.rows.contains((x, y).into()) {
        let at = state.page().top + usize::from(y - state.hits.rows.y);
        let again = state.page().at == at && state.page().chosen.is_some();
        if at < state.rows().len() {
            state.choose(at);
            if let Some(view) = state.behind().filter(|_| again) {
                state.open(view);
            }
        }
    }
}
