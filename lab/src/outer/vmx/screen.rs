//! Bochs' screen: a terminal of its own, which somebody must read.
//!
//! Debian's Bochs has its debugger on standard input and output, and therefore opens a pseudoterminal for the guest's screen
//! (gui/term.cc). It writes there for as long as it runs, be it only where the cursor is, and when the terminal's buffer is
//! full it waits: for ever, if nobody reads.

use std::any::Any;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Text before the terminal's name in Bochs' output; a quote ends the name.
const SAID: &str = "Bochs connected to screen \"";
const TICK: Duration = Duration::from_millis(20);

/// Reads the screen of the Bochs whose messages go to this file, until it ends. What this returns lives as long as Bochs.
pub(super) fn read(messages: &Path) -> Box<dyn Any> {
    let alive = Arc::new(());
    let (weak, messages) = (Arc::downgrade(&alive), messages.to_path_buf());
    std::thread::spawn(move || {
        if let Some(mut screen) = open(&messages, &weak) {
            let mut buffer = [0; 4096];
            // It ends with an error when Bochs has closed its side.
            while let Ok(1..) = screen.read(&mut buffer) {}
        }
    });
    Box::new(alive)
}

/// Waits for the terminal's name, and opens it.
fn open(messages: &Path, alive: &Weak<()>) -> Option<File> {
    loop {
        // Looked at first: what Bochs said before its end counts.
        let ended = alive.strong_count() == 0;
        // A file that cannot be read yet is read again.
        let said = fs::read(messages).unwrap_or_default();
        if let Some(path) = named(&String::from_utf8_lossy(&said)) {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let screen = rustix::fs::open(&path, flags, Mode::empty()).ok()?;
            // What Bochs writes must not come back to it as if typed, nor wait for the end of a line.
            let mut settings = tcgetattr(&screen).ok()?;
            settings.make_raw();
            tcsetattr(&screen, OptionalActions::Now, &settings).ok()?;
            return Some(screen.into());
        }
        if ended {
            return None;
        }
        std::thread::sleep(TICK);
    }
}

fn named(said: &str) -> Option<PathBuf> {
    let (name, _) = said.split_once(SAID)?.1.split_once('"')?;
    name.starts_with("/dev/").then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Write;

    #[test]
    fn what_is_written_to_the_screen_never_waits() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let messages = scratch.path().join("messages");
        fs::write(&messages, format!("x\nBochs connected to screen \"{name}\"\ny\n")).unwrap();
        let held = read(&messages);
        // Many times what a terminal's buffer holds, and no line's end in it.
        let mut master = File::from(master);
        for _ in 0..1000 {
            master.write_all(&[b'x'; 1000]).unwrap();
        }
        drop(held);
    }

    #[test]
    fn only_a_whole_name_is_one() {
        assert_eq!(named("a\nBochs connected to screen \"/dev/pts/3\"\n"), Some("/dev/pts/3".into()));
        assert_eq!(named("Bochs connected to screen \"/dev/pts/3"), None);
        assert_eq!(named("Bochs connected to screen \"x\""), None);
        assert_eq!(named(""), None);
    }
}
