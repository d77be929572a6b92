/*
 * Clients of the control socket live for one question. Mostly the question
 * lies in the socket when we accept, so it is answered without an event of
 * its own; who connects and says nothing gets an event and a time limit.
 *
 * In "dial first" an answer waits for the far side; then the client's end
 * tells that the program has given up, and the flow is told.
 */
#include "daemon/edge/apps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/dgram.h"
#include "daemon/edge/folder.h"
#include "daemon/edge/patience.h"
#include "daemon/edge/private.h"
#include "shared/log.h"
#include "shared/util.h"

#define CROWD_NS (100 * NS_PER_US) /* between two questions, others may come at once */

struct app {
	struct apps *apps;
	int fd;
	uint16_t type; /* of the question, once it is known */
	struct event event;
	bool has_event;
	struct edge_timer silence;
	struct flow *flow;
	bool waits_for_name; /* a look-up will come back to us, even when the client has gone */
	bool is_gone;
	struct app *prev, *next;
};

static void unlink_app(struct app *app)
{
	if (app->prev)
		app->prev->next = app->next;
	else
		app->apps->all = app->next;
	if (app->next)
		app->next->prev = app->prev;
}

static void set_paused(struct apps *apps, bool paused)
{
	if (apps->is_paused == paused || !apps->has_event)
		return;
	if (paused ? event_del(&apps->event) : event_add(&apps->event, NULL)) {
		log_err("edge: control socket: libevent failed, new programs are not served");
		return;
	}
	apps->is_paused = paused;
}

/* Closed now, freed when no callback of it can be running. */
static void close_app(struct app *app)
{
	struct apps *apps = app->apps;

	if (app->has_event)
		event_del(&app->event);
	edge_timer_cancel(&apps->edge->timers, &app->silence);
	close(app->fd);
	unlink_app(app);
	app->is_gone = true;
	if (!app->waits_for_name) {
		app->next = apps->gone;
		apps->gone = app;
	}
	if (apps->count-- == APPS_MAX)
		set_paused(apps, false);
}

void apps_reap(struct apps *apps)
{
	while (apps->gone) {
		struct app *app = apps->gone;

		apps->gone = app->next;
		free(app);
	}
}

void app_answer(struct app *app, int error, const struct endpoint *mirror, uint32_t flags)
{
	struct ipc_reply reply = { .magic = IPC_MAGIC,
				   .version = IPC_VERSION,
				   .type = app->type,
				   .error = error,
				   .flags = flags };

	if (mirror && !error) {
		reply.mirror = mirror->addr;
		reply.mirror_port = mirror->port;
	}
	if (send(app->fd, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(reply))
		log_debug("edge: a program did not wait for its answer");
	app->flow = NULL;
	close_app(app);
}

void app_answer_lookup(struct app *app, int error, const struct ip_addr *ips, unsigned count)
{
	struct ipc_found reply = { .magic = IPC_MAGIC,
				   .version = IPC_VERSION,
				   .type = IPC_LOOKUP,
				   .error = error,
				   .count = MIN(count, (unsigned)IPC_LOOKUP_MAX) };

	app->waits_for_name = false;
	if (app->is_gone) {
		free(app);
		return;
	}
	if (reply.count)
		memcpy(reply.addr, ips, reply.count * sizeof(*ips));
	if (send(app->fd, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(reply))
		log_debug("edge: a program did not wait for its answer");
	close_app(app);
}

void app_wait_for(struct app *app, struct flow *flow)
{
	app->flow = flow;
	edge_timer_cancel(&app->apps->edge->timers, &app->silence);
}

/* patience: what came with it; NULL: nothing. */
static void answer_request(struct app *app, const struct ipc_request *request,
			   const struct ipc_patience *patience)
{
	struct edge *edge = app->apps->edge;
	struct endpoint local = { request->local, request->local_port };
	struct endpoint remote = { request->remote, request->remote_port }, mirror;
	int err;

	app->type = request->type;
	switch ((enum ipc_type)request->type) {
	case IPC_READY:
		app_answer(app, atomic_load(&mapfile_map(edge->mapfile)->ready) ? 0 : EAGAIN, NULL,
			   0);
		break;
	case IPC_CONNECT:
		flow_dial(edge, app, &local, &remote, request->flags & IPC_CONNECT_FIRST, patience);
		break;
	case IPC_PATIENCE: /* nobody waits for an answer */
		patience_set(edge, app->fd, patience);
		close_app(app);
		break;
	case IPC_UDP_OPEN:
		err = dgram_open(edge->dgrams, &remote, request->flags & IPC_UDP_V6ONLY, &mirror);
		app_answer(app, -err, &mirror, 0);
		break;
	case IPC_LOOKUP: /* has its own form, see read_request() */
		close_app(app);
		break;
	}
}

static void answer_lookup(struct app *app, const struct ipc_lookup *lookup)
{
	edge_timer_cancel(&app->apps->edge->timers, &app->silence);
	app->waits_for_name = true;
	service_lookup(app->apps->edge, app, lookup);
}

static bool is_waiting(const struct app *app)
{
	return app->flow || app->waits_for_name;
}

/* false: nothing was said yet. Otherwise the client may be gone. */
static bool read_request(struct app *app)
{
	struct ipc_request request;
	struct ipc_patience patience;
	struct ipc_lookup lookup;
	uint8_t bytes[sizeof(lookup) + 1]; /* one more, to see what is too long */
	ssize_t n;

	do
		n = recv(app->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0 && ipc_check_lookup(bytes, (size_t)n, &lookup) == 0)
		answer_lookup(app, &lookup);
	else if (n > 0 && ipc_check_patience(bytes, (size_t)n, &patience) == 0)
		answer_request(app, &patience.request, &patience);
	else if (n > 0 && ipc_check_request(bytes, (size_t)n, &request) == 0)
		answer_request(app, &request, NULL);
	else
		close_app(app);
	return true;
}

static void app_event(evutil_socket_t fd, short what, void *arg)
{
	struct app *app = arg;

	(void)fd;
	(void)what;
	if (!is_waiting(app)) {
		read_request(app);
		return;
	}
	/* It was told to wait: a second word or the end, either way it has given up. */
	if (app->flow)
		flow_asker_gone(app->flow);
	close_app(app);
}

static void app_silent(struct edge_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	close_app(CONTAINER_OF(timer, struct app, silence));
}

static void serve(struct apps *apps, int fd)
{
	struct edge *edge = apps->edge;
	struct app *app = folder_may_ask(fd, edge->config.allow_all_users) ? calloc(1, sizeof(*app))
									   : NULL;

	if (!app) {
		close(fd);
		return;
	}
	app->apps = apps;
	app->fd = fd;
	app->silence.fired = app_silent;
	app->next = apps->all;
	if (app->next)
		app->next->prev = app;
	apps->all = app;
	if (++apps->count == APPS_MAX)
		set_paused(apps, true);
	/* Answered at once: the usual case. A question that waits for a dial is watched. */
	if (read_request(app) && !is_waiting(app))
		return;
	if (event_assign(&app->event, loop_base(edge->loop), fd, EV_READ | EV_PERSIST, app_event,
			 app) != 0 ||
	    event_add(&app->event, NULL) != 0) {
		if (app->flow)
			flow_asker_gone(app->flow);
		close_app(app);
		return;
	}
	app->has_event = true;
	if (!is_waiting(app))
		edge_timer_set(&edge->timers, &app->silence,
			       loop_now(edge->loop) + APPS_SILENCE_S * NS_PER_S);
}

static void resume(struct edge_timer *timer, uint64_t now_ns)
{
	struct apps *apps = CONTAINER_OF(timer, struct apps, resume);

	(void)now_ns;
	if (apps->count < APPS_MAX)
		set_paused(apps, false);
}

/*
 * To be told that nobody else waits costs more than most answers: the kernel makes a whole
 * socket first. So one is taken, and the next look at the sockets tells of others, which is
 * soon; when they come in crowds more and more are taken at a time.
 */
static unsigned take_next(struct apps *apps, unsigned taken)
{
	uint64_t now_ns = loop_now(apps->edge->loop);
	bool is_crowd = now_ns - apps->accepted_ns < CROWD_NS;

	apps->accepted_ns = now_ns;
	return is_crowd && taken == apps->take ? MIN(2 * apps->take, (unsigned)APPS_PER_ROUND) : 1;
}

static void accept_some(evutil_socket_t listener, short what, void *arg)
{
	struct apps *apps = arg;
	unsigned taken = 0;

	(void)what;
	apps_reap(apps);
	flows_reap(&apps->edge->flows);
	while (taken < apps->take && apps->count < APPS_MAX) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			serve(apps, fd);
			taken++;
			continue;
		}
		if (errno == EMFILE && flows_free_for_question(&apps->edge->flows))
			continue;
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			log_debug("edge: control socket: %s, programs wait", strerror(errno));
			set_paused(apps, true);
			edge_timer_set(&apps->edge->timers, &apps->resume,
				       loop_now(apps->edge->loop) + APPS_PAUSE_MS * NS_PER_MS);
		}
		break;
	}
	apps->take = take_next(apps, taken);
}

static void stop_listening(struct apps *apps)
{
	if (apps->has_event)
		event_del(&apps->event);
	apps->has_event = apps->is_paused = false;
	if (apps->listener >= 0)
		close(apps->listener);
	apps->listener = -1;
}

int apps_open(struct apps *apps, struct edge *edge)
{
	apps->edge = edge;
	apps->take = 1;
	apps->resume.fired = resume;
	return apps_listen(apps);
}

int apps_listen(struct apps *apps)
{
	struct edge *edge = apps->edge;

	stop_listening(apps);
	apps->listener = folder_listen(edge->dir, PATHS_CONTROL, SOCK_SEQPACKET,
				       edge->config.allow_all_users);
	if (apps->listener < 0)
		return apps->listener;
	if (event_assign(&apps->event, loop_base(edge->loop), apps->listener, EV_READ | EV_PERSIST,
			 accept_some, apps) != 0 ||
	    event_add(&apps->event, NULL) != 0)
		return -ENOMEM;
	apps->has_event = true;
	if (apps->count >= APPS_MAX)
		set_paused(apps, true);
	return 0;
}

void apps_close(struct apps *apps)
{
	while (apps->all)
		close_app(apps->all);
	apps_reap(apps);
	stop_listening(apps);
}
