//! The loop of `exitscope top`: keys, the terminal, and the moment of the next interval.

use super::replay::Cursor;
use super::screen::{Input, Screen};
use crate::engine::{Event, Events, Sampler};
use crate::top::{self, Effect, Mode, State};
use anyhow::bail;
use exitscope_view::unit;
use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Shortest time that an interval of a recording is shown, where it goes on by itself.
const FASTEST: Duration = Duration::from_millis(50);

/// Number of names that are tried for a file.
const MAX_NAMES: u32 = 1000;

/// Time to wait while nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Source of intervals.
pub enum Source {
    /// A source that counts now.
    Live(Box<Sampler>),
    /// A recording.
    Replay(Box<Cursor>),
}

/// A screen that is being shown.
pub struct Run {
    /// Source of its intervals.
    pub source: Source,
    /// State of the screen.
    pub state: State,
    /// Moment of the next interval; `None` while a recording stands still.
    pub next: Option<Instant>,
    /// Time that an interval of a recording is shown, where that was asked for.
    pub pace: Option<Duration>,
}

impl Run {
    /// Shows until it is asked to stop.
    ///
    /// # Errors
    /// If the terminal cannot be used, or no interval can be read.
    pub fn until_end(mut self, events: &Events) -> anyhow::Result<ExitCode> {
        let mut screen = Screen::open(events)?;
        loop {
            screen.draw(&mut self.state)?;
            match events.until(self.next.unwrap_or_else(|| Instant::now() + IDLE)) {
                Event::Signal(_) => break,
                Event::Time => self.next_interval()?,
                Event::Poll => {
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
                    // However much comes, intervals end in time.
                    if self.next.is_some_and(|next| Instant::now() >= next) {
                        self.next_interval()?;
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
                Effect::Poll => {
                    if let Source::Live(_) = self.source {
                        self.next_interval()?;
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

    /// Takes the next interval, whose moment has come.
    fn next_interval(&mut self) -> anyhow::Result<()> {
        match &mut self.source {
            Source::Live(sampler) => {
                let interval = sampler.next_interval()?;
                // What is known about the numbers changes as VMs come and go.
                self.state.explanation = sampler.explanation();
                self.state.take(interval);
                self.next = Some(Instant::now() + self.state.delay);
            }
            Source::Replay(_) => self.go(1)?,
        }
        Ok(())
    }

    /// Goes so many intervals further in a recording, or back.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn go(&mut self, by: isize) -> anyhow::Result<()> {
        let Source::Replay(cursor) = &mut self.source else { return Ok(()) };
        let there = cursor.go(by, &mut self.state)?;
        if let Mode::Replay(replay) = &mut self.state.mode {
            // At the end it stops.
            replay.playing &= there || by < 0;
        }
        self.next = None;
        self.keep_time();
        Ok(())
    }

    /// Sets the moment of the next interval of a recording: none while it stands still.
    fn keep_time(&mut self) {
        let (Source::Replay(cursor), Mode::Replay(replay)) = (&self.source, &self.state.mode) else { return };
        let pace = self.pace.unwrap_or_else(|| cursor.length().clamp(FASTEST, super::DELAY));
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

/// Creates a new file whose name begins like this. What is there already is left as it is.
fn create(name: &str) -> io::Result<(File, String)> {
    for number in 1..=MAX_NAMES {
        let name = if number == 1 { format!("{name}.json") } else { format!("{name}-{number}.json") };
        match File::options().write(true).create_new(true).open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(|file| (file, name)),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{name}.json and {MAX_NAMES} names like it exist"),
    ))
}
