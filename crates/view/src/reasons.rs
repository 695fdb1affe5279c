//! The tables of exit reasons as text: the whole list, one entry, or why there is none.

use std::fmt;
use std::io::{self, Write};

use exitscope_model::{DetailKind, ExitCode, Isa};
use exitscope_reason::{self as reason, Found, Reason};

/// Why nothing, or not everything, was printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output could not be written; a broken pipe is one of these.
    #[error("cannot write the reasons: {0}")]
    Write(#[from] io::Error),
    /// The number is one that nobody defined.
    #[error("{0}")]
    Undefined(Undefined),
    /// No reason has this name.
    #[error("{0}")]
    Unnamed(Unnamed),
    /// KVM_RUN returns with nothing of this name or number.
    #[error("KVM_RUN returns with nothing called {0:?}; `exitscope reasons user` lists what it returns with")]
    NoReturn(String),
    /// No detail of this kind has that name or key.
    #[error("no {} here is called {query:?}; `exitscope reasons {kind}` lists those that have a name", kind.info().singular)]
    NoName {
        /// Kind of detail.
        kind: DetailKind,
        /// Name or key that was looked for.
        query: String,
    },
}

/// A number that no manual and no kernel header defines, in each numbering that was asked.
#[derive(Debug)]
pub struct Undefined(Vec<ExitCode>);

/// A name that no reason has.
#[derive(Debug)]
pub struct Unnamed {
    isa: Option<Isa>,
    text: String,
}

/// Writes the reasons of `isa` (all if `None`): the list, or with a `query` each whole entry that
/// it finds ([`reason::find`]). Lines are at most `width` columns where words allow it; a width
/// below 40 counts as 40.
///
/// # Errors
/// [`Error::Undefined`] and [`Error::Unnamed`], with advice in their text, if the query finds
/// nothing: exit status 1. [`Error::Write`] if `out` fails.
pub fn write(out: &mut impl Write, isa: Option<Isa>, query: Option<&str>, width: usize) -> Result<(), Error> {
    let width = width.max(40);
    let Some(query) = query else { return Ok(list(out, isa, width)?) };
    let found = reason::find(isa, query);
    if found.is_empty() {
        return Err(nothing(isa, query));
    }
    for (i, found) in found.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        entry(out, found, width)?;
    }
    Ok(())
}

fn nothing(isa: Option<Isa>, query: &str) -> Error {
    let codes: Vec<ExitCode> = reason::codes(isa, query).collect();
    if codes.is_empty() {
        Error::Unnamed(Unnamed { isa, text: query.to_owned() })
    } else {
        Error::Undefined(Undefined(codes))
    }
}

fn list(out: &mut impl Write, isa: Option<Isa>, width: usize) -> io::Result<()> {
    let isas = isa.map_or(vec![Isa::Vmx, Isa::Svm, Isa::KvmStat], |isa| vec![isa]);
    for (i, isa) in isas.into_iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", title(isa))?;
        table(out, isa, width)?;
    }
    Ok(())
}

fn title(isa: Isa) -> &'static str {
    match isa {
        Isa::Vmx => "Intel VMX",
        Isa::Svm => "AMD SVM",
        Isa::KvmStat => "KVM's own statistics (classes overlap and do not add up)",
    }
}

/// One row per reason: the code in decimal and hexadecimal, the name, what happened.
fn table(out: &mut impl Write, isa: Isa, width: usize) -> io::Result<()> {
    let rows: Vec<[String; 3]> = reason::all(isa)
        .map(|reason| [reason.code.code.to_string(), hex(reason.code.code), reason.name.to_owned()])
        .collect();
    let widest = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (decimal, hexadecimal, name) = (widest(0), widest(1), widest(2));
    for ([code, hex, label], reason) in rows.iter().zip(reason::all(isa)) {
        let head = format!("{code:>decimal$}  {hex:>hexadecimal$}  {label:<name$}  ");
        // Beside the name if there is room for a few words, otherwise below it.
        if head.len() + 30 <= width {
            wrap(out, &head, head.len(), reason.what, width)?;
        } else {
            writeln!(out, "{}", head.trim_end())?;
            wrap(out, "      ", 6, reason.what, width)?;
        }
    }
    Ok(())
}

/// A negative code has no hexadecimal form that anyone would look for: it stays empty.
fn hex(code: i64) -> String {
    if code < 0 { String::new() } else { format!("{code:#x}") }
}

fn entry(out: &mut impl Write, found: &Found, width: usize) -> io::Result<()> {
    let Found { code, reason } = found;
    writeln!(out, "{}  {}", numbered(*code), reason::name(*code))?;
    for modifier in reason::modifiers(*code) {
        section(out, "Besides", modifier, width)?;
    }
    if !reason.aliases.is_empty() {
        section(out, "Also called", &reason.aliases.join(", "), width)?;
    }
    if let Some(kind) = kind(reason) {
        section(out, "Counts", kind, width)?;
    }
    section(out, "What", reason.what, width)?;
    section(out, "Many when", reason.why, width)?;
    section(out, "What helps", reason.help, width)?;
    section(out, "Source", reason.source, width)
}

fn kind(reason: &Reason) -> Option<&'static str> {
    match reason.code.isa {
        Isa::KvmStat => reason::kvm::kind(reason.code.code).map(reason::kvm::Kind::describe),
        Isa::Vmx | Isa::Svm => None,
    }
}

fn section(out: &mut impl Write, label: &str, text: &str, width: usize) -> io::Result<()> {
    wrap(out, &format!("  {label:<11}  "), 15, text, width)
}

/// `VMX 30 (0x1e)`, `SVM -1`.
fn numbered(code: ExitCode) -> String {
    let isa = code.isa.name().to_uppercase();
    if code.code < 0 { format!("{isa} {}", code.code) } else { format!("{isa} {0} ({0:#x})", code.code) }
}

/// Writes `first` and then `text`, broken between words; further lines are indented by `indent`.
fn wrap(out: &mut impl Write, first: &str, indent: usize, text: &str, width: usize) -> io::Result<()> {
    let mut line = first.to_owned();
    let mut begun = false;
    for word in text.split_whitespace() {
        if begun && line.len() + 1 + word.len() > width {
            writeln!(out, "{line}")?;
            line = " ".repeat(indent);
            begun = false;
        }
        if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    writeln!(out, "{line}")
}

impl fmt::Display for Undefined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, code) in self.0.iter().enumerate() {
            let near: Vec<String> = reason::neighbours(*code).into_iter().map(numbered_name).collect();
            let separator = if i > 0 { ". " } else { "" };
            let what = match code.isa {
                Isa::Vmx | Isa::Svm => {
                    "is reserved: no manual and no kernel header that exitscope knows defines it"
                }
                Isa::KvmStat => "is no class of KVM's statistics",
            };
            write!(f, "{separator}{} {what}; nearest: {}", numbered(*code), near.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text.chars().take(40).collect();
        let which = self.isa.map_or(String::new(), |isa| format!(" {}", isa.name().to_uppercase()));
        write!(f, "no{which} exit reason is called {text:?}; ")?;
        let near: Vec<String> = reason::nearest(self.isa, &self.text).into_iter().map(brief).collect();
        if near.is_empty() {
            write!(f, "`exitscope reasons` lists them all")
        } else {
            write!(f, "did you mean {}?", near.join(", "))
        }
    }
}

/// `37 MONITOR_TRAP_FLAG`, where the numbering is plain.
fn numbered_name(reason: &'static Reason) -> String {
    format!("{} {}", reason.code.code, reason.name)
}

/// `vmx 37 MONITOR_TRAP_FLAG`, as the command line takes it.
fn brief(reason: &'static Reason) -> String {
    format!("{} {}", reason.code.isa.name(), numbered_name(reason))
}

mod known;
mod user;
pub use known::write_known;
pub use user::write_user;

#[cfg(test)]
mod tests;
