//! Control registers, and registers of the local APIC by their offset.
//!
//! SDM vol. 3, "Control Registers", "Local APIC Register Address Map".

use super::detail::{Known, table};

/// Control registers.
pub const REGISTERS: &[Known] = table! {
    0 "protection, paging, cache";
    2 "page fault address";
    3 "page tables";
    4 "features";
    8 "task priority"
        => "Old or 32-bit guests raise it for each interrupt: a newer guest, or TPR shadowing, AVIC or APICv.";
};

/// Registers of the local APIC; those from 0x1000 on are vectors that were ended.
pub const APIC: &[Known] = table! {
    0x20 "ID";
    0x30 "version";
    0x80 "TPR";
    0x90 "APR";
    0xa0 "PPR";
    0xb0 "EOI";
    0xd0 "LDR";
    0xe0 "DFR";
    0xf0 "SVR";
    0x100..=0x17f "ISR";
    0x180..=0x1ff "TMR";
    0x200..=0x27f "IRR";
    0x280 "ESR";
    0x2f0 "LVT CMCI";
    0x300 "ICR";
    0x310 "ICR, destination";
    0x320 "LVT timer";
    0x330 "LVT thermal";
    0x340 "LVT PMI";
    0x350..=0x360 "LVT LINT0-1";
    0x370 "LVT error";
    0x380 "timer, initial count";
    0x390 "timer, current count";
    0x3e0 "timer, divide";
    0x3f0 "self IPI";
    0x1000..=0x10ff "EOI of a vector";
};
