//! A Linux guest, booted as the original exercise boots it. As root, in the lab's outer VM (`make test`).

#[allow(dead_code)]
#[path = "../common/mod.rs"]
mod tool;

use tool::{Report, Scratch, all, built, exitscope};

/// A whole boot, counted from the first exit to the last: the total is KVM's own, to the exit.
#[test]
fn a_linux_boot_is_counted_exactly() {
    let file = Scratch::new("boot");
    let mut command = exitscope();
    command.args(["stat", "-f", "json", "-o"]).arg(&file).arg("--");
    let output =
        command.arg(built("lab")).args(["inner", "--name", "a,b \u{1b}[31m", "--ping"]).output().unwrap();
    let console = all(&output);
    assert!(output.status.success(), "{}\n{console}", output.status);
    assert!(console.contains("Linux version"), "{console}");
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert!(report.number("total") > 10_000, "{}", report.number("total"));
    assert!(report.counts().len() >= 6, "{:?}", report.counts());
    assert_eq!(report.0["rows"][0]["vm"], "a,b \u{1b}[31m");
    let rows = report.0["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["vm"] == rows[0]["vm"]), "one boot is one VM");
}
