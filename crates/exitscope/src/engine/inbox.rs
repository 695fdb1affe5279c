//! Socket for marks that are made by hand, and its client.
//!
//! Each recorder has a socket of its own, named by its process, in a folder that its user alone can enter. A mark is one
//! connection: the text, up to where the other side ends it; then the answer, `ok` or what is wrong.

use super::events::PollHandle;
use anyhow::{Context, bail};
use exitscope_collect as collect;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Largest length of a mark, in bytes.
pub const MAX_TEXT: usize = 512;

/// Time to wait for a client that says nothing: others wait behind it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time that a recorder may take for an answer: its disk may be slow.
const ANSWER: Duration = Duration::from_secs(15);

/// Pause after a client could not be accepted.
const BREATH: Duration = Duration::from_millis(100);

/// Largest number of marks that wait to be taken.
const WAITING: usize = 64;

const OK: &str = "ok\n";

/// A mark, and the client that waits for the answer.
pub struct Request {
    /// Time at which it came (`CLOCK_MONOTONIC`, ns).
    pub monotonic_ns: u64,
    /// Its text.
    pub text: String,
    from: UnixStream,
}

impl Request {
    /// Answers that it has been kept.
    pub fn confirm(self) {
        answer(&self.from, OK);
    }

    /// Answers that it has not been kept, and why.
    pub fn refuse(self, why: &str) {
        answer(&self.from, &format!("{why}\n"));
    }
}

fn answer(mut to: &UnixStream, words: &str) {
    // Who has gone wants no answer, and nobody is waited for: so few bytes always have room.
    let _ = to.set_nonblocking(true).and_then(|()| to.write_all(words.as_bytes()));
}

/// Socket of this process; removed when it is dropped.
pub struct Inbox {
    path: PathBuf,
    requests: Receiver<Request>,
}

impl Inbox {
    /// Opens the socket. Each mark that comes asks for a poll.
    ///
    /// # Errors
    /// If there is no place for it, or it is not ours.
    pub fn open(poll: PollHandle) -> anyhow::Result<Inbox> {
        Inbox::open_in(&folder()?, poll)
    }

    pub(super) fn open_in(folder: &Path, poll: PollHandle) -> anyhow::Result<Inbox> {
        make(folder)?;
        let path = folder.join(format!("{}.sock", std::process::id()));
        // An earlier process of this number may have left one.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace the socket {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot make the socket {}", path.display()))?;
        let (to, requests) = mpsc::sync_channel(WAITING);
        std::thread::Builder::new().name("marks".into()).spawn(move || {
            for from in listener.incoming() {
                let Ok(from) = from else {
                    // Without a file descriptor to spare it would fail at once again.
                    std::thread::sleep(BREATH);
                    continue;
                };
                match read(&from) {
                    Ok(text) => {
                        let request = Request { monotonic_ns: collect::monotonic_ns(), text, from };
                        match to.try_send(request) {
                            Ok(()) => poll.request(),
                            Err(mpsc::TrySendError::Full(request)) => {
                                request.refuse("too many marks at once; make it again");
                            }
                            Err(mpsc::TrySendError::Disconnected(_)) => return,
                        }
                    }
                    Err(error) => answer(&from, &format!("{error:#}\n")),
                }
            }
        })?;
        Ok(Inbox { path, requests })
    }

    /// Takes the marks that have come.
    pub fn take(&self) -> impl Iterator<Item = Request> {
        self.requests.try_iter()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // Where it is gone already, all is well.
        let _ = fs::remove_file(&self.path);
    }
}

fn read(from: &UnixStream) -> anyhow::Result<String> {
    let (mut bytes, mut part) = (Vec::new(), [0; MAX_TEXT + 1]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        // In all, not for each byte: others wait.
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        let Some(left) = left else { bail!("a mark has to come in {} s", PATIENCE.as_secs()) };
        from.set_read_timeout(Some(left))?;
        match (&mut &*from).read(&mut part) {
            Ok(0) => break,
            Ok(read) => bytes.extend(&part[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if bytes.len() > MAX_TEXT {
            bail!("a mark has at most {MAX_TEXT} bytes");
        }
    }
    let text = String::from_utf8(bytes).context("a mark is text in UTF-8")?;
    if text.trim().is_empty() { bail!("a mark has a text") } else { Ok(text) }
}

/// Folder of the sockets: for root in /run, for others in that of their login session.
///
/// # Errors
/// If this user has no such folder.
pub fn folder() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/run/exitscope".into());
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if Path::new(&folder).is_absolute() => Ok(Path::new(&folder).join("exitscope")),
        _ => bail!("there is no XDG_RUNTIME_DIR for the sockets of recorders; run this as root"),
    }
}

/// Makes the folder, or makes sure that it is ours and closed to others.
fn make(folder: &Path) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make the folder {}", folder.display()));
        }
        _ => {}
    }
    let found =
        fs::symlink_metadata(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    let us = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != us {
        bail!("{} is no folder of user {us}'s: remove it", folder.display());
    }
    if found.mode() & 0o777 != 0o700 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close {} to others", folder.display()))?;
    }
    Ok(())
}

/// Connection to a recorder that listens.
pub struct Recorder {
    /// Its process.
    pub pid: u32,
    stream: UnixStream,
}

/// Connects to all recorders, in the order of their processes. A socket whose process is gone is removed.
///
/// # Errors
/// If the folder cannot be read, or a recorder cannot be reached.
pub fn recorders(folder: &Path) -> anyhow::Result<Vec<Recorder>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot look into {}", folder.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot look into {}", folder.display()))?.path();
        let Some(pid) =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".sock")?.parse::<u32>().ok())
        else {
            continue;
        };
        match UnixStream::connect(&path) {
            Ok(stream) => found.push(Recorder { pid, stream }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                if !Path::new(&format!("/proc/{pid}")).exists() {
                    let _ = fs::remove_file(&path);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot reach the recorder at {}", path.display()));
            }
        }
    }
    found.sort_by_key(|recorder| recorder.pid);
    Ok(found)
}

impl Recorder {
    /// Sends a mark.
    ///
    /// # Errors
    /// If the recorder is gone.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.stream.set_read_timeout(Some(ANSWER))?;
        self.stream.write_all(text.as_bytes())?;
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Waits until the mark is kept.
    ///
    /// # Errors
    /// If it was not, or no answer came in time.
    pub fn answer(self) -> anyhow::Result<()> {
        let mut answer = String::new();
        self.stream.take(1000).read_to_string(&mut answer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => anyhow::anyhow!("it has not answered in {} s", ANSWER.as_secs()),
            _ => error.into(),
        })?;
        match answer.as_str() {
            OK => Ok(()),
            "" => bail!("it ended before the mark was kept"),
            why => bail!("{}", why.trim()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(mut recorder: Recorder, text: &str) -> anyhow::Result<()> {
        recorder.send(text)?;
        recorder.answer()
    }

    #[test]
    fn a_mark_gets_there_and_is_answered() {
        let folder = std::env::temp_dir().join(format!("exitscope-inbox-{}", std::process::id()));
        assert!(recorders(&folder).unwrap().is_empty());
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        // One that was killed, whose number no process can have, and things that are none.
        drop(UnixListener::bind(folder.join("4194305.sock")).unwrap());
        fs::write(folder.join("notes.txt"), "").unwrap();
        let inbox = Inbox::open_in(&folder, PollHandle::unheard()).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        let one = || {
            let mut found = recorders(&folder).unwrap();
            assert_eq!(found.iter().map(|recorder| recorder.pid).collect::<Vec<_>>(), [std::process::id()]);
            found.remove(0)
        };
        one();
        assert!(!folder.join("4194305.sock").exists() && folder.join("notes.txt").exists());

        let mut before = collect::monotonic_ns();
        for (text, refused) in [("half way \u{1b}[2J", None), ("no", Some("full"))] {
            let told = std::thread::scope(|scope| {
                let recorder = one();
                let told = scope.spawn(move || tell(recorder, text).map_err(|error| error.to_string()));
                let request = inbox.requests.recv().unwrap();
                assert!(request.monotonic_ns >= before && request.text == text);
                before = request.monotonic_ns;
                match refused {
                    None => request.confirm(),
                    Some(why) => request.refuse(why),
                }
                told.join().unwrap()
            });
            assert_eq!(told.err().as_deref(), refused);
        }
        for (text, why) in [("x".repeat(MAX_TEXT + 1), "at most 512 bytes"), (" \n".into(), "has a text")] {
            let error = tell(one(), &text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        // One that ends with a mark that it has not kept.
        let recorder = one();
        let told = std::thread::spawn(move || tell(recorder, "late").unwrap_err().to_string());
        drop(inbox.requests.recv().unwrap());
        assert!(told.join().unwrap().contains("ended before"));
        drop(inbox);
        assert!(recorders(&folder).unwrap().is_empty());
        // A folder in whose place there is something else.
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        let error = Inbox::open_in(&folder, PollHandle::unheard()).err().unwrap().to_string();
        fs::remove_file(&folder).unwrap();
        assert!(error.contains("is no folder of user"), "{error}");
    }

    /// Clients that say nothing, or a byte now and then, are told that it is over, and those behind them are heard.
    #[test]
    fn a_slow_client_delays_others_for_a_bounded_time() {
        let folder = std::env::temp_dir().join(format!("exitscope-inbox-slow-{}", std::process::id()));
        let inbox = Inbox::open_in(&folder, PollHandle::unheard()).unwrap();
        let connect = || UnixStream::connect(folder.join(format!("{}.sock", std::process::id()))).unwrap();
        let (silent, slow, mut honest) = (connect(), connect(), connect());
        honest.write_all(b"in time").unwrap();
        honest.shutdown(Shutdown::Write).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Each byte comes before a deadline that began with the last one would be over.
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = (&slow).write_all(b"a");
                    std::thread::sleep(PATIENCE / 20);
                }
            });
            let heard = inbox.requests.recv_timeout(60 * PATIENCE);
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(heard.expect("a mark behind slow ones").text, "in time");
        });
        for mut client in [silent, slow] {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("a mark has to come in 1 s"), "{answer:?}");
        }
        drop(inbox);
        fs::remove_dir_all(&folder).unwrap();
    }
}
