// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
/*
 * The conversion of timekeeper.bpf.h alone, for its test: in a program that BPF_PROG_TEST_RUN takes, on the kernel's own
 * timekeeper, for a TSC that the test makes up.
 */
#pragma clang diagnostic ignored "-Wunused-function"
#include "tables.bpf.h"
#include "timekeeper.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	u64 isa, offset, ratio, tsc; /* asked: the vendor, the guest's TSC, and a moment of it */
	u64 moment;		     /* when that was; 0 if it cannot be known ... */
	u64 mult, shift;	     /* ... by this line */
} question SEC(".data.question");

SEC("tc")
int convert(void *context)
{
	struct vcpu_slot *slot = vcpu_at(1);

	slot->index = 1;
	slot->isa = question.isa;
	keep_line(slot, question.offset, question.ratio);
	question.moment = moment_of(slot, question.tsc);
	question.mult = slot->line_mult;
	question.shift = slot->line_shift;
	return 0;
}
