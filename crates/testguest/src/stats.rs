//! A vCPU's statistics as KVM itself keeps them: by `KVM_GET_STATS_FD` (Linux 5.14), or by debugfs.
//!
//! The layout is that of `struct kvm_stats_header` and `struct kvm_stats_desc` in `linux/kvm.h`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;
/// flags, exponent and size, offset, bucket size: what stands before a descriptor's name.
const DESCRIPTOR: usize = 16;

/// A set of statistics.
#[derive(Debug)]
pub enum Stats {
    /// Statistics of one vCPU or VM.
    File {
        file: File,
        /// Name, place and number of values.
        known: Vec<(String, u64, usize)>,
    },
    /// Statistics of a whole VM: a directory with a file for each.
    Debugfs(PathBuf),
}

impl Stats {
    /// The statistics of a vCPU or a VM.
    ///
    /// # Errors
    /// ENOTTY from a kernel before 5.14, or what the kernel says.
    pub fn open(of: &impl AsRawFd) -> io::Result<Stats> {
        // SAFETY: the call takes no argument beyond the descriptor, which `of` keeps open.
        let fd = unsafe { libc::ioctl(of.as_raw_fd(), KVM_GET_STATS_FD) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut header = [0; 24];
        file.read_exact_at(&mut header, 0)?;
        let [name_size, count, descriptors, data] = [4, 8, 16, 20].map(|at| word(&header, at));
        let size = DESCRIPTOR + usize::try_from(name_size).unwrap_or(0);
        let mut descriptor = vec![0; size];
        let mut known = Vec::new();
        for index in 0..u64::from(count) {
            let at = u64::from(descriptors) + index * u64::try_from(size).unwrap_or(u64::MAX);
            file.read_exact_at(&mut descriptor, at)?;
            let name = descriptor[DESCRIPTOR..].split(|&byte| byte == 0).next().unwrap_or_default();
            let offset = u64::from(data) + u64::from(word(&descriptor, 8));
            let values = usize::from(u16::from_le_bytes([descriptor[6], descriptor[7]]));
            known.push((String::from_utf8_lossy(name).into_owned(), offset, values));
        }
        Ok(Stats::File { file, known })
    }

    /// The statistics of a VM that this thread has made, by the directory that `kvm_create_vm_debugfs()`
    /// (virt/kvm/kvm_main.c) makes for it; `None` where there is none.
    pub fn of_vm(vm: &impl AsRawFd) -> Option<Stats> {
        // Not libc's, which glibc has since 2.30: packages run on 2.28.
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let directory = PathBuf::from(format!("/sys/kernel/debug/kvm/{thread}-{}", vm.as_raw_fd()));
        directory.is_dir().then_some(Stats::Debugfs(directory))
    }

    /// Returns the present value; `None` where this kernel keeps no such statistic or it cannot be read.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.values(name)?.next()
    }

    #[cfg(feature = "lab-tests")]
    /// The sum of all buckets of a histogram; `None` as with [`Stats::get`].
    pub fn sum(&self, name: &str) -> Option<u64> {
        Some(self.values(name)?.sum())
    }

    fn values(&self, name: &str) -> Option<impl Iterator<Item = u64>> {
        let values = match self {
            Stats::File { file, known } => {
                let (_, offset, values) = known.iter().find(|(known, ..)| known == name)?;
                let mut bytes = vec![0; values * 8];
                file.read_exact_at(&mut bytes, *offset).ok()?;
                let value = |at: usize| bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
                (0..bytes.len()).step_by(8).map(value).collect::<Vec<_>>()
            }
            Stats::Debugfs(directory) => {
                vec![std::fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()?]
            }
        };
        Some(values.into_iter())
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
}
