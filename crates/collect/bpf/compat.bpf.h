/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * The kernel's types, as little of them as is needed, and what differs between kernels. Differences are
 * probed for by field, never by version.
 */
#ifndef EXITSCOPE_COMPAT_BPF_H
#define EXITSCOPE_COMPAT_BPF_H

#include "wire.h"
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct mm_struct {
	unsigned long arg_start, arg_end;
};

/* CONFIG_SCHED_INFO, which task delay accounting and scheduler statistics need. */
struct sched_info {
	unsigned long long run_delay;
};

struct task_struct {
	int pid, tgid;
	struct sched_info sched_info;
	struct task_struct *group_leader;
	u64 start_boottime;
	struct mm_struct *mm;
	char comm[COMM_BYTES];
};

struct kvm_arch {
	u64 vm_type; /* of 8 bytes in some kernels and of one in others */
};

struct kvm {
	struct kvm_arch arch;
};

struct kvm_memory_slot {
	u64 base_gfn;
	unsigned long npages;
	u32 flags;
};

struct kvm_vcpu_stat_generic {
	u64 halt_poll_success_ns, halt_poll_fail_ns;
};

struct kvm_vcpu_stat {
	struct kvm_vcpu_stat_generic generic;
	u64 exits;
};

struct kvm_vcpu_arch {
	unsigned long regs[17];
	u32 regs_avail;
	unsigned long cr0;
	u64 efer;
	u32 mp_state;
	u64 mmio_gfn;
	u64 last_guest_tsc, l1_tsc_offset, l1_tsc_scaling_ratio;
	_Bool guest_state_protected;
};

struct preempt_notifier {};

struct kvm_vcpu {
	struct kvm *kvm;
	struct preempt_notifier preempt_notifier;
	int vcpu_id;
	struct kvm_memory_slot *last_used_slot;
	struct kvm_vcpu_arch arch;
	struct kvm_vcpu_stat stat;
};

union vmx_exit_reason {
	u32 full;
};

struct loaded_vmcs {
	void *vmcs;
};

struct nested_vmx {
	struct loaded_vmcs vmcs02;
};

struct vcpu_vmx {
	struct kvm_vcpu vcpu;
	union vmx_exit_reason exit_reason;
	unsigned long exit_qualification;
	u32 exit_intr_info;
	struct nested_vmx nested;
	struct loaded_vmcs *loaded_vmcs;
};

/* VMX and TDX share a struct in 7.3, not yet in 6.12 (arch/x86/kvm/vmx/common.h). */
struct vcpu_vt {
	union vmx_exit_reason exit_reason;
	unsigned long exit_qualification;
	u32 exit_intr_info;
};

struct vcpu_vmx___vt {
	struct vcpu_vt vt;
};

struct kvm_vmcb_info {
	struct vmcb *ptr;
};

struct svm_nested_state {
	struct kvm_vmcb_info vmcb02;
};

struct vcpu_svm {
	struct kvm_vcpu vcpu;
	struct vmcb *vmcb;
	struct kvm_vmcb_info vmcb01;
	struct svm_nested_state nested;
};

/* An interrupt of the host's: its number is that of /proc/interrupts. */
struct irq_data {
	u32 irq;
};

struct irq_desc {
	struct irq_data irq_data;
};

/* Newer kernels have a bitmap there. */
struct kvm_vcpu_arch___bitmap {
	unsigned long regs_avail[1];
};

struct kvm_vcpu___bitmap {
	struct kvm_vcpu_arch___bitmap arch;
};

/* And the instruction pointer beside the other registers, not among them. */
struct kvm_vcpu_arch___rip {
	unsigned long rip;
};

struct kvm_vcpu___rip {
	struct kvm_vcpu_arch___rip arch;
};

#pragma clang attribute pop

/* The name, from which the kernel's number is taken: that moves; and the name that newer kernels have for it. */
enum kvm_reg {
	VCPU_EXREG_EXIT_INFO_1,
	VCPU_EXREG_EXIT_INFO_2,
};

enum kvm_reg___newer {
	VCPU_REG_EXIT_INFO_1,
	VCPU_REG_EXIT_INFO_2,
};

/* Whose interrupt a vector of this CPU is: arch/x86/include/asm/hw_irq.h. */
extern struct irq_desc *vector_irq[256] __ksym __weak;

/*
 * Since 6.2: a plain load, where a probe read is a call of some 90 instructions. The programs are compiled with it and
 * without, because a question about it in a program would cost an instruction wherever it is asked.
 */
#ifdef HAS_RDONLY_CAST
extern void *bpf_rdonly_cast(const void *obj, u32 btf_id) __ksym;
#endif

/*
 * bpf_rdonly_cast() can name types of vmlinux itself, not those of KVM's modules. There are two, fixed by
 * what user space knows of them, that serve: one begins with a pointer to the other, and that has a 64-bit
 * number at the offset where a VMCB has EXITCODE (APM vol. 2, appendix B: 070h).
 */
struct pt_regs {
	u64 before[14];
	u64 di;
};

struct bpf_perf_event_data_kern {
	struct pt_regs *regs;
};

enum { VMCB_EXITCODE = 0x70 };

_Static_assert(__builtin_offsetof(struct pt_regs, di) == VMCB_EXITCODE, "where a VMCB has EXITCODE");

/* Eight bytes of kernel memory, 0 where there is none. */
static __always_inline u64 load_u64(const void *address)
{
#ifdef HAS_RDONLY_CAST
	const struct pt_regs *any = bpf_rdonly_cast(address, bpf_core_type_id_kernel(struct pt_regs));
	u64 value;

	/* In C, clang would make one load of this and of another one, by pointers that the verifier tells apart. */
	asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(value) : "r"(any));
	return value;
#else
	/* Which the kernel sets to 0 where it cannot read. */
	u64 value;

	bpf_probe_read_kernel(&value, sizeof(value), address);
	return value;
#endif
}

/*
 * Where a vCPU has its exit reason: VMX the reason itself, SVM the address of the VMCB. Known from the type information
 * of the kernel's modules; struct kvm_vcpu is the first member of vcpu_vmx (BUILD_BUG_ON in arch/x86/kvm/vmx/vmx.c) and
 * of vcpu_svm (arch/x86/kvm/svm/svm.c). Kept with the vCPU, it costs an exit one load.
 */
static __always_inline u64 code_at(u64 vcpu, u32 isa)
{
	if (isa == ISA_SVM)
		return vcpu + bpf_core_field_offset(struct vcpu_svm, vmcb);
	if (bpf_core_field_exists(struct vcpu_vmx___vt, vt.exit_reason))
		return vcpu + bpf_core_field_offset(struct vcpu_vmx___vt, vt.exit_reason);
	return vcpu + bpf_core_field_offset(struct vcpu_vmx, exit_reason);
}

/* Returns 1 if this kernel shows which guest (L1 or L2) a vCPU of this vendor runs. */
static __always_inline int knows_levels(u32 isa)
{
	return isa == ISA_SVM ? bpf_core_field_exists(struct vcpu_svm, vmcb) &&
					bpf_core_field_exists(struct vcpu_svm, nested.vmcb02.ptr) :
				bpf_core_field_exists(struct vcpu_vmx, loaded_vmcs) &&
					bpf_core_field_exists(struct vcpu_vmx, nested.vmcs02);
}

/*
 * Returns 1 if a vCPU runs a guest of its guest's (L2), or has just left one. KVM keeps a VMCB or VMCS for L2
 * beside L1's, and changes between them together with is_guest_mode(): svm_switch_vmcb() in
 * arch/x86/kvm/svm/svm.c, vmx_switch_vmcs() in arch/x86/kvm/vmx/nested.c.
 */
static __always_inline int in_l2(u64 vcpu, u32 isa)
{
	if (!knows_levels(isa))
		return 0;
	if (isa == ISA_SVM) {
		u64 l2 = load_u64((void *)vcpu + bpf_core_field_offset(struct vcpu_svm, nested.vmcb02.ptr));

		return l2 && load_u64((void *)vcpu + bpf_core_field_offset(struct vcpu_svm, vmcb)) == l2;
	}
	return load_u64((void *)vcpu + bpf_core_field_offset(struct vcpu_vmx, loaded_vmcs)) ==
	       vcpu + bpf_core_field_offset(struct vcpu_vmx, nested.vmcs02);
}

/* The exit reason of VMX: all 32 bits of it, the failed-entry bit too. */
static __always_inline s64 vmx_code(u64 code_at)
{
	return (u32)load_u64((void *)code_at);
}

/* The same of a vCPU that does not nest: see kept_code_at(). */
static __always_inline s64 vmx_kept_code(const struct vcpu_slot *slot)
{
	return vmx_code(slot->kept_code_at);
}

/*
 * The exit code of SVM. KVM has a field of 32 bits for it in 6.12, and of 64 in 7.3 (struct vmcb_control_area,
 * arch/x86/include/asm/svm.h); the hardware has 64 always.
 */
static __always_inline s64 svm_code(u64 code_at)
{
#ifdef HAS_RDONLY_CAST
	const struct bpf_perf_event_data_kern *vmcb =
		bpf_rdonly_cast((void *)code_at, bpf_core_type_id_kernel(struct bpf_perf_event_data_kern));

	return vmcb->regs->di;
#else
	return load_u64((void *)load_u64((void *)code_at) + VMCB_EXITCODE);
#endif
}

static __always_inline s64 svm_kept_code(const struct vcpu_slot *slot)
{
	return load_u64((void *)slot->kept_code_at);
}

/* The exit code of L1 or L2, whichever a vCPU runs now: each VMCB keeps its own until its guest exits again. */
static __always_inline s64 svm_code_of(u64 vcpu, int l2)
{
	return svm_code(vcpu + (l2 ? bpf_core_field_offset(struct vcpu_svm, nested.vmcb02.ptr) :
				     bpf_core_field_offset(struct vcpu_svm, vmcb01.ptr)));
}

/*
 * Where a vCPU that runs L1 now has its exit code itself. KVM changes a vCPU's VMCB for an L2 alone (svm_switch_vmcb() in
 * arch/x86/kvm/svm/svm.c), so that this stays as long as the vCPU does not nest.
 */
static __always_inline u64 kept_code_at(u64 code_at, u32 isa)
{
	return isa == ISA_SVM ? load_u64((void *)code_at) + VMCB_EXITCODE : code_at;
}

/*
 * True if a guest keeps its registers from the host, so that what KVM has in their place, or in that of the exit's
 * qualification, means something else: SEV-ES, SEV-SNP, TDX. The kind of VM says it where the kernel has that
 * (KVM_X86_SEV_ES_VM = 3 and later ones, arch/x86/include/uapi/asm/kvm.h); a TD under debug is one of them.
 */
static __always_inline int keeps_secrets(u64 vcpu)
{
	enum { SEV_ES = 3 };
	u64 kvm;

	if (bpf_core_field_exists(struct kvm, arch.vm_type)) {
		kvm = load_u64((void *)vcpu + bpf_core_field_offset(struct kvm_vcpu, kvm));
		if ((u8)load_u64((void *)kvm + bpf_core_field_offset(struct kvm, arch.vm_type)) >= SEV_ES)
			return 1;
	}
	return bpf_core_field_exists(struct kvm_vcpu, arch.guest_state_protected) &&
	       (u8)load_u64((void *)vcpu + bpf_core_field_offset(struct kvm_vcpu, arch.guest_state_protected));
}

/* Where a vCPU that was met has what its exits are about: see struct vcpu_slot. */
static __always_inline void find_details(struct vcpu_slot *slot, u64 vcpu)
{
	slot->regs_at = vcpu + bpf_core_field_offset(struct kvm_vcpu, arch.regs);
	slot->secret = keeps_secrets(vcpu);
	if (bpf_core_field_exists(struct vcpu_vmx___vt, vt.exit_qualification))
		slot->qual_at = vcpu + bpf_core_field_offset(struct vcpu_vmx___vt, vt.exit_qualification);
	else if (bpf_core_field_exists(struct vcpu_vmx, exit_qualification))
		slot->qual_at = vcpu + bpf_core_field_offset(struct vcpu_vmx, exit_qualification);
	if (bpf_core_field_exists(struct kvm_vcpu, arch.regs_avail))
		slot->avail_at = vcpu + bpf_core_field_offset(struct kvm_vcpu, arch.regs_avail);
	else if (bpf_core_field_exists(struct kvm_vcpu___bitmap, arch.regs_avail))
		slot->avail_at = vcpu + bpf_core_field_offset(struct kvm_vcpu___bitmap, arch.regs_avail);
	if (slot->avail_at && bpf_core_enum_value_exists(enum kvm_reg, VCPU_EXREG_EXIT_INFO_1))
		slot->avail_bit = 1ull << (bpf_core_enum_value(enum kvm_reg, VCPU_EXREG_EXIT_INFO_1) & 63);
	else if (slot->avail_at && bpf_core_enum_value_exists(enum kvm_reg___newer, VCPU_REG_EXIT_INFO_1))
		slot->avail_bit = 1ull << (bpf_core_enum_value(enum kvm_reg___newer, VCPU_REG_EXIT_INFO_1) & 63);
	if (bpf_core_field_exists(struct vcpu_vmx___vt, vt.exit_intr_info))
		slot->intr_at = vcpu + bpf_core_field_offset(struct vcpu_vmx___vt, vt.exit_intr_info);
	else if (bpf_core_field_exists(struct vcpu_vmx, exit_intr_info))
		slot->intr_at = vcpu + bpf_core_field_offset(struct vcpu_vmx, exit_intr_info);
	if (slot->avail_at && bpf_core_enum_value_exists(enum kvm_reg, VCPU_EXREG_EXIT_INFO_2))
		slot->intr_bit = 1ull << (bpf_core_enum_value(enum kvm_reg, VCPU_EXREG_EXIT_INFO_2) & 63);
	else if (slot->avail_at && bpf_core_enum_value_exists(enum kvm_reg___newer, VCPU_REG_EXIT_INFO_2))
		slot->intr_bit = 1ull << (bpf_core_enum_value(enum kvm_reg___newer, VCPU_REG_EXIT_INFO_2) & 63);
}

#endif
