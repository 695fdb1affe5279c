/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Kinds of details: their numbers, which reasons have them, and how each is read. All that a new kind needs of BPF is here.
 *
 * The header has two parts. wire.h takes the first; details.bpf.h, where what reads a vCPU is known, takes the second.
 */
#ifndef EXITSCOPE_KINDS_BPF_H
#define EXITSCOPE_KINDS_BPF_H

/* Numbers as in exitscope_model::DetailKind. */
enum detail_kind {
	KIND_NONE = 0,
	KIND_PORT = 1,
	KIND_MSR = 2,
	KIND_GPA = 3,
	KIND_CPUID = 4,
	KIND_HYPERCALL = 5,
	KIND_CR = 6,
	KIND_DR = 7,
	KIND_APIC = 8,
	KIND_VECTOR = 9,
	KIND_HOST_VECTOR = 10,
	KIND_PMC = 11,
	KIND_TASK = 12,
	KIND_XCR = 13,
	KIND_MWAIT = 14,
};

#ifdef __bpf__

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Codes of exits (SDM vol. 3, appendix C; APM vol. 2, appendix C). */
enum {
	VMX_EXCEPTION = 0,
	VMX_INTERRUPT = 1,
	VMX_TASK_SWITCH = 9,
	VMX_CPUID = 10,
	VMX_RDPMC = 15,
	VMX_VMCALL = 18,
	VMX_CR_ACCESS = 28,
	VMX_DR_ACCESS = 29,
	VMX_IO = 30,
	VMX_RDMSR = 31,
	VMX_WRMSR = 32,
	VMX_MWAIT = 36,
	VMX_APIC_ACCESS = 44,
	VMX_EOI_INDUCED = 45,
	VMX_EPT_VIOLATION = 48,
	VMX_EPT_MISCONFIG = 49,
	VMX_XSETBV = 55,
	VMX_APIC_WRITE = 56,
	SVM_CR_READ = 0x00,
	SVM_CR_WRITE = 0x10,
	SVM_DR_READ = 0x20,
	SVM_DR_WRITE = 0x30,
	SVM_DR_LAST = 0x3f,
	SVM_CR0_SELECTIVE = 0x65,
	SVM_RDPMC = 0x6f,
	SVM_CPUID = 0x72,
	SVM_IOIO = 0x7b,
	SVM_MSR = 0x7c,
	SVM_TASK_SWITCH = 0x7d,
	SVM_VMMCALL = 0x81,
	SVM_MWAIT = 0x8b,
	SVM_MWAIT_ARMED = 0x8c,
	SVM_XSETBV = 0x8d,
	SVM_NPF = 0x400,
	SVM_AVIC_IPI = 0x401,
	SVM_AVIC_ACCESS = 0x402,
};

/* The kind of detail that exits for a code of VMX have. */
static __always_inline u32 kind_of_vmx(u64 code)
{
	switch (code) {
	case VMX_EXCEPTION:
		return KIND_VECTOR;
	case VMX_INTERRUPT:
		return KIND_HOST_VECTOR;
	case VMX_TASK_SWITCH:
		return KIND_TASK;
	case VMX_CPUID:
		return KIND_CPUID;
	case VMX_RDPMC:
		return KIND_PMC;
	case VMX_VMCALL:
		return KIND_HYPERCALL;
	case VMX_CR_ACCESS:
		return KIND_CR;
	case VMX_DR_ACCESS:
		return KIND_DR;
	case VMX_IO:
		return KIND_PORT;
	case VMX_RDMSR:
	case VMX_WRMSR:
		return KIND_MSR;
	case VMX_MWAIT:
		return KIND_MWAIT;
	case VMX_APIC_ACCESS:
	case VMX_EOI_INDUCED:
	case VMX_APIC_WRITE:
		return KIND_APIC;
	case VMX_EPT_VIOLATION:
	case VMX_EPT_MISCONFIG:
		return KIND_GPA;
	case VMX_XSETBV:
		return KIND_XCR;
	}
	return KIND_NONE;
}

/* The same of SVM. */
static __always_inline u32 kind_of_svm(u64 code)
{
	if (code < SVM_DR_READ)
		return KIND_CR;
	if (code <= SVM_DR_LAST)
		return KIND_DR;
	switch (code) {
	case SVM_CR0_SELECTIVE:
		return KIND_CR;
	case SVM_RDPMC:
		return KIND_PMC;
	case SVM_CPUID:
		return KIND_CPUID;
	case SVM_IOIO:
		return KIND_PORT;
	case SVM_MSR:
		return KIND_MSR;
	case SVM_TASK_SWITCH:
		return KIND_TASK;
	case SVM_VMMCALL:
		return KIND_HYPERCALL;
	case SVM_MWAIT:
	case SVM_MWAIT_ARMED:
		return KIND_MWAIT;
	case SVM_XSETBV:
		return KIND_XCR;
	case SVM_NPF:
		return KIND_GPA;
	case SVM_AVIC_IPI:
	case SVM_AVIC_ACCESS:
		return KIND_APIC;
	}
	return KIND_NONE;
}

#endif
#endif

#if defined(EXITSCOPE_DETAILS_BPF_H) && !defined(EXITSCOPE_READ_KINDS)
#define EXITSCOPE_READ_KINDS

/* Attributes of one kind. */
enum {
	PORT_STRING = 1 << DETAIL_FLAG_SHIFT,
	PORT_REP = 2 << DETAIL_FLAG_SHIFT,
	PORT_DOORBELL = 4 << DETAIL_FLAG_SHIFT, /* KVM has signalled an ioeventfd */
	GPA_MEMORY = 1 << DETAIL_FLAG_SHIFT, /* the key is that of 2 MiB of memory */
	GPA_READ_ONLY = 2 << DETAIL_FLAG_SHIFT,
	GPA_DIRTY_LOGGED = 4 << DETAIL_FLAG_SHIFT,
	GPA_FETCH = 8 << DETAIL_FLAG_SHIFT,
	GPA_DOORBELL = 16 << DETAIL_FLAG_SHIFT,
	CR_CLTS = 1 << DETAIL_FLAG_SHIFT,
	CR_LMSW = 2 << DETAIL_FLAG_SHIFT,
};

/* Keys of kind APIC from here on are vectors that were ended. */
enum { APIC_EOI = 0x1000 };

/*
 * A port: SVM has it in EXITINFO1 (APM vol. 2, 15.10.2): port in bits 31:16, IN in bit 0, string in bit 2, REP in bit 3, and
 * one of bits 4 to 6 for 1, 2 or 4 bytes. VMX has it in the exit qualification (SDM vol. 3, "Exit Qualification for I/O
 * Instructions"): port in bits 31:16, size less one in bits 2:0, IN in bit 3, string in bit 4, REP in bit 5.
 */
static __always_inline void read_port(struct vcpu_slot *slot, struct detail_key *detail)
{
	u64 info;
	u32 size;

	if (isa_of(slot) == ISA_SVM) {
		info = svm_info(slot);
		size = info >> 4 & 7;
		detail->attributes = (info & 1 ? 0 : DETAIL_WRITE) | (info & 4 ? PORT_STRING : 0) | (info & 8 ? PORT_REP : 0);
	} else {
		if (!read_qualification(slot, detail, &info))
			return;
		size = (info & 7) + 1;
		detail->attributes =
			(info & 8 ? 0 : DETAIL_WRITE) | (info & 16 ? PORT_STRING : 0) | (info & 32 ? PORT_REP : 0);
	}
	detail->attributes |= size << DETAIL_SIZE_SHIFT;
	detail->key = (u16)(info >> 16);
	if (slot->rang == detail->key + 1)
		detail->attributes |= PORT_DOORBELL;
}

/* An MSR: its number is in ECX. That it was written SVM tells in EXITINFO1 (APM vol. 2, 15.11), and VMX by the reason. */
static __always_inline void read_msr(struct vcpu_slot *slot, struct detail_key *detail, s64 code)
{
	detail->key = (u32)guest_register(slot, RCX);
	if (isa_of(slot) == ISA_SVM)
		detail->attributes = svm_info(slot) & 1;
	else
		detail->attributes = code == VMX_WRMSR ? DETAIL_WRITE : 0;
}

/*
 * A guest-physical address: SVM has it in EXITINFO2, and how it was used in EXITINFO1, as a page fault's error code
 * (APM vol. 2, 15.25.6). VMX has it in the VMCS alone, and on_page_fault() hears of it.
 *
 * Where there is no memory, KVM marks the page as reserved, which the error code of later exits says, and notes it as the
 * page of the last access to a device (vcpu_cache_mmio_info(), arch/x86/kvm/x86.h). Of memory, the 2 MiB are the detail.
 */
static __always_inline void read_gpa(struct vcpu_slot *slot, struct detail_key *detail)
{
	enum { WRITE = 2, RESERVED = 8, FETCH = 16 };
	u64 error, slot_at, gfn, vcpu = slot->key;
	u32 flags;

	if (isa_of(slot) == ISA_SVM) {
		error = svm_info(slot);
		detail->key = svm_info_2(slot);
	} else {
		if (slot->hooked.kind != KIND_GPA) {
			detail->kind = KIND_NONE;
			return;
		}
		error = slot->hooked.attributes;
		detail->key = slot->hooked.key;
	}
	detail->attributes = error & WRITE ? DETAIL_WRITE : error & FETCH ? GPA_FETCH : 0;
	if (slot->rang && slot->rang == detail->key + 1) {
		detail->attributes |= GPA_DOORBELL;
		return;
	}
	gfn = detail->key >> 12;
	if (error & RESERVED || load_u64((void *)vcpu + bpf_core_field_offset(struct kvm_vcpu, arch.mmio_gfn)) == gfn)
		return;
	detail->key &= ~((2ull << 20) - 1);
	detail->attributes |= GPA_MEMORY;
	/* The slot in which KVM has just looked for the page. */
	if (!bpf_core_field_exists(struct kvm_vcpu, last_used_slot))
		return;
	slot_at = load_u64((void *)vcpu + bpf_core_field_offset(struct kvm_vcpu, last_used_slot));
	if (!slot_at)
		return;
	gfn -= load_u64((void *)slot_at + bpf_core_field_offset(struct kvm_memory_slot, base_gfn));
	if (gfn >= load_u64((void *)slot_at + bpf_core_field_offset(struct kvm_memory_slot, npages)))
		return;
	/* KVM_MEM_LOG_DIRTY_PAGES and KVM_MEM_READONLY, include/uapi/linux/kvm.h. */
	flags = load_u64((void *)slot_at + bpf_core_field_offset(struct kvm_memory_slot, flags));
	detail->attributes |= (flags & 2 ? GPA_READ_ONLY : 0) | (flags & 1 ? GPA_DIRTY_LOGGED : 0);
}

/*
 * A control register: SVM has a code for each; VMX has it in the exit qualification, register in bits 3:0 and in bits 5:4
 * MOV to it, MOV from it, CLTS, LMSW (SDM vol. 3, "Exit Qualification for Control-Register Accesses").
 */
static __always_inline void read_cr(struct vcpu_slot *slot, struct detail_key *detail, u64 code)
{
	u64 info;

	if (isa_of(slot) == ISA_SVM) {
		detail->key = code == SVM_CR0_SELECTIVE ? 0 : code & 15;
		detail->attributes = code >= SVM_CR_WRITE ? DETAIL_WRITE : 0;
		return;
	}
	if (!read_qualification(slot, detail, &info))
		return;
	detail->key = info & 15;
	switch (info >> 4 & 3) {
	case 0:
		detail->attributes = DETAIL_WRITE;
		break;
	case 2:
		detail->attributes = DETAIL_WRITE | CR_CLTS;
		break;
	case 3:
		detail->attributes = DETAIL_WRITE | CR_LMSW;
		break;
	}
}

/*
 * A debug register: SVM has a code for each; VMX has it in the exit qualification, register in bits 2:0 and MOV from it in
 * bit 4 (SDM vol. 3, "Exit Qualification for MOV DR").
 */
static __always_inline void read_dr(struct vcpu_slot *slot, struct detail_key *detail, u64 code)
{
	u64 info;

	if (isa_of(slot) == ISA_SVM) {
		detail->key = code & 15;
		detail->attributes = code >= SVM_DR_WRITE ? DETAIL_WRITE : 0;
		return;
	}
	if (!read_qualification(slot, detail, &info))
		return;
	detail->key = info & 7;
	detail->attributes = info & 16 ? 0 : DETAIL_WRITE;
}

/*
 * A register of the local APIC by its offset, or the vector that was ended. VMX: exit qualification, offset in bits 11:0,
 * for an access that it was a write in bits 15:12 (SDM vol. 3, "Exit Qualification for APIC-Access VM Exits"). AVIC: the ICR
 * was written, or EXITINFO1 has the offset in bits 11:4 and a write in bit 32 (APM vol. 2, 15.29.9).
 */
static __always_inline void read_apic(struct vcpu_slot *slot, struct detail_key *detail, u64 code)
{
	enum { ICR = 0x300 };
	u64 info;

	if (code == SVM_AVIC_IPI) {
		detail->key = ICR;
		detail->attributes = DETAIL_WRITE;
		return;
	}
	if (code == SVM_AVIC_ACCESS) {
		info = svm_info(slot);
		detail->key = info & 0xff0;
		detail->attributes = info >> 32 & 1 ? DETAIL_WRITE : 0;
		return;
	}
	if (!read_qualification(slot, detail, &info))
		return;
	detail->key = code == VMX_EOI_INDUCED ? APIC_EOI | (info & 0xff) : info & 0xfff;
	if (code != VMX_APIC_ACCESS || (info >> 12 & 15) == 1)
		detail->attributes = DETAIL_WRITE;
}

/*
 * The number of the interrupt that a vector of this CPU stands for, plus 1; 0 for the kernel's own vectors. A vCPU whose
 * thread has moved since the exit is on another CPU by now, where the vector may be another device's.
 */
static __always_inline u64 irq_of(u8 vector)
{
	enum { FIRST = 0x20, SYSTEM = 0xeb }; /* FIRST_EXTERNAL_VECTOR; the least of the kernel's own, asm/irq_vectors.h */
	struct irq_desc **all;
	u64 of;

	if (!bpf_ksym_exists(vector_irq) || vector < FIRST || vector >= SYSTEM)
		return 0;
	all = bpf_this_cpu_ptr(&vector_irq);
	of = (u64)all[vector];
	/* Nobody's any more, or about to move: the kernel has small negative numbers there. */
	if (!of || of >= (u64)-4095)
		return 0;
	return (u64)(u32)load_u64((void *)of + bpf_core_field_offset(struct irq_desc, irq_data.irq)) + 1;
}

/* The vector of an exception or of a host's interrupt: bits 7:0 of the exit interruption information (SDM vol. 3). */
static __always_inline void read_vector(struct vcpu_slot *slot, struct detail_key *detail)
{
	if (!has_interruption(slot)) {
		detail->kind = KIND_NONE;
		return;
	}
	detail->key = (u8)load_u64((void *)slot->intr_at);
	if (detail->kind == KIND_HOST_VECTOR)
		detail->key |= irq_of(detail->key) << 32;
}

/* The selector of the task: SVM in EXITINFO1 (APM vol. 2, 15.14.1), VMX in the exit qualification, bits 15:0 of either. */
static __always_inline void read_task(struct vcpu_slot *slot, struct detail_key *detail)
{
	u64 info;

	if (isa_of(slot) == ISA_SVM)
		info = svm_info(slot);
	else if (!read_qualification(slot, detail, &info))
		return;
	detail->key = (u16)info;
}

/* Reads what the exit for `code` that is being handled is about; kind 0 where that cannot be known. */
static __always_inline void read_kind(struct vcpu_slot *slot, struct detail_key *detail, u64 code)
{
	switch (detail->kind) {
	case KIND_PORT:
		read_port(slot, detail);
		break;
	case KIND_MSR:
		read_msr(slot, detail, code);
		break;
	case KIND_GPA:
		read_gpa(slot, detail);
		break;
	case KIND_CPUID:
	case KIND_HYPERCALL:
		/* Handling overwrites the registers: hooks.bpf.h hears of them. */
		if (slot->hooked.kind == detail->kind)
			detail->key = slot->hooked.key;
		else
			detail->kind = KIND_NONE;
		break;
	case KIND_CR:
		read_cr(slot, detail, code);
		break;
	case KIND_DR:
		read_dr(slot, detail, code);
		break;
	case KIND_APIC:
		read_apic(slot, detail, code);
		break;
	case KIND_VECTOR:
	case KIND_HOST_VECTOR:
		read_vector(slot, detail);
		break;
	case KIND_PMC:
	case KIND_XCR:
		/* RDPMC, XSETBV: the number is in ECX, which stays. */
		detail->key = (u32)guest_register(slot, RCX);
		break;
	case KIND_MWAIT:
		/* The hint is in EAX (SDM vol. 2, MWAIT; APM vol. 3, MWAIT), which stays. */
		detail->key = (u32)guest_register(slot, RAX);
		break;
	case KIND_TASK:
		read_task(slot, detail);
		break;
	}
}

#endif
