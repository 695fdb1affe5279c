//! Damaged recordings: whatever bytes are in a file, reading it ends, with intervals or with an error, and takes little
//! memory.

mod blocks;
mod forge;
mod hostile;
mod kinds;
mod limits;

use exitscope_analysis::boot_report::{IntervalEvents, LeftOut, Mark, Origin};
use exitscope_analysis::console::Line;
use exitscope_analysis::phase_detector::PhaseStart;
use exitscope_model::{
    By, Counters, Detail, DetailCounters, DetailKind, Details, ExitCode, Extremes, Histogram, Interval, Isa,
    Level, Loss, Measured, Modes, Nested, Returns, Row, Source, Split, UserReason, VcpuSpan, VcpuTime, Vm,
    VmId,
};
use exitscope_record::{About, Error, Notes, Part, Recording, Writer};
use exitscope_view::report::Story;
use exitscope_view::{self as view, Explanation, Format};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// Intervals that are recorded.
const INTERVALS: u64 = 10;

/// Counts what is allocated.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
/// All that was ever allocated.
static WORK: AtomicUsize = AtomicUsize::new(0);

/// Held by each test, so that nothing else allocates meanwhile.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: all is done by the system's allocator, by its rules.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        WORK.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is ours.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// No more than this is taken at once to read and print a recording of 100 KB, by us and by SQLite: whatever a damaged
/// length says.
const MEMORY: usize = 8 << 20;

/// Numbers without any pattern, the same each time (xorshift, Marsaglia 2003).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// Returns details of all but 4 of `count` exits, where the reason has some.
fn details(code: u64, count: u64) -> Details {
    let detail = match code {
        3 => Detail::new(DetailKind::Port, 0x3f8, true),
        4 => Detail::new(DetailKind::Msr, 0xc000_0080, false),
        _ => return Details::default(),
    };
    let of = |count| DetailCounters { count, time_ns: 900 * count, max_ns: 1_000 * code };
    Details { counts: BTreeMap::from([(detail, of(count - 4))]), other: of(4), ..Details::default() }
}

/// Returns the console lines, marks and phases of an interval.
fn events(number: u64) -> IntervalEvents {
    let at = |ms| Duration::from_millis(1000 * number + ms);
    let text =
        format!("[    {number}.000000] a line of a console, as long as they are, or a bit longer \u{1b}[2J");
    let mut events = IntervalEvents {
        lines: (0..4).map(|line| Line { at: at(line), text: format!("{text} {line}") }).collect(),
        marks: vec![
            Mark { at: at(5), origin: Origin::Hand, text: "half way".into() },
            Mark::port(at(6), 0xf4, u8::try_from(number).unwrap()),
        ],
        phases: vec![PhaseStart { name: format!("phase {number}"), at: at(0) }],
        left_out: LeftOut { lines: number, ..LeftOut::default() },
    };
    if number == 5 {
        events.phases.push(PhaseStart { name: "earlier".into(), at: Duration::from_secs(4) });
    }
    events
}

/// Two VMs, one with a guest of its own, on three vCPUs with ten reasons.
fn interval(number: u64) -> Interval {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_792_000_000 + number);
    let vm = |id: u64| {
        let vm = Vm {
            id: VmId(id),
            pid: 4242,
            name: "web".into(),
            vmm: "qemu".into(),
            command: "qemu\0-name\0web".into(),
            labels: Default::default(),
            ended: false,
        };
        (vm.id, vm)
    };
    let (mut vcpus, mut rows) = (Vec::new(), Vec::new());
    for (id, vcpu) in [(1, 0), (1, 1), (2, 0)] {
        let vm = VmId(id);
        let mut exits = 0;
        for code in 0..10 {
            let count = 10 + number + code;
            let level = if id == 2 && code > 7 { Level::L2 } else { Level::L1 };
            let to_l1 = if level == Level::L2 { count } else { 0 };
            exits += count;
            rows.push(Row {
                vm,
                vcpu,
                level,
                code: ExitCode { isa: Isa::Svm, code: 0x72 + code.cast_signed() },
                counters: Counters {
                    details: details(code, count),
                    modes: Modes::new([1, 0, code, 2, count - 5 - code % 2]),
                    count,
                    time_ns: count * 1500,
                    extremes: Some(Extremes { min_ns: 1024, max_ns: 70_000 }),
                    histogram: Histogram::from_bucket(10, [count - 3, 0, 2, 1]),
                    split: Split {
                        user_exits: code,
                        user_ns: 100,
                        halted_ns: 200,
                        polled_ns: 50,
                        waiting_ns: 10,
                    },
                    returns: Returns::from([(UserReason(2), 1 + code)]),
                    nested: Nested { to_l1, l1_done: to_l1, l1_exits: to_l1 * 2, l1_ns: to_l1 * 100 },
                },
            });
        }
        rows.sort_by_key(|row| (row.vm, row.vcpu, row.level, row.code));
        let time = VcpuTime { guest_ns: 900_000_000, kernel_ns: 100_000_000, ..VcpuTime::default() };
        vcpus.push(VcpuSpan { vm, vcpu, exits, kvm_exits: Some(exits), time: Some(time) });
    }
    Interval {
        start,
        end: start + Duration::from_secs(1),
        length: Duration::from_secs(1),
        source: Source::Btf,
        measured: Measured::Breakdown,
        vms: BTreeMap::from([vm(1), vm(2)]),
        vcpus,
        rows,
        workers: Vec::new(),
        loss: Loss { torn: number % 3, ..Loss::default() },
    }
}

/// A file that is gone with this, and what is beside it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("exitscope-damage-{}-{name}", std::process::id())))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        format!("{}{suffix}", self.0.display()).into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.beside(suffix));
        }
    }
}

/// A recording that has not ended.
fn recorded(path: &Path) -> Writer {
    let about = About {
        tool: "1".into(),
        host: "host".into(),
        kernel: "6.1".into(),
        cpu: "CPU".into(),
        cpus: 2,
        kvm: BTreeMap::new(),
        facts: BTreeMap::new(),
        command: Vec::new(),
        interval: Duration::from_secs(1),
        source: Source::Btf,
        measured: Measured::Breakdown,
    };
    let mut writer = Writer::create(path, false, &about).unwrap();
    for number in 0..INTERVALS {
        writer.write_events(&interval(number), &Notes::default(), &events(number)).unwrap();
    }
    writer
}

/// Reads all that there is, and prints it in every format: what `report` does.
fn report(path: &Path) -> Result<Option<Read>, Error> {
    let recording = Recording::open(path)?;
    let boot = recording.boot_report(Part::default())?;
    let part = Part { phases: vec!["phase 3".into(), "earlier".into()], ..Part::default() };
    for boot in [&boot, &recording.boot_report(part)?].into_iter().flatten() {
        view::phases::render(boot.series.stretches(), &boot.series.whole(), Some(80));
        view::marks::render(&boot.marks, boot.marks_left_out);
        view::boot_report::render(boot).unwrap();
    }
    if let Some(boot) = &boot {
        let (facts, explanation) = (recording.about(), Explanation::default());
        view::report::html(&Story { boot, facts, explanation: &explanation });
    }
    let whole = boot.as_ref().map(|boot| &boot.whole);
    if let Some(whole) = whole {
        for (_, format) in Format::WORDS {
            for by in [By::default(), By::ALL] {
                let options = view::Options { format, by, ..view::Options::default() };
                view::write(whole, &options, &mut std::io::sink()).unwrap();
            }
        }
    }
    Ok(boot.map(|boot| {
        let phases = boot.series.stretches().iter().map(|phase| (phase.name.clone(), phase.whole.at));
        Read { phases: phases.collect(), whole: boot.whole, console: boot.console, marks: boot.marks }
    }))
}

/// Content that is read from a recording.
#[derive(Debug, PartialEq)]
struct Read {
    whole: Interval,
    console: Vec<Line>,
    marks: Vec<Mark>,
    phases: Vec<(String, Duration)>,
}

#[test]
fn two_thousand_damaged_files_neither_crash_nor_hang_a_report() {
    let _alone = ALONE.lock();
    let file = Scratch::new("flipped");
    let writer = recorded(&file.0);
    let unended = std::fs::read(&file.0).unwrap();
    let log = std::fs::read(file.beside("-wal")).unwrap();
    writer.finish("as asked").unwrap();
    let good = std::fs::read(&file.0).unwrap();
    let mut whole = interval(0);
    (1..INTERVALS).for_each(|number| whole.extend(&interval(number)));

    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let whole = Read {
        whole,
        console: (0..INTERVALS).flat_map(|number| events(number).lines).collect(),
        marks: (0..INTERVALS).flat_map(|number| events(number).marks).collect(),
        phases: report(&file.0).unwrap().unwrap().phases,
    };
    assert_eq!(whole.phases.len(), 11);
    assert_eq!(report(&file.0).unwrap().as_ref(), Some(&whole));

    let mut seeded = Seeded(0x2545_f491_4f6c_dd1d);
    let (mut refused, mut differs, mut same) = (0, 0, 0);
    let mut tell = |result: Result<Option<Read>, Error>| match result {
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("exitscope-damage"), "no file is named in {text:?}");
            refused += 1;
        }
        Ok(found) if found.as_ref() == Some(&whole) => same += 1,
        Ok(_) => differs += 1,
    };
    let flip = |bytes: &[u8], seeded: &mut Seeded, within: usize| {
        let mut bytes = bytes.to_vec();
        let at = seeded.below(within);
        bytes[at] ^= u8::try_from(1 + seeded.below(255)).unwrap();
        bytes
    };
    // One byte anywhere; then one of what everything else hangs on: the header, the schema, the roots of tables.
    for within in [good.len(), 20_000] {
        for _ in 0..700 {
            std::fs::write(&file.0, flip(&good, &mut seeded, within)).unwrap();
            tell(report(&file.0));
        }
    }
    // Many at once, and the log of a recording that has not ended.
    for number in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..1 + number {
            bytes = flip(&bytes, &mut seeded, good.len());
        }
        std::fs::write(&file.0, bytes).unwrap();
        tell(report(&file.0));
    }
    for _ in 0..300 {
        let _ = std::fs::remove_file(file.beside("-shm"));
        std::fs::write(&file.0, &unended).unwrap();
        std::fs::write(file.beside("-wal"), flip(&log, &mut seeded, log.len())).unwrap();
        tell(report(&file.0));
    }
    let most = MOST.load(Ordering::Relaxed) - before;
    // SAFETY: it only reads a figure of SQLite's own.
    let of_sqlite = usize::try_from(unsafe { rusqlite::ffi::sqlite3_memory_highwater(0) }).unwrap();
    println!(
        "{refused} refused, {differs} read otherwise, {same} read the same; at most {most} bytes at once, and {of_sqlite} of SQLite's"
    );
    assert!(
        refused > 250 && differs > 50 && same > 50,
        "{refused} {differs} {same}: the flips hit too little"
    );
    assert!(most < MEMORY && (1..MEMORY).contains(&of_sqlite), "{most} and {of_sqlite} bytes at once");
}
