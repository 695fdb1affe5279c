//! Files of a recording: itself, and what SQLite keeps beside it.

use super::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns true if there is something of this name that may be replaced.
///
/// # Errors
/// [`Error::Exists`] without `force`; [`Error::NotAFile`] if it is neither a file nor a link.
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

/// Checks that a recording can be made here: no other user has made a file that would be kept beside it, nor could exchange one.
///
/// # Errors
/// [`Error::Unsafe`], with the file or folder that others can change.
pub fn check_place(path: &Path) -> Result<(), Error> {
    let index = beside(path, "-shm");
    if let Ok(found) = fs::symlink_metadata(&index)
        && !(found.is_file() && is_trusted(found.uid()))
    {
        let what = format!("belongs to user {}", found.uid());
        let advice = "remove it, or record into a folder of your own";
        return Err(Error::Unsafe { path: index, what, advice });
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(found) = fs::metadata(folder) else { return Ok(()) };
    // Where the sticky bit is set, as in /tmp, nobody can exchange the files of others.
    if others_can_write(&found) && found.mode() & libc::S_ISVTX == 0 {
        let what = "can be written to by other users, who could exchange the files in it".to_owned();
        let advice = "record into a folder of your own, or take that right away (chmod o-w,g-w)";
        return Err(Error::Unsafe { path: folder.to_owned(), what, advice });
    }
    Ok(())
}

/// Checks that nobody but root and this user can change a database, or what SQLite keeps beside it: who can make what is mapped
/// into memory shorter can end this process.
///
/// # Errors
/// [`Error::Unsafe`], with the file or folder that others can change.
pub fn check_beside(path: &Path) -> Result<(), Error> {
    let advice = "copy the recording, and its -wal, into a folder of your own, and read it there";
    for suffix in ["", "-wal", "-shm"] {
        let path = beside(path, suffix);
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let what = match () {
            () if !found.is_file() => "is no regular file".to_owned(),
            () if !is_trusted(found.uid()) => format!("belongs to user {}", found.uid()),
            () if others_can_write(&found) => "can be written to by other users".to_owned(),
            () => continue,
        };
        return Err(Error::Unsafe { path, what, advice });
    }
    Ok(())
}

/// Byte that a recorder locks: past the 512 bytes from 1 GiB on in which SQLite's own locks are (`PENDING_BYTE`, os.h).
const LOCKED_BYTE: libc::off_t = (1 << 30) + 1024;

/// Locks a file that is open for writing against other recorders. Returns false if another one has it locked; where a file
/// system knows no locks, no recorder knows of another.
pub fn lock_alone(file: &fs::File) -> bool {
    lock(file, libc::F_WRLCK)
}

/// Returns true if no recorder has a file locked, which is open for reading.
pub fn is_unlocked(file: &fs::File) -> bool {
    lock(file, libc::F_RDLCK)
}

/// Locks the byte of recorders (`F_OFD_SETLK`, fcntl(2)) until the file is closed. Returns false if another lock is in the way.
///
/// flock(2) would lock all bytes on file systems that have it by fcntl(2), such as NFS and 9p, and so lock SQLite out.
fn lock(file: &fs::File, kind: libc::c_int) -> bool {
    use std::os::fd::AsRawFd;
    let short = |number: libc::c_int| libc::c_short::try_from(number).unwrap_or_default();
    let byte = libc::flock {
        l_type: short(kind),
        l_whence: short(libc::SEEK_SET),
        l_start: LOCKED_BYTE,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and the lock is described for as long as the call takes.
    let locked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const byte) };
    locked == 0 || !matches!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

/// Returns true for root and for the user of this process.
pub fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == user().0
}

/// Returns true if users other than the owner, or groups other than this user's and root's, can write to a
/// file.
pub fn others_can_write(file: &fs::Metadata) -> bool {
    file.mode() & 0o002 != 0 || (file.mode() & 0o020 != 0 && ![0, user().1].contains(&file.gid()))
}

/// Returns the user and the group of this process.
fn user() -> (u32, u32) {
    // SAFETY: neither can fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
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

/// Returns the name of a file that SQLite keeps beside a database.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
