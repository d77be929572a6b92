/* What the files of daemon/proxy share. For them only. */
#ifndef MESHWRAP_DAEMON_PROXY_PRIVATE_H
#define MESHWRAP_DAEMON_PROXY_PRIVATE_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/edge/dial.h"
#include "daemon/edge/timer.h"
#include "daemon/loop.h"
#include "daemon/proxy/httpproxy.h"
#include "daemon/proxy/proxy.h"
#include "daemon/proxy/relay.h"
#include "daemon/proxy/socks.h"
#include "shared/log.h"

#define PROXY_LISTENERS_MAX 4 /* of both families, and there are two settings */
#define PROXY_ADDRESSES_MAX 8 /* of a name that are tried */

struct client;

enum proxy_kind { PROXY_SOCKS = 1, PROXY_HTTP = 2 };

struct listener {
	struct proxy *proxy;
	struct endpoint at;
	unsigned kinds; /* enum proxy_kind */
	int fd;
	struct event event;
	bool has_event;
};

struct proxy {
	struct loop *loop;
	struct edge *edge;
	struct proxy_backend backend;
	bool allow_all_users;
	int socket_table;
	struct listener listener[PROXY_LISTENERS_MAX];
	unsigned listener_count;
	struct edge_timers timers;
	struct edge_timer resume;
	struct client *all;
	unsigned count;
	struct log_gate stranger_gate, full_gate;
};

/* Is the socket at theirs, of that type, one of somebody who may use the proxy? Else says so. */
bool proxy_may_use(struct proxy *proxy, int type, const struct endpoint *theirs,
		   const struct endpoint *ours);

/* ---- names: names.c ---- */

struct lookup;

/*
 * Where that is: done(arg, error, addresses), perhaps before this returns; else *lookup is
 * set until then, and lookup_forget() ends it.
 */
void lookup_start(struct proxy *proxy, const struct target_place *place, proxy_found *done,
		  void *arg, struct lookup **lookup);
void lookup_forget(struct lookup *lookup);

/* ---- one outgoing connection: outgoing.c ---- */

struct outgoing {
	struct proxy *proxy;
	struct endpoint at[PROXY_ADDRESSES_MAX + TARGETS_MAX];
	unsigned count, next;
	struct flow *dial; /* a mesh dial under way */
	int fd;            /* a kernel's connect under way, or the result */
	struct event event;
	bool has_event;
	int error; /* of the last try */
	struct edge_timer timer;
	uint64_t deadline_ns;
	/*
	 * error 0: connected, either by o->fd (which is the caller's now) or by o->dial (join or
	 * cancel it at once). Not called from inside outgoing_start().
	 */
	void (*done)(void *arg, int error);
	void *arg;
};

void outgoing_init(struct outgoing *o, struct proxy *proxy, void (*done)(void *arg, int error),
		   void *arg);
/* Tries the addresses one after the other. 0 or a positive errno: none can be tried. */
int outgoing_start(struct outgoing *o, const struct ip_addr *ips, unsigned count, uint16_t port);
void outgoing_stop(struct outgoing *o);

/* ---- clients: client.c ---- */

/* fd is accepted and allowed; takes it. */
void client_create(struct proxy *proxy, int fd, unsigned kinds);
void client_destroy(struct client *client);

/* ---- a SOCKS UDP association: associate.c ---- */

struct association;

/* client: the TCP connection, whose ends say where the datagrams are. 0 or a positive errno. */
int association_open(struct proxy *proxy, int client, struct association **out,
		     struct endpoint *at);
void association_close(struct association *a);

#endif
