//! Expositions of made-up intervals, read again.

use super::*;
use exitscope_model::{Measured, fixture};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of all VMs as the ledger of `serve` makes them.
fn names(total: &Interval) -> BTreeMap<VmId, VmLabels> {
    let labels = |vm: &exitscope_model::Vm| VmLabels { vm: vm.name.clone(), pid: vm.pid, number: None };
    total.vms.iter().map(|(id, vm)| (*id, labels(vm))).collect()
}

/// Text with every family that there is.
pub fn whole() -> String {
    let all = Options {
        format: Exposition::Prometheus,
        histograms: Histograms::Vm,
        details: 9,
        workers: true,
        ..Options::default()
    };
    let mut interval = fixture::nested();
    // Halts, which its VMs have none of.
    interval.rows.extend(
        fixture::busy()
            .rows
            .into_iter()
            .filter(|row| row.counters.split.polled_ns > 0)
            .map(|row| exitscope_model::Row { vm: VmId(1), vcpu: 0, ..row }),
    );
    interval.rows.sort_by_key(|row| (row.vm, row.vcpu, row.level, row.code));
    text(&interval, &all)
}

fn text_of(total: Option<&Interval>, departed: &Departed, options: &Options) -> String {
    let own = Own {
        processes: vec![("collector", 1_500_000_000, 4096), ("http", 0, 512)],
        readings: 3,
        reading_ns: 7,
    };
    let vms = total.map(names).unwrap_or_default();
    let counted = Counted {
        version: "9.9",
        kernel: "6.1 #1",
        cpu: "a \"CPU\"",
        start: SystemTime::UNIX_EPOCH,
        total,
        vms: &vms,
        departed,
        own: &own,
    };
    String::from_utf8(render(&counted, options)).unwrap()
}

fn text(total: &Interval, options: &Options) -> String {
    text_of(Some(total), &Departed::new(), options)
}

/// Series of an exposition by name and labels. Panics at what the format does not allow.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family = String::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            assert!(words.next().is_some_and(|rest| !rest.is_empty()), "{line}");
            if what == "HELP" {
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                family = name.trim_end_matches("_total").trim_end_matches("_info").to_owned();
            }
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        assert!(key.starts_with(&family), "{key} is not of {family}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(series.insert(key.to_owned(), value).is_none(), "{key} comes twice");
    }
    series
}

/// Sum of the series of a metric whose labels have all of `labels`.
fn sum(series: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let of =
        |key: &&String| key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label));
    series.keys().filter(of).map(|key| series[key]).fold(0.0, |sum, value| sum + value)
}

#[test]
fn busy_host_as_openmetrics() {
    insta::assert_snapshot!(text(&fixture::busy(), &Options::default()));
}

#[test]
fn hostile_names_and_nested_guests_as_prometheus() {
    let options = Options { format: Exposition::Prometheus, coarse: true, details: 2, ..Options::default() };
    insta::assert_snapshot!("hostile", text(&fixture::hostile(), &options));
    insta::assert_snapshot!("nested", text(&fixture::nested(), &options));
}

#[test]
fn while_kvm_is_waited_for_there_is_no_vm() {
    let text = text_of(None, &Departed::new(), &Options::default());
    assert!(text.contains("\nexitscope_counting 0\n") && !text.contains("exitscope_exits"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn series_add_up_to_the_interval_in_every_choice() {
    for interval in fixture::all() {
        for (per_vcpu, histograms, format) in [
            (false, Histograms::None, Exposition::Prometheus),
            (true, Histograms::Vm, Exposition::OpenMetrics),
            (false, Histograms::Vm, Exposition::Prometheus),
            (true, Histograms::Host, Exposition::OpenMetrics),
        ] {
            let options =
                Options { per_vcpu, histograms, format, details: 3, workers: true, ..Options::default() };
            let series = series(&text(&interval, &options));
            let rows: u64 = interval.rows.iter().map(|row| row.counters.count).sum();
            assert_eq!(sum(&series, "exitscope_exits_total", &[]), exitscope_model::float(rows));
            if let Some(kvm) = interval.kvm_exits() {
                assert_eq!(sum(&series, "exitscope_kvm_exits_total", &[]), exitscope_model::float(kvm));
                let difference = exitscope_model::float(interval.exits()) - exitscope_model::float(kvm);
                assert_eq!(sum(&series, "exitscope_kvm_exits_difference", &[]), difference);
            }
            let time: u64 = interval.rows.iter().map(|row| row.counters.time_ns).sum();
            if interval.measured != Measured::Counts {
                let seconds = sum(&series, "exitscope_host_time_seconds_total", &[]);
                assert!((seconds - exitscope_model::float(time) / 1e9).abs() < 1e-6, "{seconds}");
                let vcpus = sum(&series, "exitscope_vcpu_time_seconds_total", &[]);
                let all: u64 = interval.vcpus.iter().map(|span| span.time.unwrap().total_ns()).sum();
                assert!((vcpus - exitscope_model::float(all) / 1e9).abs() < 1e-6, "{vcpus}");
            }
            let ended: u64 = interval.rows.iter().map(|row| row.counters.histogram.count()).sum();
            let entered = exitscope_model::float(ended);
            let of = |name: &str| sum(&series, name, &["le=\"+Inf\""]);
            let by_host = if histograms == Histograms::None { 0.0 } else { entered };
            let by_vm = if histograms == Histograms::Vm { entered } else { 0.0 };
            assert_eq!(of("exitscope_host_exit_duration_seconds_bucket"), by_host);
            assert_eq!(of("exitscope_exit_duration_seconds_bucket"), by_vm);
            let lost = Vec::from_iter(
                exitscope_model::Loss::FIGURES.iter().map(|figure| figure.get(&interval.loss)),
            );
            let lost: u64 = lost.iter().sum();
            assert_eq!(sum(&series, "exitscope_lost_total", &[]), exitscope_model::float(lost));
        }
    }
}

#[test]
fn buckets_grow_and_end_with_all() {
    for coarse in [false, true] {
        let text = text(&fixture::busy(), &Options { coarse, ..Options::default() });
        let lines =
            text.lines().filter(|line| line.starts_with("exitscope_host_exit_duration_seconds_bucket"));
        let mut last: Option<(String, f64, f64)> = None;
        let mut count = 0;
        for line in lines {
            let (labels, rest) = line.split_once(",le=\"").unwrap();
            let (bound, number) = rest.split_once("\"} ").unwrap();
            let bound: f64 = bound.replace("+Inf", "inf").parse().unwrap();
            let number: f64 = number.parse().unwrap();
            if let Some((of, below, less)) = &last
                && of == labels
            {
                assert!(*below < bound && *less <= number, "{line}");
            }
            if coarse && bound.is_finite() {
                assert_eq!((bound * 1e9).log2().round() % 3.0, 1.0, "{line}");
            }
            last = Some((labels.to_owned(), bound, number));
            count += 1;
        }
        // Eleven reasons of busy().
        let reasons = fixture::busy().rows.iter().map(|row| row.code).collect::<BTreeSet<_>>().len();
        assert_eq!(count, reasons * if coarse { 10 } else { 28 });
    }
}

#[test]
fn what_departed_stays_in_the_hosts_histograms() {
    let total = fixture::busy();
    let row = &total.rows[0];
    let gone = fixture::counters(100, 5_000);
    let unseen = ExitCode { code: 0x9d, ..row.code };
    let departed: Departed =
        [((row.level, row.code), gone.clone()), ((Level::L1, unseen), gone)].into_iter().collect();
    let with = series(&text_of(Some(&total), &departed, &Options::default()));
    let without = series(&text(&total, &Options::default()));
    let name = "exitscope_host_exit_duration_seconds_count";
    assert_eq!(sum(&with, name, &[]), sum(&without, name, &[]) + 200.0);
    assert_eq!(sum(&with, "exitscope_exits_total", &[]), sum(&without, "exitscope_exits_total", &[]));
}

#[test]
fn series_without_room_are_left_out_vm_by_vm_and_told() {
    let total = fixture::busy();
    let all = text(&total, &Options::default());
    let of_vms = |text: &str| text.lines().filter(|line| line.contains("{vm=\"")).count();
    let whole = of_vms(&all);
    for max_series in [0, 40, whole - 1, whole] {
        let text = text(&total, &Options { max_series, ..Options::default() });
        let series = series(&text);
        let kept = of_vms(&text);
        assert!(kept <= max_series);
        assert_eq!(series["exitscope_series_cut"], exitscope_model::float((whole - kept) as u64));
        let vms = series.keys().filter(|key| key.starts_with("exitscope_vm_info")).count();
        assert_eq!(series["exitscope_vms_cut"], exitscope_model::float((3 - vms) as u64));
        assert_eq!(vms == 3, max_series == whole);
    }
}

#[test]
fn a_vm_has_its_labels_and_no_name_can_break_out() {
    let mut total = fixture::hostile();
    let id = VmId(0);
    let labels = exitscope_model::Labels {
        uuid: Some("u\"} 1\nexitscope_forged 7".into()),
        domain: Some("back\\slash".into()),
        ..Default::default()
    };
    total.vms.get_mut(&id).unwrap().labels = labels.into();
    let text = text(&total, &Options::default());
    assert!(!text.lines().any(|line| line.starts_with("exitscope_forged")), "{text}");
    assert!(text.contains(r#"uuid="u\"} 1\\nexitscope_forged 7""#), "{text}");
    assert!(text.contains(r#"domain="back\\slash""#), "{text}");
    series(&text);
}
