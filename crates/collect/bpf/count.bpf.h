/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Counting: what both kinds of program do once they know which vCPU exited, and why.
 *
 * Hot are count_exit() and count_entry(), with hinted() and row_of(). Everything else runs once for each vCPU, VM or
 * reason, or on paths that are long anyway.
 */
#ifndef EXITSCOPE_COUNT_BPF_H
#define EXITSCOPE_COUNT_BPF_H

#include "rows.bpf.h"

#define TIMES_2(n) n, n
#define TIMES_4(n) TIMES_2(n), TIMES_2(n)
#define TIMES_8(n) TIMES_4(n), TIMES_4(n)
#define TIMES_16(n) TIMES_8(n), TIMES_8(n)
#define TIMES_32(n) TIMES_16(n), TIMES_16(n)
#define TIMES_64(n) TIMES_32(n), TIMES_32(n)
#define TIMES_128(n) TIMES_64(n), TIMES_64(n)

/* floor(log2(n)) for a byte, 0 for 0, as the offset of a bucket: times sizeof(u64). */
static const u8 log2_offset[256] = {
	0, 0, TIMES_2(8), TIMES_4(16), TIMES_8(24), TIMES_16(32), TIMES_32(40), TIMES_64(48), TIMES_128(56),
};

/* A bucket by what log2_offset has. In bounds for the verifier by what follows the last row: see SLACK_ROWS. */
static __always_inline u64 *bucket_at(struct row *row, u32 first, u64 offset)
{
#ifdef OLDER_KERNEL
	/* Nothing follows a row there. */
	offset &= 63;
#endif
	/* In C, clang would copy the row's address first. */
	asm("%0 += %1" : "+r"(offset) : "r"(row));
	return (void *)offset + __builtin_offsetof(struct row, histogram) + 8 * first;
}

/* The bucket of any time. */
static __always_inline u64 *bucket_of(struct row *row, u64 ns)
{
	if (ns >> 32) {
		ns >>= 32;
		if (ns >> (HISTOGRAM_BUCKETS - 1 - 32))
			return &row->histogram[HISTOGRAM_BUCKETS - 1];
		return bucket_at(row, 32, log2_offset[ns & 255]);
	}
	if (ns >> 24)
		return bucket_at(row, 24, log2_offset[ns >> 24 & 255]);
	if (ns >> 16)
		return bucket_at(row, 16, log2_offset[ns >> 16 & 255]);
	if (ns >> 8)
		return bucket_at(row, 8, log2_offset[ns >> 8 & 255]);
	return bucket_at(row, 0, log2_offset[ns & 255]);
}

/*
 * A time that may be the shortest or the longest of its epoch: so much longer than the shortest. Whatever lies between
 * these two is in a bucket between theirs.
 */
static __noinline int note_extreme(struct row *row, u64 more)
{
	u64 epoch = READ_ONCE(control.epoch), ns;
	u32 bucket;

	if (!row)
		return 0;
	ns = row->min_ns + more;
	bucket = ((void *)bucket_of(row, ns) - (void *)row->histogram) / sizeof(u64);
	if (!row->epoch || bucket < row->low)
		row->low = bucket;
	if (bucket > row->high)
		row->high = bucket;
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

/*
 * Adds what is known of the exit that has ended to its row, where there was room for one. The scheduler's clock is not
 * ours: what it says must not make the parts more than the whole, which is `ns`.
 */
static __always_inline void add_split(struct vcpu_slot *slot, struct row *row, u64 ns)
{
	u64 rest = ns, part;

#define ADD(name)                                      \
	part = slot->name < rest ? slot->name : rest;  \
	row->name += part;                             \
	rest -= part
	ADD(user_ns);
	ADD(halted_ns);
	row->polled_ns += slot->polled_ns < part ? slot->polled_ns : part;
	ADD(waiting_ns);
#undef ADD
}

/*
 * Counts what the exit was about that has been handled, and took `ns`, in the row of a reason whose exits have details. Each
 * kind of program has its own.
 */
__noinline int count_detail(u32 slot_index, u32 row_index, u64 ns);

/* L1 is entered to handle the exit of L2 that the slot tells of. */
static __noinline int begin_l1(struct vcpu_slot *slot, u64 kvm_exits, u64 now)
{
	u32 index;

	if (!slot)
		return 0;
	index = row_of(slot->index);
	if (index)
		row_at(index)->to_l1++;
	slot->l1_row = index;
	slot->l1_exits = kvm_exits;
	slot->l1_ns = now;
	return 0;
}

/* L1 has entered an L2 again: it has handled what it was entered for, if it was. */
static __noinline int end_l1(struct vcpu_slot *slot, u64 kvm_exits, u64 now)
{
	struct row *row;
	u64 ns;

	if (!slot || !slot->l1_row)
		return 0;
	row = row_at(slot->l1_row);
	ns = now - slot->l1_ns;
	row->l1_done++;
	row->l1_exits += kvm_exits - slot->l1_exits;
	/* As in count_host_time(). */
	row->l1_ns += (s64)ns > 0 ? ns : 0;
	slot->l1_row = 0;
	return 0;
}

static __always_inline void count_mode(struct vcpu_slot *slot, struct row *row)
{
	u32 mode = slot->mode;

	if (mode < MODES)
		row->modes[mode]++;
}

static __always_inline u32 in_guest(struct vcpu_slot *slot)
{
	return slot->nests == NESTS ? VCPU_GUEST_NESTED : VCPU_GUEST;
}

/* Counts the exit that is being handled, and that sees no entry of its own, so that it has no time. */
__noinline int count_timeless(u32 slot_index)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	u32 index;

	index = row_of(slot->index);
	if (!index) {
		slot->no_row++;
		return 0;
	}
	row_at(index)->timeless++;
	if (config.guest)
		count_mode(slot, row_at(index));
	if (config.kinds && row_at(index)->kind)
		count_detail(slot->index, index, 0);
	return 0;
}

/* Counts the exit that is being handled, whose moment is not known, and ends the writing. */
static __noinline int count_untimed(struct vcpu_slot *slot, u32 state)
{
	if (!slot)
		return 0;
	slot->untimed++;
	slot->no_time = 0;
	count_timeless(slot->index);
	if (state == VCPU_HOST_MORE)
		forget_split(slot);
	end_write(slot, in_guest(slot));
	return 0;
}

/* A vCPU left its guest, or with `l2` that one's guest, which was in `mode`, and it may have been anywhere. */
static __noinline int odd_exit(struct vcpu_slot *slot, s64 code, int l2, u32 mode)
{
	u32 state;
	u64 now;

	if (!slot || slot->state == VCPU_IGNORED)
		return 0;
	now = bpf_ktime_get_ns();
	state = slot->state;
	if (state == VCPU_NEW)
		slot->first_ns = now;
	if (is_out(state)) {
		begin_write(slot);
		slot->exit_without_entry++;
		slot->turn++;
		/* What the kernel has of an exit is of the new one already. */
		if (!slot->went_out)
			slot->noted.kind = 0;
		slot->went_out = 1;
		count_timeless(slot->index);
		forget_split(slot);
	}
	/* It was in L2 before we came, or the VMM has put it there. */
	if (l2)
		begin_nesting(slot);
	/* The exit before is counted, so this is one write with it: neither may be seen twice, nor for the other's reason. */
	slot->exit_ns = now;
	slot->code = code;
	slot->l2 = l2;
	slot->mode = mode;
	/* The first entry has more to do than others, and so has one after an exit of L2. */
	end_write(slot, state == VCPU_GUEST && !l2 ? VCPU_HOST : VCPU_HOST_MORE);
	return 0;
}

/*
 * A vCPU that was in its guest left it. Nothing but `slot` is needed across the call of the clock, so that no other
 * register must be saved. The code is nobody's until the state says otherwise.
 */
static __always_inline void count_exit(struct vcpu_slot *slot, s64 code)
{
	slot->code = code;
	slot->exit_ns = bpf_ktime_get_ns();
	end_write(slot, VCPU_HOST);
}

/*
 * Counts an exit at once: where times are not measured. KVM's count of them, if it is known, is `kvm_exits` now, before
 * or after this exit, as it will be with each one that follows. That L1 was entered, or L2 again, is known by whose the
 * next exit is.
 */
static __noinline int odd_exit_only(struct vcpu_slot *slot, s64 code, u64 kvm_exits, int kvm_counts, int l2)
{
	if (!slot || slot->state == VCPU_IGNORED)
		return 0;
	if (slot->state == VCPU_NEW) {
		slot->kvm_first = kvm_exits;
		slot->kvm_known = kvm_counts;
	}
	if (l2)
		begin_nesting(slot);
	begin_write(slot);
	if (slot->l2 && !l2)
		begin_l1(slot, kvm_exits, 0);
	else if (l2)
		end_l1(slot, kvm_exits, 0);
	slot->kvm_last = kvm_exits;
	slot->code = code;
	slot->l2 = l2;
	count_timeless(slot->index);
	/* From here on the common way, unless each exit is to be asked whose it is. */
	slot->plain_key = slot->nests == NESTS_NOT ? slot->key : 0;
	end_write(slot, in_guest(slot));
	return 0;
}

/* Counts an exit at once, if its reason has a row. Returns 1 if it has none. */
static __always_inline int count_exit_only(struct vcpu_slot *slot, s64 code)
{
	u64 place = place_of(code);
	u32 index;

	if (place == NO_PLACE)
		return 1;
	index = *direct_at(slot, place);
	if (!index)
		return 1;
	row_at(index)->timeless++;
	return 0;
}

/* Counts the exit that was being handled, which may be any, and ends the writing. */
__noinline int count_host_time(u32 slot_index, u64 ns, u32 state)
{
	struct vcpu_slot *slot = vcpu_at(slot_index);
	struct row *row;
	u32 index;

	/* The clock may step back by a little from one CPU to another (kernel/time/timekeeping.c). */
	if ((s64)ns < 0)
		ns = 0;
	index = row_here(slot);
	if (index) {
		row = row_at(index);
		row->time_ns += ns;
		++*bucket_of(row, ns);
		if (ns - row->min_ns >= row->span)
			note_extreme(row, ns - row->min_ns);
		if (state == VCPU_HOST_MORE)
			add_split(slot, row, ns);
		if (config.guest)
			count_mode(slot, row);
		if (config.kinds && row->kind)
			count_detail(slot->index, index, ns);
	} else {
		slot->no_row++;
		slot->rowless_ns += ns;
	}
	if (state == VCPU_HOST_MORE)
		forget_split(slot);
	end_write(slot, in_guest(slot));
	return 0;
}

/* Keeps KVM's count before the first exit that we saw; its count and ours are `kvm_exits` and `ours` now. */
static __always_inline void begin_comparison(struct vcpu_slot *slot, u64 kvm_exits, u64 ours)
{
	if (!slot->kvm_known) {
		slot->kvm_first = kvm_exits - ours;
		slot->kvm_known = 1;
	}
}

/*
 * A vCPU enters its guest, or with `l2` that one's guest, and it may have been anywhere. `kvm_counts` says whether KVM's
 * count is known.
 */
static __noinline int odd_entry(struct vcpu_slot *slot, u64 kvm_exits, int kvm_counts, int l2)
{
	u32 state;
	u64 now;

	if (!slot)
		return 0;
	state = slot->state;
	if (state == VCPU_GUEST || state == VCPU_GUEST_NESTED)
		slot->entry_without_exit++;
	if (!is_out(state))
		return 0;
	now = bpf_ktime_get_ns();
	begin_write(slot);
	if (state == VCPU_HOST_MORE) {
		end_phase(slot, now);
		if (kvm_counts)
			begin_comparison(slot, kvm_exits, 1 + slot->exit_without_entry);
	}
	if (kvm_counts)
		slot->kvm_last = kvm_exits;
	if (l2)
		begin_nesting(slot);
	if (slot->l2 && !l2)
		begin_l1(slot, kvm_exits, now);
	else if (l2)
		end_l1(slot, kvm_exits, now);
	if (slot->no_time)
		return count_untimed(slot, state);
	return count_host_time(slot->index, now - slot->exit_ns, state);
}

/*
 * Counts a time of less than 65 us in a row, and ends the writing; `units` is the time in 256 ns. With `modes` the mode that
 * the exit was in is counted too.
 */
static __always_inline void count_in_row(struct vcpu_slot *slot, u32 index, u64 ns, u64 units, int modes)
{
	struct row *row = row_at(index);

	row->time_ns += ns;
	if (modes)
		count_mode(slot, row);
	if (units) {
		++*bucket_at(row, 8, log2_offset[units]);
	} else {
		++*bucket_at(row, 0, log2_offset[ns & 255]);
		/* Else clang would join both branches, at the cost of both. */
		asm volatile("");
	}
	ns -= row->min_ns;
	if (ns >= row->span)
		note_extreme(row, ns);
	end_write(slot, VCPU_GUEST);
}

/* A vCPU whose exit KVM has handled enters its guest. With `modes` what mode that was in is counted too. */
static __always_inline int count_entry(struct vcpu_slot *slot, u64 kvm_exits, int kvm_counts, int modes)
{
	u64 ns, place, units;
	u32 index;

	begin_write(slot);
	if (kvm_counts)
		slot->kvm_last = kvm_exits;
	ns = bpf_ktime_get_ns() - slot->exit_ns;
	place = place_of(slot->code);
	if (place == NO_PLACE)
		return count_host_time(slot->index, ns, VCPU_HOST);
	index = *direct_at(slot, place);
	/* Most exits take less than 65 us. */
	units = ns >> 8;
	barrier_var(units);
	if (!index || units > 255)
		return count_host_time(slot->index, ns, VCPU_HOST);
	count_in_row(slot, index, ns, units, modes);
	return 0;
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
			slot->rowless_ns += slot->end_ns - slot->exit_ns;
			end_phase(slot, slot->end_ns);
			count_timeless(slot->index);
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
