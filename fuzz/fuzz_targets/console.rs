//! Console of a guest: its lines, their phases, and what a terminal is shown of them.
//!
//! Input: one byte that says how long the pieces are in which the console comes, and the console.
#![no_main]

use exitscope_analysis::console::{Line, MAX_LINE};
use exitscope_analysis::phase::Rules;
use exitscope_analysis::phase_detector::PhaseDetector;
use exitscope_analysis::scanner::Scanner;
use exitscope_view::text;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Duration;

static RULES: LazyLock<Rules> = LazyLock::new(Rules::default);

/// Reads a console that comes in these pieces, an interval for each.
fn lines<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, u64) {
    let (mut scanner, mut detector) = (Scanner::new(RULES.clone(), None), PhaseDetector::new(RULES.clone()));
    let (mut lines, mut begun, mut from) = (Vec::new(), Vec::new(), Duration::ZERO);
    for piece in pieces {
        let to = from + Duration::from_millis(1);
        scanner.take(to, piece);
        let hits = scanner.drain_hits();
        begun.extend(detector.step((from, to), None, &hits, scanner.console.lines_ended()));
        lines.append(&mut scanner.console.drain());
        from = to;
    }
    scanner.finish();
    let hits = scanner.drain_hits();
    begun.extend(detector.step((from, from), None, &hits, scanner.console.lines_ended()));
    begun.extend(detector.finish());
    lines.append(&mut scanner.console.drain());
    assert!(begun.is_sorted_by_key(|phase| phase.at), "{begun:?}");
    assert!(lines.is_sorted_by_key(|line| line.at), "{lines:?}");
    let left_out = scanner.console.bytes_left_out();
    (lines.into_iter().map(|Line { text, .. }| text).collect(), left_out)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&length, console)) = bytes.split_first() else { return };
    let found = lines(console.chunks(usize::from(length) + 1));
    assert_eq!(found, lines(std::iter::once(console)), "the pieces matter");
    for line in &found.0 {
        assert!(line.len() <= MAX_LINE);
        for shown in [text::clean(line, 80), text::escape(line), text::clean(&text::on_terminal(line), 20)] {
            assert!(!shown.chars().any(text::is_unsafe), "{shown:?}");
        }
        text::wrap(line, 30);
    }
    text::on_terminal(&String::from_utf8_lossy(console));
});
