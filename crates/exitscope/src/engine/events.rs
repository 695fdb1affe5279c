//! Events that a session waits for: a moment, a signal, the end of its command, a request to poll.

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The moment that was waited for has come.
    Time,
    /// SIGINT, SIGTERM or SIGHUP came.
    Signal(i32),
    /// The process ended.
    Ended(ExitStatus),
    /// Another thread asks for a poll of the counters.
    Poll,
}

/// Lets another thread ask for a poll.
pub struct PollHandle(Sender<Event>);

impl PollHandle {
    /// Asks for one.
    pub fn request(&self) {
        // Nobody listens any more at the end.
        let _ = self.0.send(Event::Poll);
    }

    /// A handle whose requests go nowhere.
    #[cfg(test)]
    pub fn unheard() -> PollHandle {
        PollHandle(mpsc::channel().0)
    }
}

/// Queue of events.
pub struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Events {
    /// Makes events of the signals that end a program, from here on.
    ///
    /// # Errors
    /// If signals cannot be handled.
    pub fn listen() -> anyhow::Result<Events> {
        let events = Events::new();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
        let to = events.sender.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if to.send(Event::Signal(signal)).is_err() {
                    break;
                }
            }
        })?;
        Ok(events)
    }

    /// An empty queue that hears of no signal.
    fn new() -> Events {
        let (sender, receiver) = mpsc::channel();
        Events { sender, receiver }
    }

    /// A queue into which a test puts its own events.
    #[cfg(test)]
    pub fn scripted() -> (Events, Sender<Event>) {
        let events = Events::new();
        let sender = events.sender.clone();
        (events, sender)
    }

    /// Makes an event of the end of this process.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn watch(&self, mut child: Child) -> anyhow::Result<()> {
        let to = self.sender.clone();
        thread::Builder::new().name("child".into()).spawn(move || {
            if let Ok(status) = child.wait() {
                // Nobody listens any more where we end first.
                let _ = to.send(Event::Ended(status));
            }
        })?;
        Ok(())
    }

    /// Lets other threads ask for a poll.
    pub fn poll_handle(&self) -> PollHandle {
        PollHandle(self.sender.clone())
    }

    /// Waits for the next event. Returns [`Event::Time`] at `moment`.
    pub fn until(&self, moment: Instant) -> Event {
        match self.receiver.recv_timeout(moment.saturating_duration_since(Instant::now())) {
            Ok(event) => event,
            // The sender in `self` keeps the channel open.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Event::Time,
        }
    }

    /// The same after `time`.
    pub fn within(&self, time: Duration) -> Event {
        self.until(Instant::now() + time)
    }
}
