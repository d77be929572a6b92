/*
 * The floor: what carrying a byte costs on this machine, whoever does it.
 *
 *     floor SECONDS
 *
 * Three micro-runs, CPU-seconds per GB (1e9 bytes of payload) each: sealing and
 * opening packets of 1,280 bytes with ChaCha20-Poly1305 (the library that is quickest
 * here of those we know); loopback TCP, both ends together; UDP of 1,312 bytes with
 * UDP_SEGMENT and UDP_GRO, 40 at once, both ends together. A byte on its way
 * passes two AEADs, one end each of two TCP connections, and both ends of UDP,
 * so the sum is what two daemons cannot go below; half of it is a side's.
 * CPU time is that of the threads, so a busy machine disturbs little.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/crypto/aead.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define PACKET   1280
#define DATAGRAM 1312 /* with WireGuard's header and tag */
#define TRAIN    40
#define BLOCK    (256 * 1024)

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double thread_cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* One seal and one open of each byte. */
static double aead(double seconds)
{
	static uint8_t packet[TRAIN][PACKET + AEAD_TAG_LEN];
	const struct symmetric_key key = { { 1 } };
	struct aead_cipher *cipher = aead_cipher_create();
	struct aead_key *out = cipher ? aead_key_create(cipher, &key, AEAD_SEAL) : NULL;
	struct aead_key *in = cipher ? aead_key_create(cipher, &key, AEAD_OPEN) : NULL;
	double cpu, until = now_s() + seconds;
	uint64_t count = 0;

	if (!in || !out)
		die("ChaCha20-Poly1305");
	cpu = thread_cpu();
	while (now_s() < until) {
		for (unsigned i = 0; i < TRAIN; i++)
			aead_seal(out, count + i, packet[i], PACKET);
		for (unsigned i = 0; i < TRAIN; i++)
			if (!aead_open(in, count + i, packet[i], PACKET))
				die("open");
		count += TRAIN;
	}
	cpu = thread_cpu() - cpu;
	aead_key_destroy(out);
	aead_key_destroy(in);
	aead_cipher_destroy(cipher);
	return cpu / ((double)count * PACKET) * 1e9;
}

struct end {
	int fd;
	bool is_udp;
	double until;
	double cpu;
	uint64_t bytes;
};

static _Atomic bool is_over;

static void *swallow(void *arg)
{
	struct end *end = arg;
	char *block = malloc(BLOCK);
	ssize_t n;

	if (!block)
		die("malloc");
	while ((n = recv(end->fd, block, BLOCK, 0)) > 0 || (end->is_udp && !is_over))
		end->bytes += n > 0 ? (uint64_t)n : 0;
	end->cpu = thread_cpu();
	free(block);
	return NULL;
}

static void *pour(void *arg)
{
	struct end *end = arg;
	size_t len = end->is_udp ? TRAIN * DATAGRAM : BLOCK;
	char *block = calloc(1, BLOCK);

	if (!block)
		die("calloc");
	while (now_s() < end->until)
		if (send(end->fd, block, len, MSG_NOSIGNAL) < 0)
			die("send");
	end->cpu = thread_cpu();
	free(block);
	return NULL;
}

/* A connected pair over loopback. */
static void make_pair(int type, int fd[2])
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	int listener = socket(AF_INET, type, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd[0] = socket(AF_INET, type, 0);
	if (listener < 0 || fd[0] < 0 || bind(listener, (struct sockaddr *)&sin, len) < 0 ||
	    (type == SOCK_STREAM && listen(listener, 1) < 0) ||
	    getsockname(listener, (struct sockaddr *)&sin, &len) < 0 ||
	    connect(fd[0], (struct sockaddr *)&sin, len) < 0)
		die("loopback");
	fd[1] = type == SOCK_STREAM ? accept(listener, NULL, NULL) : listener;
	if (type == SOCK_STREAM)
		close(listener);
}

/* Both ends' CPU for each payload byte that arrived; overhead: wire bytes for one of payload. */
static double carry(int type, double seconds, double overhead)
{
	struct timeval patience = { .tv_usec = 100000 };
	int one = 1, segment = DATAGRAM, room = 8 << 20, fd[2];
	struct end from = { .is_udp = type == SOCK_DGRAM, .until = now_s() + seconds };
	struct end to = { .is_udp = type == SOCK_DGRAM };
	pthread_t sender, receiver;

	make_pair(type, fd);
	from.fd = fd[0];
	to.fd = fd[1];
	if (from.is_udp) {
		setsockopt(to.fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
		setsockopt(to.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		setsockopt(to.fd, SOL_UDP, UDP_GRO, &one, sizeof(one));
		setsockopt(from.fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
	}
	atomic_store(&is_over, false);
	if (pthread_create(&receiver, NULL, swallow, &to) != 0 ||
	    pthread_create(&sender, NULL, pour, &from) != 0)
		die("pthread_create");
	pthread_join(sender, NULL);
	shutdown(from.fd, SHUT_WR);
	atomic_store(&is_over, true);
	pthread_join(receiver, NULL);
	close(from.fd);
	close(to.fd);
	return (from.cpu + to.cpu) / ((double)to.bytes / overhead) * 1e9;
}

int main(int argc, char **argv)
{
	double seconds = argc == 2 ? atof(argv[1]) : 0;

	if (seconds <= 0) {
		fputs("usage: floor SECONDS\n", stderr);
		return 2;
	}
	printf("{\"aead\": %.4f, ", aead(seconds));
	printf("\"tcp\": %.4f, ", carry(SOCK_STREAM, seconds, 1));
	printf("\"udp\": %.4f}\n", carry(SOCK_DGRAM, seconds, (double)DATAGRAM / PACKET));
	return 0;
}
