//! Options of the collector, from those of the command line.

use super::choose::choose;
use crate::cli;
use anyhow::Context;
use exitscope_collect::{Options, Select, identity};
use exitscope_model::DetailKind;
use std::ffi::OsString;

/// Finds what `args` name; beside a command and without -p and -g, its VMs are meant.
///
/// # Errors
/// If -p or -g name no VM, or -g names several.
pub fn options(args: &cli::Watch, command: &[OsString]) -> anyhow::Result<Options> {
    let select = if !args.pid.is_empty() || !args.guest.is_empty() {
        let here = identity::vms_of_host().context("cannot look for VMs in /proc")?;
        Select::Pids(choose(&args.pid, &args.guest, &here)?)
    } else if command.is_empty() {
        Select::All
    } else {
        Select::Descendants
    };
    Ok(Options {
        select,
        source: args.source.into(),
        measure: args.measure(),
        guest: false,
        command_lines: !args.no_command_lines,
        details: args.details.clone().map_or_else(DetailKind::defaults, |kinds| kinds.0),
        max_rows: args.max_rows,
        max_vcpus: args.max_vcpus,
    })
}
