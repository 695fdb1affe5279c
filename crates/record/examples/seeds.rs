//! Writes the seeds of the fuzz target `recording` into a folder: small recordings by the writer, in small pages.

use exitscope_analysis::boot_report::{IntervalEvents, LeftOut, Mark, Origin};
use exitscope_analysis::console::Line;
use exitscope_analysis::outcome::{Evidence, Kind, Outcome};
use exitscope_analysis::phase_detector::PhaseStart;
use exitscope_model::{Interval, fixture};
use exitscope_record::{Notes, Recording, Writer};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).ok_or("usage: seeds FOLDER")?;
    let folder = Path::new(&folder);
    for (number, interval) in fixture::all().into_iter().enumerate() {
        write(&folder.join(format!("interval-{number}")), &interval, &[IntervalEvents::default()])?;
    }
    write(&folder.join("boot"), &fixture::busy(), &boot())
}

/// Events of a boot with two phases.
fn boot() -> [IntervalEvents; 2] {
    let phase = |name: &str, ms| PhaseStart { name: name.into(), at: Duration::from_millis(ms) };
    let line = |text: &str, ms| Line { at: Duration::from_millis(ms), text: text.into() };
    let hand = Mark { at: Duration::from_millis(4), origin: Origin::Hand, text: "here".into() };
    let first = IntervalEvents {
        lines: vec![line("SeaBIOS (version 1.16)", 3)],
        marks: vec![hand, Mark::port(Duration::from_millis(5), 0xf4, 0x10)],
        phases: vec![phase("firmware", 0)],
        left_out: LeftOut::default(),
    };
    let second = IntervalEvents {
        lines: vec![line("[    0.0] Linux version 6.1", 6), line("host login: ", 7)],
        marks: vec![],
        phases: vec![phase("kernel", 6)],
        left_out: LeftOut { lines: 1, bytes: 2, marks: 3 },
    };
    [first, second]
}

/// Writes a recording with `interval` once for each of `events`.
fn write(path: &Path, interval: &Interval, events: &[IntervalEvents]) -> Result<()> {
    let mut writer = Writer::create(path, true, &fixture::about(interval))?;
    for events in events {
        writer.write_events(interval, &Notes::default(), events)?;
    }
    let at = Duration::from_millis(7);
    let outcome = Outcome {
        kind: Kind::Reached,
        at,
        phase: "kernel".into(),
        cause: Some("login".into()),
        line: Some("host login: ".into()),
        began_again: 0,
        failures: 0,
    };
    let evidence = Evidence { phase: "kernel".into(), mode: None, line: Some(at), by_line: Some(true) };
    writer.outcome(&outcome, &[evidence])?;
    writer.finish("as asked")?;
    Connection::open(path)?.execute_batch("PRAGMA page_size = 512; VACUUM")?;
    let read = Recording::open(path)?;
    assert_eq!(read.len(), events.len(), "{}", path.display());
    println!("{}: {} bytes", path.display(), path.metadata()?.len());
    Ok(())
}
