//! Runs a program on a terminal of its own, drives it, and prints pictures of what it shows:
//!
//!     screen WIDTHxHEIGHT STEP... -- COMMAND...
//!
//! Steps: `wait=REGEX`, until a line of the screen has that; `keys=TEXT`, with `\r`, `\e` and `\t`; `size=WIDTHxHEIGHT`; `svg=TITLE`, which prints the
//! screen as SVG; `text`, which prints it as text. In the end the program is ended. `scripts/top-picture` uses it.

// Shared with the tests on terminals; not all of it is used here.
#[allow(dead_code)]
#[path = "../tests/common/screen.rs"]
mod screen;

use regex::Regex;
use std::error::Error;
use std::fmt::Write;
use std::process::Command;

/// Columns and lines in pixels, and what is around them.
const CELL: (f64, f64) = (7.8, 17.0);
const MARGIN: f64 = 18.0;
const TOP: f64 = 34.0;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let split =
        words.iter().position(|word| word == "--").ok_or("screen WIDTHxHEIGHT STEP... -- COMMAND...")?;
    let (size, steps) = words[..split].split_first().ok_or("no size")?;
    let (program, arguments) = words[split + 1..].split_first().ok_or("no command")?;
    let (width, height) = size.split_once('x').ok_or("a size is WIDTHxHEIGHT")?;
    let (width, height) = (width.parse()?, height.parse()?);
    let mut shown = screen::Shown::start(Command::new(program).args(arguments), width, height);
    for step in steps {
        match step.split_once('=').unwrap_or((step, "")) {
            ("wait", regex) => {
                let regex = Regex::new(regex)?;
                shown.wait(regex.as_str(), |text| text.lines().any(|line| regex.is_match(line)));
            }
            ("keys", keys) => {
                shown.keys(&keys.replace("\\r", "\r").replace("\\e", "\x1b").replace("\\t", "\t"))
            }
            ("size", size) => {
                let (width, height) = size.split_once('x').ok_or("a size is WIDTHxHEIGHT")?;
                shown.resize(width.parse()?, height.parse()?);
            }
            ("svg", title) => println!("{}", shown.with(|screen| svg(screen, title))),
            ("text", _) => println!("{}", shown.text()),
            _ => return Err(format!("no step {step:?}").into()),
        }
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The sixteen colours, on a dark ground.
fn color(color: vt100::Color) -> Option<&'static str> {
    let vt100::Color::Idx(number) = color else { return None };
    const COLORS: [&str; 8] =
        ["#0d1117", "#f47067", "#56d364", "#daaa3f", "#6cb6ff", "#dcbdfb", "#76e3ea", "#d0d7de"];
    COLORS.get(usize::from(number % 8)).copied()
}

/// A rectangle with rounded corners, three buttons, and every cell as it stands on the screen.
fn svg(screen: &vt100::Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let (width, height) =
        (f64::from(columns) * CELL.0 + 2.0 * MARGIN, TOP + f64::from(rows) * CELL.1 + MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>\n\
         text {{ font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, \"DejaVu Sans Mono\", \"Liberation Mono\", monospace; fill: #d0d7de; white-space: pre }}\n\
         .b {{ font-weight: bold }} .u {{ text-decoration: underline }} .d {{ opacity: 0.6 }}\n</style>\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\" fill=\"#0d1117\" stroke=\"#57606a\"/>\n\
         <circle cx=\"22\" cy=\"18\" r=\"6\" fill=\"#f47067\"/><circle cx=\"42\" cy=\"18\" r=\"6\" fill=\"#daaa3f\"/><circle cx=\"62\" cy=\"18\" r=\"6\" fill=\"#57ab5a\"/>\n",
        escape(title),
        width - 1.0,
        height - 1.0
    );
    for y in 0..rows {
        let mut x = 0;
        while x < columns {
            let Some(first) = screen.cell(y, x) else { break };
            // Cells that look the same, up to where they do not.
            let alike = |cell: &vt100::Cell| {
                cell.fgcolor() == first.fgcolor()
                    && (cell.bold(), cell.dim(), cell.inverse(), cell.underline())
                        == (first.bold(), first.dim(), first.inverse(), first.underline())
            };
            let mut text = String::new();
            let start = x;
            while let Some(cell) = screen.cell(y, x).filter(|cell| alike(cell)) {
                text.push_str(if cell.has_contents() { cell.contents() } else { " " });
                x += 1;
            }
            if text.trim().is_empty() && !first.inverse() {
                continue;
            }
            let (left, length) = (MARGIN + f64::from(start) * CELL.0, f64::from(x - start) * CELL.0);
            let top = TOP + f64::from(y) * CELL.1;
            let mut fill = color(first.fgcolor()).unwrap_or("#d0d7de");
            if first.inverse() {
                let _ = writeln!(
                    out,
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{fill}\"/>",
                    CELL.1
                );
                fill = "#0d1117";
            }
            let classes = [(first.bold(), "b"), (first.underline(), "u"), (first.dim(), "d")];
            let classes: Vec<&str> = classes.iter().filter(|(is, _)| *is).map(|(_, class)| *class).collect();
            let class =
                if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) };
            let _ = writeln!(
                out,
                "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{length:.1}\" style=\"fill:{fill}\" xml:space=\"preserve\"{class}>{}</text>",
                top + 13.0,
                escape(&text)
            );
        }
    }
    out + "</svg>"
}
