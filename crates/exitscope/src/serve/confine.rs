//! Rights that the two processes give up.

use anyhow::{Context, bail};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    set_capabilities, set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;
use std::ffi::CString;

/// Rights of the collector: to load and attach programs, to read the types of KVM's modules, to read /proc/PID of VMs that
/// other users run, and to lock memory.
const OF_COLLECTOR: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_RESOURCE);

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    uid: libc::uid_t,
    gid: libc::gid_t,
}

impl User {
    /// Finds a user by name.
    ///
    /// # Errors
    /// If there is none of that name, or it is root.
    pub fn named(name: &str) -> anyhow::Result<User> {
        let user = look_up(name)
            .with_context(|| format!("there is no user {name:?}; make it (systemd-sysusers, useradd), or choose another by --web.user"))?;
        if user.uid == 0 {
            bail!("the process that speaks HTTP does not run as root; choose another user by --web.user");
        }
        Ok(user)
    }

    /// The user `exitscope` where there is one, else the one that owns nothing.
    pub fn default_one() -> User {
        look_up("exitscope").filter(|user| user.uid != 0).unwrap_or(User { uid: 65_534, gid: 65_534 })
    }
}

fn look_up(name: &str) -> Option<User> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a C string. This process has one thread, so that nobody else overwrites the answer, which is copied.
    let found = unsafe { libc::getpwnam(name.as_ptr()).as_ref() }?;
    Some(User { uid: found.pw_uid, gid: found.pw_gid })
}

/// Returns true if this process has root's user id.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Leaves the collector what it needs later on, and no sockets but those of this host. Called before there are threads.
///
/// # Errors
/// If the kernel refuses.
pub fn collector() -> anyhow::Result<()> {
    if is_root() {
        let kept = rustix::thread::capabilities(None).context("cannot read the capabilities")?.permitted
            & OF_COLLECTOR;
        limit(kept)?;
    }
    set_no_new_privs(true).context("cannot give up to gain privileges")?;
    let not_unix = compare(0, SeccompCmpOp::Ne, libc::AF_UNIX)?;
    let rules = [(libc::SYS_socket, vec![SeccompRule::new(vec![not_unix])?])];
    apply(rules.into(), SeccompAction::Allow, SeccompAction::Errno(libc::EPERM.unsigned_abs()))
}

/// Becomes `user`, if this process is root, and gives up all capabilities. Called before there are threads.
///
/// # Errors
/// If the kernel refuses.
pub fn become_user(user: User) -> anyhow::Result<()> {
    if is_root() {
        limit_bounding(CapabilitySet::empty())?;
        // SAFETY: plain system calls; no groups are passed, and none are read.
        let done = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setresgid(user.gid, user.gid, user.gid) == 0
                && libc::setresuid(user.uid, user.uid, user.uid) == 0
        };
        if !done {
            return Err(std::io::Error::last_os_error()).context("cannot become another user");
        }
    }
    set_all(CapabilitySet::empty())?;
    set_no_new_privs(true).context("cannot give up to gain privileges")?;
    // SAFETY: a plain system call. Processes of the same user cannot read the memory, which has the key of TLS.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    Ok(())
}

fn limit(kept: CapabilitySet) -> anyhow::Result<()> {
    limit_bounding(kept)?;
    set_all(kept)
}

fn set_all(kept: CapabilitySet) -> anyhow::Result<()> {
    clear_ambient_capability_set().context("cannot give up ambient capabilities")?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("cannot give up capabilities")
}

fn limit_bounding(kept: CapabilitySet) -> anyhow::Result<()> {
    // Without CAP_SETPCAP the bounding set stays; nothing is run that could gain from it.
    let own = rustix::thread::capabilities(None).context("cannot read the capabilities")?;
    if !own.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // The kernel knows no more than its last.
        if !kept.contains(one) && matches!(capability_is_in_bounding_set(one), Ok(true)) {
            rustix::thread::remove_capability_from_bounding_set(one)
                .context("cannot limit the bounding set")?;
        }
    }
    Ok(())
}

/// System calls of the HTTP process once it listens: of open files, memory, time and its threads. It opens nothing, starts
/// nothing, connects to nobody.
const OF_HTTP: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getpeername,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Leaves all threads of the HTTP process what they need. Memory that is to be executed is refused, too.
///
/// # Errors
/// If the kernel refuses.
pub fn http() -> anyhow::Result<()> {
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        OF_HTTP.iter().map(|number| (*number, Vec::new())).collect();
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        let exec = u64::from(libc::PROT_EXEC.unsigned_abs());
        let not_executed = compare(2, SeccompCmpOp::MaskedEq(exec), 0)?;
        rules.insert(number, vec![SeccompRule::new(vec![not_executed])?]);
    }
    apply(rules, SeccompAction::Errno(libc::EPERM.unsigned_abs()), SeccompAction::Allow)
}

fn compare(argument: u8, how: SeccompCmpOp, with: libc::c_int) -> anyhow::Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, u64::from(with.unsigned_abs()))?)
}

fn apply(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    where_ruled: SeccompAction,
) -> anyhow::Result<()> {
    let filter = SeccompFilter::new(rules, otherwise, where_ruled, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program).context("cannot limit the system calls")
}

/// Attempts of somebody who runs code in the HTTP process, each with the error that it ends with; for tests.
#[cfg(feature = "lab-tests")]
pub fn attempts(victim: u32) -> Vec<(&'static str, Option<std::io::Error>)> {
    let pid = libc::pid_t::try_from(victim).unwrap_or(0);
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(0x1000), iov_len: 1 };
    let attributes = [0u8; 128];
    let outcome = |result: libc::c_long| (result < 0).then(std::io::Error::last_os_error);
    // SAFETY: whichever of these calls succeeds makes the test fail; pointers are to memory of at least the given length.
    unsafe {
        vec![
            ("ptrace", outcome(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0))),
            (
                "process_vm_readv",
                outcome(libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) as _),
            ),
            ("open", outcome(libc::open(c"/proc/1/mem".as_ptr(), libc::O_RDONLY).into())),
            ("open of its own", outcome(libc::open(c"/proc/self/status".as_ptr(), libc::O_RDONLY).into())),
            ("bpf", outcome(libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), attributes.len()))),
            (
                "perf_event_open",
                outcome(libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0)),
            ),
            ("pidfd_open", outcome(libc::syscall(libc::SYS_pidfd_open, pid, 0))),
            ("kill", outcome(libc::kill(pid, 0).into())),
            ("setuid", outcome(libc::setuid(0).into())),
            ("socket", outcome(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).into())),
            ("execve", outcome(libc::execv(c"/bin/true".as_ptr(), std::ptr::null()).into())),
            ("fork", outcome(libc::syscall(libc::SYS_fork))),
            ("unshare", outcome(libc::unshare(libc::CLONE_NEWUSER).into())),
            (
                "memory to execute",
                (libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                ) == libc::MAP_FAILED)
                    .then(std::io::Error::last_os_error),
            ),
        ]
    }
}
