//! Takes packages of any Debian suite with apt, without touching the machine's own apt state.
//!
//! apt checks the suite's signed `Release` file and the `Packages` index against it; this module checks
//! each downloaded package against the `SHA256` in that index. No root is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::command::{output, tool};
use crate::doctor::KEYRINGS;
use crate::error::Error;

/// A private apt state that knows one suite's packages.
pub(crate) struct Apt {
    suite: String,
    state: tempfile::TempDir,
}

/// A package of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) sha256: String,
    /// The first alternative of each dependency, without its version.
    pub(crate) depends: Vec<String>,
}

impl Apt {
    /// Reads the package index of `suite` into a new state below `parent`.
    pub(crate) fn update(suite: &str, parent: &Path) -> Result<Self, Error> {
        let state = tempfile::Builder::new().prefix(".apt-").tempdir_in(parent).map_err(Error::io(parent))?;
        let path = state.path();
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(path.join(directory)).map_err(Error::io(path))?;
        }
        let write = |name: &str, text: String| {
            let file = path.join(name);
            fs::write(&file, text).map_err(Error::io(&file))
        };
        write("status", String::new())?;
        write("sources.list", format!("{}\n", source(suite)?))?;
        let at = path.display();
        write(
            "conf",
            format!(
                "Dir::State::Lists \"{at}/lists\";\nDir::Cache \"{at}/cache\";\n\
                 Dir::Etc::SourceList \"{at}/sources.list\";\nDir::Etc::SourceParts \"/nonexistent\";\n\
                 Dir::State::status \"{at}/status\";\nDir::Etc::Preferences \"/nonexistent\";\n\
                 Dir::Etc::PreferencesParts \"/nonexistent\";\nAPT::Sandbox::User \"root\";\n\
                 APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
                 APT::Get::AllowUnauthenticated \"false\";\nAcquire::AllowInsecureRepositories \"false\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"3\";\nAPT::Update::Error-Mode \"any\";\n"
            ),
        )?;
        let apt = Self { suite: suite.into(), state };
        output(apt.command("apt-get")?.args(["-qq", "update"]))?;
        Ok(apt)
    }

    fn command(&self, name: &str) -> Result<Command, Error> {
        let mut command = tool(name)?;
        command.env("APT_CONFIG", self.state.path().join("conf"));
        Ok(command)
    }

    /// The newest version of the package `name`.
    pub(crate) fn show(&self, name: &str) -> Result<Package, Error> {
        let said = output(self.command("apt-cache")?.args(["--no-all-versions", "show", name]))?;
        parse(&String::from_utf8_lossy(&said)).map_err(|reason| Error::Package {
            package: name.into(),
            suite: self.suite.clone(),
            reason,
        })
    }

    /// The kernel's meta package `name` with all the kernel packages it leads to.
    pub(crate) fn kernel(&self, name: &str) -> Result<Vec<Package>, Error> {
        let mut packages = vec![self.show(name)?];
        let mut next = 0;
        while let Some(package) = packages.get(next) {
            for depends in package.depends.clone() {
                if of_a_kernel(&depends) && !packages.iter().any(|p| p.name == depends) {
                    packages.push(self.show(&depends)?);
                }
            }
            next += 1;
        }
        Ok(packages)
    }

    /// Downloads `packages` into `directory` and returns the files, each checked.
    pub(crate) fn download(&self, packages: &[Package], directory: &Path) -> Result<Vec<PathBuf>, Error> {
        let names = packages.iter().map(|p| format!("{}={}", p.name, p.version));
        output(self.command("apt-get")?.args(["-qq", "download"]).args(names).current_dir(directory))?;
        check(packages, directory, &self.suite)
    }
}

/// Checks that `directory` holds the files of `packages`, each with the checksum that the index names, and
/// nothing else; returns them.
fn check(packages: &[Package], directory: &Path, suite: &str) -> Result<Vec<PathBuf>, Error> {
    let mut wanted: BTreeMap<&str, &str> =
        packages.iter().map(|p| (p.sha256.as_str(), p.name.as_str())).collect();
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io(directory))? {
        let file = entry.map_err(Error::io(directory))?.path();
        let found = sha256(&file)?;
        if wanted.remove(found.as_str()).is_none() {
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(Error::Checksum { file, found, suite: suite.into() });
        }
        files.push(file);
    }
    match wanted.values().next() {
        None => Ok(files),
        Some(package) => Err(Error::Package {
            package: (*package).into(),
            suite: suite.into(),
            reason: "apt-get download reported success and brought no such file".into(),
        }),
    }
}

/// The SHA256 of a file, in hexadecimal.
pub(crate) fn sha256(file: &Path) -> Result<String, Error> {
    let mut hasher = Sha256::new();
    let mut reader = fs::File::open(file).map_err(Error::io(file))?;
    std::io::copy(&mut reader, &mut hasher).map_err(Error::io(file))?;
    Ok(format!("{:x}", hasher.finalize()))
}

/// Returns true if a package is part of the kernel: image, modules, and what newer suites split off.
fn of_a_kernel(package: &str) -> bool {
    ["linux-image-", "linux-modules-", "linux-binary-", "linux-base-"].iter().any(|p| package.starts_with(p))
}

/// Reads the first record that `apt-cache show` prints (deb822, Debian policy 5.1).
fn parse(text: &str) -> Result<Package, String> {
    let record = text.split("\n\n").next().unwrap_or_default();
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in record.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = fields.get_mut(&last) {
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            last = name.to_ascii_lowercase();
            fields.insert(last.clone(), value.trim().into());
        }
    }
    let mut take = |name: &str| fields.remove(name).ok_or(format!("its record has no field {name}"));
    let (name, version, sha256) = (take("package")?, take("version")?, take("sha256")?);
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("its record's SHA256 is {sha256:?}, not 64 hexadecimal digits"));
    }
    let depends = fields.remove("depends").unwrap_or_default();
    let first = |dependency: &str| {
        let alternative = dependency.split('|').next().unwrap_or_default().trim();
        alternative.split([' ', '(', ':']).next().unwrap_or_default().to_string()
    };
    let depends = depends.split(',').map(first).filter(|d| !d.is_empty()).collect();
    Ok(Package { name, version, sha256: sha256.to_ascii_lowercase(), depends })
}

/// apt's line for a suite of Debian.
pub(crate) fn source(suite: &str) -> Result<String, Error> {
    let keyring = keyring();
    Ok(format!("deb [arch=amd64 signed-by={keyring}] {} {suite} main", mirror()?))
}

/// Debian's keys on this machine.
pub(crate) fn keyring() -> &'static str {
    KEYRINGS.iter().find(|file| Path::new(file).exists()).unwrap_or(&KEYRINGS[0])
}

/// The Debian mirror that this machine's apt uses, or the one that `LAB_MIRROR` names.
fn mirror() -> Result<String, Error> {
    if let Some(mirror) = std::env::var("LAB_MIRROR").ok().filter(|m| !m.is_empty()) {
        return Ok(mirror);
    }
    let format = "$(ORIGIN)\t$(LABEL)\t$(COMPONENT)\t$(REPO_URI)";
    let said = output(tool("apt-get")?.args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    choose_mirror(&String::from_utf8_lossy(&said)).ok_or(Error::NoMirror)
}

/// Picks Debian's own archive from apt's index targets: by what its `Release` file says, or, before the
/// first `apt-get update`, when apt leaves the two fields as they stand, by the path that all mirrors share.
fn choose_mirror(targets: &str) -> Option<String> {
    let rows: Vec<Vec<&str>> = targets.lines().map(|line| line.split('\t').collect()).collect();
    let uri = |row: &&Vec<&str>| row.len() == 4 && row[2] == "main";
    let known = rows.iter().filter(uri).find(|row| row[0] == "Debian" && row[1] == "Debian");
    let unknown = || {
        rows.iter()
            .filter(uri)
            .find(|row| row[0] != "Debian" && row[3].trim_end_matches('/').ends_with("/debian"))
    };
    known.or_else(unknown).map(|row| row[3].to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "Package: linux-image-amd64
Version: 7.3.4-1~bpo13+1
Depends: linux-base-amd64 (= 7.3.4-1), linux-image-7.3.4+deb13-amd64 (= 7.3.4-1) | other,
 linux-base (>= 4.12~), initramfs-tools:any
Description: a: b
SHA256: 0D0df6eaed28e664cc0e95edb872112fcc3165cdbb011e5c56a4d3b104ef87d8

Package: older
Version: 1
";

    #[test]
    fn the_first_record_counts() {
        let package = parse(RECORD).unwrap();
        assert_eq!(package.name, "linux-image-amd64");
        assert_eq!(package.version, "7.3.4-1~bpo13+1");
        assert_eq!(package.sha256, "0d0df6eaed28e664cc0e95edb872112fcc3165cdbb011e5c56a4d3b104ef87d8");
        let depends = ["linux-base-amd64", "linux-image-7.3.4+deb13-amd64", "linux-base", "initramfs-tools"];
        assert_eq!(package.depends, depends);
        let kernel: Vec<_> = package.depends.iter().filter(|d| of_a_kernel(d)).collect();
        assert_eq!(kernel, ["linux-base-amd64", "linux-image-7.3.4+deb13-amd64"]);
    }

    #[test]
    fn a_record_without_a_good_checksum_is_refused() {
        assert!(parse("Package: a\nVersion: 1\n").unwrap_err().contains("sha256"));
        assert!(parse("Package: a\nVersion: 1\nSHA256: 12\n").unwrap_err().contains("64"));
        assert!(parse("").is_err());
    }

    #[test]
    fn the_mirror_is_debians_own() {
        let updated = "Node\tNode\tmain\thttps://node.example/x/\n\
                       Debian\tDebian-Security\tmain\thttp://m.example/debian-security/\n\
                       Debian\tDebian\tcontrib\thttp://contrib.example/debian/\n\
                       Debian\tDebian\tmain\thttp://m.example/deb/\n";
        assert_eq!(choose_mirror(updated).as_deref(), Some("http://m.example/deb/"));
        let fresh = "$(ORIGIN)\t$(LABEL)\tmain\thttp://m.example/debian-security/\n\
                     $(ORIGIN)\t$(LABEL)\tmain\thttp://m.example/debian/\n";
        assert_eq!(choose_mirror(fresh).as_deref(), Some("http://m.example/debian/"));
        assert_eq!(choose_mirror("Node\tNode\tmain\thttps://node.example/x/\n"), None);
        assert_eq!(choose_mirror(""), None);
    }

    #[test]
    fn only_files_with_the_indexs_checksum_pass() {
        let directory = tempfile::tempdir().unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, B.1
        let package =
            Package { name: "a".into(), version: "1".into(), sha256: abc.into(), depends: Vec::new() };
        let check = || check(std::slice::from_ref(&package), directory.path(), "x");
        assert!(matches!(check(), Err(Error::Package { .. })));
        let file = directory.path().join("a_1_amd64.deb");
        fs::write(&file, "abc").unwrap();
        assert_eq!(check().unwrap(), std::slice::from_ref(&file));
        fs::write(&file, "abd").unwrap();
        assert!(matches!(check(), Err(Error::Checksum { file, .. }) if file == "a_1_amd64.deb"));
        fs::write(&file, "abc").unwrap();
        fs::write(directory.path().join("other"), "").unwrap();
        assert!(matches!(check(), Err(Error::Checksum { file, .. }) if file == "other"));
    }
}
