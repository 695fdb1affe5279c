//! Each screen on fixed intervals, and whatever keys, sizes and intervals come in any order.

use super::*;
use exitscope_model::fixture;
use exitscope_model::{Interval, Level, Loss, VmId};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::style::{Color, Modifier};

const COLOR: Look = Look { color: true };

/// An interval of a second, `nth` in a row whose rates go up and down.
fn second(interval: &Interval, nth: u64) -> Interval {
    let mut interval = interval.clone();
    let length = Duration::from_secs(1);
    interval.length = length;
    interval.start += Duration::from_secs(nth);
    interval.end = interval.start + length;
    let wave = [10, 7, 5, 4, 5, 7, 10, 14, 20, 12][usize::try_from(nth % 10).unwrap()];
    let ten = |count: u64| count / 100 * wave;
    for span in &mut interval.vcpus {
        span.exits = ten(span.exits);
        span.kvm_exits = span.kvm_exits.map(ten);
    }
    interval.rows.iter_mut().for_each(|row| row.counters.count = ten(row.counters.count));
    interval
}

/// Returns the state after so many seconds, each with the exits of `interval`.
fn after(seconds: u64, interval: &Interval) -> State {
    let mut state = State::new(Mode::Live, Duration::from_secs(1));
    (0..seconds).for_each(|nth| state.take(second(interval, nth)));
    state
}

fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    let key = |c: char| match c {
        '⏎' => KeyCode::Enter,
        '⎋' => KeyCode::Esc,
        '⇥' => KeyCode::Tab,
        '↓' => KeyCode::Down,
        '↑' => KeyCode::Up,
        '←' => KeyCode::Left,
        '→' => KeyCode::Right,
        '⇟' => KeyCode::PageDown,
        c => KeyCode::Char(c),
    };
    keys.chars().map(|c| handle(state, &Event::Key(KeyEvent::new(key(c), KeyModifiers::NONE)))).collect()
}

fn drawn(state: &mut State, look: Look, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| {
            let area = frame.area();
            state.draw(look, area, frame.buffer_mut());
            if let Some(cursor) = state.hits.cursor {
                frame.set_cursor_position(cursor);
            }
        })
        .unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let mut lines = Vec::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            if skip == 0 {
                line.push_str(symbol);
                skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            } else {
                skip -= 1;
            }
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

fn screen(state: &mut State, width: u16, height: u16) -> String {
    text(&drawn(state, COLOR, width, height))
}

/// Compares screens at the usual size of a terminal, and at a large one.
fn snapshots(name: &str, mut state: State) {
    for (width, height) in [(80, 24), (200, 50)] {
        insta::assert_snapshot!(format!("{name}_{width}"), screen(&mut state, width, height));
    }
}

#[test]
fn all_vms_at_a_glance() {
    snapshots("vms", after(75, &fixture::busy()));
    let mut apart = after(3, &fixture::busy());
    press(&mut apart, "x");
    insta::assert_snapshot!("vms_apart", screen(&mut apart, 120, 30));
}

#[test]
fn from_a_vm_to_its_reasons_to_one_reason() {
    let mut state = after(75, &fixture::busy());
    press(&mut state, "↓⏎");
    snapshots("reasons", state);
    let mut state = after(75, &fixture::busy());
    press(&mut state, "↓⏎⏎");
    snapshots("reason", state);
    // The chosen row stays chosen, whatever becomes of the order.
    let mut state = after(5, &fixture::busy());
    press(&mut state, "↓");
    let chosen = state.rows()[1].id;
    state.sort_by(state::Order { key: "vm", reversed: false });
    assert_eq!(state.rows()[state.page().at].id, chosen);
    press(&mut state, "⏎x");
    insta::assert_snapshot!("reasons_apart", screen(&mut state, 120, 20));
    press(&mut state, "⏎");
    assert!(screen(&mut state, 120, 40).contains("on vCPU 0"));
    press(&mut state, "⎋⎋");
    assert_eq!(state.rows()[state.page().at].id, chosen, "back where we were");
}

#[test]
fn vcpus_across_and_of_one_vm() {
    let mut state = after(75, &fixture::busy());
    press(&mut state, "v");
    snapshots("vcpus", state);
    let mut state = after(2, &fixture::busy());
    press(&mut state, "↓⏎v");
    assert_eq!(state.rows().len(), 2);
    assert!(screen(&mut state, 80, 24).contains("vCPUs of "));
    press(&mut state, "⇥⇥⇥");
    assert_eq!(state.rows().len(), 3, "from list to list, and round");
}

#[test]
fn what_is_not_measured_is_not_there() {
    for (name, interval) in
        [("whole", fixture::whole()), ("counts", fixture::counts()), ("statistics", fixture::statistics())]
    {
        let mut state = after(3, &interval);
        let vms = screen(&mut state, 80, 12);
        press(&mut state, "⇥⇥");
        let reasons = screen(&mut state, 80, 14);
        press(&mut state, "⏎");
        insta::assert_snapshot!(name, [vms, reasons, screen(&mut state, 80, 24)].join("\n~~~~\n"));
    }
    let mut state = after(3, &fixture::nested());
    press(&mut state, "⏎");
    insta::assert_snapshot!("nested", screen(&mut state, 100, 14));
}

#[test]
fn nothing_to_see_is_said() {
    let mut state = State::new(Mode::Live, Duration::from_secs(1));
    let first = screen(&mut state, 80, 8);
    let mut none = fixture::idle();
    none.vms.clear();
    none.vcpus.clear();
    state.take(none);
    let none = screen(&mut state, 80, 8);
    state.take(fixture::idle());
    press(&mut state, "/nobody");
    let typing = screen(&mut state, 80, 8);
    press(&mut state, "(");
    let wrong = screen(&mut state, 80, 8);
    insta::assert_snapshot!("nothing", [first, none, typing, wrong].join("\n~~~~\n"));
}

#[test]
fn the_help_tells_of_every_key() {
    let mut state = after(1, &fixture::busy());
    press(&mut state, "?");
    insta::assert_snapshot!("help", screen(&mut state, 80, 50));
    let help = screen(&mut state, 120, 80);
    for key in ["c", "f", "g", "h", "o", "p", "q", "r", "s", "x", "w", "space", "Enter", "Esc", "/", "?"] {
        assert!(help.split_whitespace().any(|word| word == key), "{key}: {help}");
    }
}

#[test]
fn loss_and_a_difference_are_seen() {
    let mut interval = fixture::busy();
    interval.loss = Loss { no_row: 1_200, torn: 2, ..Loss::default() };
    interval.vcpus[0].kvm_exits = Some(100);
    insta::assert_snapshot!("lossy", screen(&mut after(3, &interval), 80, 24));
}

#[test]
fn vms_that_ended_stay_greyed_until_cleared() {
    let mut state = after(3, &fixture::busy());
    let mut last = second(&fixture::busy(), 3);
    last.retain(|vm, _| vm.id != VmId(0));
    state.take(last);
    let before = drawn(&mut state, COLOR, 100, 12);
    insta::assert_snapshot!("ended", text(&before));
    let line =
        (0..12).find(|y| (0..20).map(|x| before[(x, *y)].symbol()).collect::<String>().contains("web-1"));
    assert!(before[(0, line.unwrap())].modifier.contains(Modifier::DIM));
    press(&mut state, "c");
    assert!(!screen(&mut state, 100, 12).contains("web-1"));
}

#[test]
fn hostile_names_stay_harmless() {
    let mut interval = fixture::hostile();
    interval.vms.get_mut(&VmId(1)).unwrap().name = "データベース\u{202e}\u{1b}[31m字".repeat(9);
    let mut state = after(3, &interval);
    let mut all = String::new();
    for keys in ["", "⏎", "⏎", "⎋⎋v", "/=", "⎋g.*\u{202e}\u{1b}"] {
        press(&mut state, keys);
        for width in (1..130).step_by(3) {
            all += &screen(&mut state, width, 12);
        }
    }
    assert!(!all.chars().any(|c| c != '\n' && exitscope_view::text::is_unsafe(c)));
    let mut state = after(3, &interval);
    insta::assert_snapshot!("hostile", screen(&mut state, 100, 10));
}

#[test]
fn without_colour_nothing_is_coloured_and_nothing_is_missing() {
    for keys in ["", "⏎", "⏎", "⎋⎋v", "?"] {
        let mut state = after(3, &fixture::lossy());
        press(&mut state, keys);
        let plain = drawn(&mut state, Look { color: false }, 100, 30);
        let colored = drawn(&mut state, COLOR, 100, 30);
        assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        assert_eq!(text(&plain), text(&colored));
        // The sixteen that every terminal has, and never a background.
        assert!(colored.content.iter().all(|cell| {
            !matches!(cell.fg, Color::Rgb(..) | Color::Indexed(_) | Color::White | Color::Black)
                && cell.bg == Color::Reset
        }));
    }
}

#[test]
fn a_frozen_screen_stands_still_while_counting_goes_on() {
    let mut state = after(3, &fixture::busy());
    press(&mut state, " ");
    let still = screen(&mut state, 80, 24);
    assert!(still.contains("FROZEN"));
    state.take(second(&fixture::busy(), 3));
    assert_eq!(screen(&mut state, 80, 24), still);
    press(&mut state, " ");
    let expected = after(4, &fixture::busy());
    assert_eq!(state.accumulator.total, expected.accumulator.total);
    assert_eq!(screen(&mut state, 80, 24), screen(&mut after(4, &fixture::busy()), 80, 24));
}

#[test]
fn totals_begin_anew_with_r_and_figures_are_of_either_span() {
    let mut state = after(5, &fixture::busy());
    let all = state.rows()[0].total;
    press(&mut state, "r");
    assert_eq!(state.rows()[0].total, 0);
    assert!(state.rows()[0].rate > 0.0, "the last interval is still shown");
    state.take(second(&fixture::busy(), 0));
    assert!((1..all).contains(&state.rows()[0].total));
    state.take(second(&fixture::busy(), 3));
    let now = state.rows()[0].rate;
    press(&mut state, "a");
    let mean = state.rows()[0].rate;
    assert!(mean > now, "{mean} in two seconds, {now} in the last");
    assert_eq!(
        state.rows()[0].total,
        state.accumulator.total.as_ref().unwrap().exits() - state.rows()[1].total - state.rows()[2].total
    );
}

#[test]
fn headings_sort_by_mouse_and_rows_open() {
    let mut state = after(3, &fixture::busy());
    screen(&mut state, 200, 20);
    let click = |state: &mut State, x: u16, y: u16| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        handle(state, &Event::Mouse(MouseEvent { kind, column: x, row: y, modifiers: KeyModifiers::NONE }));
    };
    let heading = *state.hits.headings.iter().find(|heading| heading.key == "kernel").unwrap();
    click(&mut state, heading.area.x, heading.area.y);
    assert_eq!(state.order(row::List::Vms).key, "kernel");
    let first = state.rows()[0].id;
    click(&mut state, heading.area.x, heading.area.y);
    assert_ne!(state.rows()[0].id, first, "the other way round");
    let rows = state.hits.rows;
    let second = state.rows()[1].clone();
    click(&mut state, 3, rows.y + 1);
    assert_eq!(state.rows()[state.page().at].id, second.id);
    click(&mut state, 3, rows.y + 1);
    assert!(screen(&mut state, 200, 20).contains(&format!("VMs › {}", second.vm)));
    // By keys, along what is visible.
    let mut state = after(3, &fixture::busy());
    screen(&mut state, 80, 24);
    press(&mut state, "o");
    assert_eq!(state.order(row::List::Vms).key, "total");
    for _ in 0..20 {
        press(&mut state, ">");
    }
    assert_eq!(state.order(row::List::Vms).key, "top");
    press(&mut state, "<<");
    assert_ne!(state.order(row::List::Vms).key, "top");
}

#[test]
fn filters_narrow_as_one_types_and_go_again() {
    let mut state = after(3, &fixture::busy());
    press(&mut state, "/post");
    assert_eq!(state.rows().len(), 1, "before Enter");
    press(&mut state, "⎋");
    assert_eq!(state.rows().len(), 3, "given up");
    press(&mut state, "gpost|web⏎⇥");
    assert!(state.rows().iter().all(|row| row.vm != "ci-runner-07"));
    press(&mut state, "c");
    assert!(state.rows().iter().any(|row| row.vm == "ci-runner-07"));
    press(&mut state, "p4242⏎");
    assert!(state.rows().iter().all(|row| row.pid == Some(4242)));
    assert!(screen(&mut state, 80, 24).contains("only pid 4242"));
    assert_eq!(press(&mut state, "cs2.5⏎").pop(), Some(Effect::Delay(Duration::from_millis(2500))));
    press(&mut state, "s0⏎");
    assert!(screen(&mut state, 80, 24).contains("from 100 ms to 3,600 s"));
    assert_eq!(press(&mut state, "⎋q").pop(), Some(Effect::Quit));
}

/// A written file has what the screen shows, in the format of `stat`.
#[test]
fn a_screen_is_written_as_json() {
    let written = |keys: &str| -> (String, serde_json::Value) {
        let mut state = after(3, &fixture::busy());
        screen(&mut state, 80, 24);
        match press(&mut state, keys).pop() {
            Some(Effect::Write(name, bytes)) => (name, serde_json::from_slice(&bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let (name, vms) = written("w");
    assert_eq!(name, "exitscope-top-vms-20261014T174643Z");
    let names = |value: &serde_json::Value, key: &str| -> Vec<String> {
        value["rows"].as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&vms, "vm"), ["postgres-main", "web-1", "ci-runner-07"]);
    let (_, one) = written("gweb⏎⏎w");
    assert_eq!(one["version"], 1);
    assert!(names(&one, "vm").iter().all(|vm| vm == "web-1"));
    let (_, reason) = written("⇥⇥/ioio⏎⏎w");
    assert_eq!(names(&reason, "reason"), ["IOIO"]);
    assert!(reason["rows"][0]["details"].as_array().unwrap().len() > 3);
    let mut state = after(3, &fixture::busy());
    press(&mut state, "⇥⇥/ioio⏎⏎");
    for (keys, by_time) in [("", false), (">", true), ("<", false)] {
        press(&mut state, keys);
        let shown = screen(&mut state, 120, 60);
        assert_eq!(shown.contains("Ports, by time"), by_time, "{shown}");
        assert!(shown.contains("0x3f8 out (COM1)"), "{shown}");
    }
    let mut nothing = State::new(Mode::Live, Duration::from_secs(1));
    assert_eq!(press(&mut nothing, "w"), [Effect::Nothing]);
}

#[test]
fn a_recording_moves_by_arrows_and_plays() {
    let replay = Replay {
        name: "boot.rec".into(),
        at: 6,
        count: 60,
        time: Duration::from_millis(7000),
        length: Duration::from_secs(60),
        rates: (0..60u32).map(|n| f64::from(n % 17)).collect(),
        ..Replay::default()
    };
    let mut state = after(7, &fixture::busy());
    state.mode = Mode::Replay(replay);
    insta::assert_snapshot!("replay", screen(&mut state, 100, 12));
    let shift = KeyEvent::new(KeyCode::Right, KeyModifiers::SHIFT);
    assert_eq!(press(&mut state, "←→"), [Effect::Move(-1), Effect::Move(1)]);
    assert_eq!(handle(&mut state, &Event::Key(shift)), Effect::Move(10));
    press(&mut state, " ");
    assert!(screen(&mut state, 100, 12).contains('▶'));
}

/// Anything that can happen to the state.
#[derive(Clone, Debug)]
enum Input {
    Key(KeyCode, KeyModifiers),
    Mouse(MouseEventKind, u16, u16),
    Size(u16, u16),
    Interval(usize, u64, Option<u64>),
}

fn input() -> impl Strategy<Value = Input> {
    let named = prop::sample::select(vec![
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Backspace,
        KeyCode::Delete,
        KeyCode::F(1),
    ]);
    let letters = prop::sample::select("cfghopqrsxvaiw/?<> 0.(z字\u{301}".chars().collect::<Vec<_>>());
    let modifiers = prop::sample::select(vec![
        KeyModifiers::NONE,
        KeyModifiers::NONE,
        KeyModifiers::NONE,
        KeyModifiers::SHIFT,
        KeyModifiers::CONTROL,
    ]);
    let mouse = prop::sample::select(vec![
        MouseEventKind::Down(MouseButton::Left),
        MouseEventKind::ScrollDown,
        MouseEventKind::ScrollUp,
        MouseEventKind::Moved,
    ]);
    prop_oneof![
        6 => (prop_oneof![named, letters.prop_map(KeyCode::Char)], modifiers).prop_map(|(k, m)| Input::Key(k, m)),
        1 => (mouse, 0u16..220, 0u16..60).prop_map(|(kind, x, y)| Input::Mouse(kind, x, y)),
        1 => (prop_oneof![1u16..12, 12u16..230], prop_oneof![1u16..9, 9u16..60]).prop_map(|(w, h)| Input::Size(w, h)),
        2 => (0usize..10, 0u64..20, proptest::option::of(0u64..3)).prop_map(|(w, n, e)| Input::Interval(w, n, e)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_that_comes_in_any_order_panics(
        inputs in proptest::collection::vec(input(), 1..120), replay in any::<bool>(),
    ) {
        let mut state = State::new(Mode::Live, Duration::from_secs(1));
        if replay {
            state.mode = Mode::Replay(Replay { count: 9, rates: vec![1.0; 9], ..Replay::default() });
        }
        let fixtures = fixture::all();
        let (mut width, mut height) = (80, 24);
        for input in inputs {
            match input {
                Input::Key(code, modifiers) => {
                    let effect = handle(&mut state, &Event::Key(KeyEvent::new(code, modifiers)));
                    if let Effect::Write(name, bytes) = effect {
                        prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", name);
                        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
                    }
                }
                Input::Mouse(kind, column, row) => {
                    let mouse = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
                    handle(&mut state, &Event::Mouse(mouse));
                }
                Input::Size(to_width, to_height) => (width, height) = (to_width, to_height),
                Input::Interval(which, nth, gone) => {
                    let mut interval = second(&fixtures[which], nth);
                    interval.retain(|vm, _| Some(vm.id.0) != gone);
                    state.take(interval);
                }
            }
            let shown = screen(&mut state, width, height);
            prop_assert!(!shown.chars().any(|c| c != '\n' && exitscope_view::text::is_unsafe(c)));
        }
    }
}

#[test]
fn every_list_draws_at_every_size() {
    let mut state = after(3, &fixture::nested());
    assert!(state.accumulator.last.as_ref().unwrap().rows.iter().any(|row| row.level == Level::L2));
    for keys in ["", "⏎", "⏎", "⎋x", "⎋v", "?", "?/a"] {
        press(&mut state, keys);
        for (width, height) in (1..250).step_by(19).flat_map(|w| (1..60).step_by(9).map(move |h| (w, h))) {
            screen(&mut state, width, height);
        }
    }
}
