/*
 * Load for scripts/bench: one small program on both ends, the same on the
 * mesh, on a TUN and on bare loopback.
 *
 *     load serve    HOST PORT
 *     load stream   HOST PORT SECONDS STREAMS
 *     load ask      HOST PORT SECONDS BYTES
 *     load connects HOST PORT SECONDS PARALLEL
 *     load udp      HOST PORT SECONDS BYTES
 *     load paced    HOST PORT SECONDS RATE
 *     load large    HOST PORT SECONDS BYTES
 *     load connect  HOST PORT SECONDS BYTES
 *     load round    HOST PORT SECONDS COUNT
 *     load idle     HOST PORT SECONDS COUNT
 *     load first    HOST PORT SECONDS BYTES
 *
 * stream: as much as goes; ask: one question after the other; connects: a new
 * connection for each; udp: as fast as the socket takes them; paced: 1,200 bytes
 * RATE times a second; large: datagrams of BYTES, 500 times a second; connect: how
 * long connect() takes; round: COUNT connections, one asked after the other, round and
 * round; idle: COUNT connections that were used once and stay; first: tries until one
 * byte has come back.
 *
 * A connection's first byte says what it is for: 's' the server swallows all
 * and answers with the count (at a mark, since a SOCKS proxy may know no half-closed
 * connections), 'e' it echoes, 'u' it answers with the count of
 * datagrams since the last such question. Results are counted where the bytes
 * arrive, so what a buffer swallowed is not throughput. One line of JSON comes
 * out. A thread a connection: the load is never the bottleneck being measured.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
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

#define BLOCK       (256 * 1024)
#define MAX_THREADS 256
#define MAX_SAMPLES 4000000
#define PACED_BYTES 1200
#define LAST        1 /* a stream's last byte; all others are 0 */
#define STACK_BYTES (128 * 1024)

static _Atomic uint64_t datagrams;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* -1: the connect failed. patience: how long each call on it may take; NULL: for ever. */
static int try_socket(const char *host, const char *port, int type, bool is_server,
		      const struct timeval *patience)
{
	struct addrinfo hints = { .ai_socktype = type }, *found;
	int one = 1, fd;

	if (getaddrinfo(host, port, &hints, &found) != 0)
		die(host);
	fd = socket(found->ai_family, type, 0);
	if (fd < 0)
		die("socket");
	if (patience) {
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, patience, sizeof(*patience));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, patience, sizeof(*patience));
	}
	if (is_server) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, found->ai_addr, found->ai_addrlen) < 0)
			die("bind");
		if (type == SOCK_STREAM && listen(fd, 1024) < 0)
			die("listen");
	} else if (connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
		close(fd);
		fd = -1;
	}
	if (type == SOCK_STREAM && fd >= 0)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	freeaddrinfo(found);
	return fd;
}

static int open_socket(const char *host, const char *port, int type, bool is_server)
{
	int fd = try_socket(host, port, type, is_server, NULL);

	if (fd < 0)
		die("connect");
	return fd;
}

static bool write_all(int fd, const void *bytes, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)bytes + done, len - done);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool read_all(int fd, void *bytes, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)bytes + done, len - done);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

/* ---- server ---- */

static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char *block = NULL, kind;
	uint64_t count = 0;
	ssize_t n;

	if (read(fd, &kind, 1) == 1 && (block = malloc(BLOCK))) {
		if (kind == 's') {
			while ((n = read(fd, block, BLOCK)) > 0) {
				count += (uint64_t)n;
				if (block[n - 1] == LAST)
					break;
			}
			write_all(fd, &count, sizeof(count));
		} else if (kind == 'e') {
			while ((n = read(fd, block, BLOCK)) > 0 && write_all(fd, block, (size_t)n))
				;
		} else if (kind == 'u') {
			count = atomic_exchange(&datagrams, 0);
			write_all(fd, &count, sizeof(count));
		}
	}
	free(block);
	close(fd);
	return NULL;
}

static void *count_datagrams(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char block[65536];

	while (recv(fd, block, sizeof(block), 0) >= 0)
		atomic_fetch_add(&datagrams, 1);
	return NULL;
}

static void serve(const char *host, const char *port)
{
	int fd = open_socket(host, port, SOCK_STREAM, true);
	int udp = open_socket(host, port, SOCK_DGRAM, true);
	int buffer = 4 << 20;
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK_BYTES);
	setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
	if (pthread_create(&thread, NULL, count_datagrams, (void *)(intptr_t)udp) != 0)
		die("pthread_create");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int one = 1, client = accept(fd, NULL, NULL);

		if (client < 0)
			die("accept");
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (pthread_create(&thread, &small, serve_one, (void *)(intptr_t)client) != 0)
			die("pthread_create");
		pthread_detach(thread);
	}
}

/* ---- client ---- */

struct job {
	const char *host, *port;
	double until;
	uint64_t count; /* bytes, or connections */
};

static void *stream_one(void *arg)
{
	struct job *job = arg;
	int fd = open_socket(job->host, job->port, SOCK_STREAM, false);
	char *block = calloc(1, BLOCK);

	if (!block || !write_all(fd, "s", 1))
		die("stream");
	while (now_s() < job->until)
		if (!write_all(fd, block, BLOCK))
			die("stream");
	if (!write_all(fd, (const char[]){ LAST }, 1) ||
	    !read_all(fd, &job->count, sizeof(job->count)))
		die("stream: the count");
	close(fd);
	free(block);
	return NULL;
}

static void *connect_often(void *arg)
{
	struct job *job = arg;
	char answer[2];

	while (now_s() < job->until) {
		int fd = open_socket(job->host, job->port, SOCK_STREAM, false);

		/* One question and an answer: a connection that was only begun counts for nothing.
		 */
		if (!write_all(fd, "e!", 2) || !read_all(fd, answer, 1))
			die("connects");
		close(fd);
		job->count++;
	}
	return NULL;
}

static void run_threads(void *(*body)(void *), const struct job *like, unsigned threads,
			const char *unit)
{
	struct job jobs[MAX_THREADS];
	pthread_t ids[MAX_THREADS];
	double begin = now_s();
	uint64_t sum = 0;

	if (threads > MAX_THREADS)
		threads = MAX_THREADS;
	for (unsigned i = 0; i < threads; i++) {
		jobs[i] = *like;
		if (pthread_create(&ids[i], NULL, body, &jobs[i]) != 0)
			die("pthread_create");
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(ids[i], NULL);
		sum += jobs[i].count;
	}
	printf("{\"%s\": %llu, \"seconds\": %.6f}\n", unit, (unsigned long long)sum,
	       now_s() - begin);
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void ask(const struct job *job, size_t len)
{
	int fd = open_socket(job->host, job->port, SOCK_STREAM, false);
	float *took = malloc(MAX_SAMPLES * sizeof(*took));
	char *block = calloc(1, len);
	size_t count = 0;

	if (!took || !block || !write_all(fd, "e", 1))
		die("ask");
	for (double begin = now_s(); begin < job->until && count < MAX_SAMPLES;) {
		double end;

		if (!write_all(fd, block, len) || !read_all(fd, block, len))
			die("ask");
		end = now_s();
		took[count++] = (float)((end - begin) * 1e6);
		begin = end;
	}
	qsort(took, count, sizeof(*took), compare);
	printf("{\"count\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", count,
	       (double)took[count / 2], (double)took[count * 99 / 100]);
	free(took);
	free(block);
	close(fd);
}

static uint64_t ask_datagrams(const struct job *job)
{
	int fd = open_socket(job->host, job->port, SOCK_STREAM, false);
	uint64_t count;

	if (!write_all(fd, "u", 1) || !read_all(fd, &count, sizeof(count)))
		die("udp: the count");
	close(fd);
	return count;
}

static void udp(struct job *job, size_t len)
{
	int fd = open_socket(job->host, job->port, SOCK_DGRAM, false);
	char block[65536] = { 0 };
	uint64_t sent = 0;
	double begin, seconds;

	ask_datagrams(job);
	begin = now_s();
	while (now_s() < job->until) {
		if (send(fd, block, len, 0) >= 0)
			sent++;
		else if (errno != ENOBUFS && errno != EAGAIN)
			die("send");
	}
	seconds = now_s() - begin;
	usleep(300000);
	printf("{\"sent\": %llu, \"datagrams\": %llu, \"seconds\": %.6f}\n",
	       (unsigned long long)sent, (unsigned long long)ask_datagrams(job), seconds);
	close(fd);
}

/* Datagrams leave when their time has come, a few at once where that is in the past. */
static void paced(struct job *job, unsigned rate)
{
	int fd = open_socket(job->host, job->port, SOCK_DGRAM, false);
	char block[PACED_BYTES] = { 0 };
	uint64_t sent = 0;
	double begin, seconds;

	ask_datagrams(job);
	for (begin = now_s(); (seconds = now_s() - begin) < job->until - begin;) {
		while ((double)sent < seconds * rate)
			sent += send(fd, block, sizeof(block), 0) >= 0;
		usleep(50);
	}
	usleep(300000);
	printf("{\"sent\": %llu, \"datagrams\": %llu, \"seconds\": %.6f}\n",
	       (unsigned long long)sent, (unsigned long long)ask_datagrams(job), seconds);
	close(fd);
}

static void large(struct job *job, size_t len)
{
	int fd = open_socket(job->host, job->port, SOCK_DGRAM, false);
	char *block = calloc(1, len);
	uint64_t sent = 0;

	if (!block)
		die("large");
	ask_datagrams(job);
	for (; now_s() < job->until; usleep(2000))
		sent += send(fd, block, len, 0) == (ssize_t)len;
	usleep(300000);
	printf("{\"sent\": %llu, \"datagrams\": %llu}\n", (unsigned long long)sent,
	       (unsigned long long)ask_datagrams(job));
	free(block);
	close(fd);
}

static void time_connects(const struct job *job)
{
	float *took = malloc(MAX_SAMPLES * sizeof(*took));
	size_t count = 0;

	if (!took)
		die("connect");
	while (now_s() < job->until && count < MAX_SAMPLES) {
		double begin = now_s();
		int fd = open_socket(job->host, job->port, SOCK_STREAM, false);

		took[count++] = (float)((now_s() - begin) * 1e6);
		close(fd);
		usleep(1000); /* its end is not part of the next */
	}
	if (count == 0)
		die("connect: no time");
	qsort(took, count, sizeof(*took), compare);
	printf("{\"count\": %zu, \"p50_us\": %.1f}\n", count, (double)took[count / 2]);
	free(took);
}

static int open_asked(const struct job *job)
{
	int fd = open_socket(job->host, job->port, SOCK_STREAM, false);
	char answer;

	if (!write_all(fd, "e!", 2) || !read_all(fd, &answer, 1))
		die("ask");
	return fd;
}

/* Who measures begins at the first line and ends at the second. */
static void round_and_round(const struct job *job, unsigned count, double seconds)
{
	int *fds = calloc(count, sizeof(*fds));
	uint64_t asks = 0;
	double until;
	char answer;

	if (!fds)
		die("round");
	for (unsigned i = 0; i < count; i++)
		fds[i] = open_asked(job);
	puts("{\"opened\": 1}");
	fflush(stdout);
	sleep(1); /* delayed acknowledgements and the like */
	for (until = now_s() + seconds; now_s() < until; asks++) {
		int fd = fds[asks % count];

		if (!write_all(fd, "!", 1) || !read_all(fd, &answer, 1))
			die("round");
	}
	printf("{\"asks\": %llu}\n", (unsigned long long)asks);
	fflush(stdout);
	sleep(10); /* until ended: closing is not part of it */
	free(fds);
}

static void idle(const struct job *job, unsigned count, double seconds)
{
	for (unsigned i = 0; i < count; i++)
		open_asked(job);
	printf("{\"flows\": %u}\n", count);
	fflush(stdout);
	usleep((useconds_t)(seconds * 1e6));
}

static void first(const struct job *job)
{
	const struct timeval patience = { .tv_usec = 200000 };
	double begin = now_s();
	char answer;

	for (; now_s() < job->until; usleep(2000)) {
		int fd = try_socket(job->host, job->port, SOCK_STREAM, false, &patience);
		bool is_answered = fd >= 0 && write_all(fd, "e!", 2) && read_all(fd, &answer, 1);

		if (fd >= 0)
			close(fd);
		if (is_answered) {
			printf("{\"waited\": %.6f}\n", now_s() - begin);
			return;
		}
	}
	die("first");
}

static void want_many_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	struct job job = { 0 };
	unsigned number;

	signal(SIGPIPE, SIG_IGN);
	want_many_files();
	if (argc == 4 && strcmp(argv[1], "serve") == 0)
		serve(argv[2], argv[3]);
	if (argc != 6) {
		fputs("usage: load serve HOST PORT | load "
		      "stream|ask|connects|udp|paced|large|connect|round|idle|first "
		      "HOST PORT SECONDS NUMBER\n",
		      stderr);
		return 2;
	}
	job.host = argv[2];
	job.port = argv[3];
	job.until = now_s() + atof(argv[4]);
	number = (unsigned)atoi(argv[5]);
	if (strcmp(argv[1], "stream") == 0)
		run_threads(stream_one, &job, number, "bytes");
	else if (strcmp(argv[1], "connects") == 0)
		run_threads(connect_often, &job, number, "connects");
	else if (strcmp(argv[1], "ask") == 0)
		ask(&job, number);
	else if (strcmp(argv[1], "udp") == 0)
		udp(&job, number);
	else if (strcmp(argv[1], "paced") == 0)
		paced(&job, number);
	else if (strcmp(argv[1], "large") == 0)
		large(&job, number);
	else if (strcmp(argv[1], "connect") == 0)
		time_connects(&job);
	else if (strcmp(argv[1], "round") == 0 && number > 0)
		round_and_round(&job, number, atof(argv[4]));
	else if (strcmp(argv[1], "idle") == 0)
		idle(&job, number, atof(argv[4]));
	else if (strcmp(argv[1], "first") == 0)
		first(&job);
	else
		return 2;
	return 0;
}
