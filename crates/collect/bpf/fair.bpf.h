/* SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only */
/*
 * Fairness: whoever fills a table leaves room for others.
 *
 * A process gets a place while it holds less than PROCESS_SHARE times the free ones. Alone, it comes to six sevenths of
 * a table; the more there are, the less each of them gets, and some is free for the next. A user with many processes
 * comes to sixteen seventeenths likewise: so the last of a table are for new processes, and the very last for other
 * users. The places of a vCPU that has ended are held until the collector has read it, so that making and ending vCPUs
 * fast is bounded too.
 *
 * An owner's places are counted twice, at two places that hashes of its number tell, together with those of owners with
 * the same hash; the lesser count is taken. So nothing has to be allocated and given back, and an owner that shares one
 * counter with a neighbour has another.
 */
#ifndef EXITSCOPE_FAIR_BPF_H
#define EXITSCOPE_FAIR_BPF_H

struct holding holdings[HOLDINGS] SEC(".bss.holdings");

static __always_inline u16 holding_of(u32 number, u32 salt)
{
	number = (number ^ config.seed) * 0x9e3779b1u + salt * 0x85ebca6bu;
	number ^= number >> 15;
	number *= 0xc2b2ae35u;
	return number >> (32 - HOLDINGS_BITS);
}

static __always_inline struct holding *holding_at(u16 index)
{
	return &holdings[index & (HOLDINGS - 1)];
}

/* The owners of what the process takes that is running. */
static __always_inline struct owners owners_here(void)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32, user = bpf_get_current_uid_gid();
	struct owners owners = {
		.process = { holding_of(pid, 1), holding_of(pid, 2) },
		.user = { holding_of(user, 3), holding_of(user, 4) },
	};

	return owners;
}

static __always_inline u32 held_by(const u16 *owner, u32 table)
{
	u32 one = READ_ONCE(holding_at(owner[0])->places[table]), other = READ_ONCE(holding_at(owner[1])->places[table]);

	return one < other ? one : other;
}

/* Returns 1 if these owners may have one more place of a table of so many, nobody's included. */
static __always_inline int may_take(const struct owners *owners, u32 table, u32 size)
{
	u32 held = READ_ONCE(control.held.places[table]) + 1;
	u64 left = held < size ? size - held : 0;

	return held_by(owners->process, table) < left * PROCESS_SHARE && held_by(owners->user, table) < left * USER_SHARE;
}

static __always_inline void hold(const struct owners *owners, u32 table)
{
	__sync_fetch_and_add(&control.held.places[table], 1);
	__sync_fetch_and_add(&holding_at(owners->process[0])->places[table], 1);
	__sync_fetch_and_add(&holding_at(owners->process[1])->places[table], 1);
	__sync_fetch_and_add(&holding_at(owners->user[0])->places[table], 1);
	__sync_fetch_and_add(&holding_at(owners->user[1])->places[table], 1);
}

static __always_inline void let_go(const struct owners *owners, u32 table)
{
	__sync_fetch_and_add(&control.held.places[table], -1);
	__sync_fetch_and_add(&holding_at(owners->process[0])->places[table], -1);
	__sync_fetch_and_add(&holding_at(owners->process[1])->places[table], -1);
	__sync_fetch_and_add(&holding_at(owners->user[0])->places[table], -1);
	__sync_fetch_and_add(&holding_at(owners->user[1])->places[table], -1);
}

#endif
