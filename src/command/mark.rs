//! `exitscope mark`.

use super::inbox::{self, MAX_TEXT};
use crate::cli;
use crate::view::unit;
use anyhow::{Context, bail};
use std::io::{self, Write};
use std::process::ExitCode;

/// Marks this moment in all that is being recorded, or in one.
pub fn run(args: &cli::Mark) -> anyhow::Result<ExitCode> {
    let text = args.text.join(" ");
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        bail!("a mark has a text of at most {MAX_TEXT} bytes, and this one has {}", text.len());
    }
    let folder = inbox::folder()?;
    let all = inbox::recorders(&folder)?;
    let pids: Vec<u32> = all.iter().map(|recorder| recorder.pid).collect();
    let mut recorders = all;
    if let Some(pid) = args.pid {
        recorders.retain(|recorder| recorder.pid == pid);
    }
    if recorders.is_empty() {
        match (args.pid, &pids[..]) {
            (_, []) => bail!(
                "nothing is recording here: start `exitscope record` or `exitscope boot` first, and make marks as the user who \
                 started it (looked for in {})",
                folder.display()
            ),
            (pid, _) => bail!("process {} records nothing; there are {pids:?}", pid.unwrap_or(0)),
        }
    }
    let mut kept = 0_u64;
    let mut failed = None;
    for recorder in recorders {
        let pid = recorder.pid;
        match recorder.mark(&text).with_context(|| format!("no mark in the recorder of process {pid}")) {
            Ok(()) => kept += 1,
            Err(error) => failed = Some(error),
        }
    }
    if kept > 0 {
        writeln!(io::stdout(), "marked in {}", unit::counted(kept, "recorder"))?;
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}
