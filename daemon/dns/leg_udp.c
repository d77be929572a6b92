/* The UDP try of a leg: by a socket of its own, or by a port of its own in the tunnel. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/dns/leg.h"
#include "shared/util.h"

#define DATAGRAMS_PER_EVENT 16
#define TUNNEL_PORT_FIRST   49152
#define TUNNEL_PORT_COUNT   16384

void leg_close_udp(struct leg *leg)
{
	if (leg->udp >= 0) {
		event_del(&leg->udp_event);
		close(leg->udp);
	}
	leg->udp = -1;
	leg->tunnel_port = 0;
	if (leg->udp_state == TRY_WAITS)
		leg->udp_state = TRY_OVER;
}

int leg_open_socket(const struct endpoint *to, int type)
{
	int family = ip_is_v4(&to->addr) ? AF_INET : AF_INET6, fd, err;
	struct sockaddr_storage addr;
	socklen_t len = endpoint_to_sockaddr(to, family, &addr);

	fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, len) != 0 && errno != EINPROGRESS) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

void leg_udp_failed(struct leg *leg)
{
	leg_close_udp(leg);
	if (!leg_start_tcp(leg))
		leg_over(leg);
}

void leg_repeat_udp(struct leg *leg)
{
	struct request *r = leg->request;
	struct forwarder *f = r->forwarder;

	if (leg->udp_state != TRY_WAITS)
		return;
	if (leg->is_tunnel)
		(void)f->tunnel.send_udp(f->tunnel.owner, leg->tunnel_port, &leg->upstream,
					 r->query + 2, r->query_len);
	else if (send(leg->udp, r->query + 2, r->query_len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
		 errno != EAGAIN)
		leg_udp_failed(leg);
}

static void on_udp(evutil_socket_t fd, short what, void *arg)
{
	struct leg *leg = arg;
	struct forwarder *f = leg->request->forwarder;

	(void)what;
	for (int i = 0; i < DATAGRAMS_PER_EVENT && leg->udp == fd; i++) {
		ssize_t n = recv(fd, f->buffer, DNS_UDP_MAX, MSG_DONTWAIT | MSG_TRUNC);
		size_t len;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			leg_udp_failed(leg);
			return;
		}
		len = MIN((size_t)n, (size_t)DNS_UDP_MAX);
		if ((size_t)n > len)
			dns_message_set_flags(f->buffer,
					      dns_message_flags(f->buffer) | DNS_FLAG_TC);
		leg_judge(leg, f->buffer, len, false);
	}
}

static bool is_port_used(const struct forwarder *f, uint16_t port)
{
	for (const struct request *r = f->all; r; r = r->next)
		for (unsigned i = 0; i < r->leg_count; i++)
			if (r->leg[i].tunnel_port == port)
				return true;
	return false;
}

static bool start_tunnel(struct leg *leg)
{
	struct request *r = leg->request;
	struct forwarder *f = r->forwarder;
	uint16_t port = 0;

	for (int i = 0; i < 8 && port == 0; i++) {
		uint16_t random;

		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return false;
		port = (uint16_t)(TUNNEL_PORT_FIRST + random % TUNNEL_PORT_COUNT);
		if (is_port_used(f, port))
			port = 0;
	}
	if (port == 0 || f->tunnel.send_udp(f->tunnel.owner, port, &leg->upstream, r->query + 2,
					    r->query_len) != 0)
		return false;
	leg->tunnel_port = port;
	leg->udp_state = TRY_WAITS;
	return true;
}

bool leg_start_udp(struct leg *leg)
{
	struct request *r = leg->request;
	int fd;

	leg->udp_state = TRY_OVER;
	if (leg->is_tunnel)
		return start_tunnel(leg);
	fd = leg_open_socket(&leg->upstream, SOCK_DGRAM);
	if (fd < 0)
		return false;
	if (send(fd, r->query + 2, r->query_len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ||
	    event_assign(&leg->udp_event, loop_base(r->forwarder->loop), fd, EV_READ | EV_PERSIST,
			 on_udp, leg) != 0 ||
	    event_add(&leg->udp_event, NULL) != 0) {
		close(fd);
		return false;
	}
	leg->udp = fd;
	leg->udp_state = TRY_WAITS;
	return true;
}
