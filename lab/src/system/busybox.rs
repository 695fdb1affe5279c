//! A disk with busybox, its kernel, and 4 MiB that the guest reads and writes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::apt::sha256;
use crate::cache::Cache;
use crate::doctor;
use crate::error::Error;
use crate::initramfs::{self, MAIN};
use crate::kernel::Kernel;

use super::disk::Disk;

const SECOND: &str = include_str!("busybox/second.sh");
/// Bytes that the guest reads, and as many that it writes.
const DATA: usize = 4 << 20;
/// The partition in MiB.
const SIZE: u32 = 96;

pub(super) fn recipe() -> Vec<&'static [u8]> {
    let mut recipe = vec![SECOND.as_bytes(), MAIN.as_bytes()];
    recipe.extend(initramfs::INNER_DISK.scripts.iter().map(|(_, text)| text.as_bytes()));
    recipe.extend(initramfs::INNER_DISK.modules.iter().map(|name| name.as_bytes()));
    recipe
}

/// Makes it in the directory `to`, and returns what it is made of.
pub(super) fn make(cache: &Cache, kernel: &Kernel, scratch: &Path, to: &Path) -> Result<String, Error> {
    let tree = scratch.join("tree");
    for directory in ["bin", "lab", "boot", "proc", "sys", "dev", "tmp"] {
        let directory = tree.join(directory);
        fs::create_dir_all(&directory).map_err(Error::io(&directory))?;
    }
    let write = |name: &str, mode: u32, bytes: &[u8]| {
        let file = tree.join(name);
        fs::write(&file, bytes)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(mode)))
            .map_err(Error::io(&file))
    };
    let busybox = doctor::program("busybox")?;
    write("bin/busybox", 0o755, &fs::read(&busybox).map_err(Error::io(&busybox))?)?;
    write("lab/second", 0o755, SECOND.as_bytes())?;
    write("lab/main", 0o644, MAIN.as_bytes())?;
    write("lab/data", 0o644, &data())?;
    let sum = format!("{}  /lab/data\n", sha256(&tree.join("lab/data"))?);
    write("lab/data.sha256", 0o644, sum.as_bytes())?;
    let initrd = initramfs::INNER_DISK.image(cache, kernel)?;
    write("vmlinuz", 0o644, &fs::read(&kernel.image).map_err(Error::io(&kernel.image))?)?;
    write("initrd.img", 0o644, &fs::read(&initrd).map_err(Error::io(&initrd))?)?;
    Disk { tree: &tree, archive: None, size: SIZE, scratch }.write(to)?;
    Ok(format!("linux {}\nbusybox sha256:{}\n", kernel.release, sha256(&busybox)?))
}

/// The same bytes every time, of no order: no layer on the way can save itself the trouble.
fn data() -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        // A linear congruential generator modulo 2^64, its high byte (Knuth's multiplier).
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..DATA).map(|_| next()).collect()
}
