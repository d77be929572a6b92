#include "common.h"

#include <stdlib.h>
#include <string.h>

#include <json.h>

#include "daemon/netmap/status.h"

static void check_ids(const struct netmap *nm, const struct netmap_ids *ids, bool is_there)
{
	for (unsigned i = 0; i < ids->count; i++) {
		if ((i > 0 && ids->id[i - 1] >= ids->id[i]) ||
		    (netmap_peer_by_id(nm, ids->id[i]) != NULL) != is_there)
			abort();
	}
}

int apply(struct netmap *nm, const char *json, size_t len)
{
	struct netmap_changes changes;
	int err = netmap_apply(nm, json, len, WALL_S, &changes);

	check_ids(nm, &changes.added, true);
	check_ids(nm, &changes.changed, true);
	check_ids(nm, &changes.removed, false);
	netmap_changes_finish(&changes);
	return err;
}

static bool is_forbidden(const struct ip_prefix *p)
{
	return p->len < 8 ||
	       (ip_is_v4(&p->addr) ? ip_v4(&p->addr) >> 24 == 127 : p->addr.byte[0] == 0xff);
}

static void check_peer(const struct netmap *nm, const struct netmap_node *n)
{
	static struct ip_prefix out[1024];
	unsigned count = netmap_node_accepted(nm, n, true, out);

	if (count > n->allowed_count || netmap_peer_by_id(nm, n->id) != n ||
	    !netmap_node_by_key(nm, n->key) || (*n->name && !netmap_node_by_name(nm, n->name)))
		abort();
	for (unsigned i = 0; i < count; i++) {
		if (is_forbidden(&out[i]))
			abort();
		/* Nobody else is given the same. */
		for (unsigned k = 0; k < netmap_peer_count(nm) && k < 32; k++) {
			static struct ip_prefix others[1024];
			const struct netmap_node *other = netmap_peer_at(nm, k);
			unsigned other_count =
				other == n ? 0 : netmap_node_accepted(nm, other, true, others);

			for (unsigned j = 0; j < other_count; j++) {
				if (others[j].len == out[i].len &&
				    ip_equal(&others[j].addr, &out[i].addr))
					abort();
			}
		}
	}
}

static char *status_text(const struct netmap *nm)
{
	struct status_source source = { .version = "1",
					.backend_state = "Running",
					.auth_url = "" };
	struct json_object *o = status_build(nm, &source);
	char *text = o ? strdup(json_object_to_json_string(o)) : NULL;

	json_object_put(o);
	for (unsigned i = 0; i < netmap_peer_count(nm) && i < 8; i++)
		json_object_put(status_build_whois(nm, netmap_peer_at(nm, i)));
	return text;
}

void check(const struct netmap *nm)
{
	struct netmap *other = netmap_create();
	size_t len, other_len;
	char *json = netmap_export(nm, &len), *other_json, *status, *other_status;

	for (unsigned i = 0; i < netmap_peer_count(nm) && i < 32; i++)
		check_peer(nm, netmap_peer_at(nm, i));
	if (!other || !json || apply(other, json, len) < 0)
		abort();
	other_json = netmap_export(other, &other_len);
	status = status_text(nm);
	other_status = status_text(other);
	if (!other_json || strcmp(json, other_json) != 0 || !status || !other_status ||
	    strcmp(status, other_status) != 0)
		abort();
	free(json);
	free(other_json);
	free(status);
	free(other_status);
	netmap_destroy(other);
}
