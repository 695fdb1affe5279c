//! The tables that the programs and we share, looked at whole: that costs the vCPUs nothing, and no system call.

use super::read::{Reader, Reading};
use super::table::{Table, peek};
use super::wire;
use exitscope_model::{Measured, Source, VmId};
use std::cell::RefCell;

/// The tables.
pub struct Tables {
    pub control: Table<wire::control>,
    pub rows: Table<wire::row>,
    pub returns: Table<wire::user_return>,
    pub details: Table<wire::detail>,
    pub vcpus: Table<wire::vcpu_slot>,
    pub vms: Table<wire::vm_info>,
}

/// Choice of what a look at the tables reads.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub source: Source,
    pub measured: Measured,
    /// Exits by the guest's mode are counted.
    pub guest: bool,
    /// A reason that has no row will find no room for one.
    pub full: bool,
    /// Time of the look (`CLOCK_MONOTONIC`, ns).
    pub now: u64,
}

/// A slot that is some vCPU's.
pub struct Found {
    pub slot: u32,
    /// The VM's place in its table.
    pub vm: u32,
    /// The vCPU is no more.
    pub ended: bool,
    /// Reasons why its exits have to be seen where they happen: `exit_need` in bpf/wire.h.
    pub needs: u32,
    /// Its figures; `None` for one that is not counted.
    pub reading: Option<Reading>,
}

/// A place in one of the tables.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Row(u32),
    Return(u32),
    Detail(u32),
    Vcpu(u32),
}

impl Tables {
    /// Begins an epoch. Returns the one that has ended.
    pub fn begin_epoch(&self) -> u64 {
        let control = self.control.at(0);
        let epoch = peek!(control, epoch);
        // SAFETY: the pointer is into a live mapping; the programs only read this field.
        unsafe { (&raw mut (*control).epoch).write_volatile(epoch + 1) };
        epoch
    }

    /// Tells the programs why the exits of all vCPUs have to be seen where they happen.
    pub fn set_needs(&self, needs: u32) {
        let control = self.control.at(0);
        // SAFETY: the pointer is into a live mapping; the programs only read this field.
        unsafe { (&raw mut (*control).needs).write_volatile(needs) };
    }

    /// Everybody who is there, with what was counted.
    pub fn look(&self, epoch: u64, view: View) -> Vec<Found> {
        let View { source, measured, guest, full, now } = view;
        let reader = Reader {
            rows: &self.rows,
            returns: &self.returns,
            details: &self.details,
            source,
            measured,
            guest,
            full,
            epoch,
            now,
            copied: RefCell::default(),
        };
        let used = peek!(self.control.at(0), next_vcpu).min(self.vcpus.len());
        let mut found = Vec::with_capacity(used as usize);
        for index in 1..used {
            let slot = self.vcpus.at(index);
            let (mut counted, mut ended) = (true, false);
            match peek!(slot, state) {
                wire::VCPU_ENDED => ended = true,
                wire::VCPU_IGNORED => counted = false,
                // Nobody's yet. One that has counted has no key either while it ends, but must not be missed: it would
                // seem new in the next sample.
                wire::VCPU_NEW if peek!(slot, key) == 0 => continue,
                // It has not counted anything yet, but its VM is in use.
                wire::VCPU_NEW => counted = false,
                _ => {}
            }
            // Only one that was ignored ends without an exit: it gives its place back, and is nobody's business.
            counted &= !ended || peek!(slot, rows) != 0 || peek!(slot, no_row) != 0;
            let vm = peek!(slot, vm);
            let id = VmId(peek!(self.vms.at(vm), id));
            let reading = counted.then(|| reader.read(slot, id));
            let needs = if counted && !ended { peek!(slot, needs) } else { 0 };
            found.push(Found { slot: index, vm, ended, needs, reading });
        }
        found
    }

    /// Clears the slot of a vCPU that ended, and all that it had. Tells `free` each place, when it is clear.
    ///
    /// # Errors
    /// Those of `free`.
    pub fn clear<E>(&self, slot: u32, mut free: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        let vcpu = self.vcpus.at(slot);
        for mut row in [peek!(vcpu, first_row), peek!(vcpu, first_odd)] {
            while row != 0 {
                let mut returned = peek!(self.rows.at(row), first_return);
                while returned != 0 {
                    let next = peek!(self.returns.at(returned), next);
                    self.returns.clear(returned);
                    free(Place::Return(returned))?;
                    returned = next;
                }
                let mut detail = peek!(self.rows.at(row), first_detail);
                while detail != 0 {
                    let next = peek!(self.details.at(detail), next);
                    self.details.clear(detail);
                    free(Place::Detail(detail))?;
                    detail = next;
                }
                let next = peek!(self.rows.at(row), next);
                self.rows.clear(row);
                free(Place::Row(row))?;
                row = next;
            }
        }
        self.vcpus.clear(slot);
        free(Place::Vcpu(slot))
    }
}
