//! The words for what a recording is shown as.

use std::fmt;
use std::str::FromStr;

/// Format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A format of an interval.
    Interval(crate::Format),
    /// A page.
    Html,
    /// The timeline as a drawing.
    Svg,
    /// The timeline in pixels.
    Png,
}

impl Default for Format {
    fn default() -> Self {
        Format::Interval(crate::Format::default())
    }
}

const WORDS: [(&str, Format); 3] = [("html", Format::Html), ("svg", Format::Svg), ("png", Format::Png)];

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Interval(format) => format.fmt(f),
            other => f.pad(WORDS.iter().find(|(_, format)| format == other).map_or("", |(word, _)| word)),
        }
    }
}

/// A word that is no [`Format`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}, html, svg, png")]
pub struct UnknownFormat(crate::UnknownFormat);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Format, UnknownFormat> {
        match WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, format)) => Ok(*format),
            None => text.parse().map(Format::Interval).map_err(UnknownFormat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_its_word() {
        for format in
            [Format::default(), Format::Interval(crate::Format::Csv), Format::Html, Format::Svg, Format::Png]
        {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "pdf".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "there is no format \"pdf\"; choose from table, json, csv, kmsg, html, svg, png");
    }
}
