//! The outer VM: a KVM host that QEMU emulates, with this machine's root file system inside.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cache::{Cache, Flavour};
use crate::command::tail;
use crate::doctor::{self, Task};
use crate::error::{Error, Wreck};
use crate::initramfs;
use crate::kernel::Kernel;
use crate::qemu::Qemu;
use crate::quote;
use crate::vmlinux;

/// Where the command finds what it may leave behind: in here, the value of `LAB_OUT`.
pub const OUT: &str = "/run/lab/out";

/// How often a run looks at the clock and for a request to stop.
const TICK: Duration = Duration::from_millis(100);

/// An outer VM to be: set it up, then [`Outer::run`] a command in it, once or several times.
#[derive(Debug)]
pub struct Outer {
    cache: Cache,
    kernel: Kernel,
    smp: u32,
    memory: u32,
    time_limit: Duration,
    icount: bool,
    out: Option<PathBuf>,
    console: Option<PathBuf>,
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    pass_through: bool,
    stdin: bool,
    stop: Arc<AtomicUsize>,
}

/// A command that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status, 128 + signal if a signal killed it.
    pub status: u8,
    /// Its standard output, if captured.
    pub stdout: Vec<u8>,
    /// Its standard error, if captured.
    pub stderr: Vec<u8>,
    /// The directory with the files that it left in `LAB_OUT`.
    pub out: PathBuf,
    /// The outer VM's console log.
    pub console: PathBuf,
    /// From QEMU's start to the start of the command.
    pub boot: Duration,
    /// From QEMU's start to its end.
    pub whole: Duration,
    /// Holds `out` and `console` unless they were given; removed when this is dropped.
    pub directory: tempfile::TempDir,
}

enum Event {
    Control(Vec<u8>),
    ControlClosed,
    OutputFailed(io::Error),
}

impl Outer {
    /// An outer VM with the kernel of a Debian suite, which is downloaded on first use.
    ///
    /// # Errors
    /// [`Error::Missing`], and those of [`Cache::kernel`].
    pub fn suite(suite: &str) -> Result<Self, Error> {
        let cache = Cache::open()?;
        let kernel = cache.kernel(suite, Flavour::Plain, &|_| {})?;
        Self::with(cache, kernel)
    }

    /// An outer VM with this kernel.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn with(cache: Cache, kernel: Kernel) -> Result<Self, Error> {
        doctor::check(Task::Run)?;
        Ok(Self {
            cache,
            kernel,
            smp: 1,
            memory: 4096,
            time_limit: Duration::from_secs(300),
            icount: false,
            out: None,
            console: None,
            directory: None,
            environment: Vec::new(),
            pass_through: false,
            stdin: false,
            stop: Arc::default(),
        })
    }

    /// The number of CPUs (2).
    #[must_use]
    pub fn smp(mut self, cpus: u32) -> Self {
        self.smp = cpus;
        self
    }

    /// The memory in MiB (4096); half of it is there for files that are written.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// How long boot and command may take together (300 s).
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Makes a virtual nanosecond one instruction, the same in every run, and lets idle time pass at once.
    #[must_use]
    pub fn icount(mut self, on: bool) -> Self {
        self.icount = on;
        self
    }

    /// The directory that is `LAB_OUT` inside (a temporary one); made if need be.
    #[must_use]
    pub fn out(mut self, directory: impl Into<PathBuf>) -> Self {
        self.out = Some(directory.into());
        self
    }

    /// The file for the console log (a temporary one).
    #[must_use]
    pub fn console(mut self, file: impl Into<PathBuf>) -> Self {
        self.console = Some(file.into());
        self
    }

    /// The command's working directory (the caller's).
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets a variable of the command's environment, of which it inherits nothing from the caller.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Passes the command's output to this process's own as it comes, instead of capturing it.
    #[must_use]
    pub fn pass_through(mut self) -> Self {
        self.pass_through = true;
        self
    }

    /// Gives this process's standard input to the command, which otherwise reads `/dev/null`.
    #[must_use]
    pub fn stdin(mut self, on: bool) -> Self {
        self.stdin = on;
        self
    }

    /// Ends the run when this holds a signal's number instead of 0.
    #[must_use]
    pub fn stop_on(mut self, stop: Arc<AtomicUsize>) -> Self {
        self.stop = stop;
        self
    }

    /// Boots the outer VM, runs `command` in it as root, and ends it.
    ///
    /// # Errors
    /// [`Error::TimeLimit`], [`Error::Panic`], [`Error::QemuDied`], [`Error::WentDown`],
    /// [`Error::Cancelled`], [`Error::Output`]; before the boot [`Error::Usage`], [`Error::Io`] and others.
    pub fn run<W: AsRef<OsStr>>(&self, command: &[W]) -> Result<Finished, Error> {
        let scratch =
            tempfile::Builder::new().prefix("lab-").tempdir().map_err(Error::io("a temporary directory"))?;
        let out = self.out.clone().unwrap_or_else(|| scratch.path().join("out"));
        fs::create_dir_all(&out).map_err(Error::io(&out))?;
        let out = fs::canonicalize(&out).map_err(Error::io(&out))?;
        let console = self.console.clone().unwrap_or_else(|| scratch.path().join("console.log"));
        fs::write(&console, "").map_err(Error::io(&console))?;
        let console = fs::canonicalize(&console).map_err(Error::io(&console))?;
        let messages = scratch.path().join("qemu.log");

        let job = self.job(command)?;
        let initrd = scratch.path().join("initramfs");
        let forward = if self.stdin { "forward=yes\n" } else { "forward=no\n" };
        let own: [(&str, &[u8]); 2] = [("job", &job), ("settings", forward.as_bytes())];
        initramfs::join(&initramfs::OUTER.image(&self.cache, &self.kernel)?, &own, &initrd)?;

        let mut ports = Vec::new();
        let mut inherited: Vec<OwnedFd> = Vec::new();
        for _ in 0..4 {
            let (ours, theirs) = UnixStream::pair().map_err(Error::io("a socket pair"))?;
            ports.push(ours);
            inherited.push(theirs.into());
        }
        let numbers: Vec<i32> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let mut qemu = self.qemu(&initrd, &out, &console, &numbers)?;
        let log = fs::File::create(&messages).map_err(Error::io(&messages))?;
        qemu.stdin(Stdio::null()).stdout(log.try_clone().map_err(Error::io(&messages))?).stderr(log);

        // A terminal's Ctrl-C is for the lab, which then ends QEMU; the other way round it would look like
        // QEMU's own failure.
        qemu.process_group(0);

        let start = Instant::now();
        let mut qemu = Qemu::start(&mut qemu, inherited)?;
        let (events, happened) = channel();
        let mut ports = ports.into_iter();
        let mut port = || ports.next().expect("as many ports as were made above");
        listen(port(), events.clone());
        let stdout = self.copy(port(), io::stdout(), &events);
        let stderr = self.copy(port(), io::stderr(), &events);
        let input = port();
        if self.stdin {
            feed(input.try_clone().map_err(Error::io("a socket"))?);
        }
        let verdict = self.watch(&happened, &mut qemu, start, &console, &messages);
        qemu.kill();
        // Not before: were the socket closed, QEMU would drop the input that the command has not read.
        drop(input);
        let whole = start.elapsed();
        let collect = |copier: JoinHandle<Vec<u8>>| copier.join().unwrap_or_default();
        let (stdout, stderr) = (collect(stdout), collect(stderr));
        match verdict {
            // The copiers' last words count too: output that could not be passed on is no success.
            Verdict::Exit(status, boot) => match happened.try_iter().find_map(Event::failure) {
                Some(error) => Err(Error::Output(error)),
                None => {
                    Ok(Finished { status, stdout, stderr, out, console, boot, whole, directory: scratch })
                }
            },
            Verdict::Failed(error) => Err(error),
            Verdict::Wrecked(error) => {
                // The console log must outlive this call.
                let _kept = scratch.keep();
                Err(error(Box::new(Wreck { console, stdout, stderr })))
            }
        }
    }

    /// Waits for the command's exit status or for whatever comes instead.
    fn watch(
        &self,
        happened: &Receiver<Event>,
        qemu: &mut Qemu,
        start: Instant,
        console: &Path,
        messages: &Path,
    ) -> Verdict {
        let mut boot = None;
        loop {
            let signal = self.stop.load(Ordering::Relaxed);
            if signal != 0 {
                return Verdict::Failed(Error::Cancelled(i32::try_from(signal).unwrap_or(i32::MAX)));
            }
            if start.elapsed() >= self.time_limit {
                let limit = self.time_limit;
                return Verdict::Wrecked(Box::new(move |wreck| Error::TimeLimit { limit, wreck }));
            }
            match happened.recv_timeout(TICK) {
                Ok(Event::Control(line)) if line == b"up" => boot = Some(start.elapsed()),
                Ok(Event::Control(line)) => {
                    if let Some(status) = exit_status(&line) {
                        return Verdict::Exit(status, boot.unwrap_or_default());
                    }
                }
                Ok(Event::OutputFailed(error)) => return Verdict::Failed(Error::Output(error)),
                Ok(Event::ControlClosed) | Err(RecvTimeoutError::Disconnected) => {
                    return post_mortem(qemu, console, messages);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The shell script that becomes the command.
    fn job<W: AsRef<OsStr>>(&self, command: &[W]) -> Result<Vec<u8>, Error> {
        if command.is_empty() {
            return Err(Error::Usage("no command given".into()));
        }
        let directory = match &self.directory {
            Some(directory) => fs::canonicalize(directory).map_err(Error::io(directory))?,
            None => std::env::current_dir().map_err(Error::io("the working directory"))?,
        };
        let mut job = b"cd ".to_vec();
        job.extend(quote::shell(directory.as_os_str()));
        job.extend(
            b" || { echo 'lab: /dev, /proc, /run and /sys are the outer VM'\\''s own' >&2; exit 125; }\n",
        );
        let term = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let fixed: [(&str, &OsStr); 10] = [
            ("PATH", path.as_ref()),
            ("HOME", "/root".as_ref()),
            ("USER", "root".as_ref()),
            ("LOGNAME", "root".as_ref()),
            ("SHELL", "/bin/sh".as_ref()),
            ("LANG", "C.UTF-8".as_ref()),
            ("TERM", &term),
            ("LAB_OUT", OUT.as_ref()),
            ("LAB_CACHE", self.cache.path().as_os_str()),
            ("LAB_OUTER", OsStr::new(&self.kernel.release)),
        ];
        let own = self.environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        for (name, value) in fixed.iter().map(|(name, value)| (OsStr::new(*name), *value)).chain(own) {
            if !is_variable(name.as_bytes()) {
                return Err(Error::Usage(format!("{} is no name of a variable", name.display())));
            }
            job.extend(b"export ");
            job.extend(name.as_bytes());
            job.push(b'=');
            job.extend(quote::shell(value));
            job.push(b'\n');
        }
        job.extend(b"exec ");
        job.extend(quote::command(command));
        job.push(b'\n');
        Ok(job)
    }

    fn qemu(&self, initrd: &Path, out: &Path, console: &Path, ports: &[i32]) -> Result<Command, Error> {
        let share = |tag: &str, path: &Path, options: &str| {
            let mut share = OsString::from("local,path=");
            share.push(quote::qemu(path.as_os_str()));
            share.push(format!(",mount_tag={tag},security_model=none,multidevs=remap{options}"));
            share
        };
        let mut log = OsString::from("file,id=console,path=");
        log.push(quote::qemu(console.as_os_str()));
        let mut qemu = Command::new(doctor::program("qemu-system-x86_64")?);
        qemu.args(["-name", "exitscope-lab", "-nodefaults", "-no-user-config", "-display", "none"]);
        // On a thread for each CPU, QEMU 7.2 breaks guests of several vCPUs now and then (triple faults, faults on
        // pages that are mapped); on one thread it never did, and counting instructions needs that anyway.
        qemu.args(["-no-reboot", "-cpu", "max", "-accel", "tcg,thread=single"]);
        if self.icount {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        qemu.args(["-smp", &self.smp.to_string(), "-m", &self.memory.to_string()]);
        qemu.arg("-kernel").arg(vmlinux::boot_image(&self.cache, &self.kernel)?).arg("-initrd").arg(initrd);
        // An oops is a panic: a test that broke the kernel must not look like one that passed. The timer
        // check counts ticks in a time that a busy machine's emulator cannot keep, and panics.
        let options = "oops=panic no_timer_check cryptomgr.notests";
        qemu.arg("-append").arg(format!("console=ttyS0 quiet panic=-1 {options}"));
        qemu.arg("-virtfs").arg(share("root", Path::new("/"), ",readonly=on"));
        qemu.arg("-virtfs").arg(share("modules", &self.kernel.modules, ",readonly=on"));
        qemu.arg("-virtfs").arg(share("out", out, ""));
        qemu.arg("-chardev").arg(log).args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
        for (index, descriptor) in ports.iter().enumerate() {
            let number = index + 1;
            qemu.arg("-chardev").arg(format!("socket,id=port{number},fd={descriptor}"));
            qemu.arg("-device").arg(format!("virtserialport,nr={number},chardev=port{number}"));
        }
        Ok(qemu)
    }

    /// Copies a port to `own` or into memory, until QEMU closes it.
    fn copy(
        &self,
        mut port: UnixStream,
        mut own: impl Write + Send + 'static,
        events: &Sender<Event>,
    ) -> JoinHandle<Vec<u8>> {
        let (pass_through, events) = (self.pass_through, events.clone());
        std::thread::spawn(move || {
            let mut captured = Vec::new();
            let mut buffer = vec![0; 65536];
            // An error of the port is QEMU's end as well.
            while let Ok(length @ 1..) = port.read(&mut buffer) {
                if !pass_through {
                    captured.extend_from_slice(&buffer[..length]);
                } else if let Err(error) = own.write_all(&buffer[..length]).and_then(|()| own.flush()) {
                    // Nobody may be listening any more; then nobody wants to know.
                    let _ = events.send(Event::OutputFailed(error));
                    break;
                }
            }
            captured
        })
    }
}

enum Verdict {
    Exit(u8, Duration),
    Failed(Error),
    Wrecked(Box<dyn FnOnce(Box<Wreck>) -> Error>),
}

impl Event {
    fn failure(self) -> Option<io::Error> {
        match self {
            Self::OutputFailed(error) => Some(error),
            _ => None,
        }
    }
}

/// Passes on the control port's lines.
fn listen(mut port: UnixStream, events: Sender<Event>) {
    std::thread::spawn(move || {
        let (mut line, mut buffer) = (Vec::new(), [0; 256]);
        while let Ok(length @ 1..) = port.read(&mut buffer) {
            for &byte in &buffer[..length] {
                if byte == b'\n' {
                    // As above: the run may be over.
                    let _ = events.send(Event::Control(std::mem::take(&mut line)));
                } else if line.len() < 4096 {
                    line.push(byte);
                }
            }
        }
        let _ = events.send(Event::ControlClosed);
    });
}

/// Feeds this process's standard input to the port, and its end too.
fn feed(mut port: UnixStream) {
    // This thread may stay in its read when the run is over; the process's end takes it along.
    std::thread::spawn(move || {
        // The first line tells the other side that the port is connected.
        if port.write_all(b"\n").is_ok() && io::copy(&mut io::stdin().lock(), &mut port).is_ok() {
            // Fails only if QEMU is gone.
            let _ = port.shutdown(Shutdown::Write);
        }
    });
}

/// `exit N`, as the second part of the outer VM's init says it.
fn exit_status(line: &[u8]) -> Option<u8> {
    std::str::from_utf8(line.strip_prefix(b"exit ")?).ok()?.parse().ok()
}

fn is_variable(name: &[u8]) -> bool {
    name.first().is_some_and(|b| !b.is_ascii_digit())
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// Says why QEMU ended before the command did.
fn post_mortem(qemu: &mut Qemu, console: &Path, messages: &Path) -> Verdict {
    let status = match qemu.wait(Duration::from_secs(10)) {
        Err(error) => return Verdict::Failed(error),
        Ok(status) => status,
    };
    // A log that cannot be read leaves the reason empty, and the message names the log.
    let log = fs::read(console).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let line =
        |wanted: &str| log.lines().find(|line| line.contains(wanted)).map(|line| line.trim().to_string());
    if let Some(line) = line("Kernel panic - not syncing") {
        return Verdict::Wrecked(Box::new(move |wreck| Error::Panic { line, wreck }));
    }
    let said = tail(&fs::read(messages).unwrap_or_default());
    match status {
        // SIGTERM ends it with status 0 all the same.
        Some(status) if !status.success() || said.contains("terminating on signal") => {
            Verdict::Wrecked(Box::new(move |wreck| Error::QemuDied { status, stderr: said, wreck }))
        }
        _ => {
            let line = line("lab: ").unwrap_or_default();
            Verdict::Wrecked(Box::new(move |wreck| Error::WentDown { line, wreck }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_exit_lines_are_a_status() {
        assert_eq!(exit_status(b"exit 0"), Some(0));
        assert_eq!(exit_status(b"exit 137"), Some(137));
        for line in [&b"exit 256"[..], b"exit", b"exit -1", b"up", b"exit 1 "] {
            assert_eq!(exit_status(line), None);
        }
    }

    #[test]
    fn names_of_variables() {
        assert!(is_variable(b"LAB_OUT2"));
        for name in [&b""[..], b"2A", b"A B", b"A;reboot", b"A-B"] {
            assert!(!is_variable(name));
        }
    }
}
