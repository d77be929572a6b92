/*
 * Pointers and lengths that are wrong: each call that the shim replaces ends as it does without
 * the shim, whether its addresses are the mesh's or not, and touches nothing beyond what it was
 * given. The sweep is run three times, and its lines are compared: by the process that starts the
 * test, which has no shim, and inside with this machine's and with the mesh's addresses.
 */
#include "tests/shim/faults.h"

#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#define ROOM (1u << 20)
#define BARE "MESHWRAP_TEST_BARE" /* the descriptor of what the first process found */

/* What was done so far, for who looks when the doer is gone. */
static struct text {
	size_t len;
	char bytes[ROOM];
} * text;

static const char *own; /* an address of this node */
unsigned char *edge;

void *volatile wrong[FAULTS_WRONG] = { NULL, (void *)1, (void *)INTPTR_MIN, (void *)-1 };
const int lengths[FAULTS_LENGTHS] = { INT_MIN, -1, 0,  1,  2,   7,   8,   15,
				      16,      24, 27, 28, 110, 128, 129, INT_MAX };

void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text->len += (size_t)vsnprintf(text->bytes + text->len, ROOM - text->len, format, args);
	va_end(args);
	if (text->len >= ROOM)
		abort();
}

void say_end(long result)
{
	say(" = %ld%s%s\n", result, result < 0 ? " " : "", result < 0 ? strerror(errno) : "");
}

void *at_edge(const void *from, size_t n)
{
	return n ? memcpy(edge - n, from, n) : edge;
}

socklen_t *length(int n)
{
	static socklen_t len;

	len = (socklen_t)n;
	return &len;
}

enum kind { STREAM, DATAGRAM, STREAM_V6, LOCAL, ROUTES, PIPE, NONE, KINDS };

static int open_kind(enum kind kind)
{
	int ends[2];

	switch (kind) {
	case STREAM:
		return new_socket(AF_INET, SOCK_STREAM);
	case DATAGRAM:
		return new_socket(AF_INET, SOCK_DGRAM);
	case STREAM_V6:
		return new_socket(AF_INET6, SOCK_STREAM);
	case LOCAL:
		return new_socket(AF_UNIX, SOCK_DGRAM);
	case ROUTES:
		return new_socket(AF_NETLINK, SOCK_RAW);
	case PIPE:
		assert_int_equal(pipe(ends), 0);
		close(ends[1]);
		return ends[0];
	default:
		return -1;
	}
}

int bound(int type)
{
	struct harness_addr addr = at(AF_INET, own, 0);
	int fd = new_socket(AF_INET, type);

	assert_int_equal(bind(fd, sa(&addr), addr.len), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* One that is connected to fd. */
static int connected_to(int fd, int type)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	int from = type == SOCK_STREAM ? new_socket(AF_INET, type) : bound(type);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	assert_int_equal(connect(from, (struct sockaddr *)&addr, len), 0);
	return from;
}

void open_pair(int type, int pair[2])
{
	int fd = bound(type);

	pair[0] = connected_to(fd, type);
	pair[1] = fd;
	if (type == SOCK_STREAM) {
		pair[1] = accept(fd, NULL, NULL);
		assert_true(pair[1] >= 0);
		close(fd);
	}
}

void close_pair(const int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

/* ---- calls that are given an address ---- */

typedef int name_call(int fd, const struct sockaddr *addr, socklen_t len);

static void try_name(const char *name, name_call *call, int family, enum kind kind)
{
	struct harness_addr to = at(family, family == AF_INET ? own : "::1", 9);
	struct sockaddr_storage none = { .ss_family = AF_MAX };
	int fd;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
			fd = open_kind(kind);
			TRY(call(fd, wrong[i], (socklen_t)lengths[k]), "%s %d wrong %zu, %d", name,
			    kind, i, lengths[k]);
			close(fd);
		}
	for (int n = 0; n < (int)to.len; n++) {
		fd = open_kind(kind);
		TRY(call(fd, at_edge(&to.storage, (size_t)n), (socklen_t)n), "%s %d first %d of %d",
		    name, kind, n, family);
		close(fd);
	}
	for (int n = 2; n <= 128; n += 63) {
		fd = open_kind(kind);
		TRY(call(fd, at_edge(&none, (size_t)n), (socklen_t)n), "%s %d strange %d", name,
		    kind, n);
		close(fd);
	}
}

static void sweep_names(void)
{
	for (enum kind kind = STREAM; kind < KINDS; kind++) {
		try_name("connect", connect, kind == STREAM_V6 ? AF_INET6 : AF_INET, kind);
		try_name("bind", bind, kind == STREAM_V6 ? AF_INET6 : AF_INET, kind);
	}
}

/* ---- calls that give one ---- */

typedef int ask_call(int fd, struct sockaddr *addr, socklen_t *len);

static void try_asking(const char *name, ask_call *call, int fd)
{
	char room[256];
	socklen_t *len;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		TRY(call(fd, wrong[i], length(16)), "%s into wrong %zu", name, i);
		TRY(call(fd, wrong[i], length(0)), "%s into no bytes of wrong %zu", name, i);
		TRY(call(fd, (struct sockaddr *)room, wrong[i]), "%s with length wrong %zu", name,
		    i);
		TRY(call(fd, wrong[i], wrong[i]), "%s with all wrong %zu", name, i);
	}
	for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
		len = length(lengths[k]);
		memset(room, 0, sizeof(room));
		TRY(call(fd,
			 lengths[k] < 0 || lengths[k] > 128 ? (void *)room
							    : at_edge(room, (size_t)lengths[k]),
			 len),
		    "%s into %d", name, lengths[k]);
		say("\tlength %d\n", (int)*len);
	}
}

static int accept_one(int flags, struct sockaddr *addr, socklen_t *len)
{
	int listener = bound(SOCK_STREAM), from = connected_to(listener, SOCK_STREAM), saved;
	int conn = flags ? accept4(listener, addr, len, flags) : accept(listener, addr, len);

	saved = errno;
	close(conn);
	close(from);
	close(listener);
	errno = saved;
	return conn < 0 ? conn : 0;
}

static void sweep_answers(void)
{
	int pair[2], fd;

	try_asking("accept", accept_one, 0);
	try_asking("accept4", accept_one, SOCK_NONBLOCK);
	for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
		open_pair(type, pair);
		try_asking("getsockname", getsockname, pair[0]);
		try_asking("getpeername", getpeername, pair[0]);
		close_pair(pair);
	}
	for (enum kind kind = STREAM; kind < KINDS; kind++) {
		fd = open_kind(kind);
		if (kind != ROUTES) /* the kernel says there who it is */
			try_asking("getsockname of another", getsockname, fd);
		try_asking("getpeername of another", getpeername, fd);
		close(fd);
	}
}

/* ---- options ---- */

static void sweep_options(void)
{
	static const struct {
		int level, name;
	} options[] = {
		{ SOL_SOCKET, SO_ERROR },          { SOL_SOCKET, SO_TYPE },
		{ SOL_SOCKET, SO_BINDTODEVICE },   { SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */ },
		{ IPPROTO_IP, IP_MULTICAST_IF },   { IPPROTO_IP, IP_ADD_MEMBERSHIP },
		{ IPPROTO_IP, IP_UNICAST_IF },     { IPPROTO_IP, MCAST_JOIN_GROUP },
		{ IPPROTO_IPV6, IPV6_JOIN_GROUP }, { IPPROTO_IPV6, IPV6_UNICAST_IF }
	};
	char room[256] = "";

	for (size_t o = 0; o < ARRAY_LEN(options); o++) {
		int level = options[o].level, name = options[o].name;
		int fd = new_socket(level == IPPROTO_IPV6 ? AF_INET6 : AF_INET, SOCK_DGRAM);

		for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
			TRY(getsockopt(fd, level, name, wrong[i], length(16)),
			    "getsockopt %zu into wrong %zu", o, i);
			TRY(getsockopt(fd, level, name, room, wrong[i]),
			    "getsockopt %zu with length wrong %zu", o, i);
			for (size_t k = 0; k < ARRAY_LEN(lengths); k++)
				TRY(setsockopt(fd, level, name, wrong[i], (socklen_t)lengths[k]),
				    "setsockopt %zu from wrong %zu, %d", o, i, lengths[k]);
		}
		memset(room, 0, sizeof(room));
		for (int n = 0; n <= 20; n++) {
			TRY(getsockopt(fd, level, name, edge - n, length(n)),
			    "getsockopt %zu into %d", o, n);
			TRY(setsockopt(fd, level, name, at_edge(room, (size_t)n), (socklen_t)n),
			    "setsockopt %zu from %d", o, n);
		}
		TRY(getsockopt(fd, level, name, room, length(-1)), "getsockopt %zu into -1", o);
		close(fd);
	}
}

/* ---- lists of interfaces ---- */

static void sweep_interfaces(void)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg body;
	} ask = { .head = { sizeof(ask), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 } };
	static const unsigned long requests[] = { SIOCGIFNAME, SIOCGIFADDR, SIOCGIFINDEX,
						  SIOCGIFCONF };
	int fd = new_socket(AF_INET, SOCK_DGRAM);
	struct ifconf list;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		int routes = new_socket(AF_NETLINK, SOCK_RAW);

		for (size_t k = 0; k < ARRAY_LEN(requests); k++)
			TRY(ioctl(fd, requests[k], wrong[i]), "ioctl %zu wrong %zu", k, i);
		list.ifc_len = 4096;
		list.ifc_buf = wrong[i];
		TRY(ioctl(fd, SIOCGIFCONF, &list), "ioctl list wrong %zu", i);
		list.ifc_len = INT_MIN;
		TRY(ioctl(fd, SIOCGIFCONF, &list), "ioctl list of less than nothing, wrong %zu", i);
		assert_int_equal(send(routes, &ask, sizeof(ask), 0), sizeof(ask));
		TRY(recv(routes, wrong[i], 32768, MSG_PEEK), "recv list into wrong %zu", i);
		TRY(recv(routes, wrong[i], 32768, MSG_PEEK | MSG_TRUNC),
		    "recv long list into wrong %zu", i);
		for (size_t n = 0; n < 40; n++)
			TRY(recv(routes, edge - n, n, MSG_PEEK), "recv %zu of a list", n);
		close(routes);
	}
	close(fd);
}

/* ---- programs ---- */

/* None of them is one: with such words nothing is started. */
static void sweep_programs(void)
{
	char *const words[] = { "true", NULL };
	pid_t pid;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		TRY(execve(wrong[i], words, words), "execve wrong %zu", i);
		TRY(execv(wrong[i], words), "execv wrong %zu", i);
		TRY(posix_spawn(&pid, wrong[i], NULL, NULL, words, words), "spawn wrong %zu", i);
		if (!wrong[i])
			continue; /* an empty list */
		TRY(execve("/bin/true", wrong[i], words), "execve with words wrong %zu", i);
		TRY(execve("/bin/true", words, wrong[i]), "execve in wrong %zu", i);
	}
}

/* ---- the whole, and the comparison ---- */

static void sweep(const char *address)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char *pages =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(pages != MAP_FAILED);
	assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
	edge = pages + page;
	own = address;
	sweep_names();
	sweep_answers();
	sweep_options();
	faults_sweep_data();
	sweep_interfaces();
	sweep_programs();
}

/* What a process of its own does, until the end or until it dies; its wait status. */
static int sweep_apart(const char *address)
{
	int status = -1;
	pid_t pid;

	text = mmap(NULL, sizeof(*text), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(text != MAP_FAILED);
	pid = fork();
	if (pid == 0) {
		sweep(address);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static const char *bare(void)
{
	static char lines[ROOM];
	ssize_t n = pread(atoi(getenv(BARE)), lines, sizeof(lines) - 1, 0);

	assert_true(n > 0);
	lines[n] = '\0';
	return lines;
}

static const char *next_line(const char *line, size_t *len)
{
	*len = strcspn(line, "\n");
	return line + *len + (line[*len] == '\n');
}

static void assert_as_without_shim(const char *address)
{
	int status = sweep_apart(address);
	const char *expected = bare(), *found = text->bytes, *last = found;
	unsigned wrong_lines = 0, lines = 0;
	size_t a, b;

	while (*expected && *found) {
		const char *next_expected = next_line(expected, &a),
			   *next_found = next_line(found, &b);

		last = found;
		if (a != b || memcmp(expected, found, a) != 0) {
			wrong_lines++;
			print_error("without: %.*s\nwith:    %.*s\n", (int)a, expected, (int)b,
				    found);
		}
		expected = next_expected;
		found = next_found;
		lines++;
	}
	if (status != 0)
		fail_msg("status %x at: %s", (unsigned)status, last);
	assert_int_equal(*expected, '\0');
	assert_int_equal(*found, '\0');
	assert_int_equal(wrong_lines, 0);
	assert_true(lines > 2000);
	munmap(text, sizeof(*text));
}

static void test_with_this_machines_addresses(void **state)
{
	(void)state;
	assert_as_without_shim("127.0.0.1");
}

static void test_with_the_meshs_addresses(void **state)
{
	(void)state;
	assert_as_without_shim(SELF_V4);
}

static void find_out_without_shim(void)
{
	char number[12];
	int fd = memfd_create("bare", 0), status;

	if (fd < 0 || getenv(BARE))
		return;
	status = sweep_apart("127.0.0.1");
	if (status || write(fd, text->bytes, text->len) != (ssize_t)text->len) {
		fprintf(stderr, "status %x at the end of: %s\n", (unsigned)status, text->bytes);
		exit(99);
	}
	snprintf(number, sizeof(number), "%d", fd);
	setenv(BARE, number, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_with_this_machines_addresses),
		cmocka_unit_test(test_with_the_meshs_addresses),
	};

	(void)argc;
	find_out_without_shim();
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
