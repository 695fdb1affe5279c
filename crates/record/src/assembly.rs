//! Intervals out of what a recording has of them: the same for rows of tables and for those of blocks.

use super::Error;
use super::metadata::Moment;
use super::open::Database;
use super::present::{Present, VcpuId};
use super::writer::no_time;
use exitscope_model::{About, Interval, Loss, Measured, Row, Source, VcpuSpan, VmId, WorkerSpan};
use std::collections::BTreeMap;

/// VMs and vCPUs that an interval has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// All VMs and vCPUs that exist.
    All,
    /// Those that have a row in the interval.
    Active,
}

/// Figures of an interval. Its vCPUs are those that have a row, and its rows are in any order.
pub struct Parts {
    pub vcpus: BTreeMap<VcpuId, VcpuSpan>,
    pub rows: Vec<Row>,
    pub workers: Vec<WorkerSpan>,
    pub loss: Loss,
}

/// Makes intervals of their parts.
pub struct Assembly<'a> {
    database: &'a Database,
    source: Source,
    measured: Measured,
}

impl<'a> Assembly<'a> {
    /// Makes intervals of a recording.
    pub fn new(database: &'a Database, about: &About) -> Assembly<'a> {
        Assembly { database, source: about.source, measured: about.measured }
    }

    /// A vCPU that did nothing.
    pub fn idle(&self, (vm, vcpu): VcpuId) -> VcpuSpan {
        VcpuSpan { vm, vcpu, exits: 0, kvm_exits: Some(0), time: no_time(self.measured) }
    }

    /// The interval of a moment, or the sum of several.
    ///
    /// # Errors
    /// If an interval that is no sum has two rows of one vCPU and reason; if it lists too many that did nothing.
    pub fn interval(
        &self,
        moment: &Moment,
        present: &Present<'_>,
        who: Who,
        parts: Parts,
    ) -> Result<Interval, Error> {
        let Parts { mut vcpus, mut rows, workers, loss } = parts;
        self.join(moment, &mut rows)?;
        let vms = match who {
            Who::All => {
                self.database.list(present.vcpus().len())?;
                for vcpu in present.vcpus() {
                    vcpus.entry(vcpu).or_insert_with(|| self.idle(vcpu));
                }
                self.database.list(present.vms().len())?;
                present.vms().collect()
            }
            Who::Active => {
                let mut last = None;
                for vcpu in rows.iter().map(|row| (row.vm, row.vcpu)) {
                    if last.replace(vcpu) != Some(vcpu) {
                        vcpus.entry(vcpu).or_insert_with(|| self.idle(vcpu));
                    }
                }
                let mut vms: Vec<VmId> = vcpus.keys().map(|(vm, _)| *vm).collect();
                vms.dedup();
                vms.into_iter().filter_map(|vm| present.vm(vm)).collect()
            }
        };
        Ok(Interval {
            start: moment.start,
            end: moment.end,
            length: moment.length,
            source: self.source,
            measured: self.measured,
            vms,
            vcpus: vcpus.into_values().collect(),
            workers,
            rows,
            loss,
        })
    }

    /// Sorts rows, and adds those up that are of one vCPU and reason: one that went and came again within a sum has two keys.
    fn join(&self, moment: &Moment, rows: &mut Vec<Row>) -> Result<(), Error> {
        let key = |row: &Row| (row.vm, row.vcpu, row.level, row.code);
        if !rows.is_sorted_by_key(key) {
            rows.sort_by_key(key);
        }
        if rows.windows(2).all(|pair| key(&pair[0]) != key(&pair[1])) {
            return Ok(());
        }
        if moment.id == moment.last {
            let what = format!("interval {} has two rows of one vCPU and reason", moment.id);
            return Err(self.database.damaged(what));
        }
        rows.dedup_by(|next, row| {
            let same = key(next) == key(row);
            if same {
                row.counters.add(&next.counters);
            }
            same
        });
        Ok(())
    }
}
