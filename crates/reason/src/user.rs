//! Reasons of KVM_RUN's return to the VMM: `KVM_EXIT_*` (include/uapi/linux/kvm.h), or an error.
//!
//! An exit that KVM handles alone returns nothing. The names are the kernel's without their prefix: `IO`, `MMIO`.

use exitscope_model::UserReason;
use std::borrow::Cow;

/// One `KVM_EXIT_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserExit {
    /// Its name without `KVM_EXIT_`.
    pub name: &'static str,
    /// Meaning, and KVM's request to the VMM.
    pub what: &'static str,
}

/// Returns the name of `reason`: `IO`, `MMIO`; `KVM_EXIT_99` for a number that is not known; `EFAULT` for an error of KVM_RUN,
/// `ERRNO_999` for one that is not known. Distinct reasons have distinct names.
///
/// ```
/// use exitscope_model::UserReason;
/// use exitscope_reason::user::name;
///
/// assert_eq!(name(UserReason(2)), "IO");
/// assert_eq!(name(UserReason(-14)), "EFAULT");
/// assert_eq!(name(UserReason(99)), "KVM_EXIT_99");
/// ```
pub fn name(reason: UserReason) -> Cow<'static, str> {
    let number = reason.0.unsigned_abs();
    match (get(reason), ERRORS.iter().find(|(errno, _)| reason.0 < 0 && errno.unsigned_abs() == number)) {
        (Some(known), _) => known.name.into(),
        (None, Some((_, name))) => (*name).into(),
        (None, None) if reason.0 < 0 => format!("ERRNO_{number}").into(),
        (None, None) => format!("KVM_EXIT_{number}").into(),
    }
}

/// Returns the `KVM_EXIT_*` of `reason`; `None` for an error, and for a number that is not known.
pub fn get(reason: UserReason) -> Option<&'static UserExit> {
    EXITS.get(usize::try_from(reason.0).ok()?)
}

macro_rules! exits {
    ($($name:ident $what:literal;)*) => { &[$(UserExit { name: stringify!($name), what: $what }),*] };
}

/// Every `KVM_EXIT_*` up to Linux 7.0, by number from 0 on. All architectures share the numbers.
pub const EXITS: &[UserExit] = exits! {
    UNKNOWN "The hardware reported an exit that KVM does not know.";
    EXCEPTION "The guest raised an exception that KVM intercepts and does not handle.";
    IO "The guest used an I/O port of a device that the VMM emulates.";
    HYPERCALL "The guest called for something that KVM leaves to the VMM, such as making memory shared or private.";
    DEBUG "The guest met a breakpoint or made a step for a debugger that is attached to the VMM.";
    HLT "The guest halted, and the VMM emulates its interrupt controller and so must wait for the interrupt.";
    MMIO "The guest used memory of a device that the VMM emulates.";
    IRQ_WINDOW_OPEN "The guest can take an interrupt, which the VMM had asked to be told.";
    SHUTDOWN "The guest shut its CPU down, mostly by a triple fault; the VMM resets it.";
    FAIL_ENTRY "The hardware refused to enter the guest.";
    INTR "The vCPU's thread had a signal: the VMM wanted it out.";
    SET_TPR "The guest lowered its task priority, and the VMM emulates its local APIC.";
    TPR_ACCESS "The guest used the task priority register of its local APIC, which the VMM had asked to be told.";
    S390_SIEIC "s390: an interception that KVM leaves to the VMM.";
    S390_RESET "s390: the guest asked for a reset.";
    DCR "PowerPC: a device control register; no longer used.";
    NMI "PowerPC: a machine check that KVM leaves to the VMM.";
    INTERNAL_ERROR "KVM met what it cannot handle, such as an instruction that it cannot emulate.";
    OSI "PowerPC: a call of the Mac-on-Linux interface.";
    PAPR_HCALL "PowerPC: a hypercall that KVM leaves to the VMM.";
    S390_UCONTROL "s390: a page fault of a VM that the VMM controls.";
    WATCHDOG "PowerPC: the guest's watchdog ran out.";
    S390_TSCH "s390: the guest tests a channel.";
    EPR "PowerPC: the guest acknowledges an interrupt of an interrupt controller that the VMM emulates.";
    SYSTEM_EVENT "The guest asked to be shut down or reset, or it crashed and said so.";
    S390_STSI "s390: the guest asks for information on the system.";
    IOAPIC_EOI "The guest ended an interrupt of an I/O APIC that the VMM emulates.";
    HYPERV "The guest used an interface of Hyper-V's that the VMM emulates.";
    ARM_NISV "Arm: an access to no memory, by an instruction that the hardware does not describe.";
    X86_RDMSR "The guest read an MSR that the VMM had asked for.";
    X86_WRMSR "The guest wrote an MSR that the VMM had asked for.";
    DIRTY_RING_FULL "The vCPU's ring of dirty pages is full; the VMM, which migrates the VM, must empty it.";
    AP_RESET_HOLD "A vCPU of a guest under SEV-ES waits to be started by another.";
    X86_BUS_LOCK "The guest locked the bus, which the VMM had asked to be told.";
    XEN "The guest made a hypercall of Xen's that the VMM emulates.";
    RISCV_SBI "RISC-V: a call of the supervisor binary interface that KVM leaves to the VMM.";
    RISCV_CSR "RISC-V: a control register that KVM leaves to the VMM.";
    NOTIFY "The guest left no moment for an event within the notify window (Intel).";
    LOONGARCH_IOCSR "LoongArch: an I/O control register that KVM leaves to the VMM.";
    MEMORY_FAULT "The guest used memory that KVM cannot map: the VMM must make it private or shared, or provide it.";
    TDX "A guest under TDX called for something that the VMM must do, such as a quote.";
    ARM_SEA "Arm: the guest used memory with a hardware error.";
    ARM_LDST64B "Arm: an access of 64 bytes to the memory of a device that the VMM emulates.";
    SNP_REQ_CERTS "A guest under SEV-SNP asks for its attestation, for which the VMM has the certificates.";
};

macro_rules! errors {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// Errors by number (include/uapi/asm-generic/errno-base.h and errno.h). KVM returns few of them.
const ERRORS: &[(i32, &str)] = errors! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV
    ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK
    ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ENODATA ETIME EPROTO EBADMSG EOVERFLOW EILSEQ ERESTART
    EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT EOPNOTSUPP EADDRINUSE EADDRNOTAVAIL ENETDOWN ECONNABORTED ECONNRESET
    ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED EHOSTDOWN EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED
    ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON
};

macro_rules! failures {
    ($($name:ident $what:literal;)*) => { &[$((libc::$name, UserExit { name: stringify!($name), what: $what })),*] };
}

/// Errors that KVM_RUN returns on x86, by what made it fail: Documentation/virt/kvm/api.rst, "KVM_RUN", and the returns
/// of vcpu_run() in arch/x86/kvm/x86.c.
pub const FAILURES: &[(i32, UserExit)] = failures! {
    EINTR "A signal came for the vCPU's thread; most tools show it as INTR.";
    EAGAIN "The vCPU waits to be started, or an event cut KVM short: the VMM calls KVM_RUN again.";
    EFAULT "The guest used memory whose page the VMM's process does not have: unmapped, truncated, or a failed device.";
    EHWPOISON "The guest used memory that has a hardware error.";
    ENOMEM "The host has no memory for KVM's page tables.";
    EINVAL "The state that the VMM gave the vCPU is none.";
    EIO "The VM is broken: KVM met a bug of its own or of the guest's memory, and runs it no more.";
    EPERM "The vCPU may not run: a confidential guest's is not ready, or belongs to another process.";
    ENOEXEC "The vCPU has not been initialized.";
    ENOSYS "KVM does not offer what the vCPU is set up for.";
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_have_the_kernels_names() {
        let shown = |number| name(UserReason(number)).into_owned();
        assert_eq!([2, 6, 10, 37, 43].map(shown), ["IO", "MMIO", "INTR", "NOTIFY", "SNP_REQ_CERTS"]);
        assert_eq!([44, i32::MAX].map(shown), ["KVM_EXIT_44", "KVM_EXIT_2147483647"]);
        assert_eq!([-14, -4, -133, -41].map(shown), ["EFAULT", "EINTR", "EHWPOISON", "ERRNO_41"]);
        assert_eq!(shown(i32::MIN), "ERRNO_2147483648");
    }

    /// `<linux/kvm.h>` has its reasons in one block, between other names that begin alike.
    #[test]
    fn the_table_is_the_installed_headers() {
        let path = "/usr/include/linux/kvm.h";
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{path}: {error}: apt-get install linux-libc-dev"));
        let block = text.lines().skip_while(|line| !line.starts_with("#define KVM_EXIT_UNKNOWN"));
        let defined: Vec<(&str, i32)> = block
            .map_while(|line| line.strip_prefix("#define KVM_EXIT_"))
            .map(|line| {
                let mut words = line.split_whitespace();
                (words.next().unwrap(), words.next().unwrap().parse().unwrap())
            })
            .collect();
        assert!(defined.len() >= 38, "only {} reasons read from {path}", defined.len());
        for (theirs, number) in defined {
            assert_eq!(name(UserReason(number)), theirs, "{path}: KVM_EXIT_{theirs} is {number}");
        }
        // What came after Linux 6.1's header, from where the guest's own bindings have it.
        assert_eq!(name(UserReason(kvm_bindings::KVM_EXIT_MEMORY_FAULT.cast_signed())), "MEMORY_FAULT");
        assert_eq!(name(UserReason(kvm_bindings::KVM_EXIT_LOONGARCH_IOCSR.cast_signed())), "LOONGARCH_IOCSR");
    }

    #[test]
    fn every_entry_is_one_sentence_and_no_name_comes_twice() {
        let mut names = HashSet::new();
        for exit in EXITS {
            assert!(names.insert(exit.name), "{} twice", exit.name);
            assert!(exit.what.ends_with('.') && exit.what.is_ascii(), "{}: {:?}", exit.name, exit.what);
        }
        assert!(ERRORS.iter().all(|(_, name)| names.insert(name)));
        for (number, failure) in FAILURES {
            assert_eq!(name(UserReason(-number)), failure.name);
            assert!(failure.what.ends_with('.') && failure.what.is_ascii(), "{}", failure.name);
        }
    }

    proptest! {
        #[test]
        fn distinct_reasons_have_distinct_names(
            a in prop_oneof![-200..200, any::<i32>()],
            b in prop_oneof![-200..200, any::<i32>()],
        ) {
            prop_assert_eq!(name(UserReason(a)) == name(UserReason(b)), a == b);
        }
    }
}
