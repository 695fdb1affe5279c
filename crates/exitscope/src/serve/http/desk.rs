//! Readings that scrapes ask for. Scrapes that overlap share one.

use crate::serve::channel;
use exitscope_view::metrics::Exposition;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time that a reading may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One reading in one format.
pub struct Reading {
    text: Vec<u8>,
    packed: OnceLock<Vec<u8>>,
}

impl Reading {
    /// The text, or the same packed by gzip, which is done once for all that ask.
    pub fn body(&self, gzip: bool) -> &[u8] {
        if !gzip {
            return &self.text;
        }
        self.packed.get_or_init(|| pack(&self.text))
    }
}

/// Packs a text by gzip.
pub fn pack(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(text);
    encoder.finish().unwrap_or_default()
}

#[derive(Default)]
struct State {
    /// Formats that are asked for next.
    wanted: u8,
    /// Formats that are asked for now.
    under_way: u8,
    /// Number of times that was asked, and was answered.
    begun: u64,
    done: u64,
    last: BTreeMap<Exposition, Arc<Reading>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Place where scrapes get readings.
pub struct Desk(Arc<Shared>);

impl Desk {
    /// Asks the collector over `channel`, in a thread, which waits for `started` first and ends the process with the channel.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn open(channel: UnixStream, started: Arc<Barrier>) -> io::Result<(Desk, JoinHandle<()>)> {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let work = move || {
            started.wait();
            let ended = ask(&own, channel);
            if let Some(error) = &ended {
                let what = "the collector ended, and with it the process that speaks HTTP";
                // Nobody is left to tell if this fails.
                let _ = writeln!(io::stderr(), "exitscope: {what} ({error})");
            }
            std::process::exit(ended.is_some().into());
        };
        let thread = thread::Builder::new().name("desk".into()).spawn(work)?;
        Ok((Desk(shared), thread))
    }

    /// Returns a reading that was begun after this call, or is under way; `None` if there is none in time.
    pub fn reading(&self, format: Exposition) -> Option<Arc<Reading>> {
        let bit = channel::bit(format);
        let mut state = self.0.lock();
        let target = if state.under_way & bit != 0 {
            state.begun
        } else {
            state.wanted |= bit;
            self.0.changed.notify_all();
            state.begun + 1
        };
        let end = Instant::now() + PATIENCE;
        while state.done < target {
            let left = end.checked_duration_since(Instant::now())?;
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.last.get(&format).cloned()
    }
}

/// Asks for what is wanted until the collector ends. Returns the error that ends it; `None` if it said goodbye.
fn ask(shared: &Shared, mut channel: UnixStream) -> Option<io::Error> {
    // While nothing is wanted the end of the collector is noticed, too.
    loop {
        let mut state = shared.lock();
        while state.wanted == 0 {
            let waited = shared.changed.wait_timeout(state, Duration::from_millis(500));
            let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            if timeout.timed_out() {
                match is_open(&channel) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(error) => return Some(error),
                }
            }
        }
        let mask = std::mem::take(&mut state.wanted);
        state.under_way = mask;
        state.begun += 1;
        drop(state);
        match fetch(&mut channel, mask) {
            Ok(readings) => {
                let mut state = shared.lock();
                state.last.extend(readings);
                state.under_way = 0;
                state.done = state.begun;
                shared.changed.notify_all();
            }
            Err(error) => return Some(error),
        }
    }
}

/// Looks at the channel, hardly waiting. The collector never speaks first, but to say goodbye: then it is false.
fn is_open(channel: &UnixStream) -> io::Result<bool> {
    // Making it not wait at all would take an ioctl, which is not allowed here.
    channel.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut stream = channel;
    let read = stream.read(&mut [0]);
    channel.set_read_timeout(None)?;
    match read {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(false),
    }
}

fn fetch(channel: &mut UnixStream, mask: u8) -> io::Result<Vec<(Exposition, Arc<Reading>)>> {
    channel.write_all(&[mask])?;
    let formats = channel::formats(mask).unwrap_or_default();
    let receive = |format| {
        let text = channel::receive(channel)?;
        Ok((format, Arc::new(Reading { text, packed: OnceLock::new() })))
    };
    formats.into_iter().map(receive).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapes_that_overlap_share_one_reading() {
        let (own, mut collector) = UnixStream::pair().unwrap();
        let (desk, _) = Desk::open(own, Arc::new(Barrier::new(1))).unwrap();
        let desk = Arc::new(desk);
        let scrape = |format| {
            let desk = desk.clone();
            thread::spawn(move || desk.reading(format).unwrap().body(false).to_vec())
        };
        // The first asks; while it is answered others come.
        let first = scrape(Exposition::OpenMetrics);
        let mut byte = [0];
        collector.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [2]);
        let others: Vec<_> = (0..20).map(|_| scrape(Exposition::OpenMetrics)).collect();
        let plain: Vec<_> = (0..3).map(|_| scrape(Exposition::Prometheus)).collect();
        while desk.0.lock().wanted == 0 || Arc::strong_count(&desk) < 25 {
            thread::yield_now();
        }
        // Threads that are counted may not have got to the lock: those get the next reading.
        channel::send(&mut collector, b"one").unwrap();
        assert_eq!(first.join().unwrap(), b"one");
        let mut asked = 0;
        let answering = thread::spawn(move || {
            let mut byte = [0];
            while collector.read_exact(&mut byte).is_ok() {
                for _ in channel::formats(byte[0]).unwrap() {
                    channel::send(&mut collector, b"later").unwrap();
                }
                asked += 1;
                if asked == 50 {
                    break;
                }
            }
            collector
        });
        for other in others {
            let text = other.join().unwrap();
            assert!(text == b"one" || text == b"later");
        }
        assert!(plain.into_iter().all(|plain| plain.join().unwrap() == b"later"));
        // Kept, or its end would end this process.
        std::mem::forget(answering);
    }

    #[test]
    fn a_packed_body_is_the_text() {
        let reading = Reading { text: b"a 1\n".repeat(1000), packed: OnceLock::new() };
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(reading.body(true)).read_to_end(&mut text).unwrap();
        assert_eq!(text, reading.body(false));
        assert!(reading.body(true).len() < 200);
    }
}
