/*
 * Trains: at the start of a stream on a long path, segments sent back to back.
 *
 * A bottleneck spreads them, and how long they took together tells what the path
 * can carry, long before it is full.
 */
#ifndef MESHWRAP_DAEMON_TCP_TRAIN_H
#define MESHWRAP_DAEMON_TCP_TRAIN_H

#include <stdint.h>

#include "shared/util.h"

#define TCP_TRAIN_LEAST_RTT (16 * NS_PER_MS) /* on a shorter path doubling takes no time */
#define TCP_TRAIN_WINDOW    32u              /* segments: with what a long path begins, paced */

enum tcp_train_state {
	TCP_TRAIN_NONE,    /* -> SENDING */
	TCP_TRAIN_SENDING, /* -> OUT, NONE */
	TCP_TRAIN_OUT,     /* -> NONE */
};

struct tcp_conn;

struct tcp_train {
	enum tcp_train_state state;
	uint32_t begin, end; /* of the sequence space it takes */
	uint64_t began_ns;
};

/* The handshake is over: how much may be sent at first, if the path is long. */
void tcp_train_opened(struct tcp_conn *conn);
/* New bytes may be sent: begins a train when one is due. Neither pacing nor cwnd hold it back. */
void tcp_train_begin(struct tcp_conn *conn, uint64_t now_ns);
/* A segment up to snd_nxt was sent. */
void tcp_train_sent(struct tcp_conn *conn);
/* snd_una has moved: when the train is through, tells cc.ops->trained. */
void tcp_train_acked(struct tcp_conn *conn, uint64_t now_ns);
/* Something was lost: no more trains, and what they have not agreed on is forgotten. */
void tcp_train_lost(struct tcp_conn *conn);

#endif
