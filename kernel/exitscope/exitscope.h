/* SPDX-License-Identifier: GPL-2.0 */
/* Interface of exitscope to the rest of KVM: the hook in the exit path, and a vCPU's beginning and end. */
#ifndef __KVM_X86_EXITSCOPE_H
#define __KVM_X86_EXITSCOPE_H

#include <linux/jump_label.h>
#include <linux/kvm_host.h>

/*
 * struct kvm_vcpu is longer here than where it was not patched, and the vendor modules' structures begin with it. Debian's kernels
 * have no MODVERSIONS to refuse a vendor module that was built with the other length: it would overwrite the counters' pointer
 * with its own. So what every vendor module needs has another name here, and one that is not ours does not load. (Ours need
 * exitscope_count(), which KVM elsewhere has not.)
 */
#define kvm_x86_vendor_init exitscope_x86_vendor_init

DECLARE_STATIC_KEY_FALSE(exitscope_enabled);

void exitscope_count(void *counters, u64 code, u64 kvm_exits);

int exitscope_init(void);
void exitscope_exit(void);
int exitscope_vcpu_create(struct kvm_vcpu *vcpu);
void exitscope_vcpu_destroy(struct kvm_vcpu *vcpu);

/*
 * Counts one exit of @vcpu. Interrupts are off, as they are where the hooks stand. Switched off, this is one no-op.
 * KVM increments its own statistic later, so it is what that was before this exit.
 */
static __always_inline void exitscope_hook(struct kvm_vcpu *vcpu, u64 code)
{
	if (static_branch_unlikely(&exitscope_enabled))
		exitscope_count(vcpu->exitscope, code, vcpu->stat.exits);
}

#endif
