use super::files::beside;
use super::*;
use exitscope_model::fixture as whole;
pub use exitscope_model::fixture::about;
use exitscope_model::{Counters, Interval, Row, VcpuSpan, VcpuTime, Vm, VmId, Witness, WorkerSpan};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A folder that is gone with this.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("exitscope-record-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The views' fixtures, of which each exit was in some mode.
pub mod fixture {
    use super::{Interval, whole};
    use exitscope_model::Modes;

    fn with_modes(mut interval: Interval) -> Interval {
        for row in &mut interval.rows {
            let count = row.counters.count;
            row.counters.modes = Modes::new([count / 9, 0, count / 7, 1, count / 2]);
        }
        interval
    }

    pub fn all() -> Vec<Interval> {
        whole::all().into_iter().map(with_modes).collect()
    }

    pub fn busy() -> Interval {
        with_modes(whole::busy())
    }

    pub fn single() -> Interval {
        with_modes(whole::single())
    }
}

/// A recording of these intervals, which has not ended.
pub fn recorded(path: &Path, intervals: &[Interval]) -> Writer {
    let first = intervals.first().cloned().unwrap_or_else(fixture::busy);
    let mut writer = Writer::create(path, false, &about(&first)).unwrap();
    writer.hurry();
    for interval in intervals {
        writer.write(interval, &Notes::default()).unwrap();
    }
    writer
}

pub fn all(recording: &Recording) -> Vec<Interval> {
    let mut all = Vec::new();
    let push = |interval| {
        all.push(interval);
        Ok::<_, Error>(())
    };
    recording.each(Part::default(), push).unwrap();
    all
}

#[test]
fn the_documentation_has_our_constants() {
    let told = include_str!("../../../docs/recording.md");
    let id = schema::APPLICATION_ID;
    let letters = String::from_utf8(id.to_be_bytes().into()).unwrap();
    for fact in [
        format!("`application_id` {id:#010x} (`{letters}`)"),
        format!("`user_version` is the version of the schema: {VERSION}."),
    ] {
        assert!(told.contains(&fact), "docs/recording.md must say: {fact}");
    }
}

#[test]
fn what_is_recorded_is_what_was_sampled() {
    let folder = Folder::new("same");
    for (number, interval) in fixture::all().into_iter().enumerate() {
        let path = folder.file(&number.to_string());
        let mut vm_named = interval.clone();
        for vm in vm_named.vms.values_mut() {
            vm.command = "qemu\0-name\0a \"b\",\u{1b}\0".into();
            let labels = std::sync::Arc::make_mut(&mut vm.labels);
            labels.witness = Witness::Machine;
            labels.set("uuid", "6d7e3b9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b".into());
            labels.set("pod", "=1+2;\u{202e}".into());
        }
        let intervals = [vm_named.clone(), vm_named.clone(), vm_named.clone()];
        let notes = Notes { source: Some("because".into()), ..Notes::default() };
        let mut writer = recorded(&path, &intervals[..2]);
        writer.write(&intervals[2], &notes).unwrap();
        writer.finish("as asked").unwrap();

        let recording = Recording::open(&path).unwrap();
        assert_eq!(all(&recording), intervals);
        assert_eq!((recording.about(), recording.notes()), (&about(&interval), &notes));
        assert_eq!(recording.end(), Some("as asked"));
        let mut whole = vm_named.clone();
        whole.extend(&vm_named);
        whole.extend(&vm_named);
        assert_eq!(recording.whole(Part::default()).unwrap(), Some(whole));
        let after = |seconds| Some(When::After(Duration::from_secs(seconds)));
        let part = |from, to| {
            recording.whole(Part { from, to, ..Part::default() }).unwrap().map(|part| part.length.as_secs())
        };
        assert_eq!(part(after(10), after(20)), Some(10));
        assert_eq!(part(after(9), after(11)), Some(20), "intervals are not cut");
        assert_eq!(part(after(30), None), None);
        assert_eq!(part(None, Some(When::At(interval.start))), None);
        assert_eq!(part(Some(When::At(interval.start)), Some(When::At(interval.end))), Some(30));
    }
}

/// A second with so many exits for one reason.
fn second_with(exits: u64) -> Interval {
    let mut interval = fixture::single();
    interval.rows.truncate(1);
    interval.rows[0].counters = Counters { count: exits, ..Counters::default() };
    interval.vcpus[0].exits = exits;
    interval.length = Duration::from_secs(1);
    interval
}

#[test]
fn a_life_has_what_stands_out_also_in_a_part() {
    let folder = Folder::new("part");
    let path = folder.file("x");
    let intervals: Vec<_> =
        (0..60).map(|second| second_with(if second == 30 { 5000 } else { 100 })).collect();
    let writer = recorded(&path, &intervals);
    let boot = |from, to| {
        let after = |seconds| Some(When::After(Duration::from_secs(seconds)));
        Recording::open(&path)
            .unwrap()
            .boot_report(Part { from: after(from), to: after(to), ..Part::default() })
            .unwrap()
    };
    assert_eq!(boot(0, 90).unwrap().end, "the last interval that was written");
    writer.finish("with the command: exit status: 0").unwrap();
    let whole = boot(0, 90).unwrap();
    assert_eq!((whole.whole.exits(), whole.end.as_str()), (59 * 100 + 5000, "the command's end"));
    // In this part alone, nothing would say what is usual.
    let part = boot(28, 33).unwrap();
    assert_eq!((part.whole.exits(), part.end.as_str()), (5400, "the end of this part"));
    assert_eq!(
        part.series.slices().iter().map(|slice| slice.at.as_secs()).collect::<Vec<_>>(),
        [28, 29, 30, 31, 32]
    );
    assert_eq!((part.spikes.len(), &part.spikes), (1, &whole.spikes));
    assert_eq!(boot(40, 90).unwrap().spikes, []);
    assert!(boot(60, 90).is_none());
}

/// An interval in which these vCPUs of these VMs did something; `ended` ones are there for the last time.
fn visitors(vms: &[(u64, &[u32], bool)]) -> Interval {
    let mut interval = fixture::single();
    let (row, span) = (interval.rows[0].clone(), interval.vcpus[0]);
    let vm = interval.vms[&VmId(0)].clone();
    let of = |id: u64, ended: bool| (VmId(id), Vm { id: VmId(id), ended, ..vm.clone() });
    interval.vms = vms.iter().map(|&(id, _, ended)| of(id, ended)).collect();
    let vcpus = || vms.iter().flat_map(|(id, vcpus, _)| vcpus.iter().map(|vcpu| (VmId(*id), *vcpu)));
    interval.vcpus = vcpus().map(|(vm, vcpu)| VcpuSpan { vm, vcpu, ..span }).collect();
    interval.rows = vcpus().map(|(vm, vcpu)| Row { vm, vcpu, ..row.clone() }).collect();
    let workers = interval.workers[0];
    interval.workers = interval.vms.keys().map(|vm| WorkerSpan { vm: *vm, ..workers }).collect();
    interval
}

#[test]
fn vms_and_vcpus_come_and_go() {
    let folder = Folder::new("come-and-go");
    let path = folder.file("x");
    let mut idle = visitors(&[(1, &[0], false), (u64::MAX, &[0, 7], false)]);
    idle.rows.clear();
    for span in &mut idle.vcpus {
        (span.exits, span.kvm_exits, span.time) = (0, Some(0), Some(VcpuTime::default()));
    }
    // KVM's count may be missing of one that did nothing.
    idle.vcpus[2].kvm_exits = None;
    let intervals = [
        visitors(&[]),
        visitors(&[(1, &[0, 1], false)]),
        visitors(&[(1, &[0, 1], false), (u64::MAX, &[0], false)]),
        visitors(&[(1, &[0], false), (u64::MAX, &[0, 7], false)]),
        idle,
        visitors(&[(1, &[0, 1], false), (u64::MAX, &[0, 7], true)]),
        visitors(&[(1, &[0, 1], false)]),
        visitors(&[(2, &[0], true)]),
        visitors(&[]),
    ];
    let writer = recorded(&path, &intervals);
    // While it is being written, and when it has ended.
    assert_eq!(all(&Recording::open(&path).unwrap()), intervals);
    writer.finish("as asked").unwrap();
    assert_eq!(all(&Recording::open(&path).unwrap()), intervals);
    let after = |seconds| Some(When::After(Duration::from_secs(seconds)));
    let part = Part { from: after(60), to: after(70), ..Part::default() };
    assert_eq!(Recording::open(&path).unwrap().whole(part).unwrap(), Some(intervals[6].clone()));
}

#[test]
fn labels_and_workers_of_nobody_are_damage() {
    let folder = Folder::new("nobody");
    let path = folder.file("x");
    let new = folder.file("new");
    recorded(&new, &[fixture::single()]).finish("as asked").unwrap();
    older::make(&new, &path, 4);
    let good = std::fs::read(&path).unwrap();
    let with = |change: &str| {
        std::fs::write(&path, &good).unwrap();
        Connection::open(&path).unwrap().execute_batch(change).unwrap();
        let read = Recording::open(&path).and_then(|recording| recording.whole(Part::default()));
        read.map(Option::unwrap).map_err(|error| error.to_string())
    };
    for (change, words) in [
        ("INSERT INTO labels VALUES (7, 'pod', 'x')", "a label of VM 7, which is none"),
        ("UPDATE labels SET value = 'me' WHERE key = 'named_by'", "named by \"me\", which is no witness"),
        ("UPDATE labels SET value = hex(zeroblob(200))", "a text of 400 bytes"),
        ("UPDATE workers SET vm = 7", "workers of VM 7, which was not there"),
        ("UPDATE workers SET kvm_cpu_ns = 9223372036854775807, span_ns = 9223372036854775807", "too large"),
        ("UPDATE workers SET io_cpu_ns = -1", "instead of a number of at least 0"),
    ] {
        let error = with(change).unwrap_err();
        assert!(error.contains(words), "{change}: {error}");
    }
    // A later program may know more labels.
    let later = with("INSERT INTO labels SELECT vm, 'zone', 'x' FROM labels").unwrap();
    assert_eq!(later, fixture::single());
}

/// After `kill -9`, or a power cut in the middle of a write, any number of bytes of the log is there.
#[test]
fn what_is_cut_off_costs_the_last_interval_at_most() {
    let folder = Folder::new("cut-off");
    let path = folder.file("x");
    let intervals: Vec<Interval> = (0..8).map(|_| fixture::busy()).collect();
    let mut writer = recorded(&path, &intervals[..1]);
    let mut ends = Vec::new();
    for interval in &intervals[1..] {
        ends.push(std::fs::metadata(beside(&path, "-wal")).unwrap().len());
        writer.write(interval, &Notes::default()).unwrap();
    }
    let log = std::fs::read(beside(&path, "-wal")).unwrap();
    assert!(ends.is_sorted_by(|a, b| a < b), "nothing of the log has gone into the file: {ends:?}");
    let copy = folder.file("copy");
    let mut cuts: Vec<usize> = (0..=40).map(|n| log.len() * n / 40).collect();
    cuts.extend(ends.iter().flat_map(|&end| {
        let end = usize::try_from(end).unwrap();
        [end - 1, end, end + 1]
    }));
    for cut in cuts {
        std::fs::copy(&path, &copy).unwrap();
        std::fs::write(beside(&copy, "-wal"), &log[..cut]).unwrap();
        let _ = std::fs::remove_file(beside(&copy, "-shm"));
        let recording = Recording::open(&copy).unwrap();
        // Each interval whose transaction is whole, and none that is not.
        let whole = ends.iter().filter(|&&end| end <= cut as u64).count();
        let whole = if cut == log.len() { intervals.len() } else { whole };
        assert!(all(&recording) == intervals[..whole], "{cut} of {} bytes", log.len());
        assert_eq!(recording.end(), None);
    }
    // The file alone, without its log, is a recording too.
    std::fs::copy(&path, &copy).unwrap();
    let _ = std::fs::remove_file(beside(&copy, "-wal"));
    assert!(Recording::open(&copy).unwrap().is_empty());
}

#[test]
fn the_older_word_of_a_source_is_read() {
    let folder = Folder::new("word");
    let path = folder.file("recording");
    recorded(&path, &[whole::statistics()]).finish("as asked").unwrap();
    for word in ["kvmstat", "kvm_stat"] {
        let change = Connection::open(&path).unwrap();
        let found: String =
            change.query_row("SELECT value FROM facts WHERE name = 'source'", [], |row| row.get(0)).unwrap();
        assert_eq!(found, "kvmstat");
        change.execute("UPDATE facts SET value = ? WHERE name = 'source'", [word]).unwrap();
        drop(change);
        assert_eq!(Recording::open(&path).unwrap().about().source, exitscope_model::Source::KvmStat);
    }
}

#[test]
fn what_ended_is_one_file_and_reading_leaves_nothing() {
    let folder = Folder::new("one-file");
    let path = folder.file("file:%41?x=y#z");
    recorded(&path, &[fixture::busy()]).finish("as asked").unwrap();
    let names =
        || -> Vec<_> { folder.0.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    assert_eq!(names(), [path.file_name().unwrap()]);
    let recording = Recording::open(&path).unwrap();
    assert_eq!((all(&recording).len(), names().len()), (1, 1));
}

#[test]
fn what_is_there_is_not_replaced_unasked() {
    let folder = Folder::new("there");
    let path = folder.file("x");
    let about = about(&fixture::busy());
    std::fs::write(&path, "precious").unwrap();
    let error = Writer::create(&path, false, &about).err().unwrap().to_string();
    assert!(error.contains("exists already") && error.contains("--force"), "{error}");
    assert!(Writer::check(&path, false).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    Writer::check(&path, true).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"precious", "a question changes nothing");
    let mut writer = Writer::create(&path, true, &about).unwrap();
    writer.write(&fixture::busy(), &Notes::default()).unwrap();
    writer.finish("as asked").unwrap();
    assert_eq!(Recording::open(&path).unwrap().len(), 1);

    // The log of a recording whose file is gone is somebody's still.
    let orphan = folder.file("orphan");
    std::fs::write(beside(&orphan, "-wal"), "log").unwrap();
    assert!(
        matches!(Writer::create(&orphan, false, &about), Err(Error::Exists(path)) if path == beside(&orphan, "-wal"))
    );
    // Neither a folder nor a device is replaced by force.
    assert!(matches!(Writer::check(&folder.0, true), Err(Error::NotAFile(_))));
    assert!(matches!(Writer::check(Path::new("/dev/null"), true), Err(Error::NotAFile(_))));
    let nowhere = Writer::create(&folder.file("no/where"), false, &about).err().unwrap().to_string();
    assert!(nowhere.contains("No such file"), "{nowhere}");
    // One that never began leaves nothing.
    let path = folder.file("discarded");
    Writer::create(&path, false, &about).unwrap().discard().unwrap();
    assert!(!path.exists() && !beside(&path, "-wal").exists());
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_written() {
    let folder = Folder::new("full");
    let path = folder.file("x");
    let mut writer = recorded(&path, &[fixture::busy(), fixture::busy()]);
    writer.limit_pages();
    let error = loop {
        match writer.write(&fixture::busy(), &Notes::default()) {
            Ok(()) => {}
            Err(error) => break error,
        }
        assert!(writer.intervals() < 1000);
    };
    assert!(matches!(error, Error::Full(_)) && error.to_string().contains("no room"), "{error}");
    let written = usize::try_from(writer.intervals()).unwrap();
    drop(writer);
    let recording = Recording::open(&path).unwrap();
    assert_eq!(all(&recording), vec![fixture::busy(); written]);
}

#[test]
fn what_is_no_recording_is_told_with_what_it_is() {
    let folder = Folder::new("wrong");
    let path = folder.file("x");
    recorded(&path, &[fixture::busy(), fixture::busy()]).finish("as asked").unwrap();
    let good = std::fs::read(&path).unwrap();
    let said = |words: &[&str]| {
        let error = match Recording::open(&path) {
            Err(error) => error.to_string(),
            // Sums first, then every interval.
            Ok(recording) => {
                let whole = recording.whole(Part::default()).map(drop);
                let each = whole.and_then(|()| recording.each(Part::default(), |_| Ok::<_, Error>(())));
                each.unwrap_err().to_string()
            }
        };
        for word in words.iter().chain([&path.to_str().unwrap()]) {
            assert!(error.contains(word), "no {word:?} in {error:?}");
        }
    };
    let plain = folder.file("plain");
    older::make(&path, &plain, 4);
    let plain = std::fs::read(&plain).unwrap();
    let change = |bytes: &[u8], change: &str| {
        std::fs::write(&path, bytes).unwrap();
        Connection::open(&path).unwrap().execute_batch(change).unwrap();
    };
    let with = |what: &str| change(&good, what);
    // Rows lie plain in recordings of older versions.
    let with_plain = |what: &str| change(&plain, what);
    with("PRAGMA user_version = 99");
    said(&["schema 99", &format!("up to {VERSION}"), "newer", env!("CARGO_PKG_VERSION")]);
    with("PRAGMA user_version = -3");
    said(&["damaged", "-3"]);
    with("PRAGMA application_id = 7");
    said(&["another program", "0x00000007", "0x65787363"]);
    with("DROP TABLE blocks");
    said(&["damaged", "no table blocks"]);
    with("UPDATE blocks SET level = 3");
    said(&["block 1 is not in order"]);
    with("UPDATE blocks SET last_interval = 3, first_interval = 3 WHERE level = 0");
    said(&["interval 1 is in no block"]);
    with("UPDATE blocks SET rows = substr(rows, 1, length(rows) - 20)");
    said(&["damaged", "block"]);
    with("UPDATE blocks SET rows = zeroblob(9000000)");
    said(&["damaged"]);
    with("UPDATE blocks SET rows = (SELECT rows FROM blocks WHERE level = 1)");
    said(&["other intervals than it says"]);
    with("UPDATE intervals SET length_ns = length_ns + 1 WHERE id = 2");
    said(&["has two lengths"]);
    with("UPDATE vcpus SET id = id + 4000");
    said(&["vCPU", "not there"]);
    with("DELETE FROM reasons");
    said(&["reason", "not known"]);
    with("DELETE FROM breakdowns");
    said(&["breakdown", "not known"]);
    with_plain("DROP TABLE spans");
    said(&["damaged", "no table spans"]);
    with_plain("ALTER TABLE spans ADD COLUMN more TEXT");
    said(&["damaged", "spans is not as"]);
    with("DELETE FROM facts WHERE name = 'source'");
    said(&["damaged", "no fact \"source\""]);
    with("UPDATE facts SET value = 'x' WHERE name = 'measured'");
    said(&["damaged", "\"measured\" is \"x\""]);
    with_plain("UPDATE exits SET reason = 4000 WHERE interval_id = 2 AND vcpu = 1 AND reason = 5");
    said(&["interval 2", "reason 4000"]);
    with_plain("UPDATE exits SET vcpu = 4000 WHERE interval_id = 2 AND vcpu = 1 AND reason = 5");
    said(&["vCPU 4000", "not there"]);
    with_plain("UPDATE exits SET count = -5 WHERE interval_id = 2 AND vcpu = 1");
    said(&["column count", "-5"]);
    with_plain("UPDATE exits SET time_ns = 9223372036854775807");
    said(&["too large"]);
    with_plain("UPDATE exits SET histogram = x'2601'");
    said(&["histogram"]);
    with_plain("UPDATE exits SET min_ns = 9, max_ns = 8");
    said(&["shortest"]);
    with("UPDATE reasons SET isa = 'arm'");
    said(&["\"arm\"", "vmx, svm and kvm"]);
    with("UPDATE breakdowns SET kind = 'wish', key = NULL WHERE id = 3");
    said(&["breakdown 3", "\"wish\""]);
    with_plain("UPDATE breakdown_counts SET counts = x'0101ee01'");
    said(&["interval 1", "breakdown 238"]);
    with_plain("UPDATE breakdown_counts SET details = x'0101010101'");
    said(&["what exits were about"]);
    with_plain("UPDATE breakdown_counts SET vcpu = 4000 WHERE interval_id = 2 AND vcpu = 1");
    said(&["interval 2", "vCPU 4000", "no row"]);
    with("INSERT INTO console VALUES (1, 2, 'a'), (2, 1, 'b')");
    said(&["lines", "not in order"]);
    with("INSERT INTO marks VALUES (1, 2, 'port', 70000, 1, '')");
    said(&["column port", "70000"]);
    with("INSERT INTO marks VALUES (1, 2, 'foot', NULL, NULL, '')");
    said(&["neither by hand nor"]);
    with("INSERT INTO phases VALUES (1, 'x', 0)");
    said(&["phases"]);
    with("INSERT INTO facts VALUES ('marks_left_out', 'many')");
    said(&["marks_left_out", "many"]);
    with("UPDATE intervals SET offset_ns = 5 WHERE id = 2");
    said(&["interval 2 does not follow"]);
    with_plain("INSERT INTO losses VALUES (1, 'luggage', 1)");
    said(&["\"luggage\""]);
    with("UPDATE vms SET pid = 5000000000");
    said(&["column pid", "5000000000"]);
    with("UPDATE vms SET name = printf('%.*c', 2000000, 'x')");
    said(&["damaged", "column name", "2000000 bytes"]);

    std::fs::write(&path, &good[..good.len() - 4096]).unwrap();
    said(&["cut off", &(good.len() - 4096).to_string(), &good.len().to_string()]);
    std::fs::write(&path, &good[..50]).unwrap();
    said(&["cut off", "50 bytes"]);
    std::fs::write(&path, "").unwrap();
    said(&["empty"]);
    std::fs::write(&path, "#!/bin/sh\x1b[2J\n").unwrap();
    said(&["no recording", "#!/bin/sh\\u{1b}", "exitscope record"]);
    std::fs::remove_file(&path).unwrap();
    said(&["No such file"]);
    Connection::open(&path).unwrap().execute_batch("PRAGMA journal_mode = WAL; VACUUM").unwrap();
    said(&["no schema"]);
}

/// Others' files in the way of a recorder, which only root can make for a test.
#[test]
fn what_others_made_beside_a_recording_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let folder = Folder::new("shared");
    let path = folder.file("x");
    let about = about(&fixture::busy());
    let mode = |mode| {
        let folder = path.parent().unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |words: &str| {
        let error = Writer::create(&path, true, &about).err().expect(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    mode(0o777);
    refused("can be written to by other users");
    mode(0o1777);
    let mut writer = Writer::create(&path, false, &about).unwrap();
    writer.write(&fixture::busy(), &Notes::default()).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(std::fs::metadata(beside(&path, suffix)).unwrap().mode() & 0o777, 0o600, "{suffix}");
    }
    if !std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        return;
    }
    // Not ended, and in the end another user's: what is mapped into memory could be made shorter by that.
    chown(beside(&path, "-shm"), Some(65_534), None).unwrap();
    let error = Recording::open(&path).err().unwrap().to_string();
    assert!(error.contains("-shm belongs to user 65534"), "{error}");
    drop(writer);
    super::files::remove(&path).unwrap();
    std::fs::write(beside(&path, "-shm"), "").unwrap();
    chown(beside(&path, "-shm"), Some(65_534), None).unwrap();
    refused("belongs to user 65534");
    // Nor does SQLite open one, whoever looked before.
    std::fs::write(&path, "").unwrap();
    super::input::guard_sqlite();
    let connection = Connection::open(&path).unwrap();
    assert!(connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").is_err());
}

#[test]
fn what_is_no_recording_is_called_what_it_is() {
    let folder = Folder::new("called");
    let error = Recording::open(folder.file("x").parent().unwrap()).err().unwrap().to_string();
    assert!(error.contains("is a folder, and no file") && !error.contains("replaced"), "{error}");
    // A change that was cut off, with a journal from which it would be taken back.
    let path = folder.file("x");
    let writer = Writer::create(&path, false, &about(&fixture::busy())).unwrap();
    writer.finish("as asked").unwrap();
    std::fs::write(beside(&path, "-journal"), [1; 512]).unwrap();
    let error = Recording::open(&path).err().unwrap().to_string();
    assert!(error.contains("-journal") && !error.contains("-wal"), "{error}");
}

#[test]
fn the_documentation_has_the_numbers_of_the_schema() {
    let document = include_str!("../../../docs/recording.md");
    let id = format!("`application_id` {:#x} (`exsc`)", schema::APPLICATION_ID);
    assert!(document.contains(&id), "docs/recording.md does not say {id}");
    assert_eq!(schema::APPLICATION_ID.to_be_bytes(), *b"exsc");
    let version = format!("`user_version` is the version of the schema: {}.", schema::VERSION);
    let words: Vec<&str> = document.split_whitespace().collect();
    assert!(words.join(" ").contains(&version), "docs/recording.md does not say {version}");
}
