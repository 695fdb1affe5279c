//! Output files: whole or not at all, and not through another user's link.

use anyhow::{Context, bail};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file that is written whole: until [`Replacement::finish`], what was there before stays as it was. Only its owner may
/// read a new one, because there may be command lines in it.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    /// The file that is written, and the one that it will be; `None` for a device or a FIFO, which is written to at once.
    names: Option<(PathBuf, PathBuf)>,
}

impl Replacement {
    /// Begins to write a file.
    ///
    /// # Errors
    /// If that cannot be, or the name is a link of another user.
    pub fn begin(path: &Path) -> anyhow::Result<Replacement> {
        let cannot = || format!("cannot write the file {}", path.display());
        let target = follow(path)?;
        let mode = match fs::symlink_metadata(&target) {
            Ok(found) if found.is_dir() => bail!("{} is a folder; give the name of a file", path.display()),
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(&target).with_context(cannot)?;
                return Ok(Replacement { file, names: None });
            }
            Ok(found) => found.permissions().mode() & 0o777,
            Err(_) => 0o600,
        };
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let beside = target.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let file = file.with_context(cannot)?;
        let replacement = Replacement { file, names: Some((beside, target)) };
        replacement.file.set_permissions(fs::Permissions::from_mode(mode)).with_context(cannot)?;
        Ok(replacement)
    }

    /// Puts the file in the place of what was there.
    ///
    /// # Errors
    /// If what was written does not come to the disk, or the place is taken.
    pub fn finish(mut self) -> io::Result<()> {
        let Some((beside, target)) = &self.names else { return self.file.flush() };
        self.file.sync_data()?;
        fs::rename(beside, target)?;
        self.names = None;
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some((beside, _)) = &self.names {
            // It is unfinished; that it cannot be removed changes nothing.
            let _ = fs::remove_file(beside);
        }
    }
}

/// Writes a whole file.
///
/// # Errors
/// Those of [`Replacement::begin`] and [`Replacement::finish`].
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = Replacement::begin(path)?;
    let written = file.write_all(bytes).and_then(|()| file.finish());
    written.with_context(|| format!("cannot write the file {}; what was there is unchanged", path.display()))
}

/// Makes sure that a file could be written now, and changes nothing.
///
/// # Errors
/// Those of [`Replacement::begin`].
pub fn check(path: &Path) -> anyhow::Result<()> {
    Replacement::begin(path).map(drop)
}

/// Opens a file that is written bit by bit, and emptied now.
///
/// # Errors
/// If it cannot be opened, or the name is a link of another user.
pub fn create(path: &Path) -> anyhow::Result<File> {
    let target = follow(path)?;
    let options = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).clone();
    options().open(&target).with_context(|| format!("cannot write the file {}", path.display()))
}

/// The file that a name means, links followed; one that is neither root's nor ours is not.
fn follow(path: &Path) -> anyhow::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match fs::symlink_metadata(&path) {
            // Links of /proc lead to files that are open here, as `/dev/stdout` does.
            Ok(found) if found.is_symlink() && !path.starts_with("/proc") => {
                let us = rustix::process::geteuid().as_raw();
                if ![0, us].contains(&found.uid()) {
                    bail!(
                        "{} is a link that user {} made: who can change it would choose what is written to; \
                         name the file itself",
                        path.display(),
                        found.uid()
                    );
                }
                let to = fs::read_link(&path)
                    .with_context(|| format!("cannot read the link {}", path.display()))?;
                path = path.parent().unwrap_or(Path::new("/")).join(to);
            }
            _ => return Ok(path),
        }
    }
    bail!("{} leads through more than 40 links", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("exitscope-file-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("page.html");
        let names = || fs::read_dir(&folder).unwrap().count();
        replace(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let mut unfinished = Replacement::begin(&path).unwrap();
        unfinished.write_all(b"tw").unwrap();
        drop(unfinished);
        check(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"one".to_vec(), 1));
        // Through a link of one's own, and with the mode that it had.
        let link = folder.join("link");
        std::os::unix::fs::symlink("page.html", &link).unwrap();
        replace(&link, b"two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert!(replace(&folder, b"x").unwrap_err().to_string().contains("is a folder"));
        replace(Path::new("/dev/null"), b"x").unwrap();
        // Another user's link, which only root can make for a test.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(65_534), None).unwrap();
            let error = replace(&link, b"x").unwrap_err().to_string();
            assert!(error.contains("is a link that user 65534 made"), "{error}");
            assert!(create(&link).is_err());
            assert_eq!(fs::read(&path).unwrap(), b"two");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
