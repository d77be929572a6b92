/* For dgram.c, dgram_in.c and dgram_out.c. */
#ifndef MESHWRAP_DAEMON_EDGE_DGRAM_PRIVATE_H
#define MESHWRAP_DAEMON_EDGE_DGRAM_PRIVATE_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include <netinet/in.h>

#include "daemon/edge/dgram.h"
#include "daemon/edge/private.h"
#include "daemon/packet.h"
#include "daemon/stack/fair.h"

#define DGRAM_USERS 8  /* local ports in use at once that an endpoint remembers */
#define DGRAM_BATCH 16 /* datagrams read at once */
/* What one peer sends to ports where nobody listens is looked after so often in so long. */
#define DGRAM_REFUSALS    128
#define DGRAM_REFUSALS_MS 100
#define DGRAM_SCANNERS    64 /* peers of which that is counted; more share */

struct dgram_key {
	uint32_t mirror; /* of the peer */
	uint16_t port;   /* on the mesh */
	uint16_t v6only; /* the socket is on ::1 */
};

struct dgram {
	struct dgrams *dgrams;
	struct dgram_key key;
	struct endpoint remote; /* on the mesh */
	const void *holder;     /* of its address when this was made; only compared */
	bool is_missed;         /* that one was gone at the last look */
	struct endpoint at;     /* our socket on loopback */
	int fd;                 /* -1 while it sulks */
	struct event event;
	bool has_event;
	bool is_paused; /* it has something to say, but the stack takes no more */
	LIST_ENTRY(dgram) by_paused;
	bool is_asked_for; /* by a program */
	bool is_service;   /* answered by ourselves, see service.h */
	struct fair_entry fair;
	struct endpoint user[DGRAM_USERS]; /* programs' sockets */
	unsigned user_count;
	bool has_more_users;     /* there were more at once than can be remembered */
	struct edge_timer timer; /* idle, or the end of sulking */
	UT_hash_handle hh;
	struct dgram *next_dead;
};

struct dgram_route_key {
	uint32_t peer_mirror, own_mirror;
	uint16_t peer_port, local_port;
};

struct dgram_route {
	struct dgram_route_key key;
	enum target target;
	uint64_t used_ns;
	UT_hash_handle hh;
};

/* Datagrams of a peer that nobody took, in this stretch of time. */
struct dgram_refusals {
	const void *peer;  /* as edge_peer_of() says */
	uint64_t since_ns; /* 0: free */
	unsigned count;
};

/* A datagram that the stack would not take; bytes follow. */
struct dgram_kept {
	struct dgram_kept *next;
	struct endpoint local, remote;
	size_t len;
	uint8_t data[];
};

/* Those at peers' mirrors, and those on ::1, which share the ports of one address. */
struct dgram_kind {
	struct fair fair;
	unsigned count, service_count;
	unsigned max; /* without services */
};

struct dgrams {
	struct edge *edge;
	struct dgram *table, *dead;
	struct dgram_kind kind[2]; /* by key.v6only */
	struct log_gate share_gate;
	struct dgram_route *routes;
	struct dgram_refusals refusals[DGRAM_SCANNERS];
	uint64_t ignored;                    /* datagrams that nobody was looked for */
	struct dgram_kept *kept, **kept_end; /* while not empty nothing is read */
	LIST_HEAD(, dgram) paused;
	struct edge_timer retry;
	uint8_t buffer[DGRAM_BATCH][PACKET_MAX + 1];
};

/* Frees removed endpoints. Not from inside an endpoint's callback. */
void dgrams_reap(struct dgrams *dgrams);
struct dgram *dgram_find(struct dgrams *dgrams, uint32_t mirror, uint16_t port, bool v6only);
/* The endpoint for this peer and port, made when there is none. 0 or -errno. */
int dgram_get(struct dgrams *dgrams, const struct endpoint *remote, bool v6only,
	      struct dgram **out);
/* It carries something for the program's socket at user. */
void dgram_used(struct dgram *dgram, const struct endpoint *user);
/* How many of those sockets are still there; the others are forgotten. */
unsigned dgram_live_users(struct dgram *dgram);
/* Nobody took what came from there: it goes again if no program has ever used it. */
void dgram_drop_unused(struct dgram *dgram);
/* Closed for now: who sends to it gets the kernel's refusal. */
void dgram_sulk(struct dgram *dgram);
/* Opens again. 0, or -errno: it is gone, or sulks on where descriptors or memory are short. */
int dgram_wake(struct dgram *dgram);
/* Not read until dgrams_resume(). */
void dgram_pause(struct dgram *dgram);
void dgrams_resume(struct dgrams *dgrams);

void dgram_event(evutil_socket_t fd, short what, void *arg);
void dgram_retry(struct edge_timer *timer, uint64_t now_ns);
void dgram_drop_kept(struct dgrams *dgrams);

/* What the kernel says of datagrams that we sent to programs. */
void dgram_read_errors(struct dgram *dgram);
void dgram_learn_route(struct dgram *dgram, const struct endpoint *user, const struct map_own *own);
void dgram_forget_routes(struct dgrams *dgrams);

#endif
