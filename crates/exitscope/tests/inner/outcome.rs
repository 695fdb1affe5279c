//! Outcomes of Linux boots that do not come up.

use super::ATTEMPTS;
use super::tool::{Scratch, all, built, exitscope};
use serde_json::Value;
use std::fs;

/// Boots `lab inner` with these arguments until one comes as far as `enough`; its report. Whatever the outcome, it is exit
/// status 1, and the first of the answers.
fn boot(ours: &[&str], guest: &[&str], enough: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..ATTEMPTS {
        let output = Scratch::new("outcome");
        let mut command = exitscope();
        command.args(["boot", "-f", "json", "-o"]).arg(&output).args(ours);
        let ended = command.args(["--", "timeout", "240"]).arg(built("lab")).args(guest).output().unwrap();
        let boot: Value = serde_json::from_str(&output.read()).unwrap();
        if !enough(&boot) {
            // The guest sleeps for ever: see [`ATTEMPTS`].
            continue;
        }
        assert_eq!(ended.status.code(), Some(1), "{}\n{}", boot["outcome"], all(&ended));
        assert_eq!(boot["exits"], boot["kvm_exits"]);
        return boot;
    }
    panic!("of {ATTEMPTS} guests none came so far");
}

fn phases(boot: &Value) -> Vec<&str> {
    boot["phases"].as_array().unwrap().iter().map(|phase| phase["phase"].as_str().unwrap()).collect()
}

fn answer(boot: &Value) -> &str {
    boot["answers"][0].as_str().unwrap()
}

#[test]
fn a_guest_that_panics_has_failed() {
    // The last -append counts.
    let guest = ["inner", "--name", "panics", "--", "-append", "console=ttyS0 panic=-1 rdinit=/nothing"];
    let boot = boot(&[], &guest, |boot| boot["outcome"]["kind"] == "failed");
    assert_eq!(phases(&boot)[3..], ["kernel", "failed"], "{boot}");
    assert_eq!(boot["outcome"]["cause"], "kernel panic");
    assert!(answer(&boot).starts_with("The boot did not complete: kernel panic at "), "{boot}");
    assert!(answer(&boot).contains(" in phase kernel: \"Kernel panic - not syncing: VFS: "), "{boot}");
}

#[test]
fn a_guest_that_drops_to_a_shell_has_failed() {
    let shell = "echo 'ALERT!  /dev/vdb does not exist.  Dropping to a shell!'; PS1='(initramfs) ' sh -i";
    let boot =
        boot(&[], &["inner", "--name", "drops", "--exec", shell], |boot| boot["outcome"]["kind"] == "failed");
    assert_eq!(phases(&boot)[3..], ["kernel", "initramfs", "failed"], "{boot}");
    assert_eq!((&boot["outcome"]["cause"], &boot["end"]), (&"initramfs shell".into(), &"the failure".into()));
    let console = boot["console"].as_array().unwrap();
    assert!(console.last().unwrap()["text"].as_str().unwrap().starts_with("(initramfs)"), "{boot}");
}

#[test]
fn a_guest_that_reboots_three_times_is_counted_each_time() {
    let disk = Scratch::new("reboots");
    let path = disk.as_ref().to_str().unwrap().to_owned();
    let shell =
        "read n </dev/vda; echo reboots: $n; [ $n = 3 ] || { echo $((n + 1)) >/dev/vda; sync; reboot -f; }";
    let guest =
        ["inner", "--name", "reboots", "--disk", &path, "--exec", shell, "--", "-action", "reboot=reset"];
    let whole = |boot: &Value| {
        let lines = boot["console"].as_array().unwrap();
        let came = lines.iter().any(|line| line["text"].as_str().unwrap().contains("reboots: 3"));
        fs::write(&path, [b"0\n".as_slice(), &[0; 510]].concat()).unwrap();
        came
    };
    fs::write(&path, [b"0\n".as_slice(), &[0; 510]].concat()).unwrap();
    let boot = boot(&[], &guest, whole);
    let outcome = &boot["outcome"];
    assert_eq!((&outcome["kind"], &outcome["began_again"]), (&"began again".into(), &3.into()), "{boot}");
    assert_eq!(phases(&boot).iter().filter(|phase| **phase == "kernel").count(), 4, "{boot}");
    assert!(answer(&boot).contains("the machine began again 3 times"), "{boot}");
}

/// Its phases are known by its mode all the same.
#[test]
fn a_guest_that_stays_silent_is_ended_in_time() {
    let guest = ["inner", "--name", "silent", "--keep", "1000", "--", "-append", "panic=-1"];
    let boot = boot(&["--timeout", "45s"], &guest, |boot| phases(boot).contains(&"kernel"));
    assert_eq!(boot["outcome"]["kind"], "timed out", "{boot}");
    assert_eq!(phases(&boot)[..4], ["start", "firmware", "kernel decompression", "kernel"], "{boot}");
    assert!(answer(&boot).contains("the machine was still silent after 45"), "{boot}");
    assert!(boot["seconds"].as_f64().unwrap() >= 45.0);
}
