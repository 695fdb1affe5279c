//! Sessions on a made-up source: no KVM, and no clock decides.

use super::console::ConsoleListener;
use super::events::{Event, Events};
use super::inbox::{Inbox, recorders};
use super::{CannotRun, End, Observed, Sampler, Session, Sink, Sinks, Times};
use exitscope_analysis::boot_report::{IntervalEvents, Origin};
use exitscope_analysis::outcome::Kind;
use exitscope_analysis::phase::Rules;
use exitscope_collect::{Collect, Error, PortMark, PortMarks, monotonic_ns};
use exitscope_model::{
    Counters, ExitCode, Interval, Isa, Level, Loss, Measured, Mode, Modes, ReasonCount, Sample, Source,
    VcpuSample, Vm, VmId,
};
use regex::Regex;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

/// Exits of each sample.
const EXITS: u64 = 10;

/// Plan of a made-up source, and a record of the calls to it.
#[derive(Default)]
struct Script {
    /// Mode of each sample's exits; real mode after these.
    modes: VecDeque<Mode>,
    /// Marks that come with each sample.
    marks: VecDeque<PortMarks>,
    /// The sample from which on the VM has ended.
    ends: Option<u64>,
    /// The sample that fails.
    fails: Option<u64>,
    samples: u64,
    /// Number of samples when following stopped.
    stopped_following: Option<u64>,
}

/// A source of samples, each of which has ten exits more than the last.
struct MadeUp {
    script: Rc<RefCell<Script>>,
    begun_ns: u64,
    modes: [u64; 5],
}

impl Collect for MadeUp {
    fn sample(&mut self) -> Result<Sample, Error> {
        let mut script = self.script.borrow_mut();
        script.samples += 1;
        if script.fails == Some(script.samples) {
            return Err(Error::Kernel { what: "reading".into(), cause: "no more".into() });
        }
        let mode = script.modes.pop_front().unwrap_or(Mode::Real);
        self.modes[mode as usize] += EXITS;
        let count = EXITS * script.samples;
        let code = ExitCode { isa: Isa::Svm, code: 0x72 };
        let counters = Counters { count, modes: Modes::new(self.modes), ..Counters::default() };
        let vm = Vm {
            id: VmId(7),
            pid: 4242,
            name: "made-up".into(),
            vmm: "none".into(),
            command: "".into(),
            labels: Default::default(),
            ended: script.ends.is_some_and(|end| script.samples >= end),
        };
        let vcpu = VcpuSample {
            vm: vm.id,
            vcpu: 0,
            exits: count,
            kvm_exits: Some(count),
            time: None,
            reasons: vec![ReasonCount { level: Level::L1, code, counters }],
        };
        Ok(Sample {
            monotonic_ns: self.begun_ns + script.samples * 100_000_000,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + script.samples),
            source: Source::Btf,
            measured: Measured::Counts,
            vms: vec![vm],
            vcpus: vec![vcpu],
            workers: Vec::new(),
            loss: Loss::default(),
        })
    }

    fn stop_following(&mut self) -> Result<(), Error> {
        let mut script = self.script.borrow_mut();
        script.stopped_following = Some(script.samples);
        Ok(())
    }

    fn take_marks(&mut self) -> Result<PortMarks, Error> {
        Ok(self.script.borrow_mut().marks.pop_front().unwrap_or_default())
    }

    fn source(&self) -> Source {
        Source::Btf
    }

    fn measured(&self) -> Measured {
        Measured::Counts
    }

    fn note(&self) -> Option<String> {
        Some("it is made up".into())
    }
}

/// A session on a script, and where its events come from.
fn session(script: Script, command: &[OsString]) -> (Session<'_>, Rc<RefCell<Script>>, Sender<Event>) {
    let script = Rc::new(RefCell::new(script));
    let source = MadeUp { script: script.clone(), begun_ns: monotonic_ns(), modes: [0; 5] };
    let (events, sender) = Events::scripted();
    (Session::new(Sampler::new(Box::new(source)), command, events), script, sender)
}

fn words(command: &[&str]) -> Vec<OsString> {
    command.iter().map(OsString::from).collect()
}

fn send(to: &Sender<Event>, events: &[Event]) {
    events.iter().for_each(|event| to.send(*event).unwrap());
}

/// Keeps all that it gets; fails at the interval of this number, from 1 on.
#[derive(Default)]
struct Kept {
    intervals: Vec<Interval>,
    events: Vec<IntervalEvents>,
    fails_at: Option<usize>,
    polled: Vec<u64>,
    finished: bool,
}

impl Sink for Kept {
    fn take(&mut self, observed: &Observed<'_>) -> anyhow::Result<()> {
        assert!(!self.finished);
        assert_eq!(observed.explanation.source.as_deref(), Some("it is made up"));
        if let Some(last) = self.intervals.last() {
            assert_eq!(last.end, observed.interval.start);
        }
        self.intervals.push(observed.interval.clone());
        self.events.push(observed.events.clone());
        anyhow::ensure!(self.fails_at != Some(self.intervals.len()), "the sink is full");
        Ok(())
    }

    fn polled(&mut self, exits: u64) {
        self.polled.push(exits);
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.finished = true;
        Ok(())
    }
}

impl Kept {
    fn exits(&self) -> Vec<u64> {
        self.intervals.iter().map(Interval::exits).collect()
    }

    fn marks(&self) -> Vec<Vec<&str>> {
        self.events.iter().map(|events| events.marks.iter().map(|mark| &*mark.text).collect()).collect()
    }

    fn phases(&self) -> Vec<Vec<(&str, Duration)>> {
        self.events
            .iter()
            .map(|events| events.phases.iter().map(|phase| (&*phase.name, phase.at)).collect())
            .collect()
    }

    /// End of the interval of this number, from 0 on.
    fn end(&self, number: usize) -> Duration {
        self.intervals[..=number].iter().map(|interval| interval.length).sum()
    }
}

/// Every poll ends an interval.
const EACH: Times = Times { duration: None, interval: Some(Duration::from_nanos(1)) };

fn port(port: u16, value: u8) -> PortMark {
    PortMark { monotonic_ns: monotonic_ns(), vm: VmId(7), vcpu: 0, port, value }
}

#[test]
fn without_an_interval_all_polls_are_one() {
    let (mut session, _, events) = session(Script::default(), &[]);
    send(&events, &[Event::Poll, Event::Poll, Event::Poll, Event::Signal(SIGINT)]);
    let (mut one, mut other) = (Kept::default(), Kept::default());
    let end = session.run(Times::default(), &mut Sinks::default().required(&mut one).required(&mut other));
    assert_eq!(end.unwrap(), End::Asked);
    // The signal is followed by a last poll.
    assert_eq!((one.exits(), &one.polled[..]), (vec![4 * EXITS], &[10, 20, 30, 40][..]));
    assert!(one.finished && one.intervals == other.intervals);
    assert_eq!((session.exits(), session.time()), (4 * EXITS, one.end(0)));
}

#[test]
fn each_interval_has_its_own_exits() {
    let (mut session, _, events) = session(Script::default(), &[]);
    send(&events, &[Event::Poll, Event::Poll, Event::Signal(SIGTERM)]);
    let mut kept = Kept::default();
    session.run(EACH, &mut Sinks::default().required(&mut kept)).unwrap();
    assert_eq!(kept.exits(), [EXITS; 3]);
    assert!(kept.phases().concat().is_empty());
}

#[test]
fn what_came_before_the_beginning_is_not_in_it() {
    let script =
        Script { marks: [PortMarks { marks: vec![port(0xf4, 1)], lost: 0 }].into(), ..Script::default() };
    let (mut session, _, events) = session(script, &[]);
    session.begin_here().unwrap();
    send(&events, &[Event::Signal(SIGINT)]);
    let mut kept = Kept::default();
    session.run(EACH, &mut Sinks::default().required(&mut kept)).unwrap();
    assert_eq!((kept.exits(), kept.marks()), (vec![EXITS], vec![vec![]]));
    assert_eq!(kept.end(0), Duration::from_millis(100));
}

#[test]
fn phases_begin_while_it_counts() {
    let script = Script { modes: [Mode::Real, Mode::Real, Mode::LongHigh].into(), ..Script::default() };
    let (mut session, _, events) = session(script, &[]);
    let (console, rules) = (ConsoleListener::new(Rules::default(), None), Rules::default());
    session.listen_to(console.clone(), rules);
    // A line asks for a poll, which ends the interval though none was due.
    assert!(console.feed(Duration::ZERO, b"SeaBIOS (version 1)\nhalf a"));
    send(&events, &[Event::Poll, Event::Poll, Event::Poll, Event::Signal(SIGINT)]);
    let mut kept = Kept::default();
    session.run(Times::default(), &mut Sinks::default().required(&mut kept)).unwrap();
    // The first interval ends with the line; nothing ends the second before the session does.
    assert_eq!(kept.exits(), [EXITS, 4 * EXITS]);
    let phases = kept.phases();
    assert_eq!(phases[0][0].1, Duration::ZERO);
    assert_eq!(phases[0].last().unwrap().0, "firmware");
    assert_eq!(phases[1], [("kernel", kept.end(0))]);
    let lines = |at: usize| kept.events[at].lines.iter().map(|line| &*line.text).collect::<Vec<_>>();
    assert_eq!((lines(0), lines(1)), (vec!["SeaBIOS (version 1)"], vec!["half a"]));
}

#[test]
fn a_line_of_the_console_ends_it() {
    let (mut session, _, events) = session(Script::default(), &[]);
    let console = ConsoleListener::new(Rules::default(), Some(Regex::new("ready").unwrap()));
    session.listen_to(console.clone(), Rules::default());
    assert_eq!(session.found(), None);
    console.feed(Duration::ZERO, b"we are ready \x1b[2J");
    send(&events, &[Event::Poll]);
    let mut kept = Kept::default();
    let end = session.run(Times::default(), &mut Sinks::default().required(&mut kept)).unwrap();
    assert_eq!(end, End::Asked);
    let found = session.found().unwrap();
    assert!(found.starts_with("\"we are ready") && found.ends_with("\" on the console"), "{found}");
    assert!(!found.contains('\x1b') && kept.finished, "{found}");
}

#[test]
fn a_login_ends_it_and_what_came_before_is_its_outcome() {
    let (mut session, _, events) = session(Script::default(), &[]);
    let console = ConsoleListener::new(Rules::default(), None);
    session.until_login();
    session.listen_to(console.clone(), Rules::default());
    let ms = Duration::from_millis;
    console.feed(ms(3), b"[    0.000000] Linux version 6.1\nKernel panic - not syncing: x\n");
    send(&events, &[Event::Poll]);
    let mut kept = Kept::default();
    let times = Times { duration: Some(Duration::ZERO), interval: None };
    session.run(times, &mut Sinks::default().required(&mut kept)).unwrap();
    let failed = session.outcome(End::Asked, None).unwrap();
    assert_eq!((failed.kind, failed.at, &*failed.phase), (Kind::Failed, ms(3), "kernel"));
    assert_eq!((failed.cause.as_deref(), failed.failures, failed.began_again), (Some("kernel panic"), 1, 0));
    assert!(session.has_failed() && session.found().is_none());

    console.feed(ms(4), b"[    0.000000] Linux version 6.1\n\x1b[1mhost\x1b[0m login: \x1b[6n");
    send(&events, &[Event::Poll]);
    // The sinks of the first run have finished.
    let mut kept = Kept::default();
    let end = session.run(Times::default(), &mut Sinks::default().required(&mut kept)).unwrap();
    let reached = session.outcome(end, None).unwrap();
    assert_eq!((reached.kind, reached.line.as_deref()), (Kind::Reached, Some("host login: ")));
    assert_eq!((reached.failures, reached.began_again, session.has_failed()), (1, 1, false));
}

#[test]
fn bytes_at_ports_are_marks_until_there_is_a_kernel() {
    let posts = |ports: &[(u16, u8)], lost| PortMarks {
        marks: ports.iter().map(|&(number, value)| port(number, value)).collect(),
        lost,
    };
    let script = Script {
        modes: [Mode::Real, Mode::LongHigh, Mode::LongHigh].into(),
        marks: [
            posts(&[(0x80, 1), (0x80, 1), (0x80, 2)], 3),
            // Linux passes time with these.
            posts(&[(0x80, 3), (0x80, 4), (0xf4, 5)], 0),
            posts(&[(0xf4, 0x10), (0xf4, 6)], 1),
        ]
        .into(),
        ..Script::default()
    };
    let (mut session, _, events) = session(script, &[]);
    session.listen_to(ConsoleListener::new(Rules::default(), None), Rules::default());
    session.until_mark(Some(Regex::new("^port 0xf4: 0x10$").unwrap()));
    send(&events, &[Event::Poll, Event::Poll, Event::Poll]);
    let mut kept = Kept::default();
    let end = session.run(EACH, &mut Sinks::default().required(&mut kept)).unwrap();
    assert_eq!((end, session.found().as_deref()), (End::Asked, Some("the mark \"port 0xf4: 0x10\"")));
    let marks = kept.marks();
    assert_eq!(marks[0], ["port 0x80: 0x01", "port 0x80: 0x02"]);
    assert_eq!(marks[1], ["port 0xf4: 0x05"]);
    assert_eq!(marks[2], ["port 0xf4: 0x10", "port 0xf4: 0x06"]);
    assert_eq!(kept.events.last().unwrap().left_out.marks, 4);
}

/// Makes marks by hand, one after the other, while a session runs. Returns what its maker was told about each.
fn mark(
    session: &mut Session<'_>,
    name: &str,
    texts: &[&str],
    sinks: &mut Sinks<'_>,
    events: &Sender<Event>,
) -> Vec<Result<(), String>> {
    let folder = std::env::temp_dir().join(format!("exitscope-engine-{name}-{}", std::process::id()));
    session.listen_for_marks(Inbox::open_in(&folder, session.poll_handle()).unwrap());
    let (texts, events) = (texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), events.clone());
    let from = folder.clone();
    let told = std::thread::spawn(move || {
        let told = texts.iter().map(|text| {
            let mut recorder = recorders(&from).map_err(|error| error.to_string())?.remove(0);
            recorder.send(text).map_err(|error| error.to_string())?;
            recorder.answer().map_err(|error| error.to_string())
        });
        let told = told.collect();
        events.send(Event::Signal(SIGINT)).unwrap();
        told
    });
    session.run(Times::default(), sinks).unwrap();
    let told = told.join().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    told
}

#[test]
fn a_mark_by_hand_ends_an_interval_and_is_answered_when_it_is_kept() {
    let (mut session, _, events) = session(Script::default(), &[]);
    let mut kept = Kept::default();
    let told =
        mark(&mut session, "kept", &["one", "two"], &mut Sinks::default().required(&mut kept), &events);
    assert_eq!(told, [Ok(()), Ok(())]);
    let marks = kept.marks();
    assert_eq!((&marks[0][..], &marks[1][..]), (&["one"][..], &["two"][..]));
    assert_eq!(kept.events[0].marks[0].origin, Origin::Hand);
}

#[test]
fn a_mark_that_an_optional_sink_does_not_keep_is_refused() {
    let (mut session, _, events) = session(Script::default(), &[]);
    let mut full = Kept { fails_at: Some(2), ..Kept::default() };
    let mut kept = Kept::default();
    let mut sinks = Sinks::default().optional(&mut full).required(&mut kept);
    let told = mark(&mut session, "full", &["one", "two", "three"], &mut sinks, &events);
    assert_eq!(sinks.into_failed().unwrap().to_string(), "the sink is full");
    let refused = |why: &str| Err(why.to_owned());
    assert_eq!(told, [Ok(()), refused("it could not be recorded"), refused("it is not recorded any more")]);
    // Who failed gets nothing more; the other gets everything.
    assert_eq!((full.intervals.len(), full.finished), (2, false));
    assert!(kept.finished);
    assert_eq!(kept.exits().iter().sum::<u64>(), session.exits());
}

#[test]
fn a_required_sink_that_fails_ends_it() {
    let command = words(&["sleep", "1000"]);
    let (mut session, _, events) = session(Script::default(), &command);
    session.start_command().unwrap();
    send(&events, &[Event::Poll, Event::Poll, Event::Poll]);
    let mut full = Kept { fails_at: Some(2), ..Kept::default() };
    let error = session.run(EACH, &mut Sinks::default().required(&mut full)).unwrap_err();
    assert_eq!(error.to_string(), "the sink is full");
    assert!(!full.finished);
    // The command is not ended by that, and can still be.
    send(&events, &[Event::Signal(SIGTERM)]);
    let end = session.wait_for_command();
    assert_eq!((end.words(), end.is_success()), ("with the command: signal: 15 (SIGTERM)".into(), false));
    // Who asks again is not kept waiting.
    assert_eq!(session.wait_for_command(), end);
}

#[test]
fn a_source_that_fails_ends_it() {
    let (mut session, _, events) = session(Script { fails: Some(2), ..Script::default() }, &[]);
    send(&events, &[Event::Poll, Event::Poll]);
    let mut kept = Kept::default();
    let error = session.run(EACH, &mut Sinks::default().required(&mut kept)).unwrap_err();
    assert_eq!(format!("{error:#}"), "cannot read the counters: reading: no more");
    assert_eq!((kept.exits(), kept.finished), (vec![EXITS], false));
}

#[test]
fn a_command_that_dies_ends_it_with_its_status() {
    for (script, status, code) in [
        ("exit 0", "exit status: 0", "0"),
        ("exit 7", "exit status: 7", "7"),
        ("kill -9 $$", "signal: 9 (SIGKILL)", "137"),
    ] {
        let command = words(&["sh", "-c", script]);
        // Its VM is gone with the third sample.
        let (mut session, seen, _) = session(Script { ends: Some(3), ..Script::default() }, &command);
        session.start_command().unwrap();
        assert_eq!(seen.borrow().stopped_following, Some(0));
        let mut kept = Kept::default();
        let end = session.run(Times::default(), &mut Sinks::default().required(&mut kept)).unwrap();
        assert_eq!(end.words(), format!("with the command: {status}"));
        assert!(format!("{:?}", end.code(true).unwrap()).contains(&format!("({code})")));
        // Polled until the VM was gone, and then no more.
        assert!(seen.borrow().samples >= 3 && kept.exits() == [EXITS * seen.borrow().samples]);
        assert!(kept.intervals[0].vms[&VmId(7)].ended);
    }
}

#[test]
fn a_command_that_cannot_be_run_says_so() {
    for (program, code) in [("/nonexistent/program", 127), ("/etc/passwd", 126)] {
        let command = words(&[program]);
        let (mut session, script, _) = session(Script::default(), &command);
        let error = session.start_command().unwrap_err();
        assert_eq!(error.downcast_ref::<CannotRun>().unwrap().code(), code);
        assert!(error.to_string().contains(program) && script.borrow().stopped_following.is_none());
    }
}

#[test]
fn a_second_signal_leaves_the_command_behind() {
    let command = words(&["sleep", "1000"]);
    let (mut session, _, events) = session(Script { ends: Some(1), ..Script::default() }, &command);
    session.start_command().unwrap();
    assert!(!session.was_interrupted());
    // A terminal sends this to the command itself.
    send(&events, &[Event::Signal(SIGINT), Event::Poll, Event::Signal(SIGINT)]);
    let mut kept = Kept::default();
    let end = session.run(EACH, &mut Sinks::default().required(&mut kept)).unwrap();
    assert_eq!(end, End::Abandoned(SIGINT));
    assert!(format!("{:?}", end.code(true).unwrap()).contains("(130)"));
    assert!(session.was_interrupted() && kept.finished);
    // It has not heard of either from us.
    session.stop_command(Duration::from_secs(60)).unwrap();
    assert_eq!(session.wait_for_command().words(), "with the command: signal: 15 (SIGTERM)");
}

#[test]
fn a_command_that_does_not_listen_is_killed() {
    let file = std::env::temp_dir().join(format!("exitscope-engine-deaf-{}", std::process::id()));
    let script = format!("trap '' TERM; : >{}; while :; do sleep 0.01; done", file.display());
    let command = words(&["sh", "-c", &script]);
    let (mut session, ..) = session(Script::default(), &command);
    session.start_command().unwrap();
    while !file.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_file(&file).unwrap();
    session.stop_command(Duration::from_secs(1)).unwrap();
    assert_eq!(session.wait_for_command().words(), "with the command: signal: 9 (SIGKILL)");
}

/// A VM that is there before the command and after it: nothing is followed, and nobody waits for its end.
#[test]
fn a_vm_that_runs_already_is_counted_while_a_command_runs() {
    let command = words(&["true"]);
    let (mut session, script, _sender) = session(Script::default(), &command);
    session.count_others();
    session.start_command().unwrap();
    let mut kept = Kept::default();
    let end = session.run(Times::default(), &mut Sinks::default().required(&mut kept)).unwrap();
    assert!(end.is_success());
    assert_eq!((script.borrow().stopped_following, script.borrow().samples), (None, 1));
}
