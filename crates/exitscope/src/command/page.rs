//! Pages and pictures of a boot, and where they go.

use crate::engine::sinks::file;
use anyhow::{Context, bail};
use exitscope_analysis::boot_report::BootReport;
use exitscope_model::About;
use exitscope_view::Explanation;
use exitscope_view::report::{self, Format, Story, Theme};
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// Refuses to put what only a program can read on a terminal.
pub fn check(format: Format, file: Option<&Path>) -> anyhow::Result<()> {
    if cfg!(not(feature = "png")) && format == Format::Png {
        bail!("this exitscope was built without pictures in pixels (feature png); write an SVG (-f svg)");
    }
    if format == Format::Png && file.is_none() && io::stdout().is_terminal() {
        bail!("a PNG is nothing for a terminal: write it to a file with -o FILE, or into a pipe");
    }
    Ok(())
}

/// Makes sure that a page can be written when there is something to write; what is there stays until then.
pub fn check_file(path: &Path) -> anyhow::Result<()> {
    file::check(path).context("--html")
}

/// Makes a page or a picture, and writes it to a file or to standard output.
pub fn write(
    format: Format,
    dark: bool,
    (boot, facts, explanation): (&BootReport, &About, &Explanation),
    to: Option<&Path>,
) -> anyhow::Result<()> {
    let story = Story { boot, facts, explanation };
    let theme = if dark { Theme::Dark } else { Theme::Light };
    let bytes = match format {
        Format::Html => report::html(&story).into_bytes(),
        Format::Svg => report::svg(&story, theme).into_bytes(),
        #[cfg(feature = "png")]
        Format::Png => report::png(&story, theme)?,
        #[cfg(not(feature = "png"))]
        Format::Png => return check(format, to),
        Format::Interval(_) => return Ok(()),
    };
    match to {
        Some(path) => file::replace(path, &bytes),
        None => {
            let mut out = io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush()).context("cannot write standard output")
        }
    }
}
