/*
 * The segments in flight: one small record each, in a ring ordered by sequence
 * number, and threaded by a list ordered by the time of the last sending.
 */
#ifndef MESHWRAP_DAEMON_TCP_SCOREBOARD_H
#define MESHWRAP_DAEMON_TCP_SCOREBOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/tcp/segment.h"

#define TCP_BOARD_MAX 65536u
#define TCP_NO_RECORD UINT32_MAX

enum {
	TCP_SENT_SACKED = 1,
	TCP_SENT_LOST = 2,
	TCP_SENT_AGAIN = 4,
	TCP_SENT_FIN = 8,
	TCP_SENT_RATED = 16,   /* the members of delivery.h are set */
	TCP_SENT_LIMITED = 32, /* sent while there was too little to send */
};

struct tcp_sent {
	uint64_t sent_ns;
	uint32_t seq;
	/* By time, while neither SACKed nor lost; SACKed: all before later are, too. */
	uint32_t earlier, later;
	uint32_t prior_bytes, prior_tick, first_tick; /* see delivery.h */
	uint16_t len;                                 /* sequence space: data and FIN */
	uint8_t flags;
};

/* Records have indices that only grow; those from head to tail exist. */
struct tcp_scoreboard {
	struct tcp_sent *ring;
	uint32_t size; /* of the ring, a power of two, or 0 */
	uint32_t head, tail;
	uint32_t oldest, newest;   /* ends of the list by time, or TCP_NO_RECORD */
	uint32_t pipe, pipe_count; /* bytes and segments thought to be in the network */
	uint32_t lost_count, sacked_count;
	uint32_t sacked_bytes;
	uint64_t lost_bytes; /* ever marked lost */
	uint32_t lost_hint;  /* no record before it is lost */
};

void tcp_board_init(struct tcp_scoreboard *b);
void tcp_board_finish(struct tcp_scoreboard *b);
/* Makes room for count more records; false: there is none. */
bool tcp_board_reserve(struct tcp_scoreboard *b, uint32_t count);
/* A segment was sent for the first time. */
void tcp_board_add(struct tcp_scoreboard *b, uint32_t seq, uint16_t len, uint8_t flags,
		   uint64_t now_ns);
/* A record was sent again. */
void tcp_board_sent_again(struct tcp_scoreboard *b, uint32_t index, uint64_t now_ns);
void tcp_board_mark_lost(struct tcp_scoreboard *b, uint32_t index);
void tcp_board_mark_sacked(struct tcp_scoreboard *b, uint32_t index);
/* Takes the first record off; when it was the last one, the ring may be given back. */
void tcp_board_pop(struct tcp_scoreboard *b);
/* The first len bytes of the first record were acknowledged. */
void tcp_board_trim(struct tcp_scoreboard *b, uint16_t len);
/* The first record that ends after seq; b->tail if none does. */
uint32_t tcp_board_find(const struct tcp_scoreboard *b, uint32_t seq);
/* The first record from index on that is not SACKed; b->tail if none is. */
uint32_t tcp_board_unsacked(struct tcp_scoreboard *b, uint32_t index);
/* The first lost record, or TCP_NO_RECORD. */
uint32_t tcp_board_next_lost(struct tcp_scoreboard *b);
/* The far side has discarded what it had SACKed (RFC 2018, 8). */
void tcp_board_forget_sacks(struct tcp_scoreboard *b);
/* Splits records longer than mss bytes of data. False: no memory, nothing changed. */
bool tcp_board_split(struct tcp_scoreboard *b, uint32_t mss);

static inline struct tcp_sent *tcp_board_at(const struct tcp_scoreboard *b, uint32_t index)
{
	return &b->ring[index & (b->size - 1)];
}

static inline uint32_t tcp_board_count(const struct tcp_scoreboard *b)
{
	return b->tail - b->head;
}

#endif
