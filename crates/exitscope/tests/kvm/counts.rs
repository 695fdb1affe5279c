//! Counts against what happened.

use super::tool::{
    Background, Report, Scratch, all, best_source, exitscope, guest_program, succeed, wait_for,
    wait_until_counting,
};
use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn the_selftest_is_exact_with_both_kinds_of_program() {
    for source in [best_source(), "tracepoint"] {
        let output = exitscope().args(["selftest", "--source", source]).output().unwrap();
        let text = all(&output);
        assert!(output.status.success(), "{source}: {}\n{text}", output.status);
        for vcpus in ["1 vCPU", "4 vCPUs"] {
            let verdict =
                |line: &&str| line.starts_with("exact: ") && line.ends_with(&format!(" of {vcpus}"));
            assert!(text.lines().any(|line| verdict(&line)), "{source}: no verdict on {vcpus}:\n{text}");
        }
        // The columns are as wide as the hardware's names.
        let cpuid = |line: &str| line.split_whitespace().take(5).eq(["0", "CPUID", "2003", "2003", "exact"]);
        assert!(text.lines().any(cpuid), "{text}");
        // What it costs is the machine's affair; that it is told of everything that the source can measure is ours.
        let told = [
            "  not watched ",
            "  added by counting ",
            "  with times (--no-split) ",
            "  with times told apart ",
        ];
        for line in told {
            let expected = source != "tracepoint" || line != "  with times told apart ";
            let said = text.lines().any(|said| said.starts_with(line));
            assert_eq!(said, expected, "{source}: {line:?}:\n{text}");
        }
    }
}

/// One guest, watched by both kinds of program and by perf at the same time.
#[test]
fn both_kinds_of_program_and_perf_count_the_same() {
    let (btf, plain, perf) = (Scratch::new("btf"), Scratch::new("plain"), Scratch::new("perf"));
    let tool = env!("CARGO_BIN_EXE_exitscope");
    let stat = |command: &mut Command, source: &str, file: &Scratch| {
        command.args(["stat", "--format", "json", "--source", source, "-o"]).arg(file).arg("--");
    };
    let mut command = Command::new("perf");
    command.args(["stat", "-a", "-x", ",", "-e", "kvm:kvm_exit", "-o"]).arg(&perf).arg("--").arg(tool);
    stat(&mut command, best_source(), &btf);
    command.arg(tool);
    stat(&mut command, "tracepoint", &plain);
    command.arg(guest_program()).args(["run", "3"]);
    succeed(&mut command);

    let (btf, plain) = (Report::parse(&btf.read()), Report::parse(&plain.read()));
    btf.assert_proven();
    // The kernel may skip a program on a plain tracepoint, while a bpf() call on that CPU is preempted; it says how
    // often, and what is missing is no more than that.
    let (total, lost) = (plain.number("total"), plain.number("lost"));
    assert!((total..=total + lost).contains(&plain.number("kvm_exits")), "{}", plain.0);
    if lost == 0 {
        plain.assert_proven();
        assert_eq!(btf.counts_by_process(), plain.counts_by_process());
    }
    // The guest probed before it ran, so there were several VMs in its process; they stay apart.
    for report in [&btf, &plain] {
        let vms: BTreeSet<u64> = report.counts().into_keys().map(|(_, vm, ..)| vm).collect();
        assert!(vms.len() > 1, "{}", report.0["vcpus"]);
        let cpuids = |vm: &u64| report.counts().get(&(pid_of(report), *vm, 0, "CPUID".into())).copied();
        assert!(
            report.number("lost") > 0 || vms.iter().any(|vm| cpuids(vm) == Some(2003)),
            "{}",
            report.0["rows"]
        );
    }
    let perf = perf.read();
    let counted = perf.lines().find(|line| line.contains("kvm:kvm_exit")).unwrap_or_else(|| panic!("{perf}"));
    // Where the kernel skips our program, it skips perf's count too.
    let (counted, total): (u64, u64) =
        (counted.split(',').next().unwrap().parse().unwrap(), btf.number("total"));
    assert!((total.saturating_sub(lost)..=total).contains(&counted), "{counted} {total} {lost}");
}

fn pid_of(report: &Report) -> u64 {
    report.0["rows"][0]["pid"].as_u64().unwrap()
}

/// Times belong to the exits that have them: as many as exits, and between the extremes.
#[test]
fn every_exit_of_a_vm_that_ended_but_its_last_has_a_time() {
    let file = Scratch::new("times");
    succeed(
        exitscope()
            .args(["stat", "-f", "json", "-o"])
            .arg(&file)
            .arg("--")
            .arg(guest_program())
            .args(["only", "cpuid", "777"]),
    );
    let report = Report::parse(&file.read());
    report.assert_proven();
    let row = report.0["rows"].as_array().unwrap().iter().find(|row| row["reason"] == "CPUID").unwrap();
    let buckets: Vec<u64> =
        row["histogram"].as_array().unwrap().iter().map(|bucket| bucket.as_u64().unwrap()).collect();
    let number = |key: &str| row[key].as_u64().unwrap();
    assert_eq!((number("count"), buckets.iter().sum::<u64>()), (777, 777));
    let (least, most) = (777 * number("min_ns"), 777 * number("max_ns"));
    assert!((least..=most).contains(&number("time_ns")), "{row}");
    let first = buckets.iter().position(|&entries| entries > 0).unwrap();
    assert!(number("min_ns") >> first <= 1 && number("min_ns").ilog2() as usize == first, "{row}");
}

#[test]
fn blocks_of_an_interval_add_up_to_the_whole() {
    for source in [best_source(), "tracepoint"] {
        let file = Scratch::new("blocks");
        let mut command = exitscope();
        command.args(["stat", "--source", source, "-i", "50ms", "-f", "json", "-o"]).arg(&file).arg("--");
        // Its probing makes VMs that come and go in the process before the one that it is about.
        let said = succeed(command.arg(guest_program()).args(["run", "2"]));
        let text = file.read();
        let blocks: Vec<Report> = text.lines().map(Report::parse).collect();
        let of = |vcpu: u64| {
            let rows = blocks.iter().flat_map(|block| block.0["rows"].as_array().unwrap());
            let rows = rows.filter(|row| row["vcpu"] == vcpu && row["reason"] == "CPUID");
            rows.map(|row| row["count"].as_u64().unwrap()).sum::<u64>()
        };
        let line = said.lines().find(|line| line.starts_with("vCPU 1 ") && line.ends_with(" cpuid")).unwrap();
        let done: u64 = line.rsplit(' ').nth(1).unwrap().parse().unwrap();
        let sum = |key: &str| blocks.iter().map(|block| block.number(key)).sum::<u64>();
        // Some kernels may interrupt a program on a plain tracepoint for another vCPU's, and skip that: it is told,
        // and what is missing is no more.
        let skipped = if source != "tracepoint" { 0 } else { sum("lost") };
        assert_eq!(sum("lost"), skipped, "{source}: {text}");
        assert!((sum("total")..=sum("total") + skipped).contains(&sum("kvm_exits")), "{source}: {text}");
        assert!((of(1)..=of(1) + skipped).contains(&done), "{source}: {said}");
        assert!(of(0) > of(1), "{source}: vCPU 0 did the same, and others were probed");
    }
}

/// Beside a VM that runs on, whose count is read a moment before and after ours.
#[test]
fn the_plain_programs_are_compared_with_kvm_at_any_moment() {
    let guest = Background::start(Command::new(guest_program()).args(["only", "cpuid", "4000000000"]));
    let file = Scratch::new("moments");
    succeed(
        exitscope()
            .args(["stat", "--source", "tracepoint", "-d", "2s", "-i", "20ms", "-f", "json", "-o"])
            .arg(&file),
    );
    let blocks: Vec<Report> = file.read().lines().map(Report::parse).collect();
    let counted: Vec<&Report> = blocks.iter().filter(|block| block.number("total") > 0).collect();
    assert!(counted.len() > 1, "{} of {} blocks counted", counted.len(), blocks.len());
    counted.iter().for_each(|block| block.assert_proven());
    drop(guest);
}

/// Without the kernel's type information everything else is counted as always, and it is said why.
#[test]
fn without_type_information_the_plain_programs_count() {
    let guest = Background::start(Command::new(guest_program()).args(["only", "cpuid", "4000000000"]));
    let folder = format!("/proc/{}/fd", guest.pid());
    wait_for("a vCPU", || {
        let links = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        links
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| link.ends_with("anon_inode:kvm-vcpu:0"))
    });
    let file = Scratch::new("untyped");
    // A mount of its own hides the kernel's BTF from the one process.
    let hidden = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let untyped = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", hidden, env!("CARGO_BIN_EXE_exitscope"), "stat"])
            .args(arguments);
        command
    };
    succeed(untyped(&["-d", "1s", "-f", "json", "-o"]).arg(&file));
    let report = Report::parse(&file.read());
    assert_eq!(report.0["source"], "tracepoint");
    report.assert_proven();
    drop(guest);
    // KVM's count of a VM that ended is gone with it where only debugfs has it.
    let mut command = untyped(&["--"]);
    let output = command.arg(guest_program()).args(["only", "cpuid", "1234"]).output().unwrap();
    let text = all(&output);
    assert!(output.status.success(), "{text}");
    for word in
        ["1,234", "plain tracepoints", "because", "1 that ended unseen", "Not compared with KVM's own count"]
    {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

/// A table with too little room loses nothing silently.
#[test]
fn full_tables_are_told() {
    let stat = |option: &str| {
        let file = Scratch::new("full");
        succeed(
            exitscope()
                .args(["stat", option, "1", "-f", "json", "-o"])
                .arg(&file)
                .arg("--")
                .arg(guest_program())
                .args(["run", "2"]),
        );
        Report::parse(&file.read())
    };
    let rows = stat("--max-rows");
    let counted: u64 = rows.counts().values().sum();
    assert_eq!(counted + rows.0["loss"]["no_row"].as_u64().unwrap(), rows.number("total"));
    assert_eq!(
        rows.number("total"),
        rows.number("kvm_exits"),
        "without a row an exit still counts for its vCPU"
    );
    assert!(rows.number("lost") > 0);
    let vcpus = stat("--max-vcpus");
    assert!(vcpus.0["loss"]["no_vcpu"].as_u64().unwrap() > 0, "{}", vcpus.0["loss"]);
    assert_eq!(vcpus.number("total"), vcpus.number("kvm_exits"));
}

/// The original exercise: statistics in dmesg, total first, then each type with number and name.
#[test]
fn kmsg_is_read_back_with_dmesg() {
    succeed(Command::new("dmesg").arg("--clear"));
    let writer = Background::start(exitscope().args(["kmsg", "--every", "1000"]));
    wait_until_counting(&writer);
    succeed(Command::new(guest_program()).args(["only", "cpuid", "3210"]));
    writer.signal(libc::SIGTERM);
    let output = writer.finish();
    assert!(output.status.success(), "{}", all(&output));
    let log = succeed(&mut Command::new("dmesg"));
    let lines: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("exitscope: ").map(|(_, text)| text)).collect();
    let last =
        lines.iter().rposition(|line| line.contains("exits in all")).unwrap_or_else(|| panic!("{log}"));
    let number = |line: &str| line.rsplit(' ').find_map(|word| word.parse::<u64>().ok());
    let total: u64 = lines[last].split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(total >= 3210, "{}", lines[last]);
    let types = &lines[last + 1..];
    assert!(types.iter().any(|line| line.contains("(CPUID)") && number(line) == Some(3210)), "{lines:#?}");
    assert_eq!(types.iter().filter_map(|line| number(line)).sum::<u64>(), total, "{lines:#?}");
}

/// A guest state that the CPU refuses is an exit of its own, shown as what it is, by both kinds of program.
#[test]
fn an_entry_that_fails_is_counted_as_one() {
    for source in [best_source(), "tracepoint"] {
        let file = Scratch::new("refused");
        let mut command = exitscope();
        command.args(["stat", "-f", "json", "--source", source, "-o"]).arg(&file).arg("--");
        let said = succeed(command.arg(guest_program()).args(["refused", "7"]));
        let guest: serde_json::Value = serde_json::from_str(&said).unwrap();
        let report = Report::parse(&file.read());
        if source != "tracepoint" {
            report.assert_proven();
            assert_eq!(report.0["total"], guest["kvm_exits"], "{}", report.0);
        }
        let rows = report.0["rows"].as_array().unwrap();
        let (isa, refused, cpuid) = match rows[0]["isa"].as_str().unwrap() {
            "vmx" => ("vmx", "FAILED_ENTRY:INVALID_STATE", "CPUID"),
            _ => ("svm", "ERR", "CPUID"),
        };
        let row = |reason: &str| rows.iter().find(|row| row["reason"] == reason).expect(reason);
        let failed = row(refused);
        assert_eq!(failed["reason"], refused, "{}", report.0);
        // KVM gives the whole code to user space: bit 31 and reason 33, or VMEXIT_INVALID as 32 bits.
        let code = failed["code"].as_i64().unwrap();
        let whole = if isa == "vmx" { 0x8000_0021 } else { 0xffff_ffff };
        assert_eq!((code & 0xffff_ffff, guest["reason"].as_i64()), (whole, Some(whole)), "{failed}");
        assert_eq!(failed["count"], 1, "{failed}");
        assert_eq!(row(cpuid)["count"], guest["cpuids"], "{}", report.0);
        if source != "tracepoint" {
            assert_eq!(failed["returns"], serde_json::json!({ "FAIL_ENTRY": 1 }), "{failed}");
        }
    }
}
