/*
 * Listeners, and who may use them.
 *
 * A TCP port is open to every user of the machine, and to others where it is not on
 * loopback. So the kernel's table of sockets is asked whose the other end is, and only
 * our own user and root are served, unless all users are allowed. Where the table cannot
 * be asked, /proc/net/tcp (and udp) says the same; where that is missing too, nobody is served.
 */
#include "daemon/proxy/proxy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/sock.h"
#include "daemon/edge/socktable.h"
#include "daemon/proxy/private.h"
#include "shared/util.h"

#define BACKLOG       1024
#define BURST         64
#define PAUSE_NS      (100 * NS_PER_MS) /* without accepting, after the kernel had no descriptor */
#define PROC_LINE_MAX 512

/* ---- who is there ---- */

/* "0100007F:041F" as the kernel writes an IPv4 endpoint. */
static bool parse_proc(const char *text, struct endpoint *ep)
{
	unsigned addr, port;

	if (sscanf(text, "%8x:%4x", &addr, &port) != 2)
		return false;
	*ep = (struct endpoint){ ip_from_v4(ntohl(addr)), (uint16_t)port };
	return true;
}

/* A datagram's sender may be bound to any address, and connected to nobody. */
static bool is_end(const struct endpoint *found, const struct endpoint *end, int type)
{
	return endpoint_equal(found, end) || (type == SOCK_DGRAM && ip_is_any(&found->addr) &&
					      (found->port == end->port || found->port == 0));
}

static int proc_owner(int type, const struct endpoint *theirs, const struct endpoint *ours,
		      uid_t *uid)
{
	char line[PROC_LINE_MAX], near[64], far[64];
	struct endpoint a, b;
	unsigned found;
	int err = -ENOENT;
	FILE *f;

	if (!ip_is_v4(&theirs->addr))
		return -EAFNOSUPPORT;
	f = fopen(type == SOCK_STREAM ? "/proc/net/tcp" : "/proc/net/udp", "re");
	if (!f)
		return -errno;
	while (err && fgets(line, sizeof(line), f)) {
		if (sscanf(line, " %*d: %63s %63s %*s %*s %*s %*s %u", near, far, &found) != 3 ||
		    !parse_proc(near, &a) || !parse_proc(far, &b))
			continue;
		if (a.port == theirs->port && is_end(&a, theirs, type) && is_end(&b, ours, type)) {
			*uid = found;
			err = 0;
		}
	}
	fclose(f);
	return err;
}

bool proxy_may_use(struct proxy *proxy, int type, const struct endpoint *theirs,
		   const struct endpoint *ours)
{
	uid_t uid = 0;
	int err;

	if (proxy->allow_all_users)
		return true;
	err = socktable_owner(proxy->socket_table, type, theirs, ours, &uid);
	if (err && err != -ENOENT)
		err = proc_owner(type, theirs, ours, &uid);
	if (err == 0 && (uid == 0 || uid == geteuid()))
		return true;
	if (err)
		log_limited(&proxy->stranger_gate, loop_now(proxy->loop), LOG_WARN,
			    "proxy: whose a socket is cannot be told (%s), it is refused",
			    strerror(-err));
	else
		log_limited(&proxy->stranger_gate, loop_now(proxy->loop), LOG_WARN,
			    "proxy: user %u may not use it, only this daemon's own and root",
			    (unsigned)uid);
	return false;
}

static bool may_connect(struct proxy *proxy, int fd)
{
	struct endpoint theirs, ours;

	return sock_peer(fd, &theirs) == 0 && sock_local(fd, &ours) == 0 &&
	       proxy_may_use(proxy, SOCK_STREAM, &theirs, &ours);
}

/* ---- accepting ---- */

static void set_accepting(struct proxy *proxy, bool accepting)
{
	for (unsigned i = 0; i < proxy->listener_count; i++) {
		struct listener *l = &proxy->listener[i];

		if (l->has_event && (accepting ? event_add(&l->event, NULL) : event_del(&l->event)))
			log_err("proxy: libevent failed, a port is not served");
	}
}

static void accepted(struct listener *l, int fd)
{
	struct proxy *proxy = l->proxy;
	int one = 1;

	if (proxy->count >= PROXY_CLIENTS_MAX) {
		log_limited(&proxy->full_gate, loop_now(proxy->loop), LOG_WARN,
			    "proxy: %u clients at once, more are refused", PROXY_CLIENTS_MAX);
		close(fd);
	} else if (may_connect(proxy, fd)) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		client_create(proxy, fd, l->kinds);
	} else {
		close(fd);
	}
}

static void on_listener(evutil_socket_t listener, short what, void *arg)
{
	struct listener *l = arg;

	(void)what;
	for (int i = 0; i < BURST; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			accepted(l, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			set_accepting(l->proxy, false);
			edge_timer_set(&l->proxy->timers, &l->proxy->resume,
				       loop_now(l->proxy->loop) + PAUSE_NS);
		}
		return;
	}
}

static void resume(struct edge_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	set_accepting(CONTAINER_OF(timer, struct proxy, resume), true);
}

/* ---- listening ---- */

static int listen_at(struct listener *l)
{
	int one = 1, err;

	l->fd = sock_open(&l->at, SOCK_STREAM);
	if (l->fd < 0)
		return l->fd;
	if (setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    (!ip_is_v4(&l->at.addr) &&
	     setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) != 0))
		return -errno;
	err = sock_bind(l->fd, &l->at);
	if (err == 0 && listen(l->fd, BACKLOG) != 0)
		err = -errno;
	if (err == 0)
		err = sock_local(l->fd, &l->at);
	if (err)
		return err;
	if (event_assign(&l->event, loop_base(l->proxy->loop), l->fd, EV_READ | EV_PERSIST,
			 on_listener, l) != 0 ||
	    event_add(&l->event, NULL) != 0)
		return -ENOMEM;
	l->has_event = true;
	return 0;
}

static int add_listener(struct proxy *proxy, const struct endpoint *at, unsigned kind)
{
	struct listener *l;

	for (unsigned i = 0; i < proxy->listener_count; i++) {
		if (at->port && endpoint_equal(&proxy->listener[i].at, at)) {
			proxy->listener[i].kinds |= kind;
			return 0;
		}
	}
	l = &proxy->listener[proxy->listener_count++];
	*l = (struct listener){ .proxy = proxy, .at = *at, .kinds = kind, .fd = -1 };
	return listen_at(l);
}

/*
 * "ADDRESS:PORT"; localhost is both loopback addresses. No address is every one, and so are 0.0.0.0
 * and [::], as where the stock client listens.
 */
static int parse_listen(const char *text, struct endpoint at[2], unsigned *count)
{
	static const char localhost[] = "localhost:";
	char full[64];
	bool is_localhost = strncmp(text, localhost, sizeof(localhost) - 1) == 0;

	if (is_localhost)
		text += sizeof(localhost) - 2;
	if (text[0] == ':') {
		snprintf(full, sizeof(full), "%s%s", is_localhost ? "127.0.0.1" : "0.0.0.0", text);
		text = full;
	}
	if (endpoint_parse(text, &at[0]) != 0)
		return -EINVAL;
	*count = is_localhost || ip_is_any(&at[0].addr) ? 2 : 1;
	if (!is_localhost && *count == 2)
		at[0].addr = ip_from_v4(INADDR_ANY);
	at[1] = at[0];
	at[1].addr = (struct ip_addr){ .byte = { [15] = is_localhost } };
	return 0;
}

static int listen_on(struct proxy *proxy, const char *text, unsigned kind, char *error)
{
	struct endpoint at[2];
	unsigned count;
	int err;

	if (!text)
		return 0;
	if (parse_listen(text, at, &count) != 0) {
		snprintf(error, 256, "the proxy's address %.100s is none, as 127.0.0.1:1055 is",
			 text);
		return -EINVAL;
	}
	for (unsigned i = 0; i < count; i++) {
		err = add_listener(proxy, &at[i], kind);
		/* A machine may be without IPv6. */
		if (err && !(i > 0 && (err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT))) {
			snprintf(error, 256, "cannot listen at %.100s for the proxy: %s", text,
				 strerror(-err));
			return err;
		}
	}
	return 0;
}

int proxy_create(struct loop *loop, struct edge *edge, const struct proxy_config *config,
		 const struct proxy_backend *backend, struct proxy **out, char error[static 256])
{
	struct proxy *proxy = calloc(1, sizeof(*proxy));
	int err;

	if (!proxy) {
		snprintf(error, 256, "out of memory for the proxy");
		return -ENOMEM;
	}
	proxy->loop = loop;
	proxy->edge = edge;
	proxy->allow_all_users = config->allow_all_users;
	proxy->resume.fired = resume;
	proxy->socket_table = socktable_open();
	if (backend)
		proxy->backend = *backend;
	err = listen_on(proxy, config->socks5_listen, PROXY_SOCKS, error);
	if (err == 0)
		err = listen_on(proxy, config->http_listen, PROXY_HTTP, error);
	if (err) {
		proxy_destroy(proxy);
		return err;
	}
	*out = proxy;
	return 0;
}

void proxy_destroy(struct proxy *proxy)
{
	if (!proxy)
		return;
	while (proxy->all)
		client_destroy(proxy->all);
	for (unsigned i = 0; i < proxy->listener_count; i++) {
		struct listener *l = &proxy->listener[i];

		if (l->has_event)
			event_del(&l->event);
		if (l->fd >= 0)
			close(l->fd);
	}
	if (proxy->socket_table >= 0)
		close(proxy->socket_table);
	free(proxy);
}

void proxy_describe(const struct proxy *proxy, char line[static 256])
{
	char at[ENDPOINT_TEXT_MAX];
	size_t len = 0;

	line[0] = '\0';
	for (unsigned i = 0; i < proxy->listener_count && len < 256; i++) {
		const struct listener *l = &proxy->listener[i];
		const char *kinds = l->kinds == PROXY_SOCKS  ? "SOCKS5 proxy"
				    : l->kinds == PROXY_HTTP ? "HTTP proxy"
							     : "SOCKS5 and HTTP proxy";

		if (l->has_event)
			len += (size_t)snprintf(line + len, 256 - len, "%s%s at %s",
						len ? ", " : "", kinds,
						endpoint_format(&l->at, at));
	}
}

uint64_t proxy_deadline(const struct proxy *proxy)
{
	return edge_timers_deadline(&proxy->timers);
}

void proxy_expire(struct proxy *proxy, uint64_t now_ns)
{
	edge_timers_expire(&proxy->timers, now_ns);
}
