/* What the kernel's table of sockets says of the sockets of programs. */
#ifndef MESHWRAP_DAEMON_EDGE_SOCKTABLE_H
#define MESHWRAP_DAEMON_EDGE_SOCKTABLE_H

#include <sys/types.h>

#include "shared/endpoint.h"

/* The other end of a loopback TCP connection. */
enum sock_life {
	SOCK_UNKNOWN, /* it cannot be asked, or the connection is not on loopback */
	SOCK_NONE,    /* there is no such socket */
	SOCK_ORPHAN,  /* the kernel still ends the connection, but no process holds the socket */
	SOCK_WAITING, /* TIME_WAIT: all is over but for the port */
	SOCK_HELD
};

/* What the kernel waits for on behalf of a connection. */
struct sock_wait {
	enum {
		SOCK_WAITS_FOR_NOTHING,
		SOCK_WAITS_FOR_ANSWER, /* to what it has sent */
		SOCK_WAITS_TO_ASK      /* keepalive: it is idle, or has asked in vain */
	} for_what;
	uint64_t left_ns; /* until it acts */
	unsigned asked;   /* in vain, so often */
};

/* Who would take what is sent to an endpoint. */
enum sock_taker {
	TAKER_NONE,     /* nobody, or it cannot be asked */
	TAKER_ANY,      /* one on all addresses of both families, or of IPv4 */
	TAKER_ANY6,     /* one on all addresses of IPv6 alone */
	TAKER_SPECIFIC, /* one bound to just this address */
};

/* A socket to ask with, or -errno: then nothing is known. */
int socktable_open(void);
enum sock_life socktable_life(int table, const struct endpoint *theirs,
			      const struct endpoint *ours);
/* The same, and what it waits for: for nothing, if no process holds it. */
enum sock_life socktable_wait(int table, const struct endpoint *theirs, const struct endpoint *ours,
			      struct sock_wait *wait);
/* type: SOCK_STREAM, who listens; SOCK_DGRAM, who is bound and not connected. */
enum sock_taker socktable_taker(int table, int type, const struct endpoint *at);
/*
 * Whose socket the other end of a local TCP connection is, or whose would get our datagrams.
 * 0 or -errno: it is not known.
 */
int socktable_owner(int table, int type, const struct endpoint *theirs, const struct endpoint *ours,
		    uid_t *uid);

#endif
