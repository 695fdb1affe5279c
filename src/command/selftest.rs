//! `exitscope selftest`.
use crate::cli;
use std::process::ExitCode;
/// Runs it.
pub fn run(_: &cli::Selftest) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not yet")
}
