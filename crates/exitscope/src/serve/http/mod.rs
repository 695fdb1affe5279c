//! The process that speaks HTTP. It holds nothing but finished text, its listening sockets, and TLS' key.

mod answer;
mod auth;
mod config;
mod connection;
mod desk;
mod pool;
mod timed;

use super::{channel, confine};
use anyhow::Context;
use auth::Auth;
use config::Config;
use desk::Desk;
pub use desk::pack;
use pool::Pool;
use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::thread;

/// Address that is listened on unless another is asked for.
pub const ADDRESS: &str = "127.0.0.1:9839";

/// The first descriptor that systemd passes (sd_listen_fds(3)).
pub const FIRST_SOCKET: i32 = 3;

/// Options of the process.
pub struct Options {
    /// Addresses to listen on.
    pub addresses: Vec<String>,
    /// Number of sockets from systemd, which are listened on instead.
    pub sockets: u32,
    /// File with certificates and users.
    pub config: Option<PathBuf>,
    /// User to become; `None` for the default one.
    pub user: Option<String>,
    /// Process that is attacked, instead of anything else; for tests.
    #[cfg(feature = "lab-tests")]
    pub attack: Option<u32>,
}

/// Answers scrapes until the collector ends. The channel to it is standard input.
///
/// # Errors
/// If an address cannot be listened on, the configuration is wrong, or a right cannot be given up.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // A terminal and systemd send these to both processes: the collector ends, and says goodbye.
        // SAFETY: a plain system call; no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let channel = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    // What only root may do comes first: the key of TLS, and ports below 1024.
    let user = match &options.user {
        Some(name) => confine::User::named(name)?,
        None => confine::User::default_one(),
    };
    let config = options.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let listeners = listeners(options)?;
    confine::become_user(user)?;

    #[cfg(feature = "lab-tests")]
    if let Some(victim) = options.attack {
        confine::http()?;
        return attack(victim);
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    // A thread's begin takes system calls that are not allowed later on: without them the C library ends the process, or
    // Rust's the thread.
    let started = Arc::new(Barrier::new(pool::THREADS + listeners.len() + 2));
    let (desk, desk_thread) = Desk::open(channel.try_clone()?, started.clone())?;
    let pool = Pool::start(Arc::new(desk), config.tls, Auth::new(config.users), &started)?;
    let mut threads = vec![desk_thread];
    let mut addresses = Vec::new();
    for listener in listeners {
        let address = listener.local_addr().context("a socket of systemd's is none of TCP")?;
        addresses.push(format!("{scheme}://{address}/metrics"));
        let (pool, started) = (pool.clone(), started.clone());
        let accept = move || {
            started.wait();
            pool.accept(&listener);
        };
        threads.push(thread::Builder::new().name("accept".into()).spawn(accept)?);
    }
    started.wait();
    confine::http()?;
    (&channel).write_all(&[channel::READY]).context("the collector ended")?;
    for address in addresses {
        // Tests and people read the port here.
        writeln!(std::io::stderr(), "exitscope: listening on {address}")?;
    }
    // The end of the collector ends the process in the desk's thread; no thread ends otherwise.
    for thread in threads {
        let _ = thread.join();
    }
    Ok(ExitCode::FAILURE)
}

fn listeners(options: &Options) -> anyhow::Result<Vec<TcpListener>> {
    if options.sockets > 0 {
        let descriptors = FIRST_SOCKET..FIRST_SOCKET + i32::try_from(options.sockets)?;
        let listener = |descriptor| {
            // SAFETY: the collector has passed these descriptors, and nothing else here uses them.
            TcpListener::from(unsafe { OwnedFd::from_raw_fd(descriptor) })
        };
        return Ok(descriptors.map(listener).collect());
    }
    let listen = |address: &String| {
        // As node_exporter has it: without a host it is every address.
        let full = if address.starts_with(':') { format!("[::]{address}") } else { address.clone() };
        TcpListener::bind(&full).with_context(|| {
            format!("cannot listen on {address}; choose another address by --web.listen-address HOST:PORT")
        })
    };
    options.addresses.iter().map(listen).collect()
}

/// Prints a line for each attempt; fails if one succeeds.
#[cfg(feature = "lab-tests")]
fn attack(victim: u32) -> anyhow::Result<ExitCode> {
    let mut held = true;
    for (name, error) in confine::attempts(victim) {
        held &= error.is_some();
        let outcome = error.map_or("SUCCEEDED".into(), |error| error.to_string());
        writeln!(std::io::stderr(), "{name}: {outcome}")?;
    }
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
