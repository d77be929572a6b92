/*
 * What the shim costs a call that has nothing to do with the mesh.
 *
 * Each call fails in the kernel at once (there is no descriptor -1), so that
 * the shim's part is not lost in the work; the same system call made directly
 * is the base line. Prints ns a call; no test, since machines differ.
 */
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/shim/harness.h"

#define CALLS 2000000

static struct harness_addr to;
static char data[1];

static void call_connect(void)
{
	connect(-1, sa(&to), to.len);
}

static void raw_connect(void)
{
	syscall(SYS_connect, -1, sa(&to), to.len);
}

static void call_sendto(void)
{
	sendto(-1, data, 1, 0, sa(&to), to.len);
}

static void raw_sendto(void)
{
	syscall(SYS_sendto, -1, data, 1, 0, sa(&to), to.len);
}

static void call_recvfrom(void)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);

	recvfrom(-1, data, 1, 0, (struct sockaddr *)&from, &len);
}

static void raw_recvfrom(void)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);

	syscall(SYS_recvfrom, -1, data, 1, 0, &from, &len);
}

static double ns_each(void (*call)(void))
{
	double best = 1e9;

	for (int round = 0; round < 5; round++) {
		struct timespec a, b;
		double ns;

		clock_gettime(CLOCK_MONOTONIC, &a);
		for (int i = 0; i < CALLS / 5; i++)
			call();
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) /
		     (CALLS / 5);
		best = ns < best ? ns : best;
	}
	return best;
}

static void report(const char *name, void (*call)(void), void (*raw)(void))
{
	double shim = ns_each(call), kernel = ns_each(raw);

	printf("%-24s %6.1f ns with the shim, %6.1f ns without: %5.1f ns more\n", name, shim,
	       kernel, shim - kernel);
}

int main(int argc, char **argv)
{
	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	to = at(AF_INET, "192.0.2.1", 80);
	report("connect IPv4", call_connect, raw_connect);
	report("sendto IPv4", call_sendto, raw_sendto);
	to = at(AF_INET6, "2001:db8::1", 80);
	report("sendto IPv6", call_sendto, raw_sendto);
	to = at(AF_INET, PEER_V4, 80);
	report("connect to a peer", call_connect, raw_connect);
	report("recvfrom", call_recvfrom, raw_recvfrom);
	return 0;
}
