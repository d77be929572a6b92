/*
 * Our stream beside one of the kernel's CUBIC through the same bottleneck, to
 * the same receiver, another kernel: neither may crowd the other out.
 *
 * Two network namespaces, each with a TUN device, and between them the
 * simulator's link under the real clock. What the two senders hand over within one
 * look at them reaches the queue in random order: were one always first, the other would
 * have the place that is no longer free, and all the losses.
 *
 * A queue of 20 ms overflows every 5 s or so, and which of the two it hits is chance: what
 * counts is measured on, up to four times as long, until both have their part.
 *
 * Without arguments, the cases of the table; with "long", those of long paths; or one case
 * that is only shown:
 *
 *     MBIT_S RTT_MS cubic|rate|kernel KERNEL_AT_S OURS_AT_S FROM_S SECONDS
 *
 * "kernel" is a second stream of the kernel's in place of ours: what two of
 * its own leave each other is the measure.
 * Needs root and /dev/net/tun; without them it says so and exits with 77.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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

#define QUEUE_NS (20 * NS_PER_MS)
#define SHOW_NS  (5 * NS_PER_S)
#define BUFFERS  "4096 131072 67108864" /* of the kernel's streams, which are not to bound them */

enum ours { OURS_CUBIC, OURS_RATE, OURS_KERNEL };

static const char *const ours_names[] = { "cubic", "rate", "kernel" };

struct scenario {
	unsigned mbit_s, rtt_ms;
	enum ours ours;
	double start_s[2];   /* the kernel's, ours */
	double from_s, to_s; /* what counts, */
	double most_s;       /* or until then, while it is not */
	double least;        /* of the link, for either */
	unsigned goes;       /* by the real clock: others on the machine may spoil one */
};

/* Packets of one sender that have not reached the queue. */
struct arrivals {
	struct link_packet *first, **end;
	unsigned count;
};

struct bench {
	int sender, receiver; /* the TUN devices */
	struct tcp *tcp;
	struct tcp_conn *conn;
	struct link there, back;
	struct link_packet *reserved;
	struct arrivals arrivals[2]; /* the kernel's, ours */
	uint64_t random;
	uint64_t now_ns;
	uint64_t delivered[2]; /* bytes to the receiver: the kernel's, ours */
	pid_t senders[2];      /* the kernel's streams */
};

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void arrive(struct arrivals *arrivals, struct link_packet *packet)
{
	if (arrivals->count++ == 0)
		arrivals->end = &arrivals->first;
	packet->next = NULL;
	*arrivals->end = packet;
	arrivals->end = &packet->next;
}

static struct link_packet *next_arrival(struct bench *b)
{
	unsigned kernels = b->arrivals[0].count, both = kernels + b->arrivals[1].count;
	struct arrivals *arrivals;
	struct link_packet *packet;

	if (both == 0)
		return NULL;
	arrivals = &b->arrivals[link_random(&b->random) % both >= kernels];
	packet = arrivals->first;
	arrivals->first = packet->next;
	arrivals->count--;
	return packet;
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
	arrive(&b->arrivals[1], packet);
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
		if (into == &b->there)
			arrive(&b->arrivals[0], packet);
		else
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

/* Which of the two, by the port that it goes to. */
static unsigned stream_of(const struct link_packet *packet)
{
	return (unsigned)(packet->data[22] << 8 | packet->data[23]) - PORT;
}

static void move_packets(struct bench *b)
{
	struct link_packet *packet;

	while ((packet = link_receive(&b->there, b->now_ns))) {
		if (stream_of(packet) < 2)
			b->delivered[stream_of(packet)] += packet->len;
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
	struct link_packet *packet;

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
		while ((packet = next_arrival(b)))
			link_send(&b->there, packet, b->now_ns);
	}
}

static _Noreturn void fails(const char *what)
{
	perror(what);
	_exit(1);
}

static struct sockaddr_in at_receiver(unsigned stream)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)(PORT + stream)) };

	inet_pton(AF_INET, RECEIVER, &to.sin_addr);
	return to;
}

/* As fast as it comes. */
static _Noreturn void receive(int listener)
{
	static char bytes[1 << 18];
	int fd = accept(listener, NULL, NULL);

	while (recv(fd, bytes, sizeof(bytes), 0) > 0)
		;
	fails("receiver: recv");
}

static _Noreturn void send_by_cubic(unsigned stream)
{
	static const char bytes[1 << 16];
	struct sockaddr_in to = at_receiver(stream);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) < 0)
		fails("sender: the kernel has no CUBIC");
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fails("sender: connect");
	for (;;)
		if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0)
			fails("sender: send");
}

/* In the namespace that we are in now: a receiver, or without a listener a sender. */
static pid_t start_child(int listener, unsigned stream)
{
	pid_t child = fork();

	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (listener >= 0)
		receive(listener);
	send_by_cubic(stream);
}

static void stop_child(pid_t child, bool *is_good)
{
	int status;

	if (child == 0)
		return;
	if (waitpid(child, &status, WNOHANG) == child) {
		*is_good = false;
		return;
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
}

static int listen_there(unsigned stream)
{
	struct sockaddr_in at = at_receiver(stream);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 8) < 0)
		fails("receiver: listen");
	return fd;
}

static void set_buffers(const char *name)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, BUFFERS, strlen(BUFFERS)) < 0)
		fails(name);
	close(fd);
}

static int open_side(const char *address)
{
	int tun = tun_open(address, NULL, MTU);

	set_buffers("/proc/sys/net/ipv4/tcp_rmem");
	set_buffers("/proc/sys/net/ipv4/tcp_wmem");
	return tun;
}

static void dial(struct bench *b)
{
	struct endpoint local, remote;
	char text[ENDPOINT_TEXT_MAX];

	snprintf(text, sizeof(text), OURS ":%u", PORT);
	endpoint_parse(text, &local);
	snprintf(text, sizeof(text), RECEIVER ":%u", PORT + 1);
	endpoint_parse(text, &remote);
	if (tcp_connect(b->tcp, &local, &remote, NULL, b->now_ns, &b->conn) < 0)
		abort();
}

static void start_stream(struct bench *b, const struct scenario *s, unsigned stream)
{
	if (stream == 1 && s->ours != OURS_KERNEL)
		dial(b);
	else
		b->senders[stream] = start_child(-1, stream);
}

static uint64_t in_ns(double seconds)
{
	return (uint64_t)(seconds * 1e9);
}

static double share(const struct scenario *s, uint64_t bytes, double seconds)
{
	return (double)bytes * 8 / seconds / (s->mbit_s * 1e6);
}

static bool is_shared(const struct scenario *s, const double shares[2])
{
	return shares[0] >= s->least && shares[1] >= s->least;
}

/* Goes on for so long, shows it by SHOW_NS, and adds to what each had. */
static void run_shown(struct bench *b, const struct scenario *s, double seconds, double had[2])
{
	uint64_t end_ns = b->now_ns + in_ns(seconds);

	while (b->now_ns < end_ns) {
		uint64_t from_ns = b->now_ns, before[2];
		double took;

		memcpy(before, b->delivered, sizeof(before));
		run_until(b, MIN(from_ns + SHOW_NS, end_ns));
		took = (double)(b->now_ns - from_ns) / 1e9;
		for (unsigned i = 0; i < 2; i++)
			had[i] += share(s, b->delivered[i] - before[i], 1);
		if (took >= 1)
			printf("  %.0f:%.0f", share(s, b->delivered[0] - before[0], took) * 100,
			       share(s, b->delivered[1] - before[1], took) * 100);
	}
}

/* Both start when they are to; what they had until from_s does not count. */
static void run_streams(struct bench *b, const struct scenario *s, double shares[2])
{
	unsigned first = s->start_s[1] < s->start_s[0];
	uint64_t start_ns = b->now_ns, from_ns;
	double had[2] = { 0, 0 }, took;

	run_until(b, start_ns + in_ns(s->start_s[first]));
	start_stream(b, s, first);
	run_until(b, start_ns + in_ns(s->start_s[!first]));
	start_stream(b, s, !first);
	run_until(b, start_ns + in_ns(s->from_s));
	from_ns = b->now_ns;
	do {
		run_shown(b, s, s->to_s - s->from_s, had);
		took = (double)(b->now_ns - from_ns) / 1e9;
		for (unsigned i = 0; i < 2; i++)
			shares[i] = had[i] / took;
	} while (!is_shared(s, shares) && s->from_s + took + 1 < s->most_s);
	printf("\n");
}

/* False: one of the two got too little. */
static bool run(const struct scenario *s)
{
	static const struct tcp_callbacks callbacks = { packet_reserve, packet_commit, incoming,
							event, cancelled };
	const uint64_t bits_per_s = s->mbit_s * UINT64_C(1000000),
		       delay_ns = s->rtt_ms * NS_PER_MS / 2;
	const struct link_config there = { .bits_per_s = bits_per_s,
					   .delay_ns = delay_ns,
					   .queue_bytes = bits_per_s / 8 * QUEUE_NS / NS_PER_S };
	const struct link_config back = { .delay_ns = delay_ns };
	struct bench b = { .now_ns = clock_ns(), .random = 3 };
	struct link_packet *packet;
	struct tcp_config config;
	pid_t receiver[2];
	bool is_good;
	double shares[2];

	b.receiver = open_side(RECEIVER);
	for (unsigned i = 0; i < 2; i++)
		receiver[i] = start_child(listen_there(i), i);
	b.sender = open_side(SENDER);
	link_init(&b.there, &there, 1);
	link_init(&b.back, &back, 2);
	tcp_config_defaults(&config, MTU);
	config.congestion = s->ours == OURS_RATE ? TCP_RATE : TCP_CUBIC;
	b.tcp = tcp_create(&config, &callbacks, &b);
	run_streams(&b, s, shares);
	is_good = is_shared(s, shares);
	for (unsigned i = 0; i < 2; i++) {
		stop_child(b.senders[i], &is_good);
		stop_child(receiver[i], &is_good);
	}
	printf("%u Mbit/s, %u ms: kernel's CUBIC after %g s %4.1f %%, %s after %g s %4.1f %%%s\n",
	       s->mbit_s, s->rtt_ms, s->start_s[0], shares[0] * 100, ours_names[s->ours],
	       s->start_s[1], shares[1] * 100,
	       is_good ? "" : "  WRONG: too little for one, or a stream broke");
	tcp_destroy(b.tcp);
	while ((packet = next_arrival(&b)))
		link_give_back(&b.there, packet);
	free(b.reserved);
	link_finish(&b.there);
	link_finish(&b.back);
	close(b.sender);
	close(b.receiver);
	return is_good;
}

static bool run_until_fair(const struct scenario *s)
{
	for (unsigned i = 0; i < s->goes; i++)
		if (run(s))
			return true;
	return false;
}

static int usage(void)
{
	fprintf(stderr, "usage: kernel_share [long | MBIT_S RTT_MS cubic|rate|kernel KERNEL_AT_S "
			"OURS_AT_S FROM_S TO_S]\n");
	return 2;
}

static int show(char **argv)
{
	struct scenario s = { .mbit_s = (unsigned)atoi(argv[1]),
			      .rtt_ms = (unsigned)atoi(argv[2]),
			      .start_s = { atof(argv[4]), atof(argv[5]) },
			      .from_s = atof(argv[6]),
			      .to_s = atof(argv[7]) };

	while (s.ours < OURS_KERNEL && strcmp(ours_names[s.ours], argv[3]) != 0)
		s.ours++;
	if (strcmp(ours_names[s.ours], argv[3]) != 0 || s.mbit_s == 0 || s.to_s <= s.from_s)
		return usage();
	return run(&s) ? 0 : 1;
}

int main(int argc, char **argv)
{
	static const struct scenario usual[] = {
		{ 200, 20, OURS_CUBIC, { 0, 1 }, 5, 25, 85, 0.33, 2 },
		{ 200, 20, OURS_RATE, { 0, 1 }, 5, 25, 85, 0.33, 2 },
		{ 200, 66, OURS_CUBIC, { 0.3, 0 }, 5, 30, 90, 0.33, 2 },
	};
	/* A start that was cut needs 20 s on such a path, beside the kernel's own, too. */
	static const struct scenario distant[] = {
		{ 200, 66, OURS_CUBIC, { 1, 0 }, 15, 45, 105, 0.33, 2 },
		{ 200, 66, OURS_CUBIC, { 0, 2 }, 15, 45, 105, 0.33, 2 },
		{ 200, 200, OURS_CUBIC, { 0, 2 }, 30, 90, 150, 0.33, 2 },
		{ 200, 200, OURS_CUBIC, { 0.3, 0 }, 30, 90, 150, 0.33, 2 },
	};
	bool is_long = argc == 2 && strcmp(argv[1], "long") == 0, is_good = true;
	size_t count = is_long ? ARRAY_LEN(distant) : ARRAY_LEN(usual);

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 8)
		return show(argv);
	if (argc > 1 && !is_long)
		return usage();
	for (size_t i = 0; i < count; i++)
		is_good &= run_until_fair(is_long ? &distant[i] : &usual[i]);
	return is_good ? 0 : 1;
}
