//! The systems that an inner VM boots from a disk: their names, and their places in the cache.

use std::fs;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use crate::cache::{Cache, Flavour, check_suite, digest};
use crate::doctor::{self, Task};
use crate::error::Error;
use crate::vmlinux;

mod busybox;
mod debian;
mod disk;

/// The kernel's command line: the system's own disk, whatever the bus calls it, and the serial console.
pub(crate) fn command_line() -> String {
    format!("root=UUID={} ro console=ttyS0 panic=-1", disk::UUID)
}

/// A system that an inner VM boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// busybox and a shell script
    Busybox,
    /// Debian with systemd and a getty on the serial console
    Debian,
}

/// A bus to which a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Bus {
    /// The first disk of the PIIX3's IDE controller, as -hda does
    Ide,
    /// virtio-blk
    Virtio,
}

/// A loader of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Loader {
    /// QEMU itself: the kernel and initramfs of the disk, as -kernel and -initrd
    None,
    /// GRUB, from the disk
    Grub,
}

/// A system on a disk image, ready to boot.
#[derive(Clone, Debug)]
pub struct Image {
    /// The system.
    pub system: System,
    /// The disk, raw: an MBR with GRUB and one partition of ext4. A file or a block device.
    pub disk: PathBuf,
    /// The disk's kernel, as QEMU boots it the fastest.
    pub kernel: PathBuf,
    /// The disk's initramfs.
    pub initrd: PathBuf,
}

impl System {
    /// Returns the system's word on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Debian => "debian",
        }
    }

    /// The variable that names the disk in place of the cache's.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Busybox => "LAB_SYSTEM_BUSYBOX",
            Self::Debian => "LAB_SYSTEM_DEBIAN",
        }
    }

    /// Returns the part of the name that all images of one recipe have, whatever their packages.
    fn entry(self, suite: &str) -> String {
        let recipe: Vec<&[u8]> = match self {
            Self::Busybox => busybox::recipe(),
            Self::Debian => debian::recipe(),
        };
        format!("{}-{suite}-{}", self.name(), digest(&[recipe, disk::recipe()].concat()))
    }

    /// The newest image of this system that the cache has.
    ///
    /// # Errors
    /// [`Error::System`] if there is none, [`Error::Usage`], [`Error::Io`].
    pub fn find(self, cache: &Cache, suite: &str) -> Result<Image, Error> {
        check_suite(suite)?;
        let missing = |reason: String| Error::System { system: self.name(), suite: suite.into(), reason };
        let entry = newest(cache, &self.entry(suite))?
            .ok_or_else(|| missing(format!("it is not in {}", cache.path().display())))?;
        let (disk, from) = match std::env::var_os(self.variable()).filter(|value| !value.is_empty()) {
            Some(disk) => (PathBuf::from(disk), self.variable()),
            None => (entry.join("disk.img"), "the cache"),
        };
        let image = Image { system: self, disk, kernel: entry.join("kernel"), initrd: entry.join("initrd") };
        for file in [&image.disk, &image.kernel, &image.initrd] {
            fs::metadata(file)
                .map_err(|error| missing(format!("{}, named by {from}: {error}", file.display())))?;
        }
        Ok(image)
    }

    /// The image of this system, made if it is not here yet, or if `anew` of the newest packages.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NoMirror`], [`Error::Program`], [`Error::Io`], [`Error::Usage`].
    pub fn prepare(
        self,
        cache: &Cache,
        suite: &str,
        anew: bool,
        progress: &dyn Fn(&str),
    ) -> Result<(), Error> {
        check_suite(suite)?;
        let name = self.entry(suite);
        let lock = cache.lock(&format!("{}-{suite}", self.name()), FlockOperation::LockExclusive)?;
        if !anew && newest(cache, &name)?.is_some() {
            return Ok(());
        }
        doctor::check(Task::System)?;
        cache.sweep(&name);
        progress(&format!("making {} of {suite} in {}", self.name(), cache.path().display()));
        let scratch = cache.scratch(&name)?;
        let new = scratch.path().join("system");
        fs::create_dir(&new).map_err(Error::io(&new))?;
        let versions = match self {
            Self::Busybox => {
                busybox::make(cache, &cache.kernel(suite, Flavour::Plain, progress)?, scratch.path(), &new)
            }
            Self::Debian => debian::make(suite, scratch.path(), &new),
        }?;
        // Beside the disk, for boots without GRUB, and so that they can travel alone.
        let image = new.join("vmlinuz");
        let kernel = vmlinux::unpacked(&fs::read(&image).map_err(Error::io(&image))?)?;
        if kernel.is_empty() {
            fs::rename(&image, new.join("kernel")).map_err(Error::io(&image))?;
        } else {
            fs::write(new.join("kernel"), kernel).map_err(Error::io(&new))?;
            fs::remove_file(&image).map_err(Error::io(&image))?;
        }
        fs::write(new.join("packages"), &versions).map_err(Error::io(&new))?;
        let place = cache.path().join(format!("{name}-{}", digest(&[versions.as_bytes()])));
        // The same packages again: what is there may be in use, and is as good.
        if !place.exists() {
            fs::rename(&new, &place).map_err(Error::io(&place))?;
        }
        flock(&lock, FlockOperation::Unlock).map_err(|errno| Error::io(&place)(errno.into()))
    }
}

/// The entry made last of those whose names start with `name`.
fn newest(cache: &Cache, name: &str) -> Result<Option<PathBuf>, Error> {
    let entries = fs::read_dir(cache.path()).map_err(Error::io(cache.path()))?;
    let ours = entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&format!("{name}-")));
    let dated = ours.filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())));
    Ok(dated.max().map(|(_, path)| path))
}
