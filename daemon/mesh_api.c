/*
 * What meshctl asks, answered from the map and the modules: the backend of the
 * local API. Answers that take time come by ticket.
 */
#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/edge/localapi.h"
#include "daemon/loop.h"
#include "daemon/mesh_tailnet.h"
#include "daemon/netmap/status.h"
#include "daemon/outproxy.h"
#include "daemon/path/netcheck_report.h"
#include "daemon/path/paths.h"
#include "shared/util.h"

static struct localapi *api(struct mesh *mesh)
{
	return edge_localapi(mesh->edge);
}

static const struct derp_region *region(const struct mesh *mesh, int id)
{
	const struct derp_map *map = netmap_derp(mesh->netmap);

	for (unsigned i = 0; i < map->region_count; i++)
		if (map->regions[i].id == id)
			return &map->regions[i];
	return NULL;
}

/* ---- status, whois ---- */

static char *status(void *owner, bool want_peers)
{
	return mesh_status(owner, want_peers);
}

static char *whois(void *owner, const char *addr, char error[static LOCALAPI_ERROR_MAX])
{
	struct mesh *mesh = owner;
	const struct netmap_node *node = status_find_node(mesh->netmap, addr);
	json_object *json = node ? status_build_whois(mesh->netmap, node) : NULL;
	char *text = NULL;

	if (json)
		text = strdup(json_object_to_json_string_ext(
			json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		snprintf(error, LOCALAPI_ERROR_MAX, node ? "out of memory" : "peer not found");
	json_object_put(json);
	return text;
}

/* ---- ping ---- */

const struct ip_addr *mesh_own_address(const struct mesh *mesh, bool want_v6)
{
	const struct netmap_node *self = netmap_self(mesh->netmap);

	for (unsigned i = 0; self && i < self->address_count; i++)
		if (ip_is_v4(&self->addresses[i].addr) != want_v6)
			return &self->addresses[i].addr;
	return NULL;
}

/* Who asks is told by the ticket: the local API, or with this bit the coordination server. */
#define OF_CONTROL (UINT32_C(1) << 31)

static_assert(LOCALAPI_TICKET_MAX < OF_CONTROL, "tickets are told apart");

static void tell_pong(struct mesh *mesh, uint32_t ticket, const struct pong *pong)
{
	if (!(ticket & OF_CONTROL))
		localapi_ponged(api(mesh), ticket, pong);
	else if (mesh->tailnet)
		control_ping_done(mesh->tailnet->control, ticket & ~OF_CONTROL, pong);
}

static void node_of(struct mesh *mesh, const struct ip_addr *ip, char name[static 64])
{
	const struct netmap_node *node = netmap_node_by_addr(mesh->netmap, ip);

	name[0] = '\0';
	if (node)
		snprintf(name, 64, "%.*s", (int)strcspn(node->name, "."), node->name);
}

static void answer_pong(struct mesh *mesh, uint32_t ticket, const struct ip_addr *from,
			uint64_t round_trip_ns, uint16_t peerapi_port)
{
	char ip[IP_TEXT_MAX], name[64];
	struct pong pong = { .node_ip = ip_format(from, ip),
			     .node_name = name,
			     .peerapi_port = peerapi_port };

	node_of(mesh, from, name);
	if (round_trip_ns == NEVER_NS)
		pong.error = "no answer in time";
	else
		pong.latency_s = (double)round_trip_ns / (double)NS_PER_S;
	tell_pong(mesh, ticket, &pong);
}

void mesh_api_ponged(struct mesh *mesh, uint32_t ticket, const struct ip_addr *from,
		     uint64_t round_trip_ns)
{
	answer_pong(mesh, ticket, from, round_trip_ns, 0);
}

/* What a TSMP ping carries: which of ours it is. */
struct tsmp_data {
	uint16_t id, seq;
	uint32_t ticket;
};

void mesh_api_tsmp_ponged(struct mesh *mesh, const struct ip_addr *from, const uint8_t data[8],
			  uint16_t peerapi_port)
{
	struct tsmp_data sent;
	struct ping ping;

	memcpy(&sent, data, sizeof(sent));
	if (pings_take(&mesh->pings, from, sent.id, sent.seq, &ping) == 0)
		answer_pong(mesh, ping.ticket, from, loop_now(mesh->loop) - ping.sent_ns,
			    peerapi_port);
}

static int send_ping(struct mesh *mesh, const struct ip_addr *to, bool is_tsmp, unsigned size,
		     const struct tsmp_data *data)
{
	const struct ip_addr *local = mesh_own_address(mesh, !ip_is_v4(to));
	unsigned len = MAX(size, (unsigned)sizeof(*data));
	uint8_t *payload;
	int err;

	if (!local)
		return -ENETUNREACH;
	payload = calloc(1, len);
	if (!payload)
		return -ENOMEM;
	memcpy(payload, data, sizeof(*data));
	err = is_tsmp ? netstack_tsmp_ping(mesh->netstack, local, to, payload)
		      : netstack_ping(mesh->netstack, local, to, data->id, data->seq, payload, len);
	free(payload);
	return err;
}

static int start_ping(struct mesh *mesh, const struct ip_addr *to, enum ping_type type,
		      unsigned size, uint32_t ticket)
{
	struct wg_peer *peer = mesh->wg ? wg_device_route(mesh->wg, to) : NULL;
	const struct mesh_peer *p = peer ? wg_peer_user(peer) : NULL;
	const struct ping *ping;
	struct wg_peer_stats stats;
	struct tsmp_data data;
	struct ping gone;
	int err = 0;

	if (!p)
		return -ENOENT;
	wg_peer_stats(peer, &stats);
	if (!stats.has_endpoint)
		return -EHOSTUNREACH;
	ping = pings_add(&mesh->pings, to, ticket, loop_now(mesh->loop));
	if (!ping)
		return -EAGAIN;
	data = (struct tsmp_data){ ping->id, ping->seq, ticket };
	if (type == PING_DISCO && p->path)
		err = paths_ping(mesh->tailnet->paths, p->path, ticket, loop_now(mesh->loop));
	/* A plain WireGuard peer knows nothing of disco: it is asked by ICMP. */
	if (type != PING_DISCO || !p->path || err == -EOPNOTSUPP)
		err = send_ping(mesh, to, type == PING_TSMP, size, &data);
	if (err < 0)
		pings_take(&mesh->pings, to, data.id, data.seq, &gone);
	return err;
}

static int ping(void *owner, const struct ip_addr *to, enum ping_type type, unsigned size,
		uint32_t ticket, char error[static LOCALAPI_ERROR_MAX])
{
	struct mesh *mesh = owner;
	const struct netmap_node *node = netmap_node_by_addr(mesh->netmap, to);
	char ip[IP_TEXT_MAX], name[64], sentence[128];
	int err;

	if (node && node == netmap_self(mesh->netmap)) {
		snprintf(sentence, sizeof(sentence), "%s is local Tailscale IP", ip_format(to, ip));
		node_of(mesh, to, name);
		tell_pong(mesh, ticket,
			  &(struct pong){ .node_ip = ip,
					  .node_name = name,
					  .error = sentence,
					  .is_local = true });
		return 0;
	}
	err = start_ping(mesh, to, type, size, ticket);
	if (err == -ENOENT)
		snprintf(error, LOCALAPI_ERROR_MAX, "no peer has the address %s",
			 ip_format(to, ip));
	else if (err == -EAGAIN)
		snprintf(error, LOCALAPI_ERROR_MAX, "too many pings are under way");
	else if (err)
		snprintf(error, LOCALAPI_ERROR_MAX, "%s", strerror(-err));
	return err;
}

void mesh_api_ping_for_control(struct mesh *mesh, const struct control_ping *wanted)
{
	uint32_t ticket = wanted->token | OF_CONTROL;
	char error[LOCALAPI_ERROR_MAX];

	if (ping(mesh, &wanted->ip, wanted->type, 0, ticket, error) != 0)
		tell_pong(mesh, ticket, &(struct pong){ .error = error });
}

void mesh_api_disco_ponged(struct mesh *mesh, uint32_t ticket, const struct paths_pong *p)
{
	const struct derp_region *relay = region(mesh, p->region);
	char ip[IP_TEXT_MAX], name[64], at[ENDPOINT_TEXT_MAX];
	struct pong pong = { .node_ip = ip, .node_name = name };
	struct ping ping;

	if (p->latency_ns == NEVER_NS || pings_take_ticket(&mesh->pings, ticket, &ping) < 0)
		return; /* the table tells when it is too late */
	ip_format(&ping.to, ip);
	node_of(mesh, &ping.to, name);
	pong.latency_s = (double)p->latency_ns / (double)NS_PER_S;
	if (p->endpoint.port != 0) {
		pong.endpoint = endpoint_format(&p->endpoint, at);
	} else {
		pong.derp_region = p->region;
		pong.derp_code = relay ? relay->code : "";
	}
	tell_pong(mesh, ticket, &pong);
}

/* ---- netcheck ---- */

static int netcheck(void *owner, uint32_t ticket, char error[static LOCALAPI_ERROR_MAX])
{
	struct mesh *mesh = owner;
	struct tailnet *t = mesh->tailnet;
	int err = t && t->paths ? paths_netcheck(t->paths, ticket, loop_now(mesh->loop)) : -ENOENT;

	if (err == -ENOENT)
		snprintf(error, LOCALAPI_ERROR_MAX, "%s",
			 t ? "there is no map of relays yet; see meshctl status"
			   : "a node of a WireGuard file has no relays to measure");
	else if (err)
		snprintf(error, LOCALAPI_ERROR_MAX, "%s", strerror(-err));
	return err;
}

static const struct outproxy *proxy_to(const struct outproxies *proxies,
				       const struct derp_region *region)
{
	const struct outproxy *p = NULL;

	for (unsigned i = 0; i < region->node_count && !p; i++)
		p = outproxies_for(proxies, region->nodes[i].host_name,
				   (uint16_t)region->nodes[i].derp_port, true);
	return p && !p->problem ? p : NULL;
}

/* That leads to relays; for those who print text, as the names of the regions are. */
static void add_proxy(json_object *json, const struct outproxies *proxies,
		      const struct derp_map *map)
{
	const struct outproxy *p = NULL;
	char text[OUTPROXY_AUTHORITY_MAX];

	for (unsigned i = 0; proxies && i < map->region_count && !p; i++)
		p = proxy_to(proxies, &map->regions[i]);
	if (p)
		json_object_object_add(
			json, "Proxy",
			json_object_new_string(outproxy_authority(p->host, p->port, text)));
}

void mesh_api_netchecked(struct mesh *mesh, uint32_t ticket, const struct netcheck_report *report)
{
	struct timespec now;
	json_object *json;

	clock_gettime(CLOCK_REALTIME, &now);
	json = netcheck_report_json(report, (uint64_t)now.tv_sec, (uint32_t)now.tv_nsec);
	if (json && netcheck_report_add_regions(json, netmap_derp(mesh->netmap)) < 0) {
		json_object_put(json);
		json = NULL;
	}
	if (json)
		add_proxy(json, mesh->tailnet->login->proxies, netmap_derp(mesh->netmap));
	localapi_answered(api(mesh), ticket,
			  json ? json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN) : "",
			  json ? NULL : "out of memory");
	json_object_put(json);
}

/* ---- up, down, login, logout ---- */

static struct tailnet *tailnet_or_error(struct mesh *mesh, char error[static LOCALAPI_ERROR_MAX])
{
	if (!mesh->tailnet)
		snprintf(error, LOCALAPI_ERROR_MAX,
			 "this node is run by a WireGuard file, not by a coordination server; end "
			 "meshd to leave the mesh");
	return mesh->tailnet;
}

static int set_running(void *owner, bool running, char error[static LOCALAPI_ERROR_MAX])
{
	struct mesh *mesh = owner;
	struct tailnet *t;

	if (running && !mesh->tailnet)
		return 0; /* the node of a file is up as long as we run */
	t = tailnet_or_error(mesh, error);
	return t ? tailnet_set_running(t, running, error) : -EOPNOTSUPP;
}

static int login(void *owner, char error[static LOCALAPI_ERROR_MAX])
{
	struct tailnet *t = tailnet_or_error(owner, error);

	if (!t)
		return -EOPNOTSUPP;
	control_login_interactive(t->control);
	return 0;
}

static void logged_out(void *owner, int err)
{
	struct tailnet *t = owner;
	char error[LOCALAPI_ERROR_MAX];

	if (err)
		snprintf(error, sizeof(error),
			 "the server could not be told (%s); the key is forgotten here",
			 strerror(-err));
	tailnet_sync(t, NULL);
	tailnet_forget_map(t);
	if (t->has_logout_ticket)
		localapi_answered(api(t->mesh), t->logout_ticket, "{}", err ? error : NULL);
	t->has_logout_ticket = false;
}

static int logout(void *owner, uint32_t ticket, char error[static LOCALAPI_ERROR_MAX])
{
	struct tailnet *t = tailnet_or_error(owner, error);

	if (!t)
		return -EOPNOTSUPP;
	if (t->has_logout_ticket || t->is_leaving) {
		snprintf(error, LOCALAPI_ERROR_MAX, "a logout is under way already");
		return -EALREADY;
	}
	t->has_logout_ticket = true;
	t->logout_ticket = ticket;
	control_logout(t->control, logged_out);
	return 0;
}

void mesh_api_install(struct mesh *mesh)
{
	const struct localapi_backend backend = { status, mesh_status_all, whois,
						  ping,   netcheck,        set_running,
						  login,  logout,          mesh_reload,
						  mesh };

	localapi_set_backend(api(mesh), &backend);
}
