//! Marks of a session: those made by hand, and bytes that guests write to ports for that.

use super::inbox::{Inbox, Request};
use exitscope_analysis::boot_report::{Mark, Origin};
use exitscope_collect::{PortMark, PortMarks};
use regex::Regex;
use std::time::Duration;

/// Largest number of marks of either origin that are kept.
const MAX_MARKS: usize = 10_000;

/// Port of the POST codes of firmware. Linux writes there as well, to pass some time, whatever it has in the register
/// (`native_io_delay()`, arch/x86/kernel/io_delay.c; `io_delay()`, arch/x86/boot/boot.h). So a byte there is no mark once
/// a kernel runs, and a byte that comes again is the same mark.
const POST: u16 = 0x80;

/// Collects marks until an interval takes them.
#[derive(Default)]
pub struct Marks {
    inbox: Option<Inbox>,
    /// Ends the session.
    until: Option<Regex>,
    found: Option<String>,
    /// Marks since the last interval, and who waits for an answer to them.
    new: Vec<Mark>,
    waiting: Vec<Request>,
    by_hand: usize,
    by_port: usize,
    /// Last byte at [`POST`].
    posted: Option<u8>,
    left_out: u64,
    /// A sink failed, so that a mark by hand would not be kept.
    unkept: bool,
}

impl Marks {
    /// Takes marks that come to this socket.
    pub fn listen(&mut self, inbox: Inbox) {
        self.inbox = Some(inbox);
    }

    /// Ends the session with the first mark that this matches.
    pub fn until(&mut self, until: Option<Regex>) {
        self.until = until;
    }

    /// Text of the mark that ended the session.
    pub fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// Number of marks that were not kept.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes the marks that came; times are since `origin_ns`. Bytes at [`POST`] count until `has_kernel`. Returns true if
    /// the interval should end with one of them.
    pub fn take(&mut self, ports: PortMarks, origin_ns: u64, has_kernel: bool) -> bool {
        let since = |ns: u64| Duration::from_nanos(ns.saturating_sub(origin_ns));
        let mut news = false;
        let requests: Vec<Request> = self.inbox.iter().flat_map(Inbox::take).collect();
        for request in requests {
            news |= self.take_request(request, since);
        }
        self.left_out += ports.lost;
        for PortMark { monotonic_ns, port, value, .. } in ports.marks {
            if port == POST && (self.posted.replace(value) == Some(value) || has_kernel) {
                continue;
            }
            let mark = Mark::port(since(monotonic_ns), port, value);
            // Also by one that is not kept.
            news |= self.ends_with(&mark.text);
            if self.by_port == MAX_MARKS {
                self.left_out += 1;
                continue;
            }
            self.by_port += 1;
            self.new.push(mark);
        }
        news
    }

    fn take_request(&mut self, request: Request, since: impl Fn(u64) -> Duration) -> bool {
        if self.unkept {
            request.refuse("it is not recorded any more");
            return false;
        }
        self.ends_with(&request.text);
        if self.by_hand == MAX_MARKS {
            self.left_out += 1;
            request.refuse(&format!("there are {MAX_MARKS} marks by hand already"));
            return false;
        }
        self.by_hand += 1;
        let at = since(request.monotonic_ns);
        self.new.push(Mark { at, origin: Origin::Hand, text: request.text.clone() });
        self.waiting.push(request);
        true
    }

    /// Returns true if this mark, as the first, ends the session.
    fn ends_with(&mut self, mark: &str) -> bool {
        let ends = self.found.is_none() && self.until.as_ref().is_some_and(|until| until.is_match(mark));
        if ends {
            self.found = Some(mark.to_owned());
        }
        ends
    }

    /// Marks since the last call, in the order of time.
    pub fn drain(&mut self) -> Vec<Mark> {
        let mut marks = std::mem::take(&mut self.new);
        marks.sort_by_key(|mark| mark.at);
        marks
    }

    /// Answers those who wait: the marks that were drained have been kept, or not.
    pub fn answer(&mut self, kept: bool) {
        if kept {
            self.waiting.drain(..).for_each(Request::confirm);
        } else {
            self.waiting.drain(..).for_each(|request| request.refuse("it could not be recorded"));
            self.unkept = true;
        }
    }

    /// Takes no more marks by hand.
    pub fn close(&mut self) {
        self.inbox = None;
    }
}
