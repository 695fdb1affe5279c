//! exitscope counts the exits of every KVM virtual machine on a host.
//!
//! Data runs one way: programs count in the kernel, [`exitscope_collect`] reads them into a
//! [`Sample`](exitscope_model::Sample), two samples make an [`Interval`](exitscope_model::Interval), and the engine
//! gives intervals to sinks: to [`exitscope_view`], to a recording ([`exitscope_record`]), or to the screen of [`top`].

pub mod cli;
mod command;
pub mod doctor;
pub mod engine;
pub mod selftest;
pub mod serve;
pub mod top;

use clap::Parser;

/// Runs the command line and returns its exit code.
pub fn run() -> std::process::ExitCode {
    command::run(cli::Cli::parse())
}
