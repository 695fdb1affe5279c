//! A program on a terminal of its own: what it shows, and what is typed. Never judged by time: what is waited for is on the
//! screen, or is not.

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A hang is a failure, not a wait; nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(180);

/// A program, and its terminal.
pub struct Shown {
    child: Child,
    ours: File,
    /// Held open, so that what is set on the terminal can be looked at when the program is gone.
    theirs: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

fn size(width: u16, height: u16) -> (NonZeroU16, NonZeroU16) {
    (NonZeroU16::new(height).unwrap(), NonZeroU16::new(width).unwrap())
}

fn winsize(width: u16, height: u16) -> Winsize {
    Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Returns the length of what was written before an update that has begun and not ended (DEC's private
/// mode 2026).
fn complete(written: &[u8]) -> usize {
    let last = |mark: &[u8]| written.windows(mark.len()).rposition(|found| found == mark);
    match (last(b"\x1b[?2026h"), last(b"\x1b[?2026l")) {
        (Some(begin), end) if end.is_none_or(|end| end < begin) => begin,
        // Half a mark may be at the end.
        (_, end) => match written.iter().rposition(|byte| *byte == b'\x1b') {
            Some(at) if written.len() - at < 8 && end.is_none_or(|end| end < at) => at,
            _ => written.len(),
        },
    }
}

impl Shown {
    /// Starts a program on a terminal of this size, which is its controlling one.
    pub fn start(command: &mut Command, width: u16, height: u16) -> Shown {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, winsize(width, height)).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        // Of a process that leads a session it would become the terminal, else.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = File::from(rustix::fs::open(&*name, flags, Mode::empty()).unwrap());
        let end = || Stdio::from(theirs.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm-16color");
        // SAFETY: between fork and exec there are only system calls.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // What the command holds of the terminal is not to keep it open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (rows, columns) = size(width, height);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let ours = File::from(ours);
        let (mut from, to) = (ours.try_clone().unwrap(), screen.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            // Nobody has it open any more: an error.
            let mut held = Vec::new();
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                held.extend_from_slice(&buffer[..length]);
                // What is to be seen at once is.
                let whole = complete(&held);
                to.lock().unwrap().process(&held[..whole]);
                held.drain(..whole);
            }
            to.lock().unwrap().process(&held);
        });
        Shown { child, ours, theirs: theirs.into(), screen, reader: Some(reader) }
    }

    /// Returns the text on the screen.
    pub fn text(&self) -> String {
        self.with(|screen| screen.contents())
    }

    /// Calls `look` with the screen.
    pub fn with<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.screen.lock().unwrap().screen())
    }

    /// Types `keys`.
    pub fn keys(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is so; the program must not end meanwhile.
    pub fn wait(&mut self, what: &str, mut is_so: impl FnMut(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let text = self.text();
            if is_so(&text) {
                return text;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended ({ended:?}) before {what}:\n{}", self.text());
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}:\n{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until this is on the screen.
    pub fn wait_for(&mut self, words: &str) -> String {
        self.wait(words, |text| text.contains(words))
    }

    /// Makes the terminal another size.
    pub fn resize(&mut self, width: u16, height: u16) {
        let (rows, columns) = size(width, height);
        self.screen.lock().unwrap().screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.ours, winsize(width, height)).unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: a plain system call on a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Returns the settings of the terminal.
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.theirs).unwrap()
    }

    /// Waits for the program's end. Returns its status, the terminal's settings, and the screen.
    pub fn end(mut self) -> (ExitStatus, Termios, vt100::Screen) {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.text()),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let settings = self.settings();
        // All that it wrote has been read when nobody has it open any more.
        self.theirs = File::open("/dev/null").unwrap().into();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let screen = self.with(Clone::clone);
        (status, settings, screen)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
