//! Lines of prose, and names in them.

use super::text;
use exitscope_model::Vm;

/// Kind of a line, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Says what follows.
    Heading,
    /// Says something.
    Plain,
    /// Says something by the way.
    Aside,
    /// All is well.
    Good,
    /// Something is not as it should be, and known.
    Warning,
    /// Something is wrong.
    Alarm,
}

/// A line of prose, as long as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The kind.
    pub kind: Kind,
    /// The text, harmless.
    pub text: String,
}

/// Returns a line.
pub fn line(kind: Kind, text: impl Into<String>) -> Line {
    Line { kind, text: text.into() }
}

/// The longest name of a VM or reason anywhere for people, in columns.
pub const NAME: usize = 32;

/// The name of a VM, harmless and not too long.
pub fn vm_name(vm: &Vm) -> String {
    let name = text::clean(&vm.name, NAME);
    if name.trim().is_empty() { "(no name)".into() } else { name }
}
