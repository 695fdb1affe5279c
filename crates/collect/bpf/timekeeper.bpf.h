/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * When a moment was that KVM has as L1's TSC, in nanoseconds of CLOCK_MONOTONIC: by the line from the one to the other that
 * the kernel's timekeeper has, `tk_fast_mono` of kernel/time/timekeeping.c, which bpf_ktime_get_ns() reads too. Each vCPU
 * keeps that line, shifted and scaled to its guest's TSC, so that an exit costs one multiplication; it is taken anew once a
 * jiffy, which is how often the timekeeper moves it.
 */
#ifndef EXITSCOPE_TIMEKEEPER_BPF_H
#define EXITSCOPE_TIMEKEEPER_BPF_H

#include "compat.bpf.h"
#include "tables.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct tk_read_base {
	void *clock;
	u64 cycle_last;
	u32 mult, shift;
	u64 xtime_nsec;
	s64 base;
};

struct tk_fast {
	struct tk_read_base base[2];
};

#pragma clang attribute pop

/* The same, copied: its fields are where they are here. */
struct clock_line {
	u64 clock, cycle_last;
	u32 mult, shift;
	u64 xtime_nsec;
	s64 base;
};

enum {
	/* The line begins so many cycles before the timekeeper's, so that the exits just before that are on it. */
	LINE_LEAD = 31,
	/* Bits of cycles that are multiplied apart from the others, so that neither product overflows. */
	LINE_LOW = 20,
	/* How often a line is taken anew in one jiffy, while the timekeeper has not moved yet. */
	LINE_TRIES = 4,
};

/* (a * b) >> shift, of which 64 bits are enough; shift is 32 or 48. */
static __always_inline u64 multiply_shift(u64 a, u64 b, u32 shift)
{
	u64 low = (u32)a * (u64)(u32)b, high = (a >> 32) * (b >> 32);
	u64 one = (a >> 32) * (u32)b, two = (u32)a * (b >> 32);
	u64 middle = (low >> 32) + (u32)one + (u32)two;

	high += (one >> 32) + (two >> 32) + (middle >> 32);
	low = (u32)low | middle << 32;
	return high << (64 - shift) | low >> shift;
}

/* One reading of the timekeeper. Its sequence tells which of two copies nobody writes. */
static __always_inline u32 read_timekeeper(struct clock_line *base)
{
	u32 size = bpf_core_type_size(struct tk_read_base), seq = 0, again = 0;
	const void *tk = (const void *)config.tk_fast_mono;

	for (int i = 0; i < 4; i++) {
		bpf_probe_read_kernel(&seq, sizeof(seq), tk);
		const struct tk_read_base *at = tk + bpf_core_field_offset(struct tk_fast, base) + (seq & 1) * size;

		bpf_core_read(&base->clock, sizeof(base->clock), &at->clock);
		bpf_core_read(&base->cycle_last, sizeof(base->cycle_last), &at->cycle_last);
		bpf_core_read(&base->mult, sizeof(base->mult), &at->mult);
		bpf_core_read(&base->shift, sizeof(base->shift), &at->shift);
		bpf_core_read(&base->xtime_nsec, sizeof(base->xtime_nsec), &at->xtime_nsec);
		bpf_core_read(&base->base, sizeof(base->base), &at->base);
		bpf_probe_read_kernel(&again, sizeof(again), tk);
		if (again == seq)
			return seq;
	}
	/* Written all the time: whoever asks next will read it. */
	base->clock = 0;
	return seq;
}

/*
 * Takes the timekeeper's line for this vCPU's TSC, which is offset + (host's TSC * ratio >> fraction): kvm_read_l1_tsc() in
 * arch/x86/kvm/x86.c. No line where the clock is another than the TSC. Not static, as count_detail() is not.
 */
__noinline int take_line(u32 slot_index)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	u64 jiffies = bpf_jiffies64(), fraction, ratio, mult, cycles;
	struct clock_line base = {};
	s64 lead;
	u32 seq;

	/* Whoever has the pair may have a kernel without these types. */
	if (!config.one)
		return 0;
	seq = read_timekeeper(&base);
	/* A jiffy begins a moment before the timekeeper moves on. */
	if (jiffies != slot->line_tried) {
		slot->line_tried = jiffies;
		slot->line_tries = 0;
	}
	if (seq != slot->line_seq || ++slot->line_tries >= LINE_TRIES)
		slot->line_jiffies = jiffies;
	slot->line_seq = seq;
	slot->line_mult = 0;
	ratio = slot->line_ratio;
	fraction = slot->isa == ISA_VMX ? 48 : 32;
	if (!base.clock || base.clock != config.clocksource_tsc || base.shift < LINE_LOW || base.shift > 32 || !ratio)
		return 0;
	mult = base.mult;
	cycles = base.cycle_last;
	if (ratio != 1ull << fraction) {
		/* At least 1/256: 32 bits of the ratio's fraction are enough. */
		ratio >>= fraction - 32;
		if (ratio < 1 << 24)
			return 0;
		mult = (mult << 32) / ratio;
		cycles = multiply_shift(cycles, slot->line_ratio, fraction);
	}
	lead = base.xtime_nsec - (mult << LINE_LEAD);
	slot->line_ns = base.base + (lead >> base.shift);
	slot->line_frac = lead - (lead >> base.shift << base.shift);
	slot->line_tsc = cycles + slot->line_offset - (1ull << LINE_LEAD);
	slot->line_add = slot->line_frac - slot->line_tsc * mult;
	slot->line_shift = base.shift;
	slot->line_mult = mult;
	return 0;
}

/* When it was `tsc`, which may be long ago; 0 if that cannot be known. */
static __noinline u64 moment_of(struct vcpu_slot *slot, u64 tsc)
{
	u64 low;
	s64 high;
	u32 shift;

	if (!slot)
		return 0;
	if (slot->line_jiffies != bpf_jiffies64())
		take_line(slot->index);
	if (!slot->line_mult)
		return 0;
	shift = slot->line_shift;
	high = tsc - slot->line_tsc;
	low = high & ((1 << LINE_LOW) - 1);
	high >>= LINE_LOW;
	return slot->line_ns + (high * (s64)slot->line_mult >> ((shift - LINE_LOW) & 63)) +
	       ((low * slot->line_mult + slot->line_frac) >> (shift & 63));
}

/* The vCPU's TSC, as KVM has it from here on: until now it may have been another. */
static __always_inline void keep_line(struct vcpu_slot *slot, u64 offset, u64 ratio)
{
	if (slot->line_offset == offset && slot->line_ratio == ratio && slot->line_jiffies == bpf_jiffies64())
		return;
	slot->line_offset = offset;
	slot->line_ratio = ratio;
	take_line(slot->index);
}

#endif
