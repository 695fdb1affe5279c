//! Options of the collector, from those of the command line.

use crate::cli;
use anyhow::{Context, bail};
use exitscope_collect::{Options, Select, identity};
use exitscope_view::text;
use std::ffi::OsString;

/// Finds what `args` name; beside a command, its VMs are meant.
///
/// # Errors
/// If -p or -g name no VM, or -g names several.
pub fn options(args: &cli::Watch, command: &[OsString]) -> anyhow::Result<Options> {
    Ok(Options {
        select: if command.is_empty() { select(args)? } else { Select::Descendants },
        source: args.source.into(),
        measure: args.measure(),
        guest: false,
        max_rows: args.max_rows,
        max_vcpus: args.max_vcpus,
    })
}

/// Processes that `-p` and `-g` name.
fn select(args: &cli::Watch) -> anyhow::Result<Select> {
    if args.pid.is_empty() && args.guest.is_empty() {
        return Ok(Select::All);
    }
    let here = identity::vms_of_host().context("cannot look for VMs in /proc")?;
    let name = |name: &str| text::clean(name, 60);
    let all = || {
        let names: Vec<_> =
            here.vms.iter().map(|vm| format!("{} ({})", name(&vm.identity.name), vm.pid)).collect();
        let seen =
            if names.is_empty() { "no VM runs".to_owned() } else { format!("running: {}", names.join(", ")) };
        match here.unreadable {
            0 => seen,
            n => format!("{seen}; {n} processes could not be looked into: run this as root"),
        }
    };
    let mut pids = Vec::new();
    for &pid in &args.pid {
        if !here.vms.iter().any(|vm| vm.pid == pid) {
            let what = if std::path::Path::new(&format!("/proc/{pid}")).exists() {
                "runs no VM"
            } else {
                "does not exist"
            };
            bail!("-p {pid}: that process {what}; {}", all());
        }
        pids.push(pid);
    }
    for guest in &args.guest {
        let found: Vec<_> =
            here.vms.iter().filter(|vm| vm.identity.name == *guest).map(|vm| vm.pid).collect();
        match found[..] {
            [pid] => pids.push(pid),
            [] => bail!("-g {}: no VM has that name; {}", name(guest), all()),
            _ => bail!(
                "-g {}: {} VMs have that name, the processes {found:?}; choose by -p",
                name(guest),
                found.len()
            ),
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(Select::Pids(pids))
}
