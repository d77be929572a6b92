/* The control socket: one question and one answer for each program that asks. */
#ifndef MESHWRAP_DAEMON_EDGE_APPS_H
#define MESHWRAP_DAEMON_EDGE_APPS_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/edge/timer.h"
#include "shared/ipc.h"

#define APPS_MAX       1024 /* clients that wait, or are waited for */
#define APPS_SILENCE_S 5    /* for the question */
#define APPS_PAUSE_MS  50   /* without accepting, after the kernel had no descriptor */
#define APPS_PER_ROUND 64

struct edge;
struct flow;
struct app;

struct apps {
	struct edge *edge;
	int listener;
	struct event event;
	bool has_event, is_paused;
	struct edge_timer resume;
	struct app *all, *gone;
	unsigned count;
	unsigned take;        /* at most so many of those that wait with the next event */
	uint64_t accepted_ns; /* the last event */
};

/* 0 or -errno. */
int apps_open(struct apps *apps, struct edge *edge);
/* On a new socket, when the old one's file was removed. 0 or -errno: nobody is heard. */
int apps_listen(struct apps *apps);
void apps_close(struct apps *apps);
/* Frees clients that have been answered. Not from inside a client's callback. */
void apps_reap(struct apps *apps);

/* The answer to a question that was left open. error: 0 or a positive errno. */
void app_answer(struct app *app, int error, const struct endpoint *mirror, uint32_t flags);
/* The answer to a look-up, which may come when nobody waits for it any more. */
void app_answer_lookup(struct app *app, int error, const struct ip_addr *ips, unsigned count);
/* The question is now this flow's; flow_asker_gone() tells when nobody waits any more. */
void app_wait_for(struct app *app, struct flow *flow);

#endif
