/*
 * Packet scripts: what the far side sends, what our endpoint must answer, and
 * steps of the clock. Sequence numbers are relative: ours to our ISN, the far
 * side's to its own, so that both SYNs are 0 and the first bytes 1.
 */
#ifndef MESHWRAP_TESTS_UNIT_TCP_SCRIPT_H
#define MESHWRAP_TESTS_UNIT_TCP_SCRIPT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tcp/endpoint.h"
#include "daemon/tcp/segment.h"

#define SCRIPT_PACKETS 256
#define SCRIPT_MTU     1280
#define SCRIPT_MSS     1240
#define PEER_ISN       0xfffff000u /* the numbers wrap soon */
#define S              TCP_SYN
#define A              TCP_ACK
#define F              TCP_FIN
#define R              TCP_RST

struct script_packet {
	struct tcp_segment s;
	uint8_t bytes[2048];
	size_t len;
};

struct script {
	struct tcp *tcp;
	struct tcp_config config;
	struct tcp_conn *conn; /* the latest one, until it is cancelled */
	uint64_t now_ns;
	struct script_packet out[SCRIPT_PACKETS];
	unsigned first, count;
	uint32_t iss; /* ours, as seen in our last SYN */
	uint32_t isn; /* the far side's */
	uint32_t peer_ts;
	uint16_t window;
	bool has_timestamps, has_sack, is_v6, is_blocked;
	unsigned events, incoming, cancelled;
	struct endpoint local, remote;
};

/* What the far side sends; zero-initialised members are absent. */
struct peer {
	uint8_t flags;
	uint32_t seq, ack, len;
	uint32_t sack[4]; /* pairs of our sequence numbers */
	uint32_t ts;      /* instead of the running one */
	uint32_t ts_echo; /* instead of our latest */
	bool no_window;
};

void script_init(struct script *t);
void script_finish(struct script *t);
void script_start(struct script *t);                /* creates the endpoint from t->config */
void script_send(struct script *t, struct peer p);  /* and flush */
void script_queue(struct script *t, struct peer p); /* no flush yet */
void script_flush(struct script *t);
void script_wait_ms(struct script *t, uint64_t ms); /* acts on deadlines on the way */
unsigned script_events(struct script *t);           /* since last asked */
/* The next packet must be this. Returns it. */
const struct tcp_segment *script_expect(struct script *t, uint8_t flags, uint32_t seq, uint32_t ack,
					uint32_t len);
void script_expect_none(struct script *t);
/* So many full segments, and nothing behind them. */
void script_expect_train(struct script *t, uint32_t first, unsigned count);
void script_dial(struct script *t);     /* SYN out, not yet answered */
void script_connect(struct script *t);  /* dials and is answered: established */
void script_begin(struct script *t);    /* init, start, connect */
void script_accepted(struct script *t); /* a SYN from the far side: established */
void script_write(struct script *t, size_t len);
void script_write_segments(struct script *t, unsigned count); /* full ones, and flush */
size_t script_read(struct script *t);                         /* consumes all there is */
struct tcp_stats script_stats(const struct script *t);

#endif
