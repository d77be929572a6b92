/* "What is my address?", in all the ways programs ask it. */
#include "tests/shim/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>

#include "shared/util.h"

/* Of linux/socket.h, which has it for the kernel alone. */
#define MSG_PROBE 0x10

#define MESH_IF "tailscale0"

/* Where a socket connected to text:port says it is; NULL: there is no way there from here. */
static const char *seen_towards(int family, const char *text, const char *bound)
{
	struct harness_addr to = at(family, text, 80), own;
	int fd = new_socket(family, SOCK_DGRAM);
	const char *ip = NULL;

	if (bound) {
		own = at(family, bound, 0);
		assert_int_equal(bind(fd, sa(&own), own.len), 0);
	}
	if (connect(fd, sa(&to), to.len) == 0)
		ip = local_ip(fd);
	close(fd);
	return ip;
}

static void test_a_socket_connected_far_away_has_the_mesh_address(void **state)
{
	const char *ip = seen_towards(AF_INET, "8.8.8.8", NULL);

	(void)state;
	if (!ip)
		skip(); /* no route, which stays no route */
	assert_string_equal(ip, SELF_V4);
	assert_string_equal(seen_towards(AF_INET6, "8.8.8.8", NULL), "mapped:" SELF_V4);
	ip = seen_towards(AF_INET6, "2001:4860:4860::8888", NULL);
	if (ip)
		assert_string_equal(ip, SELF_V6);
}

static void test_near_destinations_have_the_kernels_answer(void **state)
{
	(void)state;
	assert_string_equal(seen_towards(AF_INET, "127.0.0.1", NULL), "127.0.0.1");
	assert_string_equal(seen_towards(AF_INET, PEER_V4, NULL), SELF_V4);
	assert_string_equal(seen_towards(AF_INET, "0.0.0.0", NULL), "127.0.0.1");
}

/* The kernel's own answer, past the shim. */
static void test_an_address_of_the_programs_choice_stays(void **state)
{
	int probe = new_socket(AF_INET, SOCK_DGRAM), tcp;
	struct harness_addr to = at(AF_INET, "8.8.8.8", 80);
	struct endpoint real;
	char text[IP_TEXT_MAX];

	(void)state;
	if (connect(probe, sa(&to), to.len) < 0)
		skip();
	assert_string_equal(local_ip(probe), SELF_V4);
	real = raw_local(probe);
	ip_format(&real.addr, text);
	assert_string_equal(seen_towards(AF_INET, "8.8.8.8", text), text);
	/* A stream with the same number as a socket that was asked before. */
	close(probe);
	tcp = new_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(tcp, probe);
	to = at(AF_INET, text, 0);
	assert_int_equal(bind(tcp, sa(&to), to.len), 0);
	assert_string_equal(local_ip(tcp), text);
	close(tcp);
}

/* Real interfaces would send it into the void; here nothing of the kind can leave. */
static void test_the_mesh_address_is_no_way_to_the_internet(void **state)
{
	struct harness_addr own = at(AF_INET, SELF_V4, 0), to = at(AF_INET, "8.8.8.8", 80);
	struct mmsghdr batch = { .msg_hdr = { .msg_name = sa(&to), .msg_namelen = to.len } };
	int tcp = new_socket(AF_INET, SOCK_STREAM), udp = new_socket(AF_INET, SOCK_DGRAM);

	(void)state;
	assert_int_equal(bind(tcp, sa(&own), own.len), 0);
	assert_int_equal(bind(udp, sa(&own), own.len), 0);
	assert_int_equal(connect(tcp, sa(&to), to.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(sendto(udp, "x", 1, 0, sa(&to), to.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(sendmmsg(udp, &batch, 1, 0), -1);
	assert_int_equal(errno, ENETUNREACH);
	close(tcp);
	close(udp);
}

/* It was the mesh's only as long as it was connected there. Nothing is really sent. */
static void test_a_socket_that_left_the_mesh_sends_to_the_internet(void **state)
{
	struct harness_addr mesh = at(AF_INET, PEER_V4, 5353), to = at(AF_INET, "8.8.8.8", 80);
	int fd = new_socket(AF_INET, SOCK_DGRAM), other = new_socket(AF_INET, SOCK_DGRAM);
	int probe = MSG_CONFIRM | MSG_PROBE, way_out;
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	(void)state;
	way_out = sendto(other, "", 0, probe, sa(&to), to.len);
	close(other);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(connect(fd, sa(&mesh), mesh.len), 0);
		assert_string_equal(local_ip(fd), SELF_V4);
		assert_string_equal(peer_ip(fd), PEER_V4);
		assert_int_equal(connect(fd, &none, sizeof(none)), 0);
		assert_string_equal(local_text(fd), "0.0.0.0:0");
	}
	assert_int_equal(sendto(fd, "", 0, probe, sa(&to), to.len), way_out);
	close(fd);
}

static void test_the_host_name_is_at_the_mesh_addresses(void **state)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME }, *list;
	char host[256], v4[INET_ADDRSTRLEN];
	struct hostent *found;

	(void)state;
	assert_int_equal(gethostname(host, sizeof(host)), 0);
	if (strncmp(host, "localhost", 9) == 0)
		skip();
	assert_int_equal(getaddrinfo(host, NULL, &hints, &list), 0);
	assert_string_equal(sockaddr_text(list->ai_addr, list->ai_addrlen), SELF_V4 ":0");
	assert_non_null(list->ai_next);
	assert_string_equal(sockaddr_text(list->ai_next->ai_addr, list->ai_next->ai_addrlen),
			    SELF_V6 ":0");
	assert_string_equal(list->ai_canonname, "node-a.mesh");
	freeaddrinfo(list);
	found = gethostbyname(host);
	assert_non_null(found);
	assert_string_equal(inet_ntop(AF_INET, found->h_addr_list[0], v4, sizeof(v4)), SELF_V4);
}

static void ask_ioctl(unsigned long request, struct ifreq *r)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM);

	memset(r, 0, sizeof(*r));
	strcpy(r->ifr_name, MESH_IF);
	assert_int_equal(ioctl(fd, request, r), 0);
	close(fd);
}

static void test_ioctls_know_the_interface(void **state)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM);
	struct ifreq r;

	(void)state;
	ask_ioctl(SIOCGIFADDR, &r);
	assert_string_equal(sockaddr_text(&r.ifr_addr, 16), SELF_V4 ":0");
	ask_ioctl(SIOCGIFNETMASK, &r);
	assert_string_equal(sockaddr_text(&r.ifr_addr, 16), "255.192.0.0:0");
	ask_ioctl(SIOCGIFMTU, &r);
	assert_int_equal(r.ifr_mtu, 1280);
	ask_ioctl(SIOCGIFFLAGS, &r);
	assert_int_equal(r.ifr_flags & (IFF_UP | IFF_RUNNING | IFF_LOOPBACK), IFF_UP | IFF_RUNNING);
	ask_ioctl(SIOCGIFHWADDR, &r);
	assert_int_equal(r.ifr_hwaddr.sa_family, ARPHRD_NONE);
	ask_ioctl(SIOCGIFINDEX, &r);
	assert_int_equal(r.ifr_ifindex, if_nametoindex(MESH_IF));
	memset(r.ifr_name, 0, sizeof(r.ifr_name));
	assert_int_equal(ioctl(fd, SIOCGIFNAME, &r), 0);
	assert_string_equal(r.ifr_name, MESH_IF);
	strcpy(r.ifr_name, "no-such-if");
	assert_int_equal(ioctl(fd, SIOCGIFADDR, &r), -1);
	assert_int_equal(errno, ENODEV);
	assert_int_equal(ioctl(-1, SIOCGIFADDR, &r), -1);
	assert_int_equal(errno, EBADF);
	strcpy(r.ifr_name, "lo");
	assert_int_equal(ioctl(fd, SIOCGIFINDEX, &r), 0);
	assert_int_equal(r.ifr_ifindex, 1);
	close(fd);
}

static void test_the_interface_list_by_ioctl(void **state)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM), last, found = 0;
	struct ifreq entries[64], few[1];
	struct ifconf list = { .ifc_len = 0 };

	(void)state;
	assert_int_equal(ioctl(fd, SIOCGIFCONF, &list), 0);
	last = list.ifc_len;
	list = (struct ifconf){ .ifc_len = sizeof(entries), .ifc_req = entries };
	assert_int_equal(ioctl(fd, SIOCGIFCONF, &list), 0);
	assert_int_equal(list.ifc_len, last);
	for (int i = 0; i < list.ifc_len / (int)sizeof(*entries); i++)
		found += strcmp(entries[i].ifr_name, MESH_IF) == 0;
	assert_int_equal(found, 1);
	list = (struct ifconf){ .ifc_len = sizeof(few), .ifc_req = few };
	assert_int_equal(ioctl(fd, SIOCGIFCONF, &list), 0);
	assert_int_equal(list.ifc_len, sizeof(few));
	assert_int_equal(ioctl(fd, SIOCGIFCONF, NULL), -1);
	assert_int_equal(errno, EFAULT);
	close(fd);
}

/* Sends a question about links or addresses; how many of our entries the answer has. */
static int count_in_dump(uint16_t type, bool by_recvmsg, size_t room)
{
	struct {
		struct nlmsghdr head;
		struct rtgenmsg body;
	} question = { { sizeof(question), type, NLM_F_REQUEST | NLM_F_DUMP, 7, 0 },
		       { AF_UNSPEC } };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), found = 0;
	static _Alignas(struct nlmsghdr) char data[65536];
	bool is_done = false;

	assert_true(fd >= 0);
	assert_int_equal(send(fd, &question, sizeof(question), 0), sizeof(question));
	while (!is_done) {
		struct iovec iov = { data, room };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;

		errno = 0;
		n = by_recvmsg ? recvmsg(fd, &msg, 0) : recv(fd, data, room, 0);
		assert_true(n > 0);
		assert_int_equal(errno, 0);
		for (struct nlmsghdr *h = (struct nlmsghdr *)data; NLMSG_OK(h, n);
		     h = NLMSG_NEXT(h, n)) {
			assert_int_equal(h->nlmsg_seq, 7);
			is_done |= h->nlmsg_type == NLMSG_DONE;
			if (h->nlmsg_type == RTM_NEWADDR)
				found += ((struct ifaddrmsg *)NLMSG_DATA(h))->ifa_index ==
					 if_nametoindex(MESH_IF);
			if (h->nlmsg_type == RTM_NEWLINK)
				found += (unsigned)((struct ifinfomsg *)NLMSG_DATA(h))->ifi_index ==
					 if_nametoindex(MESH_IF);
		}
	}
	close(fd);
	return found;
}

static void test_netlink_lists_have_the_interface_once(void **state)
{
	(void)state;
	assert_int_equal(count_in_dump(RTM_GETLINK, false, 65536), 1);
	assert_int_equal(count_in_dump(RTM_GETLINK, true, 32768), 1);
	assert_in_range(count_in_dump(RTM_GETADDR, false, 65536), 1, 2); /* is there a ::1? */
	assert_in_range(count_in_dump(RTM_GETADDR, true, 32768), 1, 2);
}

static void test_a_socket_tied_to_the_interface(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM), on;
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_ECHO);
	char name[IFNAMSIZ] = "";
	socklen_t len = sizeof(name);

	(void)state;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "no-such-if", 11), -1);
	assert_int_equal(errno, ENODEV);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, MESH_IF, sizeof(MESH_IF)), 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len), 0);
	assert_string_equal(name, MESH_IF);
	assert_int_equal(len, sizeof(MESH_IF));
	assert_int_equal(connect(fd, sa(&to), to.len), 0);
	assert_string_equal(peer_ip(fd), PEER_V4);
	assert_string_equal(local_ip(fd), SELF_V4);
	close(fd);
	fd = new_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
	len = sizeof(name);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len), 0);
	assert_string_equal(name, "lo");
	close(fd);
	fd = new_socket(AF_INET, SOCK_DGRAM);
	on = (int)htonl(if_nametoindex(MESH_IF));
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_UNICAST_IF, &on, sizeof(on)), 0);
	to = at(AF_INET, PEER_V4, 9);
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&to), to.len), 1);
	close(fd);
}

static void test_a_socket_tied_to_the_interface_by_its_index(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM), mesh = (int)if_nametoindex(MESH_IF), lo = 1;
	int index = 0, none = 0, want = mesh;
	socklen_t len = sizeof(index);
	char name[IFNAMSIZ] = "";

	(void)state;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &mesh, sizeof(mesh)), 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, &len), 0);
	assert_int_equal(index, mesh);
	assert_int_equal(len, sizeof(index));
	len = sizeof(name);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len), 0);
	assert_string_equal(name, MESH_IF);
	len = 0;
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, &len), 0);
	/* Whoever may cut the tie, and then means lo, gets that. */
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &none, sizeof(none)) == 0)
		want = lo;
	else
		assert_int_equal(errno, EPERM);
	setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &lo, sizeof(lo));
	len = sizeof(index);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, &len), 0);
	assert_int_equal(index, want);
	close(fd);
}

/* The calls that name a group, one sender of it, and the mesh interface by its number. */
static void choose_by_index(int family, int level, const char *group, const char *sender)
{
	static const int calls[] = { MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP,
				     MCAST_JOIN_GROUP, MCAST_BLOCK_SOURCE, MCAST_UNBLOCK_SOURCE };
	struct group_source_req req = { .gsr_interface = if_nametoindex(MESH_IF),
					.gsr_group = at(family, group, 0).storage,
					.gsr_source = at(family, sender, 0).storage };
	int fd = socket(family, SOCK_DGRAM, 0);

	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if (setsockopt(fd, level, calls[i], &req,
			       calls[i] == MCAST_JOIN_GROUP ? sizeof(struct group_req)
							    : sizeof(req)) != 0)
			fail_msg("call %d for %s: %s", calls[i], group, strerror(errno));
	close(fd);
}

static void test_a_sender_of_a_group_is_chosen_by_way_of_the_mesh(void **state)
{
	(void)state;
	choose_by_index(AF_INET, IPPROTO_IP, "232.1.2.4", PEER_V4);
	choose_by_index(AF_INET6, IPPROTO_IPV6, "ff35::8000:1", PEER_V6);
}

static void test_multicast_by_way_of_the_mesh_is_allowed(void **state)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM);
	struct ip_mreqn by_index = { .imr_multiaddr.s_addr = inet_addr("239.1.2.3"),
				     .imr_ifindex = (int)if_nametoindex(MESH_IF) };
	struct ip_mreq by_address = { { inet_addr("239.1.2.4") }, { inet_addr(SELF_V4) } };
	struct in_addr own = { inet_addr(SELF_V4) }, other = { inet_addr("100.64.7.7") };
	struct ip_mreq_source from_one = { .imr_multiaddr.s_addr = inet_addr("232.1.2.3"),
					   .imr_interface = own,
					   .imr_sourceaddr.s_addr = inet_addr(PEER_V4) };

	(void)state;
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_index, sizeof(by_index)),
			 0);
	assert_int_equal(
		setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_address, sizeof(by_address)), 0);
	assert_int_equal(
		setsockopt(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &from_one, sizeof(from_one)),
		0);
	assert_int_equal(
		setsockopt(fd, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &from_one, sizeof(from_one)),
		0);
	from_one.imr_multiaddr = by_address.imr_multiaddr;
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_BLOCK_SOURCE, &from_one, sizeof(from_one)),
			 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_UNBLOCK_SOURCE, &from_one, sizeof(from_one)),
			 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof(own)), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &other, sizeof(other)), -1);
	close(fd);
}

/* As those do who join on each interface there is: JGroups, mDNS. */
static void test_a_group_is_joined_by_lo_and_by_the_mesh(void **state)
{
	int fd = new_socket(AF_INET, SOCK_DGRAM), fd6 = new_socket(AF_INET6, SOCK_DGRAM);
	struct ip_mreqn group = { .imr_multiaddr.s_addr = inet_addr("239.1.2.5"),
				  .imr_ifindex = 1 };
	struct ipv6_mreq group6 = { .ipv6mr_interface = 1 };

	(void)state;
	inet_pton(AF_INET6, "ff02::fb", &group6.ipv6mr_multiaddr);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)), 0);
	group.imr_ifindex = (int)if_nametoindex(MESH_IF);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)), 0);
	if (setsockopt(fd6, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group6, sizeof(group6)) == 0) {
		group6.ipv6mr_interface = if_nametoindex(MESH_IF);
		assert_int_equal(
			setsockopt(fd6, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group6, sizeof(group6)), 0);
	}
	close(fd);
	close(fd6);
}

static void test_it_can_be_turned_off(void **state)
{
	char command[512];

	(void)state;
	if (!seen_towards(AF_INET, "8.8.8.8", NULL) || access("/usr/bin/python3", X_OK) < 0)
		skip();
	snprintf(
		command, sizeof(command),
		"MESHWRAP_PRIMARY=0 /usr/bin/python3 -c 'import socket\n"
		"u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect((\"8.8.8.8\", 80))\n"
		"assert u.getsockname()[0] != \"%s\"'",
		SELF_V4);
	assert_int_equal(system(command), 0);
}

/* What a program says of itself with --explain; the lines in one text. */
static void test_calls_are_explained(void **state)
{
	static const char *const expected[] = {
		"connect fd 3 " PEER_V4 ":20000 (node-b.mesh) -> mirror 127.",
		"held until the peer answered: ok",
		"connect fd 3 127.0.0.1:1: left alone (this machine): ECONNREFUSED",
		"connect fd 3: left alone (unix socket): ENOENT",
		"connect fd 3 " NOWHERE_V4
		":1, a mesh address that nobody can reach now: EHOSTUNREACH",
		"getaddrinfo node-b as node-b.mesh -> " PEER_V4,
		"bind fd 3 " SELF_V4 ":0 (node-a.mesh) -> mirror 127.",
		"bind fd 3 " PEER_V4 ":0 (node-b.mesh), no address of this node: EADDRNOTAVAIL",
		"send fd 3 " PEER_V4 ":7 (node-b.mesh) -> mirror 127.",
		"exec /bin/true: keeps the mesh",
	};
	char text[65536] = "";
	FILE *out;

	(void)state;
	if (access("/usr/bin/python3", X_OK) < 0)
		skip();
	out = popen("MESHWRAP_EXPLAIN=1 /usr/bin/python3 -c 'import os\n"
		    "from socket import *\n"
		    "def go(kind, call, *to):\n"
		    "    s = socket(*kind)\n"
		    "    try: getattr(s, call)(*to)\n"
		    "    except OSError: pass\n"
		    "    s.close()\n"
		    "tcp, udp = (AF_INET, SOCK_STREAM), (AF_INET, SOCK_DGRAM)\n"
		    "go(tcp, \"connect\", (\"" PEER_V4 "\", 20000))\n"
		    "go(tcp, \"connect\", (\"127.0.0.1\", 1))\n"
		    "go((AF_UNIX, SOCK_STREAM), \"connect\", \"/no/such/socket\")\n"
		    "go(tcp, \"connect\", (\"" NOWHERE_V4 "\", 1))\n"
		    "getaddrinfo(\"node-b\", 80)\n"
		    "go(tcp, \"bind\", (\"" SELF_V4 "\", 0))\n"
		    "go(tcp, \"bind\", (\"" PEER_V4 "\", 0))\n"
		    "go(udp, \"sendto\", b\"x\", (\"" PEER_V4 "\", 7))\n"
		    "os.execv(\"/bin/true\", [\"true\"])' 2>&1",
		    "r");
	assert_non_null(out);
	text[fread(text, 1, sizeof(text) - 1, out)] = '\0';
	assert_int_equal(pclose(out), 0);
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++)
		if (!strstr(text, expected[i]))
			fail_msg("\"%s\" is not in:\n%s", expected[i], text);
}

static void test_a_set_uid_child_is_left_alone_and_said_so(void **state)
{
	char path[] = "/tmp/meshwrap-set-uid-XXXXXX", command[512], text[8192] = "";
	int fd = mkstemp(path);
	FILE *out;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	snprintf(command, sizeof(command), "cp /usr/bin/env %s && chown 65534 %s && chmod 4755 %s",
		 path, path, path);
	if (geteuid() != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 || system(command) != 0) {
		unlink(path);
		skip(); /* only root can make such a file */
	}
	snprintf(command, sizeof(command), "MESHWRAP_EXPLAIN=1 sh -c 'exec %s' 2>&1", path);
	out = popen(command, "r");
	assert_non_null(out);
	text[fread(text, 1, sizeof(text) - 1, out)] = '\0';
	assert_int_equal(pclose(out), 0);
	unlink(path);
	assert_non_null(strstr(text, ": left alone (set-uid)"));
	assert_null(strstr(text, "on in meshwrap-set-uid"));
}

/* Its lines must not get into what has become of descriptor 2. */
static void test_explanations_stay_out_of_other_files(void **state)
{
	char command[256], text[256] = "";
	FILE *out;

	(void)state;
	if (access("/usr/bin/python3", X_OK) < 0)
		skip();
	snprintf(command, sizeof(command),
		 "MESHWRAP_EXPLAIN=1 /usr/bin/python3 -c 'import os, socket\n"
		 "r, w = os.pipe(); os.dup2(w, 2); os.close(w)\n"
		 "socket.socket().bind((\"%s\", 0)); os.close(2); print(len(os.read(r, 99)))' "
		 "2>/dev/null",
		 SELF_V4);
	out = popen(command, "r");
	assert_non_null(out);
	assert_non_null(fgets(text, sizeof(text), out));
	pclose(out);
	assert_string_equal(text, "0\n");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_socket_connected_far_away_has_the_mesh_address),
		cmocka_unit_test(test_near_destinations_have_the_kernels_answer),
		cmocka_unit_test(test_an_address_of_the_programs_choice_stays),
		cmocka_unit_test(test_the_mesh_address_is_no_way_to_the_internet),
		cmocka_unit_test(test_a_socket_that_left_the_mesh_sends_to_the_internet),
		cmocka_unit_test(test_the_host_name_is_at_the_mesh_addresses),
		cmocka_unit_test(test_ioctls_know_the_interface),
		cmocka_unit_test(test_the_interface_list_by_ioctl),
		cmocka_unit_test(test_netlink_lists_have_the_interface_once),
		cmocka_unit_test(test_a_socket_tied_to_the_interface),
		cmocka_unit_test(test_a_socket_tied_to_the_interface_by_its_index),
		cmocka_unit_test(test_a_sender_of_a_group_is_chosen_by_way_of_the_mesh),
		cmocka_unit_test(test_multicast_by_way_of_the_mesh_is_allowed),
		cmocka_unit_test(test_a_group_is_joined_by_lo_and_by_the_mesh),
		cmocka_unit_test(test_it_can_be_turned_off),
		cmocka_unit_test(test_calls_are_explained),
		cmocka_unit_test(test_a_set_uid_child_is_left_alone_and_said_so),
		cmocka_unit_test(test_explanations_stay_out_of_other_files),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
