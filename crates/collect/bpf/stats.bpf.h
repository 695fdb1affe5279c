/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Where struct kvm_vcpu has KVM's own statistics, without KVM's types: up to 5.13 KVM has a table of their names and offsets,
 * debugfs_entries, for its files in debugfs (include/linux/kvm_host.h, arch/x86/kvm/x86.c). /proc/kallsyms tells its address.
 */
#ifndef EXITSCOPE_STATS_BPF_H
#define EXITSCOPE_STATS_BPF_H

#include "tables.bpf.h"

/* An entry: struct kvm_stats_debugfs_item. */
struct stat_item {
	u64 name;
	u32 offset;
	u32 kind; /* 0: of a VM, 1: of a vCPU */
	u32 mode;
	u32 unused;
};

union stat_name {
	char text[24];
	u64 words[3];
};

enum { MAX_STATS = 128, STAT_OF_VCPU = 1 };

static const union stat_name exits_stat = { .text = "exits" };
static const union stat_name polled_stat = { .text = "halt_poll_success_ns" };
static const union stat_name polled_in_vain_stat = { .text = "halt_poll_fail_ns" };

static __always_inline int same_name(const union stat_name *one, const union stat_name *other)
{
	return one->words[0] == other->words[0] && one->words[1] == other->words[1] && one->words[2] == other->words[2];
}

/* Looks for the statistics, once. Two CPUs that do so at the same time find the same. */
static __noinline int find_stats(void)
{
	struct stat_item item;

	if (control.looked_for_stats || !config.kvm_stats)
		return 0;
	for (int i = 0; i < MAX_STATS; i++) {
		union stat_name name = {};

		if (bpf_probe_read_kernel(&item, sizeof(item), (void *)config.kvm_stats + i * sizeof(item)) || !item.name)
			break;
		if (item.kind != STAT_OF_VCPU || item.offset % sizeof(u64) ||
		    bpf_probe_read_kernel_str(name.text, sizeof(name.text), (void *)item.name) <= 0)
			continue;
		if (same_name(&name, &exits_stat))
			control.exits_at = item.offset;
		else if (same_name(&name, &polled_stat))
			control.polled_at = item.offset;
		else if (same_name(&name, &polled_in_vain_stat))
			control.polled_in_vain_at = item.offset;
	}
	control.looked_for_stats = 1;
	return 0;
}

#endif
