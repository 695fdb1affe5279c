//! A stock Debian kernel with KVM's modules of our own: the sources in `kernel/`, built with the tools that Debian built
//! the kernel with, in a root of their own.
//!
//! The root with the prepared sources stays in the cache, `kbuild-SUITE-amd64`, so that a change of ours compiles no more
//! than KVM again. The result is a kernel and a module tree for [`Kernel::from_paths`].

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::cache::{Cache, Flavour, check_suite, digest};
use crate::command::{output, tool};
use crate::doctor::{self, Task};
use crate::error::Error;
use crate::kernel::Kernel;

mod parts;
mod root;
mod step;

use parts::Parts;
use step::Steps;

/// A build of KVM's modules.
#[derive(Debug)]
pub struct Patched {
    /// The Debian suite whose kernel it is for.
    pub suite: String,
    /// The directory with `kvm.patch` and `exitscope/`.
    pub sources: PathBuf,
    /// The directory for the kernel and its modules; replaced, with everything in it.
    pub out: PathBuf,
    /// The directory for each step's log.
    pub logs: PathBuf,
}

/// Result of a build.
#[derive(Debug)]
pub struct Made {
    /// The release, as `uname -r` says it.
    pub release: String,
    /// The version of Debian's packages.
    pub version: String,
    /// True if it was up to date already.
    pub there: bool,
}

/// Debian's modules that ours replace.
const MODULES: [&str; 3] = ["kvm", "kvm-amd", "kvm-intel"];
/// Space for the root and the sources (GB).
const ROOM: u64 = 7;
/// The file in `out` that names the sources and the kernel of the build.
const ABOUT: &str = "about";

impl Patched {
    /// Builds the modules, unless they are there and up to date. `progress` gets the build's needs before it starts, and
    /// each step.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Step`] with the log's place; [`Error::Kernel`] if there is no room, or the kernel is
    /// built without Rust; [`Error::Package`], [`Error::Io`] and what else [`Cache::kernel`] gives.
    pub fn make(&self, cache: &Cache, progress: &dyn Fn(&str)) -> Result<Made, Error> {
        check_suite(&self.suite)?;
        let ours = self.digest()?;
        let name = format!("kbuild-{}-amd64", self.suite);
        let _lock = cache.lock(&name, FlockOperation::LockExclusive)?;
        if let Some(kernel) = cache.find(&self.suite, Flavour::Plain)? {
            let version = parts::version(&kernel)?;
            if fs::read_to_string(self.out.join(ABOUT))
                .is_ok_and(|about| about == self.about(&version, &ours))
            {
                return Ok(Made { release: kernel.release, version, there: true });
            }
        }
        doctor::check(Task::Fetch)?;
        doctor::check(Task::Kernel)?;
        let entry = cache.path().join(&name);
        let steps = Steps::new(&self.logs, progress)?;
        let (kernel, parts) = match self.prepared(cache, &entry)? {
            Some(there) => there,
            None => {
                tell_needs(cache, progress)?;
                self.prepare(cache, &entry, &steps, progress)?
            }
        };
        self.compile(&entry, &kernel, &parts, &steps)?;
        self.install(&entry, &kernel, &parts.version, &ours)?;
        Ok(Made { release: kernel.release, version: parts.version, there: false })
    }

    fn about(&self, version: &str, ours: &str) -> String {
        format!("suite {}\nversion {version}\nsources {ours}\n", self.suite)
    }

    /// Returns the digest of our sources, recipes included.
    fn digest(&self) -> Result<String, Error> {
        let mut parts: Vec<Vec<u8>> = vec![root::COMPILE.into()];
        for file in self.files()? {
            parts.push(file.file_name().unwrap_or_default().as_encoded_bytes().to_vec());
            parts.push(fs::read(&file).map_err(Error::io(&file))?);
        }
        Ok(digest(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }

    /// The patch, and what goes beside KVM's own files.
    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let directory = self.sources.join("exitscope");
        let entries = fs::read_dir(&directory).map_err(Error::io(&directory))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.push(self.sources.join("kvm.patch"));
        files.sort();
        Ok(files)
    }

    /// Finds the root of an earlier run, if it is of the kernel that is in the cache.
    fn prepared(&self, cache: &Cache, entry: &Path) -> Result<Option<(Kernel, Parts)>, Error> {
        let Some(kernel) = cache.find(&self.suite, Flavour::Plain)? else { return Ok(None) };
        let there = Parts::read(entry)?.filter(|parts| parts.is_of(&kernel));
        Ok(there.map(|parts| (kernel, parts)))
    }

    fn prepare(
        &self,
        cache: &Cache,
        entry: &Path,
        steps: &Steps<'_>,
        progress: &dyn Fn(&str),
    ) -> Result<(Kernel, Parts), Error> {
        root::remove(entry, steps)?;
        fs::create_dir_all(entry).map_err(Error::io(entry))?;
        let kernel = cache.kernel(&self.suite, Flavour::Plain, progress)?;
        let packages = entry.join("packages");
        let (kernel, parts) = match Parts::fetch(&self.suite, &kernel, entry, &packages)? {
            Some(parts) => (kernel, parts),
            // Debian keeps the newest alone, so that what fits the cache's kernel may be gone.
            None => {
                drop(kernel);
                let kernel = cache.refresh(&self.suite, Flavour::Plain, progress)?;
                let parts = Parts::fetch(&self.suite, &kernel, entry, &packages)?;
                (kernel, parts.ok_or_else(|| parts::gone(&self.suite))?)
            }
        };
        root::make(&self.suite, entry, &parts, steps)?;
        root::unpack(entry, &packages, &parts, steps)?;
        root::prepare(entry, &kernel, &parts, steps)?;
        fs::remove_dir_all(&packages).map_err(Error::io(&packages))?;
        parts.write(entry)?;
        Ok((kernel, parts))
    }

    fn compile(&self, entry: &Path, kernel: &Kernel, parts: &Parts, steps: &Steps<'_>) -> Result<(), Error> {
        let new = entry.join("root/new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(Error::io(&new))?;
        }
        fs::create_dir(&new).map_err(Error::io(&new))?;
        for file in self.files()? {
            fs::copy(&file, new.join(file.file_name().unwrap_or_default())).map_err(Error::io(&file))?;
        }
        root::compile(entry, kernel, parts, steps)
    }

    /// Replaces `out` by a copy of Debian's kernel with our modules.
    fn install(&self, entry: &Path, kernel: &Kernel, version: &str, ours: &str) -> Result<(), Error> {
        let parent = self.out.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let scratch = tempfile::tempdir_in(parent).map_err(Error::io(parent))?;
        let new = scratch.path().join("kernel");
        let tree = new.join("usr/lib/modules").join(&kernel.release);
        fs::create_dir_all(new.join("usr/lib/modules")).map_err(Error::io(&new))?;
        output(tool("cp")?.args(["-a", "--reflink=auto"]).arg(&kernel.modules).arg(&tree))?;
        std::os::unix::fs::symlink("usr/lib", new.join("lib")).map_err(Error::io(&new))?;
        let image = new.join("vmlinuz");
        fs::copy(&kernel.image, &image).map_err(Error::io(&image))?;
        let place = tree.join("kernel/arch/x86/kvm");
        for module in MODULES {
            let ours = entry.join("root/new").join(format!("{module}.ko"));
            let stock = stock(&place, module)?;
            let (is, should) = (magic(&ours)?, magic(&stock)?);
            if is != should {
                let reason = format!("is for the kernel {is:?}, and Debian's is for {should:?}");
                return Err(Error::Kernel { path: ours, reason });
            }
            fs::remove_file(&stock).map_err(Error::io(&stock))?;
            fs::copy(&ours, place.join(format!("{module}.ko"))).map_err(Error::io(&ours))?;
        }
        output(tool("depmod")?.arg("--basedir").arg(&new).arg(&kernel.release))?;
        fs::write(new.join(ABOUT), self.about(version, ours)).map_err(Error::io(&new))?;
        if self.out.exists() {
            fs::rename(&self.out, scratch.path().join("old")).map_err(Error::io(&self.out))?;
        }
        fs::rename(&new, &self.out).map_err(Error::io(&self.out))
    }
}

/// Returns Debian's file of a module, compressed or not.
fn stock(place: &Path, module: &str) -> Result<PathBuf, Error> {
    let files = ["ko", "ko.xz", "ko.zst"].map(|end| place.join(format!("{module}.{end}")));
    let missing = || Error::Kernel { path: place.into(), reason: format!("holds no module {module}") };
    files.into_iter().find(|file| file.exists()).ok_or_else(missing)
}

/// Returns the kernel that a module is built for (its `vermagic`).
fn magic(module: &Path) -> Result<String, Error> {
    let said = output(tool("modinfo")?.args(["--field", "vermagic"]).arg(module))?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

/// Reports the needs of a build, and refuses if there is no room.
fn tell_needs(cache: &Cache, progress: &dyn Fn(&str)) -> Result<(), Error> {
    let path = cache.path();
    let room = rustix::fs::statvfs(path).map_err(|errno| Error::io(path)(errno.into()))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize) / 1_000_000_000;
    progress(&format!(
        "this needs {ROOM} GB in {} (free are {free}), downloads half a GB, and takes about five minutes on two CPUs; \
         afterwards, a minute for each change of the sources",
        path.display()
    ));
    if free < ROOM {
        let reason = format!("{ROOM} GB are needed and {free} free; LAB_CACHE names another place");
        return Err(Error::Kernel { path: path.into(), reason });
    }
    Ok(())
}
