//! `exitscope selftest`.

use crate::cli;
use crate::engine::{Events, Sampler};
use crate::selftest::{self, cost};
use anyhow::{Context, bail};
use exitscope_collect::{self as collect, Options, Select};
use exitscope_model::{Measured, Source};
use exitscope_reason as reason;
use exitscope_testguest::{self as guest, Found, Kind, Plan};
use exitscope_view::{text, unit};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

/// Number of exits of a kind that are timed.
const TIMED: u32 = 2000;
/// Kind of exit that the tool's own cost is measured with: KVM does little else for it.
const CHEAP: Kind = Kind::Cpuid;
/// Time that a row of them takes, about (ns).
const ROW_NS: f64 = 20e6;
/// Number of rows that are timed before something changes, and number of turns.
const ROWS: usize = 5;
const TURNS: usize = 2;

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
        let options = watching(args, Measured::Breakdown);
        let Some(mut sampler) = Sampler::start(&options, &events, false)? else {
            return Ok(ExitCode::FAILURE);
        };
        let plans: Vec<Plan> = (0..vcpus).map(|vcpu| Plan::standard(vcpu).without(&left_out)).collect();
        let done = guest::run(&plans)?;
        let report = selftest::compare(&sampler.next_interval()?, &done);
        let name = |code| reason::name(code).into_owned();
        writeln!(out, "\n{}", selftest::render(&report, name).trim_end())?;
        exact &= report.is_exact();
    }

    if Option::<Source>::from(args.counting.source) == Some(Source::Kernel) {
        writeln!(
            out,
            "\nCost of being counted: KVM counts whether anybody looks or not, so there is nothing to compare here."
        )?;
    } else if usable.iter().any(|(kind, _)| *kind == CHEAP) {
        let (cost, count) = measure(args)?;
        writeln!(
            out,
            "\nCost of being watched, of each {} ({} in a row, {} times; median, middle half):",
            CHEAP.what(),
            unit::count(count.into()),
            ROWS * TURNS
        )?;
        write!(out, "{}", cost::render(&cost))?;
        if guest::emulated() {
            writeln!(
                out,
                "  note: this processor is QEMU's emulation, whose times are not those of hardware"
            )?;
        }
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

/// Options to count the VMs of this process.
fn watching(args: &cli::Selftest, measure: Measured) -> Options {
    Options {
        select: Select::Pids(vec![std::process::id()]),
        source: args.counting.source.into(),
        measure,
        probes: args.counting.probes.into(),
        ..Options::default()
    }
}

/// Times the same exit watched and not, by turns, so that what changes slowly (the clock rate, the host's load) changes
/// both. Says also how many are in a row.
fn measure(args: &cli::Selftest) -> anyhow::Result<(cost::Cost, u32)> {
    let guess = guest::time(CHEAP, TIMED / 4)?;
    // Between 500 and 50,000.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = (ROW_NS / guess.max(1.0)).clamp(500.0, 50_000.0) as u32;
    let rows = |times: &mut Vec<f64>| {
        for _ in 0..ROWS {
            times.push(guest::time(CHEAP, count)?);
        }
        Ok::<(), guest::Error>(())
    };
    let mut cost = cost::Cost::default();
    for _ in 0..TURNS {
        for asked in [Measured::Counts, Measured::Latency, Measured::Breakdown] {
            rows(&mut cost.bare)?;
            let begun = Instant::now();
            let source = collect::start(&watching(args, asked))?;
            let start = begun.elapsed();
            let measured = source.measured();
            if measured != asked {
                // It cannot measure that much, and was timed as what it can.
                break;
            }
            let known = cost.watched.iter().position(|watched| watched.measured == measured);
            let at = known.unwrap_or_else(|| {
                cost.watched.push(cost::Watched { measured, times: Vec::new(), starts: Vec::new() });
                cost.watched.len() - 1
            });
            rows(&mut cost.watched[at].times)?;
            cost.watched[at].starts.push(start);
        }
    }
    Ok((cost, count))
}
