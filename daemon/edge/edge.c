/*
 * The edge, put together: start and end, the directory, and the doors through
 * which the mesh side comes in.
 */
#include "daemon/edge/edge.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/dns/dns.h"
#include "daemon/edge/dgram.h"
#include "daemon/edge/folder.h"
#include "daemon/edge/localapi.h"
#include "daemon/edge/private.h"
#include "shared/log.h"
#include "shared/util.h"

#define IFNAME "tailscale0" /* what programs look for */

/* What a node without a flow has open, and some for who asks it. */
#define FILES_LEAST 64

/* A flow takes a descriptor while it is not idle, and the usual soft limit is 1,024. */
static int raise_descriptor_limit(char *error)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 0;
	if (limit.rlim_max < FILES_LEAST) {
		snprintf(error, 256, "only %llu files may be open here (ulimit -Hn); %d are needed",
			 (unsigned long long)limit.rlim_max, FILES_LEAST);
		return -EMFILE;
	}
	if (limit.rlim_cur == limit.rlim_max)
		return 0;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warn("edge: the limit of descriptors stays as it is: %s", strerror(errno));
	return 0;
}

/* Programs and we meet on it, so without it every start would only seem to succeed. */
static int check_loopback(char *error)
{
	const struct endpoint at = sock_endpoint(INADDR_LOOPBACK, 9);
	int err, fd = sock_open(&at, SOCK_DGRAM);

	if (fd < 0)
		return 0; /* whoever needs one will say so */
	err = sock_connect(fd, &at);
	close(fd);
	if (err != -ENETUNREACH)
		return 0;
	snprintf(error, 256,
		 "the loopback interface is down, by which programs reach the mesh; as root run: "
		 "ip link set lo up");
	return err;
}

/* "Dial first": programs that were told that the far side has answered. */
static void accept_dialled(evutil_socket_t listener, short what, void *arg)
{
	struct edge *edge = arg;

	(void)what;
	flows_reap(&edge->flows);
	for (int i = 0; i < APPS_PER_ROUND; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			flow_accept(edge, fd);
			continue;
		}
		if (errno == EMFILE && flows_free_descriptors(&edge->flows))
			continue;
		/* Asking again at once would only burn time. */
		if ((errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) &&
		    event_del(&edge->first_event) == 0)
			edge_timer_set(&edge->timers, &edge->first_resume,
				       loop_now(edge->loop) + APPS_PAUSE_MS * NS_PER_MS);
		return;
	}
}

static void resume_first(struct edge_timer *timer, uint64_t now_ns)
{
	struct edge *edge = CONTAINER_OF(timer, struct edge, first_resume);

	(void)now_ns;
	if (event_add(&edge->first_event, NULL) != 0)
		log_err("edge: libevent failed, no more connects are taken");
}

static int open_hold(struct edge *edge)
{
	int err = hold_open(&edge->hold, &edge->ports, mapfile_hold_port(edge->mapfile),
			    edge->config.refuse_synhold);

	if (err)
		return err;
	edge->stats.synhold = edge->hold.works;
	edge->stats.synhold_why = edge->hold.why;
	if (!edge->hold.works) {
		log_warn("edge: SYN hold does not work here (%s): connects are dialled first",
			 edge->hold.why);
		hold_close(&edge->hold);
	}
	err = hold_open(&edge->first, &edge->ports, mapfile_dial_port(edge->mapfile), true);
	if (err)
		return err;
	mapfile_set_dial_ports(edge->mapfile, edge->hold.works ? edge->hold.port : 0,
			       edge->first.port);
	edge->first_resume.fired = resume_first;
	if (event_assign(&edge->first_event, loop_base(edge->loop), edge->first.listener,
			 EV_READ | EV_PERSIST, accept_dialled, edge) != 0 ||
	    event_add(&edge->first_event, NULL) != 0)
		return -ENOMEM;
	edge->has_first_event = true;
	return 0;
}

/* ---- as plan_create() wants it ---- */

static int take_block(void *owner, unsigned block)
{
	struct edge *edge = owner;
	int err = claims_take(&edge->claims, block);

	if (err == -EMFILE && flows_free_descriptors(&edge->flows))
		err = claims_take(&edge->claims, block);
	return err;
}

static void give_back_block(void *owner, unsigned block)
{
	claims_give_back(&((struct edge *)owner)->claims, block);
}

static void keep_living(void *owner, struct plan *plan)
{
	struct edge *edge = owner;

	flows_keep_mirrors(&edge->flows, plan);
	dgrams_keep_mirrors(edge->dgrams, plan);
}

static int open_parts(struct edge *edge, char *error)
{
	const struct plan_blocks blocks = { take_block, give_back_block, keep_living, edge };
	const char *part = "the random numbers";
	int err = 0;

	if (getrandom(&edge->random, sizeof(edge->random), 0) < 0)
		err = -errno;
	if (err == 0) {
		part = "the shared map";
		err = mapfile_open(edge->dir, edge->config.allow_all_users, &edge->mapfile);
	}
	if (err == 0) {
		part = "the hold port";
		err = open_hold(edge);
	}
	if (err == 0) {
		part = "the table of flows";
		rests_init(&edge->rests, edge);
		edge->plan = plan_create(&blocks);
		err = edge->plan ? flows_open(&edge->flows, edge) : -ENOMEM;
	}
	if (err == 0) {
		part = "the table of datagrams";
		edge->dgrams = dgrams_create(edge);
		err = edge->dgrams ? 0 : -ENOMEM;
	}
	if (err == 0) {
		part = "the control socket";
		err = apps_open(&edge->apps, edge);
	}
	if (err == 0) {
		part = "the socket for posts";
		err = posts_open(&edge->posts, edge);
	}
	if (err == 0) {
		part = "the local API";
		err = localapi_open(edge, &edge->api);
	}
	if (err == 0)
		anew_begin(&edge->anew, edge);
	else
		snprintf(error, 256, "cannot set up %s in %.150s: %s", part, edge->dir,
			 strerror(-err));
	return err;
}

static int set_up(struct edge *edge, char *error)
{
	const struct edge_config *config = &edge->config;
	int err;

	if ((size_t)snprintf(edge->dir, sizeof(edge->dir), "%s", config->dir) >=
	    sizeof(edge->dir)) {
		snprintf(error, 256,
			 "the runtime folder's name is too long; choose another with --dir");
		return -ENAMETOOLONG;
	}
	err = raise_descriptor_limit(error);
	if (err == 0)
		err = check_loopback(error);
	if (err)
		return err;
	edge->config.dir = edge->dir;
	edge->ports = port_range_read();
	edge->socket_table = socktable_open();
	if (edge->socket_table < 0)
		log_info("edge: the kernel's socket table cannot be asked (%s), closed connections "
			 "keep their ports for a minute",
			 strerror(-edge->socket_table));
	err = folder_lock(edge->dir, config->allow_all_users, &edge->lock_fd, error);
	if (err)
		return err;
	edge->keep_fd = folder_keep(edge->dir);
	if (edge->keep_fd < 0)
		log_info("edge: %s: cannot be locked (%s): who cleans up old files may take it",
			 edge->dir, strerror(-edge->keep_fd));
	return 0;
}

int edge_create(struct loop *loop, const struct edge_config *config,
		const struct edge_callbacks *callbacks, void *owner, struct edge **out,
		char error[static 256])
{
	struct edge *edge = calloc(1, sizeof(*edge));
	int err;

	if (!edge) {
		snprintf(error, 256, "out of memory");
		return -ENOMEM;
	}
	edge->loop = loop;
	edge->config = *config;
	edge->callbacks = *callbacks;
	edge->owner = owner;
	edge->lock_fd = edge->keep_fd = edge->socket_table = -1;
	edge->apps.listener = edge->posts.fd = -1;
	edge->hold = edge->first = (struct hold){ .listener = -1, .plug = -1 };
	services_init(&edge->services, edge);
	claims_init(&edge->claims);
	/* libevent's HTTP server writes to whoever may have left. */
	signal(SIGPIPE, SIG_IGN);
	err = set_up(edge, error);
	if (err == 0)
		err = open_parts(edge, error);
	if (err) {
		edge_destroy(edge);
		return err;
	}
	*out = edge;
	return 0;
}

static void remove_file(const struct edge *edge, const char *file)
{
	char path[PATHS_MAX + 16];

	if (paths_join(edge->dir, file, path, sizeof(path)) == 0 && unlink(path) != 0 &&
	    errno != ENOENT)
		log_warn("edge: %s: cannot be removed: %s", path, strerror(errno));
}

void edge_destroy(struct edge *edge)
{
	if (!edge)
		return;
	anew_end(&edge->anew);
	/* Readers first: from now on new connects fail closed. */
	if (edge->mapfile)
		mapfile_set_ready(edge->mapfile, false);
	if (edge->apps.listener >= 0)
		remove_file(edge, PATHS_CONTROL);
	if (edge->posts.fd >= 0)
		remove_file(edge, PATHS_POSTS);
	if (edge->api)
		remove_file(edge, PATHS_API);
	localapi_close(edge->api);
	if (edge->flows.tables)
		flows_close(&edge->flows);
	rests_finish(&edge->rests);
	dgrams_destroy(edge->dgrams);
	services_close(&edge->services);
	apps_close(&edge->apps);
	posts_close(&edge->posts);
	if (edge->has_first_event)
		event_del(&edge->first_event);
	hold_close(&edge->first);
	hold_close(&edge->hold);
	plan_destroy(edge->plan);
	claims_finish(&edge->claims);
	mapfile_close(edge->mapfile);
	free(edge->dir_now);
	if (edge->socket_table >= 0)
		close(edge->socket_table);
	if (edge->keep_fd >= 0)
		close(edge->keep_fd);
	if (edge->lock_fd >= 0)
		close(edge->lock_fd);
	free(edge);
}

/* The rest of a directory whose addresses are planned; then programs see it. */
static int publish(struct edge *edge)
{
	struct map_directory *dir = edge->dir_now;
	unsigned left_out =
		plan_names(edge->services.dns ? dns_names(edge->services.dns) : NULL, dir);
	int err;

	if (left_out)
		log_warn("edge: programs do not see %u names, the map is full", left_out);
	err = mapfile_write_directory(edge->mapfile, dir);
	if (err == 0)
		services_open_endpoints(&edge->services);
	return err;
}

/* The same, when only names are others. */
static void publish_names(struct edge *edge)
{
	int err = publish(edge);

	if (err)
		log_err("edge: programs see the names of before, the map in %s cannot grow: %s",
			edge->dir, strerror(-err));
}

int edge_set_nodes(struct edge *edge, const struct edge_node *nodes, unsigned count,
		   char error[static 256])
{
	struct map_directory *dir = calloc(1, sizeof(*dir));
	int err;

	if (!dir) {
		snprintf(error, 256, "out of memory");
		return -ENOMEM;
	}
	err = plan_apply(edge->plan, nodes, count, loop_now(edge->loop), dir, error);
	if (err) {
		free(dir);
		return err;
	}
	dir->mtu = edge->config.mtu;
	snprintf(dir->ifname, sizeof(dir->ifname), "%s", IFNAME);
	services_plan(&edge->services, dir);
	free(edge->dir_now);
	edge->dir_now = dir;
	err = publish(edge);
	if (err)
		snprintf(error, 256, "the map in %.150s cannot grow: %s", edge->dir,
			 strerror(-err));
	return err;
}

void edge_peers_leave(struct edge *edge, bool (*leaves)(const void *holder))
{
	flows_break_off(&edge->flows, leaves);
}

void edge_peers_changed(struct edge *edge)
{
	flows_leave_gone_peers(&edge->flows, true);
	dgrams_leave_gone_peers(edge->dgrams, true);
}

bool edge_peers_missed(struct edge *edge)
{
	bool are_flows = flows_leave_gone_peers(&edge->flows, false);

	return dgrams_leave_gone_peers(edge->dgrams, false) || are_flows;
}

/* Names, routes or this machine's servers are others now; addresses are not. */
static void names_changed(void *owner)
{
	struct edge *edge = owner;

	if (!edge->dir_now)
		return;
	services_plan_servers(&edge->services, edge->dir_now);
	publish_names(edge);
}

void edge_set_dns(struct edge *edge, struct dns *dns)
{
	const struct dns_watcher watcher = { names_changed, edge };

	services_set_dns(&edge->services, dns);
	dns_watch(dns, &watcher);
	if (edge->dir_now) {
		services_plan(&edge->services, edge->dir_now);
		publish_names(edge);
	}
}

void edge_set_netstack(struct edge *edge, struct netstack *ns)
{
	edge->ns = ns;
}

void edge_set_ready(struct edge *edge, bool ready)
{
	mapfile_set_ready(edge->mapfile, ready);
}

bool edge_own_address(const struct edge *edge, uint32_t mirror, bool want_v6, struct map_own *own)
{
	const struct map *map = mapfile_map(edge->mapfile);

	for (uint32_t i = 0; map_own_at(map, i, own); i++)
		if (own->mirror == mirror && ip_is_v4(&own->addr) != want_v6)
			return true;
	return map_own(map, want_v6, own);
}

const void *edge_peer_of(const struct edge *edge, const struct ip_addr *mesh)
{
	return edge->callbacks.peer ? edge->callbacks.peer(edge->owner, mesh) : NULL;
}

const void *edge_holder_of(const struct edge *edge, const struct ip_addr *mesh)
{
	return edge->callbacks.holder ? edge->callbacks.holder(edge->owner, mesh)
				      : edge_peer_of(edge, mesh);
}

int edge_check_peer(const struct edge *edge, const struct ip_addr *mesh, uint32_t *mirror)
{
	switch (map_to_mirror(mapfile_map(edge->mapfile), mesh, mirror)) {
	case MAP_PEER:
		return edge->callbacks.reachable(edge->owner, mesh);
	case MAP_OWN:
		return EINVAL; /* the shim connects to its own mirror without us */
	case MAP_NO_MIRROR:
		return EHOSTUNREACH;
	case MAP_OUTSIDE:
		break;
	}
	return ENETUNREACH;
}

void edge_tcp_incoming(struct edge *edge, struct tcp_conn *conn, const struct endpoint *local,
		       const struct endpoint *remote)
{
	flow_incoming(edge, conn, local, remote);
}

void edge_tcp_event(struct edge *edge, struct tcp_conn *conn, void *user, unsigned events)
{
	(void)edge;
	(void)conn;
	flow_tcp_event(user, events);
}

void edge_tcp_cancelled(struct edge *edge, struct tcp_conn *conn)
{
	flow_cancelled(edge, conn);
}

void edge_udp_received(struct edge *edge, const struct endpoint *local,
		       const struct endpoint *remote, const uint8_t *data, size_t len)
{
	dgram_received(edge->dgrams, local, remote, data, len);
}

void edge_udp_failed(struct edge *edge, const struct endpoint *local, const struct endpoint *remote,
		     int error)
{
	/* Errors of the way may pass; a closed port is the program's business. */
	if (error == ECONNREFUSED)
		dgram_failed(edge->dgrams, local, remote);
}

struct localapi *edge_localapi(struct edge *edge)
{
	return edge->api;
}

uint64_t edge_deadline(const struct edge *edge)
{
	if (flows_want_round(&edge->flows))
		return 0;
	return edge_timers_deadline(&edge->timers);
}

void edge_expire(struct edge *edge, uint64_t now_ns)
{
	edge_timers_expire(&edge->timers, now_ns);
	apps_reap(&edge->apps);
	flows_round_ended(&edge->flows);
}

void edge_get_stats(const struct edge *edge, struct edge_stats *stats)
{
	*stats = edge->stats;
	stats->flows = edge->flows.count;
	stats->flows_stowed = flows_stowed(&edge->flows);
	stats->udp_endpoints = dgrams_count(edge->dgrams);
	stats->udp_ignored = dgrams_ignored(edge->dgrams);
	dgrams_get_evicted(edge->dgrams, &stats->udp_evicted, &stats->udp_over_share);
}
