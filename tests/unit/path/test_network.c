/*
 * Own addresses and the watch on them. The kernel's lists are made up; the watch
 * runs in a network namespace of its own where that is allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int getifaddrs_error, socket_error;
static struct ifaddrs list[16];
static struct sockaddr_storage addresses[16];
static unsigned listed;

static int fake_getifaddrs(struct ifaddrs **out)
{
	errno = getifaddrs_error;
	*out = listed ? list : NULL;
	return getifaddrs_error ? -1 : 0;
}

static void fake_freeifaddrs(struct ifaddrs *none)
{
	(void)none;
}

static int fake_socket(int family, int type, int protocol)
{
	if (socket_error) {
		errno = socket_error;
		return -1;
	}
	return socket(family, type, protocol);
}

#define getifaddrs  fake_getifaddrs
#define freeifaddrs fake_freeifaddrs
#include "daemon/path/endpoints.c"
#undef getifaddrs
#undef freeifaddrs
#define socket fake_socket
#include "daemon/path/netwatch.c"
#undef socket

static void add(const char *text, unsigned flags)
{
	struct endpoint ep = { .port = 0 };

	assert_int_equal(ip_parse(text, &ep.addr), 0);
	endpoint_to_sockaddr(&ep, ip_is_v4(&ep.addr) ? AF_INET : AF_INET6, &addresses[listed]);
	list[listed] = (struct ifaddrs){ .ifa_flags = flags,
					 .ifa_addr = (struct sockaddr *)&addresses[listed] };
	if (listed > 0)
		list[listed - 1].ifa_next = &list[listed];
	listed++;
}

static int reset(void **state)
{
	(void)state;
	listed = 0;
	getifaddrs_error = socket_error = 0;
	memset(list, 0, sizeof(list));
	return 0;
}

static void test_only_addresses_that_peers_could_use_are_told(void **state)
{
	struct ip_addr out[LOCAL_ADDRESSES_MAX];
	struct ip_addr want;

	(void)state;
	add("127.0.0.1", IFF_UP);
	add("192.168.1.2", IFF_UP);
	add("192.168.1.2", IFF_UP);
	add("10.0.0.1", 0); /* down */
	add("100.64.0.7", IFF_UP);
	add("169.254.3.4", IFF_UP);
	add("fe80::1", IFF_UP);
	add("fd7a:115c:a1e0::7", IFF_UP);
	add("2001:db8::7", IFF_UP);
	list[listed - 1].ifa_next = &list[listed];
	list[listed++] = (struct ifaddrs){ .ifa_flags = IFF_UP }; /* without address */
	assert_int_equal(local_addresses(out), 2);
	assert_int_equal(ip_parse("192.168.1.2", &want), 0);
	assert_true(ip_equal(&out[0], &want));
	assert_int_equal(ip_parse("2001:db8::7", &want), 0);
	assert_true(ip_equal(&out[1], &want));
}

static void test_loopback_is_told_when_there_is_nothing_else(void **state)
{
	struct ip_addr out[LOCAL_ADDRESSES_MAX];

	(void)state;
	add("127.0.0.1", IFF_UP);
	add("100.100.1.1", IFF_UP);
	assert_int_equal(local_addresses(out), 1);
	assert_true(ip_is_loopback(&out[0]));
	getifaddrs_error = EMFILE;
	assert_int_equal(local_addresses(out), -EMFILE);
}

struct watcher {
	struct loop *loop;
	struct netwatch *watch;
	unsigned changes;
	uint64_t until_ns;
};

static void on_change(void *owner)
{
	struct watcher *w = owner;

	w->changes++;
	loop_stop(w->loop);
}

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	struct watcher *w = owner;

	if (now_ns >= w->until_ns)
		loop_stop(w->loop);
	return w->until_ns;
}

static void start(struct watcher *w)
{
	struct loop_hooks hooks = { round_end, w };

	memset(w, 0, sizeof(*w));
	w->loop = loop_create(&hooks);
	assert_non_null(w->loop);
	w->watch = netwatch_create(w->loop, on_change, w);
	assert_non_null(w->watch);
	w->until_ns = loop_now(w->loop) + 20 * NS_PER_S;
}

static void finish(struct watcher *w)
{
	netwatch_destroy(w->watch);
	loop_destroy(w->loop);
}

static void test_a_link_that_comes_up_is_news(void **state)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	struct watcher w;
	int fd;

	(void)state;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 && unshare(CLONE_NEWNET) < 0)
		skip();
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	start(&w);
	assert_non_null(w.watch->readable);
	timer_fired(-1, 0, w.watch);
	assert_int_equal(w.changes, 0); /* news of nothing */
	add("192.168.1.2", IFF_UP);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	assert_int_equal(loop_run(w.loop), 0);
	assert_int_equal(w.changes, 1); /* the many news of it are one */
	finish(&w);
	close(fd);
}

static void test_without_netlink_the_addresses_are_compared(void **state)
{
	struct watcher w;

	(void)state;
	socket_error = EPERM;
	add("192.168.1.2", IFF_UP);
	start(&w);
	assert_null(w.watch->readable);
	timer_fired(-1, 0, w.watch);
	assert_int_equal(w.changes, 0);
	add("192.168.1.3", IFF_UP);
	timer_fired(-1, 0, w.watch);
	assert_int_equal(w.changes, 1);
	timer_fired(-1, 0, w.watch);
	assert_int_equal(w.changes, 1);
	finish(&w);
}

static void test_odd_netlink_bytes_count_as_news(void **state)
{
	struct nlmsghdr h = { .nlmsg_len = sizeof(h), .nlmsg_type = NLMSG_NOOP };
	uint8_t bytes[sizeof(h)];

	(void)state;
	memcpy(bytes, &h, sizeof(h));
	assert_false(is_news(bytes, sizeof(bytes)));
	h.nlmsg_len = 4000;
	memcpy(bytes, &h, sizeof(h));
	assert_true(is_news(bytes, sizeof(bytes)));
	h.nlmsg_len = 0;
	memcpy(bytes, &h, sizeof(h));
	assert_true(is_news(bytes, sizeof(bytes)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_only_addresses_that_peers_could_use_are_told, reset),
		cmocka_unit_test_setup(test_loopback_is_told_when_there_is_nothing_else, reset),
		cmocka_unit_test_setup(test_without_netlink_the_addresses_are_compared, reset),
		cmocka_unit_test_setup(test_odd_netlink_bytes_count_as_news, reset),
		cmocka_unit_test_setup(test_a_link_that_comes_up_is_news, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
