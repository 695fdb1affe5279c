//! `exitscope diff`.

use crate::cli;
use crate::engine::sinks;
use anyhow::Context;
use exitscope_model::{Interval, compare_by};
use exitscope_record::{Error, Part, Recording};
use exitscope_view as view;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Reads both sides, and prints by how much they differ.
pub fn run(args: &cli::Diff) -> anyhow::Result<ExitCode> {
    let sides = [&args.first, &args.second];
    let sides = [&args.a, &args.b]
        .into_iter()
        .zip(sides)
        .map(|(list, one)| -> Vec<&PathBuf> { one.iter().chain(list).collect() });
    let sides: Vec<Vec<&PathBuf>> = sides.collect();
    let runs: Vec<Vec<Interval>> = sides
        .iter()
        .map(|paths| paths.iter().map(|path| whole(path)).collect())
        .collect::<anyhow::Result<_>>()?;
    let (a, b): (Vec<&Interval>, Vec<&Interval>) = (runs[0].iter().collect(), runs[1].iter().collect());
    let compared = compare_by(&a, &b, args.details);
    let named = |paths: &[&PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
    let names = [named(&sides[0]), named(&sides[1])];
    let bytes = match args.format {
        cli::DiffFormat::Json => view::compare::render_json(&compared, &names)?,
        cli::DiffFormat::Table => {
            let color = sinks::may_color(&io::stdout());
            view::compare::render(&compared, &names, sinks::width(&io::stdout()), color).into_bytes()
        }
    };
    let mut out = io::stdout().lock();
    out.write_all(&bytes).and_then(|()| out.flush()).context("cannot write standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn whole(path: &Path) -> anyhow::Result<Interval> {
    let whole = Recording::open(path)?.whole(Part::default())?;
    Ok(whole.ok_or_else(|| Error::NoInterval(path.to_owned()))?)
}
