/* Bytes both ways between two sockets, each end passed on as what it was. */
#ifndef MESHWRAP_DAEMON_PROXY_RELAY_H
#define MESHWRAP_DAEMON_PROXY_RELAY_H

#include <stdbool.h>
#include <stddef.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#define RELAY_ROOM  32768 /* bytes of each direction that are under way here */
#define RELAY_SLACK 1024  /* beyond: what arrived() may put in */

enum relay_direction { RELAY_UP, RELAY_DOWN }; /* away from the client, towards it */

/*
 * Bytes at [start, ready) may be written, those at [ready, end) were read and wait
 * for the hook to look at them.
 */
struct relay_way {
	char *bytes;
	size_t start, ready, end;
	bool has_ended; /* the reading side's FIN was seen */
	bool is_closed; /* and passed on */
};

struct relay_hooks {
	/*
	 * New bytes, or the end, of a direction: moves way->ready, and may rewrite what
	 * is behind it. < 0: give up. NULL: all is ready.
	 */
	int (*arrived)(void *arg, enum relay_direction direction, struct relay_way *way);
	/* Once; the relay is still there. is_broken: an end was no orderly one. */
	void (*done)(void *arg, bool is_broken);
	void *arg;
};

struct relay {
	int fd[2]; /* client, server */
	struct event event[2];
	bool has_event[2], is_readable[2], is_writable[2];
	struct relay_way way[2];
	struct relay_hooks hooks;
	bool is_done;
};

/* The descriptors stay the caller's. 0 or -ENOMEM. */
int relay_open(struct relay *relay, struct event_base *base, const int fd[static 2],
	       const struct relay_hooks *hooks);
/* Bytes of ours, ready to be written; before the first run, and at most half of RELAY_ROOM. */
void relay_put(struct relay_way *way, const char *bytes, size_t len);
/* Reads and writes what is possible now. May call done(). */
void relay_run(struct relay *relay);
void relay_close(struct relay *relay);

#endif
