/* Mesh names and the mesh interface, as the resolver and interface calls tell them. */
#include "tests/shim/harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#ifndef NETDB_INTERNAL
#define NETDB_INTERNAL (-1)
#endif

/* "v4 v6 ..." as getaddrinfo gives them for streams, or the error. */
static const char *look_up(const char *name, int family, int flags)
{
	struct addrinfo hints = { .ai_family = family,
				  .ai_flags = flags,
				  .ai_socktype = SOCK_STREAM };
	static char text[256];
	struct addrinfo *list;
	int err = getaddrinfo(name, "http", &hints, &list);
	size_t len = 0;

	if (err)
		return gai_strerror(err);
	*text = '\0';
	for (struct addrinfo *a = list; a; a = a->ai_next) {
		assert_int_equal(a->ai_socktype, SOCK_STREAM);
		assert_int_equal(a->ai_protocol, IPPROTO_TCP);
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len ? " " : "",
					sockaddr_text(a->ai_addr, a->ai_addrlen));
	}
	freeaddrinfo(list);
	return text;
}

static void test_getaddrinfo_answers_both_families(void **state)
{
	(void)state;
	assert_string_equal(look_up("node-b", AF_UNSPEC, 0), PEER_V4 ":80 " PEER_V6 ":80");
	assert_string_equal(look_up("NODE-B.Mesh.", AF_INET, 0), PEER_V4 ":80");
	assert_string_equal(look_up("node-b", AF_INET6, 0), PEER_V6 ":80");
	assert_string_equal(look_up("node-a", AF_INET, AI_ADDRCONFIG), SELF_V4 ":80");
	assert_string_equal(look_up("node-d", AF_UNSPEC, AI_ADDRCONFIG), NODE_D_V6 ":80");
}

static void test_getaddrinfo_maps_ipv4_as_asked(void **state)
{
	(void)state;
	assert_string_equal(look_up("node-c", AF_INET6, AI_V4MAPPED), "mapped:" NODE_C_V4 ":80");
	assert_string_equal(look_up("node-b", AF_INET6, AI_V4MAPPED), PEER_V6 ":80");
	assert_string_equal(look_up("node-b", AF_INET6, AI_V4MAPPED | AI_ALL),
			    PEER_V6 ":80 mapped:" PEER_V4 ":80");
}

/* The answers of libc itself for a number, which differ between libcs; or its error. */
static int count_answers(const char *name, const struct addrinfo *hints)
{
	struct addrinfo *list;
	int err = getaddrinfo(name, NULL, hints, &list), n = 0;

	if (err)
		return err;
	for (struct addrinfo *a = list; a; a = a->ai_next)
		n++;
	freeaddrinfo(list);
	return n;
}

static void test_getaddrinfo_errors_are_libcs(void **state)
{
	struct addrinfo hints = { .ai_family = AF_INET }, *list;

	(void)state;
	assert_string_equal(look_up("node-c", AF_INET6, 0), gai_strerror(-5 /* EAI_NODATA */));
	assert_int_equal(getaddrinfo("node-b", "no-such-service", &hints, &list), EAI_SERVICE);
	assert_string_equal(look_up("node-x.mesh", AF_UNSPEC, 0), gai_strerror(EAI_NONAME));
	assert_string_equal(look_up("node-b", AF_INET, AI_NUMERICHOST), gai_strerror(EAI_NONAME));
	hints.ai_flags = 1 << 30;
	assert_int_equal(getaddrinfo("node-b", NULL, &hints, &list), EAI_BADFLAGS);
	hints = (struct addrinfo){ .ai_family = AF_INET, .ai_socktype = 77 };
	assert_int_equal(count_answers("node-b", &hints), count_answers("127.0.0.1", &hints));
}

static void test_getaddrinfo_leaves_other_names_alone(void **state)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *list;

	(void)state;
	assert_string_equal(look_up("127.0.0.5", AF_INET, 0), "127.0.0.5:80");
	assert_string_equal(look_up(PEER_V4, AF_INET, 0), PEER_V4 ":80");
	assert_string_equal(look_up("localhost", AF_INET, 0), "127.0.0.1:80");
	assert_int_equal(getaddrinfo(NULL, "80", &hints, &list), 0);
	freeaddrinfo(list);
}

static void test_getaddrinfo_without_hints_gives_every_socket_type(void **state)
{
	(void)state;
	assert_true(count_answers("127.0.0.1", NULL) >= 2); /* stream, datagram, with glibc raw */
	assert_int_equal(count_answers("node-b", NULL), 2 * count_answers("127.0.0.1", NULL));
}

static int flags_of(const char *name, const struct addrinfo *hints)
{
	struct addrinfo *list;
	int flags;

	assert_int_equal(getaddrinfo(name, NULL, hints, &list), 0);
	flags = list->ai_flags;
	freeaddrinfo(list);
	return flags;
}

/* Some take what they are given for the hints of their next question. */
static void test_getaddrinfo_gives_back_the_flags_that_libc_would(void **state)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE };

	(void)state;
	assert_int_equal(flags_of("node-b", NULL), flags_of("127.0.0.1", NULL));
	assert_int_equal(flags_of("node-b", &hints), flags_of("127.0.0.1", &hints));
}

static void test_getaddrinfo_gives_the_full_name_when_asked(void **state)
{
	struct addrinfo hints = { .ai_flags = AI_CANONNAME }, *list;

	(void)state;
	assert_int_equal(getaddrinfo("node-b", NULL, &hints, &list), 0);
	assert_string_equal(list->ai_canonname, "node-b.mesh");
	assert_null(list->ai_next->ai_canonname);
	freeaddrinfo(list);
}

static void test_getnameinfo_names_mesh_addresses(void **state)
{
	struct harness_addr b = at(AF_INET, PEER_V4, 80), d = at(AF_INET6, PEER_V6, 80);
	struct harness_addr none = at(AF_INET, "100.64.9.9", 80);
	char host[64], service[16];

	(void)state;
	assert_int_equal(getnameinfo(sa(&b), b.len, host, 64, service, 16, 0), 0);
	assert_string_equal(host, "node-b.mesh");
	assert_string_equal(service, "http");
	assert_int_equal(getnameinfo(sa(&d), d.len, host, 64, NULL, 0, NI_NAMEREQD), 0);
	assert_string_equal(host, "node-b.mesh");
	assert_int_equal(
		getnameinfo(sa(&b), b.len, host, 64, service, 16, NI_NUMERICHOST | NI_NUMERICSERV),
		0);
	assert_string_equal(host, PEER_V4);
	assert_int_equal(getnameinfo(sa(&b), b.len, host, 5, NULL, 0, 0), EAI_OVERFLOW);
	assert_int_equal(getnameinfo(sa(&none), none.len, host, 64, NULL, 0, 0), 0);
	assert_string_equal(host, "100.64.9.9");
	assert_int_equal(getnameinfo(sa(&none), none.len, host, 64, NULL, 0, NI_NAMEREQD),
			 EAI_NONAME);
}

static void test_gethostbyname_family(void **state)
{
	struct hostent entry, *found;
	char buf[512], text[INET6_ADDRSTRLEN];
	int error;

	(void)state;
	found = gethostbyname("node-b");
	assert_non_null(found);
	assert_string_equal(found->h_name, "node-b.mesh");
	assert_string_equal(inet_ntop(AF_INET, found->h_addr_list[0], text, sizeof(text)), PEER_V4);
	found = gethostbyname2("node-b", AF_INET6);
	assert_non_null(found);
	assert_string_equal(inet_ntop(AF_INET6, found->h_addr_list[0], text, sizeof(text)),
			    PEER_V6);
	assert_null(gethostbyname2("node-c", AF_INET6));
	assert_int_equal(h_errno, NO_DATA);
	assert_null(gethostbyname("node-x.MESH."));
	assert_int_equal(h_errno, HOST_NOT_FOUND);
	assert_int_equal(gethostbyname_r("node-b", &entry, buf + 1, 511, &found, &error), 0);
	assert_ptr_equal(found, &entry);
	assert_int_equal(entry.h_length, 4);
	assert_int_equal(gethostbyname_r("node-b", &entry, buf, 20, &found, &error), ERANGE);
	assert_null(found);
	assert_int_equal(error, NETDB_INTERNAL);
	assert_int_equal(gethostbyname2_r("node-b", AF_INET6, &entry, buf, 512, &found, &error), 0);
	assert_int_equal(entry.h_length, 16);
	found = gethostbyname("localhost");
	assert_non_null(found);
}

static void test_gethostbyaddr_family(void **state)
{
	struct hostent entry, *found;
	unsigned char v4[4], v6[16], none[4] = { 100, 64, 9, 9 }, lo[4] = { 127, 0, 0, 1 };
	char buf[512];
	int error;

	(void)state;
	inet_pton(AF_INET, PEER_V4, v4);
	inet_pton(AF_INET6, PEER_V6, v6);
	found = gethostbyaddr(v4, 4, AF_INET);
	assert_non_null(found);
	assert_string_equal(found->h_name, "node-b.mesh");
	assert_int_equal(gethostbyaddr_r(v6, 16, AF_INET6, &entry, buf, 512, &found, &error), 0);
	assert_string_equal(entry.h_name, "node-b.mesh");
	assert_null(gethostbyaddr(none, 4, AF_INET));
	assert_int_equal(h_errno, HOST_NOT_FOUND);
	assert_non_null(gethostbyaddr(lo, 4, AF_INET));
}

static void test_getifaddrs_shows_the_mesh_interface_once(void **state)
{
	struct ifaddrs *list;
	int v4 = 0, v6 = 0;
	char text[INET6_ADDRSTRLEN];

	(void)state;
	assert_int_equal(getifaddrs(&list), 0);
	for (struct ifaddrs *i = list; i; i = i->ifa_next) {
		if (strcmp(i->ifa_name, "tailscale0") != 0 || !i->ifa_addr)
			continue;
		assert_int_equal(i->ifa_flags & (IFF_UP | IFF_RUNNING | IFF_LOOPBACK),
				 IFF_UP | IFF_RUNNING);
		if (i->ifa_addr->sa_family == AF_INET) {
			v4++;
			assert_string_equal(sockaddr_text(i->ifa_addr, 16), SELF_V4 ":0");
			inet_ntop(AF_INET, &((struct sockaddr_in *)i->ifa_netmask)->sin_addr, text,
				  sizeof(text));
			assert_string_equal(text, "255.192.0.0");
		} else {
			v6++;
			assert_string_equal(sockaddr_text(i->ifa_addr, 28), SELF_V6 ":0");
			inet_ntop(AF_INET6, &((struct sockaddr_in6 *)i->ifa_netmask)->sin6_addr,
				  text, sizeof(text));
			assert_string_equal(text, "ffff:ffff:ffff::");
		}
	}
	assert_int_equal(v4, 1);
	assert_int_equal(v6, 1);
	freeifaddrs(list);
	freeifaddrs(NULL);
}

static void test_the_interface_has_an_index(void **state)
{
	unsigned index = if_nametoindex("tailscale0");
	struct if_nameindex *list = if_nameindex();
	char name[IF_NAMESIZE];
	int found = 0;

	(void)state;
	assert_true(index > 0);
	assert_ptr_equal(if_indextoname(index, name), name);
	assert_string_equal(name, "tailscale0");
	assert_int_equal(if_nametoindex("lo"), 1);
	assert_int_equal(if_nametoindex("no-such-if"), 0);
	assert_int_equal(errno, ENODEV);
	assert_non_null(list);
	for (struct if_nameindex *i = list; i->if_index; i++)
		if (strcmp(i->if_name, "tailscale0") == 0) {
			assert_int_equal(i->if_index, index);
			found++;
		}
	assert_int_equal(found, 1);
	if_freenameindex(list);
}

static int is_no_mesh(const struct dirent *entry)
{
	return strcmp(entry->d_name, "tailscale0") != 0;
}

static int backwards(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*b)->d_name, (*a)->d_name);
}

/* How often the mesh interface is among the names, all of which are in their order. */
static int count_listed(const char *path, int (*filter)(const struct dirent *),
			int (*order)(const struct dirent **, const struct dirent **))
{
	struct dirent **list;
	int n = scandir(path, &list, filter, order), found = 0;

	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		if (i && order)
			assert_true(order((const struct dirent **)&list[i - 1],
					  (const struct dirent **)&list[i]) <= 0);
		if (!is_no_mesh(list[i])) {
			assert_int_equal(list[i]->d_type, DT_LNK);
			found++;
		}
	}
	for (int i = 0; i < n; i++)
		free(list[i]);
	free(list);
	return found;
}

static void test_the_interface_is_among_the_files_that_stand_for_them(void **state)
{
	(void)state;
	assert_int_equal(count_listed("/sys/class/net", NULL, alphasort), 1);
	assert_int_equal(count_listed("/sys/class/net", NULL, backwards), 1);
	assert_int_equal(count_listed("/sys/class/net/", NULL, NULL), 1);
	assert_int_equal(count_listed("/sys/class/net", is_no_mesh, alphasort), 0);
	assert_int_equal(count_listed("/sys/class/net/lo", NULL, alphasort), 0);
	assert_int_equal(count_listed("/sys/class", NULL, alphasort), 0);
}

/* One list, each part of it as long as was told before; how often the mesh interface is there. */
static int count_by_netlink(uint16_t type, int family)
{
	struct {
		struct nlmsghdr head;
		struct rtmsg body; /* the longest of those that are asked with */
	} ask = { .head = { sizeof(ask), type, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 } };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), found = 0;
	bool is_done = false;

	assert_true(fd >= 0);
	ask.body.rtm_family = (unsigned char)family;
	assert_int_equal(send(fd, &ask, sizeof(ask), 0), sizeof(ask));
	while (!is_done) {
		ssize_t told = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC), n;
		struct nlmsghdr *h = malloc((size_t)told + 1000);

		assert_non_null(h);
		n = recv(fd, h, (size_t)told, 0);
		assert_int_equal(n, told);
		for (struct nlmsghdr *at = h; NLMSG_OK(at, n); at = NLMSG_NEXT(at, n)) {
			struct rtattr *a = RTM_RTA(NLMSG_DATA(at));
			int left = (int)RTM_PAYLOAD(at);
			uint32_t index = 0;

			is_done |= at->nlmsg_type == NLMSG_DONE;
			if (at->nlmsg_type == RTM_NEWLINK)
				index = (uint32_t)((struct ifinfomsg *)NLMSG_DATA(at))->ifi_index;
			else if (at->nlmsg_type == RTM_NEWADDR)
				index = ((struct ifaddrmsg *)NLMSG_DATA(at))->ifa_index;
			for (; at->nlmsg_type == RTM_NEWROUTE && RTA_OK(a, left);
			     a = RTA_NEXT(a, left))
				if (a->rta_type == RTA_OIF)
					memcpy(&index, RTA_DATA(a), sizeof(index));
			found += index == if_nametoindex("tailscale0");
		}
		free(h);
	}
	close(fd);
	return found;
}

static void test_a_list_by_netlink_is_as_long_as_was_told(void **state)
{
	(void)state;
	assert_int_equal(count_by_netlink(RTM_GETLINK, AF_UNSPEC), 1);
	assert_int_equal(count_by_netlink(RTM_GETADDR, AF_INET), 1);
	assert_int_equal(count_by_netlink(RTM_GETROUTE, AF_INET), 1);
	/* None of the mesh is in these, and they have their own length, too. */
	assert_int_equal(count_by_netlink(RTM_GETNEIGH, AF_INET), 0);
	assert_int_equal(count_by_netlink(RTM_GETRULE, AF_INET), 0);
}

/* Of one interface, by the strict way: how many addresses of the mesh's are told, or the error. */
static int count_of_interface(uint16_t type, unsigned index)
{
	struct {
		struct nlmsghdr head;
		union {
			struct ifaddrmsg address;
			struct {
				struct rtmsg body;
				struct rtattr head;
				uint32_t index;
			} route;
		};
	} ask = { .head = { 0, type, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 } };
	int fd = new_socket(AF_NETLINK, SOCK_RAW), one = 1, found = 0;
	_Alignas(struct nlmsghdr) char answer[8192];

	assert_int_equal(setsockopt(fd, 270 /* SOL_NETLINK */, 12 /* NETLINK_GET_STRICT_CHK */,
				    &one, sizeof(one)),
			 0);
	if (type == RTM_GETADDR) {
		ask.head.nlmsg_len = NLMSG_LENGTH(sizeof(ask.address));
		ask.address.ifa_index = index;
	} else {
		ask.head.nlmsg_len = NLMSG_LENGTH(sizeof(ask.route));
		ask.route.body.rtm_family = AF_INET;
		ask.route.head.rta_len = RTA_LENGTH(sizeof(index));
		ask.route.head.rta_type = RTA_OIF;
		ask.route.index = index;
	}
	assert_int_equal(send(fd, &ask, ask.head.nlmsg_len, 0), ask.head.nlmsg_len);
	for (;;) {
		ssize_t n = recv(fd, answer, sizeof(answer), 0);

		assert_true(n > 0);
		for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			struct ifaddrmsg *address = NLMSG_DATA(h);

			if (h->nlmsg_type == NLMSG_DONE) {
				close(fd);
				return found ? found : *(int *)NLMSG_DATA(h);
			}
			found += h->nlmsg_type == RTM_NEWADDR &&
				 address->ifa_index == if_nametoindex("tailscale0");
		}
	}
}

static void test_who_asks_netlink_for_one_interface_hears_of_no_other(void **state)
{
	unsigned index = if_nametoindex("tailscale0");

	(void)state;
	assert_int_equal(count_of_interface(RTM_GETADDR, index), 2);
	assert_int_equal(count_of_interface(RTM_GETADDR, 1), 0);
	assert_int_equal(count_of_interface(RTM_GETROUTE, index), -ENODEV);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_getaddrinfo_answers_both_families),
		cmocka_unit_test(test_getaddrinfo_maps_ipv4_as_asked),
		cmocka_unit_test(test_getaddrinfo_errors_are_libcs),
		cmocka_unit_test(test_getaddrinfo_leaves_other_names_alone),
		cmocka_unit_test(test_getaddrinfo_without_hints_gives_every_socket_type),
		cmocka_unit_test(test_getaddrinfo_gives_back_the_flags_that_libc_would),
		cmocka_unit_test(test_getaddrinfo_gives_the_full_name_when_asked),
		cmocka_unit_test(test_getnameinfo_names_mesh_addresses),
		cmocka_unit_test(test_gethostbyname_family),
		cmocka_unit_test(test_gethostbyaddr_family),
		cmocka_unit_test(test_getifaddrs_shows_the_mesh_interface_once),
		cmocka_unit_test(test_the_interface_has_an_index),
		cmocka_unit_test(test_the_interface_is_among_the_files_that_stand_for_them),
		cmocka_unit_test(test_a_list_by_netlink_is_as_long_as_was_told),
		cmocka_unit_test(test_who_asks_netlink_for_one_interface_hears_of_no_other),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
