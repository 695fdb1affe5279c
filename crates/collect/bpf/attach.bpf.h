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

#else

#define EVENT "tp_btf/"
#define CALL "fentry/"
#define ON_VCPU(name, parameter) BPF_PROG(name, parameter)

#endif

#endif
