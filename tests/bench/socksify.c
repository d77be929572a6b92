/*
 * Takes a benchmark's connections through a SOCKS5 proxy: LD_PRELOADed, for the
 * peer that offers nothing else. MESH_SOCKS is the proxy's port on 127.0.0.1;
 * what is meant for loopback stays as it is. After the greeting the bytes go the
 * usual way, so it costs the measured system nothing but connect()'s time.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int greet(int fd, const struct sockaddr_in *to)
{
	uint8_t request[10] = { 5, 1, 0, 1 }, answer[10];

	memcpy(request + 4, &to->sin_addr, 4);
	memcpy(request + 8, &to->sin_port, 2);
	if (send(fd, "\5\1\0", 3, MSG_NOSIGNAL) != 3 || recv(fd, answer, 2, MSG_WAITALL) != 2 ||
	    send(fd, request, sizeof(request), MSG_NOSIGNAL) != sizeof(request) ||
	    recv(fd, answer, sizeof(answer), MSG_WAITALL) != sizeof(answer) || answer[1] != 0) {
		errno = ECONNREFUSED;
		return -1;
	}
	return 0;
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
	const struct sockaddr_in *to = (const struct sockaddr_in *)addr;
	const char *port = getenv("MESH_SOCKS");
	struct sockaddr_in proxy = { .sin_family = AF_INET };
	socklen_t type_len = sizeof(int);
	int flags, type = 0, err;

	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len);
	if (!port || addr->sa_family != AF_INET || type != SOCK_STREAM ||
	    ntohl(to->sin_addr.s_addr) >> 24 == 127)
		return real(fd, addr, len);
	proxy.sin_port = htons((uint16_t)atoi(port));
	proxy.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	err = real(fd, (const struct sockaddr *)&proxy, sizeof(proxy));
	if (err == 0)
		err = greet(fd, to);
	fcntl(fd, F_SETFL, flags);
	return err;
}
