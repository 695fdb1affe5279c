//! Colours of the report, light and dark.
//!
//! Reasons have the colours of Okabe and Ito ("Color Universal Design", 2008), which people with any colour
//! vision tell apart; the most frequent come first, and each has its name beside it as well.

use std::fmt::Write;

/// Number of reasons with a colour of their own; the rest together are grey.
pub const KINDS: usize = 7;

/// On what a drawing is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// On white.
    #[default]
    Light,
    /// On black.
    Dark,
}

/// Each colour's name, and what it is on light and on dark.
const COLORS: [(&str, &str, &str); 22] = [
    ("paper", "#ffffff", "#14181d"),
    ("card", "#f6f7f9", "#1c2127"),
    ("ink", "#1b1f24", "#e3e7ec"),
    ("faint", "#59626d", "#9aa4b0"),
    ("line", "#d5dae0", "#343b44"),
    ("band", "#eef1f5", "#20262d"),
    ("link", "#0b57a4", "#7ab8ff"),
    ("good", "#1a7f37", "#56d364"),
    ("warning", "#8a5a00", "#e3b341"),
    ("alarm", "#b3261e", "#ff7b72"),
    ("spike", "#b3261e", "#ff7b72"),
    ("mark", "#6f42c1", "#c9a6ff"),
    ("here", "#fff3c4", "#4a3f12"),
    ("k0", "#0072b2", "#2b8fcc"),
    ("k1", "#e69f00", "#e69f00"),
    ("k2", "#009e73", "#009e73"),
    ("k3", "#cc79a7", "#cc79a7"),
    ("k4", "#56b4e9", "#56b4e9"),
    ("k5", "#d55e00", "#d55e00"),
    ("k6", "#f0e442", "#f0e442"),
    ("k7", "#999999", "#8a8f96"),
    ("on", "#000000", "#000000"),
];

impl Theme {
    fn of(self, color: &(&'static str, &'static str, &'static str)) -> &'static str {
        match self {
            Theme::Light => color.1,
            Theme::Dark => color.2,
        }
    }

    /// A style sheet with its colours in place of `var(--NAME)`, for readers that know no variables.
    pub fn fill(self, style: &str) -> String {
        COLORS.iter().fold(style.to_owned(), |style, color| {
            style.replace(&format!("var(--{})", color.0), self.of(color))
        })
    }

    /// The colour of the ground, as red, green and blue.
    #[cfg(test)]
    fn paper(self) -> &'static str {
        self.of(&COLORS[0])
    }
}

/// The colours as variables of CSS: light, dark where that is preferred, and light again on paper.
pub fn variables() -> String {
    let set = |theme: Theme| {
        COLORS.iter().fold(String::new(), |mut set, color| {
            let _ = write!(set, "--{}:{};", color.0, theme.of(color));
            set
        })
    };
    let (light, dark) = (set(Theme::Light), set(Theme::Dark));
    format!(
        ":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance (WCAG 2.2, "relative luminance").
    fn luminance(color: &str) -> f64 {
        let part = |at: usize| {
            let c = f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        if a > b { a / b } else { b / a }
    }

    #[test]
    fn text_is_legible_in_both() {
        for theme in [Theme::Light, Theme::Dark] {
            for color in &COLORS {
                let (name, value) = (color.0, theme.of(color));
                let against = |ground: &str| contrast(value, ground);
                match name {
                    // WCAG 2.2, 1.4.3: text.
                    "ink" | "faint" | "link" | "good" | "warning" | "alarm" | "spike" | "mark" => {
                        assert!(against(theme.paper()) >= 4.5, "{theme:?}: {name}");
                    }
                    // Names of reasons stand on their colour.
                    "k0" | "k1" | "k2" | "k3" | "k4" | "k5" | "k6" | "k7" => {
                        assert!(against("#000000") >= 3.9, "{theme:?}: {name}");
                    }
                    _ => {}
                }
            }
        }
        assert!(!Theme::Dark.fill("a{fill:var(--k0);stroke:var(--ink)}").contains("var"));
    }
}
