//! The rules, by what they are about.

mod beside;
mod clocks;
mod devices;
mod halts;
mod host;
mod interrupts;
mod memory;
mod nested;
mod scheduling;

use super::{Evidence, Finding, Rule, Sum};
use exitscope_model::{float, unit};
use std::ops::RangeInclusive;

/// Every rule. Among findings that would save the same, the earlier one comes first.
pub static RULES: &[&[Rule]] = &[
    halts::RULES,
    devices::RULES,
    clocks::RULES,
    interrupts::RULES,
    memory::RULES,
    nested::RULES,
    scheduling::RULES,
    host::RULES,
    beside::RULES,
];

/// Ports of the ACPI timer: 0x608 where firmware of QEMU puts it, 0xb008 where older machines have it.
pub const PM_TIMER: &[RangeInclusive<u16>] = &[0x608..=0x60b, 0xb008..=0xb00b];

/// Ports of the real-time clock.
pub const RTC: &[RangeInclusive<u16>] = &[0x70..=0x71];

/// Share of a VM's exits from which on a rule about a device speaks.
const MUCH: f64 = 0.25;

/// Exits for I/O ports.
const PORT_IO: &[&str] = &["IO_INSTRUCTION", "IOIO"];

/// Exits for guest memory that the host has not mapped: a first touch, a write-protected page, or a device's register.
const MEMORY: &[&str] = &["EPT_VIOLATION", "EPT_MISCONFIG", "NPF"];

/// Returns a number of exits, as "41,003 exits".
fn exits(count: u64) -> String {
    unit::counted(count, "exit")
}

/// Returns a quotient of times or counts; 0 where there is nothing to divide by.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

/// Returns the finding where `about` is at least `least` of the VM's exits; `seen` gets the exits and their share.
fn if_much(
    evidence: &Evidence<'_>,
    about: Sum,
    least: f64,
    seen: impl FnOnce(&str, &str) -> String,
    helps: impl Into<String>,
) -> Option<Finding> {
    let share = evidence.share(about.exits);
    (about.exits > 0 && share >= least).then(|| Finding {
        seen: seen(&exits(about.exits), &unit::share(share)),
        helps: helps.into(),
        about,
    })
}
