//! Text of unknown origin made fit to show, and text laid out by its width on a terminal.
//!
//! The name of a VM is its owner's choice, and a hostile owner's name must not move the cursor,
//! turn the direction of reading, hide itself or fill the screen.

use std::borrow::Cow;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Stands for what was cut out.
const ELLIPSIS: char = '…';

/// Marks without a width that one character may carry.
const MARKS: usize = 2;

/// `text` without control, direction-changing and invisible characters, which become escapes
/// (`\n`, `\x1b`, `\u{202e}`), and at most `columns` wide: the middle is cut out of longer text,
/// because names tend to differ at their ends.
pub fn clean(text: &str, columns: usize) -> String {
    // Every piece but a mark is at least a column wide, so this many characters are always enough
    // to fill the columns from either side, however long the text is.
    let enough = (columns + 1) * (MARKS + 2);
    let (head, tail) = match text.char_indices().nth(2 * enough) {
        None => (text, ""),
        Some(_) => {
            let end = text.char_indices().nth(enough).map_or(text.len(), |(at, _)| at);
            let start = text.char_indices().rev().nth(enough - 1).map_or(0, |(at, _)| at);
            (&text[..end], &text[start..])
        }
    };
    let (mut front, mut back) = (pieces(head), pieces(tail));
    let whole = front.concat();
    if tail.is_empty() && whole.width() <= columns {
        return whole;
    }
    if tail.is_empty() {
        back = front.split_off(front.len() / 2);
    }
    if columns == 0 {
        return String::new();
    }
    let back_columns = (columns - 1) / 2;
    let mut end = String::new();
    for piece in back.iter().rev() {
        if piece.width() + end.width() > back_columns {
            break;
        }
        end.insert_str(0, piece);
    }
    let mut out = String::new();
    for piece in front.iter().chain(&back) {
        if out.width() + piece.width() + 1 + end.width() > columns {
            break;
        }
        out.push_str(piece);
    }
    out.push(ELLIPSIS);
    out + &end
}

/// `text` with the same escapes, however long it gets.
pub fn escape(text: &str) -> String {
    pieces(text).concat()
}

/// Returns the text that a terminal would show of a line: what it says after the last carriage return,
/// without control sequences (ECMA-48: 5.3, ESC and a letter; 5.4, ESC, `[`, parameters and a letter), with
/// which consoles colour their lines, and the choice of a set of characters. All else stays, as what has an
/// end of its own somewhere, like a window's title.
pub fn on_terminal(line: &str) -> Cow<'_, str> {
    let line = line.trim_end_matches('\r');
    let line = match line.rsplit_once('\r') {
        Some((_, after)) if !after.trim().is_empty() => after,
        _ => line,
    };
    if !line.contains('\x1b') {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&rest[..at]);
        let sequence = &rest[at..];
        let bytes = sequence.as_bytes();
        let body = bytes.iter().skip(2).take_while(|byte| (0x20..=0x3f).contains(*byte)).count();
        let length = match (bytes.get(1), bytes.get(2 + body)) {
            (Some(b'['), Some(0x40..=0x7e)) => 3 + body,
            (Some(b'(' | b')'), Some(0x40..=0x7e)) if body == 0 => 3,
            (Some(b'7' | b'8' | b'=' | b'>' | b'A'..=b'O'), _) => 2,
            _ => {
                out.push('\x1b');
                1
            }
        };
        rest = &sequence[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The characters of `text`, escaped where they must be; marks are with what carries them.
fn pieces(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut marks = MARKS;
    for c in text.chars() {
        if is_unsafe(c) {
            out.push(match c {
                '\n' | '\r' | '\t' => c.escape_default().to_string(),
                '\0'..='\u{ff}' => format!("\\x{:02x}", u32::from(c)),
                _ => c.escape_unicode().to_string(),
            });
            marks = MARKS;
        } else if c.width().unwrap_or(0) > 0 {
            out.push(c.to_string());
            marks = 0;
        } else if let Some(last) = out.last_mut().filter(|_| marks < MARKS) {
            last.push(c);
            marks += 1;
        } else {
            out.push(c.escape_unicode().to_string());
        }
    }
    out
}

/// Returns true if `c` does something to a terminal, or to how the text around it reads, other than
/// showing itself: control characters (Unicode category Cc), what orders directions
/// (Unicode annex 9), line separators, and what is invisible by default (property
/// `Default_Ignorable_Code_Point`, annex 44).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` with spaces to its right until it is `columns` wide.
pub fn left(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())))
}

/// `text` with spaces to its left until it is `columns` wide.
pub fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(text.width())))
}

/// `text` in lines of at most `columns`, broken at spaces, all but the first two spaces in. A
/// longer word has its line to itself.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.trim().is_empty() && line.width() + 1 + word.width() > columns {
            lines.push(std::mem::replace(&mut line, "  ".into()));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_names_become_harmless() {
        let name = "\x1b[2J\x1b]0;pwned\x07web\u{202e}1-dro\u{200b}w\u{9b}m\r\n";
        assert_eq!(clean(name, 200), r"\x1b[2J\x1b]0;pwned\x07web\u{202e}1-dro\u{200b}w\x9bm\r\n");
        assert_eq!(clean(name, 20), r"\x1b[2J…\x9bm\r\n");
        let marks = format!("a{}", "\u{301}".repeat(1000));
        assert_eq!(clean(&marks, 8), "a\u{301}\u{301}…");
        assert_eq!(clean("\u{301}x", 20), r"\u{301}x");
    }

    #[test]
    fn honest_names_stay() {
        for name in ["web-1", "Büro", "नमस्ते", "データベース", "vm with spaces", "cafe\u{301}"]
        {
            assert_eq!(clean(name, 32), name);
        }
        assert_eq!(clean("production-database-eu-west-07", 16), "producti…west-07");
        assert_eq!(clean("データベース", 8), "デー…ス");
    }

    #[test]
    fn prose_breaks_at_spaces() {
        assert_eq!(wrap("one two three four", 9), ["one two", "  three", "  four"]);
        assert_eq!(wrap("unbreakable word", 4), ["unbreakable", "  word"]);
    }

    #[test]
    fn a_line_loses_its_colours_and_keeps_the_rest() {
        let line = "[\x1b[0;1;32m  OK  \x1b[0m] \x1b(BStarted \x1b]0;title\x07 \x1b[2J\x1b[é \x1b[1";
        assert_eq!(on_terminal(line), "[  OK  ] Started \x1b]0;title\x07 \x1b[é \x1b[1");
        assert_eq!(on_terminal("plain\x07\r"), "plain\x07");
        assert_eq!(on_terminal("loading\r\x1bM\x1b[Kloaded\r"), "loaded");
        assert_eq!(on_terminal("\x1b"), "\x1b");
    }

    /// Written down apart from [`is_unsafe`]: C0, DEL and C1, what is without width, line
    /// separators, what orders directions, tags.
    const HARMFUL: fn(char) -> bool = |c| {
        let ranges = [
            (0, 0x1f),
            (0x7f, 0x9f),
            (0xad, 0xad),
            (0x61c, 0x61c),
            (0x200b, 0x200f),
            (0x2028, 0x202e),
            (0x2060, 0x2069),
            (0xfeff, 0xfeff),
            (0xe0001, 0xe007f),
        ];
        ranges.iter().any(|&(first, last)| (first..=last).contains(&u32::from(c)))
    };

    proptest! {
        #[test]
        fn nothing_unsafe_leaves_and_the_width_is_bounded(
            text in prop_oneof![
                ".*",
                "[\\x00-\\x1f\\x7f-\\x9f\u{200b}-\u{202e}\u{2060}-\u{206f}\u{300}-\u{303}\u{1f1e6}-\u{1f1ff}a字]{0,300}",
            ],
            columns in 0usize..50,
        ) {
            let shown = clean(&text, columns);
            prop_assert!(!shown.contains(HARMFUL), "{:?}", shown);
            prop_assert!(shown.width() <= columns, "{:?} is {} wide", shown, shown.width());
            prop_assert!(shown.chars().count() <= columns * (MARKS + 1));
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(HARMFUL), "{:?}", escaped);
            if escaped.width() <= columns {
                prop_assert_eq!(shown, escaped);
            }
        }
    }
}
