//! What is told of a machine's life under the table of its exits.

use crate::boot::life::Life;
use crate::view::{answers, phases, text, unit};

/// The phases, where there are several, and the answers.
pub fn life(life: &Life, width: Option<usize>) -> String {
    let mut said = String::from("\n");
    if let [_, _, ..] = life.series.stretches() {
        said += &phases::render(life.series.stretches(), &life.series.whole(), width);
        said.push('\n');
    }
    for answer in answers::answers(life) {
        for line in text::wrap(&answer, width.unwrap_or(120)) {
            said += &line;
            said.push('\n');
        }
    }
    if life.left_out > 0 {
        let lines = unit::counted(life.left_out, "line");
        said +=
            &format!("{lines} of the console came after what is kept; no phase or spike knows of them.\n");
    }
    said
}
