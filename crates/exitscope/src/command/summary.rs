//! Boot summary: the text below the table of a boot's exits.

use exitscope_analysis::boot_report::BootReport;
use exitscope_analysis::console::MAX_LINE;
use exitscope_view::{answers, marks, phases, text, unit};

/// Renders the phases (if there are several), the marks, the answers, and what was left out.
pub fn boot_report(boot: &BootReport, width: Option<usize>) -> String {
    let mut said = String::from("\n");
    if let [_, _, ..] = boot.series.stretches() {
        said += &phases::render(boot.series.stretches(), &boot.series.whole(), width);
        said.push('\n');
    }
    let marks = marks::render(&boot.marks, boot.marks_left_out);
    if !marks.is_empty() {
        said += &marks;
        said.push('\n');
    }
    for answer in answers::answers(boot) {
        for line in text::wrap(&answer, width.unwrap_or(120)) {
            said += &line;
            said.push('\n');
        }
    }
    if boot.bytes_left_out > 0 {
        let bytes = unit::counted(boot.bytes_left_out, "byte");
        said += &format!("{bytes} of the console were left out: of a line {MAX_LINE} bytes are looked at.\n");
    }
    if boot.left_out > 0 {
        let lines = unit::counted(boot.left_out, "line");
        said += &format!("{lines} of the console came after what is kept; no spike knows of them.\n");
    }
    said
}
