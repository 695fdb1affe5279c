//! Debian's packages of which a kernel's modules are made, and their versions.

use std::fs;
use std::path::Path;

use crate::apt::{Apt, Package};
use crate::command::{output, tool};
use crate::error::Error;
use crate::kernel::Kernel;

use super::root::recipe;

/// Versions of a kernel's build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// The version of Debian's packages.
    pub(super) version: String,
    /// The release of the kernel.
    pub(super) release: String,
    /// The compiler that Debian used, such as `gcc-14`.
    pub(super) compiler: String,
}

/// The file in the cache's entry that has the versions, written when everything is prepared.
const FILE: &str = "prepared";

/// The version of the packages that the cache's kernel came in.
pub(super) fn version(kernel: &Kernel) -> Result<String, Error> {
    let file = kernel.image.with_file_name("packages");
    let list = fs::read_to_string(&file).map_err(Error::io(&file))?;
    let image = format!("linux-image-{} ", kernel.release);
    let line = list.lines().find_map(|line| line.strip_prefix(&image));
    let missing = || Error::Kernel { path: file.clone(), reason: format!("names no {image}") };
    line.and_then(|rest| rest.split(' ').next()).map(str::to_owned).ok_or_else(missing)
}

/// Returns the error for a kernel of which Debian has no headers and sources.
pub(super) fn gone(suite: &str) -> Error {
    Error::Package {
        package: "linux-headers-amd64".into(),
        suite: suite.into(),
        reason: "is not of the same version as linux-image-amd64, nor is linux-source: the archive is being \
                 updated; try again later"
            .into(),
    }
}

impl Parts {
    /// Downloads the headers and the sources of a kernel in the cache and unpacks them into `to`. Returns `None` if the
    /// archive has them in another version only.
    pub(super) fn fetch(
        suite: &str,
        kernel: &Kernel,
        scratch: &Path,
        to: &Path,
    ) -> Result<Option<Parts>, Error> {
        let version = version(kernel)?;
        let release = kernel.release.clone();
        let apt = Apt::update(suite, scratch)?;
        let Ok(headers) = apt.show(&format!("linux-headers-{release}")) else { return Ok(None) };
        let series: Vec<&str> = release.split(['.', '+', '-']).take(2).collect();
        let source = apt.show(&format!("linux-source-{}", series.join(".")))?;
        if headers.version != version || source.version != version {
            return Ok(None);
        }
        let compiler = compiler(&headers).ok_or_else(|| Error::Package {
            package: headers.name.clone(),
            suite: suite.into(),
            reason: format!("depends on no compiler: {}", headers.depends.join(", ")),
        })?;
        let debs = to.join("debs");
        fs::create_dir_all(&debs).map_err(Error::io(&debs))?;
        for deb in apt.download(&[headers, source], &debs)? {
            output(tool("dpkg")?.arg("--extract").arg(&deb).arg(to))?;
        }
        let config = to.join(format!("usr/src/linux-headers-{release}/.config"));
        let text = fs::read_to_string(&config).map_err(Error::io(&config))?;
        if !text.lines().any(|line| line == "CONFIG_RUST=y") {
            let reason = format!(
                "the kernel {release} of {suite} is built without Rust (CONFIG_RUST); Debian's kernels have it since \
                 7.2: --suite trixie-backports"
            );
            return Err(Error::Kernel { path: config, reason });
        }
        Ok(Some(Parts { version, release, compiler }))
    }

    /// Returns true if they are of this kernel.
    pub(super) fn is_of(&self, kernel: &Kernel) -> bool {
        self.release == kernel.release && version(kernel).is_ok_and(|version| version == self.version)
    }

    /// Reads the versions that an earlier run prepared; `None` if there was none with the same recipe.
    pub(super) fn read(entry: &Path) -> Result<Option<Parts>, Error> {
        let file = entry.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        Ok(Self::parse(&fs::read_to_string(&file).map_err(Error::io(&file))?))
    }

    /// Writes the file, once everything is prepared.
    pub(super) fn write(&self, entry: &Path) -> Result<(), Error> {
        let file = entry.join(FILE);
        fs::write(&file, self.text()).map_err(Error::io(&file))
    }

    fn text(&self) -> String {
        format!("{} {} {} {}\n", self.version, self.release, self.compiler, recipe())
    }

    fn parse(text: &str) -> Option<Parts> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [version, release, compiler, made] = words[..] else { return None };
        let parts = Parts { version: version.into(), release: release.into(), compiler: compiler.into() };
        (made == recipe()).then_some(parts)
    }
}

/// The compiler that the headers want: Debian's `gcc-14-for-host`.
fn compiler(headers: &Package) -> Option<String> {
    let name = headers.depends.iter().find(|name| name.starts_with("gcc-"))?;
    let number = name.strip_prefix("gcc-")?.split('-').next()?;
    number.bytes().all(|b| b.is_ascii_digit()).then(|| format!("gcc-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_prepared_is_known_again() {
        let parts = Parts {
            version: "7.3.4-1~bpo13+1".into(),
            release: "7.3.4+deb13-amd64".into(),
            compiler: "gcc-14".into(),
        };
        assert_eq!(Parts::parse(&parts.text()), Some(parts.clone()));
        assert_eq!(Parts::parse(&parts.text().replace(&recipe(), "other")), None);
        assert_eq!(Parts::parse(""), None);
    }

    #[test]
    fn the_compiler_is_the_headers() {
        let headers = |depends: &[&str]| Package {
            name: "linux-headers".into(),
            version: "1".into(),
            sha256: String::new(),
            depends: depends.iter().map(|name| (*name).into()).collect(),
        };
        assert_eq!(compiler(&headers(&["linux-base", "gcc-14-for-host"])).as_deref(), Some("gcc-14"));
        assert_eq!(compiler(&headers(&["gcc-doc", "linux-base"])), None);
    }
}
