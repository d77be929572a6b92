/*
 * The WireGuard file, read again while the node runs.
 *
 * All or nothing. What may fail is done first, where nobody is affected yet: the file is read and
 * checked, new peers are made (without addresses, so nothing is for them), memory is taken. Then
 * map, mirrors and names are shown as the file has them, which may be refused as at start; if
 * so, those of before are shown again. The rest cannot fail.
 *
 * A peer is its key, as for wg syncconf. One that stays keeps its session, and where it is, unless
 * its Endpoint is another in the file. What programs have with an address ends when that has
 * another peer now, or none. Our own key, addresses, port and MTU are everybody's: a file
 * with others is refused.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/config_file.h"
#include "daemon/crypto/keys.h"
#include "daemon/edge/localapi.h"
#include "daemon/loop.h"
#include "daemon/mesh_private.h"
#include "shared/util.h"

static_assert(LOCALAPI_RELOAD_ERROR_MAX >= CONFIG_FILE_ERROR_MAX, "its sentences are passed on");

struct reload {
	struct mesh *mesh;
	struct config file;
	struct mesh_peer **peers; /* file.peers[i] is peers[i]; NULL: not made yet */
	unsigned names;           /* Endpoints that are to be looked up */
	unsigned added, changed, removed;
};

/* ---- what is another ---- */

static bool prefixes_equal(const struct ip_prefix *a, unsigned a_count, const struct ip_prefix *b,
			   unsigned b_count)
{
	for (unsigned i = 0; a_count == b_count && i < a_count; i++)
		if (a[i].len != b[i].len || !ip_equal(&a[i].addr, &b[i].addr))
			return false;
	return a_count == b_count;
}

static bool same_allowed(const struct config_peer *a, const struct config_peer *b)
{
	return prefixes_equal(a->allowed, a->allowed_count, b->allowed, b->allowed_count);
}

static bool same_preshared_key(const struct config_peer *a, const struct config_peer *b)
{
	return sodium_memcmp(a->preshared_key, b->preshared_key, WG_KEY_LEN) == 0;
}

static bool same_endpoint(const struct config_peer *a, const struct config_peer *b)
{
	return a->endpoint_port == b->endpoint_port &&
	       strcmp(a->endpoint_host, b->endpoint_host) == 0;
}

static bool same_peer(const struct config_peer *a, const struct config_peer *b)
{
	return strcmp(a->name, b->name) == 0 && same_allowed(a, b) && same_preshared_key(a, b) &&
	       same_endpoint(a, b) && a->keepalive_s == b->keepalive_s;
}

/* ---- what cannot change ---- */

static bool same_key(const struct mesh *mesh, const struct config *file)
{
	uint8_t public_key[WG_KEY_LEN];
	struct private_key private;
	struct public_key of_file;

	wg_device_public_key(mesh->wg, public_key);
	memcpy(private.byte, file->private_key, sizeof(private.byte));
	private_key_public(&private, &of_file);
	sodium_memzero(&private, sizeof(private));
	return memcmp(of_file.byte, public_key, sizeof(public_key)) == 0;
}

/* Any port will do, and this one is the one we have. */
static bool same_port(const struct mesh *mesh, const struct config *file)
{
	return file->listen_port == mesh->config.listen_port ||
	       file->listen_port == udp_path_port(mesh->udp);
}

static int check_unchangeable(const struct reload *r, char *error)
{
	const struct config *is = &r->file, *was = &r->mesh->config;
	const char *others[4];
	char list[64] = "";
	unsigned count = 0;

	if (!same_key(r->mesh, is))
		others[count++] = "PrivateKey";
	if (!prefixes_equal(is->own, is->own_count, was->own, was->own_count))
		others[count++] = "Address";
	if (!same_port(r->mesh, is))
		others[count++] = "ListenPort";
	if (is->mtu != was->mtu)
		others[count++] = "MTU";
	if (count == 0)
		return 0;
	for (unsigned i = 0; i < count; i++) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof(list) - used, "%s%s",
			 i == 0          ? ""
			 : i + 1 < count ? ", "
					 : " and ",
			 others[i]);
	}
	snprintf(error, CONFIG_FILE_ERROR_MAX,
		 "%s: %s cannot change while meshd runs, so nothing was changed; restart it, or "
		 "write what it was",
		 r->mesh->options.config_path, list);
	return -EBUSY;
}

/* ---- before anybody is affected ---- */

static int compare_keys(const void *a, const void *b)
{
	const struct mesh_peer *const *x = a, *const *y = b;

	return memcmp((*x)->config->public_key, (*y)->config->public_key, WG_KEY_LEN);
}

/* The peers of before, by key. NULL: no memory. */
static struct mesh_peer **sort_peers(struct mesh *mesh)
{
	unsigned count = mesh->config.peer_count;
	struct mesh_peer **sorted = calloc(count + 1u, sizeof(struct mesh_peer *));

	for (unsigned i = 0; sorted && i < count; i++) {
		sorted[i] = mesh->peers[i];
		sorted[i]->is_listed = false;
	}
	if (sorted)
		qsort(sorted, count, sizeof(struct mesh_peer *), compare_keys);
	return sorted;
}

/* The peer of the file's i-th section: the one of before, or a new one. */
static int find_or_add(struct reload *r, unsigned i, struct mesh_peer *const *sorted, char *error)
{
	const struct config_peer *is = &r->file.peers[i];
	const struct mesh_peer wanted = { .config = is }, *key = &wanted;
	struct mesh_peer *const *found = bsearch(&key, sorted, r->mesh->config.peer_count,
						 sizeof(struct mesh_peer *), compare_keys);

	r->names += mesh_endpoint_is_name(is);
	if (!found) {
		r->added++;
		return mesh_file_add_peer(r->mesh, is, &r->peers[i], error);
	}
	r->peers[i] = *found;
	r->peers[i]->is_listed = true;
	r->changed += !same_peer((*found)->config, is);
	return mesh_endpoint_check(is, error);
}

static int take_memory(struct reload *r, char *error)
{
	unsigned prefixes = 0;
	int err;

	for (unsigned i = 0; i < r->file.peer_count; i++)
		prefixes += r->file.peers[i].allowed_count;
	err = wg_device_reserve(r->mesh->wg, prefixes);
	if (err)
		snprintf(error, 256, "the peers' AllowedIPs cannot be taken: %s", strerror(-err));
	return err ? err : mesh_endpoints_prepare(r->mesh, r->names, error);
}

static int prepare(struct reload *r, char *error)
{
	struct mesh_peer **sorted = sort_peers(r->mesh);
	int err = 0;

	r->peers = calloc(r->file.peer_count + 1u, sizeof(struct mesh_peer *));
	if (!sorted || !r->peers) {
		snprintf(error, 256, "out of memory for the peers");
		err = -ENOMEM;
	}
	for (unsigned i = 0; !err && i < r->file.peer_count; i++)
		err = find_or_add(r, i, sorted, error);
	free(sorted);
	return err ? err : take_memory(r, error);
}

static int show(struct reload *r, char *error)
{
	struct mesh *mesh = r->mesh;
	int err = mesh_file_show(mesh, &r->file, r->peers, error);
	char again[256];

	if (err && mesh_file_show(mesh, &mesh->config, mesh->peers, again) < 0)
		log_err("mesh: names and addresses of before cannot be shown again: %s", again);
	return err;
}

static void undo(struct reload *r)
{
	for (unsigned i = 0; r->peers && i < r->file.peer_count; i++)
		if (r->peers[i] && r->peers[i]->config == &r->file.peers[i])
			mesh_file_remove_peer(r->mesh, r->peers[i]);
	free(r->peers);
	config_finish(&r->file);
}

/* ---- what cannot fail ---- */

static void set_allowed(struct mesh_peer *peer, const struct config_peer *is)
{
	int err = wg_peer_set_allowed(peer->wg, is->allowed, is->allowed_count);

	assert(err == 0); /* there is room: take_memory() */
}

static void change_peer(struct reload *r, struct mesh_peer *peer, const struct config_peer *is)
{
	const struct config_peer *was = peer->config;

	peer->config = is;
	if (was == is) {
		set_allowed(peer, is); /* it is new */
		return;
	}
	if (!same_allowed(was, is))
		set_allowed(peer, is);
	if (!same_preshared_key(was, is))
		wg_peer_set_preshared_key(peer->wg, is->preshared_key);
	if (was->keepalive_s != is->keepalive_s)
		wg_peer_set_keepalive(peer->wg, is->keepalive_s);
	if (!same_endpoint(was, is))
		mesh_endpoint_moved(r->mesh, peer);
}

static bool leaves(const void *peer)
{
	const struct filter_source *source = peer;

	return !CONTAINER_OF(source, const struct mesh_peer, source)->is_listed;
}

/* Peers that are gone from the file hear of it by the sessions that end with that. */
static void say_goodbye(struct mesh *mesh)
{
	edge_peers_leave(mesh->edge, leaves);
	netstack_flush(mesh->netstack, loop_now(mesh->loop));
}

static void commit(struct reload *r)
{
	struct mesh *mesh = r->mesh;
	struct config was = mesh->config;

	say_goodbye(mesh);
	for (unsigned i = 0; i < was.peer_count; i++) {
		if (mesh->peers[i]->is_listed)
			continue;
		mesh_file_remove_peer(mesh, mesh->peers[i]);
		r->removed++;
	}
	for (unsigned i = 0; i < r->file.peer_count; i++)
		change_peer(r, r->peers[i], &r->file.peers[i]);
	free(mesh->peers);
	mesh->peers = r->peers;
	mesh->config = r->file;
	config_finish(&was);
	/* The device has it. */
	sodium_memzero(r->file.private_key, sizeof(r->file.private_key));
	sodium_memzero(mesh->config.private_key, sizeof(mesh->config.private_key));
	edge_peers_changed(mesh->edge);
	mesh_endpoints_begin(mesh, r->names);
}

static char *tell(const struct reload *r, char *error)
{
	unsigned as_before = r->file.peer_count - r->added - r->changed;
	char *json;

	log_info("mesh: %s was read again: %u peers added, %u changed, %u removed, %u as before",
		 r->mesh->options.config_path, r->added, r->changed, r->removed, as_before);
	mesh_log_warnings(r->mesh);
	if (asprintf(&json, "{\"Added\":%u,\"Changed\":%u,\"Removed\":%u,\"Unchanged\":%u}",
		     r->added, r->changed, r->removed, as_before) >= 0)
		return json;
	snprintf(error, 256, "done, but there is no memory to say what");
	return NULL;
}

/* As at start: what is wrong in a line is told with the file's name. */
static void name_file(const char *path, char *error)
{
	char said[256];

	if (strncmp(error, "line ", 5) != 0)
		return;
	snprintf(said, sizeof(said), "%s", error);
	snprintf(error, LOCALAPI_RELOAD_ERROR_MAX, "%s: %s", path, said);
}

char *mesh_reload(void *owner, char *error)
{
	struct mesh *mesh = owner;
	struct reload r = { .mesh = mesh };
	int err;

	if (mesh->tailnet || !mesh->options.config_path) {
		snprintf(error, 256, "%s",
			 mesh->tailnet
				 ? "this node is run by a coordination server, which tells it "
				   "of every change: there is no file to read again"
				 : "this node was not started from a file");
		return NULL;
	}
	calm_expect(&mesh->calm, loop_now(mesh->loop)); /* reading a file takes memory */
	err = config_file_read(mesh->options.config_path, true, &r.file, error);
	if (!err) {
		mesh_choose_name(&r.file);
		err = check_unchangeable(&r, error);
	}
	if (!err)
		err = prepare(&r, error);
	if (!err)
		err = show(&r, error);
	if (err) {
		undo(&r);
		name_file(mesh->options.config_path, error);
		log_warn("mesh: the file was read again, and refused: %s", error);
		return NULL;
	}
	commit(&r);
	return tell(&r, error);
}
