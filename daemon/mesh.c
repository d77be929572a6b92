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
#include "daemon/cores.h"
#include "daemon/crypto/workers.h"
#include "daemon/dns/dns.h"
#include "daemon/loop.h"
#include "daemon/mesh_tailnet.h"
#include "daemon/netmap/netmap.h"
#include "daemon/proxy/proxy.h"
#include "daemon/trim.h"
#include "shared/util.h"

/* Flushing may cause work that wants another flush (a program's answer); more is for later. */
#define FLUSHES_PER_ROUND 4
/* A program's own keep-alive ends at the daemon; this one finds a peer that vanished while idle. */
#define KEEPALIVE_NS (7200 * NS_PER_S)
#define SLEPT_NS     (10 * NS_PER_S) /* late by that: the machine slept, or we were stopped */
/* What every node of a tailnet uses. */
#define TAILNET_MTU  1280
#define DEFAULT_PORT 41641

/* ---- from the network ---- */

static void give_to_wg(struct mesh *mesh, const struct udp_datagram *d, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		mesh->datagram[i] = (struct wg_datagram){ d[i].data, d[i].len, d[i].from };
	wg_device_receive(mesh->wg, mesh->datagram, count, loop_now(mesh->loop));
}

void mesh_give_to_wg(struct mesh *mesh, const struct udp_datagram *datagrams, unsigned count)
{
	for (unsigned at = 0; at < count; at += MESH_DATAGRAMS)
		give_to_wg(mesh, datagrams + at, MIN(count - at, MESH_DATAGRAMS));
}

static void udp_received(void *owner, struct udp_datagram *datagrams, unsigned count)
{
	struct mesh *mesh = owner;

	if (mesh->tailnet)
		tailnet_received(mesh->tailnet, datagrams, count);
	else
		mesh_give_to_wg(mesh, datagrams, count);
}

void mesh_set_blocked(struct mesh *mesh)
{
	netstack_set_blocked(mesh->netstack, mesh->is_udp_blocked || mesh->is_relay_blocked);
}

static void udp_blocked(void *owner, bool blocked)
{
	struct mesh *mesh = owner;

	mesh->is_udp_blocked = blocked;
	mesh_set_blocked(mesh);
}

static void wg_received(void *owner, struct wg_peer *peer, struct packet *packets, unsigned count)
{
	struct mesh *mesh = owner;
	const struct mesh_peer *p = wg_peer_user(peer);

	netstack_input(mesh->netstack, &p->source, packets, count, loop_now(mesh->loop));
}

/* ---- to the network ---- */

void mesh_send_udp(struct mesh *mesh, const struct endpoint *to, const uint8_t *bytes, size_t len,
		   size_t segment_len)
{
	const struct packet_batch *b = mesh->sending;
	bool is_of_batch = b && bytes >= b->arena && bytes < b->arena + sizeof(b->arena);

	udp_path_send(mesh->udp, to, bytes, len, segment_len);
	if (!is_of_batch)
		udp_path_flush(mesh->udp);
}

static void wg_transmit(void *owner, struct wg_peer *peer, const struct endpoint *to,
			const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct mesh *mesh = owner;

	if (mesh->tailnet)
		tailnet_transmit(mesh->tailnet, peer ? wg_peer_user(peer) : NULL, to, bytes, len,
				 segment_len);
	else
		mesh_send_udp(mesh, to, bytes, len, segment_len);
}

static void netstack_output(void *owner, struct packet_batch *batch)
{
	struct mesh *mesh = owner;

	if (!mesh->wg)
		return; /* nobody to send to yet */
	mesh->sending = batch;
	wg_device_send(mesh->wg, batch, loop_now(mesh->loop));
	mesh->sending = NULL;
	udp_path_flush(mesh->udp);
}

static void wg_established(void *owner, struct wg_peer *peer)
{
	struct mesh *mesh = owner;
	const struct mesh_peer *p = wg_peer_user(peer);
	const struct netmap_node *node = p->config ? NULL : netmap_peer_by_id(mesh->netmap, p->id);
	const char *name = p->config ? p->config->name : node ? node->name : "";

	log_debug("mesh: %s: handshake done, packets flow", name[0] ? name : "a peer");
}

static void wall_clock(void *owner, uint64_t *seconds, uint32_t *nanoseconds)
{
	struct mesh *mesh = owner;
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	*seconds = MAX((uint64_t)ts.tv_sec, mesh->timestamp_floor_s);
	if (mesh->tailnet)
		tailnet_timestamp_used(mesh->tailnet, *seconds);
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
	struct mesh *mesh = owner;

	if (!dns_tunnel_received(mesh->dns, remote, local->port, data, len))
		edge_udp_received(mesh->edge, local, remote, data, len);
}

static void udp_failed(void *owner, const struct endpoint *local, const struct endpoint *remote,
		       int error)
{
	edge_udp_failed(((struct mesh *)owner)->edge, local, remote, error);
}

const void *mesh_source_of(void *owner, const struct ip_addr *addr)
{
	const struct mesh *mesh = owner;
	struct wg_peer *peer = mesh->wg ? wg_device_route(mesh->wg, addr) : NULL;
	const struct mesh_peer *p = peer ? wg_peer_user(peer) : NULL;

	return p ? &p->source : NULL;
}

static bool serves(void *owner, const struct filter_source *source, const struct ip_addr *addr)
{
	const void *to = mesh_source_of(owner, addr);

	return to && to == source;
}

static void pong(void *owner, const struct ip_addr *from, uint16_t id, uint16_t seq,
		 const uint8_t *data, size_t len)
{
	struct mesh *mesh = owner;
	struct ping ping;

	(void)data;
	(void)len;
	if (pings_take(&mesh->pings, from, id, seq, &ping) == 0)
		mesh_api_ponged(mesh, ping.ticket, from, loop_now(mesh->loop) - ping.sent_ns);
}

static void tsmp_pong(void *owner, const struct ip_addr *from, const uint8_t data[static 8],
		      uint16_t peerapi_port)
{
	mesh_api_tsmp_ponged(owner, from, data, peerapi_port);
}

static void tsmp_disco_key(void *owner, const struct ip_addr *from,
			   const uint8_t key[static NETMAP_KEY_LEN])
{
	struct mesh *mesh = owner;
	struct wg_peer *peer = mesh->wg ? wg_device_route(mesh->wg, from) : NULL;

	if (peer && mesh->tailnet)
		tailnet_said_disco_key(mesh->tailnet, wg_peer_user(peer), key);
}

/* ---- what the edge asks ---- */

static int reachable(void *owner, const struct ip_addr *ip)
{
	struct mesh *mesh = owner;
	struct wg_peer *peer = mesh->wg ? wg_device_route(mesh->wg, ip) : NULL;
	struct wg_peer_stats stats;

	if (!peer)
		return EHOSTUNREACH;
	wg_peer_stats(peer, &stats);
	return stats.has_endpoint ? 0 : EHOSTUNREACH;
}

/* ---- rounds ---- */

static void trim(struct mesh *mesh)
{
	netstack_trim(mesh->netstack);
	udp_path_trim(mesh->udp);
	trim_memory();
}

static void expire_all(struct mesh *mesh, uint64_t now_ns)
{
	struct ping late;

	if (mesh->wg && wg_device_deadline(mesh->wg) <= now_ns)
		wg_device_expire(mesh->wg, now_ns);
	if (netstack_deadline(mesh->netstack) <= now_ns)
		netstack_expire(mesh->netstack, now_ns);
	if (edge_deadline(mesh->edge) <= now_ns)
		edge_expire(mesh->edge, now_ns);
	if (mesh->proxy && proxy_deadline(mesh->proxy) <= now_ns)
		proxy_expire(mesh->proxy, now_ns);
	while (pings_expire(&mesh->pings, now_ns, &late) == 0)
		mesh_api_ponged(mesh, late.ticket, &late.to, NEVER_NS);
	if (mesh->tailnet && tailnet_deadline(mesh->tailnet) <= now_ns)
		tailnet_expire(mesh->tailnet, now_ns);
	mesh_peers_expire(mesh, now_ns);
	if (mesh->calm.deadline_ns <= now_ns && calm_expired(&mesh->calm, now_ns))
		trim(mesh);
}

static uint64_t next_deadline(const struct mesh *mesh)
{
	uint64_t ns = MIN(netstack_deadline(mesh->netstack), edge_deadline(mesh->edge));

	if (mesh->wg)
		ns = MIN(ns, wg_device_deadline(mesh->wg));
	if (mesh->tailnet)
		ns = MIN(ns, tailnet_deadline(mesh->tailnet));
	if (mesh->proxy)
		ns = MIN(ns, proxy_deadline(mesh->proxy));
	ns = MIN(ns, MIN(pings_deadline(&mesh->pings), mesh->calm.deadline_ns));
	return MIN(ns, mesh_peers_deadline(mesh));
}

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	struct mesh *mesh = owner;

	/* Servers and the way to peers may have changed while it slept, and tell nobody. */
	if (mesh->tailnet && now_ns > mesh->due_ns && now_ns - mesh->due_ns > SLEPT_NS)
		tailnet_network_changed(mesh->tailnet);
	calm_round(&mesh->calm, now_ns);
	for (unsigned i = 0;; i++) {
		netstack_flush(mesh->netstack, now_ns);
		mesh->due_ns = next_deadline(mesh);
		if (mesh->due_ns > now_ns || i == FLUSHES_PER_ROUND)
			return mesh->due_ns;
		expire_all(mesh, now_ns);
	}
}

/* ---- life ---- */

/* Without a Name the machine's own will do, unless a peer has it. */
void mesh_choose_name(struct config *c)
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

static int create_edge(struct mesh *mesh, const struct mesh_options *options,
		       char error[static 256])
{
	const struct edge_callbacks callbacks = { .reachable = reachable,
						  .peer = mesh_source_of,
						  .holder = options->login ? tailnet_holder
									   : NULL };
	const struct edge_config config = { .dir = options->dir,
					    .mtu = mesh->config.mtu,
					    .allow_all_users = options->allow_all_users,
					    .refuse_synhold = options->refuse_synhold };
	int err = edge_create(mesh->loop, &config, &callbacks, mesh, &mesh->edge, error);

	if (err < 0)
		return err;
	edge_set_dns(mesh->edge, mesh->dns);
	mesh_api_install(mesh);
	return 0;
}

static int create_udp(struct mesh *mesh, const struct login_setup *login, char error[static 256])
{
	const struct udp_callbacks callbacks = { udp_received, udp_blocked };
	const char *by = login ? "--port" : "ListenPort";
	uint16_t port = mesh->config.listen_port;
	int err = udp_path_create(mesh->loop, port, &callbacks, mesh, &mesh->udp);

	if (err == -EADDRINUSE && login && login->port == 0)
		err = udp_path_create(mesh->loop, 0, &callbacks, mesh, &mesh->udp);
	if (err == -EADDRINUSE)
		snprintf(error, 256,
			 "the UDP port %u is taken by another program; end that one, or choose "
			 "another %s",
			 (unsigned)port, by);
	else if (err == -EACCES)
		snprintf(error, 256,
			 "the UDP port %u may not be taken by this user; choose a %s above 1023",
			 (unsigned)port, by);
	else if (err < 0)
		snprintf(error, 256, "the UDP port %u cannot be opened: %s", (unsigned)port,
			 strerror(-err));
	return err;
}

int mesh_create_wg(struct mesh *mesh, const uint8_t private_key[static WG_KEY_LEN], bool roaming,
		   char error[static 256])
{
	const struct wg_callbacks callbacks = { wg_transmit, wg_received, wg_established,
						wall_clock };

	mesh->wg = wg_device_create(private_key, mesh->config.mtu, roaming, &callbacks, mesh);
	if (!mesh->wg) {
		snprintf(error, 256, "cannot make the WireGuard device: out of memory");
		return -ENOMEM;
	}
	log_debug("mesh: packets are sealed by %s, the quickest here", wg_device_library(mesh->wg));
	if (mesh->workers)
		wg_device_set_workers(mesh->wg, mesh->workers, mesh->worker_count);
	return 0;
}

/* Where threads are refused, one does it all. */
static void create_workers(struct mesh *mesh, unsigned wanted)
{
	unsigned cores = cores_usable();

	mesh->worker_count = workers_useful(wanted, cores);
	if (mesh->worker_count < wanted)
		log_info(
			"mesh: of %u threads to encrypt %u run: with %u processors more would only "
			"take time from each other",
			wanted, mesh->worker_count, cores);
	if (mesh->worker_count < 2)
		return;
	mesh->workers = workers_create(mesh->worker_count);
	if (!mesh->workers)
		log_warn("mesh: threads are refused, one does all the encrypting");
}

static int create_netstack(struct mesh *mesh, enum tcp_congestion congestion,
			   char error[static 256])
{
	const struct netstack_callbacks callbacks = { netstack_output, udp_to_program, udp_failed,
						      pong, serves };
	const struct netstack_tsmp_callbacks tsmp = { tsmp_pong, tsmp_disco_key };
	const struct config *c = &mesh->config;
	struct ip_addr own[CONFIG_MAX_OWN];
	struct tcp_config tcp;

	tcp_config_defaults(&tcp, c->mtu);
	tcp.keepalive_ns = KEEPALIVE_NS;
	tcp.congestion = congestion;
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
	netstack_set_tsmp(mesh->netstack, &tsmp);
	edge_set_netstack(mesh->edge, mesh->netstack);
	return 0;
}

/* What a tailnet's node has of a WireGuard file's. */
static void login_config(struct config *c, const struct login_setup *login)
{
	c->listen_port = login->port ? login->port : DEFAULT_PORT;
	c->mtu = TAILNET_MTU;
	snprintf(c->name, sizeof(c->name), "%s", login->hostname);
	if (!c->name[0] && gethostname(c->name, sizeof(c->name) - 1) != 0)
		snprintf(c->name, sizeof(c->name), "meshwrap");
}

static void look_up_for_proxy(void *owner, const char *name, proxy_found *found, void *arg)
{
	struct mesh *mesh = owner;

	dns_lookup(mesh->dns, name, DNS_WANT_V4 | DNS_WANT_V6, false, found, arg);
}

static int create_proxy(struct mesh *mesh, const struct mesh_options *options,
			char error[static 256])
{
	const struct proxy_config config = { options->socks5_listen, options->http_listen,
					     options->allow_all_users };
	const struct proxy_backend backend = { look_up_for_proxy, mesh };
	char line[256];
	int err;

	if (!config.socks5_listen && !config.http_listen)
		return 0;
	err = proxy_create(mesh->loop, mesh->edge, &config, &backend, &mesh->proxy, error);
	if (err == 0) {
		proxy_describe(mesh->proxy, line);
		log_info("proxy: %s", line);
	}
	return err;
}

static int create_modules(struct mesh *mesh, const struct mesh_options *options,
			  char error[static 256])
{
	const struct login_setup *login = options->login;
	/* The folder first: a daemon that runs already is the likelier reason for a taken port. */
	int err = create_edge(mesh, options, error);

	if (err == 0)
		err = create_udp(mesh, login, error);
	if (err == 0)
		err = create_netstack(mesh, options->congestion, error);
	if (err == 0)
		err = login ? tailnet_create(mesh, login, error) : mesh_file_create(mesh, error);
	return err == 0 ? create_proxy(mesh, options, error) : err;
}

int mesh_create(struct config *config, const struct mesh_options *options, struct mesh **out,
		char error[static 256])
{
	struct mesh *mesh = calloc(1, sizeof(*mesh));
	const struct loop_hooks hooks = { round_end, mesh };
	int err = -ENOMEM;

	error[0] = '\0';
	if (!mesh) {
		if (config)
			config_finish(config);
		goto fail;
	}
	mesh->options = *options;
	mesh->greeting_ns = mesh->next_look_up_ns = mesh->ready_ns = mesh->due_ns = NEVER_NS;
	if (config) {
		mesh->config = *config;
		sodium_memzero(config, sizeof(*config));
		mesh_choose_name(&mesh->config);
	} else {
		login_config(&mesh->config, options->login);
	}
	mesh->loop = loop_create(&hooks);
	if (mesh->loop) {
		calm_expect(&mesh->calm, loop_now(mesh->loop));
		mesh->resolver = resolver_create(mesh->loop, tailnet_looked_up, mesh);
		mesh->dns = dns_create(mesh->loop, NULL);
		mesh->netmap = netmap_create();
	}
	if (!mesh->resolver || !mesh->dns || !mesh->netmap)
		goto fail;
	mesh_dns_install(mesh);
	create_workers(mesh, options->workers);
	err = create_modules(mesh, options, error);
	if (err < 0)
		goto fail;
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
	mesh_status_all_destroy(mesh->status_all);
	proxy_destroy(mesh->proxy);
	dns_destroy(mesh->dns);
	/* Without the edge its connections are gone: the peers are told, by a last flush. */
	edge_destroy(mesh->edge);
	mesh->edge = NULL;
	if (mesh->netstack)
		netstack_flush(mesh->netstack, loop_now(mesh->loop));
	tailnet_destroy(mesh->tailnet);
	netstack_destroy(mesh->netstack);
	wg_device_destroy(mesh->wg);
	workers_destroy(mesh->workers);
	udp_path_destroy(mesh->udp);
	netmap_destroy(mesh->netmap);
	resolver_destroy(mesh->resolver);
	mesh_file_destroy(mesh);
	loop_destroy(mesh->loop);
	config_finish(&mesh->config);
	free(mesh);
}

int mesh_run(struct mesh *mesh)
{
	return loop_run(mesh->loop);
}

void mesh_stop(struct mesh *mesh)
{
	if (!mesh->tailnet || !tailnet_leave(mesh->tailnet))
		loop_stop(mesh->loop);
}

struct event_base *mesh_base(struct mesh *mesh)
{
	return loop_base(mesh->loop);
}
