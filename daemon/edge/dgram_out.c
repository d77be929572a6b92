/*
 * Programs' datagrams on their way to the mesh.
 *
 * A batch is read into one buffer that all endpoints share, and handed to the
 * stack one by one. What the stack does not take now (it is blocked, the UDP
 * socket is full) is kept, and nothing is read from any endpoint until it is
 * gone (each that has something to say is paused when it says so, as there may be
 * thousands that have not): then the kernel's queues fill and programs' sends block or fail, as
 * they would on a slow interface. So at most one batch is ever kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/edge/dgram_private.h"
#include "shared/log.h"
#include "shared/util.h"

static int keep(struct dgrams *all, const struct endpoint *local, const struct endpoint *remote,
		const uint8_t *data, size_t len)
{
	struct dgram_kept *k = malloc(sizeof(*k) + len);

	if (!k)
		return -ENOMEM;
	*k = (struct dgram_kept){ .local = *local, .remote = *remote, .len = len };
	memcpy(k->data, data, len);
	*all->kept_end = k;
	all->kept_end = &k->next;
	return 0;
}

/* Reading stops with the first datagram that is kept, see dgram_event(). */
static void hold_back(struct dgrams *all, const struct endpoint *local,
		      const struct endpoint *remote, const uint8_t *data, size_t len)
{
	bool was_reading = !all->kept;

	if (keep(all, local, remote, data, len) != 0 || !was_reading)
		return; /* without memory UDP may lose it */
	edge_timer_set(&all->edge->timers, &all->retry,
		       loop_now(all->edge->loop) + DGRAM_RETRY_MS * NS_PER_MS);
}

static void pop_kept(struct dgrams *all)
{
	struct dgram_kept *k = all->kept;

	all->kept = k->next;
	if (!all->kept)
		all->kept_end = &all->kept;
	free(k);
}

void dgram_drop_kept(struct dgrams *all)
{
	while (all->kept)
		pop_kept(all);
}

void dgram_retry(struct edge_timer *timer, uint64_t now_ns)
{
	struct dgrams *all = CONTAINER_OF(timer, struct dgrams, retry);
	struct netstack *ns = all->edge->ns;

	while (all->kept) {
		struct dgram_kept *k = all->kept;

		if (ns && netstack_send_udp(ns, &k->local, &k->remote, k->data, k->len, now_ns) ==
				  -EAGAIN) {
			edge_timer_set(&all->edge->timers, timer,
				       now_ns + DGRAM_RETRY_MS * NS_PER_MS);
			return;
		}
		pop_kept(all);
	}
	dgrams_resume(all);
}

static void send_out(struct dgram *d, const struct endpoint *from, const uint8_t *data, size_t len)
{
	struct dgrams *all = d->dgrams;
	struct edge *edge = all->edge;
	struct map_own own;
	struct endpoint local;
	int err;

	if (d->is_service) {
		dgram_used(d, from);
		service_datagram(d, from, data, len);
		return;
	}
	if (!edge->ns || !edge_own_address(edge, ip_is_v4(&from->addr) ? ip_v4(&from->addr) : 0,
					   !ip_is_v4(&d->remote.addr), &own))
		return;
	dgram_used(d, from);
	dgram_learn_route(d, from, &own);
	local = (struct endpoint){ own.addr, from->port };
	err = all->kept ? -EAGAIN
			: netstack_send_udp(edge->ns, &local, &d->remote, data, len,
					    loop_now(edge->loop));
	if (err == -EAGAIN)
		hold_back(all, &local, &d->remote, data, len);
	else if (err)
		log_debug("edge: udp: a datagram of %zu bytes is not sent: %s", len,
			  strerror(-err));
}

void dgram_event(evutil_socket_t fd, short what, void *arg)
{
	struct dgram *d = arg;
	struct dgrams *all = d->dgrams;
	struct sockaddr_storage from[DGRAM_BATCH];
	struct mmsghdr msg[DGRAM_BATCH];
	struct iovec at[DGRAM_BATCH];
	int n;

	(void)what;
	if (all->kept) {
		dgram_pause(d);
		return;
	}
	for (int i = 0; i < DGRAM_BATCH; i++) {
		at[i] = (struct iovec){ all->buffer[i], sizeof(all->buffer[i]) };
		msg[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &from[i],
							.msg_namelen = sizeof(from[i]),
							.msg_iov = &at[i],
							.msg_iovlen = 1 } };
	}
	n = recvmmsg(fd, msg, DGRAM_BATCH, MSG_DONTWAIT, NULL);
	if (n < 0) {
		/* A refusal waits in the error queue: it wakes us, too. */
		if (errno != EINTR)
			dgram_read_errors(d);
		return;
	}
	for (int i = 0; i < n; i++) {
		struct endpoint ep;

		/* A service is for all of this machine, and nobody else gets to loopback. */
		if (endpoint_from_sockaddr(&from[i], msg[i].msg_hdr.msg_namelen, &ep) == 0 &&
		    (ip_is_loopback(&ep.addr) || d->is_service))
			send_out(d, &ep, all->buffer[i], msg[i].msg_len);
	}
}
