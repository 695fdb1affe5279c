//! `scripts/setup` and `make` on a machine that lacks something: fake programs, and a directory in place of /.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Programs that the script and make call, which every machine has.
const USUAL: &[&str] =
    &["bash", "sh", "cat", "env", "grep", "head", "make", "sed", "sort", "dirname", "touch"];

/// Files that building needs.
const FILES: &[&str] = &[
    "usr/include/libelf.h",
    "usr/include/zlib.h",
    "usr/include/string.h",
    "usr/include/x86_64-linux-gnu/asm/svm.h",
    "usr/lib/x86_64-linux-gnu/libclang-16.so.1",
];

/// A machine on which everything can be built, until a test takes something away. Its cargo and its package managers leave a
/// file with their arguments.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        fs::create_dir(machine.at("bin")).unwrap();
        for name in USUAL {
            let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .map(|folder| folder.join(name))
                .find(|path| path.exists())
                .unwrap_or_else(|| panic!("no {name} here"));
            symlink(real, machine.at("bin").join(name)).unwrap();
        }
        for file in FILES {
            fs::create_dir_all(machine.at(file).parent().unwrap()).unwrap();
            fs::write(machine.at(file), "").unwrap();
        }
        machine.program("rustc", "echo 'rustc 1.90.0 (1159e78c4 2025-09-14)'");
        machine.program("clang", "echo 'Debian clang version 14.0.6'; echo 'Target: x86_64-pc-linux-gnu'");
        machine.program("id", "echo 0");
        for name in ["cc", "ld", "pkg-config"] {
            machine.program(name, "exit 1");
        }
        for name in ["cargo", "apt-get"] {
            machine.notes(name);
        }
        machine
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn program(&self, name: &str, script: &str) {
        // By a shell: the kernel runs no file that this process has open for writing.
        let text = format!("#!/bin/sh\n{script}\n");
        let write = ["-c", "printf %s \"$1\" >\"$2\" && chmod +x \"$2\"", "sh", &text];
        assert!(Command::new("sh").args(write).arg(self.at("bin").join(name)).status().unwrap().success());
    }

    /// A program that notes its arguments.
    fn notes(&self, name: &str) {
        self.program(name, &format!("echo \"$*\" >>{}", self.at(&format!("{name}.called")).display()));
    }

    fn without(self, path: &str) -> Machine {
        fs::remove_file(self.at(path)).unwrap();
        self
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(REPOSITORY).env_clear();
        command.env("PATH", self.at("bin")).env("SETUP_ROOT", self.0.path()).output().unwrap()
    }

    fn called(&self, name: &str) -> String {
        fs::read_to_string(self.at(&format!("{name}.called"))).unwrap_or_default()
    }

    /// Asserts that `make build` ends before cargo is called, and returns what it says.
    fn refuses(&self) -> String {
        let output = self.run("make", &["build"]);
        assert!(!output.status.success());
        assert_eq!(self.called("cargo"), "");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn with_everything_there_make_calls_cargo() {
    let machine = Machine::new();
    let output = machine.run("make", &["build"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        (machine.called("cargo").trim(), machine.called("apt-get").trim()),
        ("build --release --locked", "")
    );
}

#[test]
fn an_old_rust_is_told_before_anything_is_installed() {
    let machine = Machine::new().without("usr/include/libelf.h");
    machine.program("rustc", "echo 'rustc 1.63.0 (4b91a6ea7 2022-08-08)'");
    let said = machine.refuses();
    assert!(said.contains("Rust 1.63.0 is too old, 1.88 or later is needed"), "{said}");
    assert!(said.contains("rustup toolchain install stable"), "{said}");
    assert_eq!(machine.called("apt-get"), "");
    // 1.9 is older than 1.88, though the text is greater.
    machine.program("rustc", "echo 'rustc 1.9.0'");
    machine.program("rustup", "exit 1");
    let said = machine.refuses();
    assert!(
        said.contains("Rust 1.9.0 is too old") && said.contains("Update it: rustup update stable"),
        "{said}"
    );
    let said = Machine::new().without("bin/cargo").refuses();
    assert!(said.contains("Rust is missing") && said.contains("https://sh.rustup.rs"), "{said}");
}

#[test]
fn an_old_clang_is_told_with_the_command_for_a_newer_one() {
    let machine = Machine::new();
    machine.program("clang", "echo 'Ubuntu clang version 10.0.0-4ubuntu1'");
    let said = machine.refuses();
    assert!(said.contains("clang 10 is too old, 11 or later is needed"), "{said}");
    assert!(said.contains("sudo apt-get install clang-16 && sudo update-alternatives"), "{said}");
}

#[test]
fn missing_headers_are_installed_where_apt_can_and_named_where_not() {
    let machine = Machine::new().without("usr/include/libelf.h");
    let output = machine.run("make", &["build"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("installing the Debian packages libelf-dev"));
    assert!(machine.called("apt-get").contains("install --no-install-recommends libelf-dev"));
    // A user without sudo gets the command.
    let machine = machine.without("bin/id");
    machine.program("id", "echo 1000");
    fs::remove_file(machine.at("cargo.called")).unwrap();
    let said = machine.refuses();
    assert!(said.contains("As root, run: apt-get install --no-install-recommends libelf-dev"), "{said}");
    // On Fedora its own names.
    let machine = machine.without("bin/apt-get");
    machine.notes("dnf");
    let said = machine.refuses();
    assert!(
        said.contains("missing: elfutils-libelf-devel. Run: sudo dnf install elfutils-libelf-devel"),
        "{said}"
    );
    // Anywhere else Debian's.
    let said = machine.without("bin/dnf").refuses();
    assert!(said.contains("missing: libelf-dev (names of Debian packages)"), "{said}");
}

#[test]
fn libraries_are_found_where_fedora_has_them() {
    let machine = Machine::new()
        .without("usr/include/x86_64-linux-gnu/asm/svm.h")
        .without("usr/lib/x86_64-linux-gnu/libclang-16.so.1");
    for file in ["usr/include/asm/svm.h", "usr/lib64/libclang.so.20.1"] {
        fs::create_dir_all(machine.at(file).parent().unwrap()).unwrap();
        fs::write(machine.at(file), "").unwrap();
    }
    assert!(Path::new(REPOSITORY).join("scripts/setup").exists());
    assert!(machine.run("make", &["build"]).status.success());
    assert_eq!(machine.called("apt-get"), "");
}
