/*
 * Our TCP endpoint: all connections of one node. The front door of daemon/tcp.
 *
 * Pure: IP packets, application calls and the time come in; IP packets, events
 * and the next deadline go out. No sockets, no libevent, no clock. Nothing is
 * sent and no event is delivered from inside tcp_input() or an application
 * call: both happen in tcp_flush() and tcp_expire(), so that one ACK decision
 * and one event answer a whole batch.
 *
 * A SYN for any local address and port is reported as "incoming" and parked:
 * it is answered only when the owner accepts (SYN-ACK) or refuses (RST).
 */
#ifndef MESHWRAP_DAEMON_TCP_ENDPOINT_H
#define MESHWRAP_DAEMON_TCP_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "shared/endpoint.h"

struct tcp;
struct tcp_conn;

enum tcp_event {
	TCP_EVENT_CONNECTED = 1, /* our SYN, or the SYN-ACK we sent, was answered */
	TCP_EVENT_READABLE = 2, /* tcp_recv_data() has more than before, or the end of the stream */
	TCP_EVENT_WRITABLE = 4, /* tcp_send_space() was short and has grown */
	TCP_EVENT_SENT = 8,     /* everything committed, and the FIN if any, was acknowledged */
	TCP_EVENT_FAILED =
		16,          /* the connection is dead: tcp_conn_error() says why. The last event */
	TCP_EVENT_HEARD = 32 /* while the owner waits for it: the far side is alive */
};

/* What decides how fast to send. */
enum tcp_congestion {
	TCP_CUBIC, /* by losses, as the kernel does by default */
	TCP_RATE   /* by what the path delivers: random loss does not slow it down */
};

struct tcp_callbacks {
	/* Room for one IP packet of len bytes, or NULL: the link takes no more now. */
	uint8_t *(*packet_reserve)(void *owner, size_t len);
	void (*packet_commit)(void *owner, size_t len);
	/*
	 * A SYN from remote to local (both mesh addresses). The owner calls
	 * tcp_accept(), tcp_refuse() or tcp_ignore(), now or later.
	 */
	void (*incoming)(void *owner, struct tcp_conn *conn, const struct endpoint *local,
			 const struct endpoint *remote);
	/* events: a set of enum tcp_event. The owner may call anything for conn, also abort it. */
	void (*event)(void *owner, struct tcp_conn *conn, void *user, unsigned events);
	/*
	 * A parked connection has gone away before the owner decided (reset by the
	 * far side, or its SYN timed out); conn must not be used again.
	 */
	void (*cancelled)(void *owner, struct tcp_conn *conn);
};

struct tcp_config {
	uint32_t mtu;           /* of the inner link; MSS = mtu - 40 or - 60 */
	uint32_t max_conns;     /* all states but TIME_WAIT; further SYNs are not answered */
	uint32_t max_parked;    /* SYNs the owner has not decided on */
	uint32_t max_time_wait; /* the oldest goes first */
	size_t buffer_max;    /* per connection and direction, bytes; reached on long paths only */
	size_t memory_max;    /* all buffers together, bytes */
	uint8_t secret[32];   /* keys the flow hash and initial sequence numbers */
	bool verify_checksum; /* false behind an AEAD */
	enum tcp_congestion congestion;
	uint64_t keepalive_ns; /* probe connections idle for so long; 0: never */
};

struct tcp_stats {
	uint64_t conns, parked, time_wait; /* now */
	uint64_t memory;                   /* bytes in buffers now */
	uint64_t opened, accepted, refused, failed;
	uint64_t syns_unanswered, syns_over_share; /* the table was full; the sender's share was */
	uint64_t segments_in, segments_out, bytes_in, bytes_out;
	uint64_t retransmitted, timeouts, fast_recoveries, bad_segments, challenge_acks;
};

struct tcp_conn_info {
	struct endpoint local, remote;
	const char *state; /* "ESTABLISHED" and so on, as ss(8) writes them */
	uint64_t srtt_us, rto_us;
	uint32_t cwnd, ssthresh, mss, peer_window;
	const char *congestion; /* "cubic", "rate" */
	uint64_t pacing_rate;   /* bytes a second; 0: not paced */
	uint64_t unacked, unsent, unread, retransmitted;
};

/*
 * What a program has asked for instead of the endpoint's own times: SO_KEEPALIVE with
 * TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT, and TCP_USER_TIMEOUT (RFC 5482), all as in Linux.
 */
struct tcp_patience {
	uint64_t idle_ns;     /* without a word until the far side is asked; 0: as in the config */
	uint64_t interval_ns; /* between questions; if idle_ns is set */
	unsigned count;       /* of questions without an answer; if idle_ns is set */
	uint64_t user_timeout_ns; /* for what is unacknowledged; 0: the endpoint's own */
};

/* Sensible values for an MTU; secret is left for the caller to fill. */
void tcp_config_defaults(struct tcp_config *config, uint32_t mtu);
struct tcp *tcp_create(const struct tcp_config *config, const struct tcp_callbacks *callbacks,
		       void *owner);
/* Frees everything without sending. */
void tcp_destroy(struct tcp *tcp);

/*
 * Who sends what tcp_input() gets from now on; only to tell peers apart (share.c),
 * never followed. NULL at first.
 */
void tcp_set_source(struct tcp *tcp, const void *source);
/*
 * One IP packet with protocol TCP, headers included, not a fragment, already
 * checked to be for this node. Never keeps the bytes. Malformed: counted and
 * dropped.
 */
void tcp_input(struct tcp *tcp, const uint8_t *packet, size_t len, uint64_t now_ns);
/* Sends what is due and delivers events. Call after a batch and after application calls. */
void tcp_flush(struct tcp *tcp, uint64_t now_ns);
/* Frees the chunks that are kept for the next bytes. */
void tcp_trim(struct tcp *tcp);
uint64_t tcp_deadline(const struct tcp *tcp);
/* Acts on deadlines that have passed; ends with a tcp_flush(). */
void tcp_expire(struct tcp *tcp, uint64_t now_ns);

/*
 * Dials. error (a positive errno) tells of -EADDRINUSE for a live flow with
 * the same four values, -ENOBUFS at a limit, as its return. *conn lives until
 * tcp_release() or tcp_abort().
 */
int tcp_connect(struct tcp *tcp, const struct endpoint *local, const struct endpoint *remote,
		void *user, uint64_t now_ns, struct tcp_conn **conn);
/* For a parked connection. After accept the owner holds conn as after tcp_connect(). */
void tcp_accept(struct tcp_conn *conn, void *user, uint64_t now_ns);
void tcp_refuse(struct tcp_conn *conn, uint64_t now_ns); /* RST; conn is gone */
void tcp_ignore(struct tcp_conn *conn);                  /* silence; conn is gone */

/* Where bytes to send may be written now, in at most two pieces; returns their sum. */
size_t tcp_send_space(struct tcp_conn *conn, struct iovec space[static 2]);
/* That many bytes have been written there. */
void tcp_send_commit(struct tcp_conn *conn, size_t len);
/* No more bytes will come: FIN after the last one. Idempotent. */
void tcp_send_finish(struct tcp_conn *conn);
/* What TCP_EVENT_SENT tells; also of one that is dead. */
bool tcp_send_is_done(const struct tcp_conn *conn);

/* In-order bytes not yet consumed, in *count <= max pieces; returns their sum. */
size_t tcp_recv_data(struct tcp_conn *conn, struct iovec *data, unsigned max, unsigned *count);
/* How much that is, in bytes. */
uint32_t tcp_recv_unread(const struct tcp_conn *conn);
void tcp_recv_consume(struct tcp_conn *conn, size_t len);
/* The far side has finished and every byte before that was consumed. */
bool tcp_recv_ended(const struct tcp_conn *conn);

/* From now on, also if it waits for something already. Of one that the owner holds, or parked. */
void tcp_set_patience(struct tcp_conn *conn, const struct tcp_patience *patience, uint64_t now_ns);
/* When a segment came last that shows the far side alive. */
uint64_t tcp_heard_ns(const struct tcp_conn *conn);
/* Asks the far side for such a one. False: what is outstanding asks already, or it has ended. */
bool tcp_ask(struct tcp_conn *conn);
/*
 * While the owner waits for the far side keepalive of the endpoint's own does not end it, and
 * each sign of life is an event.
 */
void tcp_owner_waits(struct tcp_conn *conn, bool waits);
/* The connection between them that the owner holds, or that is parked. NULL: there is none. */
struct tcp_conn *tcp_find(struct tcp *tcp, const struct endpoint *local,
			  const struct endpoint *remote);
/* As given to tcp_connect() or tcp_accept(); NULL: it is parked. */
void *tcp_conn_user(const struct tcp_conn *conn);
/* After TCP_EVENT_FAILED: ECONNREFUSED, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH. */
int tcp_conn_error(const struct tcp_conn *conn);
/* ... of an open one: since nothing was heard any more. */
bool tcp_conn_fell_silent(const struct tcp_conn *conn);
void tcp_conn_info(const struct tcp_conn *conn, struct tcp_conn_info *info);
/*
 * There is no way to the far side any more: fails with error, as if everything that can be
 * waited for had been. Nothing is sent. Of one that the owner holds.
 */
void tcp_cut_off(struct tcp_conn *conn, int error, uint64_t now_ns);
/* The same, while there still is a way: RST if the state calls for one. */
void tcp_break_off(struct tcp_conn *conn, int error, uint64_t now_ns);
/* RST if the state calls for one; conn is gone. */
void tcp_abort(struct tcp_conn *conn, uint64_t now_ns);
/*
 * The owner lets go: no more events. Bytes committed are still delivered, then RST; at once
 * if the far side's window is shut, and after 2 s in any case. What comes is dropped.
 */
void tcp_finish_by_reset(struct tcp_conn *conn, uint64_t now_ns);
/*
 * The owner lets go: no more events. Bytes committed are still delivered, then
 * FIN. As close(2) does, it resets instead when received bytes were not
 * consumed. Also the way to free a connection after TCP_EVENT_FAILED.
 */
void tcp_release(struct tcp_conn *conn, uint64_t now_ns);

/*
 * An ICMP error quoting a segment we sent: the quoted header, error as an
 * errno (EHOSTUNREACH, ENETUNREACH, ECONNREFUSED), or EMSGSIZE with mtu. Hard
 * errors end only connections in SYN_SENT (RFC 5927).
 */
void tcp_icmp_error(struct tcp *tcp, const uint8_t *quoted, size_t len, int error, uint32_t mtu,
		    uint64_t now_ns);
/* The far side's node said that it refuses local -> remote: ends it in SYN_SENT. */
void tcp_refused(struct tcp *tcp, const struct endpoint *local, const struct endpoint *remote,
		 int error, uint64_t now_ns);

void tcp_get_stats(const struct tcp *tcp, struct tcp_stats *stats);

#endif
