/*
 * Our endpoint against the TCP of the Linux kernel, over a TUN device in a
 * network namespace of its own. Loss, delay and reordering are ours, in both
 * directions; every byte is checked on both sides.
 *
 * The kernel's side of each case is a child process with an ordinary socket.
 * Needs root and /dev/net/tun; without them it says so and exits with 77.
 * Arguments: part of a case's name and of the weather's, to run only those.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernel_side.h"
#include "our_side.h"
#include "shared/util.h"
#include "tun.h"

#define MTU         1280
#define PORT        5000
#define WATCHDOG_NS (60 * NS_PER_S)
#define CLOSE_NS    (250 * NS_PER_MS) /* into the case, where both close at once */
#define CROSSES_NS  (10 * NS_PER_MS)  /* of delay: then the two FINs surely cross */

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

struct bench {
	int tun;
	struct our_side our;
	struct link up; /* from the kernel */
	unsigned closed_at_once, crossed;
};

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
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
		link_send(&b->up, packet, b->our.now_ns);
	}
}

static void move_packets(struct bench *b)
{
	struct link_packet *packet;

	while ((packet = link_receive(&b->up, b->our.now_ns))) {
		tcp_input(b->our.tcp, packet->data, packet->len, b->our.now_ns);
		link_give_back(&b->up, packet);
	}
	tcp_flush(b->our.tcp, b->our.now_ns);
	while ((packet = link_receive(&b->our.out, b->our.now_ns))) {
		/* A full queue of the device is a loss like any other. */
		ssize_t n = write(b->tun, packet->data, packet->len);

		if (n < 0 && errno != EAGAIN && errno != ENOBUFS)
			b->our.wrong = "the TUN device did not take a packet";
		link_give_back(&b->our.out, packet);
	}
}

static void wait_for_something(struct bench *b)
{
	uint64_t next = MIN(link_next_ns(&b->up), link_next_ns(&b->our.out));
	struct pollfd p = { b->tun, POLLIN, 0 };
	struct timespec wait;

	next = MIN(next, tcp_deadline(b->our.tcp));
	next = MIN(next, our_side_next_ns(&b->our));
	next = next > b->our.now_ns ? MIN(next - b->our.now_ns, 20 * NS_PER_MS) : 0;
	wait = (struct timespec){ 0, (long)next };
	ppoll(&p, 1, &wait, NULL);
	b->our.now_ns = clock_ns();
}

static void turn(struct bench *b)
{
	wait_for_something(b);
	read_tun(b);
	move_packets(b);
	our_side_go_on(&b->our);
	tcp_expire(b->our.tcp, b->our.now_ns);
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

/* Runs until both sides are through, or the watchdog bites. NULL, or what is wrong. */
static const char *run_to_end(struct bench *b, pid_t child)
{
	uint64_t start_ns = clock_ns();
	bool is_gone = false;
	int status = 0;

	while (!b->our.is_over || !is_gone) {
		turn(b);
		if (!is_gone && waitpid(child, &status, WNOHANG) == child)
			is_gone = true;
		if (is_gone && status != 0) {
			our_side_describe(&b->our);
			return b->our.wrong ? b->our.wrong : "the kernel's side failed";
		}
		if (b->our.wrong || b->our.now_ns - start_ns > WATCHDOG_NS) {
			if (!is_gone) {
				kill(child, SIGKILL);
				waitpid(child, &status, 0);
			}
			our_side_describe(&b->our);
			return b->our.wrong ? b->our.wrong : "stalled";
		}
	}
	return NULL;
}

static bool run_case(struct bench *b, const struct test_case *t, bool is_v6, uint16_t port)
{
	struct our_side *our = &b->our;
	uint64_t start_ns = clock_ns(), close_ns = start_ns + CLOSE_NS;
	struct sockaddr_storage to;
	const char *wrong;
	int listener = -1;
	socklen_t len;
	pid_t child;
	char text[ENDPOINT_TEXT_MAX];

	snprintf(text, sizeof(text), is_v6 ? "[fd77::1]:%u" : "10.77.0.1:%u", port);
	endpoint_parse(text, &our->remote);
	snprintf(text, sizeof(text), is_v6 ? "[fd77::2]:%u" : "10.77.0.2:%u", port);
	endpoint_parse(text, &our->local);
	our->now_ns = start_ns;
	our->close_ns = close_ns;
	if (t->dials == WE_DIAL && t->special != REFUSED) {
		len = endpoint_to_sockaddr(&our->remote, is_v6 ? AF_INET6 : AF_INET, &to);
		listener = listen_on((struct sockaddr *)&to, len);
	}
	len = endpoint_to_sockaddr(&our->local, is_v6 ? AF_INET6 : AF_INET, &to);
	child = fork();
	if (child == 0) {
		if (t->dials == WE_DIAL && t->special == REFUSED)
			_exit(0);
		kernel_side_run(t, close_ns, listener, (struct sockaddr *)&to, len);
	}
	if (child < 0 || !our_side_start(our, t))
		return false;
	wrong = run_to_end(b, child);
	if (listener >= 0)
		close(listener);
	b->closed_at_once += t->order == BOTH_CLOSE;
	b->crossed += our->has_crossed;
	printf("  %-44s %-11s %s %7.0f ms%s%s\n", t->name,
	       t->dials == WE_DIAL ? "we dial" : "it dials", is_v6 ? "v6" : "v4",
	       (double)(clock_ns() - start_ns) / 1e6, wrong ? "  WRONG: " : "", wrong ? wrong : "");
	return !wrong;
}

/* All cases, or those with part in their name, in one weather: how many went wrong. */
static unsigned run_weather(struct bench *b, const struct weather *w, const char *part)
{
	static uint16_t port = PORT;
	unsigned failed = 0;
	struct test_case t;

	printf("%s\n", w->name);
	b->closed_at_once = b->crossed = 0;
	for (unsigned i = 0; test_cases[i].name; i++)
		for (unsigned k = 0; k < 4; k++)
			if (strstr(test_cases[i].name, part) &&
			    test_case_make(&t, i, k & 1, w->divide))
				failed += !run_case(b, &t, k & 2, port++);
	printf("  the FINs crossed in %u cases of %u\n", b->crossed, b->closed_at_once);
	if (w->link.delay_ns >= CROSSES_NS && b->closed_at_once > 0 && b->crossed == 0) {
		printf("  WRONG: no close was simultaneous\n");
		failed++;
	}
	return failed;
}

int main(int argc, char **argv)
{
	struct bench b = { 0 };
	struct tcp_config config;
	unsigned failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	b.tun = tun_open("10.77.0.1", "fd77::1", MTU);
	tcp_config_defaults(&config, MTU);
	b.our.tcp = tcp_create(&config, &our_side_callbacks, &b.our);
	for (size_t w = 0; w < ARRAY_LEN(weathers); w++) {
		if (argc > 2 && !strstr(weathers[w].name, argv[2]))
			continue;
		link_init(&b.up, &weathers[w].link, 1 + w);
		link_init(&b.our.out, &weathers[w].link, 100 + w);
		failed += run_weather(&b, &weathers[w], argc > 1 ? argv[1] : "");
		link_finish(&b.up);
		free(b.our.reserved);
		b.our.reserved = NULL;
		link_finish(&b.our.out);
	}
	tcp_destroy(b.our.tcp);
	close(b.tun);
	printf("kernel_tcp: %u wrong\n", failed);
	return failed ? 1 : 0;
}
