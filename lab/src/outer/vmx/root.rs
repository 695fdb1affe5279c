//! Contents of a run's disks: this machine's usual programs, made once, and the files that the command brings along.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::Base;
use super::tree::Tree;
use crate::cache::{Cache, Flavour, digest};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::mbr;
use crate::outer::Outer;
use crate::{INNER_SUITE, doctor, inner};

/// The programs that a command may count on, where this machine has them: a shell's usual company, what the lab and the
/// tests call, and the inner VM's QEMU. For all else there is `--bring`.
const PROGRAMS: &str = "[ awk base64 basename bash bc busybox cat chmod chown chroot cmp comm cp cpio cut date dd df \
    diff dirname dmesg du echo egrep env expr false find flock free grep gzip head hexdump hostname id ip kill ldd ln \
    ls lscpu lsmod md5sum mkdir mkfifo mknod mktemp modinfo modprobe mount mv nice nproc nsenter od perf pgrep ping \
    pkill printf ps pwd qemu-system-x86_64 readlink realpath rm rmdir rmmod sed seq setpriv setsid sh sha256sum sleep \
    sort stat stdbuf strace strip stty sync tail tar taskset tc tee test time timeout top touch tr true tty umount uname \
    uniq unshare uptime wc which xargs xz yes zstd";

/// Files that programs read without being linked with them; those that this machine has are taken along.
const FILES: &[&str] = &[
    "/etc/debian_version",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/shells",
    "/lib/terminfo",
    "/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache",
    "/usr/share/qemu/bios-256k.bin",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/multiboot.bin",
    "/usr/share/qemu/multiboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/seabios/vgabios-stdvga.bin",
];

/// Places to mount at, and to write to.
const DIRECTORIES: &[&str] =
    &["/dev", "/home", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp", "/var/log", "/var/tmp"];

/// The modules that may be loaded later, by modprobe.
const MODULES: &[&str] = &["kvm-intel", "tun", "loop"];

/// The base disk, kept in the cache and made anew when anything on it has changed.
pub(super) fn base(cache: &Cache) -> Result<Base, Error> {
    let mut tree = Tree::default();
    for directory in DIRECTORIES {
        tree.directory(Path::new(directory));
    }
    for program in PROGRAMS.split_whitespace() {
        if let Ok(path) = doctor::program(program) {
            tree.add(&path)?;
        }
    }
    for file in FILES.iter().map(Path::new).filter(|file| file.exists()) {
        tree.add(file)?;
    }
    if let Some(kernel) = cache.find(INNER_SUITE, Flavour::Cloud)? {
        for file in inner::files(cache, &kernel)? {
            tree.add(&file)?;
        }
    }
    let name = format!("base-{}", digest(&[&tree.fingerprint()?]));
    let image = cache.path().join(&name);
    if !image.exists() {
        let _lock = cache.lock("base", rustix::fs::FlockOperation::LockExclusive)?;
        cache.sweep("base");
        if !image.exists() {
            let scratch = cache.scratch("base")?;
            let new = scratch.path().join("image");
            tree.image(&scratch.path().join("tree"), &new, 0)?;
            grow(&new)?;
            // Of other states of this machine's programs.
            for old in others(cache, &name) {
                // One that is in use stays until nobody has it open.
                let _ = fs::remove_file(old);
            }
            fs::rename(&new, &image).map_err(Error::io(&image))?;
        }
    }
    Ok(Base { image, tree })
}

/// Extends a disk to whole cylinders, as Bochs wants it.
fn grow(image: &Path) -> Result<(), Error> {
    let file = fs::File::options().write(true).open(image).map_err(Error::io(image))?;
    let length = file.metadata().map_err(Error::io(image))?.len();
    file.set_len(mbr::whole_cylinders(length)).map_err(Error::io(image))
}

fn others(cache: &Cache, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cache.path()) else { return Vec::new() };
    let files = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let named = files.filter(|entry| {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        file.starts_with("base-") && file != name
    });
    named.map(|entry| entry.path()).collect()
}

/// The command, its arguments that name files, what else is to come along, and this kernel's modules.
pub(super) fn own<W: AsRef<OsStr>>(
    outer: &Outer,
    kernel: &Kernel,
    command: &[W],
    base: &Base,
) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    let directory = outer.working_directory()?;
    tree.add_directory(&directory)?;
    for (index, word) in command.iter().map(AsRef::as_ref).enumerate() {
        let path = directory.join(word);
        let is_path = index > 0 || word.as_encoded_bytes().contains(&b'/');
        if is_path && path.is_file() {
            tree.add(&path)?;
        } else if index == 0
            && let Some(program) = word.to_str().and_then(|name| doctor::program(name).ok())
        {
            tree.add(&program)?;
        }
    }
    for path in &outer.bring {
        tree.add(path)?;
    }
    // Of the machine's own tree, or of a link's target: the kernel looks in /lib/modules.
    let lib = fs::canonicalize("/lib").unwrap_or_else(|_| "/lib".into());
    let place = lib.join("modules").join(&kernel.release);
    let mut files = kernel.module_paths(MODULES)?;
    let index = fs::read_dir(&kernel.modules).map_err(Error::io(&kernel.modules))?.flatten();
    files.extend(index.filter(|e| e.file_name().to_string_lossy().starts_with("modules.")).map(|e| e.path()));
    for file in files {
        let name = file.strip_prefix(&kernel.modules).unwrap_or(&file).to_path_buf();
        tree.put(&place.join(name), &file);
    }
    tree.without(&base.tree);
    Ok(tree)
}
