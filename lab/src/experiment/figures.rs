//! Tables of medians and spreads over the runs, in Markdown.

use std::collections::{BTreeMap, BTreeSet};

use super::cell::Cell;
use super::groups::GROUPS;
use super::report::{Boot, float};
use super::run::Run;
use super::table::{NONE, Spread, count, head, markdown, words};
use crate::thousands::group;

/// In how many parts a boot's time is shown.
const PARTS: u32 = 10;

/// The runs of each cell.
pub struct Figures {
    cells: Vec<(Cell, Vec<(Run, Boot)>)>,
}

/// What is counted of a boot.
type Measure<'a> = dyn Fn(&Boot) -> f64 + 'a;

impl Figures {
    /// Of these runs; cells without any are left out, and runs that are not exact count nowhere but in the table of runs.
    #[must_use]
    pub fn new(cells: Vec<(Cell, Vec<(Run, Boot)>)>) -> Self {
        Self { cells: cells.into_iter().filter(|(_, runs)| !runs.is_empty()).collect() }
    }

    /// The table of this name, `None` if there is no such: `runs`, `totals`, `types-svm`, `types-vmx`, `events`, `user`,
    /// `returns`, `rates`, `parts`, `leaders`, `extremes`.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<String> {
        let cells = match name {
            "runs" => self.runs(),
            "totals" => self.totals(),
            "types-svm" => self.types("svm"),
            "types-vmx" => self.types("vmx"),
            "events" => self.events(),
            "user" => self.user(),
            "returns" => self.returns(),
            "rates" => self.rates(),
            "parts" => self.parts(),
            "leaders" => self.leaders(),
            "extremes" => self.extremes(),
            _ => return None,
        };
        Some(markdown(&cells))
    }

    /// Cells with runs that are exact, and those.
    fn exact(&self) -> impl Iterator<Item = (&Cell, Vec<&Boot>)> {
        self.cells.iter().filter_map(|(cell, runs)| {
            let boots: Vec<&Boot> = runs.iter().map(|(_, boot)| boot).filter(|boot| boot.exact()).collect();
            (!boots.is_empty()).then_some((cell, boots))
        })
    }

    fn runs(&self) -> Vec<Vec<String>> {
        let mut rows = vec![words(&[
            "run",
            "exits",
            "KVM's own count",
            "lost",
            "exact",
            "virtual seconds",
            "real seconds, whole run",
            "slept for ever before",
        ])];
        for (run, boot) in self.cells.iter().flat_map(|(_, runs)| runs) {
            rows.push(vec![
                run.name.clone(),
                count(boot.total),
                boot.kvm.map_or_else(|| "none".into(), count),
                count(boot.lost),
                if boot.exact() { "yes" } else { "**no**, counts nowhere else" }.into(),
                group(boot.seconds()),
                group(run.seconds()),
                run.slept().to_string(),
            ]);
        }
        rows
    }

    fn totals(&self) -> Vec<Vec<String>> {
        let mut rows = vec![words(&[
            "boot",
            "runs",
            "exits: median",
            "least",
            "most",
            "spread",
            "virtual seconds",
            "exits per second",
        ])];
        for (cell, boots) in self.exact() {
            let Some(total) = spread(&boots, &|boot| float(boot.total)) else { continue };
            let show =
                |measure: &Measure<'_>| spread(&boots, measure).map_or_else(String::new, |s| group(s.median));
            rows.push(vec![
                cell.to_string(),
                boots.len().to_string(),
                group(total.median),
                group(total.min),
                group(total.max),
                // One run has none.
                match boots.len() {
                    1 => NONE.into(),
                    _ => format!("{:.1} %", 100.0 * (total.max - total.min) / total.median),
                },
                show(&Boot::seconds),
                show(&|boot| float(boot.total) / boot.seconds()),
            ]);
        }
        rows
    }

    /// A row for each type, a column for each cell of this processor.
    fn types(&self, isa: &str) -> Vec<Vec<String>> {
        let columns: Vec<_> = self.exact().filter(|(_, boots)| boots[0].isa == isa).collect();
        let name = |boot: &Boot| boot.types.keys().cloned().collect::<Vec<_>>();
        let names: BTreeSet<String> =
            columns.iter().flat_map(|(_, boots)| boots.iter().flat_map(|b| name(b))).collect();
        let measure = |name: &str, boot: &Boot| float(boot.types.get(name).map_or(0, |exits| exits.all));
        let mut sorted: Vec<(f64, String)> = names
            .into_iter()
            .map(|name| {
                (
                    columns
                        .iter()
                        .filter_map(|(_, b)| Some(spread(b, &|boot| measure(&name, boot))?.median))
                        .sum(),
                    name,
                )
            })
            .collect();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut rows = vec![head("type", columns.iter().map(|(cell, _)| short(cell)))];
        for (_, name) in sorted {
            let mut row = vec![name.clone()];
            row.extend(columns.iter().map(|(_, boots)| shown(boots, &|boot| measure(&name, boot))));
            rows.push(row);
        }
        rows
    }

    /// The same events on both processors: medians, and their share.
    fn events(&self) -> Vec<Vec<String>> {
        let columns: Vec<_> = self.exact().collect();
        let mut rows = vec![head("what happens", columns.iter().map(|(cell, _)| cell.to_string()))];
        let sum = |boot: &Boot, types: &[&str]| {
            float(types.iter().filter_map(|t| boot.types.get(*t)).map(|e| e.all).sum())
        };
        for event in GROUPS {
            let mut row = vec![event.what.to_owned()];
            row.extend(
                columns.iter().map(|(_, boots)| share(boots, &|boot| sum(boot, event.types(&boot.isa)))),
            );
            rows.push(row);
        }
        let other = |boot: &Boot| {
            float(boot.total) - GROUPS.iter().map(|event| sum(boot, event.types(&boot.isa))).sum::<f64>()
        };
        let mut row = vec!["all other types".to_owned()];
        row.extend(columns.iter().map(|(_, boots)| share(boots, &other)));
        rows.push(row);
        rows
    }

    fn user(&self) -> Vec<Vec<String>> {
        let mut rows = vec![words(&[
            "boot",
            "exits to the VMM",
            "of all",
            "of port I/O",
            "exits answered in the kernel",
        ])];
        for (cell, boots) in self.exact() {
            let user = |boot: &Boot| float(boot.types.values().map(|exits| exits.user).sum());
            let io = |boot: &Boot| {
                let of = |types: &[&str]| {
                    types
                        .iter()
                        .filter_map(|t| boot.types.get(*t))
                        .fold((0, 0), |sum, e| (sum.0 + e.user, sum.1 + e.all))
                };
                let (user, all) = of(GROUPS[0].types(&boot.isa));
                100.0 * float(user) / float(all.max(1))
            };
            let percent = |measure: &Measure<'_>| {
                spread(&boots, measure).map_or_else(String::new, |s| format!("{:.1} %", s.median))
            };
            rows.push(vec![
                cell.to_string(),
                shown(&boots, &user),
                percent(&|boot| 100.0 * user(boot) / float(boot.total)),
                percent(&io),
                shown(&boots, &|boot| float(boot.total) - user(boot)),
            ]);
        }
        rows
    }

    /// What KVM_RUN returned with.
    fn returns(&self) -> Vec<Vec<String>> {
        let columns: Vec<_> = self.exact().collect();
        let names: BTreeSet<&str> = columns
            .iter()
            .flat_map(|(_, boots)| boots.iter().flat_map(|b| b.returns.keys().map(String::as_str)))
            .collect();
        let mut rows = vec![head("KVM_EXIT_", columns.iter().map(|(cell, _)| cell.to_string()))];
        for name in names {
            let mut row = vec![name.to_owned()];
            row.extend(
                columns.iter().map(|(_, boots)| {
                    shown(boots, &|boot| float(boot.returns.get(name).copied().unwrap_or(0)))
                }),
            );
            rows.push(row);
        }
        rows
    }

    /// How the rate differs from second to second.
    fn rates(&self) -> Vec<Vec<String>> {
        let mut rows = vec![words(&["boot", "median second", "slowest", "fastest", "fastest : median"])];
        for (cell, boots) in self.exact() {
            // The last interval ends with the VM, and may be too short for a rate.
            let of = |boot: &Boot| {
                let mut rates = boot.rates();
                if boot.stretches.last().is_some_and(|last| last.seconds < 0.5) && rates.len() > 1 {
                    rates.pop();
                }
                Spread::of(rates).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 })
            };
            rows.push(vec![
                cell.to_string(),
                shown(&boots, &|boot| of(boot).median),
                shown(&boots, &|boot| of(boot).min),
                shown(&boots, &|boot| of(boot).max),
                spread(&boots, &|boot| of(boot).max / of(boot).median.max(1.0))
                    .map_or_else(String::new, |s| format!("{:.1}", s.median)),
            ]);
        }
        rows
    }

    /// Exits per second in each part of the boot.
    fn parts(&self) -> Vec<Vec<String>> {
        let mut rows = vec![head("boot", tenths())];
        for (cell, boots) in self.exact() {
            let mut row = vec![cell.to_string()];
            for part in 0..PARTS as usize {
                let rate = |boot: &Boot| {
                    boot.parts(PARTS)[part].values().sum::<f64>() / (boot.seconds() / f64::from(PARTS))
                };
                row.push(spread(&boots, &rate).map_or_else(String::new, |s| group(s.median)));
            }
            rows.push(row);
        }
        rows
    }

    /// The most frequent type in each part of the boot, and its share, over all runs.
    fn leaders(&self) -> Vec<Vec<String>> {
        let mut rows = vec![head("boot", tenths())];
        for (cell, boots) in self.exact() {
            let mut row = vec![cell.to_string()];
            for part in 0..PARTS as usize {
                let mut sums: BTreeMap<String, f64> = BTreeMap::new();
                for boot in &boots {
                    for (name, exits) in &boot.parts(PARTS)[part] {
                        *sums.entry((*name).to_owned()).or_default() += exits;
                    }
                }
                let all: f64 = sums.values().sum();
                let first = sums.iter().max_by(|a, b| a.1.total_cmp(b.1));
                row.push(first.map_or_else(
                    || NONE.into(),
                    |(name, exits)| format!("{name} {:.0} %", 100.0 * exits / all),
                ));
            }
            rows.push(row);
        }
        rows
    }

    fn extremes(&self) -> Vec<Vec<String>> {
        let mut rows =
            vec![words(&["boot", "most frequent", "then", "least frequent of those in every run"])];
        for (cell, boots) in self.exact() {
            let names: BTreeSet<&String> = boots.iter().flat_map(|boot| boot.types.keys()).collect();
            let mut all = Vec::new();
            for name in names {
                let exits = |boot: &Boot| float(boot.types.get(name).map_or(0, |exits| exits.all));
                if let Some(exits) = spread(&boots, &exits) {
                    all.push((exits, name));
                }
            }
            all.sort_by(|a, b| b.0.median.total_cmp(&a.0.median).then_with(|| a.1.cmp(b.1)));
            let total = spread(&boots, &|boot| float(boot.total)).map_or(1.0, |s| s.median);
            let one =
                |(exits, name): &(Spread, &String)| format!("{name} {:.1} %", 100.0 * exits.median / total);
            let always: Vec<_> = all.iter().filter(|(exits, _)| exits.min > 0.0).collect();
            let least = always.last().map_or(0.0, |(exits, _)| exits.median);
            let rarest: Vec<&str> = always
                .iter()
                .filter(|(exits, _)| exits.median <= least)
                .map(|(_, name)| name.as_str())
                .collect();
            rows.push(vec![
                cell.to_string(),
                all.first().map_or_else(String::new, one),
                all.iter().skip(1).take(3).map(one).collect::<Vec<_>>().join(", "),
                format!("{} ({})", rarest.join(", "), group(least)),
            ]);
        }
        rows
    }
}

fn spread(boots: &[&Boot], measure: &Measure<'_>) -> Option<Spread> {
    Spread::of(boots.iter().map(|boot| measure(boot)))
}

fn shown(boots: &[&Boot], measure: &Measure<'_>) -> String {
    spread(boots, measure).map_or_else(String::new, Spread::show)
}

/// The median, and its share of the median of all exits.
fn share(boots: &[&Boot], measure: &Measure<'_>) -> String {
    let (Some(part), Some(all)) = (spread(boots, measure), spread(boots, &|boot| float(boot.total))) else {
        return String::new();
    };
    format!("{} ({:.1} %)", group(part.median), 100.0 * part.median / all.median)
}

fn tenths() -> impl Iterator<Item = String> {
    (1..=PARTS).map(|part| format!("{part}/{PARTS}"))
}

/// A cell's name where the processor is known.
fn short(cell: &Cell) -> String {
    format!("{}, {}", cell.system.name(), cell.bus_name())
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::interval;
    use super::super::run::Attempt;
    use super::*;
    use crate::machine::Machine;
    use crate::system::{Bus, System};

    fn run(number: u32, attempts: &[i32], io: u64, kvm_misses: u64) -> (Run, Boot) {
        let mut reports = vec![
            interval(0.0, &[("IOIO", io, io - 10), ("CPUID", 100, 0)]),
            interval(2.0, &[("IOIO", 50, 50), ("NPF", u64::from(number), 0)]),
        ];
        reports[0]["kvm_exits"] = (io + 100 - kvm_misses).into();
        let boot = Boot::read(&reports).unwrap();
        let attempts = attempts.iter().map(|&status| Attempt { status, seconds: 9.6 }).collect();
        let name = format!("svm-busybox-ide-{number}");
        (
            Run {
                name,
                kernel: "6.1".into(),
                date: String::new(),
                command: String::new(),
                attempts,
                reports,
            },
            boot,
        )
    }

    fn figures() -> Figures {
        let cell = Cell { machine: Machine::Svm, system: System::Busybox, bus: Bus::Ide };
        let runs = vec![
            run(1, &[0], 1000, 0),
            run(2, &[124, 0], 1200, 0),
            run(3, &[0], 1400, 0),
            run(4, &[0], 9000, 1),
        ];
        Figures::new(vec![(cell, runs), (Cell { machine: Machine::Vmx, ..cell }, Vec::new())])
    }

    #[test]
    fn a_run_that_is_not_exact_is_shown_and_not_used() {
        let runs = figures().table("runs").unwrap();
        assert!(runs.contains("| svm-busybox-ide-2 | 1,352 | 1,352 | 0 | yes | 4 | 10 | 1 |\n"), "{runs}");
        let inexact =
            "| svm-busybox-ide-4 | 9,154 | 9,153 | 0 | **no**, counts nowhere else | 4 | 10 | 0 |\n";
        assert!(runs.contains(inexact), "{runs}");
        let totals = figures().table("totals").unwrap();
        assert_eq!(
            totals.lines().nth(2).unwrap(),
            "| SVM, busybox, ide | 3 | 1,352 | 1,151 | 1,553 | 29.7 % | 4 | 338 |"
        );
    }

    #[test]
    fn tables() {
        let table = |name: &str| figures().table(name).unwrap();
        assert_eq!(
            table("types-svm"),
            "| type | busybox, ide |\n|---|---:|\n| IOIO | 1,250 (1,050 to 1,450) |\n| CPUID | 100 |\n| NPF | 2 (1 to 3) |\n"
        );
        assert_eq!(table("types-vmx"), "No run of these yet.\n");
        let events = table("events");
        assert!(events.contains("| port I/O | 1,250 (92.5 %) |\n"), "{events}");
        assert!(events.contains("| all other types | 0 (0.0 %) |\n"), "{events}");
        assert!(table("user").contains("| 1,240 (1,040 to 1,440) | 91.7 % | 99.2 % | 112 (111 to 113) |"));
        assert!(table("returns").contains("| IO | 1,240 (1,040 to 1,440) |"));
        let rates = table("rates");
        assert!(
            rates.ends_with("| SVM, busybox, ide | 338 (288 to 388) | 26 | 650 (550 to 750) | 1.9 |\n"),
            "{rates}"
        );
        let parts = table("parts");
        assert!(parts.ends_with("| 650 | 650 | 650 | 650 | 650 | 26 | 26 | 26 | 26 | 26 |\n"), "{parts}");
        let leaders = table("leaders");
        assert!(leaders.contains("| IOIO 92 % |") && leaders.ends_with("| IOIO 96 % |\n"), "{leaders}");
        let extremes = table("extremes");
        assert!(extremes.contains("| IOIO 92.5 % | CPUID 7.4 %, NPF 0.1 % | NPF (2) |"), "{extremes}");
        assert_eq!(figures().table("other"), None);
    }
}
