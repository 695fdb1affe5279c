//! A connection whose every wait ends at a moment.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stream with a moment at which reading and writing fail, however little by little bytes come or go.
pub struct Timed {
    stream: Arc<TcpStream>,
    end: Instant,
}

impl Timed {
    /// Takes a stream. It may be shut down elsewhere.
    pub fn new(stream: Arc<TcpStream>) -> Timed {
        Timed { stream, end: Instant::now() }
    }

    /// Sets the moment.
    pub fn end_after(&mut self, time: Duration) {
        self.end = Instant::now() + time;
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        left.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        (&*self.stream).read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        (&*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
