//! A kernel image and its modules.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::command::{output, tool};
use crate::error::Error;

/// A kernel that can be booted.
#[derive(Debug)]
pub struct Kernel {
    /// The image, a bzImage.
    pub image: PathBuf,
    /// The release, as `uname -r` says it.
    pub release: String,
    /// The module tree: what `/lib/modules/RELEASE` holds, `modules.dep` included.
    pub modules: PathBuf,
    /// Keeps the cache's copy from being replaced meanwhile.
    pub(crate) _lock: Option<File>,
}

impl Kernel {
    /// A kernel from its image and its module tree: `modules` is the tree itself (it holds
    /// `modules.dep`) or a root with `lib/modules/RELEASE` in it.
    ///
    /// # Errors
    /// [`Error::Kernel`] if the image is no bzImage or the tree has no `modules.dep`; [`Error::Io`].
    pub fn from_paths(image: &Path, modules: &Path) -> Result<Self, Error> {
        let image = fs::canonicalize(image).map_err(Error::io(image))?;
        let modules = fs::canonicalize(modules).map_err(Error::io(modules))?;
        let bytes = fs::read(&image).map_err(Error::io(&image))?;
        let release = release(&bytes)
            .ok_or_else(|| Error::Kernel { path: image.clone(), reason: "is no x86 bzImage".into() })?;
        let candidates = [
            modules.clone(),
            modules.join("lib/modules").join(&release),
            modules.join("usr/lib/modules").join(&release),
        ];
        let tree =
            candidates.into_iter().find(|tree| tree.join("modules.dep").exists()).ok_or_else(|| {
                let reason = format!(
                    "holds neither modules.dep nor lib/modules/{release}/modules.dep; \
                 make it with: depmod -b ROOT {release}, where ROOT holds lib/modules/{release}"
                );
                Error::Kernel { path: modules, reason }
            })?;
        Ok(Self { image, release, modules: tree, _lock: None })
    }

    /// The modules called `names` and all they need, in the order in which they load: file name
    /// without compression's suffix, and the decompressed bytes. What is built in is left out.
    pub(crate) fn module_files(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.module_paths(names)?.iter().map(|path| read_module(path)).collect()
    }

    /// The files of the modules called `names` and of all they need, below the module tree and in the order in which
    /// they load.
    pub(crate) fn module_paths(&self, names: &[&str]) -> Result<Vec<PathBuf>, Error> {
        // modprobe wants the tree at ROOT/lib/modules/RELEASE; newer versions look below ROOT/usr.
        let root = tempfile::tempdir().map_err(Error::io("a temporary directory"))?;
        let usr = root.path().join("usr/lib/modules");
        fs::create_dir_all(&usr).map_err(Error::io(&usr))?;
        symlink("usr/lib", root.path().join("lib")).map_err(Error::io(&usr))?;
        symlink(&self.modules, usr.join(&self.release)).map_err(Error::io(&usr))?;
        let tree = usr.join(&self.release);
        let mut paths: Vec<PathBuf> = Vec::new();
        for name in names {
            // --config: the machine's own options and aliases are no concern of this kernel.
            let said = output(
                tool("modprobe")?
                    .args(["--config", "/dev/null", "--set-version", &self.release, "--dirname"])
                    .arg(root.path())
                    .args(["--show-depends", name]),
            )?;
            for line in String::from_utf8_lossy(&said).lines() {
                let Some(path) = line.strip_prefix("insmod ").map(|path| Path::new(path.trim_end())) else {
                    continue;
                };
                // It says the path by way of the links above, with or without /usr.
                let below = [tree.as_path(), &root.path().join("lib/modules").join(&self.release)]
                    .into_iter()
                    .find_map(|above| path.strip_prefix(above).ok());
                let path = below.map_or_else(|| path.to_path_buf(), |below| self.modules.join(below));
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        Ok(paths)
    }
}

fn read_module(path: &Path) -> Result<(String, Vec<u8>), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for (suffix, program) in [(".xz", "xz"), (".zst", "zstd"), (".gz", "gzip")] {
        if let Some(plain) = name.strip_suffix(suffix) {
            return Ok((plain.into(), output(tool(program)?.arg("-dc").arg(path))?));
        }
    }
    Ok((name, fs::read(path).map_err(Error::io(path))?))
}

/// The release in a bzImage's header (Documentation/arch/x86/boot.rst: `kernel_version` at 0x20e holds the
/// offset, less 0x200, of the version text).
fn release(image: &[u8]) -> Option<String> {
    if image.get(0x202..0x206) != Some(b"HdrS") {
        return None;
    }
    let offset = image.get(0x20e..0x210)?;
    let start = usize::from(u16::from_le_bytes([offset[0], offset[1]])) + 0x200;
    let text = image.get(start..)?.split(|&b| b == 0 || b == b' ').next()?;
    let release = std::str::from_utf8(text).ok()?;
    // It becomes a path below; only what Linux itself builds is let through.
    let sane = |c: char| c.is_ascii_alphanumeric() || "-_.+~".contains(c);
    (!release.is_empty() && release != "." && release != ".." && release.chars().all(sane))
        .then(|| release.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(version: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x800];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x300u16.to_le_bytes());
        image[0x500..0x500 + version.len()].copy_from_slice(version);
        image
    }

    #[test]
    fn the_image_says_its_release() {
        assert_eq!(release(&image(b"6.1.0-50-amd64 (debian) #1 SMP\0")).as_deref(), Some("6.1.0-50-amd64"));
        assert_eq!(release(&image(b"../../etc x\0")), None);
        assert_eq!(release(&image(b"\0")), None);
        assert_eq!(release(b"\x7fELF"), None);
    }

    #[test]
    fn a_tree_without_modules_dep_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("vmlinuz");
        fs::write(&file, image(b"6.1.0-50-amd64 x\0")).unwrap();
        let error = Kernel::from_paths(&file, directory.path()).unwrap_err();
        assert!(error.to_string().contains("depmod -b ROOT 6.1.0-50-amd64"), "{error}");
        let tree = directory.path().join("lib/modules/6.1.0-50-amd64");
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("modules.dep"), "").unwrap();
        let kernel = Kernel::from_paths(&file, directory.path()).unwrap();
        assert_eq!(kernel.modules, tree.canonicalize().unwrap());
    }
}
