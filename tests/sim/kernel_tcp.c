/*
 * Our endpoint against the TCP of the Linux kernel, over a TUN device in a
 * network namespace of its own. Loss, delay and reordering are ours, in both
 * directions; every byte is checked on both sides.
 *
 * The kernel's side of each case is a child process with an ordinary socket.
 * Needs root and /dev/net/tun; without them it says so and exits with 77.
 * Arguments: part of a case's name and of the weather's, to run only those.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/tcp/endpoint.h"
#include "kernel_side.h"
#include "link.h"
#include "shared/util.h"

#define SKIP        77
#define MTU         1280
#define PORT        5000
#define WATCHDOG_NS (60 * NS_PER_S)

#define KIB UINT64_C(1024)

static const struct test_case cases[] = {
	{ "kernel dials, sends, closes first", true, 8192 * KIB, 0, KERNEL_CLOSES, PLAIN },
	{ "kernel dials, we send, we close first", true, 0, 8192 * KIB, WE_CLOSE, PLAIN },
	{ "kernel dials, both send, kernel closes first", true, 2048 * KIB, 2048 * KIB,
	  KERNEL_CLOSES, PLAIN },
	{ "we dial, both send, we close first", false, 2048 * KIB, 2048 * KIB, WE_CLOSE, PLAIN },
	{ "we dial, both send, both close at once", false, 512 * KIB, 512 * KIB, BOTH_CLOSE,
	  PLAIN },
	{ "we dial, kernel sends, closes first", false, 8192 * KIB, 0, KERNEL_CLOSES, PLAIN },
	{ "we dial, we send, we close first", false, 0, 8192 * KIB, WE_CLOSE, PLAIN },
	{ "half-close: a word up, a long answer down", true, 5, 4096 * KIB, KERNEL_CLOSES, PLAIN },
	{ "half-close: a word down, a long answer up", false, 4096 * KIB, 5, WE_CLOSE, PLAIN },
	{ "nothing either way, both close at once", true, 0, 0, BOTH_CLOSE, PLAIN },
	{ "one byte each way", false, 1, 1, BOTH_CLOSE, PLAIN },
	{ "kernel dials, refused by us", true, 0, 0, KERNEL_CLOSES, REFUSED },
	{ "we dial, refused by the kernel", false, 0, 0, KERNEL_CLOSES, REFUSED },
	{ "kernel resets in the middle", true, 1024 * KIB, 1024 * KIB, KERNEL_CLOSES,
	  KERNEL_RESETS },
	{ "we reset in the middle", false, 1024 * KIB, 1024 * KIB, WE_CLOSE, WE_RESET },
	{ "zero window: the kernel reads late", true, 0, 6144 * KIB, WE_CLOSE, KERNEL_READS_LATE },
	{ "zero window: we read late", true, 6144 * KIB, 0, KERNEL_CLOSES, WE_READ_LATE },
	{ "the answer to a SYN comes late", true, 100, 100, KERNEL_CLOSES, WE_DECIDE_LATE },
};

struct weather {
	const char *name;
	unsigned divide; /* transfers by this: loss makes them long */
	struct link_config link;
};

static const struct weather weathers[] = {
	{ "clear", 1, { 0 } },
	{ "20 ms, 1 % loss, reordering",
	  8,
	  { .bits_per_s = 400000000,
	    .delay_ns = 10 * NS_PER_MS,
	    .queue_bytes = 1 << 20,
	    .loss = 10000,
	    .reorder = 10000,
	    .duplicate = 2000,
	    .reorder_ns = 8 * NS_PER_MS } },
	{ "2 ms, 5 % loss",
	  4,
	  { .bits_per_s = 100000000,
	    .delay_ns = NS_PER_MS,
	    .queue_bytes = 1 << 20,
	    .loss = 50000,
	    .reorder_ns = NS_PER_MS } },
};

/* Our side of the running case. */
struct bench {
	int tun;
	struct tcp *tcp;
	struct link up, down; /* from the kernel, to the kernel */
	struct link_packet *reserved;
	const struct test_case *test;
	struct endpoint local, remote;
	struct tcp_conn *conn, *parked;
	uint64_t sent, received, resume_ns;
	bool has_finished, is_over;
	const char *wrong;
	uint64_t now_ns;
};

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint8_t *packet_reserve(void *owner, size_t len)
{
	struct bench *b = owner;

	(void)len;
	if (!b->reserved)
		b->reserved = link_packet(&b->down);
	return b->reserved->data;
}

static void packet_commit(void *owner, size_t len)
{
	struct bench *b = owner;
	struct link_packet *packet = b->reserved;

	packet->len = len;
	b->reserved = NULL;
	link_send(&b->down, packet, b->now_ns);
}

static void over(struct bench *b, const char *wrong)
{
	if (wrong && !b->wrong)
		b->wrong = wrong;
	b->conn = NULL;
	b->is_over = true;
}

static void we_write(struct bench *b)
{
	const struct test_case *t = b->test;
	struct iovec space[2];
	size_t room;

	while (b->sent < t->down && (room = tcp_send_space(b->conn, space)) > 0) {
		size_t n = MIN(space[0].iov_len, t->down - b->sent);
		uint8_t *to = space[0].iov_base;

		for (size_t i = 0; i < n; i++)
			to[i] = kernel_content(b->sent + i, false);
		tcp_send_commit(b->conn, n);
		b->sent += n;
	}
	if (b->sent == t->down && (t->order != KERNEL_CLOSES || tcp_recv_ended(b->conn))) {
		tcp_send_finish(b->conn);
		b->has_finished = true;
	}
}

static void we_read(struct bench *b)
{
	struct iovec data[2];
	unsigned count;
	size_t len;

	while ((len = tcp_recv_data(b->conn, data, 1, &count)) > 0) {
		if (!kernel_content_is_right(data[0].iov_base, len, b->received, true)) {
			tcp_abort(b->conn, b->now_ns);
			over(b, "a wrong byte");
			return;
		}
		b->received += len;
		tcp_recv_consume(b->conn, len);
	}
	if (tcp_recv_ended(b->conn) && b->received != b->test->up)
		b->wrong = "the stream ended early";
}

/* Once the kernel has acknowledged something, so that it surely knows of the connection. */
static bool reset_is_due(const struct bench *b)
{
	struct tcp_conn_info info;

	if (!b->conn || b->test->special != WE_RESET)
		return false;
	tcp_conn_info(b->conn, &info);
	return b->sent > info.unacked + info.unsent;
}

static void we_go_on(struct bench *b)
{
	if (reset_is_due(b)) {
		tcp_abort(b->conn, b->now_ns);
		over(b, NULL);
	}
	if (b->conn && b->now_ns >= b->resume_ns)
		we_read(b);
	if (b->conn)
		we_write(b);
	if (b->conn && b->has_finished && tcp_recv_ended(b->conn)) {
		tcp_release(b->conn, b->now_ns);
		over(b, NULL);
	}
}

static void event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct bench *b = owner;

	(void)user;
	if (conn != b->conn)
		return;
	if (events & TCP_EVENT_FAILED) {
		int error = tcp_conn_error(conn);
		bool is_right = (b->test->special == REFUSED && error == ECONNREFUSED) ||
				(b->test->special == KERNEL_RESETS && error == ECONNRESET);

		tcp_release(conn, b->now_ns);
		over(b, is_right ? NULL : strerror(error));
		return;
	}
	we_go_on(b);
}

static void decide(struct bench *b)
{
	struct tcp_conn *conn = b->parked;

	b->parked = NULL;
	if (b->test->special == REFUSED) {
		tcp_refuse(conn, b->now_ns);
		b->is_over = true;
		return;
	}
	b->conn = conn;
	tcp_accept(conn, NULL, b->now_ns);
	b->resume_ns = b->now_ns + (b->test->special == WE_READ_LATE ? 2 * NS_PER_S : 0);
}

static void incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	struct bench *b = owner;

	(void)remote;
	if (local->port != b->local.port || b->conn ||
	    (b->is_over && b->test->special != REFUSED)) {
		tcp_refuse(conn, b->now_ns); /* a late duplicate */
		return;
	}
	b->parked = conn;
	b->resume_ns = b->now_ns;
	if (b->test->special == WE_DECIDE_LATE)
		b->resume_ns += 1500 * NS_PER_MS;
	else
		decide(b);
}

static void cancelled(void *owner, struct tcp_conn *conn)
{
	struct bench *b = owner;

	if (conn == b->parked)
		over(b, "cancelled while parked");
}

static void read_tun(struct bench *b)
{
	for (unsigned i = 0; i < 64; i++) {
		struct link_packet *packet = link_packet(&b->up);
		ssize_t n = read(b->tun, packet->data, sizeof(packet->data));
		/* Only TCP: the kernel also says hello to routers and multicast groups. */
		bool is_tcp = n > 40 - 1 && (packet->data[0] >> 4 == 4 ? packet->data[9] == 6
								       : packet->data[6] == 6);

		if (!is_tcp) {
			link_give_back(&b->up, packet);
			if (n < 0)
				return;
			continue;
		}
		packet->len = (size_t)n;
		link_send(&b->up, packet, b->now_ns);
	}
}

static void move_packets(struct bench *b)
{
	struct link_packet *packet;

	while ((packet = link_receive(&b->up, b->now_ns))) {
		tcp_input(b->tcp, packet->data, packet->len, b->now_ns);
		link_give_back(&b->up, packet);
	}
	tcp_flush(b->tcp, b->now_ns);
	while ((packet = link_receive(&b->down, b->now_ns))) {
		/* A full queue of the device is a loss like any other. */
		ssize_t n = write(b->tun, packet->data, packet->len);

		if (n < 0 && errno != EAGAIN && errno != ENOBUFS)
			b->wrong = "the TUN device did not take a packet";
		link_give_back(&b->down, packet);
	}
}

static void wait_for_something(struct bench *b)
{
	uint64_t next = MIN(link_next_ns(&b->up), link_next_ns(&b->down));
	struct pollfd p = { b->tun, POLLIN, 0 };
	struct timespec wait;

	next = MIN(next, tcp_deadline(b->tcp));
	if (b->parked || b->now_ns < b->resume_ns)
		next = MIN(next, b->resume_ns);
	next = next > b->now_ns ? MIN(next - b->now_ns, 20 * NS_PER_MS) : 0;
	wait = (struct timespec){ 0, (long)next };
	ppoll(&p, 1, &wait, NULL);
	b->now_ns = clock_ns();
}

static void turn(struct bench *b)
{
	wait_for_something(b);
	read_tun(b);
	move_packets(b);
	if (b->parked && b->now_ns >= b->resume_ns)
		decide(b);
	we_go_on(b);
	tcp_expire(b->tcp, b->now_ns);
	move_packets(b);
}

static int listen_on(const struct sockaddr *address, socklen_t len)
{
	int fd = socket(address->sa_family, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, address, len) < 0 || listen(fd, 8) < 0) {
		perror("kernel_tcp: listen");
		exit(1);
	}
	return fd;
}

static void describe(const struct bench *b)
{
	struct tcp_conn_info i = { .state = "no connection" };

	if (b->conn)
		tcp_conn_info(b->conn, &i);
	printf("    %s, cwnd %u, rto %llu us, unacked %llu, unsent %llu, unread %llu, window %u, "
	       "resent %llu; %llu sent, %llu received\n",
	       i.state, i.cwnd, (unsigned long long)i.rto_us, (unsigned long long)i.unacked,
	       (unsigned long long)i.unsent, (unsigned long long)i.unread, i.peer_window,
	       (unsigned long long)i.retransmitted, (unsigned long long)b->sent,
	       (unsigned long long)b->received);
}

/* Runs until both sides are through, or the watchdog bites. NULL, or what is wrong. */
static const char *run_to_end(struct bench *b, pid_t child)
{
	uint64_t start_ns = clock_ns();
	bool is_gone = false;
	int status = 0;

	while (!b->is_over || !is_gone) {
		turn(b);
		if (!is_gone && waitpid(child, &status, WNOHANG) == child)
			is_gone = true;
		if (is_gone && status != 0) {
			describe(b);
			return b->wrong ? b->wrong : "the kernel's side failed";
		}
		if (b->wrong || b->now_ns - start_ns > WATCHDOG_NS) {
			if (!is_gone) {
				kill(child, SIGKILL);
				waitpid(child, &status, 0);
			}
			describe(b);
			return b->wrong ? b->wrong : "stalled";
		}
	}
	return NULL;
}

static bool run_case(struct bench *b, const struct test_case *t, bool is_v6, uint16_t port)
{
	struct endpoint kernel, ours;
	struct sockaddr_storage to;
	const char *wrong;
	uint64_t start_ns = clock_ns();
	int listener = -1;
	socklen_t len;
	pid_t child;
	char text[ENDPOINT_TEXT_MAX];

	snprintf(text, sizeof(text), is_v6 ? "[fd77::1]:%u" : "10.77.0.1:%u", port);
	endpoint_parse(text, &kernel);
	snprintf(text, sizeof(text), is_v6 ? "[fd77::2]:%u" : "10.77.0.2:%u", port);
	endpoint_parse(text, &ours);
	b->test = t;
	b->local = ours;
	b->conn = b->parked = NULL;
	b->sent = b->received = b->resume_ns = 0;
	b->has_finished = b->is_over = false;
	b->wrong = NULL;
	b->now_ns = start_ns;
	if (!t->kernel_dials && t->special != REFUSED) {
		len = endpoint_to_sockaddr(&kernel, is_v6 ? AF_INET6 : AF_INET, &to);
		listener = listen_on((struct sockaddr *)&to, len);
	}
	len = endpoint_to_sockaddr(&ours, is_v6 ? AF_INET6 : AF_INET, &to);
	child = fork();
	if (child == 0) {
		if (!t->kernel_dials && t->special == REFUSED)
			_exit(0);
		kernel_side_run(t, listener, (struct sockaddr *)&to, len);
	}
	if (!t->kernel_dials && tcp_connect(b->tcp, &ours, &kernel, NULL, b->now_ns, &b->conn) < 0)
		return false;
	wrong = run_to_end(b, child);
	if (listener >= 0)
		close(listener);
	printf("  %-46s %s %7.0f ms%s%s\n", t->name, is_v6 ? "v6" : "v4",
	       (double)(clock_ns() - start_ns) / 1e6, wrong ? "  WRONG: " : "", wrong ? wrong : "");
	return !wrong;
}

static void require(bool is_fine, const char *what)
{
	if (is_fine)
		return;
	fprintf(stderr, "kernel_tcp: %s: %s; this test needs root and /dev/net/tun\n", what,
		strerror(errno));
	exit(SKIP);
}

static int open_tun(void)
{
	struct in6_ifreq {
		struct in6_addr address;
		uint32_t prefix_len;
		int index;
	} six = { .prefix_len = 64 };
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;
	int tun, s4, s6;

	require(unshare(CLONE_NEWNET) == 0, "a network namespace");
	tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	require(tun >= 0, "/dev/net/tun");
	strcpy(ifr.ifr_name, "mw0");
	require(ioctl(tun, TUNSETIFF, &ifr) == 0, "a TUN device");
	s4 = socket(AF_INET, SOCK_DGRAM, 0);
	s6 = socket(AF_INET6, SOCK_DGRAM, 0);
	ifr.ifr_mtu = MTU;
	require(ioctl(s4, SIOCSIFMTU, &ifr) == 0, "the MTU");
	memset(&ifr.ifr_addr, 0, sizeof(ifr.ifr_addr));
	in->sin_family = AF_INET;
	inet_pton(AF_INET, "10.77.0.1", &in->sin_addr);
	require(ioctl(s4, SIOCSIFADDR, &ifr) == 0, "an IPv4 address");
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	require(ioctl(s4, SIOCSIFNETMASK, &ifr) == 0, "an IPv4 netmask");
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	require(ioctl(s4, SIOCSIFFLAGS, &ifr) == 0, "the device up");
	inet_pton(AF_INET6, "fd77::1", &six.address);
	six.index = (int)if_nametoindex("mw0");
	require(ioctl(s6, SIOCSIFADDR, &six) == 0, "an IPv6 address");
	close(s4);
	close(s6);
	return tun;
}

int main(int argc, char **argv)
{
	static const struct tcp_callbacks callbacks = { packet_reserve, packet_commit, incoming,
							event, cancelled };
	struct bench bench = { 0 };
	struct tcp_config config;
	uint16_t port = PORT;
	unsigned failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	bench.tun = open_tun();
	tcp_config_defaults(&config, MTU);
	bench.tcp = tcp_create(&config, &callbacks, &bench);
	for (size_t w = 0; w < ARRAY_LEN(weathers); w++) {
		if (argc > 2 && !strstr(weathers[w].name, argv[2]))
			continue;
		printf("%s\n", weathers[w].name);
		link_init(&bench.up, &weathers[w].link, 1 + w);
		link_init(&bench.down, &weathers[w].link, 100 + w);
		for (size_t i = 0; i < ARRAY_LEN(cases); i++)
			for (int is_v6 = 0; is_v6 < 2; is_v6++) {
				struct test_case t = cases[i];

				t.up = (t.up + weathers[w].divide - 1) / weathers[w].divide;
				t.down = (t.down + weathers[w].divide - 1) / weathers[w].divide;
				if (argc < 2 || strstr(t.name, argv[1]))
					failed += !run_case(&bench, &t, is_v6, port++);
			}
		link_finish(&bench.up);
		free(bench.reserved);
		bench.reserved = NULL;
		link_finish(&bench.down);
	}
	tcp_destroy(bench.tcp);
	close(bench.tun);
	printf("kernel_tcp: %u wrong\n", failed);
	return failed ? 1 : 0;
}
