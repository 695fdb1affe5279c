//! A disk with Debian and systemd, made of the suite's packages by mmdebstrap.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use crate::apt;
use crate::command::{show, tail, tool};
use crate::error::Error;

use super::disk::{Disk, UUID};

const ESSENTIAL: &str = include_str!("debian/essential.sh");
const CUSTOMIZE: &str = include_str!("debian/customize.sh");
const GUEST: &str = concat!(
    include_str!("debian/guest.sh"),
    include_str!("../inner/work.sh"),
    "systemctl --force poweroff\n"
);
/// Packages beside the essential ones and apt.
const PACKAGES: &str = "systemd,systemd-sysv,udev,iproute2,iputils-ping,linux-image-amd64,initramfs-tools";
/// Documentation, and drivers of devices that the inner VM does not have.
const LEFT_OUT: [&str; 17] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/i18n/*",
    "*/modules/*/kernel/sound/*",
    "*/modules/*/kernel/net/bluetooth/*",
    "*/modules/*/kernel/net/mac80211/*",
    "*/modules/*/kernel/net/wireless/*",
    "*/modules/*/kernel/drivers/bluetooth/*",
    "*/modules/*/kernel/drivers/gpu/*",
    "*/modules/*/kernel/drivers/iio/*",
    "*/modules/*/kernel/drivers/infiniband/*",
    "*/modules/*/kernel/drivers/media/*",
    "*/modules/*/kernel/drivers/net/ethernet/*",
    "*/modules/*/kernel/drivers/net/wireless/*",
    "*/modules/*/kernel/drivers/staging/*",
];
/// The partition in MiB. Blocks that nobody wrote take no room on the machine's disk.
const SIZE: u32 = 768;

pub(super) fn recipe() -> Vec<&'static [u8]> {
    [ESSENTIAL, CUSTOMIZE, GUEST, PACKAGES].into_iter().chain(LEFT_OUT).map(str::as_bytes).collect()
}

/// Makes it in the directory `to`, and returns the packages in it with their versions.
pub(super) fn make(suite: &str, scratch: &Path, to: &Path) -> Result<String, Error> {
    let archive = scratch.join("root.tar");
    let mut bootstrap = tool("mmdebstrap")?;
    // Root, or an ordinary user in a user namespace: it finds out by itself. What the hooks need travels in their
    // text and environment, since their user may not be allowed to read what lies here.
    bootstrap.env("LAB_UUID", UUID).env("LAB_GUEST", GUEST).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    bootstrap.args(["--mode=auto", "--variant=minbase", "--format=tar", "--architectures=amd64"]);
    // It would empty /etc/machine-id, and the first boot would then be unlike the others.
    bootstrap.arg("--skip=cleanup/reproducible").arg(format!("--keyring={}", apt::keyring()));
    bootstrap.arg(format!("--include={PACKAGES}"));
    bootstrap.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    bootstrap.arg(format!("--essential-hook={ESSENTIAL}")).arg(format!("--customize-hook={CUSTOMIZE}"));
    bootstrap.args([suite, "-"]).arg(apt::source(suite)?);
    let shown = format!("mmdebstrap of {suite}");
    let file = File::create(&archive).map_err(Error::io(&archive))?;
    let done = bootstrap
        .stdout(file)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(Error::io(show(&bootstrap)))?;
    if !done.status.success() {
        // Its last words, without how far it was: the cause stands before them.
        let said = String::from_utf8_lossy(&done.stderr);
        let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("I: ")).collect();
        let stderr = tail(said.join("\n").as_bytes());
        return Err(Error::Program { program: shown, status: done.status, stderr });
    }
    let tree = scratch.join("tree");
    fs::create_dir(&tree).map_err(Error::io(&tree))?;
    Disk { tree: &tree, archive: Some(&archive), size: SIZE, scratch }.write(to)?;
    let status = tree.join("var/lib/dpkg/status");
    Ok(packages(&fs::read_to_string(&status).map_err(Error::io(&status))?))
}

/// Name and version of each package in dpkg's status file (deb822).
fn packages(status: &str) -> String {
    let field = |line: &str, name: &str| line.strip_prefix(name).map(str::to_owned);
    let mut list = String::new();
    for line in status.lines() {
        if let Some(name) = field(line, "Package: ") {
            list.push_str(&name);
        } else if let Some(version) = field(line, "Version: ") {
            list.push(' ');
            list.push_str(&version);
            list.push('\n');
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_versions() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nDescription: x\n Version: y\n\n\
                      Package: b\nVersion: 4\n";
        assert_eq!(packages(status), "a 1:2-3\nb 4\n");
    }
}
