//! `exitscope top` on a real terminal, replaying a recording: what it shows, and how it leaves the terminal.

#[path = "common/screen.rs"]
mod screen;

use exitscope_model::{
    Counters, ExitCode, Extremes, Histogram, Interval, Isa, Level, Loss, Measured, Row, Source, Split,
    VcpuSpan, VcpuTime, Vm, VmId,
};
use exitscope_record::{About, Notes, Writer};
use screen::Shown;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const SECONDS: u64 = 90;

/// A folder that is gone with this.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("exitscope-top-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn recording(&self) -> PathBuf {
        self.0.join("boot.rec")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two VMs for a minute and a half; the first exits `second` times a thousand in each, the other's name is hostile.
fn record(path: &Path) {
    let about = About {
        tool: "test".into(),
        host: "test".into(),
        kernel: String::new(),
        cpu: String::new(),
        cpus: 2,
        kvm: BTreeMap::new(),
        facts: BTreeMap::new(),
        command: Vec::new(),
        interval: Duration::from_secs(1),
        source: Source::Btf,
        measured: Measured::Breakdown,
    };
    let vm = |id: u64, name: &str| Vm {
        id: VmId(id),
        pid: 4242 + u32::try_from(id).unwrap(),
        name: name.into(),
        vmm: "qemu".into(),
        command: "".into(),
        labels: Default::default(),
        ended: false,
    };
    let mut writer = Writer::create(path, true, &about).unwrap();
    for second in 1..=SECONDS {
        let row = |vm: u64, code: i64, count: u64| Row {
            vm: VmId(vm),
            vcpu: 0,
            level: Level::L1,
            code: ExitCode { isa: Isa::Svm, code },
            counters: Counters {
                count,
                time_ns: count * 1500,
                extremes: Some(Extremes { min_ns: 1100, max_ns: 1900 }),
                histogram: Histogram::from_bucket(10, [count]),
                split: Split { user_exits: 0, user_ns: count * 500, ..Split::default() },
                ..Counters::default()
            },
        };
        let rows = vec![row(0, 0x72, second * 750), row(0, 0x7b, second * 250), row(1, 0x400, 7)];
        let span = |vm: u64, exits: u64| VcpuSpan {
            vm: VmId(vm),
            vcpu: 0,
            exits,
            kvm_exits: Some(exits),
            time: Some(VcpuTime {
                guest_ns: 1_000_000_000 - exits * 1500,
                kernel_ns: exits * 1000,
                user_ns: exits * 500,
                ..VcpuTime::default()
            }),
        };
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_792_000_000 + second - 1);
        let interval = Interval {
            start,
            end: start + Duration::from_secs(1),
            length: Duration::from_secs(1),
            source: Source::Btf,
            measured: Measured::Breakdown,
            vms: [vm(0, "web-1"), vm(1, "\x1b[2Jevil\u{202e}\n字")].map(|vm| (vm.id, vm)).into(),
            vcpus: vec![span(0, second * 1000), span(1, 7)],
            rows,
            workers: Vec::new(),
            loss: Loss::default(),
        };
        writer.write(&interval, &Notes::default()).unwrap();
    }
    writer.finish("as asked").unwrap();
}

fn top(folder: &Folder) -> Command {
    record(&folder.recording());
    let mut command = Command::new(env!("CARGO_BIN_EXE_exitscope"));
    command.arg("top").arg(folder.recording()).current_dir(&folder.0).env_remove("NO_COLOR");
    command
}

/// Asserts that the terminal has its settings of before, and nothing of the screen is left.
fn assert_given_back(
    before: &rustix::termios::Termios,
    after: &rustix::termios::Termios,
    screen: &vt100::Screen,
) {
    for (before, after) in [
        (before.input_modes.bits(), after.input_modes.bits()),
        (before.output_modes.bits(), after.output_modes.bits()),
        (before.local_modes.bits(), after.local_modes.bits()),
        (before.control_modes.bits(), after.control_modes.bits()),
    ] {
        assert_eq!(before, after);
    }
    assert!(!screen.alternate_screen());
    assert!(!screen.hide_cursor());
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
}

#[test]
fn a_recording_is_gone_through_by_keys_and_mouse() {
    let folder = Folder::new("keys");
    let mut shown = Shown::start(&mut top(&folder), 130, 30);
    let first = shown.wait_for("interval 1 of 90");
    assert!(first.contains("web-1") && first.contains("KVM's own count: 1,007, equal."), "{first}");
    assert!(first.contains(r"\x1b[2Jevil\u{202e}\n字"), "{first}");
    // In time.
    shown.keys("\x1b[C\x1b[C");
    shown.wait_for("interval 3 of 90");
    shown.keys("\x1b[1;2C");
    let later = shown.wait_for("interval 13 of 90");
    assert!(later.contains(" 13,000 "), "{later}");
    shown.keys("\x1b[D");
    let back = shown.wait_for("interval 12 of 90");
    // What was seen up to there: 1 + … + 12 thousand, and 7 each time.
    assert!(back.contains("78,084 exits in 12.0 s"), "{back}");
    // Into the VM, into the reason, and back.
    shown.keys("\r");
    let reasons = shown.wait_for("VMs › web-1");
    assert!(reasons.contains("CPUID") && reasons.contains("9,000") && !reasons.contains("NPF"), "{reasons}");
    shown.keys("\r");
    let reason = shown.wait_for("How long they took");
    assert!(reason.contains("VMs › web-1 › CPUID") && reason.contains("9,000 exits/s"), "{reason}");
    shown.keys("\x1b");
    shown.wait("the list", |text| !text.contains("How long they took"));
    shown.keys("\x7f");
    shown.wait_for("evil");
    // The mouse sorts: the first click on the heading of vm, in SGR's coordinates.
    shown.keys("\x1b[<0;2;4M");
    shown.wait_for("vm▾");
    // Playing goes on by itself, up to the end, faster when asked.
    shown.keys("s0.1\r");
    shown.wait_for("a look every 100 ms");
    shown.keys(" ");
    shown.wait_for("interval 90 of 90");
    shown.wait("the end", |text| text.contains('■'));
    shown.keys("q");
    let (status, ..) = shown.end();
    assert!(status.success());
}

#[test]
fn what_is_written_is_new_and_says_its_name() {
    let folder = Folder::new("write");
    let mut shown = Shown::start(&mut top(&folder), 80, 24);
    shown.wait_for("interval 1 of 90");
    shown.keys("w");
    shown.wait_for("wrote exitscope-top-vms-20261014T174641Z.json");
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(folder.0.join(name)).unwrap()).unwrap()
    };
    let first = read("exitscope-top-vms-20261014T174641Z.json");
    assert_eq!(first["total"], 1007);
    shown.keys("/web\r");
    shown.wait_for("only /web/");
    shown.keys("w");
    // What is there already is left as it is.
    shown.wait_for("wrote exitscope-top-vms-20261014T174641Z-2.json");
    assert_eq!(read("exitscope-top-vms-20261014T174641Z.json"), first);
    assert_eq!(read("exitscope-top-vms-20261014T174641Z-2.json")["total"], 1000);
    // Where nothing can be written, it is said, and all goes on.
    std::fs::remove_dir_all(&folder.0).unwrap();
    shown.keys("w");
    shown.wait_for("cannot write a file");
    shown.keys("q");
    assert!(shown.end().0.success());
}

#[test]
fn the_terminal_is_given_back_whatever_happens() {
    let folder = Folder::new("back");
    for signal in [None, Some(libc::SIGTERM), Some(libc::SIGINT), Some(libc::SIGHUP)] {
        let mut command = top(&folder);
        let mut shown = Shown::start(&mut command, 80, 24);
        let before = exitscope_settings();
        shown.wait_for("interval 1 of 90");
        assert!(shown.with(vt100::Screen::alternate_screen));
        match signal {
            Some(signal) => shown.signal(signal),
            None => shown.keys("\x03"),
        }
        let (status, after, screen) = shown.end();
        assert!(status.success(), "{signal:?}: {status}");
        assert_given_back(&before, &after, &screen);
    }
}

/// Returns the settings of a terminal that nobody has changed.
fn exitscope_settings() -> rustix::termios::Termios {
    let shown = Shown::start(&mut Command::new("true"), 80, 24);
    shown.end().1
}

#[test]
fn the_shell_gets_the_terminal_for_a_while_and_gives_it_back() {
    let folder = Folder::new("job");
    // A shell with job control: the program has a process group of its own, which may be stopped.
    let program = env!("CARGO_BIN_EXE_exitscope");
    let mut command = Command::new("bash");
    let script = format!(
        "set -m; {program} top boot.rec; echo \"left: $(stty -a | grep -o -e '-\\?icanon')\"; read -r line; fg >/dev/null; \
         echo \"ended: $? $(stty -a | grep -o -e '-\\?icanon')\""
    );
    record(&folder.recording());
    command.args(["-c", &script]).current_dir(&folder.0);
    let mut shown = Shown::start(&mut command, 80, 24);
    shown.wait_for("interval 1 of 90");
    shown.keys("\x1a");
    let left = shown.wait_for("left: ");
    assert!(left.contains("left: icanon"), "{left}");
    assert!(!shown.with(vt100::Screen::alternate_screen));
    shown.keys("\n");
    shown.wait_for("interval 1 of 90");
    shown.keys("\x1b[C");
    shown.wait_for("interval 2 of 90");
    shown.keys("q");
    let screen = shown.end().2;
    assert!(screen.contents().contains("ended: 0 icanon"), "{}", screen.contents());
}

/// Stopped from elsewhere: by SIGTSTP, which can be heard, and by SIGSTOP, which cannot.
#[test]
fn a_signal_that_stops_it_leaves_the_terminal_to_others() {
    let folder = Folder::new("stop");
    let program = env!("CARGO_BIN_EXE_exitscope");
    record(&folder.recording());
    for (signal, mode) in [("TSTP", "icanon"), ("STOP", "-icanon")] {
        let mut command = Command::new("bash");
        // Another process stops it when its screen is there, which is when this test says so.
        let script = format!(
            "set -m; (while [ ! -e go ]; do sleep 0.01; done; pkill -{signal} -P $$ -x exitscope) & \
             {program} top boot.rec; echo \"left: $(stty -a | grep -o -e '-\\?icanon')\"; stty sane; read -r line; \
             fg %2 >/dev/null; echo \"ended: $? $(stty -a | grep -o -e '-\\?icanon')\""
        );
        command.args(["-c", &script]).current_dir(&folder.0);
        let mut shown = Shown::start(&mut command, 80, 24);
        shown.wait_for("interval 1 of 90");
        std::fs::write(folder.0.join("go"), "").unwrap();
        let left = shown.wait_for("left: ");
        assert!(left.contains(&format!("left: {mode}")), "{left}");
        shown.keys("\n");
        // It is drawn anew, and keys reach it as they come.
        shown.wait("the screen", |text| text.contains("interval 1 of 90") && !text.contains("left: "));
        shown.keys("\x1b[C");
        shown.wait_for("interval 2 of 90");
        shown.keys("q");
        let screen = shown.end().2;
        assert!(screen.contents().contains("ended: 0 icanon"), "{}", screen.contents());
        std::fs::remove_file(folder.0.join("go")).unwrap();
    }
}

#[test]
fn any_size_will_do() {
    let folder = Folder::new("size");
    let mut shown = Shown::start(&mut top(&folder), 80, 24);
    shown.wait_for("interval 1 of 90");
    for (width, height) in [(1, 1), (2, 40), (300, 2), (10, 5), (240, 70), (3, 3), (80, 24)] {
        shown.resize(width, height);
        shown.keys("\r\x1b?\x1b\t\x1b[C\x1b[D");
    }
    shown.wait_for("interval 1 of 90");
    shown.resize(200, 50);
    shown.wait("as wide as there is room", |text| text.lines().any(|line| line.chars().count() > 180));
    shown.keys("\x03");
    assert!(shown.end().0.success());
}

#[test]
fn colours_are_the_sixteen_or_none() {
    let folder = Folder::new("colour");
    for no_color in [false, true] {
        let mut command = top(&folder);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let mut shown = Shown::start(&mut command, 80, 24);
        shown.wait_for("interval 1 of 90");
        shown.keys("\r");
        shown.wait_for("VMs › web-1");
        let colors = shown.with(|screen| {
            let cells = (0..24).flat_map(|y| (0..80).map(move |x| (y, x)));
            let cells = cells
                .filter_map(|(y, x)| screen.cell(y, x))
                .flat_map(|cell| [cell.fgcolor(), cell.bgcolor()]);
            cells.filter(|color| *color != vt100::Color::Default).collect::<Vec<_>>()
        });
        assert_eq!(colors.is_empty(), no_color, "{colors:?}");
        assert!(colors.iter().all(|color| matches!(color, vt100::Color::Idx(0..16))), "{colors:?}");
        shown.keys("q");
        shown.end();
    }
}

#[test]
fn without_a_terminal_it_says_so() {
    let folder = Folder::new("none");
    let output = top(&folder).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("needs a terminal") && text.contains("exitscope stat"), "{text}");
    assert!(output.stdout.is_empty());
    // No VM of that name: the message stands on the terminal, which is as it was.
    let mut command = top(&folder);
    command.args(["-g", "nobody"]);
    let (status, _, screen) = Shown::start(&mut command, 80, 24).end();
    assert_eq!(status.code(), Some(1));
    assert!(
        screen.contents().contains("no VM that -p or -g names; it has web-1 (4242)"),
        "{}",
        screen.contents()
    );
}
