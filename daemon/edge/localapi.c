/*
 * The local API, served by libevent's HTTP server on DIR/api. The paths and
 * shapes are in localapi.h; who answers is the backend.
 *
 * A late answer's request waits in a small table under a ticket, with a time
 * limit. If meshctl leaves before, the server frees the request and its close
 * callback takes it out of the table.
 *
 * Reading is for whoever may use this daemon; what changes the node is for its
 * owner and root, whatever --allow-all-users says.
 */
#include "daemon/edge/localapi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <json.h>

#include "daemon/edge/answer.h"
#include "daemon/edge/folder.h"
#include "daemon/edge/private.h"
#include "shared/log.h"
#include "shared/util.h"

#define PAUSE_MS      100 /* without accepting, after the kernel had no descriptor */
#define PING_SIZE_MAX 65000

static const char no_backend[] = "this daemon cannot do that";

struct waiting {
	struct localapi *api;
	struct evhttp_request *request; /* NULL: free */
	uint32_t ticket;
	struct edge_timer timer;
	bool is_ping;
	struct ip_addr ip; /* of a ping */
};

struct localapi {
	struct edge *edge;
	struct localapi_backend backend;
	struct evhttp *http;
	struct evconnlistener *listener; /* http's */
	uint32_t next_ticket;
	struct waiting waiting[LOCALAPI_WAITING_MAX];
};

/* ---- late answers ---- */

static void stop_waiting(struct waiting *w)
{
	edge_timer_cancel(&w->api->edge->timers, &w->timer);
	w->request = NULL;
}

static void asker_left(struct evhttp_connection *connection, void *arg)
{
	(void)connection;
	stop_waiting(arg);
}

/* The request is the caller's to answer from now on. */
static struct evhttp_request *take_request(struct waiting *w)
{
	struct evhttp_request *request = w->request;

	evhttp_connection_set_closecb(evhttp_request_get_connection(request), NULL, NULL);
	stop_waiting(w);
	return request;
}

static struct waiting *waiting_of(struct localapi *api, uint32_t ticket)
{
	for (int i = 0; i < LOCALAPI_WAITING_MAX; i++)
		if (api->waiting[i].request && api->waiting[i].ticket == ticket)
			return &api->waiting[i];
	return NULL;
}

/* NULL after having refused. */
static struct waiting *start_waiting(struct localapi *api, struct evhttp_request *request,
				     unsigned seconds)
{
	struct waiting *w = NULL;

	for (int i = 0; i < LOCALAPI_WAITING_MAX && !w; i++)
		if (!api->waiting[i].request)
			w = &api->waiting[i];
	if (!w) {
		answer_send_problem(request, HTTP_SERVUNAVAIL, "too many questions at once");
		return NULL;
	}
	w->request = request;
	w->ticket = api->next_ticket;
	api->next_ticket = api->next_ticket == LOCALAPI_TICKET_MAX ? 1 : api->next_ticket + 1;
	w->is_ping = false;
	edge_timer_set(&api->edge->timers, &w->timer,
		       loop_now(api->edge->loop) + seconds * NS_PER_S);
	evhttp_connection_set_closecb(evhttp_request_get_connection(request), asker_left, w);
	return w;
}

/* The backend has refused at once; unless it has answered before that. */
static void refuse_waiting(struct localapi *api, uint32_t ticket, const char *error)
{
	struct waiting *w = waiting_of(api, ticket);

	if (w)
		answer_send_problem(take_request(w), HTTP_SERVUNAVAIL, error);
}

static void answer_ping(struct waiting *w, const struct pong *pong)
{
	json_object *o = json_object_new_object();
	char ip[IP_TEXT_MAX];

	answer_add_text(o, "IP", ip_format(&w->ip, ip));
	answer_add_text(o, "NodeIP", pong->node_ip);
	answer_add_text(o, "NodeName", pong->node_name);
	answer_add_text(o, "Err", pong->error);
	if (o)
		json_object_object_add(o, "LatencySeconds",
				       json_object_new_double(pong->latency_s));
	answer_add_text(o, "Endpoint", pong->endpoint);
	answer_add_text(o, "PeerRelay", "");
	answer_add_number(o, "DERPRegionID", pong->derp_region);
	answer_add_text(o, "DERPRegionCode", pong->derp_code);
	if (pong->peerapi_port)
		answer_add_number(o, "PeerAPIPort", pong->peerapi_port);
	if (o && pong->is_local)
		json_object_object_add(o, "IsLocalIP", json_object_new_boolean(true));
	answer_send_json(take_request(w), HTTP_OK, o);
}

static void timed_out(struct edge_timer *timer, uint64_t now_ns)
{
	struct waiting *w = CONTAINER_OF(timer, struct waiting, timer);

	(void)now_ns;
	if (w->is_ping)
		answer_ping(w, &(struct pong){ .error = LOCALAPI_NO_ANSWER });
	else
		answer_send_problem(take_request(w), HTTP_SERVUNAVAIL, LOCALAPI_NO_ANSWER);
}

void localapi_ponged(struct localapi *api, uint32_t ticket, const struct pong *pong)
{
	struct waiting *w = waiting_of(api, ticket);

	if (w && w->is_ping)
		answer_ping(w, pong);
}

void localapi_answered(struct localapi *api, uint32_t ticket, const char *json, const char *error)
{
	struct waiting *w = waiting_of(api, ticket);

	if (!w || w->is_ping)
		return;
	if (error)
		answer_send_problem(take_request(w), HTTP_SERVUNAVAIL, error);
	else
		answer_send_text(take_request(w), HTTP_OK, json);
}

/* ---- ping ---- */

static bool find_address(const struct map *map, const char *who, struct ip_addr *addr)
{
	static const struct ip_addr none;
	struct map_name name;

	if (ip_parse(who, addr) == 0)
		return true;
	if (!map_find_host(map, who, &name))
		return false;
	*addr = ip_equal(&name.v4, &none) ? name.v6 : name.v4;
	return !ip_equal(addr, &none);
}

static bool parse_type(const char *text, enum ping_type *type)
{
	static const char *const names[] = {
		[PING_DISCO] = "disco", [PING_TSMP] = "TSMP", [PING_ICMP] = "ICMP"
	};

	*type = PING_DISCO;
	if (!text)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		*type = (enum ping_type)i;
		if (strcmp(text, names[i]) == 0)
			return true;
	}
	return false;
}

static bool parse_size(const char *text, unsigned *size)
{
	char *end;
	unsigned long n;

	*size = 0;
	if (!text)
		return true;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || n > PING_SIZE_MAX)
		return false;
	*size = (unsigned)n;
	return true;
}

static void serve_ping(struct localapi *api, struct evhttp_request *request,
		       struct evkeyvalq *query)
{
	const struct localapi_backend *b = &api->backend;
	const char *who = evhttp_find_header(query, "ip");
	char error[LOCALAPI_ERROR_MAX] = "";
	enum ping_type type;
	struct waiting *w;
	struct ip_addr ip;
	uint32_t ticket;
	unsigned size;

	if (!who || !parse_type(evhttp_find_header(query, "type"), &type) ||
	    !parse_size(evhttp_find_header(query, "size"), &size)) {
		answer_send_problem(request, HTTP_BADREQUEST,
				    "ping takes ip, type (disco, TSMP, ICMP) and size");
		return;
	}
	if (!find_address(mapfile_map(api->edge->mapfile), who, &ip)) {
		answer_send_problem(request, HTTP_NOTFOUND, "no node of this name or address");
		return;
	}
	if (!b->ping) {
		answer_send_problem(request, HTTP_NOTIMPLEMENTED, no_backend);
		return;
	}
	w = start_waiting(api, request, LOCALAPI_PING_S);
	if (!w)
		return;
	w->is_ping = true;
	w->ip = ip;
	ticket = w->ticket;
	w = b->ping(b->owner, &ip, type, size, ticket, error) ? waiting_of(api, ticket) : NULL;
	if (w)
		answer_ping(w, &(struct pong){ .error = error });
}

/* ---- reading ---- */

/* Passes a request on whose answer comes later, by its ticket. */
static void serve_late(struct localapi *api, struct evhttp_request *request,
		       int (*ask)(void *owner, uint32_t ticket, char *error), unsigned limit_s)
{
	char error[LOCALAPI_ERROR_MAX] = "";
	struct waiting *w;
	uint32_t ticket;

	if (!ask) {
		answer_send_problem(request, HTTP_NOTIMPLEMENTED, no_backend);
		return;
	}
	w = start_waiting(api, request, limit_s);
	if (!w)
		return;
	ticket = w->ticket;
	if (ask(api->backend.owner, ticket, error) != 0)
		refuse_waiting(api, ticket, error);
}

static void serve_status(struct localapi *api, struct evhttp_request *request,
			 struct evkeyvalq *query)
{
	const struct localapi_backend *b = &api->backend;
	const char *peers = evhttp_find_header(query, "peers");
	bool want_peers = !peers || strcmp(peers, "false") != 0;
	char *text;

	if (want_peers && b->status_all) {
		serve_late(api, request, b->status_all, LOCALAPI_STATUS_S);
		return;
	}
	if (!b->status) {
		answer_send_problem(request, HTTP_NOTIMPLEMENTED, no_backend);
		return;
	}
	text = b->status(b->owner, want_peers);
	answer_send_text(request, HTTP_OK, text);
	free(text);
}

static void serve_whois(struct localapi *api, struct evhttp_request *request,
			struct evkeyvalq *query)
{
	const struct localapi_backend *b = &api->backend;
	const char *addr = evhttp_find_header(query, "addr");
	char error[LOCALAPI_ERROR_MAX] = "", *text;

	if (!addr || !b->whois) {
		answer_send_problem(request, addr ? HTTP_NOTIMPLEMENTED : HTTP_BADREQUEST,
				    addr ? no_backend : "whois takes addr");
		return;
	}
	text = b->whois(b->owner, addr, error);
	if (text)
		answer_send_text(request, HTTP_OK, text);
	else
		answer_send_problem(request, HTTP_NOTFOUND, error);
	free(text);
}

static void serve_netcheck(struct localapi *api, struct evhttp_request *request,
			   struct evkeyvalq *query)
{
	(void)query;
	serve_late(api, request, api->backend.netcheck, LOCALAPI_NETCHECK_S);
}

/* ---- changing the node ---- */

static void send_done(struct evhttp_request *request, int err, const char *error)
{
	if (err)
		answer_send_problem(request, HTTP_SERVUNAVAIL, error);
	else
		answer_send_text(request, HTTP_OK, "{}");
}

static void set_running(struct localapi *api, struct evhttp_request *request, bool running)
{
	const struct localapi_backend *b = &api->backend;
	char error[LOCALAPI_ERROR_MAX] = "";

	if (b->set_running)
		send_done(request, b->set_running(b->owner, running, error), error);
	else
		answer_send_problem(request, HTTP_NOTIMPLEMENTED, no_backend);
}

static void serve_up(struct localapi *api, struct evhttp_request *request, struct evkeyvalq *query)
{
	(void)query;
	set_running(api, request, true);
}

static void serve_down(struct localapi *api, struct evhttp_request *request,
		       struct evkeyvalq *query)
{
	(void)query;
	set_running(api, request, false);
}

static void serve_login(struct localapi *api, struct evhttp_request *request,
			struct evkeyvalq *query)
{
	const struct localapi_backend *b = &api->backend;
	char error[LOCALAPI_ERROR_MAX] = "";

	(void)query;
	if (b->login)
		send_done(request, b->login(b->owner, error), error);
	else
		answer_send_problem(request, HTTP_NOTIMPLEMENTED, no_backend);
}

static void serve_logout(struct localapi *api, struct evhttp_request *request,
			 struct evkeyvalq *query)
{
	(void)query;
	serve_late(api, request, api->backend.logout, LOCALAPI_LOGOUT_S);
}

static void serve_reload(struct localapi *api, struct evhttp_request *request,
			 struct evkeyvalq *query)
{
	const struct localapi_backend *b = &api->backend;
	char error[LOCALAPI_RELOAD_ERROR_MAX] = "", *text;

	(void)query;
	if (!b->reload) {
		answer_send_problem(request, HTTP_NOTIMPLEMENTED, no_backend);
		return;
	}
	text = b->reload(b->owner, error);
	if (text)
		answer_send_text(request, HTTP_OK, text);
	else
		answer_send_problem(request, HTTP_SERVUNAVAIL, error);
	free(text);
}

/* ---- the server ---- */

enum who { ANY_USER, OWNER };

static const struct route {
	const char *name; /* below PATH_PREFIX */
	enum evhttp_cmd_type method;
	enum who who;
	void (*serve)(struct localapi *api, struct evhttp_request *request,
		      struct evkeyvalq *query);
} routes[] = {
	{ "status", EVHTTP_REQ_GET, ANY_USER, serve_status },
	{ "whois", EVHTTP_REQ_GET, ANY_USER, serve_whois },
	{ "ping", EVHTTP_REQ_POST, ANY_USER, serve_ping },
	{ "netcheck", EVHTTP_REQ_POST, ANY_USER, serve_netcheck },
	{ "up", EVHTTP_REQ_POST, OWNER, serve_up },
	{ "down", EVHTTP_REQ_POST, OWNER, serve_down },
	{ "login-interactive", EVHTTP_REQ_POST, OWNER, serve_login },
	{ "logout", EVHTTP_REQ_POST, OWNER, serve_logout },
	{ "reload", EVHTTP_REQ_POST, OWNER, serve_reload },
};

static const struct route *find_route(const char *path)
{
	static const char prefix[] = "/localapi/v0/";

	if (!path || strncmp(path, prefix, sizeof(prefix) - 1) != 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(routes); i++)
		if (strcmp(path + sizeof(prefix) - 1, routes[i].name) == 0)
			return &routes[i];
	return NULL;
}

static bool may_ask(const struct localapi *api, struct evhttp_request *request, enum who who)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));

	return folder_may_ask(fd, who == ANY_USER && api->edge->config.allow_all_users);
}

static void serve(struct evhttp_request *request, void *arg)
{
	struct localapi *api = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const struct route *route = find_route(evhttp_uri_get_path(uri));
	struct evkeyvalq query;

	if (!may_ask(api, request, ANY_USER)) {
		answer_send_problem(request, 403, "this daemon serves another user");
		return;
	}
	if (!route) {
		answer_send_problem(request, HTTP_NOTFOUND, "no such path");
		return;
	}
	if (evhttp_request_get_command(request) != route->method) {
		evhttp_add_header(evhttp_request_get_output_headers(request), "Allow",
				  route->method == EVHTTP_REQ_GET ? "GET" : "POST");
		answer_send_problem(request, HTTP_BADMETHOD, "this path takes another method");
		return;
	}
	if (!may_ask(api, request, route->who)) {
		answer_send_problem(request, 403,
				    "only the daemon's own user and root may do that");
		return;
	}
	if (evhttp_parse_query_str(evhttp_uri_get_query(uri), &query) != 0) {
		answer_send_problem(request, HTTP_BADREQUEST, "the question is not well formed");
		return;
	}
	route->serve(api, request, &query);
	evhttp_clear_headers(&query);
}

static void resume(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	evconnlistener_enable(arg);
}

/*
 * evhttp has taken the listener's argument for itself, so nothing but the listener is known
 * here. It lives while the loop has rounds: localapi_close() comes after the last one.
 */
static void accept_failed(struct evconnlistener *listener, void *arg)
{
	const struct timeval pause = { .tv_usec = PAUSE_MS * 1000 };

	(void)arg;
	log_debug("edge: local API: %s, callers wait", strerror(errno));
	if (event_base_once(evconnlistener_get_base(listener), -1, EV_TIMEOUT, resume, listener,
			    &pause) == 0)
		evconnlistener_disable(listener);
}

static int listen_here(struct localapi *api)
{
	struct edge *edge = api->edge;
	struct evconnlistener *listener; /* owned by http once bound */
	int fd = folder_listen(edge->dir, PATHS_API, SOCK_STREAM, edge->config.allow_all_users);

	if (fd < 0)
		return fd;
	listener = evconnlistener_new(loop_base(edge->loop), NULL, NULL,
				      LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!listener) {
		close(fd);
		return -ENOMEM;
	}
	if (!evhttp_bind_listener(api->http, listener)) {
		evconnlistener_free(listener);
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(listener, accept_failed);
	api->listener = listener;
	return 0;
}

/* The listener stays, since one that was paused is to be resumed; its socket is another. */
int localapi_listen_again(struct localapi *api)
{
	struct edge *edge = api->edge;
	int err = 0,
	    fd = folder_listen(edge->dir, PATHS_API, SOCK_STREAM, edge->config.allow_all_users);

	if (fd < 0)
		return fd;
	evconnlistener_disable(api->listener);
	if (dup3(fd, evconnlistener_get_fd(api->listener), O_CLOEXEC) < 0)
		err = -errno;
	close(fd);
	if (evconnlistener_enable(api->listener) != 0 && err == 0)
		err = -ENOMEM;
	return err;
}

int localapi_open(struct edge *edge, struct localapi **out)
{
	struct localapi *api = calloc(1, sizeof(*api));
	int err;

	if (!api)
		return -ENOMEM;
	api->edge = edge;
	api->next_ticket = 1;
	for (int i = 0; i < LOCALAPI_WAITING_MAX; i++) {
		api->waiting[i].api = api;
		api->waiting[i].timer.fired = timed_out;
	}
	api->http = evhttp_new(loop_base(edge->loop));
	err = api->http ? listen_here(api) : -ENOMEM;
	if (err) {
		localapi_close(api);
		return err;
	}
	/* All methods, so that the wrong one is answered by us. */
	evhttp_set_allowed_methods(api->http, UINT16_MAX);
	evhttp_set_max_headers_size(api->http, LOCALAPI_MAX_BYTES);
	evhttp_set_max_body_size(api->http, LOCALAPI_MAX_BYTES);
	evhttp_set_timeout(api->http, LOCALAPI_IDLE_S);
	evhttp_set_gencb(api->http, serve, api);
	*out = api;
	return 0;
}

void localapi_set_backend(struct localapi *api, const struct localapi_backend *backend)
{
	api->backend = *backend;
}

void localapi_close(struct localapi *api)
{
	if (!api)
		return;
	/* Frees its connections, whose close callbacks end what waits. */
	if (api->http)
		evhttp_free(api->http);
	free(api);
}
