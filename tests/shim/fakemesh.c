/*
 * A daemon for the shim's tests: the map, the control socket, SYN hold done for
 * real, and peers that behave as their port numbers say. No tunnel.
 *
 * usage: fakemesh DIR READY_FD [no-mesh-yet]
 *
 * One thread, one poll loop. It is a test's tool: any surprise ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shared/ipc.h"
#include "shared/map.h"
#include "shared/paths.h"
#include "shared/util.h"
#include "tests/shim/mesh.h"

#define MAX_THINGS 1024
#define PATIENCE_NS \
	(3 * NS_PER_S) /* for a program that a loaded machine keeps from its own connect() */

#define CHECK(what)                                                               \
	do {                                                                      \
		if (!(what)) {                                                    \
			fprintf(stderr, "fakemesh:%d: %s: %s\n", __LINE__, #what, \
				strerror(errno));                                 \
			exit(1);                                                  \
		}                                                                 \
	} while (0)

/* A dial that waits for its time, or a socket that echoes. */
enum thing_kind { THING_FREE, THING_DIAL, THING_STREAM, THING_DATAGRAM, THING_CLIENT };
struct thing {
	enum thing_kind kind;
	int fd;
	uint64_t due_ns, give_up_ns;
	struct endpoint local, remote;
	uint32_t mirror;
	int fail; /* errno, 0: complete it */
};

static struct map *map;
static struct thing things[MAX_THINGS];
static unsigned thing_count;
static int hold_fd, control_fd, posts_fd;
static uint32_t mirror_v4, mirror_v6; /* of x.x.0.0 and of ...::0 */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static struct ip_addr ip(const char *text)
{
	struct ip_addr a;

	CHECK(ip_parse(text, &a) == 0);
	return a;
}

static struct thing *thing_add(enum thing_kind kind, int fd)
{
	struct thing *t;
	unsigned i = 0;

	while (i < thing_count && things[i].kind != THING_FREE)
		i++;
	CHECK(i < MAX_THINGS);
	if (i == thing_count)
		thing_count++;
	t = &things[i];
	*t = (struct thing){ .kind = kind, .fd = fd };
	return t;
}

/* ---- the map ---- */

static void add_range(const char *first, const char *last, uint32_t mirror, uint32_t count)
{
	struct map_directory *d = &map->dir[0];

	d->ranges[d->range_count] = (struct map_range){ ip(first), ip(last), mirror, count };
	if (mirror) {
		/* Added in the order of mirrors too, except that IPv6 sorts first. */
		d->mirrors[d->mirror_count++] = (struct map_mirror){ mirror, d->range_count };
	}
	d->range_count++;
}

static int mirror_order(const void *a, const void *b)
{
	uint32_t x = ((const struct map_mirror *)a)->first,
		 y = ((const struct map_mirror *)b)->first;

	return (x > y) - (x < y);
}

static uint32_t put_text(const char *text)
{
	struct map_directory *d = &map->dir[0];
	uint32_t off = d->text_len;

	strcpy(d->text + off, text);
	d->text_len += (uint32_t)strlen(text) + 1;
	return off;
}

static void add_name(const char *name, uint32_t flags, const char *v4, const char *v6)
{
	struct map_directory *d = &map->dir[0];
	struct map_name *n = &d->names[d->name_count++];

	n->name_off = put_text(name);
	n->flags = flags;
	if (v4)
		n->v4 = ip(v4);
	if (v6)
		n->v6 = ip(v6);
}

static void fill_directory(void)
{
	struct map_directory *d = &map->dir[0];

	strcpy(d->ifname, "tailscale0");
	d->suffixes[d->suffix_count++] = (struct map_suffix){ put_text("mesh"), 1 };
	d->search[d->search_count++] = d->suffixes[0].name_off;
	d->mtu = 1280;
	/* Sorted: v4-mapped addresses are below fd7a. */
	add_range("100.64.0.0", "100.64.255.255", mirror_v4, 65536);
	add_range("100.65.0.0", "100.127.255.255", 0, 0);
	add_range("fd7a:115c:a1e0::", "fd7a:115c:a1e0::1", 0, 0);
	add_range(SELF_V6, SELF_V6, mirror_v6 + 2, 1);
	add_range(PEER_V6, PEER_V6, mirror_v6 + 3, 1);
	add_range(NODE_D_V6, NODE_D_V6, mirror_v6 + 5, 1);
	add_range("fd7a:115c:a1e0::6", "fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff", 0, 0);
	qsort(d->mirrors, d->mirror_count, sizeof(d->mirrors[0]), mirror_order);
	d->own[0] = (struct map_own){ ip(SELF_V4), mirror_v4 + 2, 10 };
	d->own[1] = (struct map_own){ ip(SELF_V6), mirror_v6 + 2, 48 };
	d->own_count = 2;
	d->servers[0] = (struct map_server){ ip(SERVER_V4), mirror_v6 + 9 };
	d->server_count = 1;
	add_name("node-a.mesh", MAP_NAME_SELF | MAP_NAME_CANONICAL, SELF_V4, SELF_V6);
	add_name("node-b.mesh", MAP_NAME_CANONICAL, PEER_V4, PEER_V6);
	add_name("node-c.mesh", MAP_NAME_CANONICAL, NODE_C_V4, NULL);
	add_name("node-d", MAP_NAME_CANONICAL, NULL, NODE_D_V6);
}

static void create_map(const char *dir)
{
	pthread_mutexattr_t attr;
	char path[128];
	int fd;

	CHECK(paths_join(dir, PATHS_MAP, path, sizeof(path)) == 0);
	CHECK((fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) >= 0);
	CHECK(ftruncate(fd, sizeof(*map)) == 0);
	map = mmap(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(map != MAP_FAILED);
	close(fd);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init((pthread_mutex_t *)map->mutex, &attr);
	pthread_mutex_lock((pthread_mutex_t *)map->mutex);
	map->life_off = offsetof(struct map, mutex); /* glibc's lock word is its first member */
	map->version = MAP_VERSION;
	map->size = sizeof(*map);
	map->magic = MAP_MAGIC;
}

/* Whom we answer for. */
static bool find_mirror(const struct endpoint *remote, uint32_t *mirror)
{
	if (remote->port == MAP_DNS_PORT && map_server_mirror(map, &remote->addr, mirror))
		return true;
	return map_to_mirror(map, &remote->addr, mirror) == MAP_PEER;
}

static void set_flow(const struct endpoint *local, const struct endpoint *remote,
		     enum map_flow_state state, int error)
{
	struct map_ends ends = { .local_addr = ip_v4(&local->addr),
				 .local_port = local->port,
				 .peer_port = (uint16_t)map->hold_port };
	struct map_flow *f;
	uint32_t slot;

	CHECK(find_mirror(remote, &ends.peer_addr));
	slot = map_flow_slot(&ends);

	for (uint32_t i = 0;; i++) {
		CHECK(i < MAP_PROBE_LIMIT);
		f = &map->flows[(slot + i) % MAP_FLOW_SLOTS];
		if (f->state == MAP_FLOW_FREE || map_ends_equal(&f->ends, &ends))
			break;
	}
	atomic_fetch_add(&f->seq, 1);
	f->ends = ends;
	f->remote = remote->addr;
	f->remote_port = remote->port;
	f->error = (uint8_t)error;
	f->generation++;
	f->state = (uint8_t)state;
	atomic_fetch_add(&f->seq, 1);
}

static void set_pair(enum map_table table, uint64_t key, uint64_t value)
{
	uint32_t slot = map_pair_slot(key);

	while (map->pairs[table][slot].key && map->pairs[table][slot].key != key)
		slot = (slot + 1) % MAP_PAIR_SLOTS;
	map->pairs[table][slot].value = value;
	map->pairs[table][slot].key = key;
	map->pair_count[table]++;
}

/* ---- sockets ---- */

static struct sockaddr_in sockaddr_v4(uint32_t addr, uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(addr) };
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	struct endpoint ep;

	CHECK(getsockname(fd, (struct sockaddr *)&name, &len) == 0);
	CHECK(endpoint_from_sockaddr(&name, len, &ep) == 0);
	return ep.port;
}

static int reusable_stream(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	CHECK(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	return fd;
}

/* A listener whose accept queue holds one connection of ours: later SYNs are dropped. */
static void create_hold(void)
{
	struct sockaddr_in addr = sockaddr_v4(INADDR_ANY, 0);
	int plug = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	hold_fd = reusable_stream();
	CHECK(setsockopt(hold_fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);
	CHECK(bind(hold_fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	CHECK(listen(hold_fd, 0) == 0);
	addr = sockaddr_v4(INADDR_LOOPBACK, port_of(hold_fd));
	CHECK(connect(plug, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	map->hold_port = port_of(hold_fd);
}

static void create_control(const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	CHECK(paths_join(dir, PATHS_CONTROL, addr.sun_path, sizeof(addr.sun_path)) == 0);
	control_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	CHECK(bind(control_fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	CHECK(listen(control_fd, 64) == 0);
}

static void create_posts(const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	CHECK(paths_join(dir, PATHS_POSTS, addr.sun_path, sizeof(addr.sun_path)) == 0);
	posts_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(bind(posts_fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	map->takes_posts = 1;
}

/* ---- dials ---- */

/*
 * Simultaneous open towards the program's socket. ECONNREFUSED: the program
 * has not called connect() yet, or has given up; try again for a while.
 */
static int try_open(struct thing *t)
{
	struct sockaddr_in from = sockaddr_v4(t->mirror, (uint16_t)map->hold_port);
	struct sockaddr_in to = sockaddr_v4(ip_v4(&t->local.addr), t->local.port);
	int fd = reusable_stream();

	CHECK(bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The kernel has forgotten a port by which a program is about to ask; as daemon/edge/rest.c. */
static void keep_port(const struct endpoint *local)
{
	static int kept[64];
	static unsigned turn;
	struct sockaddr_in addr = sockaddr_v4(ip_v4(&local->addr), local->port);
	int *fd = &kept[turn++ % ARRAY_LEN(kept)], one = 1;

	if (*fd > 0)
		close(*fd);
	*fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* The program may have chosen the port itself, and has it still. */
	if (bind(*fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		CHECK(errno == EADDRINUSE);
}

static void dial_due(struct thing *t)
{
	struct linger reset = { 1, 0 };
	int fd;

	set_flow(&t->local, &t->remote, t->fail ? MAP_FLOW_FAILED : MAP_FLOW_OPEN, t->fail);
	fd = try_open(t);
	if (fd < 0 && now_ns() < t->give_up_ns) {
		t->due_ns = now_ns() + NS_PER_MS / 2;
		return;
	}
	t->kind = THING_FREE;
	if (fd < 0)
		return;
	if (t->fail) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		keep_port(&t->local);
		return;
	}
	thing_add(THING_STREAM, fd);
}

/* The port was used before: what was under way for it is over. */
static void forget_dials(const struct endpoint *local)
{
	for (unsigned i = 0; i < thing_count; i++)
		if (things[i].kind == THING_DIAL && endpoint_equal(&things[i].local, local))
			things[i].kind = THING_FREE;
}

/* 0 or the errno it is refused with. */
static int start_dial(const struct ipc_request *r, bool is_posted, struct ipc_reply *reply)
{
	struct endpoint local = { r->local, r->local_port }, remote = { r->remote, r->remote_port };
	unsigned what = remote.port / 1000 * 1000, n = remote.port % 1000;
	struct thing *t;
	uint32_t mirror;

	if (!find_mirror(&remote, &mirror))
		return EHOSTUNREACH;
	if (remote.port == MAP_DNS_PORT) {
		what = PORT_ECHO;
		n = 0;
	}
	if (what == PORT_REFUSE)
		return (int)n;
	if (what == PORT_OVERTAKEN)
		remote.port = what = PORT_ECHO;
	if (what == PORT_ASKED || what == PORT_POSTED) {
		if ((what == PORT_POSTED) != is_posted)
			return EPROTO;
		what = PORT_ECHO;
	}
	forget_dials(&local);
	set_flow(&local, &remote, MAP_FLOW_HELD, 0);
	reply->mirror = ip_from_v4(mirror);
	reply->mirror_port = (uint16_t)map->hold_port;
	if (what == PORT_HOLD)
		return 0;
	t = thing_add(THING_DIAL, -1);
	t->local = local;
	t->remote = remote;
	t->mirror = mirror;
	t->fail = what == PORT_ECHO ? 0 : (int)n;
	t->due_ns = now_ns();
	if (what == PORT_ECHO)
		t->due_ns += n * NS_PER_MS;
	else if (what == PORT_FAIL_LATER)
		t->due_ns += FAIL_LATER_MS * NS_PER_MS;
	t->give_up_ns = t->due_ns + PATIENCE_NS;
	return 0;
}

/* Nobody waits for an answer: what it would say is a failure like any other. */
static void take_post(void)
{
	struct ipc_reply reply;
	struct ipc_post post;
	char bytes[128];
	ssize_t n = recv(posts_fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	struct thing *t;
	int err;

	if (n < 0)
		return;
	CHECK(ipc_check_post(bytes, (size_t)n, &post) == 0);
	err = start_dial(&post.dial.request, true, &reply);
	if (err == 0) {
		CHECK(ip_v4(&reply.mirror) == post.mirror);
		return;
	}
	t = thing_add(THING_DIAL, -1);
	t->local = (struct endpoint){ post.dial.request.local, post.dial.request.local_port };
	t->remote = (struct endpoint){ post.dial.request.remote, post.dial.request.remote_port };
	t->mirror = post.mirror;
	t->fail = err;
	t->due_ns = now_ns();
	t->give_up_ns = t->due_ns + PATIENCE_NS;
}

/* ---- datagrams ---- */

static int open_datagram(const struct ipc_request *r, struct ipc_reply *reply)
{
	bool v6 = r->flags & IPC_UDP_V6ONLY;
	struct endpoint at = { .port = 0 }, remote = { r->remote, r->remote_port };
	struct sockaddr_storage addr;
	struct thing *t;
	uint32_t mirror;
	socklen_t len;
	int fd;

	if (!find_mirror(&remote, &mirror))
		return EHOSTUNREACH;
	at.addr = v6 ? ip("::1") : ip_from_v4(mirror);
	fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	len = endpoint_to_sockaddr(&at, v6 ? AF_INET6 : AF_INET, &addr);
	CHECK(bind(fd, (struct sockaddr *)&addr, len) == 0);
	at.port = port_of(fd);
	t = thing_add(THING_DATAGRAM, fd);
	t->mirror = mirror;
	set_pair(v6 ? MAP_UDP_OUT6 : MAP_UDP_OUT, map_pack(mirror, r->remote_port),
		 map_pack(v6 ? 0 : mirror, at.port));
	set_pair(MAP_UDP_IN, map_pack(v6 ? 0 : mirror, at.port), map_pack(mirror, r->remote_port));
	reply->mirror = at.addr;
	reply->mirror_port = at.port;
	return 0;
}

static void echo_datagram(int fd)
{
	char in[2048], out[2200], text[IP_TEXT_MAX];
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	struct endpoint ep;
	ssize_t n = recvfrom(fd, in, sizeof(in) - 1, MSG_DONTWAIT, (struct sockaddr *)&from, &len);

	if (n < 0)
		return;
	in[n] = '\0';
	CHECK(endpoint_from_sockaddr(&from, len, &ep) == 0);
	n = snprintf(out, sizeof(out), "%s %u %s", ip_format(&ep.addr, text), ep.port, in);
	sendto(fd, out, (size_t)n, 0, (struct sockaddr *)&from, len);
}

static bool echo_stream(int fd)
{
	char data[16384];
	ssize_t n = read(fd, data, sizeof(data));

	return n > 0 && write(fd, data, (size_t)n) == n;
}

/* ---- the loop ---- */

/* A client may be interrupted before it asks, by a handler that asks, too: nobody is waited for. */
static void take_client(void)
{
	int fd = accept4(control_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		thing_add(THING_CLIENT, fd);
}

static void answer_client(int fd)
{
	struct ipc_reply reply = { .magic = IPC_MAGIC, .version = IPC_VERSION };
	struct ipc_patience p;
	struct ipc_request r;
	char bytes[128];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	if (n <= 0)
		return;
	if (ipc_check_patience(bytes, (size_t)n, &p) == 0)
		r = p.request;
	else
		CHECK(ipc_check_request(bytes, (size_t)n, &r) == 0);
	reply.type = r.type;
	if (r.type == IPC_CONNECT)
		reply.error = start_dial(&r, false, &reply);
	else if (r.type == IPC_UDP_OPEN)
		reply.error = open_datagram(&r, &reply);
	CHECK(write(fd, &reply, sizeof(reply)) == sizeof(reply));
}

static void look_after_things(const struct pollfd *polled)
{
	for (unsigned i = 0; i < thing_count; i++) {
		struct thing *t = &things[i];

		if (t->kind == THING_DIAL && now_ns() >= t->due_ns) {
			dial_due(t);
		} else if (t->kind == THING_CLIENT && polled[i].revents) {
			answer_client(t->fd);
			close(t->fd);
			t->kind = THING_FREE;
		} else if (t->kind == THING_DATAGRAM && polled[i].revents) {
			echo_datagram(t->fd);
		} else if (t->kind == THING_STREAM && polled[i].revents && !echo_stream(t->fd)) {
			close(t->fd);
			t->kind = THING_FREE;
		}
	}
}

static void run(void)
{
	struct pollfd polled[MAX_THINGS + 2];

	for (;;) {
		bool dialling = false;

		for (unsigned i = 0; i < MAX_THINGS; i++) {
			bool socket = i < thing_count && things[i].kind >= THING_STREAM;

			polled[i] = (struct pollfd){ socket ? things[i].fd : -1, POLLIN, 0 };
			dialling |= i < thing_count && things[i].kind == THING_DIAL;
		}
		polled[MAX_THINGS] = (struct pollfd){ control_fd, POLLIN, 0 };
		polled[MAX_THINGS + 1] = (struct pollfd){ posts_fd, POLLIN, 0 };
		if (poll(polled, MAX_THINGS + 2, dialling ? 0 : -1) < 0)
			continue;
		look_after_things(polled);
		if (polled[MAX_THINGS].revents)
			take_client();
		if (polled[MAX_THINGS + 1].revents)
			take_post();
	}
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	CHECK(paths_join(dir, name, path, sizeof(path)) == 0);
	CHECK((f = fopen(path, "w")) != NULL);
	fputs(text, f);
	fclose(f);
}

/* A loopback port of node-b that stands for another one, as MAP_TCP_IN has it. */
static void publish_tcp_in(const char *dir)
{
	struct sockaddr_in addr = sockaddr_v4(mirror_v4 + 3, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[32];
	uint16_t port;

	CHECK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	port = port_of(fd);
	close(fd);
	set_pair(MAP_TCP_IN, map_pack(mirror_v4 + 3, port), map_pack(mirror_v4 + 3, TCP_IN_REAL));
	snprintf(text, sizeof(text), "%u %u\n", port, TCP_IN_REAL);
	write_file(dir, FILE_TCP_IN, text);
}

int main(int argc, char **argv)
{
	uint32_t block = 65 + (uint32_t)getpid() % 60;
	char text[32];

	CHECK(argc >= 3);
	signal(SIGPIPE, SIG_IGN); /* who does not wait for an answer is a surprise, and told */
	/* A block of 127/8 of our own, so that several may run at once. */
	mirror_v4 = 127u << 24 | block << 16;
	mirror_v6 = 127u << 24 | (block + 100) << 16;
	create_map(argv[1]);
	if (argc == 3) {
		fill_directory();
		publish_tcp_in(argv[1]);
	}
	create_hold();
	create_control(argv[1]);
	create_posts(argv[1]);
	snprintf(text, sizeof(text), "%d\n", getpid());
	write_file(argv[1], FILE_PID, text);
	map->ready = 1;
	CHECK(write(atoi(argv[2]), "1", 1) == 1);
	run();
	return 0;
}
