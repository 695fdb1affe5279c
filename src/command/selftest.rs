//! `exitscope selftest`.

use super::events::Events;
use super::watch::Watch;
use crate::cli;
use crate::collect::{Options, Select};
use crate::guest::{self, Found, Kind, Plan};
use crate::reason;
use crate::selftest;
use crate::view::{text, unit};
use anyhow::{Context, bail};
use std::io::{self, Write};
use std::process::ExitCode;

/// How many of a kind are timed.
const TIMED: u32 = 2000;

/// Runs the guest, watched by ourselves, and compares.
pub fn run(args: &cli::Selftest) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let events = Events::listen()?;
    let found = guest::probe().context("the self-test's guest does not run")?;
    let (usable, left_out): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, found)| found.usable());
    if usable.is_empty() {
        bail!("no kind of exit can be made on this host: exitscope doctor says why");
    }
    for (kind, found) in &left_out {
        writeln!(out, "left out: {} ({}): {}", kind.name(), kind.what(), text::clean(found.what(), 300))?;
    }
    let left_out: Vec<Kind> = left_out.iter().map(|&(kind, _)| kind).collect();

    let mut exact = true;
    for vcpus in args.vcpus.map_or(vec![1, 4], |vcpus| vec![vcpus]) {
        let options = Options {
            select: Select::Pids(vec![std::process::id()]),
            source: args.source.into(),
            ..Options::default()
        };
        let Some(mut watch) = Watch::start(&options, &events, false)? else { return Ok(ExitCode::FAILURE) };
        let plans: Vec<Plan> = (0..vcpus).map(|vcpu| Plan::standard(vcpu).without(&left_out)).collect();
        let done = guest::run(&plans)?;
        let report = selftest::compare(&watch.next()?, &done);
        let name = |code| reason::name(code).into_owned();
        writeln!(out, "\n{}", selftest::render(&report, name).trim_end())?;
        exact &= report.is_exact();
    }

    writeln!(out, "\nTime of each kind, guest and host together, not watched:")?;
    for (kind, found) in usable {
        let ns = guest::time(kind, TIMED)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let time = unit::time(ns.round() as u64);
        let unsure = if found == Found::Unknown { " (not known to exit here)" } else { "" };
        writeln!(out, "  {:<18} {time:>9}{unsure}", kind.name())?;
    }
    Ok(super::code(exact))
}
