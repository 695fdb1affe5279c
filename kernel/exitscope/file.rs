// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/exitscope/counts`, for programs: lines of words, see docs/kernel.md. Each vCPU is read at one moment, and
//! nothing is held from one to the next: a VM that ends meanwhile is there as one that ended.

use core::ffi::c_void;
use core::ptr;
use kernel::bindings::loff_t;
use kernel::fmt::{self, Display};
use kernel::prelude::*;
use kernel::seq_file::{seq_print, SeqFile};

use crate::name::Name;
use crate::vcpus::{self, Owner, Reading};
use crate::{cpus, glue};

/// The format's number: another one where a line has changed its meaning.
const VERSION: u32 = 1;
/// Positions: the head, with the CPUs; the vCPUs by serial; the end.
const HEAD: loff_t = 0;
const VCPUS: loff_t = 1;
const END: loff_t = loff_t::MAX - 1;

/// The item at or after a position, which becomes that item's; null after the end. Items are positions plus one.
pub(crate) fn from(at: &mut loff_t) -> *mut c_void {
    if (VCPUS..END).contains(at) {
        let next = vcpus::next((*at - VCPUS) as u64);
        *at = next.map_or(END, |serial| (serial as loff_t).saturating_add(VCPUS));
    }
    if *at > END {
        ptr::null_mut()
    } else {
        ptr::without_provenance_mut(*at as usize + 1)
    }
}

/// Writes an item.
pub(crate) fn show(to: &SeqFile, item: *mut c_void) {
    match item.addr() as loff_t - 1 {
        HEAD => head(to),
        END => seq_print!(to, "end\n"),
        at => {
            // One that has gone since was evicted, or never ran.
            vcpus::read((at - VCPUS) as u64, |reading| vcpu(to, reading));
        }
    }
}

fn head(to: &SeqFile) {
    let vcpus::Summary { vmx, evicted, resets } = vcpus::summary();
    let isa = if vmx { "vmx" } else { "svm" };
    let (on, every) = (u32::from(glue::is_on()), glue::every());
    seq_print!(to, "exitscope {VERSION} isa={isa} on={on} every={every} resets={resets} evicted={evicted}\n");
    cpus::tallies(|number, tally| {
        seq_print!(to, "cpu {number}\n");
        tally.each(|code, since, ever| exit(to, vmx, code, since, ever));
    });
}

fn vcpu(to: &SeqFile, reading: &Reading<'_>) {
    let Reading { vcpu, serial, ended, kvm_exits, nested, torn, .. } = reading;
    let (ended, nested, torn) = (u32::from(*ended), u32::from(*nested), u32::from(*torn));
    let Owner { pid, started, comm, parents } = &vcpu.owner;
    seq_print!(
        to,
        "vcpu {serial} vm={} pid={pid} id={} ended={ended} kvm={kvm_exits} nested={nested} torn={torn} \
         started={started} comm={} parents={}\n",
        vcpu.vm,
        vcpu.id,
        Word(comm),
        List(parents)
    );
    let vmx = reading.vmx;
    reading.tally.each_of(reading.counts, |code, since, ever| exit(to, vmx, code, since, ever));
}

fn exit(to: &SeqFile, vmx: bool, code: Option<u64>, since: u64, ever: u64) {
    match code {
        Some(code) => seq_print!(to, "exit {code:#x} {since} {ever} {}\n", Name { vmx, code }),
        None => seq_print!(to, "rest {since} {ever}\n"),
    }
}

/// Untrusted bytes as one word, `-` where there are none: what is no letter or digit, `-`, `_` or `.` is `%` and two hexadecimal
/// digits.
struct Word<'a>(&'a [u8]);

impl Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut empty = true;
        for &byte in self.0.iter().take_while(|byte| **byte != 0) {
            let plain = byte.is_ascii_alphanumeric() || b"_.".contains(&byte) || (byte == b'-' && !empty);
            empty = false;
            if plain {
                write!(f, "{}", byte as char)?;
            } else {
                write!(f, "%{byte:02x}")?;
            }
        }
        if empty {
            f.write_str("-")
        } else {
            Ok(())
        }
    }
}

/// Numbers with commas between, up to the first zero; `-` where there are none.
struct List<'a>(&'a [c_int]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for number in self.0.iter().take_while(|number| **number != 0) {
            write!(f, "{comma}{number}")?;
            comma = ",";
        }
        if comma.is_empty() {
            f.write_str("-")
        } else {
            Ok(())
        }
    }
}
