/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Attachment of programs to KVM: to its tracepoints and functions with arguments typed by BTF; or, where a kernel has no
 * BTF of KVM's modules, on the same tracepoints raw, and on functions by kprobes, which cost more and are rare.
 */
#ifndef EXITSCOPE_ATTACH_BPF_H
#define EXITSCOPE_ATTACH_BPF_H

#include "compat.bpf.h"
#include "twice.bpf.h"

#ifdef WITHOUT_KVM_TYPES

#define EVENT "raw_tp/"
#define CALL "kprobe/"
/* A program on a function whose first argument is a vCPU. */
#define ON_VCPU(name, parameter)                        \
	name(struct pt_regs *ctx);                      \
	static __always_inline int name##_of(parameter); \
	int name(struct pt_regs *ctx)                   \
	{                                               \
		return name##_of((void *)ctx->di);      \
	}                                               \
	static __always_inline int name##_of(parameter)
/* Nothing preempts a kprobe, so there is no second program. */
#define TWICE_ON_VCPU(section, name, parameter)                                                      \
	static __always_inline int name##_runs(u32 again, parameter);                                \
	SEC(section) int ON_VCPU(name, struct kvm_vcpu *vcpu) { return name##_runs(0, vcpu); }       \
	static __always_inline int name##_runs(u32 again, parameter)

#else

#define EVENT "tp_btf/"
#define CALL "fentry/"
#define ON_VCPU(name, parameter) BPF_PROG(name, parameter)
#define TWICE_ON_VCPU(section, name, parameter) TWICE(section, name, parameter)

#endif

#endif
