/*
 * getnameinfo() for libevent, where libc has none for Unix sockets (musl).
 *
 * libevent's HTTP server asks it for the name of each client, numbers only, and
 * ends the process when there is none. Ours are on a Unix socket. Nobody else in
 * the daemon calls it, so this one, which the linker prefers, knows numbers only.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

static int put(const char *name, unsigned port, char *service, socklen_t service_len)
{
	if (!name)
		return EAI_OVERFLOW;
	if (service && snprintf(service, service_len, "%u", port) >= (int)service_len)
		return EAI_OVERFLOW;
	return 0;
}

int getnameinfo(const struct sockaddr *restrict addr, socklen_t len, char *restrict host,
		socklen_t host_len, char *restrict service, socklen_t service_len, int flags)
{
	const struct sockaddr_in6 *in6 = (const void *)addr;
	const struct sockaddr_in *in = (const void *)addr;
	char unused[INET6_ADDRSTRLEN];

	(void)flags;
	if (!host || !host_len) {
		host = unused;
		host_len = sizeof(unused);
	}
	if (len < sizeof(addr->sa_family))
		return EAI_FAMILY;
	if (addr->sa_family == AF_INET && len >= sizeof(*in))
		return put(inet_ntop(AF_INET, &in->sin_addr, host, host_len), ntohs(in->sin_port),
			   service, service_len);
	if (addr->sa_family == AF_INET6 && len >= sizeof(*in6))
		return put(inet_ntop(AF_INET6, &in6->sin6_addr, host, host_len),
			   ntohs(in6->sin6_port), service, service_len);
	if (addr->sa_family != AF_UNIX)
		return EAI_FAMILY;
	return put(snprintf(host, host_len, "localhost") < (int)host_len ? host : NULL, 0, service,
		   service_len);
}
