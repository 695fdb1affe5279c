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

struct kvm;

struct kvm_vcpu_stat_generic {
	u64 halt_poll_success_ns, halt_poll_fail_ns;
};

struct kvm_vcpu_stat {
	struct kvm_vcpu_stat_generic generic;
	u64 exits;
};

struct kvm_vcpu_arch {
	u32 mp_state;
};

struct kvm_vcpu {
	struct kvm *kvm;
	int vcpu_id;
	struct kvm_vcpu_arch arch;
	struct kvm_vcpu_stat stat;
};

union vmx_exit_reason {
	u32 full;
};

struct vcpu_vmx {
	struct kvm_vcpu vcpu;
	union vmx_exit_reason exit_reason;
};

/* VMX and TDX share a struct in 7.3, not yet in 6.12 (arch/x86/kvm/vmx/common.h). */
struct vcpu_vt {
	union vmx_exit_reason exit_reason;
};

struct vcpu_vmx___vt {
	struct vcpu_vt vt;
};

struct vmcb_control_area {
	u32 exit_code;
};

struct vmcb {
	struct vmcb_control_area control;
};

struct vcpu_svm {
	struct kvm_vcpu vcpu;
	struct vmcb *vmcb;
};

/* Of vmlinux itself, which bpf_rdonly_cast() can name; its first member is an s64. */
struct timespec64 {
	s64 tv_sec;
};

#pragma clang attribute pop

/* Since 6.2: a plain load, where a probe read is a call of some 90 instructions. */
extern void *bpf_rdonly_cast(const void *obj, u32 btf_id) __ksym __weak;

/* Eight bytes of kernel memory, 0 where there is none. */
static __always_inline u64 load_u64(const void *address)
{
	u64 value = 0;

	if (bpf_ksym_exists(bpf_rdonly_cast)) {
		const struct timespec64 *any = bpf_rdonly_cast(address, bpf_core_type_id_kernel(struct timespec64));

		return any->tv_sec;
	}
	bpf_probe_read_kernel(&value, sizeof(value), address);
	return value;
}

/*
 * The exit reason of VMX: all 32 bits of it, the failed-entry bit too. Where it lies is known from the
 * type information of the kernel's modules; struct kvm_vcpu is the first member of vcpu_vmx
 * (BUILD_BUG_ON in arch/x86/kvm/vmx/vmx.c) and of vcpu_svm (arch/x86/kvm/svm/svm.c).
 */
static __always_inline s64 vmx_code(struct kvm_vcpu *vcpu)
{
	u64 offset;

	if (bpf_core_field_exists(struct vcpu_vmx___vt, vt.exit_reason))
		offset = bpf_core_field_offset(struct vcpu_vmx___vt, vt.exit_reason);
	else
		offset = bpf_core_field_offset(struct vcpu_vmx, exit_reason);
	return (u32)load_u64((void *)vcpu + offset);
}

/* The field is 64 bits wide in 7.3, 32 in 6.12 (struct vmcb_control_area, arch/x86/include/asm/svm.h). */
static __always_inline s64 svm_code(struct kvm_vcpu *vcpu)
{
	u64 vmcb = load_u64((void *)vcpu + bpf_core_field_offset(struct vcpu_svm, vmcb));
	u64 code = load_u64((void *)vmcb + bpf_core_field_offset(struct vmcb, control.exit_code));

	return bpf_core_field_size(struct vmcb, control.exit_code) == 4 ? (u32)code : code;
}

/* The types of a vendor's module are there only while it is loaded; the other one never sees an exit then. */
static __always_inline s64 code_of(struct kvm_vcpu *vcpu, u32 isa)
{
	if (!bpf_core_type_exists(struct vcpu_svm))
		return vmx_code(vcpu);
	if (!bpf_core_type_exists(struct vcpu_vmx))
		return svm_code(vcpu);
	return isa == ISA_VMX ? vmx_code(vcpu) : svm_code(vcpu);
}

#endif
