/*
 * What the files of daemon/tcp share: the endpoint, its connections, and the
 * functions by which those files call each other.
 *
 *   input.c    a segment meets a state        ack.c     what an acknowledgement tells the sender
 *   recv.c     bytes in, windows out          rack.c    which segments are lost
 *   send.c     segments out                   scoreboard.c  the segments in flight
 *   delivery.c how fast the path delivers     cubic*.c, rate.c  what to make of it
 *   train.c    how a long path is filled soon
 *   expire.c   deadlines                      time_wait.c   what remains of closed connections
 *   reply.c    segments without a connection  table.c   finding the connection
 *   share.c    what one peer may take, of memory too
 */
#ifndef MESHWRAP_DAEMON_TCP_CONN_H
#define MESHWRAP_DAEMON_TCP_CONN_H

#include <sys/queue.h>

#include "daemon/tcp/buffer.h"
#include "daemon/tcp/cc.h"
#include "daemon/tcp/delivery.h"
#include "daemon/tcp/endpoint.h"
#include "daemon/tcp/reassembly.h"
#include "daemon/tcp/scoreboard.h"
#include "daemon/tcp/segment.h"
#include "daemon/tcp/timers.h"
#include "daemon/tcp/train.h"
#include "shared/log.h"
#include "shared/util.h"

#define TCP_RTO_INITIAL_NS  NS_PER_S
#define TCP_RTO_CAREFUL_NS  (3 * NS_PER_S)
#define TCP_RTO_MIN_NS      (200 * NS_PER_MS)
#define TCP_RTO_MAX_NS      (120 * NS_PER_S)
#define TCP_PERSIST_MAX_NS  (15 * NS_PER_S) /* a lost window update costs no more */
#define TCP_DELACK_NS       (40 * NS_PER_MS)
#define TCP_TIME_WAIT_NS    (60 * NS_PER_S)
#define TCP_SYN_RETRIES     6u               /* 1 + 2 + 4 + ... + 64 = 127 s */
#define TCP_SYNACK_RETRIES  5u               /* 63 s */
#define TCP_PARKED_NS       (70 * NS_PER_S)  /* a SYN is repeated after 64 s at the latest */
#define TCP_USER_TIMEOUT_NS (924 * NS_PER_S) /* no progress; Linux' tcp_retries2 */
#define TCP_ORPHAN_NS       (120 * NS_PER_S) /* the same when the owner has let go */
#define TCP_ASKED_MIN       6u /* timeouts before that: a machine that slept has not asked */
#define TCP_FIN_WAIT_2_NS   (60 * NS_PER_S) /* nobody will read: wait no longer for the FIN */
#define TCP_CHALLENGE_NS    (500 * NS_PER_MS)
#define TCP_PAWS_NS         (24 * 86400 * NS_PER_S) /* older timestamps mean nothing, RFC 7323 5.5 */
#define TCP_PAWS_LATE       64u                     /* ticks of the far side, mostly ms */
#define TCP_KEEPALIVE_NS    (75 * NS_PER_S)         /* between probes */
#define TCP_KEEPALIVE_COUNT 9u
#define TCP_RECV_INITIAL    (128u * 1024)
#define TCP_SEND_MIN        (128u * 1024)
/* A buffer may grow to what 8 Gbit/s need in a round trip, on short paths to this. */
#define TCP_BUFFER_PER_MS  (1u << 20)
#define TCP_BUFFER_SHORT   (4u << 20)
#define TCP_YOUNG_SEGMENTS 200u /* so long every second segment is acknowledged */
#define TCP_QUICK_SEGMENTS 8u   /* so long every segment is */
#define TCP_MSS_MIN        88u
#define TCP_MTU_MIN        576u
#define TCP_MAX_REPLIES    4096u
#define TCP_PACE_SHIFT     16
#define TCP_PACE_LEAST_RTT (2 * NS_PER_MS) /* shorter paths are not paced by CUBIC */
#define TCP_RATE_LEAST_RTT NS_PER_MS       /* nor is a shorter one measured by rate */
#define TCP_RESET_WAIT_NS  (2 * NS_PER_S)  /* for what goes before a reset to be taken */
#define TCP_SHARES         4096u           /* counters of what peers hold */
#define TCP_TURN_SEGMENTS  64u /* sent for one connection before the next has its turn */

enum tcp_state {
	TCP_CLOSED,      /* final; the owner may still hold it */
	TCP_PARKED,      /* -> SYN_RCVD, CLOSED */
	TCP_SYN_SENT,    /* -> SYN_RCVD, ESTABLISHED, CLOSED */
	TCP_SYN_RCVD,    /* -> ESTABLISHED, CLOSED */
	TCP_ESTABLISHED, /* -> FIN_WAIT_1, CLOSE_WAIT, CLOSED */
	TCP_FIN_WAIT_1,  /* -> FIN_WAIT_2, CLOSING, TIME_WAIT, CLOSED */
	TCP_FIN_WAIT_2,  /* -> TIME_WAIT, CLOSED */
	TCP_CLOSE_WAIT,  /* -> LAST_ACK, CLOSED */
	TCP_CLOSING,     /* -> TIME_WAIT, CLOSED */
	TCP_LAST_ACK,    /* -> CLOSED */
	TCP_TIME_WAIT    /* the record in time_wait.c lives on; this has only unread bytes */
};

enum tcp_recovery {
	TCP_OPEN,     /* -> RECOVERY, LOSS, SPLIT */
	TCP_RECOVERY, /* -> OPEN, LOSS, SPLIT; a loss was found */
	TCP_LOSS,     /* -> OPEN; a timeout */
	TCP_SPLIT,    /* -> OPEN, LOSS; all in flight is sent anew, as it was too long */
};

/* What the one retransmission deadline stands for. */
enum tcp_rtx { TCP_RTX_NONE, TCP_RTX_RTO, TCP_RTX_PROBE, TCP_RTX_REORDER, TCP_RTX_PERSIST };

/* Events that are not the owner's. */
#define TCP_EVENT_INCOMING  0x100u
#define TCP_EVENT_CANCELLED 0x200u

/* An entry of the connection table: a connection, or what remains of one. */
struct tcp_flow {
	struct tcp_flow *next;
	uint64_t hash;
	struct tcp_flow_key key;
	bool is_time_wait;
};

/* What the SYNs of a peer hold now. */
struct tcp_share {
	uint32_t conns, parked;
	size_t memory; /* of those connections' buffers */
};

struct tcp_rack {
	uint64_t xmit_ns, rtt_ns; /* of the latest-sent segment that was delivered */
	uint64_t min_rtt_ns;
	uint32_t end_seq, fack;
	uint32_t dsack_round;
	uint8_t reo_mult, reo_persist;
	bool reordering_seen, has_dsack_round;
};

struct tcp_conn {
	struct tcp_flow flow; /* first */
	struct tcp *tcp;
	void *user;
	struct tcp_share *share; /* NULL: we dialled */
	TAILQ_ENTRY(tcp_conn) event_link, output_link, all_link;
	struct tcp_timer timer;
	/* Deadlines. life_ns: keepalive, FIN_WAIT_2, parking. */
	uint64_t rtx_ns, delack_ns, life_ns;
	uint64_t pace_ns; /* the deadline of pacing: closed until then */
	enum tcp_state state;
	enum tcp_recovery recovery;
	enum tcp_rtx rtx;
	unsigned events;
	int error, soft_error;
	bool fell_silent;   /* the far side, and that was the end */
	bool is_held;       /* the owner has it and hears events */
	bool ends_by_reset; /* when all is acknowledged; without an owner */
	bool in_events, in_output, in_table;
	bool syn_due; /* a SYN or SYN-ACK is to be sent */
	bool has_timestamps, has_sack, has_scale;
	uint8_t snd_scale, rcv_scale;

	/* Sending. */
	uint32_t iss, snd_una, snd_nxt;
	uint32_t snd_end; /* after the last byte committed */
	uint32_t snd_wnd, snd_wl1, snd_wl2, snd_wnd_max;
	uint32_t snd_wl_ts; /* the timestamp of the segment that set it */
	uint32_t peer_mss;
	uint32_t mss; /* bytes of data in a full segment, options taken off */
	uint32_t path_mtu;
	bool fin_queued, fin_sent, space_short;
	bool probe_due;    /* a segment that begs an acknowledgement is to be sent */
	bool override_due; /* send what little the window takes */
	uint8_t retries, keepalives;
	struct tcp_buffer snd_buffer;
	struct tcp_scoreboard board;
	struct tcp_cc cc;
	struct tcp_delivery delivery;
	uint64_t paced_rate;  /* cc.pacing_rate that pace_cost stands for; 0: not paced */
	uint64_t pace_cost;   /* ns for a byte, << TCP_PACE_SHIFT */
	uint64_t pace_due_ns; /* when what was sent would have left at that rate */
	struct tcp_train train;
	struct tcp_rack rack;
	uint64_t srtt_ns, rttvar_ns, rto_ns; /* rto_ns without back-off */
	uint64_t rttvar_max_ns;
	uint32_t rtt_round;   /* rttvar falls once a round trip only */
	uint64_t progress_ns; /* when what is outstanding now began, or last moved */
	uint64_t shut_ns;     /* when the persist timer began */
	struct tcp_patience patience;
	bool owner_waits; /* and decides when silence is too long */
	uint64_t last_sent_ns;
	uint64_t retransmitted;
	uint32_t recover; /* recovery ends when this is acknowledged */
	uint32_t prr_delivered, prr_out, prr_flight;
	uint32_t limited_seq; /* cwnd held us back when this was the next to send */
	uint32_t dupacks, tlp_end;
	bool is_limited;
	bool tlp_out, tlp_retransmitted; /* a tail probe is out; it carries old data */
	bool tail_probe_due;
	bool undo_possible;
	uint32_t undo_ts; /* our timestamp at the first retransmission of the episode */
	struct tcp_sack_block sack_seen[TCP_MAX_SACK];
	uint8_t sack_seen_count;

	/* Receiving. */
	uint32_t irs, rcv_nxt;
	uint32_t rcv_read;  /* first byte the owner has not consumed */
	uint32_t rcv_edge;  /* right edge of the window as promised */
	uint32_t rcv_limit; /* bytes the window may promise */
	uint32_t rcv_mss;   /* the largest segment seen */
	uint32_t acked_seq; /* what we last acknowledged */
	uint32_t fin_seq;
	bool has_fin; /* fin_seq is known, though perhaps not reached */
	bool fin_reached;
	bool ack_now;
	bool is_short; /* promised bytes found no memory: says that the window is shut */
	uint32_t young_segments;
	struct tcp_buffer rcv_buffer;
	struct tcp_reassembly ranges;
	struct tcp_sack_block dsack; /* start == end: none due */
	uint32_t ts_recent, ts_offset;
	uint64_t ts_recent_ns, challenge_ns, last_heard_ns;
	uint64_t tune_ns, rcv_rtt_ns;
	uint32_t tune_seq;
};

TAILQ_HEAD(tcp_conn_list, tcp_conn);

struct tcp_time_wait {
	struct tcp_flow flow; /* first */
	TAILQ_ENTRY(tcp_time_wait) link;
	uint64_t expires_ns, challenge_ns;
	uint32_t snd_nxt, rcv_nxt, ts_recent, ts_offset, window;
	bool has_timestamps, has_answered_syn;
};

/* A segment to send that no connection stands behind (any more). */
struct tcp_reply {
	struct tcp_flow_key key;
	struct tcp_options options;
	uint32_t seq, ack;
	uint16_t window;
	uint8_t flags;
};

struct tcp_table {
	struct tcp_flow **buckets;
	uint32_t mask, count;
	uint8_t hash_key[16];
	struct tcp_flow *last; /* found last: a batch is mostly one flow */
};

struct tcp {
	struct tcp_config config;
	struct tcp_callbacks callbacks;
	void *owner;
	uint64_t now_ns; /* as last told */
	struct tcp_table table;
	struct tcp_timers timers;
	struct tcp_memory memory;
	struct tcp_conn_list all, events, output, dead;
	TAILQ_HEAD(, tcp_time_wait) time_wait;
	struct tcp_reply *replies; /* a ring */
	uint32_t reply_head, reply_count, reply_room;
	uint32_t conns, parked, time_waits;
	const void *source; /* who sent what is coming in */
	struct tcp_share shares[TCP_SHARES];
	struct log_gate share_gate;
	bool in_flush;
	bool is_blocked; /* the last flush ended because the link took no more */
	struct tcp_stats stats;
};

/* endpoint.c */
struct tcp_conn *tcp_conn_create(struct tcp *tcp, const struct tcp_flow_key *key, uint64_t hash);
void tcp_conn_set_state(struct tcp_conn *conn, enum tcp_state state);
void tcp_conn_event(struct tcp_conn *conn, unsigned events);
void tcp_conn_want_output(struct tcp_conn *conn);
/* Makes sure the timer looks at the connection by its earliest deadline. */
void tcp_conn_arm(struct tcp_conn *conn);
/* Nothing more is sent or received; frees the connection unless the owner holds it. */
void tcp_conn_close(struct tcp_conn *conn, enum tcp_state state);
/* The same with an error, which the owner is told. */
void tcp_conn_fail(struct tcp_conn *conn, int error);
/* Of one that ends by a reset: sends that if nothing else is left to do. */
void tcp_reset_when_done(struct tcp_conn *conn);
uint32_t tcp_timestamp(const struct tcp_conn *conn, uint64_t now_ns);
/* The most that either buffer may hold: more on long paths, since a short one is full with less. */
uint32_t tcp_buffer_max(const struct tcp_conn *conn);

static inline bool tcp_state_is_synchronized(enum tcp_state state)
{
	return state >= TCP_ESTABLISHED && state <= TCP_LAST_ACK;
}

/* input.c */
void tcp_conn_input(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns);
void tcp_listen_input(struct tcp *tcp, const struct tcp_segment *s, uint64_t hash,
		      uint32_t iss_floor, uint64_t now_ns);

/* share.c */
/* Is there room for one more connection that tcp->source begins? Counts and logs if not. */
bool tcp_share_allows(struct tcp *tcp, const struct tcp_segment *syn, uint64_t now_ns);
void tcp_share_enter(struct tcp_conn *conn);
void tcp_share_leave(struct tcp_conn *conn);

/* ack.c */
void tcp_ack_input(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns);
void tcp_rtt_sample(struct tcp_conn *conn, uint64_t rtt_ns);
void tcp_enter_recovery(struct tcp_conn *conn, uint64_t now_ns);
/* Marks lost what RACK finds, enters recovery if need be, sets the deadline. */
void tcp_detect_loss(struct tcp_conn *conn, uint64_t now_ns);
void tcp_enter_loss(struct tcp_conn *conn, uint64_t now_ns);

/* rack.c */
void tcp_rack_init(struct tcp_rack *rack);
void tcp_rack_delivered(struct tcp_conn *conn, const struct tcp_sent *sent, bool ts_is_older,
			uint64_t now_ns);
void tcp_rack_dsack(struct tcp_conn *conn);
void tcp_rack_recovery(struct tcp_conn *conn);
/* Marks lost what is; returns when to look again, or NEVER_NS. */
uint64_t tcp_rack_detect(struct tcp_conn *conn, uint64_t now_ns);
/* When the tail probe is due, or NEVER_NS if none is called for. */
uint64_t tcp_rack_probe_ns(const struct tcp_conn *conn, uint64_t now_ns);

/* recv.c */
void tcp_recv_start(struct tcp_conn *conn, const struct tcp_segment *syn, uint64_t now_ns);
void tcp_recv_segment(struct tcp_conn *conn, const struct tcp_segment *s, uint64_t now_ns);
/* The list of ranges has changed: its bytes count as memory. */
void tcp_recv_count(struct tcp_conn *conn);
bool tcp_recv_acceptable(const struct tcp_conn *conn, const struct tcp_segment *s);
uint32_t tcp_recv_window(const struct tcp_conn *conn);
/* The window field for the acknowledgement number about to be sent; moves the edge. */
uint16_t tcp_recv_advertise(struct tcp_conn *conn, uint32_t ack);
/* Is an acknowledgement due in this flush? Arms the delayed one if not. */
bool tcp_recv_ack_due(struct tcp_conn *conn, uint64_t now_ns);
void tcp_recv_ack_sent(struct tcp_conn *conn);
uint8_t tcp_recv_choose_scale(const struct tcp *tcp);
void tcp_recv_tune(struct tcp_conn *conn, uint64_t now_ns);

/* bare.c: all that send return false where the link is blocked */
void tcp_send_timestamp(const struct tcp_conn *conn, struct tcp_options *o, uint64_t now_ns);
bool tcp_send_syn(struct tcp_conn *conn, uint64_t now_ns);
bool tcp_send_acks(struct tcp_conn *conn, uint64_t now_ns);
bool tcp_send_probe(struct tcp_conn *conn, uint64_t now_ns);
/*
 * Beyond what the peer allows by now, and by more than what its scale rounds; after a timeout
 * however little that is.
 */
bool tcp_send_is_beyond(const struct tcp_conn *conn, uint32_t end);
/* The sequence number of a segment without data. */
uint32_t tcp_send_bare_seq(const struct tcp_conn *conn);

/* send.c */
/* Sends what may be sent now. False: the link is blocked. */
bool tcp_conn_output(struct tcp_conn *conn, uint64_t now_ns);
void tcp_send_start(struct tcp_conn *conn, const struct tcp_segment *syn, uint64_t now_ns);
/* From the peer's option and the path's MTU. */
void tcp_send_set_mss(struct tcp_conn *conn);
/* Bytes below snd_una are done with: tells the owner of new space. */
void tcp_send_acked(struct tcp_conn *conn, uint32_t from);
/* Sets the retransmission deadline anew: after an acknowledgement, or an expiry. */
void tcp_send_arm(struct tcp_conn *conn, uint64_t now_ns);
uint32_t tcp_send_limit(const struct tcp_conn *conn);
/* Takes over cc.pacing_rate. */
void tcp_send_pace(struct tcp_conn *conn);
uint32_t tcp_initial_seq(const struct tcp *tcp, const struct tcp_flow_key *key, uint64_t now_ns);

/* expire.c */
void tcp_conn_expire(struct tcp_conn *conn, uint64_t now_ns);
uint64_t tcp_backed_off(const struct tcp_conn *conn);
/* at_ns, or sooner if the owner's patience ends before that. */
uint64_t tcp_within_patience(const struct tcp_conn *conn, uint64_t at_ns, uint64_t now_ns);
void tcp_life_heard(struct tcp_conn *conn, uint64_t now_ns);

/* time_wait.c */
void tcp_time_wait_enter(struct tcp_conn *conn, uint64_t now_ns);
void tcp_time_wait_input(struct tcp *tcp, struct tcp_time_wait *tw, const struct tcp_segment *s,
			 uint64_t now_ns);
void tcp_time_wait_remove(struct tcp *tcp, struct tcp_time_wait *tw);
void tcp_time_wait_expire(struct tcp *tcp, uint64_t now_ns);

/* reply.c */
void tcp_reply_segment(struct tcp *tcp, const struct tcp_reply *reply);
/* RST for a segment no connection takes (RFC 9293, 3.5.2). */
void tcp_reply_reset(struct tcp *tcp, const struct tcp_segment *s);
/* RST from a connection about to go. */
void tcp_reply_abort(struct tcp_conn *conn);
/* An acknowledgement from tcp_input(), not more than one in TCP_CHALLENGE_NS. */
void tcp_reply_challenge(struct tcp_conn *conn, uint64_t now_ns);
/* False: the link is blocked. */
bool tcp_reply_flush(struct tcp *tcp);

/* table.c */
int tcp_table_init(struct tcp_table *table, const uint8_t key[static 16]);
void tcp_table_finish(struct tcp_table *table);
uint64_t tcp_table_hash(const struct tcp_table *table, const struct tcp_flow_key *key);
struct tcp_flow *tcp_table_find(struct tcp_table *table, const struct tcp_flow_key *key,
				uint64_t *hash);
void tcp_table_add(struct tcp_table *table, struct tcp_flow *flow);
void tcp_table_remove(struct tcp_table *table, struct tcp_flow *flow);
struct tcp_flow_key tcp_flow_key(const struct endpoint *local, const struct endpoint *remote);

#endif
