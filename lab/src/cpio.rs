//! Writes `newc` cpio archives, the kernel's format for an initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Written here rather than with cpio(1) so that every file belongs to root whoever builds the
//! archive, and so that the same input gives the same bytes. Archives may be joined end to end.

/// An archive under construction.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;

impl Archive {
    /// Adds an empty directory. Its parents must have been added before.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, &[]);
    }

    /// Adds a regular file with the permission bits `mode`.
    pub fn file(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entry(name, REGULAR | mode, data);
    }

    /// Ends the archive and returns its bytes, a multiple of 4 in length.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        let size = u32::try_from(data.len()).expect("a file in an initramfs is smaller than 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a file name is short");
        self.entries += 1;
        let nlink = 1;
        // ino, mode, uid, gid, nlink, mtime, size, dev (2), rdev (2), length of the name, checksum
        let fields = [self.entries, mode, 0, 0, nlink, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive by the format's description: name, mode, data of each entry.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                u32::from_str_radix(std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let data = (110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(bytes.len(), data);
                return entries;
            }
            entries.push((name, mode, bytes[data..data + size].to_vec()));
            bytes = &bytes[(data + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let mut archive = Archive::default();
        archive.directory("bin");
        for length in 0..9 {
            archive.file(&"x".repeat(length + 1), 0o755, &vec![7; length]);
        }
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let entries = read(&bytes);
        assert_eq!(entries[0], ("bin".into(), 0o040_755, vec![]));
        for length in 0..9 {
            assert_eq!(entries[length + 1], ("x".repeat(length + 1), 0o100_755, vec![7; length]));
        }
    }
}
