/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Counting: what both kinds of program do once they know which vCPU exited, and why.
 *
 * Hot are count_exit() and count_entry(), with hinted() and row_of(). Everything else runs once for each vCPU, VM or
 * reason, or on paths that are long anyway.
 */
#ifndef EXITSCOPE_COUNT_BPF_H
#define EXITSCOPE_COUNT_BPF_H

#include "tables.bpf.h"

/*
 * A 32-bit SVM code as a signed one: VMEXIT_INVALID and its neighbours are small negative numbers, but
 * the codes for software that end in 0xf0000000 ff. are not (APM vol. 2, appendix C).
 */
static __always_inline s64 widen(s64 code, u32 isa)
{
	return isa == ISA_SVM && (u64)code >> 8 == 0xffffff ? (s64)(int)code : code;
}

/* A new row of a vCPU, or 0 when there is no room. */
static __always_inline u32 new_row(struct vcpu_slot *slot, s64 code, u32 next)
{
	u32 index = take(&free_rows, &control.next_row, config.max_rows);

	if (index) {
		slot->rows++;
		row_at(index)->code = code;
		row_at(index)->next = next;
	}
	return index;
}

/* The row of a reason that has no place in direct[], or 0 when there is no room. */
static __noinline u32 odd_row(struct vcpu_slot *slot, s64 code)
{
	u32 index;

	if (!slot)
		return 0;
	code = widen(code, slot->isa);
	index = slot->first_odd;
	for (int i = 0; i < MAX_ODD_ROWS && index; i++) {
		if (row_at(index)->code == code)
			return index;
		index = row_at(index)->next;
	}
	if (slot->odd_rows >= MAX_ODD_ROWS)
		return 0;
	index = new_row(slot, code, slot->first_odd);
	if (index) {
		WRITE_ONCE(slot->first_odd, index);
		slot->odd_rows++;
	}
	return index;
}

/* The first exit of this vCPU for a reason that has a place in direct[]: its row, or 0 when there is no room. */
static __noinline u32 first_of_row(struct vcpu_slot *slot, u64 direct)
{
	u32 index;

	if (!slot || direct >= DIRECT_ROWS)
		return 0;
	index = new_row(slot, direct < COMMON_CODES ? direct : direct - COMMON_CODES + NPF_BASE, slot->first_row);
	if (index) {
		WRITE_ONCE(slot->first_row, index);
		slot->direct[direct] = index;
	}
	return index;
}

/* The index of the row of the exit that is being handled, or 0 when there is no room. */
static __always_inline u32 row_of(struct vcpu_slot *slot)
{
	u64 direct = slot->code;
	u32 index;

	if (direct >= COMMON_CODES) {
		direct -= NPF_BASE - COMMON_CODES;
		if (direct < COMMON_CODES || direct >= DIRECT_ROWS)
			return odd_row(slot, slot->code);
	}
	/* Else clang proves the bound in its own way, which the verifier cannot follow. */
	barrier_var(direct);
	if (direct >= DIRECT_ROWS)
		return 0;
	index = slot->direct[direct];
	return index ? index : first_of_row(slot, direct);
}

#define LOG2_OF_2(n) n, n
#define LOG2_OF_4(n) LOG2_OF_2(n), LOG2_OF_2(n)
#define LOG2_OF_8(n) LOG2_OF_4(n), LOG2_OF_4(n)
#define LOG2_OF_16(n) LOG2_OF_8(n), LOG2_OF_8(n)
#define LOG2_OF_32(n) LOG2_OF_16(n), LOG2_OF_16(n)
#define LOG2_OF_64(n) LOG2_OF_32(n), LOG2_OF_32(n)
#define LOG2_OF_128(n) LOG2_OF_64(n), LOG2_OF_64(n)

/* floor(log2(n)) for a byte, 0 for 0. */
static const u8 log2_of_byte[256] = {
	0, 0, LOG2_OF_2(1), LOG2_OF_4(2), LOG2_OF_8(3), LOG2_OF_16(4), LOG2_OF_32(5), LOG2_OF_64(6), LOG2_OF_128(7),
};

/* The bucket of a time of 65 us and more. */
static __noinline u32 long_bucket(u64 ns)
{
	u32 bucket = 16;

	ns >>= 16;
	if (ns >> 16) {
		ns >>= 16;
		bucket = 32;
	}
	if (ns >> 8) {
		ns >>= 8;
		bucket += 8;
	}
	bucket += log2_of_byte[ns & 255];
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* A time that may be the shortest or the longest of its epoch. */
static __noinline int note_extreme(struct row *row, u64 ns)
{
	u64 epoch = READ_ONCE(control.epoch);

	if (!row)
		return 0;
	if (row->epoch != epoch) {
		row->last.epoch = row->epoch;
		row->last.min_ns = row->min_ns;
		row->last.max_ns = row->max_ns;
		row->epoch = epoch;
		row->min_ns = ns;
		row->max_ns = ns;
	} else if (ns < row->min_ns) {
		row->min_ns = ns;
	} else if (ns > row->max_ns) {
		row->max_ns = ns;
	}
	row->span = row->max_ns - row->min_ns + 1;
	return 0;
}

static __always_inline int is_out(u32 state)
{
	return state == VCPU_HOST || state == VCPU_HOST_MORE;
}

/* Ends the phase that the exit is in. The wait within it is no part of it. */
static __always_inline void end_phase(struct vcpu_slot *slot, u64 now)
{
	u64 ns = now - slot->phase_ns, wait = slot->waiting_ns - slot->wait_begin;

	ns = (s64)ns > (s64)wait ? ns - wait : 0;
	if (slot->phase == PHASE_USER)
		slot->user_ns += ns;
	else if (slot->phase == PHASE_HALTED)
		slot->halted_ns += ns;
	slot->phase = PHASE_KERNEL;
}

static __always_inline void begin_phase(struct vcpu_slot *slot, u32 phase, u64 now)
{
	slot->phase = phase;
	slot->phase_ns = now;
	slot->wait_begin = slot->waiting_ns;
}

static __always_inline void forget_split(struct vcpu_slot *slot)
{
	slot->phase = PHASE_KERNEL;
	slot->user_ns = slot->halted_ns = slot->polled_ns = slot->waiting_ns = 0;
	slot->went_out = 0;
}

/* Adds what is known of the exit that has ended to its row; `index` is 0 where there was no room for one. */
static __noinline int add_split(struct vcpu_slot *slot, u32 index, u64 now)
{
	struct row *row = row_at(index);

	if (!slot)
		return 0;
	end_phase(slot, now);
	if (index) {
		row->user_exits += slot->went_out;
		row->user_ns += slot->user_ns;
		row->halted_ns += slot->halted_ns;
		row->polled_ns += slot->polled_ns;
		row->waiting_ns += slot->waiting_ns;
	}
	forget_split(slot);
	return 0;
}

/* Counts the exit that is being handled, and that sees no entry of its own, so that it has no time. */
static __noinline int count_timeless(struct vcpu_slot *slot)
{
	u32 index;

	if (!slot)
		return 0;
	index = row_of(slot);
	if (index)
		row_at(index)->timeless++;
	else
		slot->no_row++;
	return 0;
}

/* An exit of a vCPU that is not known to be in its guest. Returns the state that it is in from here on. */
static __noinline u32 count_odd_exit(struct vcpu_slot *slot, u64 now)
{
	u32 state;

	if (!slot)
		return VCPU_IGNORED;
	state = slot->state;
	if (state == VCPU_NEW)
		slot->first_ns = now;
	if (is_out(state)) {
		begin_write(slot);
		slot->exit_without_entry++;
		slot->turn++;
		count_timeless(slot);
		forget_split(slot);
		end_write(slot, state);
	}
	return state == VCPU_IGNORED ? state : VCPU_HOST_MORE;
}

/* A vCPU left its guest. */
static __always_inline void count_exit(struct vcpu_slot *slot, s64 code, u64 now)
{
	u32 next = VCPU_HOST;

	if (slot->state != VCPU_GUEST) {
		next = count_odd_exit(slot, now);
		if (next == VCPU_IGNORED)
			return;
	}
	slot->exit_ns = now;
	slot->code = code;
	end_write(slot, next);
}

/* The same where times are not measured: counts at once. `kvm_exits` is KVM's count, if it is known. */
static __always_inline void count_only(struct vcpu_slot *slot, s64 code, u64 kvm_exits, int kvm_counts)
{
	u32 index;

	if (slot->state != VCPU_GUEST) {
		if (slot->state == VCPU_IGNORED)
			return;
		/* This exit is not in KVM's count yet, or is; as it will be with each one that follows. */
		slot->kvm_first = kvm_exits;
		slot->kvm_known = kvm_counts;
		slot->state = VCPU_GUEST;
	}
	slot->code = code;
	index = row_of(slot);
	if (index)
		row_at(index)->timeless++;
	else
		slot->no_row++;
	slot->kvm_last = kvm_exits;
}

/* What KVM had counted before the first exit that we saw, when its count and ours are `kvm_exits` and `ours`. */
static __always_inline void begin_comparison(struct vcpu_slot *slot, u64 kvm_exits, u64 ours)
{
	if (!slot->kvm_known) {
		slot->kvm_first = kvm_exits - ours;
		slot->kvm_known = 1;
	}
}

/* A vCPU enters its guest. `kvm_exits` is KVM's count, where `kvm_counts` says that there is one. */
static __always_inline void count_entry(struct vcpu_slot *slot, u64 now, u64 kvm_exits, int kvm_counts)
{
	u32 state = slot->state, index, bucket;
	struct row *row;
	u64 ns;

	if (!is_out(state)) {
		if (state == VCPU_GUEST)
			slot->entry_without_exit++;
		return;
	}
	begin_write(slot);
	index = row_of(slot);
	row = row_at(index);
	if (state == VCPU_HOST_MORE) {
		add_split(slot, index, now);
		if (kvm_counts)
			begin_comparison(slot, kvm_exits, 1 + slot->exit_without_entry);
	}
	if (kvm_counts)
		slot->kvm_last = kvm_exits;
	ns = now - slot->exit_ns;
	if (index) {
		if (ns >> 16) {
			/* The clock may step back by a little from one CPU to another (kernel/time/timekeeping.c). */
			if ((s64)ns < 0)
				ns = 0;
			bucket = ns >> 16 ? long_bucket(ns) : 0;
		} else if (ns >> 8) {
			bucket = 8 + log2_of_byte[ns >> 8];
		} else {
			bucket = log2_of_byte[ns];
		}
		row->time_ns += ns;
		/* In bounds for the verifier by what follows the last row: see ROWS_SLACK. */
		row->histogram[bucket]++;
		if (ns - row->min_ns >= row->span)
			note_extreme(row, ns);
	} else {
		slot->no_row++;
		slot->no_row_ns += ns;
	}
	end_write(slot, VCPU_GUEST);
}

/*
 * A vCPU is no more: its last exit, if it is still being handled, has no time. Nobody may find its slot from here on,
 * and the collector may take it back, once its state says so: that is the last that is written here.
 */
static __always_inline void end_vcpu(struct vcpu_slot *slot, u64 kvm_exits, int kvm_counts)
{
	u64 key = slot->key;
	u32 state = slot->state;

	bpf_map_delete_elem(&vcpu_by_key, &key);
	if (state != VCPU_IGNORED) {
		begin_write(slot);
		slot->end_ns = bpf_ktime_get_ns();
		if (is_out(state)) {
			count_timeless(slot);
			if (kvm_counts)
				begin_comparison(slot, kvm_exits, 1 + slot->exit_without_entry);
		}
		if (kvm_counts)
			slot->kvm_last = kvm_exits;
	}
	WRITE_ONCE(slot->key, 0);
	end_write(slot, VCPU_ENDED);
}

#endif
