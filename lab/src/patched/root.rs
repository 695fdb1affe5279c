//! The root file system with the compilers, and the steps of the build in it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::apt;
use crate::cache::digest;
use crate::command::tool;
use crate::error::Error;
use crate::kernel::Kernel;

use super::parts::Parts;
use super::step::Steps;

/// Script that enters the root and runs another one there.
const ENTER: &str = include_str!("enter.sh");
const PREPARE: &str = include_str!("prepare.sh");
pub(super) const COMPILE: &str = include_str!("compile.sh");
/// Packages with which Debian builds its kernel and the kernel's Rust, except for the C compiler.
const PACKAGES: &str = "make,libc6-dev,rustc,rust-src,bindgen,bc,flex,bison,libelf-dev,libssl-dev,\
    libdw-dev,pahole,python3-minimal,xz-utils,kmod,binutils,openssl,patch";
const LEFT_OUT: [&str; 4] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// Returns the digest of how a root is prepared: a root with another digest has to be made again.
pub(super) fn recipe() -> String {
    digest(&[PREPARE.as_bytes(), PACKAGES.as_bytes()])
}

/// Returns a command that runs as root in namespaces of its own: the machine's root, or a user namespace's.
fn alone<W: AsRef<OsStr>>(words: &[W]) -> Result<Command, Error> {
    let mut command = tool("unshare")?;
    command.args(["--mount", "--pid", "--fork", "--kill-child"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user", "--map-users=auto", "--map-groups=auto"]);
    }
    command.arg("--").args(words);
    Ok(command)
}

/// Returns the command that runs a script in the root.
fn inside(entry: &Path, script: &str, kernel: &Kernel, parts: &Parts) -> Result<Command, Error> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let root = entry.join("root");
    let words =
        [OsStr::new("sh"), OsStr::new("-c"), OsStr::new(ENTER), OsStr::new("enter"), root.as_os_str()];
    let mut command = alone(&words)?;
    command.args([script, &kernel.release, &parts.compiler, &jobs]);
    Ok(command)
}

/// Removes what an earlier run made.
pub(super) fn remove(entry: &Path, steps: &Steps<'_>) -> Result<(), Error> {
    if !entry.exists() {
        return Ok(());
    }
    // In a user's namespace, since files may belong to others there.
    let words = [OsStr::new("rm"), OsStr::new("-rf"), OsStr::new("--"), entry.as_os_str()];
    steps.run("remove", "removing what was made for another kernel", &mut alone(&words)?)
}

/// Returns the suite whose compilers Debian uses for the kernels of `suite`.
fn base(suite: &str) -> &str {
    suite.strip_suffix("-backports").unwrap_or(suite)
}

/// Makes the root.
pub(super) fn make(suite: &str, entry: &Path, parts: &Parts, steps: &Steps<'_>) -> Result<(), Error> {
    let (base, archive, root) = (base(suite), entry.join("root.tar"), entry.join("root"));
    let mut bootstrap = tool("mmdebstrap")?;
    bootstrap.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    bootstrap.args(["--mode=auto", "--variant=minbase", "--format=tar", "--architectures=amd64"]);
    bootstrap.arg(format!("--keyring={}", apt::keyring()));
    bootstrap.arg(format!("--include={},{PACKAGES}", parts.compiler));
    bootstrap.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    bootstrap.arg(base).arg(&archive).arg(apt::source(base)?);
    steps.run("root", &format!("a root of {base} with its compilers"), &mut bootstrap)?;
    fs::create_dir(&root).map_err(Error::io(&root))?;
    // Devices cannot be made by everybody, and none is needed.
    let words = ["tar", "--extract", "--exclude=./dev/*", "--file"].map(OsStr::new);
    let words = [&words[..], &[archive.as_os_str(), OsStr::new("--directory"), root.as_os_str()]].concat();
    steps.run("extract", "unpacking it", &mut alone(&words)?)?;
    fs::remove_file(&archive).map_err(Error::io(&archive))
}

/// Unpacks the kernel's sources, and beside them what Debian's build of it left in the headers.
pub(super) fn unpack(entry: &Path, packages: &Path, parts: &Parts, steps: &Steps<'_>) -> Result<(), Error> {
    let sources = entry.join("root/src");
    fs::create_dir_all(&sources).map_err(Error::io(&sources))?;
    let place = packages.join("usr/src");
    let series: Vec<&str> = parts.release.split(['.', '+', '-']).take(2).collect();
    let archive = place.join(format!("linux-source-{}.tar.xz", series.join(".")));
    let mut tar = tool("tar")?;
    tar.args(["--extract", "--use-compress-program=xz -T0", "--strip-components=1", "--file"]).arg(archive);
    tar.arg("--directory").arg(&sources);
    steps.run("unpack", &format!("unpacking the sources of {}", parts.version), &mut tar)?;
    let headers = place.join(format!("linux-headers-{}", parts.release));
    let built = entry.join("root/built");
    fs::create_dir_all(&built).map_err(Error::io(&built))?;
    for file in [".config", "Module.symvers", "vmlinux"] {
        fs::copy(headers.join(file), built.join(file)).map_err(Error::io(headers.join(file)))?;
    }
    Ok(())
}

/// Makes the sources ready for modules.
pub(super) fn prepare(entry: &Path, kernel: &Kernel, parts: &Parts, steps: &Steps<'_>) -> Result<(), Error> {
    let what = "preparing the sources: Debian's configuration, Rust's part of the kernel";
    steps.run("prepare", what, &mut inside(entry, PREPARE, kernel, parts)?)
}

/// Patches and compiles KVM with what is in the root's directory `new`, where the modules go too.
pub(super) fn compile(entry: &Path, kernel: &Kernel, parts: &Parts, steps: &Steps<'_>) -> Result<(), Error> {
    steps.run("compile", "patching and compiling KVM", &mut inside(entry, COMPILE, kernel, parts)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn backports_are_built_with_what_they_are_for() {
        assert_eq!(super::base("trixie-backports"), "trixie");
        assert_eq!(super::base("sid"), "sid");
    }
}
