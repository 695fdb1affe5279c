//! Puts generated tables into a document that people write.
//!
//! A place for a table is a line `<!-- figures: begin NAME -->` and a line `<!-- figures: end -->`. What lies between is
//! replaced; everything else stays.

use std::fmt::Write;

const BEGIN: &str = "<!-- figures: begin ";
const END: &str = "<!-- figures: end -->";

/// Returns the document with each place filled with the table of its name.
///
/// # Errors
/// The reason, with the line's number: a marker without its other half, or a name for which `table` returns `None`. An
/// error of `table` is passed on.
pub fn fill(
    document: &str,
    table: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> Result<String, String> {
    let mut filled = String::new();
    let (mut inside, mut places) = (None, 0);
    for (index, line) in document.lines().enumerate() {
        let number = index + 1;
        let name = line.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(" -->"));
        match (name, line.trim() == END, inside) {
            (Some(name), _, None) => {
                let text =
                    table(name)?.ok_or_else(|| format!("line {number}: there are no figures {name:?}"))?;
                // Writing to a string does not fail.
                let _ = write!(filled, "{line}\n\n{}\n\n", text.trim_end());
                inside = Some(number);
                places += 1;
            }
            (None, true, Some(_)) => {
                filled.push_str(END);
                filled.push('\n');
                inside = None;
            }
            (Some(_), _, Some(begin)) => {
                return Err(format!("line {number}: figures begin within those of line {begin}"));
            }
            (None, true, None) => return Err(format!("line {number}: figures end that never began")),
            (None, false, Some(_)) => {}
            (None, false, None) => {
                filled.push_str(line);
                filled.push('\n');
            }
        }
    }
    match inside {
        Some(begin) => Err(format!("line {begin}: these figures do not end: {END} is missing")),
        None if places == 0 => Err(format!("it has no place for figures: {BEGIN}NAME -->, and {END}")),
        None => Ok(filled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Result<Option<String>, String> {
        Ok(["a", "b"].contains(&name).then(|| format!("| {name} |\n")))
    }

    #[test]
    fn only_what_is_between_markers_changes() {
        let before = "# T\n\nwords\n<!-- figures: begin a -->\nold\n| x |\n<!-- figures: end -->\nmore\n\
                      <!-- figures: begin b -->\n<!-- figures: end -->\nend";
        let after = "# T\n\nwords\n<!-- figures: begin a -->\n\n| a |\n\n<!-- figures: end -->\nmore\n\
                     <!-- figures: begin b -->\n\n| b |\n\n<!-- figures: end -->\nend\n";
        assert_eq!(fill(before, &table).unwrap(), after);
        assert_eq!(fill(after, &table).unwrap(), after, "twice is as once");
    }

    #[test]
    fn broken_markers_are_named_by_line() {
        let refused = |text: &str, why: &str| {
            let reason = fill(text, &table).unwrap_err();
            assert!(reason.contains(why), "{reason}");
        };
        refused("words\n", "no place");
        refused("\n<!-- figures: begin a -->\nx\n", "line 2: these figures do not end");
        refused("<!-- figures: end -->\n", "line 1: figures end that never began");
        refused(
            "<!-- figures: begin a -->\n<!-- figures: begin b -->\n",
            "line 2: figures begin within those of line 1",
        );
        refused("<!-- figures: begin c -->\n<!-- figures: end -->\n", "no figures \"c\"");
    }
}
