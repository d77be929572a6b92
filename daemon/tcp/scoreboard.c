/*
 * The segments in flight.
 *
 * Invariants: records are contiguous in sequence space from the first
 * unacknowledged byte to the next one to send. A record is in exactly one of
 * three sets: in the network (in the list by time, counted in pipe), lost, or
 * SACKed. The list by time makes RACK constant per segment: it is walked from
 * its oldest end, and what is found lost leaves it. A SACKed record's later leads past
 * a run of SACKed ones, further with each use, so that a peer whose blocks cover the same
 * records in each acknowledgement cannot make us walk over them again.
 *
 * Indices grow for ever and wrap, so a record keeps its index when the ring grows.
 */
#include "daemon/tcp/scoreboard.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

#define FIRST_SIZE 16u

void tcp_board_init(struct tcp_scoreboard *b)
{
	memset(b, 0, sizeof(*b));
	b->oldest = b->newest = TCP_NO_RECORD;
}

void tcp_board_finish(struct tcp_scoreboard *b)
{
	uint64_t lost_bytes = b->lost_bytes;

	free(b->ring);
	tcp_board_init(b);
	b->lost_bytes = lost_bytes;
}

static void unlink_time(struct tcp_scoreboard *b, struct tcp_sent *sent)
{
	if (sent->earlier != TCP_NO_RECORD)
		tcp_board_at(b, sent->earlier)->later = sent->later;
	else
		b->oldest = sent->later;
	if (sent->later != TCP_NO_RECORD)
		tcp_board_at(b, sent->later)->earlier = sent->earlier;
	else
		b->newest = sent->earlier;
}

static void link_newest(struct tcp_scoreboard *b, uint32_t index)
{
	struct tcp_sent *sent = tcp_board_at(b, index);

	sent->earlier = b->newest;
	sent->later = TCP_NO_RECORD;
	if (b->newest != TCP_NO_RECORD)
		tcp_board_at(b, b->newest)->later = index;
	else
		b->oldest = index;
	b->newest = index;
}

static void enter_network(struct tcp_scoreboard *b, uint32_t index, uint64_t now_ns)
{
	struct tcp_sent *sent = tcp_board_at(b, index);

	sent->sent_ns = now_ns;
	b->pipe += sent->len;
	b->pipe_count++;
	link_newest(b, index);
}

static void leave_network(struct tcp_scoreboard *b, struct tcp_sent *sent)
{
	b->pipe -= sent->len;
	b->pipe_count--;
	unlink_time(b, sent);
}

static bool resize(struct tcp_scoreboard *b, uint32_t size)
{
	struct tcp_sent *ring = malloc(size * sizeof(*ring));

	if (!ring)
		return false;
	for (uint32_t i = b->head; i != b->tail; i++)
		ring[i & (size - 1)] = *tcp_board_at(b, i);
	free(b->ring);
	b->ring = ring;
	b->size = size;
	return true;
}

bool tcp_board_reserve(struct tcp_scoreboard *b, uint32_t count)
{
	uint32_t need = tcp_board_count(b) + count, size = b->size ? b->size : FIRST_SIZE;

	if (need <= b->size)
		return true;
	if (need > TCP_BOARD_MAX)
		return false;
	while (size < need)
		size *= 2;
	return resize(b, size);
}

void tcp_board_add(struct tcp_scoreboard *b, uint32_t seq, uint16_t len, uint8_t flags,
		   uint64_t now_ns)
{
	uint32_t index = b->tail;
	struct tcp_sent *sent;

	assert(tcp_board_count(b) < b->size);
	b->tail++;
	sent = tcp_board_at(b, index);
	sent->seq = seq;
	sent->len = len;
	sent->flags = flags;
	enter_network(b, index, now_ns);
}

void tcp_board_sent_again(struct tcp_scoreboard *b, uint32_t index, uint64_t now_ns)
{
	struct tcp_sent *sent = tcp_board_at(b, index);

	assert(!(sent->flags & TCP_SENT_SACKED));
	if (sent->flags & TCP_SENT_LOST)
		b->lost_count--;
	else
		leave_network(b, sent);
	sent->flags = (uint8_t)((sent->flags & ~TCP_SENT_LOST) | TCP_SENT_AGAIN);
	enter_network(b, index, now_ns);
}

void tcp_board_mark_lost(struct tcp_scoreboard *b, uint32_t index)
{
	struct tcp_sent *sent = tcp_board_at(b, index);

	assert(!(sent->flags & (TCP_SENT_LOST | TCP_SENT_SACKED)));
	leave_network(b, sent);
	sent->flags |= TCP_SENT_LOST;
	b->lost_bytes += sent->len;
	if (b->lost_count++ == 0 || (int32_t)(index - b->lost_hint) < 0)
		b->lost_hint = index;
}

void tcp_board_mark_sacked(struct tcp_scoreboard *b, uint32_t index)
{
	struct tcp_sent *sent = tcp_board_at(b, index);

	assert(!(sent->flags & TCP_SENT_SACKED));
	if (sent->flags & TCP_SENT_LOST)
		b->lost_count--;
	else
		leave_network(b, sent);
	sent->flags = (uint8_t)((sent->flags & ~TCP_SENT_LOST) | TCP_SENT_SACKED);
	sent->later = index + 1;
	b->sacked_count++;
	b->sacked_bytes += sent->len;
}

void tcp_board_pop(struct tcp_scoreboard *b)
{
	struct tcp_sent *sent = tcp_board_at(b, b->head);

	assert(tcp_board_count(b) > 0);
	if (sent->flags & TCP_SENT_SACKED) {
		b->sacked_count--;
		b->sacked_bytes -= sent->len;
	} else if (sent->flags & TCP_SENT_LOST) {
		b->lost_count--;
	} else {
		leave_network(b, sent);
	}
	b->head++;
	if (tcp_board_count(b) == 0 && b->size > FIRST_SIZE * 2)
		tcp_board_finish(b);
}

void tcp_board_trim(struct tcp_scoreboard *b, uint16_t len)
{
	struct tcp_sent *sent = tcp_board_at(b, b->head);

	assert(len < sent->len);
	sent->seq += len;
	sent->len -= len;
	if (sent->flags & TCP_SENT_SACKED)
		b->sacked_bytes -= len;
	else if (!(sent->flags & TCP_SENT_LOST))
		b->pipe -= len;
}

uint32_t tcp_board_find(const struct tcp_scoreboard *b, uint32_t seq)
{
	uint32_t low = b->head, count = tcp_board_count(b);

	while (count > 0) {
		const struct tcp_sent *sent = tcp_board_at(b, low + count / 2);

		if (seq_le(sent->seq + sent->len, seq)) {
			low += count / 2 + 1;
			count -= count / 2 + 1;
		} else {
			count /= 2;
		}
	}
	return low;
}

static bool is_sacked(const struct tcp_scoreboard *b, uint32_t index)
{
	return index != b->tail && tcp_board_at(b, index)->flags & TCP_SENT_SACKED;
}

uint32_t tcp_board_unsacked(struct tcp_scoreboard *b, uint32_t index)
{
	while (is_sacked(b, index)) {
		struct tcp_sent *sent = tcp_board_at(b, index);

		if (is_sacked(b, sent->later))
			sent->later = tcp_board_at(b, sent->later)->later;
		index = sent->later;
	}
	return index;
}

uint32_t tcp_board_next_lost(struct tcp_scoreboard *b)
{
	if (b->lost_count == 0)
		return TCP_NO_RECORD;
	if ((int32_t)(b->lost_hint - b->head) < 0)
		b->lost_hint = b->head;
	while (!(tcp_board_at(b, b->lost_hint)->flags & TCP_SENT_LOST)) {
		b->lost_hint = tcp_board_unsacked(b, b->lost_hint + 1);
		assert(b->lost_hint != b->tail);
	}
	return b->lost_hint;
}

void tcp_board_forget_sacks(struct tcp_scoreboard *b)
{
	for (uint32_t i = b->head; i != b->tail; i++) {
		struct tcp_sent *sent = tcp_board_at(b, i);

		if (!(sent->flags & TCP_SENT_SACKED))
			continue;
		sent->flags = (uint8_t)((sent->flags & ~TCP_SENT_SACKED) | TCP_SENT_LOST);
		if (b->lost_count++ == 0 || (int32_t)(i - b->lost_hint) < 0)
			b->lost_hint = i;
	}
	b->sacked_count = b->sacked_bytes = 0;
}

/*
 * Rare (the path has told us a smaller MTU), so simply: build the ring anew,
 * all of it lost but what was SACKed.
 */
bool tcp_board_split(struct tcp_scoreboard *b, uint32_t mss)
{
	uint32_t count = 0, size = FIRST_SIZE;
	struct tcp_scoreboard old = *b;
	struct tcp_sent *ring;

	for (uint32_t i = b->head; i != b->tail; i++)
		count += tcp_board_at(b, i)->len / mss + 1;
	while (size < count)
		size *= 2;
	if (size > TCP_BOARD_MAX)
		return false;
	ring = malloc(size * sizeof(*ring));
	if (!ring)
		return false;
	tcp_board_init(b);
	b->ring = ring;
	b->size = size;
	b->lost_bytes = old.lost_bytes;
	for (uint32_t i = old.head; i != old.tail; i++) {
		struct tcp_sent sent = *tcp_board_at(&old, i);
		bool is_sacked = sent.flags & TCP_SENT_SACKED;

		while (sent.len > 0) {
			uint32_t data = sent.len - !!(sent.flags & TCP_SENT_FIN);
			bool is_last = data <= mss;
			uint16_t len = is_last ? sent.len : (uint16_t)mss;
			uint8_t flags = sent.flags & (is_last ? TCP_SENT_FIN : 0);

			tcp_board_add(b, sent.seq, len, flags | TCP_SENT_AGAIN, sent.sent_ns);
			if (is_sacked)
				tcp_board_mark_sacked(b, b->tail - 1);
			else
				tcp_board_mark_lost(b, b->tail - 1);
			sent.seq += len;
			sent.len = (uint16_t)(sent.len - len);
		}
	}
	free(old.ring);
	return true;
}
