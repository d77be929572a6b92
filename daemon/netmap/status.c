/*
 * `tailscale status --json`. Members stand in the order in which the reference
 * writes them, and what it leaves out when empty is left out. What the map's
 * struct does not hold (CapMap, Location...) comes from the node's own JSON.
 */
#include "daemon/netmap/status.h"

#include <stdio.h>
#include <string.h>

#include <json.h>

#include "daemon/crypto/keytext.h"
#include "daemon/netmap/build.h"
#include "daemon/netmap/read.h"
#include "daemon/netmap/text.h"
#include "shared/util.h"

#define KEY_TEXT 73 /* "nodekey:..." */

_Static_assert(KEY_TEXT >= 8 + 64 + 1 && STATUS_TIME_TEXT <= TEXT_TIME_MAX, "room");

static char *key_text(const struct netmap_node *node, char text[static KEY_TEXT])
{
	char full[KEYTEXT_MAX];

	snprintf(text, KEY_TEXT, "%s", keytext_format(KEYTEXT_NODE, node->key, full));
	return text;
}

char *status_time_text(int64_t time_s, char text[static STATUS_TIME_TEXT])
{
	char full[TEXT_TIME_MAX];

	snprintf(text, STATUS_TIME_TEXT, "%.20s", text_time(time_s, full));
	return text;
}

/* 100.64.0.0/10 and fd7a:115c:a1e0::/48. */
static bool is_tailnet_addr(const struct ip_prefix *p)
{
	static const uint8_t v6[6] = { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0 };

	if (ip_is_v4(&p->addr))
		return p->len == 32 && ip_v4(&p->addr) >> 22 == 0x64400000u >> 22;
	return p->len == 128 && memcmp(p->addr.byte, v6, sizeof(v6)) == 0;
}

static bool is_single(const struct ip_prefix *p)
{
	return p->len == (ip_is_v4(&p->addr) ? 32 : 128);
}

/* Null when there is none. */
static void add_ips(struct build *b, struct json_object *o, const struct netmap_node *node,
		    const struct status_source *source)
{
	struct json_object *list;
	char text[IP_TEXT_MAX];

	if (node->address_count == 0) {
		build_add_null(b, o, "TailscaleIPs");
		return;
	}
	list = build_list(b);
	for (unsigned i = 0; i < node->address_count; i++) {
		if (source->is_file ? is_single(&node->addresses[i])
				    : is_tailnet_addr(&node->addresses[i]))
			build_append(b, list,
				     build_string(b, ip_format(&node->addresses[i].addr, text)));
	}
	build_add(b, o, "TailscaleIPs", list);
}

static void add_dns_name(struct build *b, struct json_object *o, const struct netmap_node *node)
{
	char name[READ_NAME_MAX + 2];

	snprintf(name, sizeof(name), "%s%s", node->name, *node->name ? "." : "");
	build_text(b, o, "DNSName", name);
}

static const char *region_code(const struct netmap *nm, int id)
{
	const struct derp_map *map = netmap_derp(nm);

	for (unsigned i = 0; i < map->region_count; i++) {
		if (map->regions[i].id == id)
			return map->regions[i].code;
	}
	return "";
}

static void add_addrs(struct build *b, struct json_object *o, const struct endpoint *addrs,
		      unsigned count)
{
	struct json_object *list;
	char text[ENDPOINT_TEXT_MAX];

	if (count == 0) {
		build_add_null(b, o, "Addrs");
		return;
	}
	list = build_list(b);
	for (unsigned i = 0; i < count; i++)
		build_append(b, list, build_string(b, endpoint_format(&addrs[i], text)));
	build_add(b, o, "Addrs", list);
}

/* The server's own text, which may be finer than a second. */
static void add_time(struct build *b, struct json_object *o, struct json_object *node,
		     const char *name)
{
	if (read_time(node, name))
		build_copy(b, o, node, name, json_type_string);
	else
		build_time(b, o, name, 0);
}

static void add_peerapi(struct build *b, struct json_object *o, const struct netmap_node *node)
{
	struct json_object *list;
	char text[ENDPOINT_TEXT_MAX], url[ENDPOINT_TEXT_MAX + 8];

	if (!node->peerapi4_port && !node->peerapi6_port) {
		build_add_null(b, o, "PeerAPIURL");
		return;
	}
	list = build_list(b);
	for (unsigned i = 0; i < node->address_count; i++) {
		struct endpoint ep = { node->addresses[i].addr, ip_is_v4(&node->addresses[i].addr)
									? node->peerapi4_port
									: node->peerapi6_port };

		if (!is_tailnet_addr(&node->addresses[i]) || ep.port == 0)
			continue;
		snprintf(url, sizeof(url), "http://%s", endpoint_format(&ep, text));
		build_append(b, list, build_string(b, url));
	}
	build_add(b, o, "PeerAPIURL", list);
}

static bool is_exit_node(const struct netmap_node *node)
{
	unsigned found = 0;

	for (unsigned i = 0; i < node->allowed_count; i++) {
		if (node->allowed[i].len == 0)
			found |= ip_is_v4(&node->allowed[i].addr) ? 1 : 2;
	}
	return found == 3;
}

static void add_who(struct build *b, struct json_object *o, const struct netmap_node *node,
		    const struct status_source *source)
{
	char text[KEY_TEXT];

	build_text(b, o, "ID", node->stable_id);
	build_int(b, o, "NodeID", node->id);
	build_text(b, o, "PublicKey", key_text(node, text));
	build_text(b, o, "HostName", node->host_name);
	add_dns_name(b, o, node);
	build_text(b, o, "OS", node->os);
	build_int(b, o, "UserID", node->user);
	if (node->sharer)
		build_int(b, o, "AltSharerUserID", node->sharer);
	add_ips(b, o, node, source);
}

static void add_routes(struct build *b, struct json_object *o, const struct netmap_node *node,
		       struct json_object *json)
{
	struct json_object *list;

	if (node->allowed_count) {
		list = build_list(b);
		for (unsigned i = 0; i < node->allowed_count; i++)
			build_append(b, list, build_prefix(b, &node->allowed[i]));
		build_add(b, o, "AllowedIPs", list);
	}
	if (node->tag_count)
		build_add(b, o, "Tags", build_texts(b, node->tags, node->tag_count));
	build_copy(b, o, json, "PrimaryRoutes", json_type_array);
}

static void add_path(struct build *b, struct json_object *o, const struct netmap *nm,
		     const struct netmap_node *node, bool is_self,
		     const struct status_source *source, const struct status_peer *live)
{
	char text[ENDPOINT_TEXT_MAX];

	add_addrs(b, o, source->self_addrs, is_self ? source->self_addr_count : 0);
	build_text(b, o, "CurAddr", live->has_direct ? endpoint_format(&live->cur_addr, text) : "");
	build_text(b, o, "Relay", region_code(nm, is_self ? source->self_derp : node->home_derp));
	build_text(b, o, "PeerRelay", "");
	build_int(b, o, "RxBytes", (int64_t)live->rx_bytes);
	build_int(b, o, "TxBytes", (int64_t)live->tx_bytes);
}

static void add_rest(struct build *b, struct json_object *o, const struct netmap_node *node,
		     struct json_object *json)
{
	struct json_object *hostinfo = read_member(json, "Hostinfo", json_type_object);

	if (node->cap_count)
		build_add(b, o, "Capabilities", build_texts(b, node->caps, node->cap_count));
	build_copy(b, o, json, "CapMap", json_type_object);
	build_copy(b, o, hostinfo, "sshHostKeys", json_type_array);
	if (node->is_hidden)
		build_bool(b, o, "ShareeNode", true);
}

/* One PeerStatus; is_self: ourselves. */
static struct json_object *build_node(const struct netmap *nm, const struct netmap_node *node,
				      bool is_self, const struct status_source *source)
{
	struct build b = { .failed = false };
	struct json_object *o = build_object(&b), *json = json_tokener_parse(node->json);
	struct status_peer live = { .has_direct = false };
	bool is_expired = netmap_node_is_expired(nm, node, source->wall_s);

	if (is_self) {
		live.rx_bytes = source->rx_bytes;
		live.tx_bytes = source->tx_bytes;
	} else if (source->peer) {
		source->peer(source->owner, node, &live);
	}
	add_who(&b, o, node, source);
	add_routes(&b, o, node, json);
	add_path(&b, o, nm, node, is_self, source, &live);
	add_time(&b, o, json, "Created");
	build_time(&b, o, "LastWrite", live.last_write_s);
	add_time(&b, o, json, "LastSeen");
	build_time(&b, o, "LastHandshake", live.last_handshake_s);
	build_bool(&b, o, "Online",
		   is_self ? strcmp(source->backend_state, "Running") == 0
			   : node->online == NETMAP_ONLINE);
	build_bool(&b, o, "ExitNode", false);
	build_bool(&b, o, "ExitNodeOption", is_exit_node(node));
	build_bool(&b, o, "Active", live.is_active);
	add_peerapi(&b, o, node);
	build_int(&b, o, "TaildropTarget", 0);
	build_text(&b, o, "NoFileSharingReason", "");
	add_rest(&b, o, node, json);
	build_bool(&b, o, "InNetworkMap", !is_self || netmap_self(nm));
	build_bool(&b, o, "InMagicSock", live.in_magic_sock);
	build_bool(&b, o, "InEngine", live.in_engine);
	if (is_expired)
		build_bool(&b, o, "Expired", true);
	if (node->key_expiry)
		build_copy(&b, o, json, "KeyExpiry", json_type_string);
	build_copy(&b, o, read_member(json, "Hostinfo", json_type_object), "Location",
		   json_type_object);
	json_object_put(json);
	return build_result(&b, o);
}

static void add_self(struct build *b, struct json_object *o, const struct netmap *nm,
		     const struct status_source *source)
{
	const struct netmap_node *self = netmap_self(nm);

	/* Not logged in, or not yet: scripts look for members of Self, so it is there. */
	const struct netmap_node nobody = { .stable_id = "",
					    .name = "",
					    .host_name = source->host_name,
					    .os = "linux",
					    .json = "" };

	if (!self)
		self = &nobody;
	add_ips(b, o, self, source);
	build_add(b, o, "Self", build_node(nm, self, true, source));
}

static void add_health(struct build *b, struct json_object *o, const struct netmap *nm,
		       const struct status_source *source)
{
	unsigned count;
	const char *const *texts = netmap_health(nm, &count);
	struct json_object *list = build_texts(b, texts, count);

	for (unsigned i = 0; i < source->health_count; i++)
		build_append(b, list, build_string(b, source->health[i]));
	build_add(b, o, "Health", list);
}

struct json_object *status_build_tailnet(const struct netmap *nm)
{
	struct build b = { .failed = false };
	struct json_object *o = build_object(&b);

	build_text(&b, o, "Name", netmap_domain(nm));
	build_text(&b, o, "MagicDNSSuffix", netmap_suffix(nm));
	build_bool(&b, o, "MagicDNSEnabled", netmap_dns(nm)->is_proxied);
	return build_result(&b, o);
}

static void add_records(struct build *b, struct json_object *o, const struct dns_config *dns)
{
	struct json_object *list;
	char text[IP_TEXT_MAX];

	if (dns->record_count == 0) {
		build_add_null(b, o, "ExtraRecords");
		return;
	}
	list = build_list(b);
	for (unsigned i = 0; i < dns->record_count; i++) {
		struct json_object *record = build_object(b);

		build_text(b, record, "Name", dns->records[i].name);
		build_text(b, record, "Value", ip_format(&dns->records[i].addr, text));
		build_append(b, list, record);
	}
	build_add(b, o, "ExtraRecords", list);
}

static void add_tailnet(struct build *b, struct json_object *o, const struct netmap *nm)
{
	const struct dns_config *dns = netmap_dns(nm);

	build_text(b, o, "MagicDNSSuffix", netmap_suffix(nm));
	if (netmap_self(nm))
		build_add(b, o, "CurrentTailnet", status_build_tailnet(nm));
	else
		build_add_null(b, o, "CurrentTailnet");
	if (dns->cert_domain_count)
		build_add(b, o, "CertDomains",
			  build_texts(b, dns->cert_domains, dns->cert_domain_count));
	else
		build_add_null(b, o, "CertDomains");
	add_records(b, o, dns);
}

static void add_peers(struct build *b, struct json_object *o, const struct netmap *nm,
		      const struct status_source *source)
{
	struct json_object *peers;
	char key[KEY_TEXT];

	if (netmap_peer_count(nm) == 0 || source->without_peers) {
		build_add_null(b, o, "Peer");
		return;
	}
	peers = build_object(b);
	for (unsigned i = 0; i < netmap_peer_count(nm); i++) {
		const struct netmap_node *node = netmap_peer_at(nm, i);

		build_add(b, peers, key_text(node, key), build_node(nm, node, false, source));
	}
	build_add(b, o, "Peer", peers);
}

struct json_object *status_build_peers(const struct netmap *nm, const struct status_source *source,
				       const int64_t *ids, unsigned count)
{
	struct build b = { .failed = false };
	struct json_object *o = build_object(&b), *peers = build_object(&b);
	char key[KEY_TEXT];

	for (unsigned i = 0; i < count; i++) {
		const struct netmap_node *node = netmap_peer_by_id(nm, ids[i]);

		if (node)
			build_add(&b, peers, key_text(node, key),
				  build_node(nm, node, false, source));
	}
	build_add(&b, o, "Peer", peers);
	return build_result(&b, o);
}

struct json_object *status_build_user(const struct netmap_user *user)
{
	struct build b = { .failed = false };
	struct json_object *o = build_object(&b);

	build_int(&b, o, "ID", user->id);
	build_text(&b, o, "LoginName", user->login_name);
	build_text(&b, o, "DisplayName", user->display_name);
	if (*user->picture_url)
		build_text(&b, o, "ProfilePicURL", user->picture_url);
	return build_result(&b, o);
}

static void add_users(struct build *b, struct json_object *o, const struct netmap *nm)
{
	struct json_object *users;
	char id[24];

	if (netmap_user_count(nm) == 0) {
		build_add_null(b, o, "User");
		return;
	}
	users = build_object(b);
	for (unsigned i = 0; i < netmap_user_count(nm); i++) {
		const struct netmap_user *user = netmap_user_at(nm, i);

		snprintf(id, sizeof(id), "%lld", (long long)user->id);
		build_add(b, users, id, status_build_user(user));
	}
	build_add(b, o, "User", users);
}

struct json_object *status_build(const struct netmap *nm, const struct status_source *source)
{
	struct build b = { .failed = false };
	struct json_object *o = build_object(&b);

	build_text(&b, o, "Version", source->version);
	build_bool(&b, o, "TUN", source->is_tun);
	build_text(&b, o, "BackendState", source->backend_state);
	if (source->has_node_key)
		build_bool(&b, o, "HaveNodeKey", true);
	build_text(&b, o, "AuthURL", source->auth_url);
	add_self(&b, o, nm, source);
	add_health(&b, o, nm, source);
	add_tailnet(&b, o, nm);
	add_peers(&b, o, nm, source);
	add_users(&b, o, nm);
	build_add_null(&b, o, "ClientVersion");
	return build_result(&b, o);
}
