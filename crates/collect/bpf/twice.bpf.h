/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Programs that the kernel may preempt, and that must not be skipped for it.
 */
#ifndef EXITSCOPE_TWICE_BPF_H
#define EXITSCOPE_TWICE_BPF_H

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/*
 * The kernel skips a program where another thread was preempted within the same one on that CPU, be it for a second. Where
 * that can be (see features.rs), a program that must not be skipped is loaded twice, as `name` and `name_again`, and both are
 * attached: one of them runs, unless a thread was preempted in each. Most often both run, `name` first and `name_again` right
 * after it. `again` is 0 and 1 in them, for what must not be done twice: see is_done() in split.bpf.h.
 */
#define TWICE(section, name, args...)                                                       \
	static __always_inline int name##_runs(u32 again, unsigned long long *ctx, ##args); \
	SEC(section) int name(unsigned long long *ctx)                                      \
	{                                                                                   \
		UNTYPED(return name##_runs(0, ___bpf_ctx_cast(args)));                      \
	}                                                                                   \
	SEC(section) int name##_again(unsigned long long *ctx)                              \
	{                                                                                   \
		UNTYPED(return name##_runs(1, ___bpf_ctx_cast(args)));                      \
	}                                                                                   \
	static __always_inline int name##_runs(u32 again, unsigned long long *ctx, ##args)

/* A statement that passes what a program is given, which are 64-bit words, as pointers or narrower numbers. */
#define UNTYPED(statement)                                                                               \
	_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wint-conversion\"") statement; \
	_Pragma("GCC diagnostic pop")

#endif
