//! Facts about the host.
use std::io;
/// Where a tracepoint has a field.
pub fn tracepoint_field(event: &str, field: &str) -> io::Result<(u32, u32)> {
    let root = "/sys/kernel/tracing/events";
    let text = std::fs::read_to_string(format!("{root}/{event}/format"))?;
    for line in text.lines() {
        let Some((decl, rest)) = line.trim().strip_prefix("field:").and_then(|l| l.split_once(';')) else {
            continue;
        };
        if decl.split_whitespace().last() != Some(field) {
            continue;
        }
        let num =
            |k: &str| rest.split(';').find_map(|p| p.trim().strip_prefix(k).and_then(|n| n.parse().ok()));
        if let (Some(o), Some(s)) = (num("offset:"), num("size:")) {
            return Ok((o, s));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// kvm
pub fn kvm_is_there() -> bool {
    std::path::Path::new("/sys/module/kvm").exists()
}
/// fires
pub fn kvm_exit_fires() -> bool {
    ["kvm_intel", "kvm_amd"].iter().any(|m| std::path::Path::new("/sys/module").join(m).exists())
}
/// version
pub fn kernel_is_before(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut n = release.split(['.', '-']).map_while(|p| p.parse::<u32>().ok());
    matches!((n.next(), n.next()), (Some(a), Some(b)) if (a, b) < (major, minor))
}
