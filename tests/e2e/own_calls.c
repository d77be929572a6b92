/*
 * A dynamic program that makes its network calls by instructions of its own, as Rust's
 * rustix does, for test_own_calls.py. The first word says what it does.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline long call(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#endif
}

static long check(const char *what, long result)
{
	if (result >= 0)
		return result;
	printf("%s: errno %ld\n", what, -result);
	exit(1);
}

static struct sockaddr_in at(const char *ip, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int open_socket(int type)
{
	return (int)check("socket", call(SYS_socket, AF_INET, type, 0, 0, 0, 0));
}

static void show_ends(int fd)
{
	struct sockaddr_in local, peer;
	socklen_t len = sizeof(local);

	check("getsockname", call(SYS_getsockname, fd, (long)&local, (long)&len, 0, 0, 0));
	len = sizeof(peer);
	check("getpeername", call(SYS_getpeername, fd, (long)&peer, (long)&len, 0, 0, 0));
	printf("%s ", inet_ntoa(local.sin_addr));
	printf("%s\n", inet_ntoa(peer.sin_addr));
}

static void dial(char **argv)
{
	struct sockaddr_in to = at(argv[2], argv[3]);
	int fd = open_socket(SOCK_STREAM);
	char text[8] = "";

	check("connect", call(SYS_connect, fd, (long)&to, sizeof(to), 0, 0, 0));
	if (write(fd, "hello", 5) != 5 || read(fd, text, 5) != 5)
		exit(2);
	printf("%s ", text);
	show_ends(fd);
}

static void serve(char **argv)
{
	struct sockaddr_in own = at(argv[2], argv[3]), peer;
	socklen_t len = sizeof(own);
	int fd = open_socket(SOCK_STREAM), conn;

	check("bind", call(SYS_bind, fd, (long)&own, sizeof(own), 0, 0, 0));
	check("listen", call(SYS_listen, fd, 5, 0, 0, 0, 0));
	check("getsockname", call(SYS_getsockname, fd, (long)&own, (long)&len, 0, 0, 0));
	printf("ready %d\n", ntohs(own.sin_port));
	len = sizeof(peer);
	conn = (int)check("accept4", call(SYS_accept4, fd, (long)&peer, (long)&len, 0, 0, 0));
	printf("from %s\n", inet_ntoa(peer.sin_addr));
	if (write(conn, "welcome", 7) != 7)
		exit(2);
}

static void datagram(char **argv)
{
	struct sockaddr_in to = at(argv[2], argv[3]), from;
	socklen_t len = sizeof(from);
	int fd = open_socket(SOCK_DGRAM);
	char text[8] = "";

	check("sendto", call(SYS_sendto, fd, (long)"hello", 5, 0, (long)&to, sizeof(to)));
	check("recvfrom", call(SYS_recvfrom, fd, (long)text, 5, 0, (long)&from, (long)&len));
	printf("%s from %s\n", text, inet_ntoa(from.sin_addr));
}

int main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(what, "dial") == 0)
		dial(argv);
	else if (strcmp(what, "serve") == 0)
		serve(argv);
	else if (strcmp(what, "datagram") == 0)
		datagram(argv);
	else if (strcmp(what, "exec") == 0)
		execvp(argv[2], argv + 2);
	return 0;
}
