//! Options of `serve`.

use super::parse::{parse_interval, parse_time};
use super::watch::Watch;
use crate::serve::http::ADDRESS;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Options of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Where it is served.
    #[command(flatten)]
    pub web: Web,
    /// Write the metrics into DIR/exitscope.prom at each --interval, for node_exporter's collector of text files, and open
    /// no port
    #[arg(
        long = "collect.textfile",
        value_name = "DIR",
        conflicts_with_all = ["listen_address", "systemd_socket", "config"]
    )]
    pub textfile: Option<PathBuf>,
    /// Longest time between two readings of the counters; each scrape is one, too
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval, default_value = "15s")]
    pub interval: Duration,
    /// Time for which a VM that has ended is still shown, so that the last scrapes find all of it
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "5min")]
    pub grace: Duration,
    /// Tell the vCPUs of each VM apart
    #[arg(long)]
    pub per_vcpu: bool,
    /// Histograms of host time by reason: none, of the whole host, or of each VM too
    #[arg(long, value_enum, default_value_t, value_name = "WHOSE")]
    pub histograms: HistogramChoice,
    /// Make histograms of 9 buckets in place of 27
    #[arg(long)]
    pub coarse: bool,
    /// Show of each VM the N details, such as ports and MSRs, that have most exits; which kinds are counted --details says
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub top_details: usize,
    /// Show the times of the threads that work for each VM beside its vCPUs
    #[arg(long)]
    pub workers: bool,
    /// Show at most N series of VMs. The VMs that came last are left out whole; exitscope_series_cut says how many series
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_series: usize,
    /// VMs to watch, and the source.
    #[command(flatten)]
    pub watch: Watch,
    /// Count a host with so many VMs that is made up, for tests
    #[cfg(feature = "lab-tests")]
    #[arg(long, hide = true, value_name = "VMS")]
    pub made_up: Option<u64>,
}

/// Place where scrapers find it.
#[derive(Args, Clone, Debug)]
pub struct Web {
    /// Listen here, e.g. 0.0.0.0:9839 or [::1]:9839. May be given several times [default: 127.0.0.1:9839]
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    pub listen_address: Vec<String>,
    /// Listen on the sockets that systemd passes (exitscope.socket)
    #[arg(long = "web.systemd-socket", conflicts_with = "listen_address")]
    pub systemd_socket: bool,
    /// Certificates for TLS, and users with passwords, in the format of Prometheus' exporter-toolkit; read at the start
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// User that speaks HTTP, where exitscope is started by root [default: exitscope if there is such a user, else nobody]
    #[arg(long = "web.user", value_name = "USER")]
    pub user: Option<String>,
}

impl Web {
    /// Addresses to listen on.
    pub fn addresses(&self) -> Vec<String> {
        if self.listen_address.is_empty() { vec![ADDRESS.to_owned()] } else { self.listen_address.clone() }
    }

    /// The same options on a command line, but for the sockets.
    pub fn words(&self) -> Vec<OsString> {
        let addresses =
            self.listen_address.iter().map(|address| ("--web.listen-address", OsString::from(address)));
        let config = self.config.iter().map(|file| ("--web.config.file", OsString::from(file)));
        let user = self.user.iter().map(|user| ("--web.user", OsString::from(user)));
        addresses.chain(config).chain(user).flat_map(|(name, value)| [OsString::from(name), value]).collect()
    }
}

/// Options of the process that speaks HTTP.
#[derive(Args, Debug)]
pub struct ServeHttp {
    /// Where it listens.
    #[command(flatten)]
    pub web: Web,
    /// Number of sockets that are passed
    #[arg(long, default_value_t = 0)]
    pub sockets: u32,
    /// Try what somebody would who runs code in this process, at that process
    #[cfg(feature = "lab-tests")]
    #[arg(long)]
    pub attack: Option<u32>,
}

/// Choices of `--histograms`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum HistogramChoice {
    /// None
    None,
    /// One for each reason, of all exits of the host
    #[default]
    Host,
    /// Those, and one for each reason of each VM
    Vm,
}
