// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * Asks the kernel where it has its clock: variables that the other programs read. /proc/kallsyms says the same, but formats
 * all symbols for that, which takes a good part of the time that starting takes.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__u64 tk_fast_mono, clocksource_tsc;
} addresses SEC(".data.addresses");

static const char tk_fast_mono[] = "tk_fast_mono";
static const char clocksource_tsc[] = "clocksource_tsc";

SEC("syscall")
int find_addresses(void *context)
{
	if (bpf_kallsyms_lookup_name(tk_fast_mono, sizeof(tk_fast_mono), 0, &addresses.tk_fast_mono))
		addresses.tk_fast_mono = 0;
	if (bpf_kallsyms_lookup_name(clocksource_tsc, sizeof(clocksource_tsc), 0, &addresses.clocksource_tsc))
		addresses.clocksource_tsc = 0;
	return 0;
}
