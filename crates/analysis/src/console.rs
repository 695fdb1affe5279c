//! Lines of a serial console, as a terminal would show them.
//!
//! [`vte`] parses the bytes, so that escapes, colours, cursor addressing, NUL, a bare carriage return and spinners are no
//! part of a line. A guest may send anything, for ever and without a newline: what is kept of it is bounded, and what is
//! left out is counted.

use std::fmt;
use std::time::Duration;
use vte::{Params, Parser, Perform};

/// Number of bytes that are kept of a line at most.
pub const MAX_LINE: usize = 512;
/// Number of lines that are kept at most.
pub const MAX_LINES: usize = 100_000;
/// Number of bytes of all lines that are kept at most.
pub const MAX_BYTES: usize = 8 << 20;

/// Number of times that an overwritten line is looked at before it ends: a guest can redraw one for ever.
const MAX_REDRAWS: u32 = 64;
/// Number of bytes after which an escape sequence that has no end is given up.
const MAX_SEQUENCE: usize = 4096;

/// One line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Time of its first character, since the start.
    pub at: Duration,
    /// Text without escapes and without what ends it; bytes that are no UTF-8 are replaced. Untrusted.
    pub text: String,
}

/// Console of a machine: bytes in, lines out.
#[derive(Default)]
pub struct Console {
    parser: Parser,
    screen: Screen,
    /// Bytes since the parser last made something of them.
    silent: usize,
    /// Lines that have ended and were not yet drained.
    lines: Vec<Line>,
    /// Number and bytes of the lines that were kept.
    kept: usize,
    bytes: usize,
    lines_left_out: u64,
    lines_ended: u64,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// The line that the cursor is in. Other lines of the screen are over as soon as the cursor leaves them.
#[derive(Default)]
struct Screen {
    now: Duration,
    cells: Vec<char>,
    /// Place of the cursor in `cells`.
    column: usize,
    /// Column of the screen at which `cells` begins, and the row, once the cursor was addressed.
    base: usize,
    row: Option<usize>,
    began: Option<Duration>,
    /// The cursor went back: the next character overwrites a text that was complete.
    rewound: bool,
    redraws: u32,
    bytes_left_out: u64,
    /// Lines that have ended (`true`) or are about to be overwritten.
    out: Vec<(Line, bool)>,
    /// Number of callbacks, and of newlines among them.
    calls: u64,
    newlines: u64,
}

impl Console {
    /// Feeds bytes that came at `at`. `seen` is called with each line as far as it is known, and `true` if it has ended: the
    /// last one may be a prompt, or the first half of what comes next.
    pub fn take(&mut self, at: Duration, bytes: &[u8], mut seen: impl FnMut(&Line, bool)) {
        self.screen.now = at;
        for piece in bytes.split_inclusive(|&byte| byte == b'\n').flat_map(|line| line.chunks(1024)) {
            self.feed(piece);
            for (line, ended) in std::mem::take(&mut self.screen.out) {
                seen(&line, true);
                if ended {
                    self.keep(line);
                }
            }
        }
        if let Some(line) = self.screen.line() {
            seen(&line, false);
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        let (calls, newlines) = (self.screen.calls, self.screen.newlines);
        self.parser.advance(&mut self.screen, piece);
        self.silent = if self.screen.calls == calls { self.silent + piece.len() } else { 0 };
        let ends = piece.ends_with(b"\n");
        // No control sequence of a console spans lines: one that swallows the end of a line is broken.
        if self.silent > MAX_SEQUENCE || ends && self.screen.newlines == newlines {
            self.parser = Parser::new();
            self.silent = 0;
            if ends {
                self.screen.end();
            }
        }
    }

    /// Returns the last line, which has not ended, if there is one.
    pub fn unfinished(&self) -> Option<Line> {
        self.screen.line()
    }

    /// Returns the lines that have ended since the last call.
    pub fn drain(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
    }

    /// Ends the last line: nothing comes after it.
    pub fn finish(&mut self) {
        self.screen.end();
        for (line, ended) in std::mem::take(&mut self.screen.out) {
            if ended {
                self.keep(line);
            }
        }
    }

    /// Returns the number of lines that were not kept.
    pub fn lines_left_out(&self) -> u64 {
        self.lines_left_out
    }

    /// Returns the number of bytes cut off from kept lines.
    pub fn bytes_left_out(&self) -> u64 {
        self.screen.bytes_left_out
    }

    /// Returns the number of lines that have ended, kept or not.
    pub fn lines_ended(&self) -> u64 {
        self.lines_ended
    }

    /// Returns true if nothing but escapes has come so far.
    pub fn is_silent(&self) -> bool {
        self.lines_ended == 0 && self.screen.cells.is_empty()
    }

    fn keep(&mut self, line: Line) {
        self.lines_ended += 1;
        if self.kept < MAX_LINES && self.bytes + line.text.len() <= MAX_BYTES {
            self.kept += 1;
            self.bytes += line.text.len();
            self.lines.push(line);
        } else {
            self.lines_left_out += 1;
        }
    }
}

impl Screen {
    /// Returns the current line, if there is more than blanks in it.
    fn line(&self) -> Option<Line> {
        let text = self.text();
        let at = self.began.unwrap_or(self.now);
        (!text.trim().is_empty()).then_some(Line { at, text })
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(self.cells.len());
        for &cell in &self.cells {
            if text.len() + cell.len_utf8() > MAX_LINE {
                break;
            }
            text.push(cell);
        }
        text
    }

    /// Ends the current line and begins an empty one.
    fn end(&mut self) {
        if let Some(line) = self.line() {
            let all: usize = self.cells.iter().map(|cell| cell.len_utf8()).sum();
            self.bytes_left_out += (all - line.text.len()) as u64;
            self.out.push((line, true));
        }
        self.cells.clear();
        (self.column, self.base, self.redraws) = (0, 0, 0);
        (self.began, self.rewound) = (None, false);
    }

    /// Reports the text that is about to be overwritten or erased.
    fn redraw(&mut self) {
        if !std::mem::take(&mut self.rewound) || self.redraws == MAX_REDRAWS {
            return;
        }
        if let Some(line) = self.line() {
            self.redraws += 1;
            self.out.push((line, false));
        }
    }

    fn rewind_to(&mut self, column: usize) {
        self.rewound |= column < self.cells.len();
        self.column = column.min(MAX_LINE);
    }

    /// Moves to a cell of the screen; in another row, that is another line.
    fn address(&mut self, row: usize, column: usize) {
        if self.row == Some(row) && !self.cells.is_empty() {
            self.rewind_to(column.saturating_sub(self.base));
        } else {
            self.end();
            (self.row, self.base) = (Some(row), column);
        }
    }

    fn change_row(&mut self, rows: Option<usize>) {
        self.end();
        self.row = rows;
    }

    fn erase_in_line(&mut self, mode: usize) {
        self.redraw();
        match mode {
            0 => self.cells.truncate(self.column),
            1 => self.cells.iter_mut().take(self.column + 1).for_each(|cell| *cell = ' '),
            _ => self.cells.clear(),
        }
    }
}

impl Perform for Screen {
    fn print(&mut self, character: char) {
        self.calls += 1;
        if self.column < self.cells.len() {
            self.redraw();
        }
        self.began.get_or_insert(self.now);
        if self.column >= MAX_LINE {
            self.bytes_left_out += character.len_utf8() as u64;
            return;
        }
        if self.cells.len() <= self.column {
            self.cells.resize(self.column + 1, ' ');
        }
        self.cells[self.column] = character;
        self.column += 1;
    }

    fn execute(&mut self, byte: u8) {
        self.calls += 1;
        match byte {
            b'\n' | 0x0b | 0x0c => {
                self.newlines += 1;
                self.change_row(self.row.map(|row| row + 1));
            }
            b'\r' => self.rewind_to(0),
            0x08 => self.column = self.column.saturating_sub(1),
            b'\t' => self.column = ((self.column / 8 + 1) * 8).min(MAX_LINE),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        self.calls += 1;
        if !intermediates.is_empty() {
            return;
        }
        let raw = |place: usize| {
            params.iter().nth(place).and_then(|one| one.first()).map_or(0, |&n| usize::from(n))
        };
        let count = raw(0).max(1);
        match action {
            'H' | 'f' => self.address(count, raw(1).max(1) - 1),
            'J' if raw(0) >= 2 => self.end(),
            'J' => self.erase_in_line(raw(0)),
            'K' => self.erase_in_line(raw(0)),
            'A' | 'F' => self.change_row(self.row.map(|row| row.saturating_sub(count))),
            'B' | 'E' => self.change_row(self.row.map(|row| row + count)),
            'd' => self.change_row(Some(count)),
            'L' | 'M' | 'S' | 'T' => self.end(),
            'C' => self.column = (self.column + count).min(MAX_LINE),
            'D' => self.rewind_to(self.column.saturating_sub(count)),
            'G' | '`' => self.rewind_to((count - 1).saturating_sub(self.base)),
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, byte: u8) {
        self.calls += 1;
        match (intermediates, byte) {
            ([], b'c') => self.change_row(None),
            ([], b'D' | b'E' | b'M') => self.change_row(None),
            _ => {}
        }
    }

    fn hook(&mut self, _params: &Params, _intermediates: &[u8], _ignore: bool, _action: char) {
        self.calls += 1;
    }

    fn osc_dispatch(&mut self, _params: &[&[u8]], _bell_terminated: bool) {
        self.calls += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Lines of a console that comes byte by byte, or at once; both are the same.
    fn lines(bytes: &[u8]) -> Vec<String> {
        let texts = |console: &mut Console| {
            console.finish();
            console.drain().into_iter().map(|line| line.text).collect::<Vec<_>>()
        };
        let (mut whole, mut single) = (Console::default(), Console::default());
        whole.take(at(0), bytes, |_, _| {});
        bytes.iter().for_each(|&byte| single.take(at(0), &[byte], |_, _| {}));
        let found = texts(&mut whole);
        assert_eq!(found, texts(&mut single));
        found
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
    fn a_line_is_what_a_terminal_shows() {
        let cases: [(&[u8], &[&str]); 16] = [
            (
                b"   \x1b[32;01mOpenRC\x1b[0m \x1b[36;01m0.52\x1b[0m is starting\r\n",
                &["   OpenRC 0.52 is starting"],
            ),
            (b"\rINIT: version 3.01 booting\r\r\n", &["INIT: version 3.01 booting"]),
            (b"x\rWelcome to Foo!\r\n", &["Welcome to Foo!"]),
            (b"\0\0GRUB\0 loading.\r\n", &["GRUB loading."]),
            (b"-\x08\\\x08|\x08/\x08Loading\r\n", &["Loading"]),
            (
                b"Booting from ROM..\x1bc\x1b[?7l\x1b[2J[    0.0] Linux",
                &["Booting from ROM..", "[    0.0] Linux"],
            ),
            (
                b"\x1b[2J\x1b[1;1HManager\x1b[3;1HChoose\x1b[3;20HOS\r\n",
                &["Manager", "Choose             OS"],
            ),
            (
                b"\x1b[1;29HGNU GRUB\x1b[4;2H+--+\x1b[5;2H|\x1b[7m*Ubuntu\x1b[0m|",
                &["GNU GRUB", "+--+", "|*Ubuntu|"],
            ),
            (b" 10%\r 50%\r\x1b[K100%\r\n", &["100%"]),
            (b"host login: \x1b[6n", &["host login: "]),
            (b"host login: \x1b7\x1b[999;999H\x1b[6n\x1b8", &["host login: "]),
            (b"\x1b]3008;start=abc\x1b\\\x1bP+q544e\x1b\\\x1b]0;title\x07one\r\n", &["one"]),
            // An escape without an end takes its line, and no more.
            (b"\x1b]0;title\r\ntwo\r\n", &["two"]),
            ("Anmeldung: \u{30ed}\u{30b0}\r\n".as_bytes(), &["Anmeldung: \u{30ed}\u{30b0}"]),
            (b"a\tb\x1b[2Cc\x1b[3Dd\n", &["a       bd c"]),
            (b"\xff\xfe<script>\n", &["\u{fffd}\u{fffd}<script>"]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(lines(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_redrawn_line_is_seen_before_it_is_gone() {
        let mut seen = Vec::new();
        Console::default()
            .take(at(0), b"GRUB loading.\rWelcome to GRUB!\r\n", |line, _| seen.push(line.text.clone()));
        assert_eq!(seen, ["GRUB loading.", "Welcome to GRUB!"]);
        let (mut console, mut count) = (Console::default(), 0);
        console.take(at(0), &b"x\r".repeat(100_000), |_, _| count += 1);
        assert!(count <= MAX_REDRAWS + 1, "{count}");
    }

    #[test]
    fn a_hostile_console_is_bounded() {
        let mut console = Console::default();
        console.take(at(0), &vec![b'a'; 1 << 20], |line, _| assert!(line.text.len() <= MAX_LINE));
        assert_eq!(console.bytes_left_out(), (1 << 20) - MAX_LINE as u64);
        console.take(at(1), b"\n<script>\n", |_, _| {});
        console.take(at(2), &b"x\n".repeat(MAX_LINES), |_, _| {});
        let lines = console.drain();
        assert_eq!((lines.len(), console.lines_left_out()), (MAX_LINES, 2));
        assert_eq!(lines[1].text, "<script>");
        let mut console = Console::default();
        let line = [&b"y".repeat(MAX_LINE)[..], b"\n"].concat();
        console.take(at(0), &line.repeat(MAX_BYTES / MAX_LINE + 3), |_, _| {});
        assert_eq!((console.drain().len(), console.lines_left_out()), (MAX_BYTES / MAX_LINE, 3));
        // Characters of several bytes, columns far away, and a string that never ends.
        let mut console = Console::default();
        let wide = "\u{30ed}".repeat(MAX_LINE) + "\n\x1b[65535Cx\n\x1b[9999;9999Hy\n";
        console.take(at(0), wide.as_bytes(), |line, _| assert!(line.text.len() <= MAX_LINE));
        assert_eq!(console.bytes_left_out(), 3 * MAX_LINE as u64 - 510 + 1);
        console.take(at(0), b"\x1b]0;", |_, _| {});
        (0..100).for_each(|_| console.take(at(0), &[b'z'; 1000], |_, _| {}));
        console.finish();
        assert!(console.drain().iter().any(|line| line.text.starts_with("zzz")));
    }
}
