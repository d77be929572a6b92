/*
 * The status with all peers, without holding up the loop.
 *
 * A peer costs some 20 us, mostly for its JSON, so thousands would keep packets
 * waiting for a tenth of a second. So they are told some a round, as text, and the rest of the
 * document, which is small, comes last, around them. Between two rounds the map may
 * change: the peers are those that were there at the beginning and still are.
 *
 * One text is made at a time. Who asks meanwhile gets the next one, together with all
 * others who did, so that nobody is told what was true before he asked.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "daemon/edge/localapi.h"
#include "daemon/loop.h"
#include "daemon/mesh_private.h"
#include "daemon/netmap/netmap.h"
#include "shared/util.h"

#define PEERS_PER_ROUND 32u

/* How the text of some peers begins and ends, as members of the document. */
#define BEFORE "{\n  \"Peer\":{\n"
#define BEHIND "\n  }\n}"
/* Where they stand in the document, which has none. */
#define PLACE "\n  \"Peer\":null"

struct askers {
	uint32_t ticket[LOCALAPI_WAITING_MAX];
	unsigned count;
};

struct mesh_status_all {
	struct mesh *mesh;
	struct event *event;
	struct askers now, next;
	/* Of the text that is being made. */
	int64_t *ids;
	unsigned count, at;
	char *text;
	size_t len, room;
};

static bool append(struct mesh_status_all *all, const char *text, size_t len)
{
	if (all->len + len > all->room) {
		size_t room = 2 * (all->len + len);
		char *grown = realloc(all->text, room);

		if (!grown)
			return false;
		all->text = grown;
		all->room = room;
	}
	memcpy(all->text + all->len, text, len);
	all->len += len;
	return true;
}

/* ---- the steps ---- */

static bool begin(struct mesh_status_all *all)
{
	const struct netmap *nm = all->mesh->netmap;

	all->count = netmap_peer_count(nm);
	all->at = 0;
	all->len = 0;
	all->ids = calloc(all->count + 1u, sizeof(*all->ids));
	for (unsigned i = 0; all->ids && i < all->count; i++)
		all->ids[i] = netmap_peer_at(nm, i)->id;
	return all->ids != NULL;
}

/* Peers that have gone from the map meanwhile are left out. */
static bool add_some(struct mesh_status_all *all)
{
	unsigned count = MIN(all->count - all->at, PEERS_PER_ROUND);
	json_object *o = mesh_status_peers(all->mesh, all->ids + all->at, count);
	const char *text = o ? json_object_to_json_string_ext(o, MESH_STATUS_FORM) : NULL;
	size_t len = text ? strlen(text) : 0, edges = strlen(BEFORE) + strlen(BEHIND);
	bool ok = text != NULL;

	all->at += count;
	/* Without any there is nothing between the two. */
	if (ok && len > edges)
		ok = (all->len == 0 || append(all, ",\n", 2)) &&
		     append(all, text + strlen(BEFORE), len - edges);
	json_object_put(o);
	return ok;
}

/* The whole text, malloc'd, or NULL. */
static char *put_around(const struct mesh_status_all *all)
{
	char *rest = mesh_status(all->mesh, false), *place = rest ? strstr(rest, PLACE) : NULL;
	char *whole = NULL;

	if (all->len == 0)
		return rest;
	if (place && asprintf(&whole, "%.*s\n  \"Peer\":{\n%.*s\n  }%s", (int)(place - rest), rest,
			      (int)all->len, all->text, place + strlen(PLACE)) < 0)
		whole = NULL;
	free(rest);
	return whole;
}

static void answer(struct mesh_status_all *all, const char *text)
{
	struct localapi *api = edge_localapi(all->mesh->edge);

	for (unsigned i = 0; i < all->now.count; i++)
		localapi_answered(api, all->now.ticket[i], text, text ? NULL : "out of memory");
	all->now.count = 0;
}

static void forget(struct mesh_status_all *all)
{
	free(all->ids);
	free(all->text);
	all->ids = NULL;
	all->text = NULL;
	all->len = all->room = 0;
}

static void go_on_soon(struct mesh_status_all *all)
{
	const struct timeval at_once = { 0, 0 };

	if (event_add(all->event, &at_once) == 0)
		return;
	forget(all);
	answer(all, NULL);
}

static void step(evutil_socket_t fd, short what, void *arg)
{
	struct mesh_status_all *all = arg;
	char *text = NULL;
	bool ok = all->ids ? add_some(all) : begin(all);

	(void)fd;
	(void)what;
	if (ok && all->at < all->count) {
		go_on_soon(all);
		return;
	}
	if (ok)
		text = put_around(all);
	forget(all);
	answer(all, text);
	free(text);
	if (all->next.count > 0) {
		all->now = all->next;
		all->next.count = 0;
		go_on_soon(all);
	}
}

/* ---- asked ---- */

static struct mesh_status_all *create(struct mesh *mesh)
{
	struct mesh_status_all *all = calloc(1, sizeof(*all));

	if (!all)
		return NULL;
	all->mesh = mesh;
	all->event = event_new(loop_base(mesh->loop), -1, 0, step, all);
	if (!all->event) {
		free(all);
		return NULL;
	}
	return all;
}

int mesh_status_all(void *owner, uint32_t ticket, char *error)
{
	struct mesh *mesh = owner;
	struct mesh_status_all *all = mesh->status_all ? mesh->status_all : create(mesh);
	struct askers *askers;

	mesh->status_all = all;
	snprintf(error, LOCALAPI_ERROR_MAX, "out of memory");
	if (!all)
		return -ENOMEM;
	askers = all->now.count > 0 ? &all->next : &all->now;
	if (askers->count == LOCALAPI_WAITING_MAX) {
		/* Those who left meanwhile are counted, too. */
		snprintf(error, LOCALAPI_ERROR_MAX, "too many questions at once");
		return -EAGAIN;
	}
	askers->ticket[askers->count++] = ticket;
	if (askers == &all->now)
		go_on_soon(all);
	return 0;
}

void mesh_status_all_destroy(struct mesh_status_all *all)
{
	if (!all)
		return;
	event_free(all->event);
	forget(all);
	free(all);
}
