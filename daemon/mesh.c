/*
 * The node: modules and the ways between them.
 *
 *     programs - edge - netstack (tcp) - mesh - wg device - udp path - peers
 *
 * No module below knows its neighbours; their callbacks meet here. One round of
 * the loop reads what has come (datagrams, bytes of programs), and its end lets
 * TCP answer all of it at once, so acknowledgements and segments leave in
 * batches.
 *
 * Buffers: a batch that goes out belongs to the netstack until our callback
 * returns, and the udp path wants bytes to stay until its flush. So the flush is
 * at the end of that callback: one sendmmsg for a batch, which is one train when
 * it is for one peer. What WireGuard sends on its own (handshakes, keepalives) is
 * flushed at once, since its bytes may lie on a stack.
 */
#include "daemon/mesh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "daemon/config_value.h"
#include "daemon/loop.h"
#include "daemon/mesh_private.h"
#include "shared/util.h"

/* Flushing may cause work that wants another flush (a program's answer); more is for later. */
#define FLUSHES_PER_ROUND 4
/* A program's own keep-alive ends at the daemon; this one finds a peer that vanished while idle. */
#define KEEPALIVE_NS (7200 * NS_PER_S)

/* ---- from the network ---- */

static void give_to_wg(struct mesh *mesh, const struct udp_datagram *d, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		mesh->datagram[i] = (struct wg_datagram){ d[i].data, d[i].len, d[i].from };
	wg_device_receive(mesh->wg, mesh->datagram, count, loop_now(mesh->loop));
}

static void udp_received(void *owner, struct udp_datagram *datagrams, unsigned count)
{
	struct mesh *mesh = owner;

	for (unsigned at = 0; at < count; at += MESH_DATAGRAMS)
		give_to_wg(mesh, datagrams + at, MIN(count - at, MESH_DATAGRAMS));
}

static void udp_blocked(void *owner, bool blocked)
{
	struct mesh *mesh = owner;

	netstack_set_blocked(mesh->netstack, blocked);
}

static void wg_received(void *owner, struct wg_peer *peer, struct packet *packets, unsigned count)
{
	struct mesh *mesh = owner;

	(void)peer;
	netstack_input(mesh->netstack, NULL, packets, count, loop_now(mesh->loop));
}

/* ---- to the network ---- */

static void wg_transmit(void *owner, struct wg_peer *peer, const struct endpoint *to,
			const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct mesh *mesh = owner;
	const struct packet_batch *b = mesh->sending;
	bool is_of_batch = b && bytes >= b->arena && bytes < b->arena + sizeof(b->arena);

	(void)peer;
	udp_path_send(mesh->udp, to, bytes, len, segment_len);
	if (!is_of_batch)
		udp_path_flush(mesh->udp);
}

static void netstack_output(void *owner, struct packet_batch *batch)
{
	struct mesh *mesh = owner;

	mesh->sending = batch;
	wg_device_send(mesh->wg, batch, loop_now(mesh->loop));
	mesh->sending = NULL;
	udp_path_flush(mesh->udp);
}

static void wg_established(void *owner, struct wg_peer *peer)
{
	const struct mesh_peer *p = wg_peer_user(peer);

	(void)owner;
	log_debug("mesh: %s: handshake done, packets flow",
		  p->config->name[0] ? p->config->name : "a peer");
}

static void wall_clock(void *owner, uint64_t *seconds, uint32_t *nanoseconds)
{
	struct timespec ts;

	(void)owner;
	clock_gettime(CLOCK_REALTIME, &ts);
	*seconds = (uint64_t)ts.tv_sec;
	*nanoseconds = (uint32_t)ts.tv_nsec;
}

/* ---- between netstack and edge; without one the node is ending, see mesh_destroy() ---- */

static void tcp_incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
			 const struct endpoint *remote)
{
	struct mesh *mesh = owner;

	if (mesh->edge)
		edge_tcp_incoming(mesh->edge, conn, local, remote);
	else
		tcp_refuse(conn, loop_now(mesh->loop));
}

static void tcp_event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct mesh *mesh = owner;

	if (mesh->edge)
		edge_tcp_event(mesh->edge, conn, user, events);
}

static void tcp_cancelled(void *owner, struct tcp_conn *conn)
{
	struct mesh *mesh = owner;

	if (mesh->edge)
		edge_tcp_cancelled(mesh->edge, conn);
}

static void udp_to_program(void *owner, const struct endpoint *local, const struct endpoint *remote,
			   const uint8_t *data, size_t len)
{
	edge_udp_received(((struct mesh *)owner)->edge, local, remote, data, len);
}

static void udp_failed(void *owner, const struct endpoint *local, const struct endpoint *remote,
		       int error)
{
	edge_udp_failed(((struct mesh *)owner)->edge, local, remote, error);
}

static void pong(void *owner, const struct ip_addr *from, uint16_t id, uint16_t seq,
		 const uint8_t *data, size_t len)
{
	struct mesh *mesh = owner;
	struct ping ping;

	(void)data;
	(void)len;
	if (pings_take(&mesh->pings, from, id, seq, &ping) == 0)
		edge_pinged(mesh->edge, ping.ticket, loop_now(mesh->loop) - ping.sent_ns);
}

/* ---- what the edge asks ---- */

static int reachable(void *owner, const struct ip_addr *ip)
{
	struct mesh *mesh = owner;
	struct wg_peer *peer = wg_device_route(mesh->wg, ip);
	struct wg_peer_stats stats;

	if (!peer)
		return EHOSTUNREACH;
	wg_peer_stats(peer, &stats);
	return stats.has_endpoint ? 0 : EHOSTUNREACH;
}

static char *status(void *owner)
{
	return mesh_status(owner);
}

static int ping(void *owner, const struct ip_addr *to, uint32_t ticket)
{
	struct mesh *mesh = owner;
	const struct config *c = &mesh->config;
	const struct ip_addr *local = NULL;
	const struct ping *ping;
	struct ping gone;
	int err;

	for (unsigned i = 0; i < c->own_count && !local; i++) {
		if (ip_is_v4(&c->own[i].addr) == ip_is_v4(to))
			local = &c->own[i].addr;
	}
	if (!local)
		return ENETUNREACH;
	err = reachable(mesh, to);
	if (err)
		return err;
	ping = pings_add(&mesh->pings, to, ticket, loop_now(mesh->loop));
	if (!ping)
		return EAGAIN;
	err = netstack_ping(mesh->netstack, local, to, ping->id, ping->seq,
			    (const uint8_t *)&ticket, sizeof(ticket));
	if (err < 0)
		pings_take(&mesh->pings, to, ping->id, ping->seq, &gone);
	return -err;
}

/* ---- rounds ---- */

static void expire_all(struct mesh *mesh, uint64_t now_ns)
{
	struct ping late;

	if (wg_device_deadline(mesh->wg) <= now_ns)
		wg_device_expire(mesh->wg, now_ns);
	if (netstack_deadline(mesh->netstack) <= now_ns)
		netstack_expire(mesh->netstack, now_ns);
	if (edge_deadline(mesh->edge) <= now_ns)
		edge_expire(mesh->edge, now_ns);
	while (pings_expire(&mesh->pings, now_ns, &late) == 0)
		edge_pinged(mesh->edge, late.ticket, NEVER_NS);
	mesh_peers_expire(mesh, now_ns);
}

static uint64_t next_deadline(const struct mesh *mesh)
{
	uint64_t ns = MIN(wg_device_deadline(mesh->wg), netstack_deadline(mesh->netstack));

	ns = MIN(ns, edge_deadline(mesh->edge));
	ns = MIN(ns, pings_deadline(&mesh->pings));
	return MIN(ns, mesh_peers_deadline(mesh));
}

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	struct mesh *mesh = owner;
	uint64_t deadline_ns;

	for (unsigned i = 0;; i++) {
		netstack_flush(mesh->netstack, now_ns);
		deadline_ns = next_deadline(mesh);
		if (deadline_ns > now_ns || i == FLUSHES_PER_ROUND)
			return deadline_ns;
		expire_all(mesh, now_ns);
	}
}

/* ---- life ---- */

/* Without a Name the machine's own will do, unless a peer has it. */
static void choose_name(struct config *c)
{
	char host[256] = "";
	char label[CONFIG_NAME_MAX];

	if (c->name[0] || gethostname(host, sizeof(host) - 1) != 0)
		return;
	host[strcspn(host, ".")] = '\0';
	if (config_value_label(host, label) < 0 || strcmp(label, "localhost") == 0)
		return;
	for (unsigned i = 0; i < c->peer_count; i++) {
		if (strcmp(c->peers[i].name, label) == 0)
			return;
	}
	memcpy(c->name, label, sizeof(label));
}

static int tell_nodes(struct mesh *mesh, char error[static 256])
{
	const struct config *c = &mesh->config;
	struct edge_node *nodes = calloc(c->peer_count + 1u, sizeof(*nodes));
	int err;

	if (!nodes) {
		snprintf(error, 256, "out of memory for the nodes");
		return -ENOMEM;
	}
	nodes[0] = (struct edge_node){ c->name, c->own, c->own_count, true };
	for (unsigned i = 0; i < c->peer_count; i++)
		nodes[i + 1] = (struct edge_node){ c->peers[i].name, c->peers[i].allowed,
						   c->peers[i].allowed_count, false };
	err = edge_set_nodes(mesh->edge, nodes, c->peer_count + 1, error);
	free(nodes);
	return err;
}

static int create_edge(struct mesh *mesh, const struct mesh_options *options,
		       char error[static 256])
{
	const struct edge_callbacks callbacks = { reachable, status, ping };
	const struct edge_config config = { .dir = options->dir,
					    .domain = mesh->config.domain,
					    .mtu = mesh->config.mtu,
					    .allow_all_users = options->allow_all_users,
					    .refuse_synhold = options->refuse_synhold };
	int err = edge_create(mesh->loop, &config, &callbacks, mesh, &mesh->edge, error);

	return err < 0 ? err : tell_nodes(mesh, error);
}

static int create_udp(struct mesh *mesh, char error[static 256])
{
	const struct udp_callbacks callbacks = { udp_received, udp_blocked };
	uint16_t port = mesh->config.listen_port;
	int err = udp_path_create(mesh->loop, port, &callbacks, mesh, &mesh->udp);

	if (err == -EADDRINUSE)
		snprintf(error, 256,
			 "the UDP port %u is taken by another program; end that one, or choose "
			 "another ListenPort",
			 (unsigned)port);
	else if (err == -EACCES)
		snprintf(error, 256,
			 "the UDP port %u may not be taken by this user; choose a ListenPort "
			 "above 1023",
			 (unsigned)port);
	else if (err < 0)
		snprintf(error, 256, "the UDP port %u cannot be opened: %s", (unsigned)port,
			 strerror(-err));
	return err;
}

static int create_wg(struct mesh *mesh, char error[static 256])
{
	const struct wg_callbacks callbacks = { wg_transmit, wg_received, wg_established,
						wall_clock };

	mesh->wg = wg_device_create(mesh->config.private_key, mesh->config.mtu, true, &callbacks,
				    mesh);
	if (!mesh->wg) {
		snprintf(error, 256, "cannot make the WireGuard device: out of memory");
		return -ENOMEM;
	}
	/* The device has its own copy, in locked memory. */
	sodium_memzero(mesh->config.private_key, sizeof(mesh->config.private_key));
	return mesh_peers_create(mesh, error);
}

static int create_netstack(struct mesh *mesh, char error[static 256])
{
	const struct netstack_callbacks callbacks = { netstack_output, udp_to_program, udp_failed,
						      pong };
	const struct config *c = &mesh->config;
	struct ip_addr own[CONFIG_MAX_OWN];
	struct tcp_config tcp;

	tcp_config_defaults(&tcp, c->mtu);
	tcp.keepalive_ns = KEEPALIVE_NS;
	randombytes_buf(tcp.secret, sizeof(tcp.secret));
	for (unsigned i = 0; i < c->own_count; i++)
		own[i] = c->own[i].addr;
	mesh->netstack = netstack_create(own, c->own_count, &tcp, &callbacks, tcp_incoming,
					 tcp_event, tcp_cancelled, mesh);
	sodium_memzero(tcp.secret, sizeof(tcp.secret));
	if (!mesh->netstack) {
		snprintf(error, 256, "cannot make the network stack: out of memory");
		return -ENOMEM;
	}
	edge_set_netstack(mesh->edge, mesh->netstack);
	return 0;
}

int mesh_create(struct config *config, const struct mesh_options *options, struct mesh **out,
		char error[static 256])
{
	struct mesh *mesh = calloc(1, sizeof(*mesh));
	const struct loop_hooks hooks = { round_end, mesh };
	int err = -ENOMEM;

	error[0] = '\0';
	if (!mesh) {
		config_finish(config);
		goto fail;
	}
	mesh->config = *config;
	sodium_memzero(config, sizeof(*config));
	choose_name(&mesh->config);
	mesh->loop = loop_create(&hooks);
	if (mesh->loop)
		mesh->resolver = resolver_create(mesh->loop, mesh_peers_looked_up, mesh);
	if (!mesh->resolver)
		goto fail;
	/* The folder first: a daemon that runs already is the likelier reason for a taken port. */
	err = create_edge(mesh, options, error);
	if (err == 0)
		err = create_udp(mesh, error);
	if (err == 0)
		err = create_wg(mesh, error);
	if (err == 0)
		err = create_netstack(mesh, error);
	if (err < 0)
		goto fail;
	edge_set_ready(mesh->edge, true);
	*out = mesh;
	return 0;
fail:
	if (!error[0])
		snprintf(error, 256, "cannot start: %s", strerror(-err));
	mesh_destroy(mesh);
	return err;
}

void mesh_destroy(struct mesh *mesh)
{
	if (!mesh)
		return;
	/* Without the edge its connections are gone: the peers are told, by a last flush. */
	edge_destroy(mesh->edge);
	mesh->edge = NULL;
	if (mesh->netstack)
		netstack_flush(mesh->netstack, loop_now(mesh->loop));
	netstack_destroy(mesh->netstack);
	wg_device_destroy(mesh->wg);
	udp_path_destroy(mesh->udp);
	resolver_destroy(mesh->resolver);
	loop_destroy(mesh->loop);
	free(mesh->peers);
	config_finish(&mesh->config);
	free(mesh);
}

int mesh_run(struct mesh *mesh)
{
	return loop_run(mesh->loop);
}

void mesh_stop(struct mesh *mesh)
{
	loop_stop(mesh->loop);
}

struct event_base *mesh_base(struct mesh *mesh)
{
	return loop_base(mesh->loop);
}

void mesh_describe(const struct mesh *mesh, char line[static MESH_LINE_MAX])
{
	const struct config *c = &mesh->config;
	char ip[IP_TEXT_MAX], why[128] = "";
	struct edge_stats stats;

	edge_get_stats(mesh->edge, &stats);
	if (!stats.synhold)
		snprintf(why, sizeof(why), " (%s)", stats.synhold_why ? stats.synhold_why : "");
	snprintf(line, MESH_LINE_MAX, "node %s ready at %s, udp port %u, SYN hold: %s%s",
		 c->name[0] ? c->name : "(no name)", ip_format(&c->own[0].addr, ip),
		 (unsigned)udp_path_port(mesh->udp), stats.synhold ? "yes" : "no", why);
}

void mesh_log_warnings(struct mesh *mesh)
{
	if (mesh->config.warning[0])
		log_warn("config: %s", mesh->config.warning);
	if (mesh->config.peer_count == 0)
		log_warn("config: the file has no [Peer], so this node is alone");
	mesh_peers_log_unresolved(mesh);
}
