/*
 * The status as JSON: the map with live data in the shape that `tailscale status
 * --json` has (netmap/status.h), so that scripts written for it find what they
 * look for, and after it what only this daemon counts. And the lines that the log has of it.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/derp/relays.h"
#include "daemon/dns/dns.h"
#include "daemon/loop.h"
#include "daemon/mesh_tailnet.h"
#include "daemon/netmap/status.h"
#include "daemon/path/paths.h"
#include "shared/util.h"

#define HEALTH_MAX      4
#define HEALTH_TEXT_MAX 384

/* Two initiations, the second 5 s after the first. */
#define UNANSWERED_BYTES 296

static void add_text(json_object *to, const char *key, const char *text)
{
	json_object_object_add(to, key, json_object_new_string(text));
}

static void add_number(json_object *to, const char *key, uint64_t number)
{
	json_object_object_add(to, key, json_object_new_uint64(number));
}

static void add_flag(json_object *to, const char *key, bool flag)
{
	json_object_object_add(to, key, json_object_new_boolean(flag));
}

/* ---- live data of the nodes ---- */

static struct mesh_peer *peer_of(const struct mesh *mesh, const struct netmap_node *node)
{
	struct mesh_peer *peer = NULL;

	HASH_FIND(by_id, mesh->tailnet ? mesh->tailnet->peers : mesh->by_id, &node->id,
		  sizeof(node->id), peer);
	return peer;
}

static int64_t wall_of(const struct mesh *mesh, uint64_t at_ns)
{
	uint64_t ago_ns = loop_now(mesh->loop) - at_ns;

	return at_ns == 0 ? 0 : (int64_t)(tailnet_timestamp_s() - ago_ns / NS_PER_S);
}

static void live_peer(void *owner, const struct netmap_node *node, struct status_peer *live)
{
	struct mesh *mesh = owner;
	const struct mesh_peer *peer = peer_of(mesh, node);
	struct path_peer_status path;
	struct wg_peer_stats wg;

	if (!peer || !peer->wg)
		return;
	wg_peer_stats(peer->wg, &wg);
	live->in_engine = live->in_magic_sock = true;
	live->rx_bytes = wg.rx_bytes;
	live->tx_bytes = wg.tx_bytes;
	live->last_handshake_s = (int64_t)wg.handshake_wall_s;
	if (peer->path) {
		path_peer_status(mesh->tailnet->paths, peer->path, loop_now(mesh->loop), &path);
		live->has_direct = path.is_direct;
		live->cur_addr = path.direct_to;
		live->is_active = path.is_active;
		live->last_write_s = wall_of(mesh, path.last_send_ns);
	} else {
		live->has_direct = wg.has_endpoint;
		live->cur_addr = wg.endpoint;
		live->is_active = wg.has_session;
	}
}

/* ---- counters ---- */

static json_object *udp_counters(const struct mesh *mesh)
{
	json_object *o = json_object_new_object();
	struct udp_stats s;

	udp_path_get_stats(mesh->udp, &s);
	add_number(o, "RxPackets", s.rx_packets);
	add_number(o, "RxBytes", s.rx_bytes);
	add_number(o, "RxCalls", s.rx_calls);
	add_number(o, "TxPackets", s.tx_packets);
	add_number(o, "TxBytes", s.tx_bytes);
	add_number(o, "TxCalls", s.tx_calls);
	add_number(o, "TxDropped", s.tx_dropped);
	add_flag(o, "Segmentation", s.gso);
	add_flag(o, "Coalescing", s.gro);
	return o;
}

static json_object *stack_counters(const struct mesh *mesh)
{
	json_object *o = json_object_new_object();
	struct netstack_stats s;

	netstack_get_stats(mesh->netstack, &s);
	add_number(o, "PacketsIn", s.packets_in);
	add_number(o, "PacketsOut", s.packets_out);
	add_number(o, "Bad", s.bad_packets);
	add_number(o, "NotForUs", s.not_for_us);
	add_number(o, "Unsupported", s.unsupported);
	add_number(o, "UDPIn", s.udp_in);
	add_number(o, "UDPOut", s.udp_out);
	add_number(o, "ICMPIn", s.icmp_in);
	add_number(o, "ICMPOut", s.icmp_out);
	add_number(o, "ErrorsDisbelieved", s.errors_disbelieved);
	add_number(o, "FragmentsIn", s.fragments_in);
	add_number(o, "Reassembled", s.reassembled);
	add_number(o, "ReassemblyFailed", s.reassembly_failed);
	return o;
}

static json_object *tcp_counters(const struct mesh *mesh)
{
	json_object *o = json_object_new_object();
	struct tcp_stats s;

	tcp_get_stats(netstack_tcp(mesh->netstack), &s);
	add_number(o, "Connections", s.conns);
	add_number(o, "Parked", s.parked);
	add_number(o, "TimeWait", s.time_wait);
	add_number(o, "BufferBytes", s.memory);
	add_number(o, "Opened", s.opened);
	add_number(o, "Accepted", s.accepted);
	add_number(o, "Refused", s.refused);
	add_number(o, "Failed", s.failed);
	add_number(o, "SYNsUnanswered", s.syns_unanswered);
	add_number(o, "SYNsOverShare", s.syns_over_share);
	add_number(o, "SegmentsIn", s.segments_in);
	add_number(o, "SegmentsOut", s.segments_out);
	add_number(o, "BytesIn", s.bytes_in);
	add_number(o, "BytesOut", s.bytes_out);
	add_number(o, "Retransmitted", s.retransmitted);
	add_number(o, "Timeouts", s.timeouts);
	add_number(o, "FastRecoveries", s.fast_recoveries);
	add_number(o, "BadSegments", s.bad_segments);
	add_number(o, "ChallengeACKs", s.challenge_acks);
	return o;
}

static json_object *edge_counters(const struct edge_stats *s)
{
	json_object *o = json_object_new_object();

	add_number(o, "Flows", s->flows);
	add_number(o, "FlowsStowed", s->flows_stowed);
	add_number(o, "UDPEndpoints", s->udp_endpoints);
	add_number(o, "UDPEvicted", s->udp_evicted);
	add_number(o, "UDPOverShare", s->udp_over_share);
	add_number(o, "UDPIgnored", s->udp_ignored);
	add_number(o, "Dialled", s->dialled);
	add_number(o, "DialFailed", s->dial_failed);
	add_number(o, "Inbound", s->inbound);
	add_number(o, "InboundRefused", s->inbound_refused);
	return o;
}

static void add_wg_counters(const struct mesh_peer *peer, struct wg_peer_stats *sum)
{
	struct wg_peer_stats s;

	if (!peer->wg)
		return;
	wg_peer_stats(peer->wg, &s);
	sum->dropped_staged += s.dropped_staged;
	sum->dropped_invalid += s.dropped_invalid;
	sum->dropped_source += s.dropped_source;
}

/* Of the peers that are there now. */
static json_object *wg_counters(const struct mesh *mesh)
{
	json_object *o = json_object_new_object();
	struct wg_peer_stats sum = { 0 };

	if (mesh->tailnet) {
		const struct mesh_peer *peer = mesh->tailnet->peers;

		for (; peer; peer = peer->by_id.next)
			add_wg_counters(peer, &sum);
	}
	for (unsigned i = 0; !mesh->tailnet && i < mesh->config.peer_count; i++)
		add_wg_counters(mesh->peers[i], &sum);
	add_number(o, "DroppedWithoutSession", sum.dropped_staged);
	add_number(o, "DroppedInvalid", sum.dropped_invalid);
	add_number(o, "DroppedForeignSource", sum.dropped_source);
	return o;
}

static json_object *dns_counters(const struct mesh *mesh)
{
	json_object *o = json_object_new_object();
	struct dns_stats s;

	dns_get_stats(mesh->dns, &s);
	add_number(o, "Queries", s.queries);
	add_number(o, "AnsweredHere", s.local);
	add_number(o, "Forwarded", s.forwarded);
	add_number(o, "UnderWay", s.in_flight);
	add_number(o, "Failed", s.failed);
	add_number(o, "Dropped", s.dropped);
	add_number(o, "Bad", s.bad);
	add_number(o, "Spoofed", s.spoofed);
	return o;
}

static json_object *relay_counters(const struct relays *relays)
{
	json_object *list = json_object_new_array();
	struct relays_status s;

	for (unsigned i = 0; relays_status(relays, i, &s); i++) {
		json_object *o = json_object_new_object();

		add_number(o, "Region", (uint64_t)s.region);
		add_text(o, "Node", s.node);
		add_flag(o, "Connected", s.is_connected);
		add_flag(o, "Home", s.is_home);
		add_number(o, "RxPackets", s.rx_packets);
		add_number(o, "RxBytes", s.rx_bytes);
		add_number(o, "RxDropped", s.rx_dropped);
		add_number(o, "TxPackets", s.tx_packets);
		add_number(o, "TxBytes", s.tx_bytes);
		add_number(o, "TxDropped", s.tx_dropped);
		add_number(o, "Connects", s.connects);
		add_number(o, "Failures", s.failures);
		json_object_array_add(list, o);
	}
	return list;
}

static json_object *filter_counters(const struct tailnet *t)
{
	static const char *const names[FILTER_VERDICTS] = {
		[FILTER_ACCEPT] = "Accepted",          [FILTER_DROP_MALFORMED] = "Malformed",
		[FILTER_DROP_MULTICAST] = "Multicast", [FILTER_DROP_LINK_LOCAL] = "LinkLocal",
		[FILTER_DROP_FRAGMENT] = "Fragments",  [FILTER_DROP_NOT_LOCAL] = "NotLocal",
		[FILTER_DROP_RULES] = "NoRule",
	};
	json_object *o = json_object_new_object();
	struct filter_stats s;

	filter_get_stats(t->filter, &s);
	for (unsigned i = 0; i < FILTER_VERDICTS; i++)
		add_number(o, names[i], s.in[i]);
	add_number(o, "Flows", s.flows);
	add_number(o, "FlowsEvicted", s.flows_evicted);
	add_number(o, "FlowsOverShare", s.flows_over_share);
	return o;
}

static json_object *control_counters(const struct tailnet *t)
{
	json_object *o = json_object_new_object();
	struct control_info info;

	control_get_info(t->control, &info);
	add_text(o, "Server", info.server_url ? info.server_url : "");
	add_text(o, "Proxy", info.proxy);
	add_flag(o, "Connected", info.is_connected);
	add_number(o, "Connects", info.connects);
	add_number(o, "Messages", info.messages);
	add_number(o, "BadMessages", info.bad_messages);
	add_number(o, "Updates", info.updates);
	add_number(o, "EntriesIgnored", t->ignored);
	return o;
}

static json_object *paths_counters(const struct tailnet *t)
{
	json_object *o = json_object_new_object();
	struct paths_stats s;

	paths_get_stats(t->paths, &s);
	add_number(o, "DiscoIn", s.disco_rx);
	add_number(o, "DiscoDropped", s.disco_dropped);
	add_number(o, "DiscoOut", s.disco_tx);
	add_number(o, "SentDirect", s.sent_direct);
	add_number(o, "SentRelay", s.sent_relay);
	add_number(o, "SentBoth", s.sent_both);
	add_number(o, "SentNowhere", s.sent_nowhere);
	add_number(o, "RelayUnknownSource", s.relay_dropped);
	return o;
}

/* What only we have, after what every client shows. */
static void add_own(struct mesh *mesh, json_object *status)
{
	struct edge_stats edge;

	edge_get_stats(mesh->edge, &edge);
	mesh_status_add_options(mesh, status);
	add_number(status, "ListenPort", udp_path_port(mesh->udp));
	add_number(status, "MTU", mesh->config.mtu);
	add_flag(status, "SynHold", edge.synhold);
	add_text(status, "SynHoldWhy", edge.synhold || !edge.synhold_why ? "" : edge.synhold_why);
	json_object_object_add(status, "UDP", udp_counters(mesh));
	json_object_object_add(status, "Stack", stack_counters(mesh));
	json_object_object_add(status, "TCP", tcp_counters(mesh));
	json_object_object_add(status, "Edge", edge_counters(&edge));
	json_object_object_add(status, "WireGuard", wg_counters(mesh));
	if (mesh->dns)
		json_object_object_add(status, "DNS", dns_counters(mesh));
	if (mesh->tailnet) {
		json_object_object_add(status, "Filter", filter_counters(mesh->tailnet));
		json_object_object_add(status, "Control", control_counters(mesh->tailnet));
		if (mesh->tailnet->paths)
			json_object_object_add(status, "Paths", paths_counters(mesh->tailnet));
		if (mesh->tailnet->relays)
			json_object_object_add(status, "Relays",
					       relay_counters(mesh->tailnet->relays));
	}
}

/*
 * What is wrong with a key, a clock or a firewall shows as silence, and nobody else tells.
 * NULL: every peer of the file has answered, or was asked only just now.
 */
static const char *unanswered(const struct mesh *mesh, char text[static HEALTH_TEXT_MAX])
{
	const struct mesh_peer *first = NULL;
	struct wg_peer_stats stats;
	char more[32] = "";
	unsigned count = 0;

	for (unsigned i = 0; !mesh->tailnet && i < mesh->config.peer_count; i++) {
		wg_peer_stats(mesh->peers[i]->wg, &stats);
		if (stats.rx_bytes > 0 || stats.tx_bytes < UNANSWERED_BYTES)
			continue;
		if (count++ == 0)
			first = mesh->peers[i];
	}
	if (!first)
		return NULL;
	if (count > 1)
		snprintf(more, sizeof(more), " (nor have %u others)", count - 1);
	snprintf(text, HEALTH_TEXT_MAX,
		 "%s has not answered%s: if it runs, look at its Endpoint and PublicKey here, at "
		 "this node's PublicKey there, at both clocks, and whether UDP gets through",
		 first->config->name[0] ? first->config->name : "a peer without a name", more);
	return text;
}

/* Texts of our own for the health list; room: for one of them. */
static unsigned health(struct mesh *mesh, const struct control_info *info,
		       char room[static HEALTH_TEXT_MAX], const char *texts[static HEALTH_MAX])
{
	const char *silence = unanswered(mesh, room);
	unsigned count = 0;

	if (silence)
		texts[count++] = silence;
	if (info->sentence && info->sentence[0])
		texts[count++] = info->sentence;
	if (info->problem && info->problem[0])
		texts[count++] = info->problem;
	if (mesh->tailnet && mesh->tailnet->is_carrying && paths_home(mesh->tailnet->paths) == 0)
		texts[count++] =
			"no relay is known to be near; peers behind NATs cannot be reached";
	return count;
}

static unsigned self_addresses(const struct mesh *mesh, struct endpoint out[static PATHS_SELF_MAX])
{
	struct paths_endpoint self[PATHS_SELF_MAX];
	unsigned count;

	if (!mesh->tailnet || !mesh->tailnet->paths)
		return 0;
	count = paths_self(mesh->tailnet->paths, self, PATHS_SELF_MAX);
	for (unsigned i = 0; i < count; i++)
		out[i] = self[i].endpoint;
	return count;
}

/* Nobody tells us who is online when there is no server: those with whom we have a session. */
static void set_online(json_object *status)
{
	json_object *peers, *active;

	if (!json_object_object_get_ex(status, "Peer", &peers) || !peers)
		return;
	json_object_object_foreach(peers, key, peer)
	{
		(void)key;
		if (json_object_object_get_ex(peer, "Active", &active))
			json_object_object_add(peer, "Online", json_object_get(active));
	}
}

static struct status_source source_of(struct mesh *mesh)
{
	const struct tailnet *t = mesh->tailnet;

	return (struct status_source){ .version = MESHWRAP_VERSION,
				       .backend_state = t ? tailnet_backend_state(t) : "Running",
				       .host_name = mesh->config.name,
				       .has_node_key = mesh->wg != NULL,
				       .is_file = t == NULL,
				       .wall_s = (int64_t)tailnet_timestamp_s(),
				       .peer = live_peer,
				       .owner = mesh };
}

char *mesh_status(struct mesh *mesh, bool want_peers)
{
	const struct tailnet *t = mesh->tailnet;
	struct endpoint addrs[PATHS_SELF_MAX];
	struct control_info info = { .login_url = "" };
	char room[HEALTH_TEXT_MAX];
	const char *texts[HEALTH_MAX];
	struct status_source source = source_of(mesh);
	json_object *status;
	char *out = NULL;

	if (t)
		control_get_info(t->control, &info);
	source.auth_url = info.login_url;
	source.self_addrs = addrs;
	source.self_addr_count = self_addresses(mesh, addrs);
	source.self_derp = t && t->paths ? paths_home(t->paths) : 0;
	source.health = texts;
	source.health_count = health(mesh, &info, room, texts);
	source.without_peers = !want_peers;
	status = status_build(mesh->netmap, &source);
	if (!status)
		return NULL;
	if (info.is_login_failed)
		add_text(status, "LoginError", info.sentence);
	add_own(mesh, status);
	if (!t)
		set_online(status);
	out = strdup(json_object_to_json_string_ext(status, MESH_STATUS_FORM));
	json_object_put(status);
	return out;
}

json_object *mesh_status_peers(struct mesh *mesh, const int64_t *ids, unsigned count)
{
	struct status_source source = source_of(mesh);
	json_object *status = status_build_peers(mesh->netmap, &source, ids, count);

	if (status && !mesh->tailnet)
		set_online(status);
	return status;
}

/* ---- lines of the log ---- */

void mesh_describe(const struct mesh *mesh, char line[static MESH_LINE_MAX])
{
	const struct netmap_node *self = netmap_self(mesh->netmap);
	char ip[IP_TEXT_MAX] = "no address yet", why[128] = "";
	const char *name = self && self->name[0] ? self->name : mesh->config.name;
	struct edge_stats stats;

	edge_get_stats(mesh->edge, &stats);
	if (!stats.synhold)
		snprintf(why, sizeof(why), " (%s)", stats.synhold_why ? stats.synhold_why : "");
	if (self && self->address_count > 0)
		ip_format(&self->addresses[0].addr, ip);
	snprintf(line, MESH_LINE_MAX, "node %s %s at %s, udp port %u, SYN hold: %s%s",
		 name[0] ? name : "(no name)", self ? "ready" : "starting", ip,
		 (unsigned)udp_path_port(mesh->udp), stats.synhold ? "yes" : "no", why);
}

void mesh_log_warnings(struct mesh *mesh)
{
	if (mesh->config.is_exposed)
		log_warn("meshd: %s holds a private key and others may read it; chmod 600 it",
			 mesh->options.config_path);
	if (mesh->config.unused[0])
		log_warn("config: %s", mesh->config.unused);
	if (mesh->config.bad_names[0])
		log_warn("config: %s", mesh->config.bad_names);
	if (!mesh->tailnet && mesh->config.peer_count == 0)
		log_warn("config: the file has no [Peer], so this node is alone");
}
