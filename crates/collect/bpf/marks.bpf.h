/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Bytes that guests write to ports by which firmwares, kernels and test programs tell how far they are. Each goes to user
 * space, so this is bounded: so many of a vCPU between two looks, and what finds no room is only counted.
 */
#ifndef EXITSCOPE_MARKS_BPF_H
#define EXITSCOPE_MARKS_BPF_H

#include "split.bpf.h"

enum { KVM_PIO_OUT = 1 }; /* arch/x86/kvm/trace.h */

/* The collector sets the size before load. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} marks SEC(".maps");

/*
 * 0x80 is where PCs show POST codes, 0xf4 QEMU's isa-debug-exit, 0xf5 its neighbour in boot-time tests, 0x3f0 the boot timer
 * that a Firecracker guest writes 123 to. On others a port costs no more than this question.
 */
static __always_inline int is_mark_port(u32 port)
{
	return port == 0x80 || port == 0xf4 || port == 0xf5 || port == 0x3f0;
}

/*
 * KVM is about to do the OUT that a vCPU of this thread has exited for: emulator_pio_out() in arch/x86/kvm/x86.c, where
 * `data` points to what is written. Not typed by BTF: 6.1's verifier lets nobody have a pointer to const void there.
 */
TWICE("?raw_tp/kvm_pio", on_pio, u32 rw, u32 port, u32 size, u32 count, const void *data)
{
	struct vcpu_slot *slot;
	struct vm_info *vm;
	struct port_mark *mark;
	u8 value = 0;

	if (rw != KVM_PIO_OUT || !is_mark_port(port) || size != 1 || count != 1)
		return 0;
	slot = slot_of_task((u64)bpf_get_current_task());
	if (is_done(slot, TWICE_MARK, again) || !is_out(slot->state) || bpf_probe_read_kernel(&value, sizeof(value), data))
		return 0;
	if (port == 0x3f0 && value != 123)
		return 0;
	if (slot->mark_epoch != READ_ONCE(control.epoch)) {
		slot->mark_epoch = READ_ONCE(control.epoch);
		slot->marks = 0;
	}
	mark = slot->marks < MAX_MARKS ? bpf_ringbuf_reserve(&marks, sizeof(*mark), 0) : 0;
	if (!mark) {
		__sync_fetch_and_add(&control.no_mark, 1);
		return 0;
	}
	slot->marks++;
	vm = bpf_map_lookup_elem(&vms, &slot->vm);
	mark->ns = slot->exit_ns;
	mark->vm = vm ? vm->id : 0;
	mark->vcpu = slot->vcpu_id;
	mark->port = port;
	mark->value = value;
	mark->unused = 0;
	bpf_ringbuf_submit(mark, BPF_RB_NO_WAKEUP);
	return 0;
}

#endif
