//! Writes a disk image: an MBR with GRUB in it, and one partition of ext4. Nothing is mounted, and no root is needed.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::command::{output, tool};
use crate::doctor::BOOT_SECTOR;
use crate::error::Error;
use crate::mbr;

/// The file system's; the kernel's command line and fstab name it.
pub(super) const UUID: &str = "7ab00000-0000-4e00-8000-0000000000ab";

const SECTOR: usize = 512;
const MIB: u64 = 1 << 20;
/// Where the partition starts, as everywhere.
const START: u64 = MIB;
const PACK: &str = include_str!("pack.sh");
/// GRUB's commands before it can read its configuration.
const EARLY: &str = include_str!("early.cfg");
const MODULES: [&str; 8] =
    ["biosdisk", "part_msdos", "ext2", "normal", "configfile", "linux", "serial", "terminal"];

/// A disk to be written.
pub(super) struct Disk<'a> {
    /// The directory that becomes the file system. It must hold `vmlinuz` and `initrd.img` in the end.
    pub(super) tree: &'a Path,
    /// A tar archive that is unpacked into the tree first.
    pub(super) archive: Option<&'a Path>,
    /// The partition's size in MiB.
    pub(super) size: u32,
    /// For files on the way.
    pub(super) scratch: &'a Path,
}

/// All that decides what a disk looks like, but for what is in its tree.
pub(super) fn recipe() -> Vec<&'static [u8]> {
    [PACK, EARLY, UUID].into_iter().chain(MODULES).map(str::as_bytes).collect()
}

impl Disk<'_> {
    /// Writes it into the directory `to`, and a copy of its kernel and initramfs beside it.
    pub(super) fn write(&self, to: &Path) -> Result<(), Error> {
        let configuration = self.scratch.join("grub.cfg");
        let entry = format!("linux /vmlinuz {}\ninitrd /initrd.img\nboot\n", super::command_line());
        fs::write(&configuration, entry).map_err(Error::io(&configuration))?;
        let image = to.join("disk.img");
        let mut pack = tool("fakeroot")?;
        // An ordinary user's PATH lacks the directory that mke2fs is in.
        pack.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["sh", "-c", PACK, "pack.sh"]).arg(self.tree);
        pack.arg(self.archive.unwrap_or(Path::new("")).as_os_str()).arg(&configuration).arg(&image);
        output(pack.arg(UUID).arg(format!("{}M", self.size)))?;
        let core = self.core()?;
        let boot = fs::read(BOOT_SECTOR).map_err(Error::io(BOOT_SECTOR))?;
        let length = u64::from(self.size) * MIB;
        let head = head(&boot, &core, length)
            .ok_or_else(|| Error::Usage(format!("{BOOT_SECTOR} and its core do not fit before 1 MiB")))?;
        let mut file = File::options().write(true).open(&image).map_err(Error::io(&image))?;
        file.set_len(mbr::whole_cylinders(START + length))
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(&head))
            .map_err(Error::io(&image))?;
        for (name, copy) in [("vmlinuz", "vmlinuz"), ("initrd.img", "initrd")] {
            let file = self.tree.join(name);
            fs::copy(&file, to.join(copy)).map_err(Error::io(&file))?;
        }
        Ok(())
    }

    /// GRUB's core image, which finds the rest by itself.
    fn core(&self) -> Result<Vec<u8>, Error> {
        let early = self.scratch.join("early.cfg");
        let core = self.scratch.join("core.img");
        fs::write(&early, EARLY).map_err(Error::io(&early))?;
        let mut make = tool("grub-mkimage")?;
        make.args(["-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-c"]).arg(&early).arg("-o").arg(&core);
        output(make.args(MODULES))?;
        fs::read(&core).map_err(Error::io(&core))
    }
}

/// The disk's first sectors: GRUB's boot sector, which reads its core from the second sector on (as it comes from
/// Debian), the partition table, and the core. `None` if they do not fit.
fn head(boot: &[u8], core: &[u8], length: u64) -> Option<Vec<u8>> {
    /// Behind the code come the disk's signature and, at 446, the table of four partitions.
    const CODE: usize = 440;
    let mut head = boot.get(..CODE)?.to_vec();
    head.extend(*b"LAB\0\0\0");
    head.extend(mbr::partition(true, START, length));
    head.resize(SECTOR - 2, 0);
    head.extend([0x55, 0xaa]);
    head.extend(core);
    let gap = usize::try_from(START).ok()?;
    (head.len() <= gap).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sectors() {
        let (boot, core) = ([1; 512], [2; 1000]);
        let head = head(&boot, &core, 0x0102_0304 * 512).unwrap();
        assert_eq!(head.len(), 1512);
        assert_eq!(head[..440], [1; 440]);
        assert_eq!(head[446..462], [128, 254, 255, 255, 0x83, 254, 255, 255, 0, 8, 0, 0, 4, 3, 2, 1]);
        assert_eq!(head[462..510], [0; 48]);
        assert_eq!(head[510..512], [0x55, 0xaa]);
        assert_eq!(head[512..], core);
        assert_eq!(super::head(&boot, &vec![0; 1 << 20], 1), None);
        assert_eq!(super::head(&[], &core, 1), None);
    }
}
