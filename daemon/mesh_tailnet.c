/*
 * A node that a coordination server made part of a tailnet: state, login, and
 * what follows from the server's messages.
 *
 * The data plane needs two things only, a node key and a map, and both are in
 * the state file too: so a node that was part of the tailnet carries packets
 * before the server has answered, and while it is away. What the server refuses
 * later (an expired key, a node deleted) takes the data plane down again.
 *
 * The map is saved some time after it changed, not each time: it is large where
 * the mesh is large, and an old one does no harm. For the same reason nobody waits for it
 * to be on disk, but at the end. Logins and what the user wants are waited for.
 */
#include "daemon/mesh_tailnet.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <sodium.h>

#include "daemon/edge/localapi.h"
#include "daemon/loop.h"
#include "daemon/path/netwatch.h"
#include "daemon/path/paths.h"
#include "daemon/state.h"
#include "daemon/stream.h"
#include "shared/util.h"

#define SAVE_AFTER_NS NS_PER_S
#define SAVE_LARGE_NS (300 * NS_PER_S)
#define LARGE_MAP     500u /* peers */
#define LEAVE_NS      (2 * NS_PER_S)
#define FILTER_SECRET 16

#define TIMESTAMP_SAVE_S 600

/* In the log at once, by a server that has nothing better to do. */
#define STATUS_LINES 16
#define URL_LINES    4

/* ---- state ---- */

static void saved(struct tailnet *t, int err, const char *error)
{
	if (err == 0)
		t->is_saved = true;
	else
		log_limited(&t->save_gate, loop_now(t->mesh->loop), LOG_WARN,
			    "mesh: the state cannot be saved: %s", error);
}

/* What was begun is over, or is waited for. */
static void end_save(struct tailnet *t)
{
	char error[STATE_ERROR_MAX];
	int err = state_save_end(t->state, error);

	t->is_saving = false;
	saved(t, err, error);
}

static void save_ended(evutil_socket_t fd, short events, void *arg)
{
	struct tailnet *t = arg;

	(void)fd;
	(void)events;
	if (t->is_saving)
		end_save(t);
	calm_expect(&t->mesh->calm, loop_now(t->mesh->loop)); /* its text took memory */
}

static void save(struct tailnet *t, bool waits)
{
	char error[STATE_ERROR_MAX], *json;
	size_t len;
	int err;

	t->save_at_ns = NEVER_NS;
	if (!netmap_self(t->mesh->netmap))
		return;
	json = netmap_export(t->mesh->netmap, &len);
	if (!json || state_set_netmap(t->state, json, len) < 0) {
		log_limited(&t->save_gate, loop_now(t->mesh->loop), LOG_WARN,
			    "mesh: the map is too large to be saved; a start without the server "
			    "will not know it");
	} else if (!waits && t->save_event && state_save_begin(t->state)) {
		t->is_saving = true;
	} else {
		err = state_save(t->state, error);
		saved(t, err, error);
	}
	free(json);
}

/* When to begin with it; one at a time, and the newest is saved last. */
static uint64_t save_due_ns(const struct tailnet *t)
{
	return t->is_saving ? NEVER_NS : t->save_at_ns;
}

/* It is to be saved some time. */
static void map_changed(struct tailnet *t)
{
	bool is_large = netmap_peer_count(t->mesh->netmap) > LARGE_MAP;
	uint64_t wait_ns = is_large ? SAVE_LARGE_NS : SAVE_AFTER_NS;

	if (t->save_at_ns != NEVER_NS || state_is_in_memory(t->state))
		return;
	t->save_at_ns = loop_now(t->mesh->loop) + (t->is_saved ? wait_ns : 0);
}

/*
 * Peers refuse a handshake that is not later than the last one, so the latest
 * second is remembered (give or take the interval), for a start with a clock that
 * was set back meanwhile.
 */
void tailnet_timestamp_used(struct tailnet *t, uint64_t seconds)
{
	if (!t->state || seconds < state_data(t->state)->tai64n_s + TIMESTAMP_SAVE_S)
		return;
	state_data(t->state)->tai64n_s = seconds;
	map_changed(t);
}

static void set_timestamp_floor(struct tailnet *t)
{
	uint64_t last_s = state_data(t->state)->tai64n_s;

	if (last_s > tailnet_timestamp_s())
		t->mesh->timestamp_floor_s = last_s + 2 * TIMESTAMP_SAVE_S;
}

/* The map of the last run, so that the mesh works without the server. */
static void restore(struct tailnet *t)
{
	struct netmap_changes changes;
	size_t len;
	const char *json = state_netmap(t->state, &len);
	int err;

	if (!json || !state_data(t->state)->is_registered)
		return;
	err = netmap_apply(t->mesh->netmap, json, len, (int64_t)tailnet_timestamp_s(), &changes);
	t->ignored += changes.ignored;
	netmap_changes_finish(&changes);
	if (err < 0) {
		log_warn("mesh: the saved map cannot be used: %s", strerror(-err));
		return;
	}
	t->has_map = true;
	tailnet_sync(t, NULL);
	if (t->is_carrying)
		log_info("mesh: %s is up with the map of the last run, %u peers; asking the "
			 "server for news",
			 netmap_self(t->mesh->netmap)->name, netmap_peer_count(t->mesh->netmap));
}

/* ---- what the server says ---- */

static void announce(struct tailnet *t)
{
	char line[MESH_LINE_MAX];

	mesh_describe(t->mesh, line);
	log_limited(&t->ready_gate, loop_now(t->mesh->loop), LOG_INFO, "mesh: %s", line);
}

static int map_message(void *owner, const char *json, size_t len, bool is_first)
{
	struct tailnet *t = owner;
	struct netmap_changes changes;
	bool was_carrying = t->is_carrying;
	int err;

	if (is_first)
		netmap_stream_started(t->mesh->netmap);
	err = netmap_apply(t->mesh->netmap, json, len, (int64_t)tailnet_timestamp_s(), &changes);
	t->ignored += changes.ignored;
	if (!err) {
		log_debug("mesh: map: %u peers, %u added, %u changed, %u removed",
			  netmap_peer_count(t->mesh->netmap), changes.added.count,
			  changes.changed.count, changes.removed.count);
		tailnet_sync(t, t->has_map ? &changes : NULL);
		t->has_map = true;
		map_changed(t);
		if (t->is_carrying && !was_carrying)
			announce(t);
	}
	netmap_changes_finish(&changes);
	return err;
}

static void status_changed(void *owner, enum control_status status, const char *sentence)
{
	struct tailnet *t = owner;
	bool is_bad = status == CONTROL_NEEDS_LOGIN || status == CONTROL_REFUSED;

	log_limited(&t->status_gate, loop_now(t->mesh->loop), is_bad ? LOG_WARN : LOG_INFO,
		    "control: %s%s%s", control_status_name(status), *sentence ? ": " : "",
		    sentence);
	if (t->paths)
		paths_set_connected_to_control(t->paths, status == CONTROL_RUNNING);
	/* Whether the login still counts is in the state; a server that is away changes nothing. */
	if (is_bad && t->is_carrying && !state_data(t->state)->is_registered)
		tailnet_sync(t, NULL);
}

static void node_key_changed(void *owner)
{
	struct tailnet *t = owner;
	char error[256];

	tailnet_plane_destroy(t);
	if (state_data(t->state)->has_node_key && tailnet_plane_create(t, error) < 0)
		log_err("mesh: %s", error);
	tailnet_sync(t, NULL);
}

static void show_url(void *owner, const char *url)
{
	struct tailnet *t = owner;

	log_limited(&t->url_gate, loop_now(t->mesh->loop), LOG_INFO,
		    "control: the server asks you to visit %s", url);
}

static void ping_wanted(void *owner, const struct control_ping *ping)
{
	mesh_api_ping_for_control(((struct tailnet *)owner)->mesh, ping);
}

/* ---- up, down, leaving ---- */

int tailnet_set_running(struct tailnet *t, bool running, char error[static 256])
{
	struct state_data *data = state_data(t->state);
	char why[STATE_ERROR_MAX];

	t->wants_running = data->prefs.wants_running = running;
	if (running)
		control_start(t->control);
	else
		control_stop(t->control);
	tailnet_sync(t, NULL);
	if (state_save(t->state, why) < 0) {
		snprintf(error, 256, "done, but not remembered: %.200s", why);
		return -EIO;
	}
	return 0;
}

static void left(void *owner, int err)
{
	struct tailnet *t = owner;

	if (err)
		log_warn("control: the server could not be told that this node leaves: %s",
			 strerror(-err));
	if (t->is_leaving)
		mesh_stop(t->mesh);
}

bool tailnet_leave(struct tailnet *t)
{
	struct control_info info;

	control_get_info(t->control, &info);
	if (t->is_leaving || !t->login->ephemeral || info.status != CONTROL_RUNNING)
		return false;
	log_info("control: telling the server that this ephemeral node leaves");
	t->is_leaving = true;
	t->leave_by_ns = loop_now(t->mesh->loop) + LEAVE_NS;
	control_logout(t->control, left);
	return true;
}

const char *tailnet_backend_state(const struct tailnet *t)
{
	struct control_info info;

	if (!t->wants_running)
		return "Stopped";
	control_get_info(t->control, &info);
	if (t->is_carrying && info.status != CONTROL_NEEDS_LOGIN && info.status != CONTROL_REFUSED)
		return "Running";
	return control_status_name(info.status);
}

/* ---- time ---- */

uint64_t tailnet_deadline(const struct tailnet *t)
{
	uint64_t save_ns = save_due_ns(t);
	uint64_t ns = t->found_count > 0 ? 0 : MIN(t->names_at_ns, save_ns);

	ns = MIN(ns, MIN(t->expiry_at_ns, t->part_at_ns));
	if (t->is_leaving)
		ns = MIN(ns, t->leave_by_ns);
	return t->paths ? MIN(ns, paths_deadline(t->paths)) : ns;
}

void tailnet_expire(struct tailnet *t, uint64_t now_ns)
{
	if (t->paths && paths_deadline(t->paths) <= now_ns)
		paths_expire(t->paths, now_ns);
	tailnet_use_found_paths(t, now_ns);
	if (t->names_at_ns <= now_ns)
		tailnet_publish_names(t);
	if (t->expiry_at_ns <= now_ns)
		tailnet_sync(t, NULL);
	if (t->part_at_ns <= now_ns)
		tailnet_part(t);
	if (save_due_ns(t) <= now_ns)
		save(t, false);
	if (t->is_leaving && t->leave_by_ns <= now_ns)
		mesh_stop(t->mesh);
}

/* ---- life ---- */

/* Where that cannot be, each save is waited for. */
static void watch_saves(struct tailnet *t)
{
	int fd = state_save_fd(t->state);

	if (fd < 0)
		return;
	t->save_event =
		event_new(loop_base(t->mesh->loop), fd, EV_READ | EV_PERSIST, save_ended, t);
	if (t->save_event && event_add(t->save_event, NULL) != 0) {
		event_free(t->save_event);
		t->save_event = NULL;
	}
}

static int open_state(struct tailnet *t, char error[static 256])
{
	char why[STATE_ERROR_MAX], warning[STATE_ERROR_MAX];

	t->state = state_open(t->login->state_dir, why, warning);
	if (!t->state) {
		snprintf(error, 256, "%.255s", why);
		return -EIO;
	}
	if (warning[0])
		log_warn("mesh: %s", warning);
	t->wants_running = true; /* starting the daemon is asking for it */
	state_data(t->state)->prefs.wants_running = true;
	watch_saves(t);
	return 0;
}

static_assert(LOGIN_KEY_MAX <= CONTROL_AUTH_KEY_MAX, "what the options take is taken");

static int create_control(struct tailnet *t, char error[static 256])
{
	const struct control_callbacks callbacks = { .map_message = map_message,
						     .status_changed = status_changed,
						     .node_key_changed = node_key_changed,
						     .ping_wanted = ping_wanted,
						     .show_url = show_url };
	const struct login_setup *login = t->login;
	struct control_config config = { .server_url = login->server_url,
					 .host_name = t->mesh->config.name,
					 .version = MESHWRAP_VERSION,
					 .capability_version = (int)login->capability_version,
					 .proxies = login->proxies,
					 .auth_key = login->auth_key,
					 .auth_key_len = login->auth_key_len,
					 .tags = login->tags,
					 .tag_count = login->tag_count,
					 .is_ephemeral = login->ephemeral,
					 .trusts_new_server_key = login->trusts_new_server_key };
	char why[CONTROL_SENTENCE_MAX];

	t->tls = tls_context_create(login->ca_file, error);
	if (!t->tls)
		return -EINVAL;
	tls_context_set_proxies(t->tls, login->proxies);
	config.tls = t->tls;
	t->control = control_create(t->mesh->loop, &config, t->state, &callbacks, t, why);
	if (t->control)
		return 0;
	snprintf(error, 256, "%.255s", why);
	return -EINVAL;
}

int tailnet_create(struct mesh *mesh, const struct login_setup *login, char error[static 256])
{
	struct tailnet *t = calloc(1, sizeof(*t));
	uint8_t secret[FILTER_SECRET];
	int err;

	snprintf(error, 256, "cannot start: out of memory");
	if (!t)
		return -ENOMEM;
	mesh->tailnet = t;
	t->mesh = mesh;
	t->login = login;
	t->names_at_ns = t->save_at_ns = t->expiry_at_ns = t->part_at_ns = NEVER_NS;
	t->status_gate.burst = t->ready_gate.burst = STATUS_LINES;
	t->url_gate.burst = URL_LINES;
	randombytes_buf(secret, sizeof(secret));
	t->filter = filter_create(FILTER_FLOWS, secret);
	t->netwatch = netwatch_create(mesh->loop, tailnet_network_changed, t);
	if (!t->filter || !t->netwatch ||
	    udp_path_on_unreachable(mesh->udp, tailnet_unreachable) < 0)
		return -ENOMEM;
	filter_set_shields_up(t->filter, login->shields_up);
	filter_set_peers(t->filter, mesh_source_of, mesh);
	netstack_set_filter(mesh->netstack, t->filter);
	err = open_state(t, error);
	if (err)
		return err;
	set_timestamp_floor(t);
	err = create_control(t, error);
	if (!err && state_data(t->state)->has_node_key)
		err = tailnet_plane_create(t, error);
	if (err)
		return err;
	error[0] = '\0';
	restore(t);
	control_start(t->control);
	return 0;
}

void tailnet_destroy(struct tailnet *t)
{
	if (!t)
		return;
	if (t->is_saving)
		end_save(t);
	if (t->state && t->save_at_ns != NEVER_NS)
		save(t, true);
	if (t->save_event)
		event_free(t->save_event);
	control_destroy(t->control);
	tailnet_plane_destroy(t);
	tls_context_destroy(t->tls);
	netwatch_destroy(t->netwatch);
	if (t->mesh->netstack)
		netstack_set_filter(t->mesh->netstack, NULL);
	filter_destroy(t->filter);
	if (t->state)
		state_close(t->state);
	t->mesh->tailnet = NULL;
	free(t);
}
