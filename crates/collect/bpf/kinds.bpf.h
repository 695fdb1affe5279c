/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Kinds of details: their numbers, and which reasons have them. details.bpf.h reads the details themselves.
 */
#ifndef EXITSCOPE_KINDS_BPF_H
#define EXITSCOPE_KINDS_BPF_H

/* Numbers as in exitscope_model::DetailKind. */
enum detail_kind {
	KIND_NONE = 0,
	KIND_PORT = 1,
	KIND_MSR = 2,
};

#ifdef __bpf__

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Codes of exits (SDM vol. 3, appendix C; APM vol. 2, appendix C). */
enum {
	VMX_IO = 30,
	VMX_RDMSR = 31,
	VMX_WRMSR = 32,
	SVM_IOIO = 0x7b,
	SVM_MSR = 0x7c,
};

/* The kind of detail that exits for a code of VMX have. */
static __always_inline u32 kind_of_vmx(u64 code)
{
	switch (code) {
	case VMX_IO:
		return KIND_PORT;
	case VMX_RDMSR:
	case VMX_WRMSR:
		return KIND_MSR;
	}
	return KIND_NONE;
}

/* The same of SVM. */
static __always_inline u32 kind_of_svm(u64 code)
{
	switch (code) {
	case SVM_IOIO:
		return KIND_PORT;
	case SVM_MSR:
		return KIND_MSR;
	}
	return KIND_NONE;
}

#endif
#endif
