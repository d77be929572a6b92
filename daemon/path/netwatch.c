/*
 * A netlink socket in the groups of link, address and route news, which any user
 * may read. What the news say does not matter: after a quarter of a second
 * without any (or a second of nothing but news) a digest of the addresses and the
 * default routes is taken, and the owner told when it differs from the last one.
 * Most news are of no interest: a host that starts containers makes links and
 * routes all day, and giving up every direct path each time would cost more than
 * it mends.
 *
 * Where a sandbox refuses netlink, the digest is taken every few seconds.
 */
#include "daemon/path/netwatch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/loop.h"
#include "daemon/path/endpoints.h"
#include "shared/util.h"

#define QUIET_MS   250
#define MAX_MS     1000
#define POLL_S     3
#define READ_BYTES 16384

struct netwatch {
	void (*changed)(void *owner);
	void *owner;
	struct loop *loop;
	int fd;
	struct event *readable; /* NULL: polling */
	struct event *timer;
	uint64_t first_ns; /* of the news that wait, 0: none */
	uint32_t digest;
};

static uint32_t digest_text(const char *text)
{
	uint32_t digest = 2166136261u; /* FNV-1a */

	for (; *text; text++)
		digest = (digest ^ (uint8_t)*text) * 16777619u;
	return digest;
}

/* Gateways and links of default routes; a file that is not there has none. */
static uint32_t digest_default_routes(void)
{
	FILE *v4 = fopen("/proc/net/route", "re"), *v6 = fopen("/proc/net/ipv6_route", "re");
	char line[256], link[32], to[40], via[40], text[128];
	unsigned prefix_len;
	uint32_t digest = 0;

	while (v4 && fgets(line, sizeof(line), v4)) {
		if (sscanf(line, "%31s %39s %39s", link, to, via) != 3 || strcmp(to, "00000000"))
			continue;
		snprintf(text, sizeof(text), "%s %s", link, via);
		digest += digest_text(text);
	}
	while (v6 && fgets(line, sizeof(line), v6)) {
		if (sscanf(line, "%39s %x %*s %*s %39s %*s %*s %*s %*s %31s", to, &prefix_len, via,
			   link) != 4 ||
		    prefix_len != 0 || strcmp(link, "lo") == 0)
			continue;
		snprintf(text, sizeof(text), "%s %s", link, via);
		digest += digest_text(text);
	}
	if (v4)
		fclose(v4);
	if (v6)
		fclose(v6);
	return digest;
}

static uint32_t digest_network(void)
{
	struct ip_addr addr[LOCAL_ADDRESSES_MAX];
	int count = local_addresses(addr);
	uint32_t digest = digest_default_routes();

	for (int i = 0; i < count; i++) {
		struct endpoint ep = { addr[i], 0 };

		digest += endpoint_hash(&ep);
	}
	return digest;
}

static void set_timer(struct netwatch *watch, uint64_t ms)
{
	struct timeval tv = { (time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000) };

	event_add(watch->timer, &tv);
}

/* True if any of the messages is a change; news about neighbours and the like do not come. */
static bool is_news(const uint8_t *bytes, size_t len)
{
	for (size_t at = 0; at + sizeof(struct nlmsghdr) <= len;) {
		struct nlmsghdr h;

		memcpy(&h, bytes + at, sizeof(h));
		if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > len - at)
			return true;
		if (h.nlmsg_type != NLMSG_NOOP && h.nlmsg_type != NLMSG_DONE)
			return true;
		at += NLMSG_ALIGN(h.nlmsg_len);
	}
	return false;
}

static void news_came(evutil_socket_t fd, short events, void *arg)
{
	struct netwatch *watch = arg;
	uint8_t bytes[READ_BYTES];
	bool has_news = false;
	uint64_t now_ns = loop_now(watch->loop);

	(void)events;
	for (unsigned i = 0; i < 64; i++) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n < 0 && errno != ENOBUFS)
			break;
		/* ENOBUFS: some were lost, so there were some. */
		has_news |= n < 0 || is_news(bytes, (size_t)n);
	}
	if (!has_news)
		return;
	if (watch->first_ns == 0)
		watch->first_ns = now_ns;
	if (now_ns - watch->first_ns < (MAX_MS - QUIET_MS) * NS_PER_MS)
		set_timer(watch, QUIET_MS);
}

static void timer_fired(evutil_socket_t fd, short events, void *arg)
{
	struct netwatch *watch = arg;
	uint32_t digest;

	(void)fd;
	(void)events;
	watch->first_ns = 0;
	if (!watch->readable)
		set_timer(watch, POLL_S * 1000);
	digest = digest_network();
	if (digest == watch->digest)
		return;
	watch->digest = digest;
	watch->changed(watch->owner);
}

static int open_netlink(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK,
				    .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR |
						 RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
						 RTMGRP_IPV6_ROUTE };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

struct netwatch *netwatch_create(struct loop *loop, void (*changed)(void *owner), void *owner)
{
	struct netwatch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->changed = changed;
	watch->owner = owner;
	watch->loop = loop;
	watch->fd = open_netlink();
	watch->timer = event_new(loop_base(loop), -1, 0, timer_fired, watch);
	if (!watch->timer)
		goto fail;
	watch->digest = digest_network();
	if (watch->fd < 0) {
		set_timer(watch, POLL_S * 1000);
		return watch;
	}
	watch->readable =
		event_new(loop_base(loop), watch->fd, EV_READ | EV_PERSIST, news_came, watch);
	if (watch->readable && event_add(watch->readable, NULL) == 0)
		return watch;
fail:
	netwatch_destroy(watch);
	return NULL;
}

void netwatch_destroy(struct netwatch *watch)
{
	if (!watch)
		return;
	if (watch->readable)
		event_free(watch->readable);
	if (watch->timer)
		event_free(watch->timer);
	if (watch->fd >= 0)
		close(watch->fd);
	free(watch);
}
