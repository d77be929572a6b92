/*
 * A SOCKS UDP association: one socket for the client, and for each kind of destination the
 * one socket that its datagrams leave from (the mesh, by family; the rest, by family).
 *
 * The client's datagrams come from the address of its TCP connection; the port of the first one
 * is its port from then on. Every user of the machine can send that one, so it is asked whose it
 * is, as it was for the connection. Names are looked up once and remembered; a datagram that waits
 * for its name is kept, and others to that name meanwhile are lost, as UDP may.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/sock.h"
#include "daemon/proxy/private.h"
#include "shared/util.h"

#define DATAGRAM_MAX 65536
#define BURST        64 /* datagrams before others get their turn */
#define NAMES        8

enum way { WAY_MESH4, WAY_MESH6, WAY_DIRECT4, WAY_DIRECT6, WAYS };

struct exit_socket {
	struct association *association;
	int fd;
	struct event event;
	bool has_event;
};

struct known_name {
	char name[TARGET_NAME_MAX];
	struct ip_addr addr;
};

struct association {
	struct proxy *proxy;
	int fd; /* the client's side */
	struct event event;
	bool has_event, has_port;
	struct endpoint at;     /* where they go */
	struct endpoint client; /* where its datagrams come from */
	struct exit_socket way[WAYS];
	struct known_name known[NAMES];
	unsigned next_name;
	struct lookup *lookup;
	struct target_place waiting_for;
	uint8_t *waiting;
	size_t waiting_len;
};

static int send_to(int fd, const struct endpoint *to, const void *bytes, size_t len)
{
	struct sockaddr_storage sa;
	socklen_t sa_len = endpoint_to_sockaddr(to, ip_is_v4(&to->addr) ? AF_INET : AF_INET6, &sa);
	ssize_t n =
		sendto(fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&sa, sa_len);

	return n < 0 ? -errno : 0;
}

/* ---- towards the client ---- */

static void pass_back(struct association *a, enum way way, const struct endpoint *from,
		      uint8_t *bytes, size_t len)
{
	/* bytes has SOCKS_REPLY_MAX of room before it. */
	uint8_t head[SOCKS_REPLY_MAX];
	struct endpoint real = *from;
	size_t head_len;

	if (way <= WAY_MESH6 && !dial_udp_from(a->proxy->edge, from, &real))
		return;
	head_len = socks_put_datagram_head(&real, head);
	memcpy(bytes - head_len, head, head_len);
	send_to(a->fd, &a->client, bytes - head_len, head_len + len);
}

static void answer_arrived(evutil_socket_t fd, short what, void *arg)
{
	struct exit_socket *e = arg;
	struct association *a = e->association;
	uint8_t bytes[SOCKS_REPLY_MAX + DATAGRAM_MAX];
	struct sockaddr_storage sa;
	struct endpoint from;

	(void)what;
	for (int i = 0; i < BURST; i++) {
		socklen_t sa_len = sizeof(sa);
		ssize_t n = recvfrom(fd, bytes + SOCKS_REPLY_MAX, DATAGRAM_MAX, MSG_DONTWAIT,
				     (struct sockaddr *)&sa, &sa_len);

		if (n < 0)
			return;
		if (endpoint_from_sockaddr(&sa, sa_len, &from) == 0)
			pass_back(a, (enum way)(e - a->way), &from, bytes + SOCKS_REPLY_MAX,
				  (size_t)n);
	}
}

/* ---- from the client ---- */

static int open_way(struct association *a, enum way way)
{
	const struct endpoint any6 = { .port = 0 }, any4 = { ip_from_v4(0), 0 };
	struct exit_socket *e = &a->way[way];

	if (e->fd >= 0)
		return 0;
	if (way <= WAY_MESH6)
		e->fd = dial_udp_open(a->proxy->edge, way == WAY_MESH6);
	else
		e->fd = sock_open(way == WAY_DIRECT6 ? &any6 : &any4, SOCK_DGRAM);
	if (e->fd < 0) {
		int err = e->fd;

		e->fd = -1;
		return err;
	}
	if (event_assign(&e->event, loop_base(a->proxy->loop), e->fd, EV_READ | EV_PERSIST,
			 answer_arrived, e) != 0 ||
	    event_add(&e->event, NULL) != 0) {
		close(e->fd);
		e->fd = -1;
		return -ENOMEM;
	}
	e->has_event = true;
	return 0;
}

static void send_on(struct association *a, const struct endpoint *to, const uint8_t *bytes,
		    size_t len)
{
	bool is_v4 = ip_is_v4(&to->addr);
	enum way way = is_v4 ? WAY_DIRECT4 : WAY_DIRECT6;
	struct endpoint at[TARGETS_MAX] = { *to };
	int err = 0;

	switch (dial_way_to(a->proxy->edge, &to->addr)) {
	case DIAL_MESH:
		way = is_v4 ? WAY_MESH4 : WAY_MESH6;
		err = dial_udp_way(a->proxy->edge, to, &at[0]);
		break;
	case DIAL_OWN:
		if (dial_own(a->proxy->edge, to, SOCK_DGRAM, at) == 0)
			err = EHOSTUNREACH;
		way = ip_is_v4(&at[0].addr) ? WAY_DIRECT4 : WAY_DIRECT6;
		break;
	case DIAL_DIRECT:
		break;
	}
	if (err == 0)
		err = -open_way(a, way);
	if (err == 0)
		err = -send_to(a->way[way].fd, &at[0], bytes, len);
	if (err)
		log_debug("proxy: a datagram is not sent: %s", strerror(err));
}

static const struct ip_addr *find_known(const struct association *a, const char *name)
{
	for (unsigned i = 0; i < NAMES; i++)
		if (strcmp(a->known[i].name, name) == 0)
			return &a->known[i].addr;
	return NULL;
}

static void looked_up(void *arg, int error, const struct ip_addr *ips, unsigned count)
{
	struct association *a = arg;
	struct known_name *known = &a->known[a->next_name];

	if (error == 0 && count > 0) {
		a->next_name = (a->next_name + 1) % NAMES;
		memcpy(known->name, a->waiting_for.name, sizeof(known->name));
		known->addr = ips[0];
		send_on(a, &(struct endpoint){ ips[0], a->waiting_for.port }, a->waiting,
			a->waiting_len);
	}
	free(a->waiting);
	a->waiting = NULL;
}

static void wait_for_name(struct association *a, const struct target_place *place,
			  const uint8_t *bytes, size_t len)
{
	if (a->waiting)
		return;
	a->waiting = malloc(len + 1);
	if (!a->waiting)
		return;
	memcpy(a->waiting, bytes, len);
	a->waiting_len = len;
	a->waiting_for = *place;
	lookup_start(a->proxy, place, looked_up, a, &a->lookup);
}

static void client_sent(struct association *a, const struct endpoint *from, const uint8_t *bytes,
			size_t len)
{
	struct target_place place;
	const struct ip_addr *addr = &place.addr;
	int head;

	if (!ip_equal(&from->addr, &a->client.addr) ||
	    (a->has_port && from->port != a->client.port))
		return;
	head = socks_parse_datagram(bytes, len, &place);
	if (head < 0 || (!a->has_port && !proxy_may_use(a->proxy, SOCK_DGRAM, from, &a->at)))
		return;
	a->client.port = from->port;
	a->has_port = true;
	if (place.is_name)
		addr = find_known(a, place.name);
	if (addr)
		send_on(a, &(struct endpoint){ *addr, place.port }, bytes + head,
			len - (size_t)head);
	else
		wait_for_name(a, &place, bytes + head, len - (size_t)head);
}

static void datagram_arrived(evutil_socket_t fd, short what, void *arg)
{
	struct association *a = arg;
	uint8_t bytes[DATAGRAM_MAX];
	struct sockaddr_storage sa;
	struct endpoint from;

	(void)what;
	for (int i = 0; i < BURST; i++) {
		socklen_t sa_len = sizeof(sa);
		ssize_t n = recvfrom(fd, bytes, sizeof(bytes), MSG_DONTWAIT, (struct sockaddr *)&sa,
				     &sa_len);

		if (n < 0)
			return;
		if (endpoint_from_sockaddr(&sa, sa_len, &from) == 0)
			client_sent(a, &from, bytes, (size_t)n);
	}
}

/* ---- life ---- */

int association_open(struct proxy *proxy, int client, struct association **out, struct endpoint *at)
{
	struct association *a = calloc(1, sizeof(*a));
	int err;

	if (!a)
		return ENOMEM;
	a->proxy = proxy;
	for (int i = 0; i < WAYS; i++)
		a->way[i] = (struct exit_socket){ .association = a, .fd = -1 };
	a->fd = -1;
	err = sock_peer(client, &a->client);
	if (err == 0)
		err = sock_local(client, at);
	at->port = 0;
	if (err == 0)
		a->fd = err = sock_open(at, SOCK_DGRAM);
	if (err >= 0)
		err = sock_bind(a->fd, at);
	if (err == 0)
		err = sock_local(a->fd, at);
	a->at = *at;
	if (err == 0 && (event_assign(&a->event, loop_base(proxy->loop), a->fd,
				      EV_READ | EV_PERSIST, datagram_arrived, a) != 0 ||
			 event_add(&a->event, NULL) != 0))
		err = -ENOMEM;
	a->has_event = err == 0;
	if (err < 0) {
		association_close(a);
		return -err;
	}
	*out = a;
	return 0;
}

void association_close(struct association *a)
{
	if (!a)
		return;
	lookup_forget(a->lookup);
	if (a->has_event)
		event_del(&a->event);
	if (a->fd >= 0)
		close(a->fd);
	for (int i = 0; i < WAYS; i++) {
		if (a->way[i].has_event)
			event_del(&a->way[i].event);
		if (a->way[i].fd >= 0)
			close(a->way[i].fd);
	}
	free(a->waiting);
	free(a);
}
