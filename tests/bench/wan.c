/*
 * A wide-area network on one machine: two TUN devices in two network
 * namespaces, and between them, each way, a bottleneck with a drop-tail queue,
 * a delay, random loss and reordering. It needs no queueing discipline of the
 * kernel's, and the link is the simulator's (tests/sim/link.c) under a real clock.
 *
 *     wan NETNS NETNS MBIT_S RTT_MS QUEUE_MS LOSS_PPM REORDER_PPM SEED [DEVICE]
 *
 * The devices are eth0, unless named otherwise, with 192.0.2.1 and 192.0.2.2. Loss and reordering
 * (late by up to 5 ms) happen on the way from the first to the second. A line with what happened to
 * the packets is printed when it is told to end.
 *
 * What a program sends by UDP_SEGMENT comes as one super-packet, is cut here, and goes over the
 * link as the packets a wire would carry: each is queued or dropped, serialised, lost and delayed
 * on its own, and counts with its own headers. What has arrived waits for up to HOLD_NS, as with a
 * network card that moderates its interrupts (drivers allow 4,000 to 8,000 a second in bulk
 * transfers, this is 8,000), and datagrams of one flow are then joined for UDP_GRO. So on time a
 * burst is what the link carries meanwhile: 16 KB at 1 Gbit/s. When the machine has let us wait, it
 * is all that is due, in writes of at most 64 datagrams, as a driver would find it in its ring.
 * While the link delivers, what is sent is looked for as often. Where the kernel has no UDP
 * super-packets for TUN devices (before Linux 6.2), every packet is read and written on its own,
 * and the last line says so.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "shared/util.h"
#include "tests/bench/offload.h"
#include "tests/sim/link.h"

#define MTU        1500
#define BATCH      64    /* reads, before what has arrived is given on */
#define QUEUE_LEN  20000 /* of the devices: drops are to be the link's alone */
#define HOLD_NS    (125 * NS_PER_US)
#define REORDER_NS (5 * NS_PER_MS)

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

static volatile sig_atomic_t is_over;
static bool has_super_packets = true;

static void end(int signal)
{
	(void)signal;
	is_over = 1;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "wan: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void enter(const char *netns)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die(path);
	close(fd);
}

static void set(int fd, unsigned long request, struct ifreq *ifr, const char *what)
{
	if (ioctl(fd, request, ifr) < 0)
		die(what);
}

/* Checksums may stay open either way; TCP comes in segments. */
static void ask_for_super_packets(int tun)
{
	if (ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6) == 0)
		return;
	if (errno != EINVAL || ioctl(tun, TUNSETOFFLOAD, 0) < 0)
		die("what the device passes");
	has_super_packets = false;
}

static int open_device(const char *netns, const char *name, const char *address)
{
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;
	int tun, fd;

	enter(netns);
	tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (tun < 0 || fd < 0)
		die("/dev/net/tun");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	set(tun, TUNSETIFF, &ifr, "a TUN device");
	ask_for_super_packets(tun);
	ifr.ifr_mtu = MTU;
	set(fd, SIOCSIFMTU, &ifr, "the MTU");
	ifr.ifr_qlen = QUEUE_LEN;
	set(fd, SIOCSIFTXQLEN, &ifr, "the queue's length");
	memset(&ifr.ifr_addr, 0, sizeof(ifr.ifr_addr));
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	set(fd, SIOCSIFADDR, &ifr, "the address");
	inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
	set(fd, SIOCSIFNETMASK, &ifr, "the netmask");
	ifr.ifr_flags = IFF_UP | IFF_RUNNING;
	set(fd, SIOCSIFFLAGS, &ifr, "the device up");
	close(fd);
	return tun;
}

static void send_cut(struct link *link, const uint8_t *bytes, size_t len, uint64_t now_ns)
{
	struct link_packet *packet = link_packet(link);
	struct offload_cut cut;
	size_t n;

	if (!offload_cut_begin(&cut, bytes, len))
		die("the device gave what was not asked for");
	while ((n = offload_cut_next(&cut, packet->data, sizeof(packet->data))) > 0) {
		packet->len = n - OFFLOAD_FRONT;
		link_send(link, packet, now_ns);
		packet = link_packet(link);
	}
	link_give_back(link, packet);
}

/* Takes what has come from the device. False: that was all. */
static bool take(int tun, struct link *link)
{
	static uint8_t bytes[OFFLOAD_SUPER_MAX];

	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = read(tun, bytes, sizeof(bytes));

		if (n <= 0)
			return false;
		/* By the clock: a time from before would make the path shorter than it is. */
		send_cut(link, bytes, (size_t)n, clock_ns());
	}
	return true;
}

static void write_join(int tun, struct link *link, struct offload_join *join,
		       struct link_packet **packets)
{
	unsigned count = (unsigned)join->count;

	offload_join_end(join);
	if (writev(tun, join->piece, join->count) < 0 && errno != EAGAIN && errno != ENOBUFS)
		die("the device did not take a packet");
	for (unsigned i = 0; i < count; i++)
		link_give_back(link, packets[i]);
}

/* Gives what is due, in as few writes as it takes. */
static void give(int tun, struct link *link, uint64_t now_ns)
{
	struct link_packet *packet, *joined[OFFLOAD_JOIN_MAX];
	struct offload_join join = { .count = 0 };

	while ((packet = link_receive(link, now_ns))) {
		size_t len = OFFLOAD_FRONT + packet->len;

		if (join.count > 0 &&
		    (!has_super_packets || !offload_join_add(&join, packet->data, len))) {
			write_join(tun, link, &join, joined);
			join.count = 0;
		}
		if (join.count == 0)
			offload_join_begin(&join, packet->data, len);
		joined[join.count - 1] = packet;
	}
	if (join.count > 0)
		write_join(tun, link, &join, joined);
}

static void run(const int tun[2], struct link link[2])
{
	struct pollfd fds[2] = { { tun[0], POLLIN, 0 }, { tun[1], POLLIN, 0 } };

	while (!is_over) {
		uint64_t now_ns = clock_ns(), next_ns, wait_ns = 100 * NS_PER_MS;
		struct timespec wait;
		bool is_busy = false;

		for (unsigned i = 0; i < 2; i++)
			is_busy |= take(tun[i], &link[i]);
		next_ns = MIN(link_next_ns(&link[0]), link_next_ns(&link[1]));
		if (next_ns <= now_ns - HOLD_NS)
			for (unsigned i = 0; i < 2; i++)
				give(tun[!i], &link[i], now_ns);
		next_ns = MIN(link_next_ns(&link[0]), link_next_ns(&link[1]));
		if (next_ns != NEVER_NS)
			wait_ns = MIN(MAX(next_ns + HOLD_NS, now_ns) - now_ns, wait_ns);
		wait = (struct timespec){ 0, is_busy ? 0 : (long)wait_ns };
		/* What has come meanwhile is found at the next look in any case. */
		ppoll(fds, wait_ns <= 2 * HOLD_NS ? 0 : 2, &wait, NULL);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = end };
	struct link_config there, back;
	struct link link[2];
	const char *device = argc > 9 ? argv[9] : "eth0";
	uint64_t mbit, rtt_ns;
	int tun[2];

	if (argc < 9 || argc > 10) {
		fprintf(stderr, "usage: wan NETNS NETNS MBIT_S RTT_MS QUEUE_MS LOSS_PPM "
				"REORDER_PPM SEED [DEVICE]\n");
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	mbit = strtoull(argv[3], NULL, 10);
	rtt_ns = strtoull(argv[4], NULL, 10) * NS_PER_MS;
	back = (struct link_config){ .bits_per_s = mbit * 1000000, .delay_ns = rtt_ns / 2 };
	back.queue_bytes = mbit * 125 * strtoull(argv[5], NULL, 10);
	there = back;
	there.loss = (uint32_t)strtoul(argv[6], NULL, 10);
	there.reorder = (uint32_t)strtoul(argv[7], NULL, 10);
	there.reorder_ns = REORDER_NS;
	link_init(&link[0], &there, strtoull(argv[8], NULL, 10));
	link_init(&link[1], &back, strtoull(argv[8], NULL, 10) + 1);
	tun[0] = open_device(argv[1], device, "192.0.2.1");
	tun[1] = open_device(argv[2], device, "192.0.2.2");
	prctl(PR_SET_TIMERSLACK, 1); /* else a sleep takes 50 us more */
	printf("ready\n");
	fflush(stdout);
	run(tun, link);
	printf("%llu packets, %llu dropped by the queue, %llu lost, %llu late%s\n",
	       (unsigned long long)link[0].stats.packets,
	       (unsigned long long)link[0].stats.queue_drops,
	       (unsigned long long)link[0].stats.losses,
	       (unsigned long long)link[0].stats.reordered,
	       has_super_packets ? "" : "; no super-packets here");
	link_finish(&link[0]);
	link_finish(&link[1]);
	return 0;
}
