//! The initramfs of outer and inner VMs: busybox, the modules in loading order, and an `init` script.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, fingerprint};
use crate::cpio::Archive;
use crate::doctor;
use crate::error::Error;
use crate::kernel::Kernel;

/// Contents of an initramfs beside busybox.
pub(crate) struct Recipe {
    /// Names the file in the cache.
    pub(crate) kind: &'static str,
    /// The modules that `init` loads; what they need comes along.
    pub(crate) modules: &'static [&'static str],
    /// The scripts: name in the initramfs, text.
    pub(crate) scripts: &'static [(&'static str, &'static str)],
    /// True if the modules keep their signatures.
    pub(crate) signed: bool,
}

const SECOND: &str = include_str!("outer/second.sh");

/// Script of a busybox guest, once its network is up: the job, then power off.
pub(crate) const MAIN: &str =
    concat!(include_str!("inner/main.sh"), include_str!("inner/work.sh"), "poweroff -f\n");

/// The outer VM's on QEMU: the shared root file system, the ports to the lab, KVM with SVM.
pub(crate) const OUTER_SVM: Recipe = Recipe {
    kind: "outer",
    modules: &["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console", "kvm-amd"],
    scripts: &[
        (
            "init",
            concat!(
                include_str!("outer/init.sh"),
                include_str!("outer/root-svm.sh"),
                include_str!("outer/switch.sh")
            ),
        ),
        ("lab/second", SECOND),
    ],
    signed: true,
};

/// The outer VM's on Bochs: file systems on disks, KVM with VMX. Checking the modules' signatures would take twenty
/// seconds there.
pub(crate) const OUTER_VMX: Recipe = Recipe {
    kind: "outer-vmx",
    modules: &["ata_piix", "sd_mod", "ext4", "overlay", "kvm-intel"],
    scripts: &[
        (
            "init",
            concat!(
                include_str!("outer/init.sh"),
                include_str!("outer/root-vmx.sh"),
                include_str!("outer/switch.sh")
            ),
        ),
        ("lab/second", SECOND),
    ],
    signed: false,
};

/// The inner VM's that lives in its initramfs: network, and virtio disks.
pub(crate) const INNER: Recipe = Recipe {
    kind: "inner",
    modules: &["virtio_pci", "virtio_net", "virtio_blk"],
    scripts: &[("init", include_str!("inner/init.sh")), ("lab/main", MAIN)],
    signed: true,
};

/// The inner VM's that lives on a disk, IDE's or virtio's.
pub(crate) const INNER_DISK: Recipe = Recipe {
    kind: "inner-disk",
    modules: &["virtio_pci", "virtio_net", "virtio_blk", "ata_piix", "sd_mod", "ext4", "qemu_fw_cfg"],
    scripts: &[("init", include_str!("system/busybox/init.sh"))],
    signed: true,
};

impl Recipe {
    /// The initramfs for `kernel`, kept in the cache. It is not compressed: unpacking it under
    /// emulation would take longer than reading it.
    pub(crate) fn image(&self, cache: &Cache, kernel: &Kernel) -> Result<PathBuf, Error> {
        let busybox = doctor::program("busybox")?;
        let names = self.modules.join(" ");
        let parts =
            [fingerprint(&busybox)?, fingerprint(&kernel.modules.join("modules.dep"))?, names.into_bytes()];
        let mut key: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        key.extend(self.scripts.iter().map(|(_, text)| text.as_bytes()));
        cache.keep(&format!("{}-{}", self.kind, kernel.release), &key, &|| {
            self.make(&fs::read(&busybox).map_err(Error::io(&busybox))?, kernel)
        })
    }

    fn make(&self, busybox: &[u8], kernel: &Kernel) -> Result<Vec<u8>, Error> {
        let mut archive = Archive::default();
        for directory in ["bin", "modules", "lab", "proc", "sys", "dev"] {
            archive.directory(directory);
        }
        archive.file("bin/busybox", 0o755, busybox);
        let mut order = String::new();
        for (name, bytes) in kernel.module_files(self.modules)? {
            let bytes = if self.signed { &bytes } else { unsigned(&bytes) };
            archive.file(&format!("modules/{name}"), 0o644, bytes);
            order.push_str(&name);
            order.push('\n');
        }
        archive.file("lab/modules", 0o644, order.as_bytes());
        for (name, text) in self.scripts {
            archive.file(name, 0o755, text.as_bytes());
        }
        Ok(archive.finish())
    }
}

/// A module without the signature behind it (`struct module_signature` in include/linux/module_signature.h: its last
/// four bytes are the signature's length, and a magic string follows).
fn unsigned(module: &[u8]) -> &[u8] {
    const MAGIC: &[u8] = b"~Module signature appended~\n";
    const HEAD: usize = 12;
    let Some((rest, length)) = module.strip_suffix(MAGIC).and_then(|rest| rest.split_last_chunk::<4>())
    else {
        return module;
    };
    let signature = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let end = rest.len().checked_sub(HEAD - 4).and_then(|end| end.checked_sub(signature));
    end.and_then(|end| module.get(..end)).unwrap_or(module)
}

/// Joins an initramfs and this boot's own files (for its directory `lab`) into one image.
pub(crate) fn join(image: &Path, files: &[(&str, &[u8])], to: &Path) -> Result<(), Error> {
    let mut bytes = fs::read(image).map_err(Error::io(image))?;
    let mut archive = Archive::default();
    for (name, data) in files {
        archive.file(&format!("lab/{name}"), 0o644, data);
    }
    bytes.extend(archive.finish());
    fs::write(to, bytes).map_err(Error::io(to))
}

#[cfg(test)]
mod tests {
    use super::unsigned;

    #[test]
    fn a_signature_is_taken_off_and_nothing_else() {
        let signed = |length: u8| {
            [b"module", &b"sig"[..], &[0; 8], &[0, 0, 0, length], b"~Module signature appended~\n"].concat()
        };
        assert_eq!(unsigned(&signed(3)), b"module");
        for module in [signed(100), b"module".to_vec(), b"~Module signature appended~\n".to_vec(), Vec::new()]
        {
            assert_eq!(unsigned(&module), module);
        }
    }
}
