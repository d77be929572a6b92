/* meshd's own getnameinfo(), which is linked in only where libc's is not enough. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int failures;

static void expect(const void *addr, socklen_t len, const char *wanted)
{
	char host[64] = "", service[16] = "", got[96];
	int err = getnameinfo(addr, len, host, sizeof(host), service, sizeof(service),
			      NI_NUMERICHOST | NI_NUMERICSERV);

	snprintf(got, sizeof(got), "%d %s %s", err, host, service);
	if (strcmp(got, wanted) != 0) {
		printf("%s, not %s\n", got, wanted);
		failures++;
	}
}

int main(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(80) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(443) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char few[4], refused[16];

	inet_pton(AF_INET, "100.64.0.1", &in.sin_addr);
	inet_pton(AF_INET6, "fd7a:115c:a1e0::1", &in6.sin6_addr);
	expect(&in, sizeof(in), "0 100.64.0.1 80");
	expect(&in6, sizeof(in6), "0 fd7a:115c:a1e0::1 443");
	expect(&un, sizeof(un), "0 localhost 0");
	expect(&un, sizeof(un.sun_family), "0 localhost 0"); /* a client without a name */
	snprintf(refused, sizeof(refused), "%d  ", EAI_FAMILY);
	expect(&in, 4, refused);
	expect(&un, 0, refused);
	if (getnameinfo((void *)&in, sizeof(in), few, sizeof(few), NULL, 0, 0) != EAI_OVERFLOW ||
	    getnameinfo((void *)&un, sizeof(un), few, sizeof(few), NULL, 0, 0) != EAI_OVERFLOW)
		failures++;
	return failures != 0;
}
