//! Commands: each wires a session to its sinks, or a recording to a view.

mod advise;
mod boot;
mod choose;
mod diff;
mod kmsg;
mod mark;
mod page;
mod record;
mod recorder;
mod report;
mod select;
mod selftest;
mod serve;
mod sql;
mod stat;
mod summary;
mod top;

use crate::cli::{self, Cli, Command};
use crate::doctor;
use crate::engine::{CannotRun, sinks};
use anyhow::Context;
use clap::CommandFactory;
use exitscope_view as view;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

/// Exit status if exitscope fails beside a command whose own status is passed on, as `env` and `timeout` have it.
const OUR_FAILURE: u8 = 125;

/// Runs the command of the command line. Returns its exit status.
pub fn run(cli: Cli) -> ExitCode {
    survive_file_size_limit();
    let (result, failure) = match cli.command {
        Command::Stat(args) => {
            let failure = if args.command.is_empty() { 1 } else { OUR_FAILURE };
            (stat::run(&args), failure)
        }
        Command::Boot(args) => (boot::run(&args), OUR_FAILURE),
        Command::Record(args) => {
            let failure = if args.command.is_empty() { 1 } else { OUR_FAILURE };
            (record::run(&args), failure)
        }
        Command::Mark(args) => (mark::run(&args), 1),
        Command::Diff(args) => (diff::run(&args), 1),
        Command::Report(args) => (report::run(&args), 1),
        Command::Sql(args) => (sql::run(&args), 1),
        Command::Top(args) => (top::run(&args), 1),
        Command::Advise(args) => (advise::run(&args), 1),
        Command::Reasons(args) => (reasons(&args), 1),
        Command::Serve(args) => (serve::run(&args), 1),
        Command::ServeHttp(args) => (serve::run_http(&args), 1),
        Command::Kmsg(args) => (kmsg::run(&args), 1),
        Command::Selftest(args) => (selftest::run(&args), 1),
        Command::Doctor => (run_doctor(), 1),
        Command::Generate(args) => (generate(&args), 1),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.downcast_ref::<CannotRun>().map_or(failure, CannotRun::code);
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "exitscope: {}", view::text::clean(&format!("{error:#}"), 2000));
            ExitCode::from(code)
        }
    }
}

/// Makes a file that may not grow (setrlimit(2), `RLIMIT_FSIZE`) an error of writing it, which is told, rather than a signal that
/// ends the process. A handler, because a command that is run would inherit that the signal is ignored.
fn survive_file_size_limit() {
    let came = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Where that fails, the signal ends the process as it did.
    let _ = signal_hook::flag::register(libc::SIGXFSZ, came);
}

/// Returns true if the reader of our output has gone, which is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn code(success: bool) -> ExitCode {
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn reasons(args: &cli::Reasons) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    let width = sinks::width(&io::stdout()).unwrap_or(100);
    if args.is_user() {
        view::reasons::write_user(&mut out, args.second.as_deref(), width)?;
    } else if let Some(kind) = args.kind() {
        view::reasons::write_known(&mut out, kind, args.second.as_deref(), width)?;
    } else {
        let (isa, query) = args.asked();
        view::reasons::write(&mut out, isa, query.as_deref(), width)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn run_doctor() -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let fine = doctor::run(&mut out)?;
    out.flush()?;
    Ok(code(fine))
}

fn generate(args: &cli::Generate) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    if args.completions.is_none() && args.man.is_none() && !args.kernel_names {
        anyhow::bail!("nothing to generate: give --man, --completions or --kernel-names");
    }
    if args.kernel_names {
        io::stdout().write_all(exitscope_reason::kernel_names().as_bytes())?;
    }
    if let Some(shell) = args.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "exitscope", &mut script);
        io::stdout().write_all(&script)?;
    }
    if let Some(folder) = &args.man {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        clap_mangen::generate_to(command, folder)
            .with_context(|| format!("cannot write the man pages into {}", folder.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
