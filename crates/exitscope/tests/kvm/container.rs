//! The capabilities that `contrib/` gives a container are enough, and its two examples give the same.

use super::bad_input::assert_says;
use super::tool::{Background, Report, Scratch, wait_for, wait_until_process_counts};
use super::turns::Turns;
use std::collections::BTreeSet;
use std::process::Command;

const DOCKER: &str = include_str!("../../../../contrib/docker/run");
const KUBERNETES: &str = include_str!("../../../../contrib/kubernetes/daemonset.yaml");

/// Capabilities of the container for Docker, which are those of the one for Kubernetes.
fn capabilities() -> BTreeSet<String> {
    let docker: BTreeSet<String> = DOCKER
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--cap-add "))
        .map(|rest| rest.trim_end_matches('\\').trim().to_owned())
        .collect();
    let list = KUBERNETES.lines().find_map(|line| line.trim().strip_prefix("add: ")).unwrap();
    let kubernetes: BTreeSet<String> = serde_json::from_str(list).unwrap();
    assert_eq!(docker, kubernetes);
    assert!(docker.len() >= 4, "{docker:?}");
    for (text, needs) in [
        (DOCKER, &["--pid=host", "apparmor=unconfined", "--cap-drop ALL"][..]),
        (KUBERNETES, &["hostPID: true", "type: Unconfined", "drop: [\"ALL\"]", "/var/log/pods"]),
    ] {
        assert!(needs.iter().all(|word| text.contains(word)), "{text}");
    }
    docker
}

/// A container as those are, as far as the kernel knows of one: namespaces of its own but that of processes, and no capabilities
/// but these. `except` is left out of them.
fn container(except: Option<&str>) -> Command {
    let given = capabilities().into_iter().filter(|name| Some(name.as_str()) != except);
    let set: Vec<String> = given.map(|name| format!("+{}", name.to_lowercase())).collect();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--uts", "--ipc", "--net", "setpriv"]);
    command.arg(format!("--bounding-set=-all,{}", set.join(",")));
    command.args([&format!("--inh-caps=-all,{}", set.join(",")), env!("CARGO_BIN_EXE_exitscope")]);
    command
}

#[test]
fn in_a_container_with_what_contrib_gives_it_counts_all_and_chooses() {
    let mut vm = Turns::called(&["qemu-system-x86_64", "-name", "guest=outside"]);
    let file = Scratch::new("container");
    let watcher =
        Background::start(container(None).args(["stat", "-g", "outside", "-f", "json", "-o"]).arg(&file));
    // Each of these programs becomes the next one.
    wait_for("exitscope in the container", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", watcher.pid())).unwrap();
        name.trim() == "exitscope"
    });
    wait_until_process_counts(watcher.pid());
    vm.say("turn");
    watcher.signal(libc::SIGINT);
    assert_says(&watcher.finish(), 0, &[]);
    let report = Report::parse(&file.read());
    report.assert_proven();
    assert_eq!(report.0["source"], "btf");
    assert_eq!(report.count(vm.pid(), "CPUID"), 1000);
    assert_eq!(report.0["workers"].as_array().unwrap().len(), 1, "{}", report.0);
    assert_says(&container(None).arg("doctor").output().unwrap(), 0, &["fine     processes", "btf counts"]);

    // Not one too many: without each of these something is missing, and is named.
    for (without, words) in [("SYS_ADMIN", &["CAP_SYS_ADMIN"][..]), ("BPF", &["CAP_SYS_ADMIN", "CAP_BPF"])] {
        let output = container(Some(without)).arg("doctor").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(words.iter().any(|word| text.contains(word)), "{without}: {text}");
    }
}
