/* The runtime folder is made anew when somebody has removed it, or a file in it. */
#ifndef MESHWRAP_DAEMON_EDGE_ANEW_H
#define MESHWRAP_DAEMON_EDGE_ANEW_H

#include <stdbool.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/edge/timer.h"

struct edge;

struct anew {
	struct edge *edge;
	int watch; /* inotify, -1: none */
	struct event event;
	bool has_event, is_told;
	struct edge_timer settle;
};

/* Once all files are there. Where the kernel has no watch left, nothing is made anew: logged. */
void anew_begin(struct anew *anew, struct edge *edge);
/* Before the edge removes its own. */
void anew_end(struct anew *anew);

#endif
