/* Dials that programs post, and whose answer they do not wait for (struct ipc_post). */
#ifndef MESHWRAP_DAEMON_EDGE_POSTS_H
#define MESHWRAP_DAEMON_EDGE_POSTS_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/edge/timer.h"

#define POSTS_SPARE    1024 /* flows that must be possible, more than a queue can hold of posts */
#define POSTS_PAUSE_MS 1000 /* in which programs ask, after one could not be served */

struct edge;

struct posts {
	struct edge *edge;
	int fd;
	struct event event;
	bool has_event;
	struct edge_timer resume;
};

/* 0 or -errno. */
int posts_open(struct posts *posts, struct edge *edge);
/* On a new socket, when the old one's file was removed. 0 or -errno: nobody is heard. */
int posts_listen(struct posts *posts);
void posts_close(struct posts *posts);
/* The daemon lacks something: for a while programs ask, since an answer can say so. */
void posts_pause(struct posts *posts);

#endif
