// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * Details of exits that no emulator makes, for tests: of AVIC, of APIC virtualization, of guests that keep their registers
 * from the host. The code that reads them is that of exits.bpf.c. What KVM would have is made up, in a program of a kind that
 * BPF_PROG_TEST_RUN takes.
 */
/* What counts has no part in this. */
#pragma clang diagnostic ignored "-Wunused-function"
#include "count.bpf.h"
#include "compat.bpf.h"
#include "details.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* An exit as it is made up: by user space. */
struct made_up {
	u64 code;
	u64 info, info_2;   /* SVM: EXITINFO1 and 2; VMX: the exit qualification */
	u64 interruption;   /* VMX: the interruption information */
	u64 rax, rcx;
	u64 rang;
	struct detail_key hooked;
	u32 isa;
	u32 vm_type;        /* KVM_X86_..._VM */
	u32 is_protected;   /* guest_state_protected */
	u32 unread;         /* VMX: KVM has not read qualification and interruption information */
};

struct {
	struct made_up exit;
	struct detail_key detail; /* what it is about, by our code */
	u64 knows_types; /* this kernel's KVM knows kinds of VMs */
} madeup SEC(".data.madeup");

/* A struct kvm_vcpu and a struct kvm fit in, and what stands for a VMCB and for what VMX has, behind them. */
enum { VCPU_SPACE = 1 << 15, KVM_SPACE = 1 << 17, REST = VCPU_SPACE + KVM_SPACE, VMCB = REST, QUALIFICATION = REST + 1024 };
enum { AVAILABLE = QUALIFICATION + 8, INTERRUPTION = AVAILABLE + 8, SPACE = REST + 2048 };
static u8 space[SPACE] SEC(".bss.space");

#define PUT(at, type, value) *(type *)(space + (at)) = (value)

SEC("tc")
int madeup_detail(void *context)
{
	const struct made_up *in = &madeup.exit;
	struct vcpu_slot *slot = vcpu_at(1);
	struct row *row = row_at(1);
	u64 vcpu = (u64)space;

	PUT(bpf_core_field_offset(struct kvm_vcpu, kvm), u64, vcpu + VCPU_SPACE);
	PUT(bpf_core_field_offset(struct kvm_vcpu, arch.regs), u64, in->rax);
	PUT(bpf_core_field_offset(struct kvm_vcpu, arch.regs) + 8, u64, in->rcx);
	madeup.knows_types = bpf_core_field_exists(struct kvm, arch.vm_type);
	if (bpf_core_field_exists(struct kvm, arch.vm_type))
		PUT(VCPU_SPACE + bpf_core_field_offset(struct kvm, arch.vm_type), u8, in->vm_type);
	if (bpf_core_field_exists(struct kvm_vcpu, arch.guest_state_protected))
		PUT(bpf_core_field_offset(struct kvm_vcpu, arch.guest_state_protected), u8, in->is_protected);
	PUT(VMCB + VMCB_EXITCODE, u64, in->code);
	PUT(VMCB + VMCB_EXITCODE + 8, u64, in->info);
	PUT(VMCB + VMCB_EXITCODE + 16, u64, in->info_2);
	PUT(QUALIFICATION, u64, in->info);
	PUT(AVAILABLE, u64, in->unread ? 0 : 3);
	PUT(INTERRUPTION, u64, in->interruption);

	find_details(slot, vcpu);
	/* The module of the other vendor, and so the type of its vCPU, may not be there. */
	slot->qual_at = vcpu + QUALIFICATION;
	slot->intr_at = vcpu + INTERRUPTION;
	slot->avail_at = vcpu + AVAILABLE;
	slot->avail_bit = 1;
	slot->intr_bit = 2;
	slot->key = vcpu;
	slot->isa = in->isa;
	slot->kept_code_at = vcpu + VMCB + VMCB_EXITCODE;
	slot->hooked = in->hooked;
	slot->rang = in->rang;
	row->code = in->code;
	row->kind = kind_of(in->isa, in->code);
	read_detail(slot, row, &madeup.detail);
	return 0;
}
