//! HTML and SVG, written so that whatever is text stays text.
//!
//! This is the one place that escapes, and there is no way around it: names of elements and attributes are
//! constants of the program, all else that is written is escaped, and every element that is opened is
//! closed. One small type does for both languages, and what it writes is well-formed XML too, which is how
//! the tests read it. A crate of templates would do the half of this: none escapes what turns the direction
//! of text, and none writes what a parser of XML takes.

use crate::text;
use std::fmt::{Arguments, Display, Write};

/// Attributes and their values.
pub type Attributes<'a> = &'a [(&'static str, &'a dyn Display)];

/// Attributes of an element: `at!["x" = 1, "class" = "name"]`.
macro_rules! at {
    ($($name:literal = $value:expr),* $(,)?) => { &[$(($name, &$value as &dyn std::fmt::Display)),*] };
}
pub(super) use at;

/// A place in a drawing: to a tenth of a pixel.
pub struct Px(pub f64);

impl Display for Px {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        // Without the sign of a negative zero.
        write!(f, "{}", if rounded == 0.0 { 0.0 } else { rounded })
    }
}

/// A document that is being written.
#[derive(Debug, Default)]
pub struct Markup {
    out: String,
    /// Text before it is escaped.
    scratch: String,
}

impl Markup {
    /// Returns an empty one.
    pub fn new() -> Markup {
        Markup::default()
    }

    /// Returns what has been written.
    pub fn finish(self) -> String {
        self.out
    }

    /// Writes what the program itself has to say in the language: a declaration, a style sheet, a script.
    pub fn constant(&mut self, markup: &'static str) {
        self.out.push_str(markup);
    }

    /// An element, and in it what `inside` writes.
    pub fn with(&mut self, name: &'static str, attributes: Attributes, inside: impl FnOnce(&mut Markup)) {
        self.start(name, attributes);
        self.out.push('>');
        inside(self);
        let _ = write!(self.out, "</{name}>");
    }

    /// An element with nothing but text in it.
    pub fn tag(&mut self, name: &'static str, attributes: Attributes, text: &str) {
        self.with(name, attributes, |m| m.text(text));
    }

    /// An element that is empty: one of SVG, or one that HTML never closes.
    pub fn leaf(&mut self, name: &'static str, attributes: Attributes) {
        self.start(name, attributes);
        self.out.push_str("/>");
    }

    fn start(&mut self, name: &'static str, attributes: Attributes) {
        let _ = write!(self.out, "\n<{name}");
        // No line may begin where white space is shown.
        if INLINE.contains(&name) {
            let line = self.out.len() - name.len() - 2;
            self.out.remove(line);
        }
        for (name, value) in attributes {
            let _ = write!(self.out, " {name}=\"");
            self.format(format_args!("{value}"));
            self.out.push('"');
        }
    }

    /// Text.
    pub fn text(&mut self, text: &str) {
        escape(&mut self.out, text);
    }

    /// Text in which backquotes are around what is typed.
    pub fn prose(&mut self, text: &str) {
        for (place, part) in text.split('`').enumerate() {
            if place % 2 == 1 { self.tag("code", &[], part) } else { self.text(part) }
        }
    }

    /// Text that is made of several.
    pub fn format(&mut self, text: Arguments) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let _ = scratch.write_fmt(text);
        escape(&mut self.out, &scratch);
        self.scratch = scratch;
    }
}

/// Elements in the middle of a line.
const INLINE: [&str; 6] = ["span", "tspan", "code", "time", "b", "title"];

/// Without a character that ends text, or does anything but show itself; what is no character of XML becomes
/// visible too.
fn escape(out: &mut String, text: &str) {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        specials(out, text);
    } else {
        specials(out, &text::escape(text));
    }
}

fn specials(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &str) -> String {
        let mut m = Markup::new();
        m.with("p", at!["title" = text], |m| m.text(text));
        m.finish()
    }

    #[test]
    fn what_ends_text_does_not() {
        assert_eq!(
            written("</p><script>\"'&\u{202e}\n"),
            "\n<p title=\"&lt;/p&gt;&lt;script&gt;&quot;&#39;&amp;\\u{202e}\\n\">&lt;/p&gt;&lt;script&gt;&quot;&#39;&amp;\\u{202e}\\n</p>"
        );
        assert_eq!([0.04, -0.01, 12.34, 100.0].map(|x| Px(x).to_string()), ["0", "0", "12.3", "100"]);
    }

    proptest! {
        #[test]
        fn a_parser_finds_the_text_that_was_written(text in any::<String>()) {
            let page = written(&text);
            let parsed = roxmltree::Document::parse(&page).unwrap();
            let (p, shown) = (parsed.root_element(), text::escape(&text));
            // Two characters that XML has not.
            let shown = shown.replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}");
            prop_assert_eq!(p.attribute("title"), Some(shown.as_str()));
            prop_assert_eq!(p.text().unwrap_or_default(), shown);
            prop_assert_eq!(p.descendants().filter(|node| node.is_element()).count(), 1);
        }
    }
}
