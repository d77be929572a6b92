/*
 * IP, UDP and ICMP on the mesh side, and the way to tcp/. The front door of daemon/stack.
 *
 * Pure, like tcp/: inner packets and the time come in; a batch of inner
 * packets goes out through one callback when it is full and at each flush.
 * Answers ICMP echo. Reassembles and makes fragments (bounded).
 */
#ifndef MESHWRAP_DAEMON_STACK_NETSTACK_H
#define MESHWRAP_DAEMON_STACK_NETSTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/packet.h"
#include "daemon/stack/tsmp.h"
#include "daemon/tcp/endpoint.h"
#include "shared/endpoint.h"

#define NETSTACK_OWN_MAX 64

struct filter;
struct filter_source;
struct netstack;

struct netstack_callbacks {
	/* Inner packets to send; the batch is reset when the callback returns. */
	void (*output)(void *owner, struct packet_batch *batch);
	/* A datagram for this node; data lives until the callback returns. */
	void (*udp_received)(void *owner, const struct endpoint *local,
			     const struct endpoint *remote, const uint8_t *data, size_t len);
	/* The far side said that our datagram local -> remote was not taken. */
	void (*udp_failed)(void *owner, const struct endpoint *local, const struct endpoint *remote,
			   int error);
	/* An echo reply to netstack_ping(). data: what was sent. */
	void (*pong)(void *owner, const struct ip_addr *from, uint16_t id, uint16_t seq,
		     const uint8_t *data, size_t len);
	/*
	 * Does what we send to addr go to the peer that source stands for? Only such a one
	 * can have met it, so only its ICMP errors about it are believed. NULL: anybody's.
	 */
	bool (*serves)(void *owner, const struct filter_source *source, const struct ip_addr *addr);
};

/* TSMP, which programs never see. Any may be NULL. */
struct netstack_tsmp_callbacks {
	/* An answer to netstack_tsmp_ping(); peerapi_port 0: it has none. */
	void (*pong)(void *owner, const struct ip_addr *from,
		     const uint8_t data[static TSMP_PING_DATA], uint16_t peerapi_port);
	/* The peer with this address says that this is its disco key now; never zero. */
	void (*disco_key)(void *owner, const struct ip_addr *from,
			  const uint8_t key[static TSMP_KEY_LEN]);
};

struct netstack_stats {
	uint64_t packets_in, packets_out, bad_packets, not_for_us, unsupported, filtered;
	uint64_t tsmp_in, rejects_in, rejects_out;
	uint64_t udp_in, udp_out, icmp_in, icmp_out, errors_disbelieved;
	uint64_t fragments_in, reassembled, reassembly_failed;
};

/* own: this node's addresses, at most NETSTACK_OWN_MAX. tcp callbacks get owner, too. NULL on
 * -ENOMEM. */
struct netstack *
netstack_create(const struct ip_addr *own, unsigned own_count, const struct tcp_config *tcp_config,
		const struct netstack_callbacks *callbacks,
		void (*tcp_incoming)(void *owner, struct tcp_conn *conn,
				     const struct endpoint *local, const struct endpoint *remote),
		void (*tcp_event)(void *owner, struct tcp_conn *conn, void *user, unsigned events),
		void (*tcp_cancelled)(void *owner, struct tcp_conn *conn), void *owner);
void netstack_destroy(struct netstack *ns);
struct tcp *netstack_tcp(struct netstack *ns);

/*
 * What may come in; the filter is the caller's and outlives the stack or the
 * next call. NULL, as at first: everything (a mesh without rules).
 */
void netstack_set_filter(struct netstack *ns, struct filter *filter);
/* Other own addresses; connections of those that went away are the caller's to end. */
void netstack_set_own(struct netstack *ns, const struct ip_addr *own, unsigned own_count);
/* Copied; they get owner, too. */
void netstack_set_tsmp(struct netstack *ns, const struct netstack_tsmp_callbacks *callbacks);

/*
 * A batch from the tunnel, all of one peer. source: who it is, for the filter, and by its
 * address for what one peer may take; NULL: no capabilities. Call netstack_flush() when all
 * batches of the round are in.
 */
void netstack_input(struct netstack *ns, const struct filter_source *source, struct packet *packets,
		    unsigned count, uint64_t now_ns);
void netstack_flush(struct netstack *ns, uint64_t now_ns);
uint64_t netstack_deadline(const struct netstack *ns);
void netstack_expire(struct netstack *ns, uint64_t now_ns);
/* While true nothing is produced beyond what is already in the batch (the UDP socket is full). */
void netstack_set_blocked(struct netstack *ns, bool blocked);

/* 0; -EMSGSIZE above what IP can carry; -EAGAIN while blocked; -EAFNOSUPPORT for mixed families. */
int netstack_send_udp(struct netstack *ns, const struct endpoint *local,
		      const struct endpoint *remote, const uint8_t *data, size_t len,
		      uint64_t now_ns);
/* Port unreachable, for a datagram remote -> local that nobody here takes. */
void netstack_refuse_udp(struct netstack *ns, const struct endpoint *local,
			 const struct endpoint *remote, const uint8_t *data, size_t len,
			 uint64_t now_ns);
int netstack_ping(struct netstack *ns, const struct ip_addr *local, const struct ip_addr *remote,
		  uint16_t id, uint16_t seq, const uint8_t *data, size_t len);
/* As netstack_ping(), for pong of netstack_set_tsmp(). */
int netstack_tsmp_ping(struct netstack *ns, const struct ip_addr *local,
		       const struct ip_addr *remote, const uint8_t data[static TSMP_PING_DATA]);
/* Gives back memory that is kept for the next transfer. */
void netstack_trim(struct netstack *ns);
void netstack_get_stats(const struct netstack *ns, struct netstack_stats *stats);

#endif
