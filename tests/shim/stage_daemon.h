/* Plays the daemon of a stage's folder, in a thread of the test: is it ready, and what is its
 * status? */
#ifndef MESHWRAP_TESTS_SHIM_STAGE_DAEMON_H
#define MESHWRAP_TESTS_SHIM_STAGE_DAEMON_H

#include <pthread.h>
#include <stdbool.h>

struct stage;

struct stage_daemon {
	const char *status; /* JSON */
	int asks_until_ready;
	/* Its own. */
	int control, api;
	pthread_t thread;
	_Atomic bool is_over;
};

/* Makes the folder, too. */
void stage_daemon_start(const struct stage *s, struct stage_daemon *d);
void stage_daemon_end(struct stage_daemon *d);

#endif
