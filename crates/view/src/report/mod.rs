//! A machine's life as a page and as a picture.
//!
//! [`html`] is one file that loads nothing; [`svg`] and [`png`] are its timeline alone. All are pure
//! functions of a [`Story`]. Everything in it may be hostile: [`markup`] is the one place where it becomes
//! text of a page.

mod bars;
mod chart;
mod console;
mod facts;
mod format;
mod labels;
mod markup;
mod page;
mod picture;
#[cfg(feature = "png")]
mod png;
mod reasons;
mod scale;
mod tables;
mod theme;
mod timeline;
mod vcpus;

#[cfg(test)]
mod tests;

use super::Explanation;
use exitscope_analysis::boot_report::BootReport;
use exitscope_model::About;

pub use format::{Format, UnknownFormat};
pub use page::html;
pub use picture::svg;
#[cfg(feature = "png")]
pub use png::{Error as PngError, png};
pub use theme::Theme;

/// All that a report tells.
#[derive(Clone, Copy, Debug)]
pub struct Story<'a> {
    /// The boot report.
    pub boot: &'a BootReport,
    /// Its provenance.
    pub facts: &'a About,
    /// Facts about the numbers.
    pub explanation: &'a Explanation,
}
