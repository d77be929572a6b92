/* resolv.conf: what it says, and its changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "daemon/dns/dns.h"
#include "daemon/dns/system.h"
#include "daemon/loop.h"

static struct loop *loop;
static char folder[] = "/tmp/resolver-XXXXXX";
static bool is_seen;

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_resolv_conf_is_read_leniently(void **state)
{
	struct ip_addr s[DNS_SERVERS_MAX];

	(void)state;
	assert_int_equal(dns_system_parse("", s), 1);
	assert_int_equal(ip_v4(&s[0]), 0x7f000001);
	assert_int_equal(
		dns_system_parse("search x\n# nameserver 1.1.1.1\n nameserver\t10.0.0.2 \r\n"
				 "nameserver 10.0.0.2\nnameserver fe80::1%eth0\n"
				 "nameservers 9.9.9.9\nnameserver fd00::53",
				 s),
		2);
	assert_int_equal(ip_v4(&s[0]), 0x0a000002);
}

static void put_file(const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	write_file(path, text);
}

static void somebody_writes(evutil_socket_t fd, short events, void *arg)
{
	unsigned *left = arg;

	(void)fd;
	(void)events;
	put_file("neighbour", "busy\n");
	if (is_seen || --*left == 0)
		event_base_loopbreak(loop_base(loop));
}

static void seen(void *owner)
{
	(void)owner;
	is_seen = true;
}

static void test_a_busy_folder_does_not_hide_a_change_of_resolv_conf(void **state)
{
	const struct timeval tick = { 0, 10 * 1000 };
	const struct ip_addr *servers;
	struct dns_system *system;
	struct event *ticking;
	unsigned left = 2000;
	char path[64];

	(void)state;
	assert_non_null(mkdtemp(folder));
	put_file("resolv.conf", "nameserver 10.0.0.2\n");
	snprintf(path, sizeof(path), "%s/resolv.conf", folder);
	loop = loop_create(&(struct loop_hooks){ 0 });
	system = dns_system_create(loop, path, seen, NULL);
	ticking = event_new(loop_base(loop), -1, EV_PERSIST, somebody_writes, &left);
	assert_true(loop && system && ticking && event_add(ticking, &tick) == 0);
	put_file("resolv.conf", "nameserver 10.0.0.3\n");
	event_base_dispatch(loop_base(loop));
	assert_true(is_seen);
	assert_int_equal(dns_system_servers(system, &servers), 1);
	assert_int_equal(ip_v4(&servers[0]), 0x0a000003);
	event_free(ticking);
	dns_system_destroy(system);
	loop_destroy(loop);
	unlink(path);
	snprintf(path, sizeof(path), "%s/neighbour", folder);
	unlink(path);
	rmdir(folder);
}

/* As on systems whose resolv.conf leads into another folder, while the service there restarts. */
static void test_a_resolv_conf_that_was_gone_for_a_while_is_seen_again(void **state)
{
	char template[] = "/tmp/resolver-XXXXXX", link_path[64], path[64];
	const struct timeval soon = { 0, 300 * 1000 }, late = { 15, 0 };
	const struct ip_addr *servers;
	struct dns_system *system;

	(void)state;
	assert_non_null(mkdtemp(template));
	snprintf(link_path, sizeof(link_path), "%s/resolv.conf", template);
	snprintf(path, sizeof(path), "%s/run", template);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/run/stub.conf", template);
	assert_int_equal(symlink("run/stub.conf", link_path), 0);
	write_file(path, "nameserver 10.0.0.2\n");
	is_seen = false;
	loop = loop_create(&(struct loop_hooks){ 0 });
	system = dns_system_create(loop, link_path, seen, NULL);
	assert_non_null(system);
	unlink(path);
	event_base_loopexit(loop_base(loop), &soon);
	event_base_dispatch(loop_base(loop));
	assert_int_equal(dns_system_servers(system, &servers), 1);
	assert_int_equal(ip_v4(&servers[0]), 0x0a000002); /* better than none */
	write_file(path, "nameserver 10.0.0.3\n");
	event_base_loopexit(loop_base(loop), &late);
	do
		event_base_loop(loop_base(loop), EVLOOP_ONCE);
	while (!is_seen && !event_base_got_exit(loop_base(loop)));
	assert_true(is_seen);
	assert_int_equal(dns_system_servers(system, &servers), 1);
	assert_int_equal(ip_v4(&servers[0]), 0x0a000003);
	dns_system_destroy(system);
	loop_destroy(loop);
	unlink(path);
	unlink(link_path);
	snprintf(path, sizeof(path), "%s/run", template);
	rmdir(path);
	rmdir(template);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resolv_conf_is_read_leniently),
		cmocka_unit_test(test_a_busy_folder_does_not_hide_a_change_of_resolv_conf),
		cmocka_unit_test(test_a_resolv_conf_that_was_gone_for_a_while_is_seen_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
