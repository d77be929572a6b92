/*
 * Our stream beside one of the kernel's CUBIC through the same bottleneck, to
 * the same receiver, another kernel: neither may crowd the other out.
 *
 * Two network namespaces, each with a TUN device, and between them the
 * simulator's link under the real clock. The kernel's stream starts first.
 * An argument is the rate of the bottleneck in Mbit/s.
 * Needs root and /dev/net/tun; without them it says so and exits with 77.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/tcp/endpoint.h"
#include "link.h"
#include "shared/util.h"
#include "tun.h"

#define MTU      1280
#define PORT     5000
#define SENDER   "10.77.0.1" /* the kernel's; ours is .2 */
#define OURS     "10.77.0.2"
#define RECEIVER "10.77.0.9"

#define RTT_NS    (20 * NS_PER_MS)
#define QUEUE_NS  (20 * NS_PER_MS)
#define LATER_NS  (1 * NS_PER_S)
#define SETTLE_NS (5 * NS_PER_S)
#define RUN_NS    (20 * NS_PER_S)
#define LEAST     0.33 /* of the link, for either */
#define GOES      3    /* by the real clock: others on the machine may spoil one */

static uint64_t bits_per_s = 200000000; /* of the bottleneck */

struct bench {
	int sender, receiver; /* the TUN devices */
	struct tcp *tcp;
	struct tcp_conn *conn;
	struct link there, back;
	struct link_packet *reserved;
	uint64_t now_ns;
	uint64_t delivered[2]; /* bytes to the receiver: the kernel's, ours */
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
		b->reserved = link_packet(&b->there);
	return b->reserved->data;
}

static void packet_commit(void *owner, size_t len)
{
	struct bench *b = owner;
	struct link_packet *packet = b->reserved;

	packet->len = len;
	b->reserved = NULL;
	link_send(&b->there, packet, b->now_ns);
}

static void incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	struct bench *b = owner;

	(void)local;
	(void)remote;
	tcp_refuse(conn, b->now_ns);
}

static void event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct iovec space[2];
	size_t room;

	(void)owner;
	(void)user;
	if (events & TCP_EVENT_FAILED) {
		fprintf(stderr, "kernel_share: our stream: %s\n", strerror(tcp_conn_error(conn)));
		exit(1);
	}
	while ((room = tcp_send_space(conn, space)) > 0)
		tcp_send_commit(conn, room);
}

static void cancelled(void *owner, struct tcp_conn *conn)
{
	(void)owner;
	(void)conn;
}

static void read_device(struct bench *b, int tun, struct link *into)
{
	for (unsigned i = 0; i < 64; i++) {
		struct link_packet *packet = link_packet(into);
		ssize_t n = read(tun, packet->data, sizeof(packet->data));

		if (n <= 0 || packet->data[0] >> 4 != 4) {
			link_give_back(into, packet);
			if (n <= 0)
				return;
			continue;
		}
		packet->len = (size_t)n;
		link_send(into, packet, b->now_ns);
	}
}

/* A full queue of the device is a loss like any other. */
static void write_device(int tun, const struct link_packet *packet)
{
	if (write(tun, packet->data, packet->len) < 0 && errno != EAGAIN && errno != ENOBUFS) {
		perror("kernel_share: write");
		exit(1);
	}
}

static bool is_ours(const uint8_t address[4])
{
	struct in_addr ours;

	inet_pton(AF_INET, OURS, &ours);
	return memcmp(address, &ours, 4) == 0;
}

static void move_packets(struct bench *b)
{
	struct link_packet *packet;

	while ((packet = link_receive(&b->there, b->now_ns))) {
		b->delivered[is_ours(packet->data + 12)] += packet->len;
		write_device(b->receiver, packet);
		link_give_back(&b->there, packet);
	}
	while ((packet = link_receive(&b->back, b->now_ns))) {
		if (is_ours(packet->data + 16))
			tcp_input(b->tcp, packet->data, packet->len, b->now_ns);
		else
			write_device(b->sender, packet);
		link_give_back(&b->back, packet);
	}
}

static void run_until(struct bench *b, uint64_t end_ns)
{
	struct pollfd p[2] = { { b->sender, POLLIN, 0 }, { b->receiver, POLLIN, 0 } };

	while (b->now_ns < end_ns) {
		uint64_t next = MIN(link_next_ns(&b->there), link_next_ns(&b->back));
		struct timespec wait = { 0, 0 };

		next = MIN(MIN(next, tcp_deadline(b->tcp)), b->now_ns + 20 * NS_PER_MS);
		wait.tv_nsec = next > b->now_ns ? (long)(next - b->now_ns) : 0;
		ppoll(p, 2, &wait, NULL);
		b->now_ns = clock_ns();
		read_device(b, b->sender, &b->there);
		read_device(b, b->receiver, &b->back);
		move_packets(b);
		tcp_expire(b->tcp, b->now_ns);
	}
}

static _Noreturn void fails(const char *what)
{
	perror(what);
	_exit(1);
}

static struct sockaddr_in at_receiver(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	inet_pton(AF_INET, RECEIVER, &to.sin_addr);
	return to;
}

/* Two streams, read as fast as they come. */
static _Noreturn void receive(int listener)
{
	static char bytes[1 << 16];
	struct pollfd p[2];

	for (unsigned i = 0; i < 2; i++)
		p[i] = (struct pollfd){ -1, POLLIN, 0 };
	for (;;) {
		struct pollfd all[3] = { p[0], p[1], { listener, POLLIN, 0 } };

		if (poll(all, 3, -1) < 0)
			fails("receiver: poll");
		if (all[2].revents)
			p[p[0].fd >= 0].fd = accept(listener, NULL, NULL);
		for (unsigned i = 0; i < 2; i++)
			if (all[i].revents && recv(p[i].fd, bytes, sizeof(bytes), 0) <= 0)
				fails("receiver: recv");
	}
}

static _Noreturn void send_by_cubic(void)
{
	static const char bytes[1 << 16];
	struct sockaddr_in to = at_receiver();
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) < 0)
		fails("sender: the kernel has no CUBIC");
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fails("sender: connect");
	for (;;)
		if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0)
			fails("sender: send");
}

/* In the namespace that we are in now. */
static pid_t start_child(int listener)
{
	pid_t child = fork();

	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (listener >= 0)
		receive(listener);
	send_by_cubic();
}

static void stop_child(pid_t child, bool *is_good)
{
	int status;

	if (waitpid(child, &status, WNOHANG) == child) {
		*is_good = false;
		return;
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
}

static int listen_there(void)
{
	struct sockaddr_in at = at_receiver();
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 8) < 0)
		fails("receiver: listen");
	return fd;
}

static void dial(struct bench *b)
{
	struct endpoint local, remote;
	char text[ENDPOINT_TEXT_MAX];

	snprintf(text, sizeof(text), OURS ":%u", PORT);
	endpoint_parse(text, &local);
	snprintf(text, sizeof(text), RECEIVER ":%u", PORT);
	endpoint_parse(text, &remote);
	if (tcp_connect(b->tcp, &local, &remote, NULL, b->now_ns, &b->conn) < 0)
		abort();
}

/* False: one of the two got too little. */
static bool run(enum tcp_congestion congestion)
{
	static const struct tcp_callbacks callbacks = { packet_reserve, packet_commit, incoming,
							event, cancelled };
	const struct link_config there = { .bits_per_s = bits_per_s,
					   .delay_ns = RTT_NS / 2,
					   .queue_bytes = bits_per_s / 8 * QUEUE_NS / NS_PER_S };
	const struct link_config back = { .delay_ns = RTT_NS / 2 };
	struct bench b = { .now_ns = clock_ns() };
	uint64_t start_ns = b.now_ns, before[2];
	struct tcp_config config;
	pid_t sender, receiver;
	bool is_good = true;
	double share[2];

	b.receiver = tun_open(RECEIVER, NULL, MTU);
	receiver = start_child(listen_there());
	b.sender = tun_open(SENDER, NULL, MTU);
	sender = start_child(-1);
	link_init(&b.there, &there, 1);
	link_init(&b.back, &back, 2);
	tcp_config_defaults(&config, MTU);
	config.congestion = congestion;
	b.tcp = tcp_create(&config, &callbacks, &b);
	run_until(&b, start_ns + LATER_NS);
	dial(&b);
	run_until(&b, start_ns + SETTLE_NS);
	memcpy(before, b.delivered, sizeof(before));
	run_until(&b, start_ns + SETTLE_NS + RUN_NS);
	for (unsigned i = 0; i < 2; i++) {
		share[i] = (double)(b.delivered[i] - before[i]) * 8e9 / RUN_NS / bits_per_s;
		is_good &= share[i] >= LEAST;
	}
	stop_child(sender, &is_good);
	stop_child(receiver, &is_good);
	printf("kernel's CUBIC %4.1f %%, ours by %-5s %4.1f %%%s\n", share[0] * 100,
	       congestion == TCP_CUBIC ? "CUBIC" : "rate", share[1] * 100,
	       is_good ? "" : "  WRONG: too little for one, or a stream broke");
	tcp_destroy(b.tcp);
	free(b.reserved);
	link_finish(&b.there);
	link_finish(&b.back);
	close(b.sender);
	close(b.receiver);
	return is_good;
}

int main(int argc, char **argv)
{
	bool is_good = true;

	if (argc > 1)
		bits_per_s = strtoull(argv[1], NULL, 10) * 1000000;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (enum tcp_congestion c = TCP_CUBIC; c <= TCP_RATE; c++) {
		bool is_fair = false;

		for (unsigned i = 0; i < GOES && !is_fair; i++)
			is_fair = run(c);
		is_good &= is_fair;
	}
	return is_good ? 0 : 1;
}
