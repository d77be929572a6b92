/*
 * The status as JSON, in the shape that `tailscale status --json` has, so that
 * scripts written for it find what they look for.
 */
#include <json-c/json.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/mesh_private.h"

#define KEY_TEXT sodium_base64_ENCODED_LEN(WG_KEY_LEN, sodium_base64_VARIANT_ORIGINAL)

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

static char *key_text(const uint8_t key[static WG_KEY_LEN], char text[static KEY_TEXT])
{
	return sodium_bin2base64(text, KEY_TEXT, key, WG_KEY_LEN, sodium_base64_VARIANT_ORIGINAL);
}

static bool is_one_address(const struct ip_prefix *p)
{
	return p->len == (ip_is_v4(&p->addr) ? 32 : 128);
}

/* Names and addresses, as every node has them. */
static json_object *new_node(const struct mesh *mesh, const char *name)
{
	json_object *node = json_object_new_object();
	char full[CONFIG_NAME_MAX + 260] = "";

	if (name[0])
		snprintf(full, sizeof(full), "%s.%s.", name, mesh->config.domain);
	add_text(node, "HostName", name);
	add_text(node, "DNSName", full);
	return node;
}

static json_object *self_status(const struct mesh *mesh)
{
	const struct config *c = &mesh->config;
	json_object *self = new_node(mesh, c->name), *ips = json_object_new_array();
	uint8_t key[WG_KEY_LEN];
	char text[KEY_TEXT], ip[IP_TEXT_MAX];

	wg_device_public_key(mesh->wg, key);
	add_text(self, "PublicKey", key_text(key, text));
	for (unsigned i = 0; i < c->own_count; i++)
		json_object_array_add(ips, json_object_new_string(ip_format(&c->own[i].addr, ip)));
	json_object_object_add(self, "TailscaleIPs", ips);
	add_flag(self, "Online", true);
	return self;
}

static void add_time(json_object *to, const char *key, uint64_t wall_s)
{
	char text[32] = "";
	time_t t = (time_t)wall_s;
	struct tm tm;

	if (wall_s != 0 && gmtime_r(&t, &tm))
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	add_text(to, key, text);
}

static json_object *peer_status(const struct mesh *mesh, const struct mesh_peer *peer)
{
	const struct config_peer *c = peer->config;
	json_object *node = new_node(mesh, c->name), *ips = json_object_new_array(),
		    *ranges = json_object_new_array();
	char text[KEY_TEXT], ip[IP_TEXT_MAX], at[ENDPOINT_TEXT_MAX] = "", range[IP_TEXT_MAX + 4];
	struct wg_peer_stats stats;

	wg_peer_stats(peer->wg, &stats);
	for (unsigned i = 0; i < c->allowed_count; i++) {
		ip_format(&c->allowed[i].addr, ip);
		snprintf(range, sizeof(range), "%s/%u", ip, (unsigned)c->allowed[i].len);
		json_object_array_add(ranges, json_object_new_string(range));
		if (is_one_address(&c->allowed[i]))
			json_object_array_add(ips, json_object_new_string(ip));
	}
	if (stats.has_endpoint)
		endpoint_format(&stats.endpoint, at);
	add_text(node, "PublicKey", key_text(c->public_key, text));
	json_object_object_add(node, "TailscaleIPs", ips);
	json_object_object_add(node, "AllowedIPs", ranges);
	add_text(node, "CurAddr", at);
	add_number(node, "RxBytes", stats.rx_bytes);
	add_number(node, "TxBytes", stats.tx_bytes);
	add_time(node, "LastHandshake", stats.handshake_wall_s);
	add_flag(node, "Online", stats.has_session);
	add_flag(node, "Active", stats.has_session);
	add_number(node, "DroppedNoSession", stats.dropped_staged);
	add_number(node, "DroppedInvalid", stats.dropped_invalid);
	add_number(node, "DroppedSource", stats.dropped_source);
	return node;
}

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
	add_number(o, "UDPEndpoints", s->udp_endpoints);
	add_number(o, "Dialled", s->dialled);
	add_number(o, "DialFailed", s->dial_failed);
	add_number(o, "Inbound", s->inbound);
	add_number(o, "InboundRefused", s->inbound_refused);
	return o;
}

char *mesh_status(struct mesh *mesh)
{
	json_object *status = json_object_new_object(), *peers = json_object_new_object();
	struct edge_stats edge;
	char text[KEY_TEXT], *out;
	const char *printed;

	edge_get_stats(mesh->edge, &edge);
	add_text(status, "Version", MESHWRAP_VERSION);
	add_text(status, "BackendState", "Running");
	add_text(status, "MagicDNSSuffix", mesh->config.domain);
	add_number(status, "ListenPort", udp_path_port(mesh->udp));
	add_number(status, "MTU", mesh->config.mtu);
	add_flag(status, "SynHold", edge.synhold);
	add_text(status, "SynHoldWhy", edge.synhold || !edge.synhold_why ? "" : edge.synhold_why);
	json_object_object_add(status, "Self", self_status(mesh));
	for (unsigned i = 0; i < mesh->config.peer_count; i++)
		json_object_object_add(peers, key_text(mesh->config.peers[i].public_key, text),
				       peer_status(mesh, &mesh->peers[i]));
	json_object_object_add(status, "Peer", peers);
	json_object_object_add(status, "Edge", edge_counters(&edge));
	json_object_object_add(status, "TCP", tcp_counters(mesh));
	json_object_object_add(status, "Stack", stack_counters(mesh));
	json_object_object_add(status, "UDP", udp_counters(mesh));
	printed = json_object_to_json_string_ext(status, JSON_C_TO_STRING_PLAIN |
								 JSON_C_TO_STRING_NOSLASHESCAPE);
	out = printed ? strdup(printed) : NULL;
	json_object_put(status);
	return out;
}
