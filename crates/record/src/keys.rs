//! Small numbers by which rows of a recording refer to vCPUs, reasons and the like; and the VMs that exist.

use super::breakdown::{self, BreakdownKey};
use super::pack::Kind;
use super::{about, text};
use exitscope_model::{ExitCode, Interval, Level, UserReason, Vm, VmId};
use exitscope_reason as reason;
use rusqlite::{Transaction, params};
use std::collections::{BTreeMap, HashMap};

/// A VM that was there in the last interval.
struct Known {
    vm: Vm,
    /// Its vCPUs that were there too, by number.
    vcpus: BTreeMap<u32, KnownVcpu>,
    /// The last interval that it was seen in.
    seen: i64,
}

struct KnownVcpu {
    key: i64,
    seen: i64,
}

/// The small numbers that stand for vCPUs, reasons and breakdowns.
#[derive(Default)]
pub struct Keys {
    /// VMs that were there in the last interval.
    vms: BTreeMap<VmId, Known>,
    /// Number of vCPUs so far.
    vcpus: i64,
    reasons: HashMap<(Level, ExitCode), i64>,
    user_reasons: Vec<i32>,
    /// Numbers of breakdowns, by the number of the reason and by key.
    breakdowns: HashMap<(i64, BreakdownKey), u16>,
    /// Reason and key of each breakdown, by its number.
    breakdown_keys: Vec<(i64, BreakdownKey)>,
}

impl Keys {
    /// Returns the reason and the kind of a breakdown, as blocks need them.
    pub fn of(&self, breakdown: u32) -> Option<(u32, Kind)> {
        let (reason, key) = self.breakdown_keys.get(usize::try_from(breakdown).ok()?)?;
        Some((u32::try_from(*reason).ok()?, key.kind()))
    }
}

/// The numbers while an interval is written. What is new gets its row here.
pub struct At<'a> {
    /// Numbers so far.
    pub keys: &'a mut Keys,
    /// Transaction to write in.
    pub transaction: &'a Transaction<'a>,
    /// Number of the interval.
    pub interval: i64,
}

impl At<'_> {
    /// Returns the number of a vCPU, whose VM is there.
    pub fn vcpu(&mut self, vm: VmId, number: u32) -> rusqlite::Result<i64> {
        let known = self.keys.vms.get_mut(&vm).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        if let Some(vcpu) = known.vcpus.get_mut(&number) {
            vcpu.seen = self.interval;
            return Ok(vcpu.key);
        }
        let key = self.keys.vcpus;
        self.transaction.prepare_cached("INSERT INTO vcpus VALUES (?, ?, ?, ?, NULL)")?.execute(params![
            key,
            vm.0.cast_signed(),
            number,
            self.interval
        ])?;
        self.keys.vcpus += 1;
        known.vcpus.insert(number, KnownVcpu { key, seen: self.interval });
        Ok(key)
    }

    /// Returns the number of a reason.
    pub fn reason(&mut self, level: Level, code: ExitCode) -> rusqlite::Result<i64> {
        if let Some(key) = self.keys.reasons.get(&(level, code)) {
            return Ok(*key);
        }
        let key = i64::try_from(self.keys.reasons.len()).unwrap_or(i64::MAX);
        let level_word = about::word(&about::LEVELS, &level);
        let isa = about::word(&about::ISAS, &code.isa);
        self.transaction.prepare_cached("INSERT INTO reasons VALUES (?, ?, ?, ?, ?)")?.execute(params![
            key,
            level_word,
            isa,
            code.code,
            reason::name(code)
        ])?;
        self.keys.reasons.insert((level, code), key);
        Ok(key)
    }

    /// Returns the number of a breakdown, and what it stands for, which is *other* where there are too many; `None` where
    /// there are too many even for that.
    pub fn breakdown(
        &mut self,
        reason: i64,
        what: BreakdownKey,
    ) -> rusqlite::Result<Option<(u16, BreakdownKey)>> {
        if let Some(id) = self.keys.breakdowns.get(&(reason, what)) {
            return Ok(Some((*id, what)));
        }
        let is_detail = matches!(what, BreakdownKey::Detail(_));
        let room = if is_detail { breakdown::MOST / 2 } else { breakdown::MOST };
        let Some(id) = u16::try_from(self.keys.breakdowns.len()).ok().filter(|id| usize::from(*id) < room)
        else {
            return if is_detail { self.breakdown(reason, BreakdownKey::Other) } else { Ok(None) };
        };
        let (text, name) = match what {
            BreakdownKey::Return(returned) => {
                self.user_reason(returned)?;
                (String::new(), reason::user::name(returned).to_string())
            }
            BreakdownKey::Detail(detail) => {
                (detail.text(), reason::known(detail).map_or(String::new(), |known| known.name.to_owned()))
            }
            BreakdownKey::Other => (String::new(), String::new()),
            BreakdownKey::Mode(mode) => (String::new(), breakdown::mode_name(mode).to_owned()),
        };
        let (kind, key, attributes) = breakdown::columns(what);
        self.transaction
            .prepare_cached("INSERT INTO breakdowns VALUES (?, ?, ?, ?, ?, ?, ?)")?
            .execute(params![id, reason, kind, key, attributes, text, name])?;
        self.keys.breakdowns.insert((reason, what), id);
        self.keys.breakdown_keys.push((reason, what));
        Ok(Some((id, what)))
    }

    fn user_reason(&mut self, reason: UserReason) -> rusqlite::Result<()> {
        if !self.keys.user_reasons.contains(&reason.0) {
            self.transaction.execute(
                "INSERT INTO user_reasons VALUES (?, ?)",
                params![reason.0, reason::user::name(reason)],
            )?;
            self.keys.user_reasons.push(reason.0);
        }
        Ok(())
    }

    /// VMs that are new, or not as they were.
    pub fn vms(&mut self, interval: &Interval) -> rusqlite::Result<()> {
        let (id, transaction, known) = (self.interval, self.transaction, &mut self.keys.vms);
        for vm in interval.vms.values() {
            if let Some(known) = known.get_mut(&vm.id) {
                known.seen = id;
                if known.vm == *vm {
                    continue;
                }
                known.vm = vm.clone();
            } else {
                known.insert(vm.id, Known { vm: vm.clone(), vcpus: BTreeMap::new(), seen: id });
            }
            transaction
            .prepare_cached(
                "INSERT INTO vms VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7) ON CONFLICT (id) DO UPDATE SET \
                 pid = ?2, name = ?3, vmm = ?4, command = ?5, last_interval = NULL, ended = ?7",
            )?
            .execute(params![
                vm.id.0.cast_signed(),
                vm.pid,
                vm.name,
                vm.vmm,
                text::of_arguments(&vm.command),
                id,
                vm.ended
            ])?;
            write_labels(transaction, vm)?;
        }
        Ok(())
    }

    /// VMs and vCPUs that are no more get the interval that they were last in.
    pub fn forget_ended(&mut self) -> rusqlite::Result<()> {
        let (id, transaction, vms) = (self.interval, self.transaction, &mut self.keys.vms);
        let mut last_of_vcpu =
            transaction.prepare_cached("UPDATE vcpus SET last_interval = ? WHERE id = ?")?;
        let mut last_of_vm = transaction.prepare_cached("UPDATE vms SET last_interval = ? WHERE id = ?")?;
        for (vm, known) in vms.iter_mut() {
            let ended = known.vm.ended || known.seen < id;
            for vcpu in known.vcpus.values().filter(|vcpu| ended || vcpu.seen < id) {
                last_of_vcpu.execute(params![vcpu.seen, vcpu.key])?;
            }
            if ended {
                last_of_vm.execute(params![known.seen, vm.0.cast_signed()])?;
            }
            known.vcpus.retain(|_, vcpu| vcpu.seen == id);
        }
        vms.retain(|_, known| !known.vm.ended && known.seen == id);
        Ok(())
    }
}

/// Writes the labels of a VM in place of those that it had.
fn write_labels(transaction: &Transaction<'_>, vm: &Vm) -> rusqlite::Result<()> {
    let id = vm.id.0.cast_signed();
    transaction.prepare_cached("DELETE FROM labels WHERE vm = ?")?.execute([id])?;
    let mut statement = transaction.prepare_cached("INSERT INTO labels VALUES (?, ?, ?)")?;
    statement.execute(params![id, about::NAMED_BY, vm.labels.witness.word()])?;
    for (key, label) in vm.labels.pairs() {
        if let Some(label) = label {
            statement.execute(params![id, key, label])?;
        }
    }
    Ok(())
}
