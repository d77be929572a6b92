/* The mesh interface in netlink answers: put in once, in the right place, and never past the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include <cmocka.h>

#include "preload/netlink.c"

static struct map *map;

/* preload/primary.c has tests of its own. */
bool primary_source(const struct map *m, const struct ip_addr *to, struct ip_addr *mesh)
{
	struct ip_addr near;
	struct map_own own;

	if (ip_parse("192.0.2.7", &near) < 0 || memcmp(to, &near, sizeof(near)) == 0 ||
	    !map_own(m, !ip_is_v4(to), &own))
		return false;
	*mesh = own.addr;
	return true;
}

static int make_map(void **state)
{
	struct map_directory *d;

	(void)state;
	map = calloc(1, sizeof(*map));
	assert_non_null(map);
	d = &map->dir[0];
	strcpy(d->ifname, "tailscale0");
	d->mtu = 1280;
	d->own_count = 2;
	assert_int_equal(ip_parse("100.64.0.2", &d->own[0].addr), 0);
	d->own[0].prefix_len = 10;
	assert_int_equal(ip_parse("fd7a:115c:a1e0::2", &d->own[1].addr), 0);
	d->own[1].prefix_len = 48;
	return 0;
}

static int free_map(void **state)
{
	(void)state;
	free(map);
	return 0;
}

/* A datagram being written by the test, with room behind it. */
struct datagram {
	_Alignas(struct nlmsghdr) unsigned char data[2048];
	size_t len;
};

static void append(struct datagram *d, const struct entry *e)
{
	memcpy(d->data + d->len, e->bytes, e->len);
	d->len += e->len;
}

static const struct nlmsghdr like = { .nlmsg_flags = NLM_F_MULTI, .nlmsg_seq = 5, .nlmsg_pid = 9 };

static void add_lo_address(struct datagram *d, const char *text)
{
	struct map_own own = { .prefix_len = 8 };
	struct ifaddrmsg *body;
	struct entry e;

	assert_int_equal(ip_parse(text, &own.addr), 0);
	make_address(&e, &own, "lo", &like);
	body = (struct ifaddrmsg *)(e.bytes + NLMSG_HDRLEN);
	body->ifa_index = 1;
	append(d, &e);
}

static void add_done(struct datagram *d, int32_t error)
{
	struct entry e;

	begin(&e, &like, NLMSG_DONE, &error, sizeof(error));
	end(&e);
	append(d, &e);
}

/* So that the kernel says of all there is that it is a part. */
static void mark_filtered(struct datagram *d)
{
	struct nlmsghdr *h;

	for (size_t at = 0; at < d->len; at += NLMSG_ALIGN(h->nlmsg_len)) {
		h = (struct nlmsghdr *)(d->data + at);
		h->nlmsg_flags |= NLM_F_DUMP_FILTERED;
	}
}

static unsigned route_index(const struct nlmsghdr *h)
{
	const unsigned char *index;
	uint32_t value;
	size_t n;

	index = attribute((const unsigned char *)h, h->nlmsg_len, sizeof(struct rtmsg), RTA_OIF,
			  &n);
	assert_non_null(index);
	memcpy(&value, index, sizeof(value));
	return value;
}

/* "A" address of ours, "L" link, "R" route, "a", "l", "r" of others, "D" the end, "E" an error. */
static const char *shape(const struct datagram *d, size_t len)
{
	static char text[64];
	size_t n = 0, at = 0;

	while (at < len) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)(d->data + at);
		const struct ifaddrmsg *address = NLMSG_DATA(h);
		const struct ifinfomsg *link = NLMSG_DATA(h);

		assert_true(h->nlmsg_len >= sizeof(*h) && h->nlmsg_len <= len - at);
		assert_int_equal(h->nlmsg_seq, like.nlmsg_seq);
		assert_int_equal(h->nlmsg_pid, like.nlmsg_pid);
		text[n++] = h->nlmsg_type == RTM_NEWADDR
				    ? (address->ifa_index == MESHIF_INDEX ? 'A' : 'a')
			    : h->nlmsg_type == RTM_NEWLINK
				    ? (link->ifi_index == (int)MESHIF_INDEX ? 'L' : 'l')
			    : h->nlmsg_type == RTM_NEWROUTE
				    ? (route_index(h) == MESHIF_INDEX ? 'R' : 'r')
			    : h->nlmsg_type == NLMSG_DONE ? 'D'
							  : 'E';
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	text[n] = '\0';
	return text;
}

static void test_each_family_follows_that_of_lo(void **state)
{
	struct datagram d = { .len = 0 };
	size_t len;

	(void)state;
	add_lo_address(&d, "127.0.0.1");
	add_lo_address(&d, "10.0.0.1");
	add_lo_address(&d, "::1");
	add_done(&d, 0);
	len = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(shape(&d, len), "aAaaAD");
}

static void test_links_have_it_behind_lo(void **state)
{
	struct datagram d = { .len = 0 };
	struct entry e;
	size_t len;

	(void)state;
	make_link(&e, map, "lo", &like, false);
	((struct ifinfomsg *)(e.bytes + NLMSG_HDRLEN))->ifi_index = 1;
	append(&d, &e);
	((struct ifinfomsg *)(e.bytes + NLMSG_HDRLEN))->ifi_index = 2;
	append(&d, &e);
	len = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(shape(&d, len), "lLl");
}

static void test_the_link_has_counters_as_a_real_one(void **state)
{
	struct datagram d = { .len = 0 };
	const unsigned char *link;
	size_t whole, len, n;
	struct entry e;

	(void)state;
	make_link(&e, map, "lo", &like, false);
	((struct ifinfomsg *)(e.bytes + NLMSG_HDRLEN))->ifi_index = 1;
	append(&d, &e);
	whole = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(shape(&d, whole), "lL");
	link = d.data + d.len;
	assert_non_null(attribute(link, whole - d.len, 16, IFLA_STATS64, &n));
	assert_int_equal(n, sizeof(struct rtnl_link_stats64));
	assert_non_null(attribute(link, whole - d.len, 16, IFLA_STATS, &n));
	assert_int_equal(n, sizeof(struct rtnl_link_stats));
	/* A list with little room shows the link at least. */
	len = netlink_show_mesh(map, d.data, d.len, whole - 1);
	assert_string_equal(shape(&d, len), "lL");
	assert_null(attribute(link, len - d.len, 16, IFLA_STATS64, &n));
	assert_non_null(attribute(link, len - d.len, 16, IFLA_MTU, &n));
}

static void test_without_room_nothing_is_put_in(void **state)
{
	struct datagram d = { .len = 0 };

	(void)state;
	add_lo_address(&d, "127.0.0.1");
	add_done(&d, 0);
	for (size_t more = 0; more < 60; more++)
		assert_int_equal(netlink_show_mesh(map, d.data, d.len, d.len + more), d.len);
	assert_string_equal(shape(&d, d.len), "aD");
	assert_int_equal(netlink_show_mesh(map, d.data, d.len + 1, d.len), d.len + 1);
}

static void test_what_is_of_no_dump_is_left_alone(void **state)
{
	struct datagram d = { .len = 0 };
	struct nlmsghdr *head = (struct nlmsghdr *)d.data;

	(void)state;
	add_lo_address(&d, "127.0.0.1");
	head->nlmsg_flags = 0; /* news: lo has got its address */
	assert_int_equal(netlink_show_mesh(map, d.data, d.len, sizeof(d.data)), d.len);
	d.len = 0;
	add_lo_address(&d, "127.0.0.5");
	assert_int_equal(netlink_show_mesh(map, d.data, d.len, sizeof(d.data)), d.len);
}

static void test_a_question_for_the_link_alone_is_answered(void **state)
{
	struct {
		struct nlmsghdr head;
		int32_t error;
		struct nlmsghdr asked;
		struct ifinfomsg body;
	} refusal = { .head = like, .error = -ENODEV };
	struct datagram d = { .len = sizeof(refusal) };
	size_t len;

	(void)state;
	refusal.head.nlmsg_len = sizeof(refusal);
	refusal.head.nlmsg_type = NLMSG_ERROR;
	refusal.head.nlmsg_flags = 0;
	refusal.asked.nlmsg_len = sizeof(refusal.asked) + sizeof(refusal.body);
	refusal.asked.nlmsg_type = RTM_GETLINK;
	refusal.body.ifi_index = (int)MESHIF_INDEX;
	memcpy(d.data, &refusal, sizeof(refusal));
	len = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(shape(&d, len), "L");
	refusal.body.ifi_index = 77;
	memcpy(d.data, &refusal, sizeof(refusal));
	len = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(shape(&d, len), "E");
}

static void test_a_list_for_it_alone_is_answered(void **state)
{
	struct datagram d = { .len = 0 };
	size_t len;

	(void)state;
	add_done(&d, -ENODEV);
	mark_filtered(&d);
	len = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(shape(&d, len), "AAD");
	d.len = 0;
	add_done(&d, -EPERM);
	mark_filtered(&d);
	assert_int_equal(netlink_show_mesh(map, d.data, d.len, sizeof(d.data)), d.len);
	/* Without the flag it was one of routes, by an interface that is not there. */
	d.len = 0;
	add_done(&d, -ENODEV);
	assert_int_equal(netlink_show_mesh(map, d.data, d.len, sizeof(d.data)), d.len);
}

static int32_t done_error(const struct datagram *d)
{
	int32_t error;

	memcpy(&error, d->data + NLMSG_HDRLEN, sizeof(error));
	return error;
}

static void test_a_refused_list_stays_so_without_room(void **state)
{
	struct datagram d = { .len = 0 };

	(void)state;
	add_done(&d, -ENODEV);
	mark_filtered(&d);
	assert_int_equal(netlink_show_mesh(map, d.data, d.len, d.len + 20), d.len);
	assert_int_equal(done_error(&d), -ENODEV);
}

/* A route by another interface; by lo if the address is lo's own. */
static void add_route(struct datagram *d, const char *text, unsigned prefix_len)
{
	bool is_lo = strcmp(text, "127.0.0.1") == 0 || strcmp(text, "::1") == 0;
	uint32_t index = is_lo ? 1 : 2;
	struct ip_addr to;
	struct rtmsg *body;
	struct entry e;

	assert_int_equal(ip_parse(text, &to), 0);
	make_route(&e, &to, prefix_len, NULL, &like);
	memcpy(e.bytes + e.len - sizeof(index), &index, sizeof(index));
	body = (struct rtmsg *)(e.bytes + NLMSG_HDRLEN);
	body->rtm_table = is_lo ? RT_TABLE_LOCAL : RT_TABLE_MAIN;
	body->rtm_type = is_lo ? RTN_LOCAL : RTN_UNICAST;
	append(d, &e);
}

/* "100.64.0.0/10 ...": where the routes of ours lead. */
static const char *routes(const struct datagram *d, size_t len)
{
	static char text[256];
	size_t n, used = 0;

	text[0] = '\0';
	for (size_t at = 0; at < len;) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)(d->data + at);
		const struct rtmsg *body = NLMSG_DATA(h);
		char to[INET6_ADDRSTRLEN];

		at += NLMSG_ALIGN(h->nlmsg_len);
		if (h->nlmsg_type != RTM_NEWROUTE || route_index(h) != MESHIF_INDEX)
			continue;
		inet_ntop(body->rtm_family,
			  attribute((const unsigned char *)h, h->nlmsg_len, sizeof(*body), RTA_DST,
				    &n),
			  to, sizeof(to));
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s/%u",
					 used ? " " : "", to, body->rtm_dst_len);
	}
	return text;
}

static void test_a_list_of_all_routes_has_those_to_the_mesh(void **state)
{
	struct datagram d = { .len = 0 };
	size_t len;

	(void)state;
	add_route(&d, "10.0.0.0", 8);
	add_route(&d, "127.0.0.1", 32);
	add_route(&d, "127.0.0.0", 8);
	add_route(&d, "::1", 128);
	add_done(&d, 0);
	assert_true(netlink_is_list(d.data, d.len));
	len = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(shape(&d, len), "rrRrrRD");
	assert_string_equal(routes(&d, len), "100.64.0.0/10 fd7a:115c:a1e0::/48");
}

static void test_a_list_of_one_table_of_routes_is_left_alone(void **state)
{
	struct datagram d = { .len = 0 };

	(void)state;
	add_route(&d, "0.0.0.0", 0);
	add_route(&d, "10.0.0.0", 8);
	add_done(&d, 0);
	assert_int_equal(netlink_show_mesh(map, d.data, d.len, sizeof(d.data)), d.len);
}

static void test_a_list_of_los_addresses_alone_is_left_alone(void **state)
{
	struct datagram d = { .len = 0 };

	(void)state;
	add_lo_address(&d, "127.0.0.1");
	add_lo_address(&d, "::1");
	add_done(&d, 0);
	mark_filtered(&d);
	assert_int_equal(netlink_show_mesh(map, d.data, d.len, sizeof(d.data)), d.len);
	assert_string_equal(shape(&d, d.len), "aaD");
}

/* The kernel says so of all routes when any are asked for in the strict way. */
static void test_routes_that_are_said_to_be_filtered_may_be_all(void **state)
{
	struct datagram d = { .len = 0 };
	size_t len;

	(void)state;
	add_route(&d, "127.0.0.1", 32);
	add_done(&d, 0);
	mark_filtered(&d);
	len = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(shape(&d, len), "rRD");
}

static void test_an_address_without_a_network_has_routes_to_the_peers(void **state)
{
	struct map_directory *dir = &map->dir[0];
	struct datagram d = { .len = 0 };
	size_t len;

	(void)state;
	dir->own[0].prefix_len = 32;
	dir->range_count = 3;
	assert_int_equal(ip_parse("100.64.0.3", &dir->ranges[0].first), 0);
	assert_int_equal(ip_parse("100.64.0.6", &dir->ranges[0].last), 0);
	dir->ranges[0].mirror = 0x7f400003;
	assert_int_equal(ip_parse("100.65.0.0", &dir->ranges[1].first), 0); /* nobody's */
	assert_int_equal(ip_parse("100.65.255.255", &dir->ranges[1].last), 0);
	assert_int_equal(ip_parse("fd7a:115c:a1e0::3", &dir->ranges[2].first), 0);
	dir->ranges[2].last = dir->ranges[2].first;
	dir->ranges[2].mirror = 0x7f800003;
	add_route(&d, "127.0.0.1", 32);
	add_done(&d, 0);
	len = netlink_show_mesh(map, d.data, d.len, sizeof(d.data));
	assert_string_equal(routes(&d, len),
			    "100.64.0.2/32 100.64.0.3/32 100.64.0.4/31 100.64.0.6/32");
	/* What there is no room for is left out, and nothing is cut. */
	d.len = 0;
	add_route(&d, "127.0.0.1", 32);
	add_done(&d, 0);
	len = netlink_show_mesh(map, d.data, d.len, d.len + 130);
	assert_string_equal(shape(&d, len), "rRRD");
	dir->own[0].prefix_len = 10;
	dir->range_count = 0;
}

/* The kernel's answer to the question for the route to one address, by interface 2. */
static void add_answer(struct datagram *d, const char *to, const char *source, uint32_t flags)
{
	const struct nlmsghdr one = { .nlmsg_seq = 5, .nlmsg_pid = 9 };
	struct map_own own = { .prefix_len = 0 };
	uint32_t index = 2;
	struct ip_addr far;
	struct rtmsg *body;
	struct entry e;

	assert_int_equal(ip_parse(to, &far), 0);
	assert_int_equal(ip_parse(source, &own.addr), 0);
	make_route(&e, &far, ip_is_v4(&far) ? 32 : 128, &own, &one);
	memcpy(e.bytes + e.len - sizeof(index), &index, sizeof(index));
	body = (struct rtmsg *)(e.bytes + NLMSG_HDRLEN);
	body->rtm_flags = flags;
	append(d, &e);
}

/* "10.0.0.1 2": the source that the one answer says, and its interface. */
static const char *answer(const char *to, const char *source, uint32_t flags)
{
	static char text[80];
	struct datagram d = { .len = 0 };
	const struct nlmsghdr *h = (const struct nlmsghdr *)d.data;
	const unsigned char *shown;
	size_t len, n = 0;

	add_answer(&d, to, source, flags);
	len = netlink_show_mesh(map, d.data, d.len, d.len);
	assert_int_equal(len, h->nlmsg_len);
	shown = attribute(d.data, len, sizeof(struct rtmsg), RTA_PREFSRC, &n);
	assert_non_null(shown);
	inet_ntop(n == 4 ? AF_INET : AF_INET6, shown, text, sizeof(text));
	snprintf(text + strlen(text), 12, " %u", route_index(h));
	return text;
}

static void test_the_route_to_one_address(void **state)
{
	struct map_directory *dir = &map->dir[0];
	char ours[16];

	(void)state;
	snprintf(ours, sizeof(ours), " %u", MESHIF_INDEX);
	assert_string_equal(answer("8.8.8.8", "10.0.0.5", RTM_F_CLONED), "100.64.0.2 2");
	assert_string_equal(answer("2001:db8::8", "2001:db8::5", 0), "fd7a:115c:a1e0::2 2");
	assert_string_equal(answer("192.0.2.7", "10.0.0.5", RTM_F_CLONED), "10.0.0.5 2");
	/* News of a route, and a route that was looked for by RTM_F_FIB_MATCH. */
	assert_string_equal(answer("8.8.8.8", "10.0.0.5", 0), "10.0.0.5 2");
	dir->range_count = 1;
	assert_int_equal(ip_parse("100.64.0.3", &dir->ranges[0].first), 0);
	dir->ranges[0].last = dir->ranges[0].first;
	dir->ranges[0].mirror = 0x7f400003;
	assert_string_equal(strchr(answer("100.64.0.3", "10.0.0.5", RTM_F_CLONED), ' '), ours);
	dir->range_count = 0;
}

static void test_garbage_stays_within_its_buffer(void **state)
{
	struct datagram d;
	unsigned char *exact;
	size_t len, room;

	(void)state;
	srand(1);
	for (int i = 0; i < 100000; i++) {
		d.len = 0;
		add_lo_address(&d, rand() % 2 ? "127.0.0.1" : "::1");
		add_route(&d, "127.0.0.1", 32);
		add_done(&d, rand() % 2 ? -ENODEV : 0);
		for (int k = rand() % 4; k > 0; k--)
			d.data[(size_t)rand() % d.len] = (unsigned char)rand();
		len = (size_t)rand() % (d.len + 1);
		room = len + (size_t)rand() % 300;
		exact = malloc(room ? room : 1);
		assert_non_null(exact);
		memcpy(exact, d.data, len);
		netlink_is_list(exact, len);
		assert_in_range(netlink_show_mesh(map, exact, len, room), 0, room);
		free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_family_follows_that_of_lo),
		cmocka_unit_test(test_links_have_it_behind_lo),
		cmocka_unit_test(test_the_link_has_counters_as_a_real_one),
		cmocka_unit_test(test_without_room_nothing_is_put_in),
		cmocka_unit_test(test_what_is_of_no_dump_is_left_alone),
		cmocka_unit_test(test_a_question_for_the_link_alone_is_answered),
		cmocka_unit_test(test_a_list_for_it_alone_is_answered),
		cmocka_unit_test(test_a_refused_list_stays_so_without_room),
		cmocka_unit_test(test_a_list_of_all_routes_has_those_to_the_mesh),
		cmocka_unit_test(test_a_list_of_one_table_of_routes_is_left_alone),
		cmocka_unit_test(test_a_list_of_los_addresses_alone_is_left_alone),
		cmocka_unit_test(test_routes_that_are_said_to_be_filtered_may_be_all),
		cmocka_unit_test(test_an_address_without_a_network_has_routes_to_the_peers),
		cmocka_unit_test(test_the_route_to_one_address),
		cmocka_unit_test(test_garbage_stays_within_its_buffer),
	};

	return cmocka_run_group_tests(tests, make_map, free_map);
}
