//! `exitscope top`: wires a terminal to what counts, or to a recording.

mod replay;
mod screen;

use crate::cli;
use crate::engine::events::{Event, Events};
use crate::engine::watch::{self, Watch};
use crate::top::{self, Effect, Mode, Replay, State};
use anyhow::bail;
use exitscope_record::Recording;
use exitscope_view::{Explanation, text, unit};
use replay::Tape;
use screen::{Input, Screen};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often to look where nothing else is asked for, and the slowest that a recording is played by itself.
const DELAY: Duration = Duration::from_secs(1);

/// The first look comes soon, so that there is something to see.
const FIRST: Duration = Duration::from_millis(250);

/// The fastest that a recording is played.
const FASTEST: Duration = Duration::from_millis(50);

/// How many names are tried for a file.
const NAMES: u32 = 1000;

/// Shows, until it is asked to stop.
pub fn run(args: &cli::Top) -> anyhow::Result<ExitCode> {
    screen::check()?;
    match &args.file {
        Some(file) => replay(args, file),
        None => live(args),
    }
}

fn live(args: &cli::Top) -> anyhow::Result<ExitCode> {
    let select = watch::select(&args.watch)?;
    let events = Events::listen()?;
    let Some(watch) = Watch::start(&watch::options(&args.watch, select), &events, true)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let delay = args.interval.unwrap_or(DELAY);
    let state = State::new(Mode::Live, delay);
    let first = Instant::now() + delay.min(FIRST);
    Run { source: Source::Live(Box::new(watch)), state, next: Some(first), pace: None }.until_end(&events)
}

fn replay(args: &cli::Top, file: &Path) -> anyhow::Result<ExitCode> {
    let recording = Recording::open(file)?;
    let (.., length) = recording.span()?;
    let (pids, guests) = (args.watch.pid.clone(), args.watch.guest.clone());
    let keep = move |vm: &exitscope_model::Vm| {
        (pids.is_empty() && guests.is_empty()) || pids.contains(&vm.pid) || guests.contains(&vm.name)
    };
    if !recording.vms().any(&keep) && recording.vms().next().is_some() {
        let seen: Vec<String> = recording
            .vms()
            .take(20)
            .map(|vm| format!("{} ({})", text::clean(&vm.name, 60), vm.pid))
            .collect();
        bail!("{} has no VM that -p or -g names; it has {}", file.display(), seen.join(", "));
    }
    let name = file.file_name().map_or(String::new(), |name| text::clean(&name.to_string_lossy(), 60));
    let count = recording.len();
    let notes = recording.notes().clone();
    let tidy = |words: Option<String>| words.map(|words| text::clean(&words, 400));
    let events = Events::listen()?;
    let (tape, rates) = Tape::open(recording, keep)?;
    let replay = Replay { name, count, length, rates, ..Replay::default() };
    let mut state = State::new(Mode::Replay(replay), args.interval.unwrap_or(DELAY));
    state.explanation = Explanation {
        kvm_counts_fewer: tidy(notes.kvm_counts_fewer),
        kvm_missing: tidy(notes.kvm_missing),
        source: tidy(notes.source),
    };
    let mut run = Run { source: Source::Tape(Box::new(tape)), state, next: None, pace: args.interval };
    run.go(0)?;
    run.until_end(&events)
}

enum Source {
    Live(Box<Watch>),
    Tape(Box<Tape>),
}

struct Run {
    source: Source,
    state: State,
    /// When to look next; `None` while a recording stands still.
    next: Option<Instant>,
    /// How long an interval of a recording is shown, where that was asked for.
    pace: Option<Duration>,
}

/// How long to wait where nothing is to be looked at.
const IDLE: Duration = Duration::from_secs(3600);

impl Run {
    fn until_end(mut self, events: &Events) -> anyhow::Result<ExitCode> {
        let mut screen = Screen::open(events)?;
        loop {
            screen.draw(&mut self.state)?;
            match events.until(self.next.unwrap_or_else(|| Instant::now() + IDLE)) {
                Event::Signal(_) => break,
                Event::Time => self.time()?,
                Event::Look => {
                    // What came together is drawn together.
                    let mut moved = 0isize;
                    for input in screen.inputs() {
                        match self.input(input, &mut screen, &mut moved)? {
                            Next::On => {}
                            Next::End => return Ok(ExitCode::SUCCESS),
                        }
                    }
                    if moved != 0 {
                        self.go(moved)?;
                    }
                    // However much comes, it is looked in time.
                    if self.next.is_some_and(|next| Instant::now() >= next) {
                        self.time()?;
                    }
                }
                Event::Ended(_) => {}
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn input(&mut self, input: Input, screen: &mut Screen, moved: &mut isize) -> anyhow::Result<Next> {
        match input {
            Input::Event(event) => match top::handle(&mut self.state, &event) {
                Effect::Nothing => self.keep_time(),
                Effect::Quit => return Ok(Next::End),
                Effect::Suspend => screen.suspend()?,
                Effect::Write(name, bytes) => self.write(&name, &bytes),
                Effect::Delay(delay) => {
                    self.pace = Some(delay);
                    self.next = self.next.map(|_| Instant::now() + delay);
                }
                Effect::Look => {
                    if let Source::Live(_) = self.source {
                        self.time()?;
                    }
                }
                Effect::Move(by) => {
                    *moved = moved.saturating_add(by);
                    self.keep_time();
                }
            },
            Input::Resized => screen.renew()?,
            Input::Suspend => screen.suspend()?,
            Input::Continued => screen.again()?,
            Input::Gone(error) => bail!("cannot read from the terminal: {error}"),
        }
        Ok(Next::On)
    }

    /// The moment to look has come.
    fn time(&mut self) -> anyhow::Result<()> {
        match &mut self.source {
            Source::Live(watch) => {
                let interval = watch.next()?;
                // What is known about the numbers changes as VMs come and go.
                self.state.explanation = watch.explanation();
                self.state.take(interval);
                self.next = Some(Instant::now() + self.state.delay);
            }
            Source::Tape(_) => self.go(1)?,
        }
        Ok(())
    }

    /// Goes so many intervals further in a recording, or back.
    fn go(&mut self, by: isize) -> anyhow::Result<()> {
        let Source::Tape(tape) = &mut self.source else { return Ok(()) };
        let there = tape.go(by, &mut self.state)?;
        if let Mode::Replay(replay) = &mut self.state.mode {
            // At the end it stops.
            replay.playing &= there || by < 0;
        }
        self.next = None;
        self.keep_time();
        Ok(())
    }

    /// A recording that plays has a next moment, one that does not has none.
    fn keep_time(&mut self) {
        let (Source::Tape(tape), Mode::Replay(replay)) = (&self.source, &self.state.mode) else { return };
        let pace = self.pace.unwrap_or_else(|| tape.length().clamp(FASTEST, DELAY));
        self.next = replay.playing.then(|| self.next.unwrap_or_else(|| Instant::now() + pace));
    }

    fn write(&mut self, name: &str, bytes: &[u8]) {
        match create(name).and_then(|(mut file, name)| file.write_all(bytes).map(|()| name)) {
            Ok(name) => self.state.say(format!("wrote {name} ({})", unit::bytes(bytes.len() as u64)), false),
            Err(error) => {
                let place =
                    std::env::current_dir().map_or("here".into(), |here| format!("in {}", here.display()));
                self.state.say(format!("cannot write a file {place}: {error}"), true);
            }
        }
    }
}

enum Next {
    On,
    End,
}

/// A new file, whose name begins like this: what is there already is left as it is.
fn create(name: &str) -> io::Result<(File, String)> {
    for number in 1..=NAMES {
        let name = if number == 1 { format!("{name}.json") } else { format!("{name}-{number}.json") };
        match File::options().write(true).create_new(true).open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(|file| (file, name)),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name}.json and {NAMES} names like it exist")))
}
