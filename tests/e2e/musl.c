/*
 * A program for test_musl.py, compiled with musl-gcc. The first word says what it
 * does; it prints lines and ends with a status of meaning.
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char *host, *port;

static const char *number(const void *addr, socklen_t len, char text[static 80])
{
	char ip[NI_MAXHOST];

	if (getnameinfo(addr, len, ip, sizeof(ip), NULL, 0, NI_NUMERICHOST))
		exit(20);
	snprintf(text, 80, "%s", ip);
	return text;
}

static struct addrinfo *look_up(int type)
{
	struct addrinfo hints = { .ai_socktype = type, .ai_flags = AI_CANONNAME }, *list;
	int err = getaddrinfo(host, port, &hints, &list);

	if (!err)
		return list;
	printf("error %s\n", gai_strerror(err));
	exit(21);
}

static int dial(void)
{
	struct addrinfo *list = look_up(SOCK_STREAM);
	int fd = socket(list->ai_family, SOCK_STREAM, 0);

	if (connect(fd, list->ai_addr, list->ai_addrlen) < 0)
		exit(22);
	freeaddrinfo(list);
	return fd;
}

/* "hello" there and back, and the addresses of both ends. */
static int ends(void)
{
	struct sockaddr_storage addr;
	char text[2][80], answer[8] = "";
	socklen_t len = sizeof(addr);
	int fd = dial();

	if (write(fd, "hello", 5) != 5 || read(fd, answer, 5) != 5)
		return 23;
	getsockname(fd, (struct sockaddr *)&addr, &len);
	number(&addr, len, text[0]);
	len = sizeof(addr);
	getpeername(fd, (struct sockaddr *)&addr, &len);
	printf("%s %s %s\n", answer, text[0], number(&addr, len, text[1]));
	close(fd);
	return 0;
}

static int names(void)
{
	struct addrinfo *list = look_up(SOCK_STREAM);
	struct hostent *h;
	char text[80];

	printf("%s", list->ai_canonname);
	for (struct addrinfo *a = list; a; a = a->ai_next)
		printf(" %s", number(a->ai_addr, a->ai_addrlen, text));
	freeaddrinfo(list);
	h = gethostbyname(host);
	printf(" %s\n", h ? inet_ntop(AF_INET, h->h_addr, text, sizeof(text)) : "none");
	return 0;
}

static int interfaces(void)
{
	struct ifaddrs *list;
	char text[80];

	if (getifaddrs(&list) < 0)
		return 24;
	for (struct ifaddrs *a = list; a; a = a->ifa_next)
		if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET)
			printf("%s %s\n", a->ifa_name,
			       number(a->ifa_addr, sizeof(struct sockaddr_in), text));
	freeifaddrs(list);
	return 0;
}

static int serve(void)
{
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6 };
	struct sockaddr_storage peer;
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET6, SOCK_STREAM, 0), conn;
	char text[80], data[4096];
	ssize_t n;

	if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 64) < 0)
		return 25;
	getsockname(fd, (struct sockaddr *)&addr, &len);
	printf("ready %d\n", ntohs(addr.sin6_port));
	for (;;) {
		len = sizeof(peer);
		conn = accept(fd, (struct sockaddr *)&peer, &len);
		printf("from %s\n", number(&peer, len, text));
		while ((n = read(conn, data, sizeof(data))) > 0)
			if (write(conn, data, (size_t)n) != n)
				break;
		close(conn);
	}
}

static int serve_datagrams(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct iovec part;
	char data[2048], text[80];
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	ssize_t n;

	if (bind(fd, (struct sockaddr *)&addr, len) < 0)
		return 26;
	getsockname(fd, (struct sockaddr *)&addr, &len);
	printf("ready %d\n", ntohs(addr.sin_port));
	for (;;) {
		part = (struct iovec){ data, sizeof(data) };
		m.msg_name = &addr;
		m.msg_namelen = sizeof(addr);
		n = recvmsg(fd, &m, 0);
		if (n < 0)
			return 27;
		printf("from %s\n", number(&addr, m.msg_namelen, text));
		part.iov_len = (size_t)n;
		sendmsg(fd, &m, 0);
	}
}

static int ask_by_datagram(void)
{
	struct addrinfo *list = look_up(SOCK_DGRAM);
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char data[8] = "", text[80];
	int fd = socket(list->ai_family, SOCK_DGRAM, 0);

	sendto(fd, "hello", 5, 0, list->ai_addr, list->ai_addrlen);
	if (recvfrom(fd, data, 5, 0, (struct sockaddr *)&from, &len) != 5)
		return 28;
	printf("%s %s\n", data, number(&from, len, text));
	freeaddrinfo(list);
	return 0;
}

/* A thread of musl has a stack of 128 KiB: look-ups, dials and children must fit. */
static void *in_thread(void *arg)
{
	char *words[] = { "/bin/true", NULL }, *none[] = { NULL };
	char data[5];
	int fd = dial(), status;
	pid_t pid;

	if (write(fd, "hello", 5) != 5 || read(fd, data, 5) != 5)
		exit(29);
	close(fd);
	pid = vfork();
	if (pid == 0) {
		execve(words[0], words, none);
		_exit(1);
	}
	if (waitpid(pid, &status, 0) < 0 || status)
		exit(30);
	return arg;
}

static int threads(void)
{
	pthread_t thread[40];

	for (int i = 0; i < 40; i++)
		if (pthread_create(&thread[i], NULL, in_thread, NULL))
			return 31;
	for (int i = 0; i < 40; i++)
		pthread_join(thread[i], NULL);
	puts("all");
	return 0;
}

/* Which shim is inside, and is somebody tracing? */
static int inside(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[4600], last[64] = "none", *name;

	while (f && fgets(line, sizeof(line), f))
		if ((name = strstr(line, "/libmeshwrap")))
			snprintf(last, sizeof(last), "%.*s", (int)strcspn(name + 1, "\n"),
				 name + 1);
	if (f)
		fclose(f);
	f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "TracerPid:", 10) == 0)
			printf("%s %s\n", last, atoi(line + 10) ? "traced" : "alone");
	if (f)
		fclose(f);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	host = argc > 2 ? argv[2] : NULL;
	port = argc > 3 ? argv[3] : NULL;
	if (strcmp(what, "ends") == 0)
		return ends();
	if (strcmp(what, "names") == 0)
		return names();
	if (strcmp(what, "interfaces") == 0)
		return interfaces();
	if (strcmp(what, "serve") == 0)
		return serve();
	if (strcmp(what, "serve-datagrams") == 0)
		return serve_datagrams();
	if (strcmp(what, "datagram") == 0)
		return ask_by_datagram();
	if (strcmp(what, "threads") == 0)
		return threads();
	if (strcmp(what, "inside") == 0)
		return inside();
	if (strcmp(what, "system") == 0)
		return system(argv[2]) == 0 ? 0 : 32;
	if (strcmp(what, "exec") == 0)
		execv(argv[2], argv + 2);
	return 99;
}
