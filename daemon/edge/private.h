/* What the files of daemon/edge share: the edge itself. For them only. */
#ifndef MESHWRAP_DAEMON_EDGE_PRIVATE_H
#define MESHWRAP_DAEMON_EDGE_PRIVATE_H

#include "daemon/edge/anew.h"
#include "daemon/edge/apps.h"
#include "daemon/edge/claims.h"
#include "daemon/edge/edge.h"
#include "daemon/edge/flow.h"
#include "daemon/edge/hold.h"
#include "daemon/edge/mapfile.h"
#include "daemon/edge/plan.h"
#include "daemon/edge/posts.h"
#include "daemon/edge/rest.h"
#include "daemon/edge/service.h"
#include "daemon/edge/sock.h"
#include "daemon/edge/socktable.h"
#include "daemon/edge/targets.h"
#include "daemon/edge/timer.h"
#include "daemon/loop.h"
#include "shared/ipc.h"
#include "shared/paths.h"

struct dgrams;
struct localapi;

struct edge {
	struct loop *loop;
	struct edge_config config; /* dir is the copy below */
	char dir[PATHS_MAX];
	struct edge_callbacks callbacks;
	void *owner;
	int lock_fd, keep_fd;
	int socket_table; /* negative: none */
	struct mapfile *mapfile;
	struct claims claims;
	struct plan *plan;
	struct edge_timers timers;
	struct port_range ports;
	struct hold hold;
	struct hold first;        /* the ordinary listener, for "dial first" */
	struct event first_event; /* programs that connect there */
	bool has_first_event;
	struct edge_timer first_resume;
	struct apps apps;
	struct posts posts;
	struct anew anew;
	struct flows flows;
	struct rests rests;
	struct dgrams *dgrams;
	struct services services;
	struct map_directory *dir_now; /* what the map says; NULL before there is a mesh */
	struct localapi *api;
	struct netstack *ns; /* NULL until it is set */
	struct edge_stats stats;
	uint64_t random; /* where searches for a free port begin */
};

/* The own address of a mesh flow's family, preferring the one whose mirror this is. */
bool edge_own_address(const struct edge *edge, uint32_t mirror, bool want_v6, struct map_own *own);
/* Who has this mesh address, only to be compared; NULL: nobody, or nobody tells. */
const void *edge_peer_of(const struct edge *edge, const struct ip_addr *mesh);
/* Whose it stays, whatever becomes of the way there. As above. */
const void *edge_holder_of(const struct edge *edge, const struct ip_addr *mesh);
/* 0, or the positive errno with which a program's request for this address fails. */
int edge_check_peer(const struct edge *edge, const struct ip_addr *mesh, uint32_t *mirror);

#endif
