//! One connection: requests and answers, one after the other.

use super::answer::{self, Parsed, Request};
use super::auth::Auth;
use super::desk::Desk;
use super::timed::Timed;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Maximum length of a request's head.
const HEAD: usize = 8192;

/// Time for the first request to come, TLS' handshake included.
const FIRST: Duration = Duration::from_secs(10);

/// Time for the next one.
const NEXT: Duration = Duration::from_secs(120);

/// Time for an answer to be taken.
const TAKEN: Duration = Duration::from_secs(30);

/// Readings that are written at a time: each may be one of another moment, and is held until it is taken.
const WRITTEN: usize = 16;

/// Length of the pieces in which an answer is written.
const PIECE: usize = 64 << 10;

/// State that all connections share.
pub struct Service {
    /// Place where readings come from.
    pub desk: Arc<Desk>,
    /// TLS; `None` where it is not spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// Users who may read.
    pub auth: Auth,
    /// Readings that are being written.
    pub written: AtomicUsize,
}

impl Service {
    /// Answers until the connection ends. `is_waiting` is true while no request is being answered.
    pub fn serve(&self, stream: Arc<TcpStream>, is_waiting: &AtomicBool) {
        let timed = Timed::new(stream);
        // An error is the end of the connection, and nobody's business.
        let _ = match &self.tls {
            None => self.talk(timed, |timed| timed, is_waiting),
            Some(config) => ServerConnection::new(config.clone()).map_err(io::Error::other).and_then(|tls| {
                self.talk(StreamOwned::new(tls, timed), |stream| &mut stream.sock, is_waiting)
            }),
        };
    }

    fn talk<S: Read + Write>(
        &self,
        mut stream: S,
        timed: impl Fn(&mut S) -> &mut Timed,
        is_waiting: &AtomicBool,
    ) -> io::Result<()> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut patience = FIRST;
        loop {
            timed(&mut stream).end_after(patience);
            let request = loop {
                match answer::parse(&bytes) {
                    Parsed::Whole(request, length) => {
                        bytes.drain(..length);
                        break request;
                    }
                    Parsed::Partial if bytes.len() < HEAD => {
                        let mut piece = [0; 1024];
                        let room = (HEAD - bytes.len()).min(piece.len());
                        match stream.read(&mut piece[..room])? {
                            0 => return Ok(()),
                            length => bytes.extend_from_slice(&piece[..length]),
                        }
                    }
                    Parsed::Partial => return refuse(&mut stream, "431 Request Header Fields Too Large"),
                    Parsed::Wrong => return refuse(&mut stream, "400 Bad Request"),
                }
            };
            is_waiting.store(false, Ordering::Relaxed);
            timed(&mut stream).end_after(TAKEN);
            self.answer(&mut stream, &request)?;
            is_waiting.store(true, Ordering::Relaxed);
            if !request.keep_alive {
                return Ok(());
            }
            patience = NEXT;
        }
    }

    fn answer(&self, stream: &mut impl Write, request: &Request) -> io::Result<()> {
        const TEXT: &str = "text/plain; charset=utf-8";
        let plain = |stream: &mut _, status: &str| {
            write_answer(stream, request, status, TEXT, false, format!("{status}\n").as_bytes())
        };
        if !self.auth.allows(request.authorization.as_deref()) {
            return plain(stream, "401 Unauthorized");
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return plain(stream, "405 Method Not Allowed");
        }
        match request.path.as_str() {
            "/" => {
                let page = answer::landing_page();
                write_answer(stream, request, "200 OK", "text/html; charset=utf-8", false, page.as_bytes())
            }
            "/metrics" => {
                let Some(_place) = Place::take(&self.written) else {
                    return plain(stream, "503 Service Unavailable");
                };
                let Some(reading) = self.desk.reading(request.format) else {
                    return plain(stream, "503 Service Unavailable");
                };
                let kind = request.format.content_type();
                write_answer(stream, request, "200 OK", kind, request.gzip, reading.body(request.gzip))
            }
            _ => plain(stream, "404 Not Found"),
        }
    }
}

/// Place among the readings that are written.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize) -> Option<Place<'a>> {
        let more = |taken: usize| (taken < WRITTEN).then_some(taken + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Place(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn write_answer(
    stream: &mut impl Write,
    request: &Request,
    status: &str,
    kind: &str,
    gzip: bool,
    body: &[u8],
) -> io::Result<()> {
    stream.write_all(answer::head(status, kind, body.len(), gzip, request.keep_alive).as_bytes())?;
    if request.method != "HEAD" {
        for piece in body.chunks(PIECE) {
            stream.write_all(piece)?;
        }
    }
    stream.flush()
}

/// Answers what is no request, and ends the connection.
fn refuse(stream: &mut impl Write, status: &str) -> io::Result<()> {
    stream.write_all(answer::head(status, "text/plain; charset=utf-8", 0, false, false).as_bytes())?;
    stream.flush()
}
