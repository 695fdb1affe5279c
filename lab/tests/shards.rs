//! `scripts/shards` in a repository of its own, with a program in place of cargo and make.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/shards");

/// A repository with the script. Its `cargo`, `make` and `scripts/test-sql` write down their arguments, and fail while there is a file `broken`.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Repository {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        fs::create_dir_all(at.join("scripts")).unwrap();
        fs::create_dir_all(at.join("bin")).unwrap();
        fs::copy(SCRIPT, at.join("scripts/shards")).unwrap();
        fs::write(at.join(".gitignore"), "target\nbin\ncalls\nbroken\n").unwrap();
        fs::write(at.join("source"), "one").unwrap();
        // Closed before anything is run: the kernel runs no file that is open for writing.
        let cargo = "#!/bin/sh\n[ ! -e broken ] || exit 101\necho \"${CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER##*/} $*\" >>calls\n";
        let install = "printf %s \"$1\" >bin/cargo && chmod +x bin/cargo && cp bin/cargo bin/make && cp bin/cargo scripts/test-sql && git init -q .";
        let made = Command::new("sh").args(["-c", install, "sh", cargo]).current_dir(at).status().unwrap();
        assert!(made.success());
        assert_ne!(fs::metadata(at.join("bin/cargo")).unwrap().permissions().mode() & 0o111, 0);
        Repository(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn shards(&self, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(self.path().join("scripts/shards"));
        command.args(arguments).env("PATH", path).env("SUITES", "bookworm trixie trixie-backports");
        command.env_remove("RESUME").env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").output().unwrap()
    }

    /// Runs shards that pass, and returns the arguments of each cargo.
    fn passes(&self, arguments: &[&str]) -> Vec<String> {
        fs::write(self.path().join("calls"), "").unwrap();
        let output = self.shards(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(self.path().join("calls")).unwrap().lines().map(str::to_owned).collect()
    }
}

#[test]
fn what_has_passed_is_not_run_again_until_a_source_changes() {
    let repository = Repository::new();
    let two = ["missing", "host", "svm-trixie-live"];
    assert_eq!(repository.passes(&two).len(), 2);
    assert!(repository.passes(&two).is_empty());
    // Asked for by name, a shard runs always.
    assert_eq!(repository.passes(&["run", "host"]).len(), 1);
    // A file that git does not know yet, and one that it does not want to know.
    fs::write(repository.path().join("calls"), "").unwrap();
    assert!(repository.passes(&two).is_empty());
    fs::write(repository.path().join("new source"), "").unwrap();
    assert_eq!(repository.passes(&two).len(), 2);
    // Back to what was tested.
    fs::remove_file(repository.path().join("new source")).unwrap();
    assert!(repository.passes(&two).is_empty());
    let list = String::from_utf8(repository.shards(&["list"]).stdout).unwrap();
    let passed: Vec<&str> = list.lines().filter(|line| line.contains(" passed ")).collect();
    assert!(
        passed.len() == 2 && passed[0].starts_with("host ") && passed[1].contains("svm-trixie-live "),
        "{list}"
    );
}

#[test]
fn a_shard_that_fails_is_named_with_the_way_to_go_on() {
    let repository = Repository::new();
    assert_eq!(repository.passes(&["missing", "host"]).len(), 1);
    fs::write(repository.path().join("broken"), "").unwrap();
    let output = repository.shards(&["missing", "host", "doc", "lab-boot"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("== doc: FAILED"), "{said}");
    assert!(said.contains("make test-shard SHARD=doc"), "{said}");
    assert!(said.contains("go on from here: scripts/shards missing host doc lab-boot"), "{said}");
    assert!(!said.contains("lab-boot: "), "it ended there: {said}");
    fs::remove_file(repository.path().join("broken")).unwrap();
    assert_eq!(repository.passes(&["missing", "host", "doc", "lab-boot"]).len(), 2);
    let unknown = repository.shards(&["run", "host", "svm-sid-kvm"]);
    assert_eq!((unknown.status.code(), unknown.stdout.len()), (Some(2), 0));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("no shard or group \"svm-sid-kvm\""));
}

#[test]
fn every_shard_has_a_command_of_its_own_and_a_dry_run_runs_none() {
    let repository = Repository::new();
    assert!(repository.passes(&["--dry-run", "run", "all", "kernel"]).is_empty());
    let list = String::from_utf8(repository.shards(&["list"]).stdout).unwrap();
    let names: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut commands = repository.passes(&[&["run"][..], &names].concat());
    assert_eq!(commands.len(), names.len());
    let on = |machine: &str| commands.iter().filter(|command| command.contains(machine)).count();
    // Nine shards of each suite on SVM and eight on VMX, and the names of suites begin alike.
    assert_eq!(
        (on("--suite trixie "), on("--suite trixie-backports "), on("--suite bookworm ")),
        (17, 17, 17)
    );
    commands.sort();
    commands.dedup();
    assert_eq!(commands.len(), names.len());
}
