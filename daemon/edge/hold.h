/*
 * SYN hold: the port that never answers, and the way to meet a program that waits at it.
 */
#ifndef MESHWRAP_DAEMON_EDGE_HOLD_H
#define MESHWRAP_DAEMON_EDGE_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/edge/sock.h"

struct hold {
	int listener, plug;
	uint16_t port;
	bool works;      /* false: listener is an ordinary one, for "dial first" */
	const char *why; /* not */
};

/*
 * Opens the port (any but avoid) and tries it out; where holding does not
 * work here, or refuse is set, the port is an ordinary listener. 0 or -errno.
 */
int hold_open(struct hold *hold, const struct port_range *range, uint32_t avoid, bool refuse);
void hold_close(struct hold *hold);

/*
 * A socket at (mirror of a peer, the hold port), to be given to hold_meet();
 * closing it resets. fd or -errno.
 */
int hold_socket(const struct hold *hold, uint32_t peer_mirror);
/*
 * Meets the program's socket that is, or will be, in SYN_SENT towards this
 * one: 0 established; -EINPROGRESS ask again; -ECONNREFUSED and other -errno:
 * it is not there (yet), the same socket may try again.
 */
int hold_meet(int fd, const struct endpoint *program);
/*
 * Is the program's port in TIME_WAIT towards the hold port at the peer's
 * mirror, then it is freed. Our own socket there must be closed already.
 */
void hold_end_wait(const struct hold *hold, int table, uint32_t peer_mirror,
		   const struct endpoint *program);

#endif
