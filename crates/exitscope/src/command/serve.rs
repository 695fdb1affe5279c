//! `exitscope serve`.

use super::select;
use crate::cli;
use crate::engine::Events;
use crate::serve::collector::{Collector, Feed, Http};
use crate::serve::ledger::Ledger;
use crate::serve::{Textfile, confine, http};
use anyhow::{Context, bail};
use exitscope_view::metrics::{Histograms, Options};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};

/// Word of the command that speaks HTTP.
const HTTP: &str = "serve-http";

/// Counts until a signal comes, and answers scrapes or writes the text file.
///
/// # Errors
/// If nothing can be counted, or nobody could read it.
pub fn run(args: &cli::Serve) -> anyhow::Result<ExitCode> {
    let feed = feed(args)?;
    let textfile = args.textfile.as_deref().map(Textfile::new).transpose()?;
    // Before anything is given up: the process that speaks HTTP becomes another user, and this one may no longer.
    let started = if textfile.is_none() { Some(start_http(args)?) } else { None };
    confine::collector()?;
    let events = Events::listen()?;
    let http = match started {
        Some((child, channel)) => match Http::connect(child, channel, &events)? {
            Some(http) => Some(http),
            // It has said why.
            None => return Ok(ExitCode::FAILURE),
        },
        None => None,
    };
    let collector = Collector {
        feed,
        options: options(args),
        every: args.interval,
        ledger: Ledger::new(args.grace),
        textfile,
    };
    collector.run(http, &events)?;
    Ok(ExitCode::SUCCESS)
}

/// Speaks HTTP for a collector that has started this process.
///
/// # Errors
/// Those of [`http::run`].
pub fn run_http(args: &cli::ServeHttp) -> anyhow::Result<ExitCode> {
    http::run(&http::Options {
        addresses: args.web.addresses(),
        sockets: args.sockets,
        config: args.web.config.clone(),
        user: args.web.user.clone(),
        #[cfg(feature = "lab-tests")]
        attack: args.attack,
    })
}

fn feed(args: &cli::Serve) -> anyhow::Result<Feed> {
    #[cfg(feature = "lab-tests")]
    if let Some(vms) = args.made_up {
        return Ok(Feed::MadeUp(Box::new(exitscope_model::generator::Generator::new(vms, 8))));
    }
    Ok(Feed::Waiting(Box::new(select::options(&args.watch, &[])?)))
}

fn options(args: &cli::Serve) -> Options {
    Options {
        per_vcpu: args.per_vcpu,
        histograms: match args.histograms {
            cli::HistogramChoice::None => Histograms::None,
            cli::HistogramChoice::Host => Histograms::Host,
            cli::HistogramChoice::Vm => Histograms::Vm,
        },
        coarse: args.coarse,
        details: args.top_details,
        workers: args.workers,
        max_series: args.max_series,
        ..Options::default()
    }
}

/// Starts the process that speaks HTTP. Returns it with the channel to it.
fn start_http(args: &cli::Serve) -> anyhow::Result<(Child, UnixStream)> {
    let sockets = if args.web.systemd_socket { sockets()? } else { Vec::new() };
    let (own, its) = UnixStream::pair().context("cannot make a pair of sockets")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(HTTP).args(["--sockets", &sockets.len().to_string()]).args(args.web.words());
    command.env_clear().stdin(Stdio::from(OwnedFd::from(its))).stdout(Stdio::null());
    let child = command.spawn().context("cannot start the process that speaks HTTP")?;
    // Only that one listens.
    drop(sockets);
    Ok((child, own))
}

/// Sockets that systemd has passed to this process (sd_listen_fds(3)).
fn sockets() -> anyhow::Result<Vec<OwnedFd>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let count =
        number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id())).unwrap_or(0);
    if count == 0 {
        bail!(
            "--web.systemd-socket is given, and systemd has passed no socket: start exitscope.socket, not the service alone"
        );
    }
    let last = http::FIRST_SOCKET + i32::try_from(count)?;
    // SAFETY: systemd has opened these descriptors for this process, and nothing else here uses them.
    Ok((http::FIRST_SOCKET..last).map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }).collect())
}
