/*
 * Mirrors: which are taken, and when they are free again.
 *
 * Programs hold sockets bound to mirrors, and the kernel and we remember flows by them. So
 * an address that has gone from the mesh keeps its mirror for PLAN_REST_NS, and longer
 * while a flow or a UDP endpoint has it (plan_keep()): then it may be another's. Without an
 * end a mesh whose peers come and go would use up 127/8 within months, and have all
 * peers there ever were in memory and sorted anew with each change.
 *
 * Single addresses (IPv6) give theirs back as soon as that is over, into a ring from which
 * the one that rested longest is taken when the block is full. Blocks of IPv4 are given
 * back only when there is none left, since there are few networks. Our own addresses and
 * those of services keep theirs for ever: programs listen there, and they are few.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/edge/claims.h"
#include "daemon/edge/plan_private.h"
#include "shared/util.h"

#define MIRRORS_PER_BLOCK 65536u

/* Where blocks without a preference are looked for: not where 100.64/10 wants to be, at first. */
static const struct {
	unsigned first, last;
} search[] = { { CLAIMS_FIRST, 63 }, { 128, CLAIMS_LAST }, { 64, 127 } };

static unsigned upper_half(const struct ip_addr *v4)
{
	return ip_v4(v4) >> 16;
}

static bool has_rested(const struct plan *plan, uint64_t gone_ns)
{
	return gone_ns != 0 && plan->now_ns >= gone_ns + PLAN_REST_NS;
}

/* ---- what flows have ---- */

static int compare_due(const void *a, const void *b)
{
	uint32_t x = (*(struct single_mirror *const *)a)->mirror,
		 y = (*(struct single_mirror *const *)b)->mirror;

	return (x > y) - (x < y);
}

void plan_keep(struct plan *plan, uint32_t mirror)
{
	struct single_mirror wanted = { .mirror = mirror }, *key = &wanted, **found = NULL;
	struct block *block = &plan->block[mirror >> 16 & 0xff];

	if (block->gone_ns)
		block->gone_ns = plan->now_ns;
	if (plan->due_count)
		found = bsearch(&key, plan->due, plan->due_count, sizeof(struct single_mirror *),
				compare_due);
	if (found)
		(*found)->gone_ns = plan->now_ns;
}

static void ask_for_living(struct plan *plan)
{
	if (plan->blocks.keep_living)
		plan->blocks.keep_living(plan->blocks.owner, plan);
}

/* ---- blocks ---- */

/* True: there are some more now. */
static bool give_back_rested(struct plan *plan)
{
	bool any = false;

	ask_for_living(plan);
	for (unsigned b = CLAIMS_FIRST; b <= CLAIMS_LAST; b++) {
		struct block *block = &plan->block[b];

		if (!block->is_used || block->is_wanted || !has_rested(plan, block->gone_ns))
			continue;
		plan->block_of[block->upper] = 0;
		*block = (struct block){ .is_used = false };
		plan->blocks.give_back(plan->blocks.owner, b);
		any = true;
	}
	return any;
}

static unsigned preferred_block(unsigned upper)
{
	return upper >> 8 == 100 && (upper & 0xc0) == 64 ? upper & 0xff : 0;
}

static bool take(struct plan *plan, unsigned block)
{
	int err;

	if (plan->block[block].is_used || plan->err)
		return false;
	err = plan->blocks.take(plan->blocks.owner, block);
	if (err && err != -EADDRINUSE)
		plan->err = err;
	return err == 0;
}

/* All of a run, or nothing. */
static bool take_run(struct plan *plan, unsigned first, unsigned count)
{
	unsigned taken = 0;

	if (first < CLAIMS_FIRST || first + count - 1 > CLAIMS_LAST)
		return false;
	while (taken < count && take(plan, first + taken))
		taken++;
	if (taken == count) {
		for (unsigned i = 0; i < count; i++)
			plan->block[first + i] = (struct block){ .is_used = true };
		return true;
	}
	while (taken-- > 0)
		plan->blocks.give_back(plan->blocks.owner, first + taken);
	return false;
}

/* The first block of a run aligned to its own length; 0 when there is none. */
static unsigned find_run(struct plan *plan, unsigned count)
{
	for (size_t i = 0; i < ARRAY_LEN(search); i++) {
		unsigned first = (search[i].first + count - 1) / count * count;

		for (; first + count - 1 <= search[i].last; first += count)
			if (take_run(plan, first, count))
				return first;
	}
	return 0;
}

/* One; what has rested is given back for it. */
static unsigned find_block(struct plan *plan)
{
	unsigned block = find_run(plan, 1);

	return block == 0 && give_back_rested(plan) ? find_run(plan, 1) : block;
}

static bool assign_run(struct plan *plan, unsigned upper, unsigned count)
{
	unsigned block = preferred_block(upper);

	for (unsigned i = 0; i < count; i++)
		if (plan->block_of[upper + i])
			return false; /* partly assigned before: one by one */
	if (block == 0 || !take_run(plan, block, count))
		block = count > 1 ? find_run(plan, count) : find_block(plan);
	if (block == 0)
		return false;
	for (unsigned i = 0; i < count; i++) {
		plan->block_of[upper + i] = (uint8_t)(block + i);
		plan->block[block + i] = (struct block){ .is_used = true,
							 .is_v4 = true,
							 .is_wanted = true,
							 .upper = (uint16_t)(upper + i) };
	}
	return true;
}

/* What a search failed by that is not over. */
static int cannot_ask(struct plan *plan, char *error)
{
	snprintf(error, 256, "no block of 127.0.0.0/8 can be claimed: %s", strerror(-plan->err));
	return plan->err;
}

int plan_assign_v4(struct plan *plan, const struct span *s, char *error)
{
	unsigned upper = upper_half(&s->first), count = upper_half(&s->last) - upper + 1;

	plan->err = 0;
	if (count > 1 && assign_run(plan, upper, count))
		return 0;
	for (unsigned i = 0; i < count; i++) {
		if (plan->block_of[upper + i] || assign_run(plan, upper + i, 1))
			continue;
		if (plan->err)
			return cannot_ask(plan, error);
		snprintf(
			error, 256,
			"no block of 127.0.0.0/8 is left for %u.%u.0.0/16: too many mesh networks, or "
			"too many meshwrap daemons in this network namespace",
			(upper + i) >> 8, (upper + i) & 0xff);
		return -EADDRNOTAVAIL;
	}
	return 0;
}

/* ---- single addresses ---- */

static int compare_singles(const void *a, const void *b)
{
	return ip_compare(&((const struct single_mirror *)a)->addr,
			  &((const struct single_mirror *)b)->addr);
}

struct single_mirror *plan_find_single(const struct plan *plan, const struct ip_addr *addr)
{
	const struct single_mirror key = { .addr = *addr };

	return plan->single_count ? bsearch(&key, plan->single, plan->single_count, sizeof(key),
					    compare_singles)
				  : NULL;
}

/* 0: none is left. */
static uint32_t next_mirror(struct plan *plan)
{
	uint32_t mirror;

	if (plan->left == 0 && plan->rested_count > 0) {
		mirror = plan->rested[plan->rested_first];
		plan->rested_first = (plan->rested_first + 1) % plan->rested_room;
		plan->rested_count--;
		return mirror;
	}
	if (plan->left == 0) {
		unsigned block = find_block(plan);

		if (block == 0)
			return 0;
		/* From .0.1 on: the all-zero host part is an old broadcast address. */
		plan->next = 127u << 24 | block << 16 | 1;
		plan->left = MIRRORS_PER_BLOCK - 2;
	}
	plan->left--;
	return plan->next++;
}

int plan_assign_singles(struct plan *plan, const struct spans *single, char *error)
{
	struct single_mirror *grown;
	unsigned count = plan->single_count;
	int err = 0;

	plan->err = 0;
	if (single->count == 0)
		return 0;
	grown = realloc(plan->single, (count + single->count) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	plan->single = grown;
	for (size_t i = 0; i < single->count && err == 0; i++) {
		uint32_t mirror;

		if (plan_find_single(plan, &single->at[i].first))
			continue;
		mirror = next_mirror(plan);
		if (mirror)
			plan->single[count++] = (struct single_mirror){ .addr = single->at[i].first,
									.mirror = mirror };
		else
			err = -EADDRNOTAVAIL;
	}
	if (err && plan->err)
		err = cannot_ask(plan, error);
	else if (err)
		snprintf(error, 256,
			 "no block of 127.0.0.0/8 is left for IPv6: too many meshwrap daemons in "
			 "this network namespace");
	/* What was given stays so, also if it was not enough for all. */
	if (count != plan->single_count)
		qsort(plan->single, count, sizeof(*plan->single), compare_singles);
	plan->single_count = count;
	return err;
}

/* ---- rest ---- */

static bool put_rested(struct plan *plan, uint32_t mirror)
{
	if (plan->rested_count == plan->rested_room) {
		unsigned room = plan->rested_room ? 2 * plan->rested_room : 64, i;
		uint32_t *grown = calloc(room, sizeof(*grown));

		if (!grown)
			return false;
		for (i = 0; i < plan->rested_count; i++)
			grown[i] = plan->rested[(plan->rested_first + i) % plan->rested_room];
		free(plan->rested);
		plan->rested = grown;
		plan->rested_room = room;
		plan->rested_first = 0;
	}
	plan->rested[(plan->rested_first + plan->rested_count++) % plan->rested_room] = mirror;
	return true;
}

static void collect_due(struct plan *plan)
{
	plan->due = calloc(plan->single_count + 1u, sizeof(struct single_mirror *));
	for (unsigned i = 0; plan->due && i < plan->single_count; i++)
		if (has_rested(plan, plan->single[i].gone_ns))
			plan->due[plan->due_count++] = &plan->single[i];
	if (plan->due_count)
		qsort(plan->due, plan->due_count, sizeof(struct single_mirror *), compare_due);
}

/* Single addresses whose rest is over are forgotten. */
static void forget_rested(struct plan *plan)
{
	unsigned kept = 0;

	collect_due(plan);
	if (plan->due_count > 0) {
		ask_for_living(plan);
		for (unsigned i = 0; i < plan->single_count; i++)
			if (!has_rested(plan, plan->single[i].gone_ns) ||
			    !put_rested(plan, plan->single[i].mirror))
				plan->single[kept++] = plan->single[i];
		plan->single_count = kept;
	}
	free(plan->due);
	plan->due = NULL;
	plan->due_count = 0;
}

void plan_want(struct plan *plan, const struct spans *mirrored)
{
	for (unsigned b = CLAIMS_FIRST; b <= CLAIMS_LAST; b++)
		plan->block[b].is_wanted = false;
	for (size_t i = 0; i < mirrored->count; i++) {
		unsigned last = upper_half(&mirrored->at[i].last);

		for (unsigned upper = upper_half(&mirrored->at[i].first); upper <= last; upper++)
			plan->block[plan->block_of[upper]].is_wanted = true;
	}
}

static void note(const struct plan *plan, bool is_there, uint64_t *gone_ns)
{
	if (is_there)
		*gone_ns = 0;
	else if (*gone_ns == 0)
		*gone_ns = plan->now_ns;
}

void plan_settle(struct plan *plan, const struct spans *single)
{
	size_t at = 0;

	for (unsigned b = CLAIMS_FIRST; b <= CLAIMS_LAST; b++) {
		struct block *block = &plan->block[b];

		if (block->is_v4)
			note(plan, block->is_wanted || block->is_kept, &block->gone_ns);
	}
	/* Both are sorted. */
	for (unsigned i = 0; i < plan->single_count; i++) {
		struct single_mirror *s = &plan->single[i];

		while (at < single->count && ip_compare(&single->at[at].first, &s->addr) < 0)
			at++;
		note(plan,
		     s->is_kept ||
			     (at < single->count && ip_equal(&single->at[at].first, &s->addr)),
		     &s->gone_ns);
	}
	forget_rested(plan);
}

void plan_keep_for_ever(struct plan *plan, const struct ip_addr *addr)
{
	struct single_mirror *s = plan_find_single(plan, addr);

	if (s)
		s->is_kept = true;
	else if (ip_is_v4(addr))
		plan->block[plan->block_of[upper_half(addr)]].is_kept = true;
}
