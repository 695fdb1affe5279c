//! `exitscope mark`.

use crate::cli;
use crate::engine::{self, MAX_TEXT, Recorder};
use anyhow::bail;
use exitscope_view::unit;
use std::io::{self, Write};
use std::process::ExitCode;

/// Marks this moment in all that is being recorded, or in one.
pub fn run(args: &cli::Mark) -> anyhow::Result<ExitCode> {
    let text = args.text.join(" ");
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        bail!("a mark has a text of at most {MAX_TEXT} bytes, and this one has {}", text.len());
    }
    let folder = engine::folder()?;
    let all = engine::recorders(&folder)?;
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
    // All have it before the first is waited for: they mark the moment in which it comes.
    let sent: Vec<_> = recorders
        .into_iter()
        .map(|mut recorder| (recorder.pid, recorder.send(&text).map(|()| recorder)))
        .collect();
    let (mut kept, mut failed) = (0_u64, Vec::new());
    for (pid, sent) in sent {
        match sent.and_then(Recorder::answer) {
            Ok(()) => kept += 1,
            Err(error) => failed.push(format!("no mark in the recorder of process {pid}: {error:#}")),
        }
    }
    if kept > 0 {
        writeln!(io::stdout(), "marked in {}", unit::counted(kept, "recorder"))?;
    }
    if failed.is_empty() { Ok(ExitCode::SUCCESS) } else { bail!("{}", failed.join("; ")) }
}
