//! The cache of downloaded kernels and built initramfs images.
//!
//! A kernel is one directory, `SUITE-FLAVOUR`, made under another name and renamed when it is whole.
//! Beside it lies `SUITE-FLAVOUR.lock`: a run holds it shared, a download has it alone.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::apt::Apt;
use crate::command::{output, tool};
use crate::doctor::{self, Task};
use crate::error::Error;
use crate::kernel::Kernel;

/// A flavour of Debian's kernel packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The kernel for every machine: it can share files by 9p, so it is the outer VM's.
    Plain,
    /// The small one for virtual machines, without 9p and KVM.
    Cloud,
}

impl Flavour {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "amd64",
            Self::Cloud => "cloud-amd64",
        }
    }
}

/// The cache directory.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache at `LAB_CACHE`, or `exitscope-lab` in `XDG_CACHE_HOME` or `~/.cache`; it is made if need be.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no home, [`Error::Io`].
    pub fn open() -> Result<Self, Error> {
        let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let directory = variable("LAB_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|d| d.join("exitscope-lab")))
            .or_else(|| variable("HOME").map(|d| d.join(".cache/exitscope-lab")))
            .ok_or_else(|| {
                Error::Usage("no place for the cache: set HOME, XDG_CACHE_HOME or LAB_CACHE".into())
            })?;
        Self::at(&directory)
    }

    /// The cache at `directory`, which is made if need be.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn at(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let directory = fs::canonicalize(directory).map_err(Error::io(directory))?;
        Ok(Self { directory })
    }

    /// The directory itself, a full path without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The kernel of a suite if it is here.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Kernel`].
    pub fn find(&self, suite: &str, flavour: Flavour) -> Result<Option<Kernel>, Error> {
        check_suite(suite)?;
        let lock = self.lock(&entry_name(suite, flavour), FlockOperation::LockShared)?;
        self.load(suite, flavour, lock)
    }

    /// The kernel of a suite, downloaded if it is not here yet; `progress` is told before a download.
    ///
    /// # Errors
    /// Those of [`Cache::find`], and [`Error::Missing`], [`Error::NoMirror`], [`Error::Program`],
    /// [`Error::Package`], [`Error::Checksum`].
    pub fn kernel(&self, suite: &str, flavour: Flavour, progress: &dyn Fn(&str)) -> Result<Kernel, Error> {
        match self.find(suite, flavour)? {
            Some(kernel) => Ok(kernel),
            None => self.download(suite, flavour, false, progress),
        }
    }

    /// Downloads the newest kernel of a suite in place of what is here.
    ///
    /// # Errors
    /// Those of [`Cache::kernel`].
    pub fn refresh(&self, suite: &str, flavour: Flavour, progress: &dyn Fn(&str)) -> Result<Kernel, Error> {
        self.download(suite, flavour, true, progress)
    }

    fn entry(&self, suite: &str, flavour: Flavour) -> PathBuf {
        self.directory.join(entry_name(suite, flavour))
    }

    /// Locks the entries called `name`.
    pub(crate) fn lock(&self, name: &str, how: FlockOperation) -> Result<File, Error> {
        let path = self.directory.join(format!("{name}.lock"));
        let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        flock(&file, how).map_err(|errno| Error::io(&path)(errno.into()))?;
        Ok(file)
    }

    fn load(&self, suite: &str, flavour: Flavour, lock: File) -> Result<Option<Kernel>, Error> {
        let entry = self.entry(suite, flavour);
        if !entry.exists() {
            return Ok(None);
        }
        let kernel = Kernel::from_paths(&entry.join("vmlinuz"), &entry)?;
        Ok(Some(Kernel { _lock: Some(lock), ..kernel }))
    }

    fn download(
        &self,
        suite: &str,
        flavour: Flavour,
        anew: bool,
        progress: &dyn Fn(&str),
    ) -> Result<Kernel, Error> {
        doctor::check(Task::Fetch)?;
        check_suite(suite)?;
        let name = entry_name(suite, flavour);
        let lock = self.lock(&name, FlockOperation::LockExclusive)?;
        let entry = self.entry(suite, flavour);
        // Another lab may have brought it while this one waited for the lock.
        if anew || !entry.exists() {
            self.sweep(&name);
            progress(&format!(
                "downloading the {} kernel of {suite} into {}",
                flavour.name(),
                self.directory.display()
            ));
            let new = self.unpack(suite, flavour)?;
            let old = self.scratch(&name)?;
            if entry.exists() {
                fs::rename(&entry, old.path().join("kernel")).map_err(Error::io(&entry))?;
            }
            fs::rename(new.path().join("kernel"), &entry).map_err(Error::io(&entry))?;
        }
        flock(&lock, FlockOperation::LockShared).map_err(|errno| Error::io(&entry)(errno.into()))?;
        let missing = || Error::Kernel { path: entry.clone(), reason: "vanished while it was made".into() };
        self.load(suite, flavour, lock)?.ok_or_else(missing)
    }

    /// A temporary directory for an entry called `name`, in the cache so that the result can be renamed.
    pub(crate) fn scratch(&self, name: &str) -> Result<tempfile::TempDir, Error> {
        tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .tempdir_in(&self.directory)
            .map_err(Error::io(&self.directory))
    }

    /// Removes what an interrupted making of `name` left. Only the holder of the lock may call it.
    pub(crate) fn sweep(&self, name: &str) {
        let prefix = format!(".{name}.");
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)) {
            // What cannot be removed costs room and nothing else: a new name is used anyway.
            let _ = fs::remove_dir_all(entry.path());
        }
    }

    /// Makes a whole entry, `kernel` in a temporary directory of the cache.
    fn unpack(&self, suite: &str, flavour: Flavour) -> Result<tempfile::TempDir, Error> {
        let new = self.scratch(&entry_name(suite, flavour))?;
        let (debs, tree, kernel) =
            (new.path().join("debs"), new.path().join("tree"), new.path().join("kernel"));
        let apt = Apt::update(suite, new.path())?;
        let packages = apt.kernel(&format!("linux-image-{}", flavour.name()))?;
        for directory in [&debs, &tree, &kernel] {
            fs::create_dir(directory).map_err(Error::io(directory))?;
        }
        for deb in apt.download(&packages, &debs)? {
            output(tool("dpkg")?.arg("--extract").arg(&deb).arg(&tree))?;
        }
        let wrong = |reason: &str| Error::Package {
            package: packages[0].name.clone(),
            suite: suite.into(),
            reason: reason.into(),
        };
        let modules = ["usr/lib/modules", "lib/modules"]
            .into_iter()
            .find_map(|place| only_child(&tree.join(place)))
            .ok_or_else(|| wrong("its packages hold no module tree"))?;
        let image = [tree.join("boot"), modules.clone()]
            .iter()
            .filter_map(|place| fs::read_dir(place).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
            .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz")))
            .ok_or_else(|| wrong("its packages hold no vmlinuz"))?;
        let release = modules.file_name().unwrap_or_default().to_owned();
        let place = kernel.join("usr/lib/modules");
        fs::create_dir_all(&place).map_err(Error::io(&place))?;
        std::os::unix::fs::symlink("usr/lib", kernel.join("lib")).map_err(Error::io(&kernel))?;
        // Copied, since the image may lie in the module tree that moves next.
        fs::copy(&image, kernel.join("vmlinuz")).map_err(Error::io(&image))?;
        fs::rename(&modules, place.join(&release)).map_err(Error::io(&modules))?;
        output(tool("depmod")?.arg("--basedir").arg(&kernel).arg(&release))?;
        let list: String =
            packages.iter().map(|p| format!("{} {} sha256:{}\n", p.name, p.version, p.sha256)).collect();
        let file = kernel.join("packages");
        fs::write(&file, list).map_err(Error::io(&file))?;
        Ok(new)
    }

    /// Returns the file with the bytes of `make`, which is called once per `key`: the file's name has the key's digest, so
    /// that a change of anything in the key makes another file.
    pub(crate) fn keep(
        &self,
        name: &str,
        key: &[&[u8]],
        make: &dyn Fn() -> Result<Vec<u8>, Error>,
    ) -> Result<PathBuf, Error> {
        let path = self.directory.join(format!("{name}-{}", digest(key)));
        if !path.exists() {
            let bytes = make()?;
            let file = tempfile::NamedTempFile::new_in(&self.directory);
            let mut file = file.map_err(Error::io(&self.directory))?;
            file.write_all(&bytes).map_err(Error::io(&path))?;
            file.persist(&path).map_err(|error| Error::io(&path)(error.error))?;
        }
        Ok(path)
    }
}

fn entry_name(suite: &str, flavour: Flavour) -> String {
    format!("{suite}-{}", flavour.name())
}

/// Returns 16 hexadecimal digits that differ between different parts.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    let mut digest = format!("{:x}", hasher.finalize());
    digest.truncate(16);
    digest
}

/// Returns bytes that differ between versions of a file: its length, time of change and path.
pub(crate) fn fingerprint(file: &Path) -> Result<Vec<u8>, Error> {
    let metadata = fs::metadata(file).map_err(Error::io(file))?;
    // A copy on a file system image keeps the seconds, and has to be known as the same.
    let text = format!("{} {} ", metadata.len(), metadata.mtime());
    Ok([text.as_bytes(), file.as_os_str().as_encoded_bytes()].concat())
}

/// Refuses a suite's name that cannot be part of a path and of apt's source line.
pub(crate) fn check_suite(suite: &str) -> Result<(), Error> {
    let sane = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !suite.is_empty() && suite.len() <= 64 && suite.chars().all(sane) && !suite.starts_with('-') {
        return Ok(());
    }
    let example = "a suite is a name such as bookworm or trixie-backports";
    Err(Error::Usage(format!("suite {suite:?}: {example}")))
}

fn only_child(directory: &Path) -> Option<PathBuf> {
    let mut children = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    children.next().filter(|_| children.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kernel_is_not_found_and_a_bad_name_refused() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        assert!(cache.find("bookworm", Flavour::Plain).unwrap().is_none());
        for suite in ["", "../x", "a b", "-x", "a/b", "stable]"] {
            assert!(matches!(cache.find(suite, Flavour::Plain), Err(Error::Usage(_))), "{suite:?}");
        }
    }

    #[test]
    fn a_kept_file_is_made_once_per_key() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path()).unwrap();
        let first = cache.keep("x", &[b"a", b"bc"], &|| Ok(b"one".to_vec())).unwrap();
        let again = cache.keep("x", &[b"a", b"bc"], &|| panic!("made twice")).unwrap();
        let other = cache.keep("x", &[b"ab", b"c"], &|| Ok(b"two".to_vec())).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(fs::read(first).unwrap(), b"one");
        let failed = cache.keep("x", &[b"d"], &|| Err(Error::NoMirror));
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
