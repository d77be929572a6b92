/*
 * A leg: one request at one resolver, by UDP and by TCP. Shared by forwarder.c,
 * which owns requests and judges answers, leg_udp.c and leg_tcp.c.
 */
#ifndef MESHWRAP_DAEMON_DNS_LEG_H
#define MESHWRAP_DAEMON_DNS_LEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/dns/dns.h"
#include "daemon/dns/forwarder.h"
#include "daemon/dns/message.h"
#include "daemon/loop.h"
#include "shared/log.h"

enum try_state { TRY_NONE, TRY_WAITS, TRY_OVER };

struct leg {
	struct request *request;
	struct endpoint upstream;
	bool is_tunnel, is_over;
	enum try_state udp_state, tcp_state;
	int udp, tcp; /* -1: none */
	void *dial;   /* under way: there is no tcp yet */
	struct event udp_event, tcp_event;
	uint16_t tunnel_port;
	unsigned foreign;
	/* TCP: the length prefix and what follows, in both directions. */
	size_t sent, got, room;
	uint8_t *in;
};

struct request {
	struct forwarder *forwarder;
	struct request *prev, *next;
	forwarder_done *done;
	void *arg;
	bool is_tcp, is_over;
	struct event timer;
	unsigned spent_ms; /* when the timer fires */
	unsigned leg_count;
	struct leg leg[DNS_RESOLVERS_MAX];
	/* What is told when no good answer comes: copies. */
	uint8_t *truncated, *servfail, *refused;
	size_t truncated_len, servfail_len, refused_len;
	unsigned said_refused;
	size_t query_len;
	uint8_t query[2 + DNS_QUERY_MAX]; /* behind the length prefix */
};

struct forwarder {
	struct loop *loop;
	struct dns_tunnel tunnel;
	struct dns_dialler dialler;
	struct request *all, *dead;
	unsigned count;
	uint64_t spoofed;
	struct log_gate spoof_gate;
	uint8_t buffer[DNS_UDP_MAX + 1];
};

/* forwarder.c. Both may end the request. */
void leg_over(struct leg *leg);
/* Something came by UDP or TCP. bytes: also changed by who is told. */
void leg_judge(struct leg *leg, uint8_t *bytes, size_t len, bool by_tcp);

/* leg_udp.c */
bool leg_start_udp(struct leg *leg); /* false: there will be no answer by UDP */
void leg_close_udp(struct leg *leg);
void leg_repeat_udp(struct leg *leg);
void leg_udp_failed(struct leg *leg); /* goes on by TCP, else the leg is over */
/* A socket connected to there, or on its way; -errno. */
int leg_open_socket(const struct endpoint *to, int type);

/* leg_tcp.c */
bool leg_start_tcp(struct leg *leg); /* false: there will be no answer by TCP */
void leg_close_tcp(struct leg *leg);
void leg_free_bytes(struct leg *leg); /* what TCP read */

#endif
