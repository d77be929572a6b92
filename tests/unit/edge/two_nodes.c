#include "tests/unit/edge/two_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "daemon/dns/dns.h"
#include "daemon/edge/localapi.h"
#include "shared/paths.h"
#include "shared/util.h"
#include "tests/unit/edge/patience.h"

#define MTU        1420
#define ROUNDS_MAX 64

struct call {
	void (*fn)(void *arg);
	void *arg;
	int done;
};

/* ---- the mesh between them ---- */

static void output(void *owner, struct packet_batch *batch)
{
	struct node *node = owner;

	if (node->is_cut)
		return;
	node->packets += batch->count;
	netstack_input(node->other->ns, NULL, batch->packet, batch->count,
		       loop_now(node->both->loop));
}

static void udp_received(void *owner, const struct endpoint *local, const struct endpoint *remote,
			 const uint8_t *data, size_t len)
{
	edge_udp_received(((struct node *)owner)->edge, local, remote, data, len);
}

static void udp_failed(void *owner, const struct endpoint *local, const struct endpoint *remote,
		       int error)
{
	edge_udp_failed(((struct node *)owner)->edge, local, remote, error);
}

static void pong(void *owner, const struct ip_addr *from, uint16_t id, uint16_t seq,
		 const uint8_t *data, size_t len)
{
	(void)owner;
	(void)from;
	(void)id;
	(void)seq;
	(void)data;
	(void)len;
}

static void incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	edge_tcp_incoming(((struct node *)owner)->edge, conn, local, remote);
}

static void event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	edge_tcp_event(((struct node *)owner)->edge, conn, user, events);
}

static void cancelled(void *owner, struct tcp_conn *conn)
{
	edge_tcp_cancelled(((struct node *)owner)->edge, conn);
}

static int reachable(void *owner, const struct ip_addr *mesh)
{
	(void)mesh;
	return ((struct node *)owner)->reachable;
}

static char *status(void *owner, bool want_peers)
{
	(void)owner;
	(void)want_peers;
	return strdup("{\"state\":\"test\"}");
}

static int ping(void *owner, const struct ip_addr *ip, enum ping_type type, unsigned size,
		uint32_t ticket, char error[static LOCALAPI_ERROR_MAX])
{
	struct node *node = owner;
	char text[IP_TEXT_MAX];
	const struct pong pong = { .node_ip = ip_format(ip, text),
				   .node_name = "node-b.mesh",
				   .latency_s = 0.0015 };

	(void)type;
	(void)size;
	if (node->reachable > 0)
		snprintf(error, LOCALAPI_ERROR_MAX, "%s", strerror(node->reachable));
	else if (node->reachable == 0)
		localapi_ponged(edge_localapi(node->edge), ticket, &pong);
	return node->reachable > 0 ? -node->reachable : 0; /* below 0: sent, and never answered */
}

static const void *peer(void *owner, const struct ip_addr *mesh)
{
	struct node *node = owner;

	if (node->is_net_nobodys && ip_is_v4(mesh) && (ip_v4(mesh) >> 8 & 0xff) == 9)
		return NULL;
	return node->is_v6_another_peers && !ip_is_v4(mesh) ? (const void *)node : node->other;
}

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	struct two_nodes *t = owner;
	uint64_t deadline = NEVER_NS, packets;
	int rounds = 0;

	for (int i = 0; i < 2; i++) {
		if (edge_deadline(t->node[i].edge) <= now_ns)
			edge_expire(t->node[i].edge, now_ns);
		if (netstack_deadline(t->node[i].ns) <= now_ns)
			netstack_expire(t->node[i].ns, now_ns);
	}
	do {
		packets = t->node[0].packets + t->node[1].packets;
		for (int i = 0; i < 2; i++)
			netstack_flush(t->node[i].ns, now_ns);
	} while (packets != t->node[0].packets + t->node[1].packets && ++rounds < ROUNDS_MAX);
	for (int i = 0; i < 2; i++) {
		deadline = MIN(deadline, edge_deadline(t->node[i].edge));
		deadline = MIN(deadline, netstack_deadline(t->node[i].ns));
	}
	return rounds == ROUNDS_MAX ? 0 : deadline;
}

/* ---- starting ---- */

static void set_names(struct node *node, struct ip_prefix p[2][3])
{
	struct netmap_node named[2] = { { .name = "node-a.mesh", .addresses = p[0] },
					{ .name = "node-b.mesh", .addresses = p[1] } };
	const char *domain = "mesh";
	struct dns_route zone = { .suffix = domain };
	struct dns_config config = { .is_proxied = true,
				     .domains = &domain,
				     .domain_count = 1,
				     .routes = &zone,
				     .route_count = 1 };
	bool is_b = node == &node->both->node[1];
	const struct netmap_node *peer = &named[!is_b];
	struct dns_source source = { .self = &named[is_b],
				     .peers = &peer,
				     .peer_count = 1,
				     .config = &config,
				     .all_families = true };

	named[0].address_count = named[1].address_count = 2;
	if (dns_set(node->dns, &source) != 0)
		fail_msg("no names");
}

static void set_nodes(struct node *node)
{
	struct ip_prefix p[2][3] = { 0 };
	struct edge_node nodes[] = { { "node-a", p[0], 2, node == &node->both->node[0] },
				     { "node-b", p[1], 2, node == &node->both->node[1] } };
	char error[256];

	for (int i = 0; i < 2; i++) {
		ip_parse(i ? B_ADDR : A_ADDR, &p[i][0].addr);
		ip_parse(i ? B_ADDR6 : A_ADDR6, &p[i][1].addr);
		p[i][0].len = nodes[i].is_self ? 10 : 32;
		p[i][1].len = nodes[i].is_self ? 64 : 128;
	}
	ip_parse(B_NET, &p[1][2].addr);
	p[1][2].len = 24;
	nodes[1].prefix_count += !nodes[1].is_self;
	if (edge_set_nodes(node->edge, nodes, 2, error) != 0)
		fail_msg("%s", error);
	set_names(node, p);
}

static void make_node(struct node *node, const char *addr, const char *addr6)
{
	struct edge_config config = { node->dir, MTU, false, node->both->refuse_synhold };
	const struct edge_callbacks edge_callbacks = { .reachable = reachable, .peer = peer };
	const struct netstack_callbacks callbacks = { output, udp_received, udp_failed, pong,
						      NULL };
	const struct localapi_backend backend = { .status = status, .ping = ping, .owner = node };
	struct tcp_config tcp;
	struct ip_addr own[2];
	char error[256], path[PATHS_MAX + 8];
	int fd;

	snprintf(node->dir, sizeof(node->dir), "/tmp/meshwrap-test-XXXXXX");
	assert_non_null(mkdtemp(node->dir));
	if (edge_create(node->both->loop, &config, &edge_callbacks, node, &node->edge, error) != 0)
		fail_msg("%s", error);
	localapi_set_backend(edge_localapi(node->edge), &backend);
	ip_parse(addr, &own[0]);
	ip_parse(addr6, &own[1]);
	tcp_config_defaults(&tcp, MTU);
	node->ns = netstack_create(own, 2, &tcp, &callbacks, incoming, event, cancelled, node);
	assert_non_null(node->ns);
	edge_set_netstack(node->edge, node->ns);
	node->dns = dns_create(node->both->loop, NULL);
	assert_non_null(node->dns);
	edge_set_dns(node->edge, node->dns);
	set_nodes(node);
	edge_set_ready(node->edge, true);
	paths_join(node->dir, PATHS_MAP, path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	node->map = mmap(NULL, sizeof(struct map), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	assert_ptr_not_equal(node->map, MAP_FAILED);
}

static void run_call(evutil_socket_t fd, short what, void *arg)
{
	struct call *call;

	(void)what;
	(void)arg;
	if (read(fd, &call, sizeof(call)) != sizeof(call))
		return;
	call->fn(call->arg);
	if (write(call->done, "x", 1) != 1)
		abort();
}

static void *run_loop(void *arg)
{
	struct two_nodes *t = arg;
	struct loop_hooks hooks = { round_end, t };
	struct event *wake;

	t->loop = loop_create(&hooks);
	for (int i = 0; i < 2; i++) {
		t->node[i].both = t;
		t->node[i].other = &t->node[!i];
		make_node(&t->node[i], i ? B_ADDR : A_ADDR, i ? B_ADDR6 : A_ADDR6);
	}
	wake = event_new(loop_base(t->loop), t->wake[0], EV_READ | EV_PERSIST, run_call, t);
	event_add(wake, NULL);
	loop_run(t->loop);
	event_free(wake);
	for (int i = 0; i < 2; i++) {
		struct node *node = &t->node[i];
		char command[128];

		munmap((void *)node->map, sizeof(struct map));
		dns_destroy(node->dns);
		edge_destroy(node->edge);
		netstack_destroy(node->ns);
		snprintf(command, sizeof(command), "rm -rf %s", node->dir);
		if (system(command) != 0)
			abort();
	}
	loop_destroy(t->loop);
	return NULL;
}

static void nothing(void *arg)
{
	(void)arg;
}

void two_nodes_start(struct two_nodes *t, bool refuse_synhold)
{
	two_nodes_stop(t);
	memset(t, 0, sizeof(*t));
	t->refuse_synhold = refuse_synhold;
	assert_int_equal(patient_pipe(t->wake), 0);
	assert_int_equal(pthread_create(&t->thread, NULL, run_loop, t), 0);
	t->is_running = true;
	two_nodes_call(t, nothing, NULL); /* answered when everything is up */
}

static void stop_loop(void *arg)
{
	loop_stop(arg);
}

void two_nodes_stop(struct two_nodes *t)
{
	if (!t->is_running)
		return;
	two_nodes_call(t, stop_loop, t->loop);
	t->is_running = false;
	pthread_join(t->thread, NULL);
	close(t->wake[0]);
	close(t->wake[1]);
}

void two_nodes_call(struct two_nodes *t, void (*fn)(void *arg), void *arg)
{
	int done[2];
	struct call call = { fn, arg, -1 }, *at = &call;
	char c;

	assert_int_equal(patient_pipe(done), 0);
	call.done = done[1];
	assert_int_equal(write(t->wake[1], &at, sizeof(at)), sizeof(at));
	assert_int_equal(read(done[0], &c, 1), 1);
	close(done[0]);
	close(done[1]);
}

struct stats_call {
	struct edge *edge;
	struct edge_stats stats;
};

static void get_stats(void *arg)
{
	struct stats_call *call = arg;

	edge_get_stats(call->edge, &call->stats);
}

struct edge_stats two_nodes_stats(struct node *node)
{
	struct stats_call call = { node->edge, { 0 } };

	two_nodes_call(node->both, get_stats, &call);
	return call.stats;
}

void two_nodes_wait_flows(struct node *node, uint64_t flows)
{
	for (int i = 0; i < 20000; i++) {
		if (two_nodes_stats(node).flows == flows)
			return;
		nanosleep(&(struct timespec){ 0, NS_PER_MS }, NULL);
	}
	fail_msg("flows did not become %u", (unsigned)flows);
}

void two_nodes_wait_idle(struct two_nodes *t)
{
	for (int i = 0; i < 2; i++)
		two_nodes_wait_flows(&t->node[i], 0);
}

static void get_used_ns(void *used_ns)
{
	*(uint64_t *)used_ns = program_used_ns();
}

uint64_t two_nodes_used_ns(struct two_nodes *t)
{
	uint64_t used_ns;

	two_nodes_call(t, get_used_ns, &used_ns);
	return used_ns;
}

struct later {
	struct node *node;
	unsigned seconds;
	uint64_t until_ns; /* or 0 */
};

static void expire_later(void *arg)
{
	struct later *later = arg;

	uint64_t now_ns = loop_now(later->node->both->loop);

	edge_expire(later->node->edge,
		    later->until_ns ? later->until_ns : now_ns + later->seconds * NS_PER_S);
}

void two_nodes_let_pass(struct node *node, unsigned seconds)
{
	struct later later = { node, seconds, 0 };

	two_nodes_call(node->both, expire_later, &later);
}

void two_nodes_let_pass_until(struct node *node, uint64_t at_ns)
{
	struct later later = { node, 0, at_ns };

	two_nodes_call(node->both, expire_later, &later);
}

/* ---- the shim ---- */

struct endpoint mesh_endpoint(const char *addr, uint16_t port)
{
	struct endpoint ep = { .port = port };

	assert_int_equal(ip_parse(addr, &ep.addr), 0);
	return ep;
}

uint32_t mirror_of(struct node *node, const char *addr)
{
	struct endpoint ep = mesh_endpoint(addr, 0);
	uint32_t mirror = 0;

	map_to_mirror(node->map, &ep.addr, &mirror);
	return mirror;
}

int shim_dial(struct node *node, const char *name)
{
	bool is_api = strcmp(name, PATHS_API) == 0;
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = patient_socket(AF_UNIX, is_api ? SOCK_STREAM : SOCK_SEQPACKET), err;

	paths_join(node->dir, name, at.sun_path, sizeof(at.sun_path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

int shim_ask(struct node *node, enum ipc_type type, const struct endpoint *local,
	     const struct endpoint *remote, uint32_t flags, struct ipc_reply *reply)
{
	int fd = shim_dial(node, PATHS_CONTROL), err = 0;
	struct ipc_request request;
	ssize_t n = 0;

	if (fd < 0)
		return errno;
	ipc_make_request(&request, type, local, remote, flags);
	if (send(fd, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
		err = errno;
	else
		n = recv(fd, reply, sizeof(*reply), 0);
	close(fd);
	if (err)
		return err;
	if (n <= 0 || ipc_check_reply(reply, (size_t)n, type, reply) != 0)
		return EPROTO;
	return reply->error;
}

int shim_post(struct node *node, const void *post, size_t len)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int err, fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	paths_join(node->dir, PATHS_POSTS, at.sun_path, sizeof(at.sun_path));
	err = sendto(fd, post, len, MSG_NOSIGNAL, (struct sockaddr *)&at, sizeof(at)) ==
			      (ssize_t)len
		      ? 0
		      : errno;
	close(fd);
	return err;
}

int shim_prepare_post(struct node *node, const char *remote, uint16_t port, struct ipc_post *post)
{
	struct endpoint to = mesh_endpoint(remote, port), local;
	struct map_own own;
	int fd = patient_socket(AF_INET, SOCK_STREAM);

	assert_true(fd >= 0);
	assert_true(map_own(node->map, !ip_is_v4(&to.addr), &own));
	local = sock_endpoint(own.mirror, 0);
	assert_int_equal(sock_bind(fd, &local), 0);
	assert_int_equal(sock_local(fd, &local), 0);
	*post = (struct ipc_post){ .mirror = mirror_of(node, remote) };
	ipc_make_request(&post->dial.request, IPC_CONNECT, &local, &to, 0);
	return fd;
}

bool map_has_flow(struct node *node, const struct endpoint *local, const struct endpoint *peer,
		  struct map_flow *flow)
{
	struct map_ends ends = { ip_v4(&local->addr), ip_v4(&peer->addr), local->port, peer->port };

	return map_find_flow(node->map, &ends, flow);
}

struct map_flow flow_of_socket(struct node *node, int fd, struct endpoint *local)
{
	struct endpoint peer;
	struct map_flow flow;

	assert_int_equal(sock_local(fd, local), 0);
	assert_int_equal(sock_peer(fd, &peer), 0);
	assert_true(map_has_flow(node, local, &peer, &flow));
	return flow;
}

int shim_prepare(struct node *node, const char *remote, uint16_t port, int *fd,
		 struct endpoint *local, struct endpoint *mirror)
{
	struct endpoint to = mesh_endpoint(remote, port);
	struct map_own own;
	struct ipc_reply reply;
	int err;

	assert_true(map_own(node->map, !ip_is_v4(&to.addr), &own));
	*local = sock_endpoint(own.mirror, 0);
	*fd = patient_socket(AF_INET, SOCK_STREAM);
	assert_true(*fd >= 0);
	assert_int_equal(sock_bind(*fd, local), 0);
	assert_int_equal(sock_local(*fd, local), 0);
	err = shim_ask(node, IPC_CONNECT, local, &to, 0, &reply);
	*mirror = (struct endpoint){ reply.mirror, reply.mirror_port };
	if (err)
		close(*fd);
	return err;
}

int shim_connect(struct node *node, const char *remote, uint16_t port)
{
	struct endpoint local, mirror;
	struct map_flow flow;
	int fd, err = shim_prepare(node, remote, port, &fd, &local, &mirror);

	if (err)
		return -err;
	err = program_connect(fd, &mirror) == 0 ? 0 : errno;
	assert_true(map_has_flow(node, &local, &mirror, &flow));
	assert_int_equal(flow.remote_port, port);
	if (flow.state == MAP_FLOW_FAILED) {
		assert_int_not_equal(flow.error, 0);
		err = flow.error;
	}
	if (err == 0)
		return fd;
	close(fd);
	return -err;
}

void two_nodes_join(struct two_nodes *t, const char *addr, int *client, int *server)
{
	struct endpoint any = sock_endpoint(0, 0);
	uint16_t port;
	int listener = program_listen(&any, &port);

	*client = shim_connect(&t->node[0], addr, port);
	if (*client < 0)
		fail_msg("connect: %s", strerror(-*client));
	*server = patient_accept(listener);
	assert_true(*server >= 0);
	program_limit(*client);
	program_limit(*server);
	close(listener);
}

void two_nodes_hang_up(struct two_nodes *t, int client, int server)
{
	close(client);
	close(server);
	two_nodes_wait_idle(t);
}
