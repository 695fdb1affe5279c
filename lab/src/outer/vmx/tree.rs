//! A part of this machine's files, and the file system image made of it.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::command::{output, tool};
use crate::doctor;
use crate::error::Error;

/// Symbolic links that one path may lead through, as in the kernel (MAXSYMLINKS).
const MAX_LINKS: usize = 40;
/// Size (bytes) above which programs lose their debugging information.
const LARGE: u64 = 4 << 20;
const BLOCK: u64 = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    Link(PathBuf),
    /// A file, and where it is taken from.
    File(PathBuf),
}

/// Files under their full paths, with the directories and symbolic links that lead to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// Adds a file, or a directory with all that is in it. With a program come the libraries that it is linked with,
    /// and with a script its interpreter.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), Error> {
        let path = self.follow(&std::path::absolute(path).map_err(Error::io(path))?)?;
        if path.is_dir() {
            for entry in fs::read_dir(&path).map_err(Error::io(&path))? {
                let inside = entry.map_err(Error::io(&path))?.path();
                // A link that leads nowhere is none of the things that a program could need.
                if inside.exists() {
                    self.add(&inside)?;
                }
            }
            return Ok(());
        }
        if self.entries.insert(path.clone(), Entry::File(path.clone())).is_some() {
            return Ok(());
        }
        for needed in needs(&path)? {
            self.add(&needed)?;
        }
        Ok(())
    }

    /// Adds a directory and its parents, without its contents.
    pub(super) fn add_directory(&mut self, path: &Path) -> Result<(), Error> {
        self.follow(path).map(drop)
    }

    /// Adds a file at a place of its own.
    pub(super) fn put(&mut self, at: &Path, file: &Path) {
        self.directory(at.parent().unwrap_or(Path::new("/")));
        self.entries.insert(at.into(), Entry::File(file.into()));
    }

    /// Adds an empty directory.
    pub(super) fn directory(&mut self, path: &Path) {
        for above in path.ancestors() {
            self.entries.entry(above.into()).or_insert(Entry::Directory);
        }
    }

    /// Leaves out the files that `other` has.
    pub(super) fn without(&mut self, other: &Tree) {
        self.entries
            .retain(|path, entry| *entry == Entry::Directory || other.entries.get(path) != Some(entry));
    }

    /// Returns bytes that differ between trees, and change with each of the tree's files.
    pub(super) fn fingerprint(&self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        for (path, entry) in &self.entries {
            all.extend(path.as_os_str().as_encoded_bytes());
            match entry {
                Entry::Directory => {}
                Entry::Link(target) => all.extend(target.as_os_str().as_encoded_bytes()),
                Entry::File(from) => {
                    let metadata = fs::metadata(from).map_err(Error::io(from))?;
                    all.extend(format!(" {} {}", metadata.len(), metadata.mtime()).bytes());
                }
            }
            all.push(0);
        }
        Ok(all)
    }

    /// Writes a file system of ext4 with all of this into `image`, from the byte `offset` on, and returns its length.
    /// `scratch` is made and removed again.
    pub(super) fn image(&self, scratch: &Path, image: &Path, offset: u64) -> Result<u64, Error> {
        let mut length = 0;
        for (path, entry) in &self.entries {
            let at = scratch.join(path.strip_prefix("/").unwrap_or(path));
            match entry {
                Entry::Directory => fs::create_dir_all(&at).map_err(Error::io(&at))?,
                Entry::Link(target) => symlink(target, &at).map_err(Error::io(&at))?,
                Entry::File(from) => {
                    copy(from, &at)?;
                    length += fs::metadata(&at).map_err(Error::io(&at))?.len().next_multiple_of(BLOCK);
                }
            }
            length += BLOCK;
        }
        // Extent trees and bitmaps are a few blocks; inodes have 256 bytes.
        let inodes = self.entries.len() + 64;
        let length = (length + length / 50 + (4 << 20)).next_multiple_of(1 << 20);
        let mut make = tool("mke2fs")?;
        // What keeps a file system whole is no good to one that is only read, and checksums take time.
        make.args(["-q", "-F", "-t", "ext4", "-b", &BLOCK.to_string(), "-m", "0", "-N", &inodes.to_string()]);
        make.args(["-O", "^has_journal,^metadata_csum,^resize_inode", "-E"]);
        make.arg(format!("offset={offset},root_owner=0:0,hash_seed=7ab00000-0000-4e00-8000-0000000000ac"));
        make.arg("-d").arg(scratch).arg(image).arg(format!("{}k", length / 1024));
        output(&mut make)?;
        fs::remove_dir_all(scratch).map_err(Error::io(scratch))?;
        Ok(length)
    }

    /// Adds the links and directories that a full path leads through, and returns the path without links.
    fn follow(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let mut rest: VecDeque<OsString> = parts(path).collect();
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let metadata = fs::symlink_metadata(&next).map_err(Error::io(&next))?;
            if metadata.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::Usage(format!("{}: too many symbolic links", path.display())));
                }
                let target = fs::read_link(&next).map_err(Error::io(&next))?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(part);
                }
                self.entries.insert(next, Entry::Link(target));
            } else {
                if metadata.is_dir() {
                    self.directory(&next);
                }
                at = next;
            }
        }
        Ok(at)
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// Returns the files without which a program cannot run: the interpreter of a script, and the libraries of a dynamically
/// linked program, which its own dynamic linker lists (ld.so(8)).
fn needs(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut head = [0; 4096];
    let mut file = File::open(path).map_err(Error::io(path))?;
    let length = file.read(&mut head).map_err(Error::io(path))?;
    let head = &head[..length];
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
        let words = String::from_utf8_lossy(line);
        // `#!/usr/bin/env NAME` needs two.
        let mut words = words.split_whitespace();
        let mut found: Vec<PathBuf> = words.next().map(PathBuf::from).into_iter().collect();
        if found.iter().any(|path| path.ends_with("env"))
            && let Some(program) = words.next().and_then(|name| doctor::program(name).ok())
        {
            found.push(program);
        }
        found.retain(|path| path.exists());
        return Ok(found);
    }
    let Some(linker) = doctor::interpreter(head) else { return Ok(Vec::new()) };
    let mut list = std::process::Command::new(&linker);
    list.env("LC_ALL", "C").arg("--list").arg(path);
    let listed = output(&mut list)?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(paths.chain([linker]).collect())
}

/// Copies a file with its permissions and its time, and without debugging information.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(from).map_err(Error::io(from))?;
    let mut head = [0; 4];
    let is_elf =
        File::open(from).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *b"\x7fELF";
    // Without binutils, or where strip will not do it, the whole file goes along.
    let stripped = is_elf
        && metadata.len() > LARGE
        && tool("strip")
            .is_ok_and(|mut strip| output(strip.args(["--strip-debug", "-o"]).arg(to).arg(from)).is_ok());
    if !stripped {
        fs::copy(from, to).map_err(Error::io(from))?;
    }
    let file = File::options().write(true).open(to).or_else(|_| File::open(to)).map_err(Error::io(to))?;
    fs::set_permissions(to, metadata.permissions()).map_err(Error::io(to))?;
    metadata.modified().and_then(|time| file.set_modified(time)).map_err(Error::io(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_libraries_come_along() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/sub")).unwrap();
        fs::write(root.join("real/sub/script"), "#!/bin/sh\n").unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("nowhere", root.join("real/broken")).unwrap();
        let mut tree = Tree::default();
        tree.add(&root.join("link/../link/sub")).unwrap();
        tree.add(&std::env::current_exe().unwrap()).unwrap();
        let has = |path: &Path| tree.entries.get(path);
        assert_eq!(has(&root.join("link")), Some(&Entry::Link("real".into())));
        assert!(matches!(has(&root.join("real/sub/script")), Some(Entry::File(_))));
        let shell = fs::canonicalize("/bin/sh").unwrap();
        assert!(has(&shell).is_some(), "the script's interpreter");
        let libraries = tree.entries.keys().filter(|path| path.to_string_lossy().contains("libc.so")).count();
        assert!(libraries >= 1, "this test's libraries");
        let before = tree.fingerprint().unwrap();
        fs::write(root.join("real/sub/script"), "#!/bin/sh -e\n").unwrap();
        assert_ne!(tree.fingerprint().unwrap(), before);
        let mut own = tree.clone();
        own.without(&tree);
        assert!(own.entries.values().all(|entry| *entry == Entry::Directory));
        assert!(tree.add(Path::new("/no/such/file")).unwrap_err().to_string().starts_with("/no"));
    }

    #[test]
    fn an_image_holds_the_files() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "what is in it").unwrap();
        let mut tree = Tree::default();
        tree.put(Path::new("/a/b"), &file);
        let image = scratch.path().join("image");
        let length = tree.image(&scratch.path().join("tree"), &image, 1 << 20).unwrap();
        let bytes = fs::read(&image).unwrap();
        assert_eq!(u64::try_from(bytes.len()).unwrap(), length + (1 << 20));
        assert!(bytes.windows(13).any(|w| w == b"what is in it"));
    }
}
