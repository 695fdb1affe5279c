//! exitscope counts the exits of every KVM virtual machine on a host.
//!
//! Data runs one way: the programs in `bpf/` count in the kernel, [`collect`] reads them into a
//! [`model::Sample`], two samples make a [`model::Interval`], and [`view`] shows it.

pub mod cli;
mod command;
pub mod doctor;
mod engine;
pub mod selftest;
pub mod top;

use clap::Parser;

/// Runs the command line and returns its exit code.
pub fn run() -> std::process::ExitCode {
    command::run(cli::Cli::parse())
}
