//! Consoles of real systems, and the phases that each tells. A new one is a file and a line in `expected.tsv`.

use exitscope_analysis::phase::{FIRST, Rules};
use exitscope_analysis::phase_detector::PhaseDetector;
use exitscope_analysis::scanner::Scanner;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consoles")
}

/// Phases of a console that comes in these pieces, each in an interval of its own.
fn phases<'a>(rules: &Rules, pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let (mut scanner, mut detector) = (Scanner::new(rules.clone(), None), PhaseDetector::new(rules.clone()));
    detector.end_at_login();
    let (mut begun, mut from) = (Vec::new(), Duration::ZERO);
    for piece in pieces {
        let to = from + Duration::from_millis(4);
        scanner.take(to, piece);
        let hits = scanner.drain_hits();
        begun.extend(detector.step((from, to), None, &hits, scanner.console.lines_ended()));
        from = to;
    }
    scanner.finish();
    let hits = scanner.drain_hits();
    begun.extend(detector.step((from, from), None, &hits, scanner.console.lines_ended()));
    begun.extend(detector.finish());
    assert!(begun.is_sorted_by_key(|phase| phase.at), "{begun:?}");
    let names = begun.iter().map(|phase| phase.name.as_str()).filter(|name| *name != FIRST);
    names.collect::<Vec<_>>().join(", ")
}

/// A console gives the phases that somebody who knows the system reads in it, whether it comes at once, line
/// by line or in pieces.
#[test]
fn each_console_tells_its_phases() {
    let rules = Rules::default();
    let table = std::fs::read_to_string(folder().join("expected.tsv")).unwrap();
    let mut wrong = Vec::new();
    let mut names = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (name, expected) = line.split_once('\t').unwrap();
        names.push(format!("{name}.console"));
        let bytes = std::fs::read(folder().join(format!("{name}.console"))).unwrap();
        let ways = [
            ("line by line", phases(&rules, bytes.split_inclusive(|&byte| byte == b'\n'))),
            ("in pieces", phases(&rules, bytes.chunks(7))),
            ("at once", phases(&rules, std::iter::once(&bytes[..]))),
        ];
        for (way, found) in ways {
            if found != expected {
                wrong.push(format!("{name}, {way}:\n   found {found}\nexpected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".console"))
        .collect();
    files.sort();
    names.sort();
    assert_eq!(files, names, "a console without a line in expected.tsv, or a line without a console");
}
