//! The process that counts: reads the counters for each scrape, and now and then without one.

use super::channel;
use super::ledger::Ledger;
use super::{Textfile, own};
use crate::engine::{Event, Events, PollHandle, Sampler};
use anyhow::{Context, bail};
use exitscope_collect as collect;
use exitscope_collect::host::Machine;
use exitscope_model::Interval;
use exitscope_view::metrics::{self, Counted, Exposition, Options, Own};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Time between two attempts to start while KVM is not loaded.
const RETRY: Duration = Duration::from_secs(1);

/// Time that the HTTP process has to take a text.
const SEND: Duration = Duration::from_secs(10);

/// Source of intervals.
pub enum Feed {
    /// Not started: KVM is waited for.
    Waiting(Box<collect::Options>),
    /// The host's VMs.
    Live(Box<Sampler>),
    /// A host that is made up.
    #[cfg(feature = "lab-tests")]
    MadeUp(Box<exitscope_model::generator::Generator>),
}

/// The collector, ready to run.
pub struct Collector {
    /// Source of intervals.
    pub feed: Feed,
    /// Choice of series.
    pub options: Options,
    /// Longest time between two readings.
    pub every: Duration,
    /// Sums of all intervals.
    pub ledger: Ledger,
    /// File that is written at each reading, if any.
    pub textfile: Option<Textfile>,
}

/// The HTTP process: its end, and the channel to it.
pub struct Http {
    child: u32,
    channel: UnixStream,
    requests: Receiver<u8>,
}

impl Http {
    /// Waits until `child` listens, and lets `events` know of its requests and its end. `None` if it ended before, and has
    /// said why.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn connect(mut child: Child, channel: UnixStream, events: &Events) -> anyhow::Result<Option<Http>> {
        let mut first = [0xff];
        if (&channel).read_exact(&mut first).is_err() || first != [channel::READY] {
            let status = child.wait().context("cannot wait for the process that speaks HTTP")?;
            if status.code().is_none() {
                bail!(ended(status));
            }
            return Ok(None);
        }
        channel.set_write_timeout(Some(SEND))?;
        let pid = child.id();
        let requests = listen(channel.try_clone()?, events.poll_handle())?;
        events.watch(child)?;
        Ok(Some(Http { child: pid, channel, requests }))
    }
}

/// Reads the bytes that ask, in a thread.
fn listen(mut channel: UnixStream, poll: PollHandle) -> anyhow::Result<Receiver<u8>> {
    let (to, requests) = mpsc::sync_channel(1);
    thread::Builder::new().name("requests".into()).spawn(move || {
        let mut byte = [0];
        // The end of the process is an event of its own.
        while channel.read_exact(&mut byte).is_ok() && to.send(byte[0]).is_ok() {
            poll.request();
        }
    })?;
    Ok(requests)
}

impl Collector {
    /// Counts until a signal comes.
    ///
    /// # Errors
    /// If nothing can be counted, the HTTP process ended, or the text file cannot be written.
    pub fn run(mut self, http: Option<Http>, events: &Events) -> anyhow::Result<()> {
        let host = Machine::probe();
        let start = SystemTime::now();
        let mut own = Own::default();
        let mut announced = false;
        loop {
            if let Feed::Waiting(options) = &self.feed {
                match Sampler::try_start(options)? {
                    Some(sampler) => {
                        let sampler = if self.options.workers { sampler } else { sampler.without_workers() };
                        self.feed = Feed::Live(Box::new(sampler));
                        say("counting")?;
                    }
                    None if !announced => {
                        say("KVM is not loaded; waiting for it")?;
                        announced = true;
                    }
                    None => {}
                }
            }
            let wait = if matches!(self.feed, Feed::Waiting(_)) { RETRY } else { self.every };
            let asked = match self.next(http.as_ref(), events, Instant::now() + wait)? {
                Next::End => {
                    if let Some(http) = &http {
                        // It ends with the channel in any case.
                        let _ = (&http.channel).write_all(&[channel::GOODBYE]);
                    }
                    return Ok(());
                }
                Next::Due => Vec::new(),
                Next::Asked(formats) => formats,
            };
            self.read(&mut own)?;
            own.processes =
                [Some(("collector", std::process::id())), http.as_ref().map(|http| ("http", http.child))]
                    .into_iter()
                    .flatten()
                    .filter_map(|(name, pid)| own::cost(pid).map(|(ns, bytes)| (name, ns, bytes)))
                    .collect();
            let render = |format: Exposition| {
                let counted = Counted {
                    version: env!("CARGO_PKG_VERSION"),
                    kernel: &host.kernel,
                    cpu: &host.cpu,
                    start,
                    total: self.ledger.total(),
                    vms: self.ledger.names(),
                    departed: self.ledger.departed(),
                    own: &own,
                };
                metrics::render(&counted, &Options { format, ..self.options })
            };
            if let Some(textfile) = &self.textfile {
                textfile.replace(&render(Exposition::Prometheus))?;
            }
            if let Some(http) = &http {
                for format in asked {
                    channel::send(&mut &http.channel, &render(format))
                        .context("the process that speaks HTTP does not take what was counted")?;
                }
            }
        }
    }

    /// Waits for the next thing to do.
    fn next(&self, http: Option<&Http>, events: &Events, due: Instant) -> anyhow::Result<Next> {
        loop {
            match events.until(due) {
                Event::Time => return Ok(Next::Due),
                Event::Signal(_) => return Ok(Next::End),
                Event::Ended(status) => bail!(ended(status)),
                Event::Poll => {
                    let Some(byte) = http.and_then(|http| http.requests.try_recv().ok()) else { continue };
                    let formats = channel::formats(byte).with_context(|| {
                        format!("the process that speaks HTTP asks for {byte:#x}, which is nothing")
                    })?;
                    return Ok(Next::Asked(formats));
                }
            }
        }
    }

    /// Reads the counters.
    fn read(&mut self, own: &mut Own) -> anyhow::Result<()> {
        let begin = Instant::now();
        let interval: Interval = match &mut self.feed {
            Feed::Waiting(_) => return Ok(()),
            Feed::Live(sampler) => sampler.next_interval()?,
            #[cfg(feature = "lab-tests")]
            Feed::MadeUp(generator) => generator.next().context("a made-up host ended")?,
        };
        self.ledger.take(interval);
        own.readings += 1;
        own.reading_ns += u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(())
    }
}

enum Next {
    Due,
    Asked(Vec<Exposition>),
    End,
}

fn ended(status: ExitStatus) -> String {
    format!("the process that speaks HTTP ended ({status}), and with it this one")
}

/// Writes a line to standard error.
fn say(message: &str) -> io::Result<()> {
    writeln!(io::stderr(), "exitscope: {message}")
}
