// SPDX-License-Identifier: GPL-2.0

//! Numbers and names of exit codes, written as `exitscope kmsg` writes them.

use kernel::fmt::{self, Display};

use crate::names::{MODIFIERS, SVM, VMX};

/// VMX: the entry to the guest failed (SDM vol. 3, "Basic VM-Exit Information").
const FAILED_ENTRY: u64 = 1 << 31;
/// Above VMX's basic reasons are bits that say more.
const BASIC: u64 = 0xffff;

/// A code's number as the manuals write it: VMX's decimal, SVM's hexadecimal, and -1.
pub(crate) struct Number {
    pub(crate) vmx: bool,
    pub(crate) code: u64,
}

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = self.code as i64;
        if signed < 0 || (self.vmx && self.code <= BASIC) {
            write!(f, "{signed}")
        } else {
            write!(f, "{:#x}", self.code)
        }
    }
}

/// A code's name, or its number where it has none.
pub(crate) struct Name {
    pub(crate) vmx: bool,
    pub(crate) code: u64,
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.vmx {
            return plain(SVM, self.code, f);
        }
        let known = MODIFIERS.iter().fold(FAILED_ENTRY, |bits, (bit, _)| bits | bit);
        if self.code & !(BASIC | known) != 0 {
            return plain(&[], self.code, f);
        }
        if self.code & FAILED_ENTRY != 0 {
            f.write_str("FAILED_ENTRY:")?;
        }
        plain(VMX, self.code & BASIC, f)?;
        for (_, name) in MODIFIERS.iter().filter(|(bit, _)| self.code & bit != 0) {
            write!(f, "+{name}")?;
        }
        Ok(())
    }
}

fn plain(names: &[(u64, &str)], code: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match names.binary_search_by_key(&code, |(code, _)| *code) {
        Ok(at) => f.write_str(names[at].1),
        Err(_) if (code as i64) < 0 => write!(f, "{}", code as i64),
        Err(_) => write!(f, "{code:#x}"),
    }
}
