//! File of phases, as `--phases` takes it, and a console that is read with it.
//!
//! Input: the file, a NUL, and the console.
#![no_main]

use exitscope_analysis::phase::Rules;
use exitscope_analysis::phase_detector::PhaseDetector;
use exitscope_analysis::scanner::Scanner;
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let (table, console) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let read = Rules::parse(&String::from_utf8_lossy(table), Path::new("phases"));
    let rules = match read {
        Ok(rules) => rules,
        Err(error) => return drop(error.to_string()),
    };
    let (mut scanner, mut detector) = (Scanner::new(rules.clone(), None), PhaseDetector::new(rules));
    scanner.take(Duration::from_millis(1), console);
    scanner.finish();
    let hits = scanner.drain_hits();
    let lines = scanner.console.lines_ended();
    let mut begun = detector.step((Duration::ZERO, Duration::from_millis(1)), None, &hits, lines);
    begun.extend(detector.finish());
    assert!(begun.is_sorted_by_key(|phase| phase.at), "{begun:?}");
});
