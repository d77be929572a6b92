/*
 * The local API, served by libevent's HTTP server on DIR/api.
 *
 *	GET  /v0/status        the owner's text
 *	GET  /v0/ip            {"addresses": [...]}
 *	POST /v0/ping?to=WHO   {"to", "address", "name", "rtt_ms"} or {"error"}
 *
 * A ping's answer is late: its request waits in a small table under a ticket,
 * with a time limit. If meshctl leaves before, the server frees the request
 * and its close callback takes the ping out of the table.
 */
#include "daemon/edge/localapi.h"

#include <errno.h>
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

#include "daemon/edge/folder.h"
#include "daemon/edge/private.h"
#include "shared/log.h"
#include "shared/util.h"

#define PAUSE_MS 100 /* without accepting, after the kernel had no descriptor */

struct ping {
	struct localapi *api;
	struct evhttp_request *request; /* NULL: free */
	uint32_t ticket;
	struct edge_timer timer;
	json_object *answer;
};

struct localapi {
	struct edge *edge;
	struct evhttp *http;
	struct evconnlistener *listener; /* owned by http once bound */
	struct edge_timer resume;
	uint32_t next_ticket;
	struct ping ping[LOCALAPI_PINGS_MAX];
};

/* ---- answers ---- */

static void send_text(struct evhttp_request *request, int code, const char *text)
{
	struct evbuffer *body = evbuffer_new();

	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
			  "application/json");
	if (body && text && evbuffer_add_printf(body, "%s\n", text) >= 0)
		evhttp_send_reply(request, code, NULL, body);
	else
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	if (body)
		evbuffer_free(body);
}

/* Takes the object. */
static void send_json(struct evhttp_request *request, int code, json_object *object)
{
	send_text(request, code,
		  object ? json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN) : NULL);
	json_object_put(object);
}

static void add_text(json_object *object, const char *key, const char *text)
{
	if (object)
		json_object_object_add(object, key, json_object_new_string(text));
}

/* about: what the request named, or NULL. */
static void send_problem(struct evhttp_request *request, int code, const char *about,
			 const char *text)
{
	json_object *object = json_object_new_object();

	if (about)
		add_text(object, "to", about);
	add_text(object, "error", text);
	send_json(request, code, object);
}

/* ---- ping ---- */

static void end_ping(struct ping *ping)
{
	edge_timer_cancel(&ping->api->edge->timers, &ping->timer);
	json_object_put(ping->answer);
	ping->answer = NULL;
	ping->request = NULL;
}

static void asker_left(struct evhttp_connection *connection, void *arg)
{
	(void)connection;
	end_ping(arg);
}

static void answer_ping(struct ping *ping)
{
	struct evhttp_request *request = ping->request;
	json_object *answer = ping->answer;

	ping->answer = NULL;
	evhttp_connection_set_closecb(evhttp_request_get_connection(request), NULL, NULL);
	end_ping(ping);
	send_json(request, HTTP_OK, answer);
}

static void ping_timed_out(struct edge_timer *timer, uint64_t now_ns)
{
	struct ping *ping = CONTAINER_OF(timer, struct ping, timer);

	(void)now_ns;
	add_text(ping->answer, "error", "no answer in time");
	answer_ping(ping);
}

static struct ping *ping_of_ticket(struct localapi *api, uint32_t ticket)
{
	for (int i = 0; i < LOCALAPI_PINGS_MAX; i++)
		if (api->ping[i].request && api->ping[i].ticket == ticket)
			return &api->ping[i];
	return NULL;
}

void localapi_pinged(struct localapi *api, uint32_t ticket, uint64_t round_trip_ns)
{
	struct ping *ping = ping_of_ticket(api, ticket);

	if (!ping)
		return; /* it was late, or the asker has left */
	if (round_trip_ns == NEVER_NS)
		add_text(ping->answer, "error", "no answer in time");
	else if (ping->answer)
		json_object_object_add(
			ping->answer, "rtt_ms",
			json_object_new_double((double)round_trip_ns / (double)NS_PER_MS));
	answer_ping(ping);
}

static bool find_address(const struct map *map, const char *who, struct ip_addr *addr)
{
	static const struct ip_addr none;
	struct map_name name;

	if (ip_parse(who, addr) == 0)
		return true;
	if (!map_find_name(map, who, &name))
		return false;
	*addr = ip_equal(&name.v4, &none) ? name.v6 : name.v4;
	return !ip_equal(addr, &none);
}

static struct ping *begin_ping(struct localapi *api, struct evhttp_request *request,
			       const char *who, const struct ip_addr *addr)
{
	const struct map *map = mapfile_map(api->edge->mapfile);
	char text[IP_TEXT_MAX], name[MAP_NAME_MAX] = "";
	struct ping *ping = NULL;

	for (int i = 0; i < LOCALAPI_PINGS_MAX && !ping; i++)
		if (!api->ping[i].request)
			ping = &api->ping[i];
	if (!ping)
		return NULL;
	ping->answer = json_object_new_object();
	if (!ping->answer)
		return NULL;
	map_name_of(map, addr, name);
	add_text(ping->answer, "to", who);
	add_text(ping->answer, "address", ip_format(addr, text));
	add_text(ping->answer, "name", name);
	ping->request = request;
	ping->ticket = api->next_ticket++;
	edge_timer_set(&api->edge->timers, &ping->timer,
		       loop_now(api->edge->loop) + LOCALAPI_PING_S * NS_PER_S);
	evhttp_connection_set_closecb(evhttp_request_get_connection(request), asker_left, ping);
	return ping;
}

static void ping_whom(struct localapi *api, struct evhttp_request *request, const char *who)
{
	struct edge *edge = api->edge;
	struct ip_addr addr;
	struct ping *ping;
	uint32_t ticket;
	int err;

	if (!find_address(mapfile_map(edge->mapfile), who, &addr)) {
		send_problem(request, HTTP_NOTFOUND, who, "no node of this name or address");
		return;
	}
	ping = begin_ping(api, request, who, &addr);
	if (!ping) {
		send_problem(request, HTTP_SERVUNAVAIL, who, "too many pings at once");
		return;
	}
	ticket = ping->ticket;
	err = edge->callbacks.ping(edge->owner, &addr, ticket);
	/* It may have been answered already. */
	ping = err ? ping_of_ticket(api, ticket) : NULL;
	if (!ping)
		return;
	add_text(ping->answer, "error", strerror(err));
	answer_ping(ping);
}

static void serve_ping(struct localapi *api, struct evhttp_request *request)
{
	struct evkeyvalq query;
	const char *who;

	if (evhttp_parse_query_str(evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request)),
				   &query) != 0) {
		send_problem(request, HTTP_BADREQUEST, NULL, "no node is named");
		return;
	}
	who = evhttp_find_header(&query, "to");
	if (who)
		ping_whom(api, request, who);
	else
		send_problem(request, HTTP_BADREQUEST, NULL, "no node is named");
	evhttp_clear_headers(&query);
}

/* ---- the rest ---- */

static void serve_status(struct localapi *api, struct evhttp_request *request)
{
	char *text = api->edge->callbacks.status(api->edge->owner);

	send_text(request, HTTP_OK, text);
	free(text);
}

static void serve_ip(struct localapi *api, struct evhttp_request *request)
{
	const struct map *map = mapfile_map(api->edge->mapfile);
	json_object *object = json_object_new_object(), *list = json_object_new_array();
	char text[IP_TEXT_MAX];
	struct map_own own;

	for (uint32_t i = 0; list && map_own_at(map, i, &own); i++)
		json_object_array_add(list, json_object_new_string(ip_format(&own.addr, text)));
	if (object)
		json_object_object_add(object, "addresses", list);
	else
		json_object_put(list);
	send_json(request, HTTP_OK, object);
}

static const struct route {
	const char *path;
	enum evhttp_cmd_type method;
	const char *allow;
	void (*serve)(struct localapi *api, struct evhttp_request *request);
} routes[] = {
	{ "/v0/status", EVHTTP_REQ_GET, "GET", serve_status },
	{ "/v0/ip", EVHTTP_REQ_GET, "GET", serve_ip },
	{ "/v0/ping", EVHTTP_REQ_POST, "POST", serve_ping },
};

static bool may_ask(const struct localapi *api, struct evhttp_request *request)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));

	return folder_may_ask(fd, api->edge->config.allow_all_users);
}

static void serve(struct evhttp_request *request, void *arg)
{
	struct localapi *api = arg;
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));

	if (!may_ask(api, request)) {
		send_problem(request, 403, NULL, "this daemon serves another user");
		return;
	}
	for (size_t i = 0; path && i < ARRAY_LEN(routes); i++) {
		if (strcmp(path, routes[i].path) != 0)
			continue;
		if (evhttp_request_get_command(request) == routes[i].method) {
			routes[i].serve(api, request);
			return;
		}
		evhttp_add_header(evhttp_request_get_output_headers(request), "Allow",
				  routes[i].allow);
		send_problem(request, HTTP_BADMETHOD, NULL, "this path takes another method");
		return;
	}
	send_problem(request, HTTP_NOTFOUND, NULL, "no such path");
}

static void accept_failed(struct evconnlistener *listener, void *arg)
{
	struct localapi *api = arg;

	log_debug("edge: local API: %s, callers wait", strerror(errno));
	evconnlistener_disable(listener);
	edge_timer_set(&api->edge->timers, &api->resume,
		       loop_now(api->edge->loop) + PAUSE_MS * NS_PER_MS);
}

static void resume(struct edge_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	evconnlistener_enable(CONTAINER_OF(timer, struct localapi, resume)->listener);
}

static int listen_here(struct localapi *api)
{
	struct edge *edge = api->edge;
	int fd = folder_listen(edge->dir, PATHS_API, SOCK_STREAM, edge->config.allow_all_users);

	if (fd < 0)
		return fd;
	api->listener = evconnlistener_new(loop_base(edge->loop), NULL, NULL,
					   LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!api->listener) {
		close(fd);
		return -ENOMEM;
	}
	if (!evhttp_bind_listener(api->http, api->listener)) {
		evconnlistener_free(api->listener);
		api->listener = NULL;
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(api->listener, accept_failed);
	return 0;
}

int localapi_open(struct edge *edge, struct localapi **out)
{
	struct localapi *api = calloc(1, sizeof(*api));
	int err;

	if (!api)
		return -ENOMEM;
	api->edge = edge;
	api->next_ticket = 1;
	api->resume.fired = resume;
	for (int i = 0; i < LOCALAPI_PINGS_MAX; i++) {
		api->ping[i].api = api;
		api->ping[i].timer.fired = ping_timed_out;
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

void localapi_close(struct localapi *api)
{
	if (!api)
		return;
	/* Frees its connections, whose close callbacks end the pings. */
	if (api->http)
		evhttp_free(api->http);
	edge_timer_cancel(&api->edge->timers, &api->resume);
	free(api);
}
