//! Two BPF programs that do nothing, on the tracepoints of exit and entry: what any program there costs at least.

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::error::Error;

/// `BPF_PROG_LOAD` (include/uapi/linux/bpf.h).
const PROG_LOAD: libc::c_int = 5;
/// `BPF_RAW_TRACEPOINT_OPEN` (include/uapi/linux/bpf.h).
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
/// `BPF_PROG_TYPE_RAW_TRACEPOINT` (include/uapi/linux/bpf.h).
const RAW_TRACEPOINT: u32 = 17;

/// `r0 = 0; exit` (`struct bpf_insn`).
const NOTHING: [u64; 2] = [0xb7, 0x95];

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// The head of `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct Open {
    name: u64,
    program: u32,
    zero: u32,
}

/// Attaches the programs and stays until it is killed.
///
/// # Errors
/// [`Error::Io`] where the kernel refuses.
pub fn floor() -> Result<std::convert::Infallible, Error> {
    let load = Load {
        kind: RAW_TRACEPOINT,
        instructions: 2,
        code: NOTHING.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    let program = bpf(PROG_LOAD, &load).map_err(Error::io("loading a BPF program"))?;
    let attach = |name: &CStr| {
        let number = u32::try_from(program).unwrap_or(u32::MAX);
        bpf(RAW_TRACEPOINT_OPEN, &Open { name: name.as_ptr() as u64, program: number, zero: 0 })
            .map_err(Error::io(format!("attaching a BPF program to {}", name.to_string_lossy())))
    };
    // SAFETY: each number is a descriptor that the kernel has just given, and nobody else's.
    let _attached =
        unsafe { [OwnedFd::from_raw_fd(attach(c"kvm_exit")?), OwnedFd::from_raw_fd(attach(c"kvm_entry")?)] };
    loop {
        std::thread::park();
    }
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    let size = std::mem::size_of::<T>();
    // SAFETY: the kernel reads `size` bytes of the attributes, and what their addresses name, both alive here.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(RawFd::try_from(result).unwrap_or(-1)) }
}
