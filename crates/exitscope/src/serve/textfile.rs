//! The exposition in a file, for node_exporter's collector of text files.

use anyhow::Context;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the file.
const NAME: &str = "exitscope.prom";

/// File that is replaced as a whole, so that nobody reads half of it. Removed at the end.
pub struct Textfile {
    file: PathBuf,
    scratch: PathBuf,
}

impl Textfile {
    /// Takes the folder.
    ///
    /// # Errors
    /// If no file can be written there.
    pub fn new(folder: &Path) -> anyhow::Result<Textfile> {
        // node_exporter reads what ends with .prom.
        let textfile = Textfile { file: folder.join(NAME), scratch: folder.join(format!("{NAME}.new")) };
        textfile.write_scratch(b"").with_context(|| {
            format!("cannot write into {}: give a folder that this user may write to", folder.display())
        })?;
        Ok(textfile)
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn replace(&self, text: &[u8]) -> anyhow::Result<()> {
        self.write_scratch(text)
            .and_then(|()| fs::rename(&self.scratch, &self.file))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// Writes a new file beside it; one that a run before has left is removed, and no link is followed.
    fn write_scratch(&self, text: &[u8]) -> std::io::Result<()> {
        match fs::remove_file(&self.scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file: File = File::options().write(true).create_new(true).mode(0o644).open(&self.scratch)?;
        file.write_all(text)
    }
}

impl Drop for Textfile {
    fn drop(&mut self) {
        // Old figures are worse than none. Nobody is left to tell if this fails.
        let _ = fs::remove_file(&self.scratch);
        let _ = fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole_or_gone_and_no_link_is_followed() {
        let folder = std::env::temp_dir().join(format!("exitscope-textfile-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let victim = folder.join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, folder.join("exitscope.prom.new")).unwrap();
        let textfile = Textfile::new(&folder).unwrap();
        let mut reader_of_the_old = None;
        for text in ["one 1\n", "two 2\nmore 3\n"] {
            textfile.replace(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(folder.join(NAME)).unwrap(), text);
            reader_of_the_old.get_or_insert_with(|| File::open(folder.join(NAME)).unwrap());
        }
        let old = std::io::read_to_string(reader_of_the_old.unwrap()).unwrap();
        assert_eq!(old, "one 1\n", "a reader keeps what it has opened");
        drop(textfile);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!((left, fs::read_to_string(&victim).unwrap().as_str()), (vec!["victim".into()], "mine"));
        fs::remove_dir_all(&folder).unwrap();
        let error = format!("{:#}", Textfile::new(&folder).err().unwrap());
        assert!(error.contains("cannot write into") && error.contains("No such file"), "{error}");
    }
}
