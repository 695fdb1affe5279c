//! What a machine says on its serial console, line by line.
//!
//! A guest may say anything, for ever and without a newline. What is kept of it is bounded, and what is left out is counted.

use std::time::Duration;

/// The most that is kept of a line, in bytes.
pub const MAX_LINE: usize = 512;
/// The most lines that are kept.
pub const MAX_LINES: usize = 100_000;
/// The most bytes of them.
pub const MAX_BYTES: usize = 8 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its first byte came, since the start.
    pub at: Duration,
    /// Its text, without what ends it; bytes that are no UTF-8 are replaced. It may have control characters in it.
    pub text: String,
}

/// Lines as they come.
#[derive(Debug, Default)]
pub struct Console {
    /// Lines that nobody has taken yet.
    lines: Vec<Line>,
    /// How many lines were kept, and their bytes.
    kept: usize,
    bytes: usize,
    lines_left_out: u64,
    bytes_left_out: u64,
    /// The line that is not over, and when it began.
    partial: Vec<u8>,
    began: Duration,
}

impl Console {
    /// Takes what came at `at`. `seen` is called with each line as far as it is known, and whether it has ended: the last one
    /// may be a prompt, or the first half of what comes next.
    pub fn take(&mut self, at: Duration, bytes: &[u8], mut seen: impl FnMut(&Line, bool)) {
        for &byte in bytes {
            if byte == b'\n' {
                if let Some(line) = self.end() {
                    seen(&line, true);
                    self.keep(line);
                }
                continue;
            }
            if self.partial.is_empty() {
                self.began = at;
            }
            if self.partial.len() < MAX_LINE {
                self.partial.push(byte);
            } else {
                self.bytes_left_out += 1;
            }
        }
        if !self.partial.is_empty() {
            seen(&self.line(), false);
        }
    }

    /// The lines that have ended since this was last called.
    pub fn drain(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }

    /// Takes the line that has not ended, as it is, for one that has: nothing comes after it.
    pub fn finish(&mut self) {
        if let Some(line) = self.end() {
            self.keep(line);
        }
    }

    /// How many lines came after those that are kept.
    pub fn lines_left_out(&self) -> u64 {
        self.lines_left_out
    }

    /// How many bytes were too much for their lines.
    pub fn bytes_left_out(&self) -> u64 {
        self.bytes_left_out
    }

    fn keep(&mut self, line: Line) {
        if self.kept < MAX_LINES && self.bytes + line.text.len() <= MAX_BYTES {
            self.kept += 1;
            self.bytes += line.text.len();
            self.lines.push(line);
        } else {
            self.lines_left_out += 1;
        }
    }

    fn end(&mut self) -> Option<Line> {
        let line = self.line();
        self.partial.clear();
        (!line.text.is_empty()).then_some(line)
    }

    fn line(&self) -> Line {
        let text = String::from_utf8_lossy(&self.partial);
        Line { at: self.began, text: text.trim_end_matches('\r').to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn lines_have_the_time_of_their_first_byte_and_a_prompt_is_seen() {
        let mut console = Console::default();
        let mut seen = Vec::new();
        console.take(at(1), b"\r\n\nSea", |line, _| seen.push((line.at, line.text.clone())));
        console.take(at(2), b"BIOS\r\nlogin: ", |line, _| seen.push((line.at, line.text.clone())));
        let text = |ms, text: &str| (at(ms), text.to_owned());
        assert_eq!(seen, [text(1, "Sea"), text(1, "SeaBIOS"), text(2, "login: ")]);
        let mut lines = || console.drain().into_iter().map(|line| (line.at, line.text)).collect::<Vec<_>>();
        assert_eq!(lines(), [text(1, "SeaBIOS")]);
        console.finish();
        let mut lines = || console.drain().into_iter().map(|line| (line.at, line.text)).collect::<Vec<_>>();
        assert_eq!((lines(), lines()), (vec![text(2, "login: ")], Vec::new()));
        assert_eq!((console.lines_left_out(), console.bytes_left_out()), (0, 0));
    }

    #[test]
    fn a_hostile_console_is_bounded() {
        let mut console = Console::default();
        console.take(at(0), &vec![b'a'; 1 << 20], |line, _| assert!(line.text.len() <= MAX_LINE));
        assert_eq!(console.bytes_left_out(), (1 << 20) - MAX_LINE as u64);
        console.take(at(1), b"\n\xff\xfe<script>\x1b[2J\n", |_, _| {});
        console.take(at(2), &b"x\n".repeat(MAX_LINES), |_, _| {});
        let lines = console.drain();
        assert_eq!((lines.len(), console.lines_left_out()), (MAX_LINES, 2));
        assert_eq!(lines[1].text, "\u{fffd}\u{fffd}<script>\x1b[2J");
        assert!(lines.iter().all(|line| line.text.len() <= MAX_LINE));
        let mut console = Console::default();
        let line = [&b"y".repeat(MAX_LINE)[..], b"\n"].concat();
        console.take(at(0), &line.repeat(MAX_BYTES / MAX_LINE + 3), |_, _| {});
        assert_eq!((console.drain().len(), console.lines_left_out()), (MAX_BYTES / MAX_LINE, 3));
    }
}
