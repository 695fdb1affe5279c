//! Files of others, opened to be read.

use super::files::is_trusted;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Once;

/// Cause for which something that is no regular file is not opened; it holds the kind, with an article.
#[derive(Debug, thiserror::Error)]
#[error("it is {0}, and no file")]
pub struct NotRegular(pub &'static str);

/// Opens a regular file. Nothing else is opened at all: a FIFO would have to be waited for, and to open a device may do
/// something.
///
/// # Errors
/// If it is no regular file, with [`NotRegular`] as the cause, or cannot be opened.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // First a handle that can only be looked at, then the same file again by that: its name may mean another one by now.
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    check(&handle.metadata()?)?;
    let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let options = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).clone();
    let file = match options().open(again) {
        // Without /proc.
        Err(error) if error.kind() == io::ErrorKind::NotFound => options().open(path)?,
        opened => opened?,
    };
    let found = file.metadata()?;
    check(&found)?;
    Ok((file, found))
}

/// Reads a text of at most so many bytes.
///
/// # Errors
/// If it is longer, is no UTF-8, or [`open`] fails.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let (file, _) = open(path)?;
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(text)
}

fn check(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::other(NotRegular(what)))
}

/// Has SQLite open regular files only, without waiting, wherever it opens one in this process.
pub fn guard_sqlite() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: SQLite's default file system is there for as long as the process is, and takes a function with the
        // arguments of open(2) under this name ("Overridable system calls", os_unix.c).
        unsafe {
            let vfs = rusqlite::ffi::sqlite3_vfs_find(std::ptr::null());
            let set = vfs.as_ref().and_then(|vfs| vfs.xSetSystemCall);
            if let Some(set) = set {
                let open: unsafe extern "C" fn(*const libc::c_char, libc::c_int, libc::c_int) -> libc::c_int =
                    open_regular;
                // The type of the pointer is that of any function; SQLite casts it back.
                let open = std::mem::transmute::<
                    unsafe extern "C" fn(*const libc::c_char, libc::c_int, libc::c_int) -> libc::c_int,
                    unsafe extern "C" fn(),
                >(open);
                set(vfs, c"open".as_ptr(), Some(open));
            }
        }
    });
}

/// open(2) for SQLite: neither what is no regular file is opened, nor what is kept beside a database and is another user's.
unsafe extern "C" fn open_regular(
    path: *const libc::c_char,
    flags: libc::c_int,
    mode: libc::c_int,
) -> libc::c_int {
    // SAFETY: SQLite gives a name that ends with NUL.
    let file = unsafe { libc::open(path, flags | libc::O_NONBLOCK | libc::O_NOCTTY, mode) };
    if file < 0 {
        return file;
    }
    // SAFETY: all zeros are valid for this structure of integers.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor was just opened, and `found` is valid for writing.
    let known = unsafe { libc::fstat(file, &raw mut found) } == 0;
    // SAFETY: as above.
    let is_side = [&b"-shm"[..], b"-wal", b"-journal"]
        .iter()
        .any(|suffix| unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes().ends_with(suffix));
    let refused = match () {
        () if !known || found.st_mode & libc::S_IFMT != libc::S_IFREG => libc::ENXIO,
        // One that was made beforehand by somebody else, who could make it shorter while it is mapped.
        () if is_side && !(is_trusted(found.st_uid) && found.st_mode & 0o002 == 0) => libc::EPERM,
        () => return file,
    };
    // SAFETY: it is ours, and errno is this thread's.
    unsafe {
        libc::close(file);
        *libc::__errno_location() = refused;
    }
    -1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_files_is_opened() {
        let folder = std::env::temp_dir().join(format!("exitscope-input-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let fifo = folder.join("fifo");
        let name = std::ffi::CString::new(fifo.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the name ends with NUL.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let link = folder.join("link");
        std::os::unix::fs::symlink("fifo", &link).unwrap();
        for (path, what) in [
            (fifo.as_path(), "a FIFO"),
            (&link, "a FIFO"),
            (&folder, "a folder"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        let file = folder.join("file");
        std::fs::write(&file, "twelve bytes").unwrap();
        assert_eq!(read_text(&file, 12).unwrap(), "twelve bytes");
        assert!(read_text(&file, 11).unwrap_err().to_string().contains("more than 11 bytes"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
