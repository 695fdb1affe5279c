//! Options of the collector, from those of the command line.

use super::choose::choose;
use crate::cli;
use anyhow::{Context, bail};
use exitscope_collect::{Options, Select, identity};
use exitscope_model::{DetailKind, Filter, Measured};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Finds what `args` name, and narrows it to the exits that are chosen; see [`options`].
///
/// # Errors
/// Those of [`options`], and if a detail is chosen that would not be counted.
pub fn narrowed(args: &cli::Watch, choose: &cli::Choose, command: &[OsString]) -> anyhow::Result<Options> {
    let mut options = options(args, command)?;
    options.filter = choose.filter();
    let kinds: BTreeSet<DetailKind> = options.filter.details.iter().map(|keys| keys.kind).collect();
    if kinds.is_empty() {
        return Ok(options);
    }
    if options.measure != Measured::Breakdown {
        bail!("--detail needs times that are told apart: leave out --no-split and --no-time");
    }
    match &args.details {
        None => options.details = kinds.into_iter().collect(),
        Some(counted) => {
            if let Some(kind) = kinds.iter().find(|kind| !counted.0.contains(kind)) {
                bail!("--detail asks for a {kind}, and --details does not count that kind; add it there");
            }
        }
    }
    Ok(options)
}

/// Finds what `args` name; beside a command and without -p and -g, its VMs are meant.
///
/// # Errors
/// If -p or -g name no VM, or -g names several; if details are asked for without the times that they need.
pub fn options(args: &cli::Watch, command: &[OsString]) -> anyhow::Result<Options> {
    let select = if !args.pid.is_empty() || !args.guest.is_empty() {
        let here = identity::vms_of_host().context("cannot look for VMs in /proc")?;
        Select::Pids(choose(&args.pid, &args.guest, &here)?)
    } else if command.is_empty() {
        Select::All
    } else {
        Select::Descendants
    };
    let details = match &args.details {
        Some(kinds) if !kinds.0.is_empty() && args.measure() != Measured::Breakdown => {
            bail!("--details needs times that are told apart: leave out --no-split and --no-time");
        }
        Some(kinds) => kinds.0.clone(),
        None => DetailKind::defaults(),
    };
    Ok(Options {
        select,
        source: args.counting.source.into(),
        measure: args.measure(),
        guest: false,
        command_lines: !args.no_command_lines,
        details,
        filter: Filter::default(),
        max_rows: args.max_rows,
        max_vcpus: args.max_vcpus,
        probes: args.counting.probes.into(),
    })
}
