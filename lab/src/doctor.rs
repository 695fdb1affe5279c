//! Programs and files that the lab needs on this machine, and the packages that have them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::error::{Error, Missing};

/// A task with needs of its own. The needs of `Fetch` are among those of `Run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Download kernels.
    Fetch,
    /// Boot an outer VM.
    Run,
    /// Boot an outer VM on Bochs; what that needs beside `Run`.
    Vmx,
    /// Boot an inner VM, in the outer one.
    Inner,
    /// Make the disk image of an inner VM, outside the outer one; what that needs beside `Run`.
    System,
    /// Build KVM's modules; what that needs beside `Fetch`.
    Kernel,
}

#[derive(Clone, Copy)]
enum Need {
    /// A program, found as a shell would, and in the `sbin` directories too.
    Program(&'static str),
    /// A program that must be linked statically, since it runs where no library is.
    Static(&'static str),
    /// A program that only users other than root need.
    Unprivileged(&'static str),
    /// A file, in any of these places.
    File(&'static [&'static str]),
}

/// Debian's keys, by which apt checks what it downloads.
pub(crate) const KEYRINGS: &[&str] =
    &["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// GRUB's first sector, among its other parts.
pub(crate) const BOOT_SECTOR: &str = "/usr/lib/grub/i386-pc/boot.img";

/// Everything the lab needs: what, the Debian package it is in, what for.
const NEEDS: &[(Need, &str, Task)] = &[
    (Need::Program("apt-get"), "apt", Task::Fetch),
    (Need::Program("apt-cache"), "apt", Task::Fetch),
    (Need::Program("dpkg"), "dpkg", Task::Fetch),
    (Need::Program("depmod"), "kmod", Task::Fetch),
    (Need::File(KEYRINGS), "debian-archive-keyring", Task::Fetch),
    (Need::Program("modprobe"), "kmod", Task::Run),
    (Need::Program("xz"), "xz-utils", Task::Run),
    (Need::Static("busybox"), "busybox-static", Task::Run),
    (Need::Program("qemu-system-x86_64"), "qemu-system-x86", Task::Run),
    (
        Need::File(&["/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"]),
        "seabios",
        Task::Run,
    ),
    (
        Need::File(&["/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/optionrom/linuxboot_dma.bin"]),
        "qemu-system-data",
        Task::Run,
    ),
    (Need::Program("bochs-bin"), "bochs", Task::Vmx),
    (Need::File(&["/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so"]), "bochs-term", Task::Vmx),
    (Need::File(&["/usr/share/bochs/BIOS-bochs-latest"]), "bochsbios", Task::Vmx),
    (Need::File(&["/usr/share/bochs/VGABIOS-lgpl-latest"]), "vgabios", Task::Vmx),
    (Need::Program("mke2fs"), "e2fsprogs", Task::Vmx),
    (Need::Program("mmdebstrap"), "mmdebstrap", Task::System),
    (Need::Unprivileged("newuidmap"), "uidmap", Task::System),
    (Need::Program("fakeroot"), "fakeroot", Task::System),
    (Need::Program("tar"), "tar", Task::System),
    (Need::Program("mke2fs"), "e2fsprogs", Task::System),
    (Need::Program("grub-mkimage"), "grub-common", Task::System),
    (Need::File(&[BOOT_SECTOR]), "grub-pc-bin", Task::System),
    (Need::Program("mmdebstrap"), "mmdebstrap", Task::Kernel),
    (Need::Unprivileged("newuidmap"), "uidmap", Task::Kernel),
    (Need::Program("unshare"), "util-linux", Task::Kernel),
    (Need::Program("tar"), "tar", Task::Kernel),
    (Need::Program("xz"), "xz-utils", Task::Kernel),
    (Need::Program("modinfo"), "kmod", Task::Kernel),
];

/// The state of one need.
pub struct Finding {
    /// Name of the program or file.
    pub name: String,
    /// Where it is, or what is wrong.
    pub state: Result<PathBuf, String>,
    /// The Debian package it is in.
    pub package: &'static str,
}

/// Looks for everything that `task` needs.
#[must_use]
pub fn examine(task: Task) -> Vec<Finding> {
    let wanted = |of: Task| match task {
        Task::Fetch => of == Task::Fetch,
        // An inner VM downloads nothing: no apt, no keys.
        Task::Inner => of == Task::Run,
        Task::Run => matches!(of, Task::Fetch | Task::Run),
        Task::Vmx | Task::System | Task::Kernel => of == task,
    };
    let needed = |need: &Need| !matches!(need, Need::Unprivileged(_) if rustix::process::geteuid().is_root());
    NEEDS
        .iter()
        .filter(|(need, _, of)| wanted(*of) && needed(need))
        .map(|&(need, package, _)| {
            let (name, state) = need.look();
            Finding { name, state, package }
        })
        .collect()
}

/// Fails with all that is missing for `task`.
///
/// # Errors
/// [`Error::Missing`].
pub fn check(task: Task) -> Result<(), Error> {
    let mut missing = Missing { things: Vec::new(), packages: Vec::new() };
    for finding in examine(task) {
        if let Err(reason) = finding.state {
            missing.things.push(format!("{} ({reason})", finding.name));
            if !missing.packages.contains(&finding.package) {
                missing.packages.push(finding.package);
            }
        }
    }
    if missing.things.is_empty() { Ok(()) } else { Err(Error::Missing(missing)) }
}

/// The full path of a program.
///
/// # Errors
/// [`Error::Missing`], with the package to install where the lab knows it.
pub fn program(name: &str) -> Result<PathBuf, Error> {
    find_program(name).ok_or_else(|| {
        let package = NEEDS.iter().find_map(|&(need, package, _)| match need {
            Need::Program(n) | Need::Unprivileged(n) | Need::Static(n) if n == name => Some(package),
            _ => None,
        });
        let packages = package.into_iter().collect();
        Error::Missing(Missing { things: vec![format!("{name} (no such program)")], packages })
    })
}

impl Need {
    fn look(self) -> (String, Result<PathBuf, String>) {
        match self {
            Self::Program(name) | Self::Unprivileged(name) => {
                (name.into(), find_program(name).ok_or("no such program".into()))
            }
            Self::Static(name) => {
                let state = match find_program(name) {
                    None => Err("no such program".into()),
                    Some(path) => match fs::read(&path) {
                        Err(error) => Err(format!("{}: {error}", path.display())),
                        Ok(elf) if interpreter(&elf).is_some() => {
                            Err(format!("{} is linked dynamically", path.display()))
                        }
                        Ok(_) => Ok(path),
                    },
                };
                (format!("{name}, static"), state)
            }
            Self::File(places) => {
                let found = places.iter().map(Path::new).find(|place| place.exists());
                (places[0].into(), found.map(Into::into).ok_or("no such file".into()))
            }
        }
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // An ordinary user's PATH lacks these, and modprobe and depmod are there.
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

/// The dynamic linker that an ELF file names; of a file that has none, nothing. The file's first page is enough.
pub(crate) fn interpreter(elf: &[u8]) -> Option<PathBuf> {
    let headers = FileHeader64::parse(elf).ok()?.program_headers(LittleEndian, elf).ok()?;
    let name = headers.iter().find_map(|header| header.interpreter(LittleEndian, elf).ok()?)?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dynamic_linker_is_noticed() {
        // This test itself is linked dynamically; the dynamic linker is not.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let linker = interpreter(&own).unwrap();
        assert!(linker.exists(), "{}", linker.display());
        assert_eq!(interpreter(&fs::read(linker).unwrap()), None);
        assert_eq!(interpreter(&own[..4096]), interpreter(&own));
        assert_eq!(interpreter(b"\x7fELF\x02\x01"), None);
    }
}
