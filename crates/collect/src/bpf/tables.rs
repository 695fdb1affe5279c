//! The tables that the programs and we share, looked at whole: that costs the vCPUs nothing, and no system call.

use super::read::{Reader, Reading};
use super::table::{Table, peek};
use super::wire;
use exitscope_model::{Measured, VmId};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

/// The tables.
pub struct Tables {
    pub control: Table<wire::control>,
    pub rows: Table<wire::row>,
    pub returns: Table<wire::user_return>,
    pub details: Table<wire::detail>,
    pub vcpus: Table<wire::vcpu_slot>,
    pub vms: Table<wire::vm_info>,
    pub holdings: Table<wire::holding>,
}

/// Choice of what a look at the tables reads.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The programs read KVM's own count.
    pub kvm_counts: bool,
    pub measured: Measured,
    /// Exits by the guest's mode are counted.
    pub guest: bool,
    /// The table of rows is full.
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
        let View { kvm_counts, measured, guest, full, now } = view;
        let reader = Reader {
            rows: &self.rows,
            returns: &self.returns,
            details: &self.details,
            kvm_counts,
            measured,
            guest,
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
            let full = full || !self.may_take(slot, wire::FAIR_ROWS, self.rows.len());
            let reading = counted.then(|| reader.read(slot, id, full));
            let needs = if counted && !ended { peek!(slot, needs) } else { 0 };
            found.push(Found { slot: index, vm, ended, needs, reading });
        }
        found
    }

    /// Returns the number of a vCPU's returns to user space that are told apart.
    pub fn count_returns(&self, slot: u32) -> u64 {
        let vcpu = self.vcpus.at(slot);
        let mut count = 0;
        for mut row in [peek!(vcpu, first_row), peek!(vcpu, first_odd)] {
            // The lists may be written meanwhile, and have an end.
            while row != 0 && row < self.rows.len() && count < u64::from(self.returns.len()) {
                let mut returned = peek!(self.rows.at(row), first_return);
                while returned != 0 && returned < self.returns.len() && count < u64::from(self.returns.len())
                {
                    count += 1;
                    returned = peek!(self.returns.at(returned), next);
                }
                row = peek!(self.rows.at(row), next);
            }
        }
        count
    }

    /// Returns the number of a vCPU's details that are told apart.
    pub fn count_details(&self, slot: u32) -> u64 {
        let vcpu = self.vcpus.at(slot);
        let (mut count, mut rows) = (0, 0);
        for mut row in [peek!(vcpu, first_row), peek!(vcpu, first_odd)] {
            // The lists may be written meanwhile, and have an end.
            while row != 0 && row < self.rows.len() && rows < self.rows.len() {
                count += u64::from(peek!(self.rows.at(row), details));
                row = peek!(self.rows.at(row), next);
                rows += 1;
            }
        }
        count
    }

    /// Returns true if the owners of a vCPU may have one more place of a table, by `may_take()` of bpf/fair.bpf.h.
    fn may_take(&self, slot: *const wire::vcpu_slot, table: u32, len: u32) -> bool {
        let table = table as usize;
        let held = peek!(self.control.at(0), held.places[table]) + 1;
        let left = u64::from(len.saturating_sub(held));
        let owners = peek!(slot, owners);
        [(owners.process, wire::PROCESS_SHARE), (owners.user, wire::USER_SHARE)].into_iter().all(
            |(owner, share)| {
                let held = owner.map(|at| peek!(self.holdings.at(at.into()), places[table]));
                u64::from(held[0].min(held[1])) < left * u64::from(share)
            },
        )
    }

    /// Takes places that are free again off what their owners hold, which programs add to meanwhile.
    fn let_go(&self, owners: wire::owners, places: [u32; wire::FAIR_TABLES as usize]) {
        let all = self.control.at(0);
        // SAFETY: the pointers are into live mappings, and the counters aligned.
        let subtract = |holding: *mut wire::holding| unsafe {
            for (table, places) in places.into_iter().enumerate() {
                let counter = (&raw mut (*holding).places).cast::<u32>().add(table);
                AtomicU32::from_ptr(counter).fetch_sub(places, Ordering::Relaxed);
            }
        };
        // SAFETY: as above.
        subtract(unsafe { &raw mut (*all).held });
        owners.process.into_iter().chain(owners.user).for_each(|at| subtract(self.holdings.at(at.into())));
    }

    /// Clears the place of a VM, so that the next one there gets an id of its own.
    pub fn clear_vm(&self, vm: u32) {
        let info = self.vms.at(vm);
        let turn = peek!(info, turn) + 1;
        self.vms.clear(vm);
        // SAFETY: the pointer is into a live mapping, and no program has the place.
        unsafe { (&raw mut (*info).turn).write_volatile(turn) };
    }

    /// Clears the slot of a vCPU that ended, and all that it had. Tells `free` each place, when it is clear.
    ///
    /// # Errors
    /// Those of `free`.
    pub fn clear<E>(&self, slot: u32, mut free: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        let vcpu = self.vcpus.at(slot);
        let owners = peek!(vcpu, owners);
        let mut held = [0; wire::FAIR_TABLES as usize];
        held[wire::FAIR_VCPUS as usize] = 1;
        for mut row in [peek!(vcpu, first_row), peek!(vcpu, first_odd)] {
            while row != 0 {
                let mut returned = peek!(self.rows.at(row), first_return);
                while returned != 0 {
                    let next = peek!(self.returns.at(returned), next);
                    self.returns.clear(returned);
                    held[wire::FAIR_RETURNS as usize] += 1;
                    free(Place::Return(returned))?;
                    returned = next;
                }
                let mut detail = peek!(self.rows.at(row), first_detail);
                while detail != 0 {
                    let next = peek!(self.details.at(detail), next);
                    self.details.clear(detail);
                    held[wire::FAIR_DETAILS as usize] += 1;
                    free(Place::Detail(detail))?;
                    detail = next;
                }
                let next = peek!(self.rows.at(row), next);
                self.rows.clear(row);
                held[wire::FAIR_ROWS as usize] += 1;
                free(Place::Row(row))?;
                row = next;
            }
        }
        self.vcpus.clear(slot);
        self.let_go(owners, held);
        free(Place::Vcpu(slot))
    }
}
