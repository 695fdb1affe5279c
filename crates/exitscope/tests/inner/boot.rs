//! The phases of a Linux boot, by what it says and by the mode that it exits in.

use super::ATTEMPTS;
use super::tool::{Report, Scratch, all, built, exitscope};
use serde_json::Value;

/// SeaBIOS says nothing here, and a kernel only once it has a console: the mode tells both. What is recorded is the same, and
/// KVM's own count.
#[test]
fn the_phases_of_a_linux_boot_are_known_before_it_says_anything() {
    for _ in 0..ATTEMPTS {
        let (file, output) = (Scratch::new("phases"), Scratch::new("phases-json"));
        let mut command = exitscope();
        command
            .args(["boot", "-f", "json", "--until", "Run /init as init process", "-r"])
            .arg(&file)
            .arg("-o")
            .arg(&output);
        let ended = command
            .args(["--", "timeout", "150"])
            .arg(built("lab"))
            .args(["inner", "--name", "boot"])
            .output();
        let ended = ended.unwrap();
        if ended.status.code() == Some(124) {
            continue;
        }
        assert!(ended.status.success(), "{}", all(&ended));
        let boot: Value = serde_json::from_str(&output.read()).unwrap();
        let phases = boot["phases"].as_array().unwrap();
        let names: Vec<&str> = phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect();
        assert_eq!(names, ["start", "firmware", "kernel decompression", "kernel", "initramfs"], "{phases:?}");
        let second = |of: &Value, key: &str| of[key].as_f64().unwrap();
        assert!(phases.is_sorted_by(|a, b| second(a, "from") <= second(b, "from")), "{phases:?}");
        let console = boot["console"].as_array().unwrap();
        let first =
            console.iter().find(|line| line["text"].as_str().unwrap().contains("Linux version")).unwrap();
        assert!(second(&phases[3], "from") < second(first, "second"), "{phases:?}");
        assert!(phases[1..4].iter().all(|phase| phase["exits"].as_u64().unwrap() > 50), "{phases:?}");
        assert_eq!(boot["exits"], boot["kvm_exits"]);

        let report = |words: &[&str]| {
            let reported =
                exitscope().arg("report").arg(&file).args(["-f", "json"]).args(words).output().unwrap();
            assert!(reported.status.success(), "{}", all(&reported));
            Report::parse(&String::from_utf8(reported.stdout).unwrap())
        };
        report(&[]).assert_proven();
        for phase in &phases[1..4] {
            let part = report(&["--phase", phase["phase"].as_str().unwrap()]);
            assert_eq!(part.0["total"], phase["exits"], "{phase}");
        }
        return;
    }
    panic!("of {ATTEMPTS} guests none came up");
}
