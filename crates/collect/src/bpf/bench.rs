//! Tables as the programs fill them, without the programs: to measure what it costs to read them.

pub use super::twin;

use super::super::monotonic_ns;
use super::table::Table;
use super::tables::{Tables, View};
use super::wire;
use exitscope_model::{Measured, VcpuSample};
use memmap2::MmapOptions;

/// Tables full of vCPUs.
pub struct Filled(Tables);

impl Filled {
    /// Tables of so many vCPUs, each with exits for so many reasons.
    pub fn new(vcpus: u32, reasons: u32) -> Filled {
        let tables = Tables {
            control: anonymous(1),
            rows: anonymous(vcpus * reasons + 1),
            returns: anonymous(vcpus + 1),
            details: anonymous(1),
            vcpus: anonymous(vcpus + 1),
            vms: anonymous(vcpus + 1),
            holdings: anonymous(wire::HOLDINGS),
        };
        set(&tables.control, 0, |control| (control.next_vcpu, control.epoch) = (vcpus + 1, 1));
        let mut next_row = 1;
        for vcpu in 1..=vcpus {
            set(&tables.vms, vcpu, |vm| vm.id = vcpu.into());
            set(&tables.returns, vcpu, |returned| (returned.count, returned.reason) = (1000, 2));
            for code in 0..reasons {
                set(&tables.rows, next_row, |row| {
                    row.code = code.into();
                    row.next = if code + 1 < reasons { next_row + 1 } else { 0 };
                    row.first_return = if code == 0 { vcpu } else { 0 };
                    (row.epoch, row.min_ns, row.max_ns, row.span) = (1, 900, 9000, 8101);
                    row.histogram[9..14].fill(1000);
                    (row.low, row.high) = (9, 13);
                    row.time_ns = 5000 * 2000;
                });
                next_row += 1;
            }
            set(&tables.vcpus, vcpu, |slot| {
                (slot.key, slot.state, slot.isa, slot.vm) = (vcpu.into(), wire::VCPU_GUEST, 1, vcpu);
                (slot.rows, slot.first_row) = (reasons, next_row - reasons);
            });
        }
        Filled(tables)
    }

    /// Reads all of them, as for a sample.
    pub fn look(&self) -> Vec<VcpuSample> {
        let view = View {
            kvm_counts: true,
            measured: Measured::Breakdown,
            guest: false,
            full: false,
            now: monotonic_ns(),
        };
        let found = self.0.look(self.0.begin_epoch(), view);
        found.into_iter().filter_map(|found| Some(found.reading?.sample)).collect()
    }
}

fn anonymous<T: super::table::Wire>(len: u32) -> Table<T> {
    Table::over(MmapOptions::new().len(len as usize * size_of::<T>()).map_anon().expect("memory").into(), len)
}

fn set<T: super::table::Wire>(table: &Table<T>, index: u32, fill: impl FnOnce(&mut T)) {
    // SAFETY: the memory is ours alone, zeroed, and `at` checked the index.
    fill(unsafe { &mut *table.at(index) });
}
