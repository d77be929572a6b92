/*
 * What the shim costs a call that has nothing to do with the mesh.
 *
 * Nearly each call fails in the kernel at once (there is no descriptor -1), so
 * that the shim's part is not lost in the work; the same system call made directly
 * is the base line. Prints ns a call; no test, since machines differ.
 */
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "preload/raw.h"
#include "tests/shim/harness.h"

#define CALLS  1000
#define ROUNDS 1000

static struct harness_addr to;
static char data[1];
static int outside; /* a socket of this machine alone, with an address */

static void call_connect(void)
{
	connect(-1, sa(&to), to.len);
}

static void raw_connect(void)
{
	raw_syscall(SYS_connect, -1, sa(&to), to.len);
}

static void call_sendto(void)
{
	sendto(-1, data, 1, 0, sa(&to), to.len);
}

static void raw_sendto(void)
{
	raw_syscall(SYS_sendto, -1, data, 1, 0, sa(&to), to.len);
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

	raw_syscall(SYS_recvfrom, -1, data, 1, 0, &from, &len);
}

static void call_recv(void)
{
	recv(-1, data, 1, 0);
}

static void raw_recv(void)
{
	raw_syscall(SYS_recvfrom, -1, data, 1, 0, NULL, NULL);
}

static void call_getsockname(void)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);

	getsockname(outside, (struct sockaddr *)&name, &len);
}

static void raw_getsockname(void)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);

	raw_syscall(SYS_getsockname, outside, &name, &len);
}

static void call_setsockopt(void)
{
	int on = 1;

	setsockopt(-1, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

static void raw_setsockopt(void)
{
	int on = 1;

	raw_syscall(SYS_setsockopt, -1, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

static void call_ioctl(void)
{
	int n;

	ioctl(-1, FIONREAD, &n);
}

static void raw_ioctl(void)
{
	int n;

	raw_syscall(SYS_ioctl, -1, FIONREAD, &n);
}

static double ns_each(void (*call)(void))
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < CALLS; i++)
		call();
	clock_gettime(CLOCK_MONOTONIC, &b);
	return ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / CALLS;
}

/* The best of many short rounds, by turns: others use this machine, too. */
static void report(const char *name, void (*call)(void), void (*raw)(void))
{
	double shim = 1e9, kernel = 1e9, ns;

	for (int round = 0; round < ROUNDS; round++) {
		ns = ns_each(call);
		shim = ns < shim ? ns : shim;
		ns = ns_each(raw);
		kernel = ns < kernel ? ns : kernel;
	}
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
	report("recv", call_recv, raw_recv);
	report("setsockopt", call_setsockopt, raw_setsockopt);
	report("ioctl", call_ioctl, raw_ioctl);
	outside = new_socket(AF_INET, SOCK_STREAM);
	report("getsockname", call_getsockname, raw_getsockname);
	return 0;
}
