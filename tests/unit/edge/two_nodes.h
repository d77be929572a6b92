/*
 * Two edges in one loop, joined by two netstacks (real or fake), in a thread of
 * their own; the test is the programs on both sides and the shim of each.
 */
#ifndef MESHWRAP_TESTS_TWO_NODES_H
#define MESHWRAP_TESTS_TWO_NODES_H

#include <pthread.h>

#include "daemon/edge/edge.h"
#include "daemon/edge/sock.h"
#include "daemon/loop.h"
#include "shared/ipc.h"
#include "shared/map.h"
#include "tests/unit/edge/programs.h"

#define A_ADDR  "100.64.0.1"
#define B_ADDR  "100.64.0.2"
#define A_ADDR6 "fd00::1"
#define B_ADDR6 "fd00::2"
#define B_NET   "100.64.9.0" /* /24, behind it */

struct node {
	struct two_nodes *both;
	struct node *other;
	struct edge *edge;
	struct dns *dns;
	struct netstack *ns;
	char dir[64];
	const struct map *map; /* as the shim sees it */
	uint64_t packets;
	int reachable; /* what the edge is told */
	bool is_v6_another_peers;
	bool is_net_nobodys; /* B_NET */
	bool is_cut;         /* what it sends is lost */
};

struct two_nodes {
	struct node node[2];
	struct loop *loop;
	pthread_t thread;
	int wake[2]; /* a pipe: functions to run inside the loop */
	bool is_running;
	bool refuse_synhold;
};

/* Zero before the first start. One that still runs, since a setup failed half-way, is stopped. */
void two_nodes_start(struct two_nodes *t, bool refuse_synhold);
void two_nodes_stop(struct two_nodes *t);
/* Runs fn(arg) in the loop's thread and waits for it. */
void two_nodes_call(struct two_nodes *t, void (*fn)(void *arg), void *arg);
struct edge_stats two_nodes_stats(struct node *node);
/* Until the node has that many flows; fails the test after some seconds. */
void two_nodes_wait_flows(struct node *node, uint64_t flows);

/* Until neither has any. */
void two_nodes_wait_idle(struct two_nodes *t);
/* Processor time of the loop so far. */
uint64_t two_nodes_used_ns(struct two_nodes *t);

/* The node's edge believes that so much time has passed. */
void two_nodes_let_pass(struct node *node, unsigned seconds);
/* ... until then, by CLOCK_BOOTTIME. */
void two_nodes_let_pass_until(struct node *node, uint64_t at_ns);

/* A connection to a socket of the node's folder: PATHS_CONTROL, PATHS_API; or -1. */
int shim_dial(struct node *node, const char *name);
/* What the shim does for connect(): bound to the own mirror, asked, then connected. */
int shim_ask(struct node *node, enum ipc_type type, const struct endpoint *local,
	     const struct endpoint *remote, uint32_t flags, struct ipc_reply *reply);
/* What the shim posts; as it is, with whatever length. 0 or errno. */
int shim_post(struct node *node, const void *post, size_t len);
/* A bound socket, and the post for its dial: nothing is posted yet. */
int shim_prepare_post(struct node *node, const char *remote, uint16_t port, struct ipc_post *post);
/* A bound socket and where it must connect; 0 or the daemon's errno. */
int shim_prepare(struct node *node, const char *remote, uint16_t port, int *fd,
		 struct endpoint *local, struct endpoint *mirror);
/* fd, or -errno as the program would see it. */
int shim_connect(struct node *node, const char *remote, uint16_t port);

/* What the map says of a program's connection, by the ends that its kernel has. */
bool map_has_flow(struct node *node, const struct endpoint *local, const struct endpoint *peer,
		  struct map_flow *flow);
/* The same of a connected socket, whose local end it tells. */
struct map_flow flow_of_socket(struct node *node, int fd, struct endpoint *local);

struct endpoint mesh_endpoint(const char *addr, uint16_t port);
/* The mirror of a mesh address in the node's map. */
uint32_t mirror_of(struct node *node, const char *addr);
/* A connection from a program of a to a listener of b, both ends with a limit. */
void two_nodes_join(struct two_nodes *t, const char *addr, int *client, int *server);
/* Closes both, and waits until both edges have forgotten it. */
void two_nodes_hang_up(struct two_nodes *t, int client, int server);

#endif
