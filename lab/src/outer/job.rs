//! The command as a shell script.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Machine, OUT, Outer};
use crate::error::Error;
use crate::quote;

impl Outer {
    /// The command's working directory.
    pub(super) fn working_directory(&self) -> Result<PathBuf, Error> {
        match &self.directory {
            Some(directory) => fs::canonicalize(directory).map_err(Error::io(directory)),
            None => std::env::current_dir().map_err(Error::io("the working directory")),
        }
    }

    /// Returns the shell script that becomes the command. `out` is this machine's directory for the files in `LAB_OUT`.
    pub(super) fn job<W: AsRef<OsStr>>(&self, command: &[W], out: &Path) -> Result<Vec<u8>, Error> {
        if command.is_empty() {
            return Err(Error::Usage("no command given".into()));
        }
        let directory = self.working_directory()?;
        let (out, release) = match &self.machine {
            Machine::Svm(kernel) | Machine::Vmx(kernel) => (Path::new(OUT), kernel.release.clone()),
            Machine::Host => (out, rustix::system::uname().release().to_string_lossy().into_owned()),
        };
        let mut job = b"cd ".to_vec();
        job.extend(quote::shell(directory.as_os_str()));
        job.extend(
            b" || { echo 'lab: /dev, /proc, /run and /sys are the outer VM'\\''s own' >&2; exit 125; }\n",
        );
        let term = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let fixed: [(&str, &OsStr); 10] = [
            ("PATH", path.as_ref()),
            ("HOME", "/root".as_ref()),
            ("USER", "root".as_ref()),
            ("LOGNAME", "root".as_ref()),
            ("SHELL", "/bin/sh".as_ref()),
            ("LANG", "C.UTF-8".as_ref()),
            ("TERM", &term),
            ("LAB_OUT", out.as_os_str()),
            ("LAB_CACHE", self.cache.path().as_os_str()),
            ("LAB_OUTER", OsStr::new(&release)),
        ];
        let own = self.environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        for (name, value) in fixed.iter().map(|(name, value)| (OsStr::new(*name), *value)).chain(own) {
            if !is_variable(name.as_bytes()) {
                return Err(Error::Usage(format!("{} is no name of a variable", name.display())));
            }
            job.extend(b"export ");
            job.extend(name.as_bytes());
            job.push(b'=');
            job.extend(quote::shell(value));
            job.push(b'\n');
        }
        job.extend(b"exec ");
        job.extend(quote::command(command));
        job.push(b'\n');
        Ok(job)
    }
}

fn is_variable(name: &[u8]) -> bool {
    name.first().is_some_and(|b| !b.is_ascii_digit())
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables() {
        assert!(is_variable(b"LAB_OUT2"));
        for name in [&b""[..], b"2A", b"A B", b"A;reboot", b"A-B"] {
            assert!(!is_variable(name));
        }
    }
}
