//! The outer VM: a KVM host, emulated or this machine itself, in which a command runs.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cache::{Cache, Flavour};
use crate::doctor::{self, Task};
use crate::error::{Error, Wreck};
use crate::kernel::Kernel;
use crate::process::Process;
use crate::system::System;
use watch::{Event, Verdict, listen};

mod host;
mod job;
mod stall;
mod svm;
mod vmx;
mod watch;

/// Value of `LAB_OUT`: the directory in the outer VM whose files come back.
pub const OUT: &str = "/run/lab/out";

/// Builder of an outer VM: set it up, then [`Outer::run`] a command in it, once or several times.
#[derive(Debug)]
pub struct Outer {
    cache: Cache,
    machine: Machine,
    smp: u32,
    memory: Option<u32>,
    time_limit: Duration,
    icount: bool,
    bring: Vec<PathBuf>,
    systems: Vec<(System, String)>,
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

/// The machine on which the command runs.
#[derive(Debug)]
enum Machine {
    /// QEMU, with AMD's SVM.
    Svm(Kernel),
    /// Bochs, with Intel's VMX.
    Vmx(Kernel),
    /// This machine and its own KVM.
    Host,
}

/// Paths of a run's files.
struct Place {
    scratch: PathBuf,
    out: PathBuf,
    console: PathBuf,
    messages: PathBuf,
}

/// A machine that has been started, and its ports.
struct Started {
    process: Process,
    /// The emulator's program.
    emulator: &'static str,
    /// Lines: `up` when the command starts, `failed REASON` if its files cannot be brought back, `exit STATUS`.
    control: Box<dyn Read + Send>,
    stdout: Box<dyn Read + Send>,
    stderr: Box<dyn Read + Send>,
    /// Dropped once the process has ended.
    held: Box<dyn Any>,
    /// Copies the files in `LAB_OUT` back to this machine.
    collect: Option<Collect>,
}

type Collect = Box<dyn FnOnce() -> Result<(), Error>>;

impl Place {
    /// Starts a machine; its messages go to a file.
    fn start(&self, command: &mut Command, input: Stdio, inherited: Vec<OwnedFd>) -> Result<Process, Error> {
        let log = fs::File::create(&self.messages).map_err(Error::io(&self.messages))?;
        let other = log.try_clone().map_err(Error::io(&self.messages))?;
        command.stdin(input).stdout(other).stderr(log);
        // A terminal's Ctrl-C is for the lab, which then ends the machine; the other way round it would look like
        // the machine's own failure.
        command.process_group(0);
        Process::start(command, inherited)
    }
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

    /// An outer VM with this kernel and SVM, which QEMU emulates.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn with(cache: Cache, kernel: Kernel) -> Result<Self, Error> {
        doctor::check(Task::Run)?;
        Ok(Self::on(cache, Machine::Svm(kernel)))
    }

    /// An outer VM with this kernel and VMX, which Bochs emulates. It has one CPU, and of this machine's files only
    /// the usual tools, the command, its arguments that name files, and what [`Outer::bring`] says; no input.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn vmx(cache: Cache, kernel: Kernel) -> Result<Self, Error> {
        doctor::check(Task::Vmx)?;
        Ok(Self::on(cache, Machine::Vmx(kernel)))
    }

    /// This machine in place of an outer VM: the command's changes to it stay.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has no VT-x or AMD-V, no KVM, or if this is not root.
    pub fn host(cache: Cache) -> Result<Self, Error> {
        host::check()?;
        Ok(Self::on(cache, Machine::Host))
    }

    fn on(cache: Cache, machine: Machine) -> Self {
        Self {
            cache,
            machine,
            smp: 1,
            memory: None,
            time_limit: Duration::from_secs(300),
            icount: false,
            bring: Vec::new(),
            systems: Vec::new(),
            out: None,
            console: None,
            directory: None,
            environment: Vec::new(),
            pass_through: false,
            stdin: false,
            stop: Arc::default(),
        }
    }

    /// The number of CPUs (1).
    #[must_use]
    pub fn smp(mut self, cpus: u32) -> Self {
        self.smp = cpus;
        self
    }

    /// The memory in MiB (4096 with SVM, 1536 with VMX); half of it is there for files that are written.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = Some(mib);
        self
    }

    /// Adds a file or directory of this machine to an outer VM with VMX, which does not have all of them; a program brings
    /// the libraries that it is linked with.
    #[must_use]
    pub fn bring(mut self, path: impl Into<PathBuf>) -> Self {
        self.bring.push(path.into());
        self
    }

    /// Adds the disk of a system that an inner VM is to boot; needed with VMX only.
    #[must_use]
    pub fn system(mut self, system: System, suite: &str) -> Self {
        self.systems.push((system, suite.into()));
        self
    }

    /// Sets the time limit of boot and command together (300 s).
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

    /// Sets the number that ends the run when it becomes a signal's instead of 0.
    #[must_use]
    pub fn stop_on(mut self, stop: Arc<AtomicUsize>) -> Self {
        self.stop = stop;
        self
    }

    /// Boots the outer VM, runs `command` in it as root, and ends it.
    ///
    /// # Errors
    /// [`Error::TimeLimit`], [`Error::Stalled`], [`Error::Panic`], [`Error::EmulatorDied`], [`Error::WentDown`],
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
        let place = Place {
            scratch: scratch.path().to_path_buf(),
            messages: scratch.path().join("messages.log"),
            out: out.clone(),
            console: console.clone(),
        };
        let job = self.job(command, &place.out)?;
        let start = Instant::now();
        let started = match &self.machine {
            Machine::Svm(kernel) => svm::start(self, kernel, &place, &job)?,
            Machine::Vmx(kernel) => vmx::start(self, kernel, &place, command, &job)?,
            Machine::Host => host::start(self, &place, &job)?,
        };
        let Started { mut process, emulator, control, stdout, stderr, held, collect } = started;
        let (events, happened) = channel();
        listen(control, events.clone());
        let stdout = self.copy(stdout, io::stdout(), &events);
        let stderr = self.copy(stderr, io::stderr(), &events);
        let verdict = self.watch(&happened, &mut process, emulator, start, &place);
        process.kill();
        drop(held);
        let whole = start.elapsed();
        let captured = |copier: JoinHandle<Vec<u8>>| copier.join().unwrap_or_default();
        let (stdout, stderr) = (captured(stdout), captured(stderr));
        match verdict {
            // The copiers' last words count too: output that could not be passed on is no success.
            Verdict::Exit(status, boot) => match happened.try_iter().find_map(Event::failure) {
                Some(error) => Err(Error::Output(error)),
                None => {
                    collect.map_or(Ok(()), |collect| collect())?;
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

    /// Copies a port to `own` or into memory, until QEMU closes it.
    fn copy(
        &self,
        mut port: Box<dyn Read + Send>,
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
