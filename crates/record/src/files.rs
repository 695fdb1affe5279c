//! The files of a recording: itself, and what SQLite keeps beside it.

use super::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Whether there is something of this name that may be replaced; what may not is refused.
pub fn in_the_way(path: &Path, force: bool) -> Result<bool, Error> {
    let found = ["", "-wal", "-journal"].iter().find_map(|suffix| {
        let path = beside(path, suffix);
        Some((path.clone(), fs::symlink_metadata(path).ok()?))
    });
    match found {
        None => Ok(false),
        Some((path, _)) if !force => Err(Error::Exists(path)),
        Some((path, file)) if !file.is_file() && !file.is_symlink() => Err(Error::NotAFile(path)),
        Some(_) => Ok(true),
    }
}

/// Removes a recording, and what SQLite keeps beside it.
pub fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What SQLite keeps beside a database.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
