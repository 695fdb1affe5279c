//! The tables: for the terminal, and as Markdown.

use crate::thousands::group;
use std::fmt::Write;

use super::{Figure, Suite, Tool};

/// A tool and what was measured beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The tool.
    pub tool: Tool,
    /// Its figures, or why there are none.
    pub figures: Result<Vec<Figure>, String>,
}

/// Everything that one run has measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The outer VM's kernel.
    pub kernel: String,
    /// The day, in UTC.
    pub date: String,
    /// The programs' versions, as they tell them.
    pub versions: Vec<String>,
    /// A row for each tool.
    pub rows: Vec<Row>,
}

/// Returns a column's heading for a figure's name.
fn title(name: &str) -> String {
    let (work, vcpus) = name.split_once('@').map_or((name, None), |(work, vcpus)| (work, Some(vcpus)));
    let work = match work {
        "cpuid" => "CPUID".to_owned(),
        "mixed" => format!("{} reasons in turn", super::code::MIXED_EXITS),
        "port-write" => "port write".to_owned(),
        "mmio-write" => "MMIO write".to_owned(),
        "page-fault" => "page fault".to_owned(),
        "halt" => "halt".to_owned(),
        other => other.to_owned(),
    };
    match vcpus {
        Some("1") => format!("1 vCPU, {work}"),
        Some(vcpus) => format!("{vcpus} vCPUs, {work}"),
        None => work,
    }
}

/// Returns one line with the instructions that a tool added to each kind of exit.
pub(super) fn line(figures: &[Figure]) -> String {
    let one = |figure: &Figure| format!("{} {}", title(&figure.name), added(figure.watched - figure.bare));
    figures.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Report {
    /// Cells of the table of a suite, its head first; `None` where nothing of it was measured.
    fn cells(&self, suite: Suite) -> Option<Vec<Vec<String>>> {
        let measured = || {
            let rows = self.rows.iter().filter(|row| row.tool.suite == suite);
            rows.filter_map(|row| row.figures.as_ref().ok().map(|figures| (&row.tool, figures)))
        };
        let (_, first) = measured().next()?;
        let mut head = vec!["watched by".to_owned()];
        head.extend(first.iter().map(|figure| title(&figure.name)));
        let mut bare = vec!["nothing: a whole exit".to_owned()];
        bare.extend(first.iter().map(|figure| group(figure.bare)));
        let mut cells = vec![head, bare];
        for (tool, figures) in measured() {
            let mut row = vec![tool.label.clone()];
            row.extend(figures.iter().map(|figure| added(figure.watched - figure.bare)));
            cells.push(row);
        }
        if suite == Suite::Scale {
            // Few tools, and long heads of columns: the other way round.
            let columns = 0..cells[0].len();
            cells = columns.map(|column| cells.iter().map(|row| row[column].clone()).collect()).collect();
        }
        Some(cells)
    }

    /// The tables, for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("kernel {}, {}: instructions added to each exit\n", self.kernel, self.date);
        for cells in [Suite::Kinds, Suite::Scale].into_iter().filter_map(|suite| self.cells(suite)) {
            let columns = cells[0].len();
            let width =
                |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let widths: Vec<usize> = (0..columns).map(width).collect();
            out.push('\n');
            for row in &cells {
                let mut line = format!("{:<1$}", row[0], widths[0]);
                for (cell, width) in row.iter().zip(&widths).skip(1) {
                    // Writing to a string does not fail.
                    let _ = write!(line, "  {cell:>width$}");
                }
                out.push_str(line.trim_end());
                out.push('\n');
            }
        }
        for (label, reason) in self.without() {
            let _ = writeln!(out, "\nno figure for {label}: {reason}");
        }
        out
    }

    /// The tables with the commands behind them, in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("## {}, kernel {}\n", self.date, self.kernel);
        for cells in [Suite::Kinds, Suite::Scale].into_iter().filter_map(|suite| self.cells(suite)) {
            out.push('\n');
            for (number, row) in cells.iter().enumerate() {
                let _ = writeln!(out, "| {} |", row.join(" | "));
                if number == 0 {
                    let _ = writeln!(out, "|---|{}", "---:|".repeat(row.len() - 1));
                }
            }
        }
        let _ = writeln!(out, "\n{}.\n", self.versions.join("; "));
        for row in self.rows.iter().filter(|row| row.figures.is_ok()) {
            let _ = writeln!(out, "    # {}\n    {}", row.tool.label, row.tool.command);
        }
        for (label, reason) in self.without() {
            let _ = writeln!(out, "\nNo figure for {label}: {reason}.");
        }
        out
    }

    fn without(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rows.iter().filter_map(|row| {
            row.figures.as_ref().err().map(|reason| (row.tool.label.as_str(), reason.as_str()))
        })
    }
}

/// With its sign.
fn added(value: f64) -> String {
    format!("{}{}", if value <= -0.5 { '-' } else { '+' }, group(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, figures: Result<&[(&str, f64, f64)], &str>) -> Row {
        let mut tool = super::super::known().into_iter().find(|tool| tool.key == key).unwrap();
        tool.command = format!("{key} | run");
        let figure = |&(name, bare, watched): &(&str, f64, f64)| Figure { name: name.into(), bare, watched };
        let figures = figures.map(|figures| figures.iter().map(figure).collect()).map_err(str::to_owned);
        Row { tool, figures }
    }

    #[test]
    fn a_report_shows_what_was_added_and_what_is_missing() {
        let report = Report {
            kernel: "6.1.0".into(),
            date: "2025-01-02".into(),
            versions: vec!["perf version 6.1".into(), "exitscope 0.1.0".into()],
            rows: vec![
                row("split", Ok(&[("cpuid", 2859.4, 3527.1), ("halt", 9000.0, 8998.0)])),
                row("trace-cmd", Err("trace-cmd is not installed")),
                row("perf-live", Ok(&[("cpuid", 2859.0, 11_589.0), ("halt", 9000.0, 1_009_000.0)])),
                row("scale", Ok(&[("mixed@64", 5000.0, 5600.0)])),
            ],
        };
        assert_eq!(
            report.text(),
            "kernel 6.1.0, 2025-01-02: instructions added to each exit\n\n\
             watched by              CPUID        halt\n\
             nothing: a whole exit   2,859       9,000\n\
             exitscope                +668          -2\n\
             perf kvm stat live     +8,730  +1,000,000\n\n\
             watched by                    nothing: a whole exit  exitscope\n\
             64 vCPUs, 26 reasons in turn                  5,000       +600\n\n\
             no figure for trace-cmd record: trace-cmd is not installed\n"
        );
        let markdown = report.markdown();
        assert!(markdown.contains("| watched by | CPUID | halt |\n|---|---:|---:|\n"), "{markdown}");
        assert!(
            markdown.contains("No figure for trace-cmd record: trace-cmd is not installed."),
            "{markdown}"
        );
        assert!(markdown.contains("    # perf kvm stat live\n    perf-live | run\n"), "{markdown}");
        assert!(markdown.contains("perf version 6.1; exitscope 0.1.0."), "{markdown}");
    }
}
