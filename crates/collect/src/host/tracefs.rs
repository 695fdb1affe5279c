//! Offsets of a tracepoint's fields, from tracefs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Cause for which a tracepoint's field was not found.
#[derive(Debug, thiserror::Error)]
pub enum TracefsError {
    /// Nothing is changed on the host without being asked, so it is not mounted here.
    #[error("tracefs is not mounted; mount it with: mount -t tracefs tracefs /sys/kernel/tracing")]
    NotMounted,
    /// The event's description could not be read.
    #[error("{path}: {cause}; {}", advice(.cause))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// The event is there, and has no such field.
    #[error(
        "{path}: there is no field {field} of 4 or 8 bytes in it, so this kernel's event is not one that we know"
    )]
    NoField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
    },
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "is the module that has this event loaded, and CONFIG_TRACEPOINTS set?",
        io::ErrorKind::PermissionDenied => "run this as root",
        _ => "is tracefs mounted properly?",
    }
}

/// Returns offset and size of a tracepoint's field, in bytes. `event` is `GROUP/NAME`.
///
/// # Errors
/// If tracefs is not mounted, or the event or the field does not exist.
pub fn tracepoint_field(event: &str, field: &str) -> Result<(u32, u32), TracefsError> {
    let path = tracefs().ok_or(TracefsError::NotMounted)?.join("events").join(event).join("format");
    let format = match fs::read_to_string(&path) {
        Ok(format) => format,
        Err(cause) => return Err(TracefsError::Unreadable { path, cause }),
    };
    // The programs load a field whole, as an integer.
    field_of(&format, field)
        .filter(|&(_, size)| matches!(size, 4 | 8))
        .ok_or_else(|| TracefsError::NoField { path, field: field.to_owned() })
}

/// Returns true if there is a tracepoint of this group and name; `None` where tracefs is not mounted or cannot be read.
pub fn has_event(group: &str, name: &str) -> Option<bool> {
    let group = tracefs()?.join("events").join(group);
    fs::read_dir(&group).ok()?;
    Some(group.join(name).is_dir())
}

/// Returns the mount point of tracefs: its own, or the place where debugfs mounts it when it is looked at.
pub fn tracefs() -> Option<PathBuf> {
    let mounts = mounts();
    mounted(&mounts, "tracefs").or_else(|| {
        let automount = mounted(&mounts, "debugfs")?.join("tracing");
        automount.join("events").is_dir().then_some(automount)
    })
}

/// Returns the mount point of debugfs.
pub fn debugfs() -> Option<PathBuf> {
    mounted(&mounts(), "debugfs")
}

fn mounts() -> String {
    fs::read("/proc/self/mounts").map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// The first mount of a kind in `/proc/self/mounts` (proc_pid_mounts(5)), where a space is written `\040`.
fn mounted(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, found) = (words.next()?, words.next()?);
        (found == kind).then(|| Path::new(&place.replace("\\040", " ")).to_owned())
    })
}

/// Offset and size of a field in a `format` file (Documentation/trace/events.rst, "Event formats"):
/// `field:TYPE NAME;` with `[LENGTH]` after an array's name, `offset:N;`, `size:N;`, separated by white space.
fn field_of(format: &str, field: &str) -> Option<(u32, u32)> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let name = parts.next()?.strip_prefix("field:")?.rsplit([' ', '*']).next()?;
        if name.split('[').next() != Some(field) {
            return None;
        }
        let (mut offset, mut size) = (None, None);
        for part in parts {
            match part.split_once(':') {
                Some(("offset", value)) => offset = value.parse().ok(),
                Some(("size", value)) => size = value.parse().ok(),
                _ => {}
            }
        }
        Some((offset?, size?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KVM_EXIT: &str = "name: kvm_exit\nID: 103\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:unsigned int exit_reason;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:unsigned long guest_rip;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:u32 isa;\toffset:24;\tsize:4;\tsigned:0;\n\
        \tfield:const char * why;\toffset:40;\tsize:8;\tsigned:0;\n\
        \tfield:char comm[16];\toffset:48;\tsize:16;\tsigned:0;\n\n\
        print fmt: \"vcpu %u field:u32 fake; offset:1; size:4;\", REC->vcpu_id\n";

    #[test]
    fn fields() {
        assert_eq!(field_of(KVM_EXIT, "exit_reason"), Some((8, 4)));
        assert_eq!(field_of(KVM_EXIT, "guest_rip"), Some((16, 8)));
        assert_eq!(field_of(KVM_EXIT, "isa"), Some((24, 4)));
        assert_eq!(field_of(KVM_EXIT, "why"), Some((40, 8)));
        assert_eq!(field_of(KVM_EXIT, "comm"), Some((48, 16)));
        assert_eq!(field_of(KVM_EXIT, "reason"), None);
        assert_eq!(field_of(KVM_EXIT, "fake"), None);
        assert_eq!(field_of("field:u32 isa;\toffset:x;\tsize:4;", "isa"), None);
        assert_eq!(field_of("field:u32 isa;\toffset:24;", "isa"), None);
    }

    #[test]
    fn mount_points() {
        let mounts = "proc /proc proc rw 0 0\ntracefs /a\\040b tracefs rw 0 0\nnodev /sys/kernel/debug debugfs rw 0 0\n";
        assert_eq!(mounted(mounts, "tracefs"), Some("/a b".into()));
        assert_eq!(mounted(mounts, "debugfs"), Some("/sys/kernel/debug".into()));
        assert_eq!(mounted(mounts, "bpf"), None);
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(text in "(field:|[a-z* ;:\\[\n\t]|offset:|size:|[0-9]{1,30}){0,60}", name in "[a-z]{0,3}") {
            field_of(&text, &name);
            mounted(&text, &name);
        }
    }
}
