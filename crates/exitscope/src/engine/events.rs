//! What a command waits for: the next moment to look, a signal, the end of the process that it started.

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The moment that was waited for has come.
    Time,
    /// SIGINT, SIGTERM or SIGHUP came.
    Signal(i32),
    /// The process ended.
    Ended(ExitStatus),
    /// Another thread has seen something, so that it is worth a look.
    Look,
}

/// Lets another thread ask for a look.
pub struct Waker(Sender<Event>);

impl Waker {
    /// Asks for one.
    pub fn wake(&self) {
        // Nobody listens any more where we are at the end.
        let _ = self.0.send(Event::Look);
    }

    /// One whom nobody hears.
    #[cfg(test)]
    pub fn unheard() -> Waker {
        Waker(mpsc::channel().0)
    }
}

/// Where events come from.
pub struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Events {
    /// From here on, the signals that end a program are events instead.
    pub fn listen() -> anyhow::Result<Events> {
        let (sender, receiver) = mpsc::channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
        let to = sender.clone();
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if to.send(Event::Signal(signal)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Events { sender, receiver })
    }

    /// The end of this process is an event.
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

    /// Where other threads can ask for a look.
    pub fn waker(&self) -> Waker {
        Waker(self.sender.clone())
    }

    /// Waits for the next event, until `moment` at the latest.
    pub fn until(&self, moment: Instant) -> Event {
        match self.receiver.recv_timeout(moment.saturating_duration_since(Instant::now())) {
            Ok(event) => event,
            // The sender in `self` keeps the channel open.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Event::Time,
        }
    }

    /// Waits for the next event, this long at most.
    pub fn within(&self, time: Duration) -> Event {
        self.until(Instant::now() + time)
    }
}
