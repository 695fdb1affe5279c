//! What is told of a machine's life under the table of its exits.

use exitscope_analysis::console::MAX_LINE;
use exitscope_analysis::life::Life;
use exitscope_view::{answers, marks, phases, text, unit};

/// The phases, where there are several, the marks, and the answers.
pub fn life(life: &Life, width: Option<usize>) -> String {
    let mut said = String::from("\n");
    if let [_, _, ..] = life.series.stretches() {
        said += &phases::render(life.series.stretches(), &life.series.whole(), width);
        said.push('\n');
    }
    let marks = marks::render(&life.marks, life.marks_left_out);
    if !marks.is_empty() {
        said += &marks;
        said.push('\n');
    }
    for answer in answers::answers(life) {
        for line in text::wrap(&answer, width.unwrap_or(120)) {
            said += &line;
            said.push('\n');
        }
    }
    if life.bytes_left_out > 0 {
        let bytes = unit::counted(life.bytes_left_out, "byte");
        said += &format!("{bytes} of the console were left out: of a line {MAX_LINE} bytes are looked at.\n");
    }
    if life.left_out > 0 {
        let lines = unit::counted(life.left_out, "line");
        said += &format!("{lines} of the console came after what is kept; no spike knows of them.\n");
    }
    said
}
