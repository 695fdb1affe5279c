//! What one boot's report says (docs/json.md), checked before anything is made of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

/// One object of `exitscope stat --format json`, as far as it is needed here.
#[derive(Deserialize)]
struct Interval {
    version: u32,
    start: f64,
    end: f64,
    measured: String,
    rows: Vec<Row>,
    total: u64,
    kvm_exits: Option<u64>,
    lost: u64,
    loss: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Row {
    vm_id: u64,
    isa: String,
    reason: String,
    count: u64,
    user_exits: Option<u64>,
    returns: Option<BTreeMap<String, u64>>,
}

/// Exits of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// All.
    pub all: u64,
    /// Those that went out to the VMM.
    pub user: u64,
}

/// A stretch of the boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// Its length in seconds of the outer machine's clock.
    pub seconds: f64,
    /// Exits by type.
    pub types: BTreeMap<String, u64>,
}

/// One boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    /// Whose exits: `svm` or `vmx`.
    pub isa: String,
    /// All exits.
    pub total: u64,
    /// As KVM counted them, where it did.
    pub kvm: Option<u64>,
    /// Exits that were missed.
    pub lost: u64,
    /// Other things that were missed: their sum.
    pub missed: u64,
    /// Exits by type.
    pub types: BTreeMap<String, Exits>,
    /// What KVM_RUN returned to the VMM with, and how often.
    pub returns: BTreeMap<String, u64>,
    /// From the interval with the first exit to that with the last.
    pub stretches: Vec<Stretch>,
}

impl Boot {
    /// Reads one boot's report, an object for each interval.
    ///
    /// # Errors
    /// A report that contradicts itself, or is not one of a single VM's boot, with the reason.
    pub fn read(reports: &[Value]) -> Result<Self, String> {
        let mut boot = Boot {
            isa: String::new(),
            total: 0,
            kvm: Some(0),
            lost: 0,
            missed: 0,
            types: BTreeMap::new(),
            returns: BTreeMap::new(),
            stretches: Vec::new(),
        };
        let mut vms = BTreeSet::new();
        let mut last_end = 0.0;
        for (index, value) in reports.iter().enumerate() {
            let number = index + 1;
            let interval = Interval::deserialize(value).map_err(|e| format!("interval {number}: {e}"))?;
            if interval.version != 1 || interval.measured != "split" {
                return Err(format!(
                    "interval {number}: version {}, measured {:?}; 1 and \"split\" are needed",
                    interval.version, interval.measured
                ));
            }
            // Intervals follow each other without a gap; the clock is printed to the microsecond.
            let gap = index > 0 && (interval.start - last_end).abs() > 0.001;
            if gap || interval.end <= interval.start {
                return Err(format!(
                    "interval {number} is {} to {}, after one that ended {last_end}",
                    interval.start, interval.end
                ));
            }
            last_end = interval.end;
            let in_rows: u64 = interval.rows.iter().map(|row| row.count).sum();
            let no_row = interval.loss.get("no_row").copied().unwrap_or(0);
            if in_rows + no_row != interval.total {
                return Err(format!(
                    "interval {number}: its rows have {in_rows} exits, its total is {}",
                    interval.total
                ));
            }
            boot.total += interval.total;
            boot.lost += interval.lost;
            boot.missed += interval.loss.values().sum::<u64>();
            boot.kvm = boot.kvm.zip(interval.kvm_exits).map(|(a, b)| a + b);
            let mut stretch = Stretch { seconds: interval.end - interval.start, types: BTreeMap::new() };
            for row in interval.rows {
                vms.insert(row.vm_id);
                if boot.isa.is_empty() {
                    boot.isa.clone_from(&row.isa);
                }
                if boot.isa != row.isa {
                    return Err(format!("interval {number}: exits of {} and {}", boot.isa, row.isa));
                }
                *stretch.types.entry(row.reason.clone()).or_default() += row.count;
                let exits = boot.types.entry(row.reason).or_default();
                exits.all += row.count;
                exits.user += row.user_exits.ok_or_else(|| format!("interval {number}: no user_exits"))?;
                for (what, count) in row.returns.unwrap_or_default() {
                    *boot.returns.entry(what).or_default() += count;
                }
            }
            boot.stretches.push(stretch);
        }
        if vms.len() != 1 {
            return Err(format!("it has {} VMs with exits; one boot has one", vms.len()));
        }
        let empty = |stretch: &Stretch| stretch.types.values().all(|&count| count == 0);
        while boot.stretches.last().is_some_and(empty) {
            boot.stretches.pop();
        }
        let before = boot.stretches.iter().take_while(|stretch| empty(stretch)).count();
        boot.stretches.drain(..before);
        Ok(boot)
    }

    /// Whether nothing was missed, and KVM counted the same.
    #[must_use]
    pub fn exact(&self) -> bool {
        self.lost == 0 && self.missed == 0 && self.kvm == Some(self.total)
    }

    /// Seconds with exits, of the outer machine's clock.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.stretches.iter().map(|stretch| stretch.seconds).sum()
    }

    /// Exits per second of each stretch.
    #[must_use]
    pub fn rates(&self) -> Vec<f64> {
        self.stretches.iter().map(|stretch| float(stretch.types.values().sum()) / stretch.seconds).collect()
    }

    /// Exits by type in each of `parts` equal parts of the time. Within a stretch they are taken as even.
    #[must_use]
    pub fn parts(&self, parts: u32) -> Vec<BTreeMap<&str, f64>> {
        let length = self.seconds() / f64::from(parts);
        let mut all = Vec::new();
        for part in 0..parts {
            let (from, to) = (length * f64::from(part), length * f64::from(part + 1));
            let (mut at, mut types) = (0.0, BTreeMap::new());
            for stretch in &self.stretches {
                let end = at + stretch.seconds;
                let share = (end.min(to) - from.max(at)) / stretch.seconds;
                if share > 0.0 {
                    for (name, &count) in &stretch.types {
                        *types.entry(name.as_str()).or_insert(0.0) += share * float(count);
                    }
                }
                at = end;
            }
            all.push(types);
        }
        all
    }
}

/// Exact up to 2^53, far above what a boot has.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn interval(start: f64, rows: &[(&str, u64, u64)]) -> Value {
        let total: u64 = rows.iter().map(|row| row.1).sum();
        let rows: Vec<Value> = rows
            .iter()
            .map(|&(reason, count, user)| {
                json!({"vm_id": 1, "isa": "svm", "reason": reason, "count": count, "user_exits": user,
                       "returns": {"IO": user}})
            })
            .collect();
        json!({"version": 1, "start": start, "end": start + 2.0, "source": "btf", "measured": "split", "rows": rows,
               "total": total, "kvm_exits": total, "lost": 0, "loss": {"no_row": 0, "torn": 0}})
    }

    fn boot() -> Vec<Value> {
        vec![
            interval(10.0, &[]),
            interval(12.0, &[("IOIO", 300, 290), ("CPUID", 40, 0)]),
            interval(14.0, &[("IOIO", 100, 100)]),
            interval(16.0, &[]),
        ]
    }

    #[test]
    fn a_boot_is_added_up_from_its_first_exit_to_its_last() {
        let boot = Boot::read(&boot()).unwrap();
        assert_eq!((boot.total, boot.kvm, boot.seconds()), (440, Some(440), 4.0));
        assert!(boot.exact());
        assert_eq!(boot.types["IOIO"], Exits { all: 400, user: 390 });
        assert_eq!(boot.returns["IO"], 390);
        assert_eq!(boot.rates(), [170.0, 50.0]);
        let parts = boot.parts(4);
        assert_eq!(parts[0], BTreeMap::from([("IOIO", 150.0), ("CPUID", 20.0)]));
        assert_eq!(parts[3], BTreeMap::from([("IOIO", 50.0)]));
    }

    #[test]
    fn what_was_missed_makes_a_boot_inexact() {
        for (key, value) in [("kvm_exits", json!(339)), ("kvm_exits", json!(null)), ("lost", json!(1))] {
            let mut reports = boot();
            reports[1][key] = value;
            assert!(!Boot::read(&reports).unwrap().exact(), "{key}");
        }
        let mut reports = boot();
        reports[2]["loss"]["torn"] = json!(1);
        assert!(!Boot::read(&reports).unwrap().exact());
    }

    #[test]
    fn broken_reports_are_refused() {
        let refused = |change: &dyn Fn(&mut Vec<Value>), why: &str| {
            let mut reports = boot();
            change(&mut reports);
            let reason = Boot::read(&reports).unwrap_err();
            assert!(reason.contains(why), "{reason}");
        };
        refused(&|r| r.clear(), "0 VMs");
        refused(&|r| r.truncate(1), "0 VMs");
        refused(&|r| r[1]["total"] = json!(341), "its rows have 340 exits, its total is 341");
        refused(&|r| drop(r.remove(2)), "after one that ended 14");
        refused(&|r| r[0]["version"] = json!(2), "version 2");
        refused(&|r| r[0]["measured"] = json!("counts"), "counts");
        refused(&|r| r[1]["rows"][0]["isa"] = json!("vmx"), "exits of vmx and svm");
        refused(&|r| r[1]["rows"][0]["vm_id"] = json!(2), "2 VMs");
        refused(&|r| r[1]["rows"][0]["count"] = json!(-1), "interval 2");
        refused(&|r| r[1] = json!("x"), "interval 2");
    }
}
