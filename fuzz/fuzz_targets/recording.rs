//! Recording: opened, added up, made a boot report, and shown in every format.
#![no_main]

use exitscope_analysis::advice::{self, Host};
use exitscope_model::{By, Interval, compare};
use exitscope_record::{Error, Part, Recording};
use exitscope_view::names::Names;
use exitscope_view::report::{Story, Theme, html, svg};
use exitscope_view::{self as view, Explanation, Format, Options, text};
use libfuzzer_sys::fuzz_target;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::LazyLock;

/// File in a folder that is this user's alone, as a recording's has to be.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/exitscope-fuzz-{}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder).expect("/dev/shm is writable");
    folder.join("recording")
});

/// A terminal must do nothing but show this.
fn check(shown: &str) {
    assert!(shown.chars().all(|c| c == '\n' || !text::is_unsafe(c)), "{shown:?}");
}

fn show(interval: &Interval, host: &Host) {
    for (_, format) in Format::WORDS {
        for by in [By::default(), By { vm: true, vcpu: true, ..By::default() }] {
            let options = Options { format, by, host: host.clone(), ..Options::default() };
            let mut bytes = Vec::new();
            view::write(interval, &options, &mut bytes).expect("a vector takes all");
            if format == Format::Table {
                check(&String::from_utf8(bytes).expect("text"));
            }
        }
    }
    let advice = advice::advise(interval, host);
    check(&view::advice::render(&advice, interval, Some(100)));
    view::advice::json(&advice, interval).expect("JSON takes all");
    let names = Names::of(interval.vms.values());
    interval.vms.values().for_each(|vm| check(&names.show(vm)));
    let paths = [vec!["a".to_owned()], vec!["b".to_owned()]];
    check(&view::compare::render(&compare(&[interval], &[interval]), &paths, Some(100), false));
}

fn read(recording: &Recording) -> Result<(), Error> {
    let host = Host::from(recording.about());
    let mut intervals = 0;
    recording.each(Part::default(), |_| {
        intervals += 1;
        Ok::<_, Error>(())
    })?;
    assert_eq!(intervals, recording.len());
    if let Some(whole) = recording.whole(Part::default())? {
        show(&whole, &host);
    }
    if let Some(boot) = recording.boot_report(Part::default())? {
        view::boot_report::render(&boot).expect("JSON takes all");
        view::answers::answers(&boot).iter().for_each(|answer| check(answer));
        check(&view::phases::render(boot.series.stretches(), &boot.series.whole(), Some(100)));
        check(&view::marks::render(&boot.marks, boot.marks_left_out));
        let story = Story { boot: &boot, facts: recording.about(), explanation: &Explanation::default() };
        html(&story);
        svg(&story, Theme::Light);
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("/dev/shm is writable");
    let read = Recording::open(&FILE).and_then(|recording| read(&recording));
    if let Err(error) = read {
        error.to_string();
    }
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut path = FILE.clone().into_os_string();
        path.push(end);
        let _ = std::fs::remove_file(path);
    }
});
