//! Quoting for `sh` and for QEMU's option lists.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Quotes `word` so that a POSIX shell reads it back byte for byte.
///
/// Words of harmless characters stay as they are, which keeps printed commands readable.
#[must_use]
pub fn shell(word: &OsStr) -> Vec<u8> {
    let bytes = word.as_bytes();
    let harmless = |b: &u8| b.is_ascii_alphanumeric() || b"-_=+,./:@%".contains(b);
    if !bytes.is_empty() && bytes.iter().all(harmless) {
        return bytes.to_vec();
    }
    let mut quoted = vec![b'\''];
    for &byte in bytes {
        if byte == b'\'' {
            quoted.extend_from_slice(b"'\\''");
        } else {
            quoted.push(byte);
        }
    }
    quoted.push(b'\'');
    quoted
}

/// Quotes each word and joins them with spaces: one shell command.
#[must_use]
pub fn command<W: AsRef<OsStr>>(words: &[W]) -> Vec<u8> {
    words.iter().map(|word| shell(word.as_ref())).collect::<Vec<_>>().join(&b' ')
}

/// Escapes a value for QEMU's `key=value,…` options, where a comma is written twice.
#[must_use]
pub fn qemu(value: &OsStr) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut escaped = Vec::with_capacity(value.len());
    for &byte in value.as_bytes() {
        escaped.push(byte);
        if byte == b',' {
            escaped.push(byte);
        }
    }
    std::ffi::OsString::from_vec(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_shell_reads_every_word_back() {
        let words: Vec<&OsStr> = [
            &b"plain"[..],
            b"",
            b"two words",
            b"it's",
            b"$HOME `id` \"x\" \\",
            b"new\nline\ttab",
            b"*?[a]~!#&;|<>(){}",
            b"\xff\xfe not utf-8",
            b"-n",
            b"'",
        ]
        .into_iter()
        .map(OsStr::from_bytes)
        .collect();
        let mut script = b"printf '%s\\0' ".to_vec();
        script.extend(command(&words));
        let output = Command::new("sh").arg("-c").arg(OsStr::from_bytes(&script)).output().unwrap();
        let mut expected = words.iter().map(|w| w.as_bytes()).collect::<Vec<_>>().join(&0);
        expected.push(0);
        assert_eq!(output.stdout, expected);
    }

    #[test]
    fn commas_are_doubled_for_qemu() {
        assert_eq!(qemu(OsStr::new("a,b,,c")), "a,,b,,,,c");
    }
}
