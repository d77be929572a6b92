/* See kept.h. The kernel's tables are /proc/net/tcp and tcp6, which has mapped sockets. */
#include "tests/unit/edge/kept.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/edge/sock.h"

struct kept kept_of(int fd)
{
	struct kept kept;

	assert_int_equal(sock_local(fd, &kept.local), 0);
	assert_int_equal(sock_peer(fd, &kept.peer), 0);
	return kept;
}

/* Is this "address:port" of the kernel's table, IPv4 or mapped, that endpoint? */
static bool is_shown_as(const char *addr, unsigned port, const struct endpoint *ep)
{
	size_t len = strlen(addr);
	char want[9];

	snprintf(want, sizeof(want), "%08X", htonl(ip_v4(&ep->addr)));
	return port == ep->port && len >= 8 && strcmp(addr + len - 8, want) == 0;
}

/* How many of these connections are in TIME_WAIT or FIN_WAIT2 in this table of the kernel. */
static unsigned waiting_in(const char *path, const struct kept *kept, size_t n)
{
	FILE *file = fopen(path, "r");
	unsigned count = 0, port, peer_port, state;
	char line[512], addr[33], peer[33];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " %*u: %32[0-9A-F]:%x %32[0-9A-F]:%x %x", addr, &port, peer,
			   &peer_port, &state) != 5 ||
		    (state != 6 && state != 5))
			continue;
		for (size_t i = 0; i < n; i++)
			if (is_shown_as(addr, port, &kept[i].local) &&
			    is_shown_as(peer, peer_port, &kept[i].peer)) {
				count++;
				break;
			}
	}
	fclose(file);
	return count;
}

unsigned kept_waiting(const struct kept *kept, size_t n)
{
	return waiting_in("/proc/net/tcp", kept, n) + waiting_in("/proc/net/tcp6", kept, n);
}
