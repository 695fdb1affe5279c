//! The names for KVM's own counters (`kernel/`): a copy of the tables that a kernel can compile.

use super::name::MODIFIERS;
use super::{all, table::Reason};
use exitscope_model::Isa;
use std::fmt::Write;

/// Returns the text of `kernel/exitscope/names.rs`.
pub fn names() -> String {
    let mut text = String::from(
        "// SPDX-License-Identifier: GPL-2.0\n\n\
         //! Made by `exitscope generate --kernel-names` from the tables of `exitscope reasons`; not to be edited.\n",
    );
    let of = |isa| all(isa).map(|reason: &Reason| (reason.code.code.cast_unsigned(), reason.name)).collect();
    let modifiers = MODIFIERS.iter().map(|modifier| (modifier.bit.cast_unsigned(), modifier.name)).collect();
    table(&mut text, "VMX", "Basic exit reasons of VMX, in the order of the codes.", of(Isa::Vmx));
    table(&mut text, "SVM", "Exit codes of SVM, in the order of the codes.", of(Isa::Svm));
    table(&mut text, "MODIFIERS", "Flags that VMX gives beside the basic reason, by bit.", modifiers);
    text
}

fn table(text: &mut String, name: &str, what: &str, mut rows: Vec<(u64, &str)>) {
    rows.sort_unstable();
    // Writing to a string does not fail.
    let _ = write!(text, "\n/// {what}\npub(crate) static {name}: &[(u64, &str)] = &[\n");
    for (code, name) in rows {
        let _ = writeln!(text, "    ({code:#x}, \"{name}\"),");
    }
    text.push_str("];\n");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_copy_is_the_same() {
        let copy = include_str!("../../../kernel/exitscope/names.rs");
        let command = "exitscope generate --kernel-names >kernel/exitscope/names.rs";
        assert!(copy == super::names(), "the tables have changed; run: {command}");
    }
}
