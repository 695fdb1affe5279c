//! `exitscope advise`.

use super::choose::Named;
use super::{recorder, select};
use crate::cli::{self, AdviseFormat};
use crate::engine::sinks::{self, Whole};
use crate::engine::{Events, Session, Sinks, Times};
use exitscope_analysis::advice::{self, Host};
use exitscope_collect::host::memory_of;
use exitscope_model::{Interval, Source};
use exitscope_record::{Error, Part, Recording};
use exitscope_view as view;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Counts or reads, and prints advice alone.
///
/// # Errors
/// If nothing can be counted, the recording cannot be read, or standard output cannot be written.
pub fn run(args: &cli::Advise) -> anyhow::Result<ExitCode> {
    let evidence = match &args.file {
        Some(file) => Some(read(file, &args.watch)?),
        None => count(args)?,
    };
    let Some((interval, host)) = evidence else { return Ok(ExitCode::SUCCESS) };
    if interval.source == Source::KvmStat {
        writeln!(
            io::stderr(),
            "exitscope: these are KVM's own statistics, which tell no reasons: there is no advice on them; \
             `exitscope doctor` says what reasons need"
        )?;
    }
    let advice = advice::advise(&interval, &host);
    let text = match args.format {
        AdviseFormat::Text => view::advice::render(&advice, &interval, sinks::width(&io::stdout())),
        AdviseFormat::Json => view::advice::json(&advice, &interval)?,
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a recording; of its VMs those that were asked for.
fn read(file: &Path, watch: &cli::Watch) -> anyhow::Result<(Interval, Host)> {
    let named = Named::new(&watch.pid, &watch.guest);
    let recording = Recording::open(file)?;
    let mut whole = recording.whole(Part::default())?.ok_or_else(|| Error::NoInterval(file.to_owned()))?;
    named.check(file, whole.vms.values())?;
    whole.retain(|vm, _| named.has(vm));
    Ok((whole, Host::from(recording.about())))
}

/// Counts for the time that was asked for; `None` where a signal came before there was anything to count.
fn count(args: &cli::Advise) -> anyhow::Result<Option<(Interval, Host)>> {
    let options = select::options(&args.watch, &[])?;
    let Some(mut session) = Session::start(&options, &[], Events::listen()?)? else { return Ok(None) };
    let host = Host::from(&recorder::about(&[], args.duration, session.sampler()));
    let mut whole = Whole::default();
    let times = Times { duration: Some(args.duration), interval: None };
    session.run(times, &mut Sinks::default().required(&mut whole))?;
    let Some(whole) = whole.sum else { return Ok(None) };
    let memory = whole.vms.values().filter_map(|vm| Some((vm.pid, memory_of(vm.pid)?))).collect();
    Ok(Some((whole, Host { memory, ..host })))
}
