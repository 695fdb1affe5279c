//! The `lab` command.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use lab::bench::{Bench, Suite, Tool};
use lab::doctor::{self, Task};
use lab::inner::{Boot, Inner};
use lab::patched::Patched;
use lab::system::{Bus, Loader, System};
use lab::{Cache, EXIT_LAB, Error, Flavour, INNER_SUITE, Kernel, Machine, Outer};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

mod cli;
mod matrix;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure; 2, clap's own code for the rest, could be the command's.
            let code = if error.use_stderr() { EXIT_LAB } else { 0 };
            // Where this cannot be printed, nothing can.
            let _ = error.print();
            return code.into();
        }
    };
    match act(cli.action) {
        Ok(code) => code.into(),
        Err(error) => {
            let code = error.downcast_ref::<Error>().map_or(EXIT_LAB, Error::exit_code);
            if code != 128 + 13 {
                say(&format!("{error:#}"));
            }
            code.into()
        }
    }
}

fn act(action: cli::Action) -> anyhow::Result<u8> {
    match action {
        cli::Action::Run(options) => run(options),
        cli::Action::Inner(options) => inner(options),
        cli::Action::Fetch(options) => fetch(&options),
        cli::Action::Kernel(options) => kernel(options),
        cli::Action::Bench(options) => bench(options),
        cli::Action::BenchInside(options) => {
            let suite = if options.suite == "scale" { Suite::Scale } else { Suite::Kinds };
            lab::bench::measure(suite, &options.command)?;
            Ok(0)
        }
        cli::Action::BenchFloor => match lab::bench::floor()? {},
        cli::Action::BenchCounters => match lab::bench::counters()? {},
        cli::Action::Experiment(options) => matrix::act(&options, stop_on_signals()?),
        cli::Action::Doctor => report(),
    }
}

/// A line on standard error; when even that fails there is nowhere left to say so.
fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "lab: {message}");
}

fn run(options: cli::Run) -> anyhow::Result<u8> {
    let cache = Cache::open()?;
    let kernel = |task: Task| -> anyhow::Result<Kernel> {
        doctor::check(Task::Run)?;
        doctor::check(task)?;
        if let (Some(image), Some(modules)) = (&options.kernel, &options.modules) {
            return Ok(Kernel::from_paths(image, modules)?);
        }
        let suite = options.suite.as_deref().unwrap_or("bookworm");
        match cache.find(suite, Flavour::Plain)? {
            Some(kernel) => Ok(kernel),
            None => Ok(prepare(&cache, suite, false)?),
        }
    };
    let mut outer = match options.machine {
        Machine::Svm => {
            let kernel = kernel(Task::Run)?;
            Outer::with(cache, kernel)?
        }
        Machine::Vmx => {
            let kernel = kernel(Task::Vmx)?;
            Outer::vmx(cache, kernel)?
        }
        Machine::Host if options.suite.is_some() || options.kernel.is_some() => {
            return Err(Error::Usage(
                "--machine host runs this machine's own kernel: no --suite, no --kernel".into(),
            )
            .into());
        }
        Machine::Host => Outer::host(cache)?,
    };
    for path in options.bring {
        outer = outer.bring(path);
    }
    for system in options.bring_system {
        outer = outer.system(system, INNER_SUITE);
    }
    if let Some(mib) = options.memory {
        outer = outer.memory(mib);
    }
    let stop = stop_on_signals()?;
    let mut outer = outer
        .smp(options.smp)
        .time_limit(Duration::from_secs(options.time_limit))
        .icount(options.icount)
        .pass_through()
        .stdin(!options.no_stdin && may_read_stdin())
        .stop_on(stop);
    if let Some(directory) = options.out {
        outer = outer.out(directory);
    }
    if let Some(file) = options.console {
        outer = outer.console(file);
    }
    for variable in &options.env {
        let (name, value) = variable_of(variable)?;
        outer = outer.env(name, value);
    }
    let mut left = options.attempts;
    let finished = loop {
        left -= 1;
        match outer.run(&options.command) {
            Err(error @ (Error::TimeLimit { .. } | Error::Stalled { .. })) if left > 0 => {
                say(&format!("{error}; once more"))
            }
            other => break other?,
        }
    };
    if options.timing {
        say(&format!(
            "boot {:.1} s, whole run {:.1} s",
            finished.boot.as_secs_f64(),
            finished.whole.as_secs_f64()
        ));
    }
    Ok(finished.status)
}

/// Returns a number that becomes that of the signal which asks to stop.
fn stop_on_signals() -> anyhow::Result<Arc<AtomicUsize>> {
    let stop = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(signal, Arc::clone(&stop), usize::try_from(signal)?)
            .context("cannot handle signals")?;
    }
    Ok(stop)
}

/// Reading from a terminal in its background would stop the lab.
fn may_read_stdin() -> bool {
    let stdin = std::io::stdin();
    !stdin.is_terminal()
        || rustix::termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn variable_of(variable: &OsString) -> Result<(OsString, OsString), Error> {
    let bytes = variable.as_bytes();
    match bytes.iter().position(|&b| b == b'=') {
        Some(at) => {
            Ok((OsString::from_vec(bytes[..at].to_vec()), OsString::from_vec(bytes[at + 1..].to_vec())))
        }
        None => match std::env::var_os(variable) {
            Some(value) => Ok((variable.clone(), value)),
            None => Err(Error::Usage(format!("--env {}: this variable is not set", variable.display()))),
        },
    }
}

fn get(cache: &Cache, suite: &str, flavour: Flavour, refresh: bool) -> Result<Kernel, Error> {
    if refresh { cache.refresh(suite, flavour, &say) } else { cache.kernel(suite, flavour, &say) }
}

/// Downloads the kernel of `suite` and the inner VM's if they are not there.
fn prepare(cache: &Cache, suite: &str, refresh: bool) -> Result<Kernel, Error> {
    let kernel = get(cache, suite, Flavour::Plain, refresh)?;
    lab::inner::prepare(cache, &get(cache, INNER_SUITE, Flavour::Cloud, refresh)?)?;
    Ok(kernel)
}

/// Finds the kernel and disk that the options of `lab inner` ask for.
fn boot_of(options: &cli::Inner, cache: &Cache) -> anyhow::Result<Boot> {
    let bus = match options.system {
        System::Busybox => options.bus,
        System::Debian => Some(options.bus.unwrap_or(Bus::Ide)),
    };
    if let Some(bus) = bus {
        let image = options.system.find(cache, &options.suite)?;
        return Ok(Boot::Disk(image, bus, options.loader));
    }
    if options.loader != Loader::None {
        return Err(
            Error::Usage("--loader grub loads from a disk; say which: --bus ide or virtio".into()).into()
        );
    }
    let flavour = if options.plain { Flavour::Plain } else { Flavour::Cloud };
    let kernel = cache.find(&options.suite, flavour)?.with_context(|| {
        let (suite, place) = (&options.suite, cache.path().display());
        format!("no inner kernel of {suite} in {place}; outside the outer VM, run: lab fetch --cloud {suite}")
    })?;
    Ok(Boot::Memory(kernel))
}

fn inner(options: cli::Inner) -> anyhow::Result<u8> {
    let cache = Cache::open()?;
    let boot = boot_of(&options, &cache)?;
    let inner = Inner {
        name: options.name,
        memory: options.memory,
        smp: options.smp,
        disk: options.disk,
        shell: options.exec,
        keep: options.keep,
        ping: options.ping,
        extra: options.extra,
        stop: stop_on_signals()?,
    };
    let outcome = inner.run(&cache, &boot, &say)?;
    Ok(outcome.status())
}

fn fetch(options: &cli::Fetch) -> anyhow::Result<u8> {
    doctor::check(Task::Fetch)?;
    let cache = Cache::open()?;
    for suite in &options.suites {
        let kernel = prepare(&cache, suite, options.refresh)?;
        say(&format!("{suite}: kernel {}", kernel.release));
        if options.cloud && suite != INNER_SUITE {
            let kernel = get(&cache, suite, Flavour::Cloud, options.refresh)?;
            lab::inner::prepare(&cache, &kernel)?;
            say(&format!("{suite}: kernel {}", kernel.release));
        }
        for system in &options.system {
            system.prepare(&cache, suite, options.refresh, &say)?;
            let image = system.find(&cache, suite)?;
            say(&format!("{suite}: {} {}", system.name(), image.disk.display()));
        }
    }
    Ok(0)
}

fn kernel(options: cli::Kernel) -> anyhow::Result<u8> {
    let cli::Kernel { suite, sources, out, logs } = options;
    let out = std::path::absolute(out)?;
    let start = Instant::now();
    let made = Patched { suite, sources, out: out.clone(), logs }.make(&Cache::open()?, &say)?;
    let (release, version, out) = (made.release, made.version, out.display());
    let how = if made.there {
        "is up to date".into()
    } else {
        format!("made in {:.0} s", start.elapsed().as_secs_f64())
    };
    say(&format!("{out}: KVM's modules for {release} ({version}), {how}"));
    Ok(0)
}

fn bench(options: cli::Bench) -> anyhow::Result<u8> {
    let known = lab::bench::known();
    if options.list {
        let mut stdout = std::io::stdout().lock();
        for tool in known {
            writeln!(stdout, "{:20}  {}\n{:20}  {}", tool.key, tool.label, "", tool.command)
                .map_err(Error::Output)?;
        }
        return Ok(0);
    }
    let mut tools = Vec::new();
    for key in &options.only {
        let tool = known.iter().find(|tool| tool.key == *key);
        tools.push(
            tool.with_context(|| format!("there is no tool {key:?}; lab bench --list names them"))?.clone(),
        );
    }
    for text in &options.own {
        tools.push(Tool::own(text).with_context(|| format!("{text:?} is not LABEL=COMMAND"))?);
    }
    if tools.is_empty() {
        tools = known;
    }
    doctor::check(Task::Run)?;
    let cache = Cache::open()?;
    let kernel = match (&options.kernel, &options.modules) {
        (Some(image), Some(modules)) => Kernel::from_paths(image, modules)?,
        _ => match cache.find(&options.suite, Flavour::Plain)? {
            Some(kernel) => kernel,
            None => prepare(&cache, &options.suite, false)?,
        },
    };
    let build = std::path::absolute(&options.build)?;
    let time_limit = Duration::from_secs(options.time_limit);
    let report = Bench::new(cache, kernel, build, time_limit, stop_on_signals()?)?.run(tools, &say)?;
    if let Some(file) = &options.markdown {
        std::fs::write(file, report.markdown()).with_context(|| file.display().to_string())?;
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(report.text().as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Output)?;
    Ok(u8::from(report.rows.iter().all(|row| row.figures.is_err())))
}

fn report() -> anyhow::Result<u8> {
    let mut stdout = std::io::stdout().lock();
    let mut tell = |task: Task, what: &str| -> anyhow::Result<u8> {
        for finding in doctor::examine(task) {
            match finding.state {
                Ok(path) => writeln!(stdout, "ok       {} ({})", finding.name, path.display()),
                Err(reason) => {
                    writeln!(stdout, "missing  {} ({reason}; package {})", finding.name, finding.package)
                }
            }
            .map_err(Error::Output)?;
        }
        match doctor::check(task) {
            Ok(()) => Ok(0),
            Err(Error::Missing(missing)) => {
                writeln!(stdout, "{what}as root: {}", missing.remedy()).map_err(Error::Output)?;
                Ok(1)
            }
            Err(error) => Err(error.into()),
        }
    };
    let status = tell(Task::Run, "")?;
    // Who wants no Intel machine and no system on a disk misses nothing.
    tell(Task::Vmx, "for lab run --machine vmx only, ")?;
    tell(Task::System, "for lab fetch --system only, ")?;
    tell(Task::Kernel, "for lab kernel only, ")?;
    Ok(status)
}
