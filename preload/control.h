/* Asking the daemon one question: connect, send, receive, close. Or posting it. Async-signal-safe.
 */
#ifndef MESHWRAP_PRELOAD_CONTROL_H
#define MESHWRAP_PRELOAD_CONTROL_H

#include <stdbool.h>

#include "shared/ipc.h"

/*
 * 0 with the reply (its error is 0), or -errno for the program: the reply's
 * own error, -ENETUNREACH without a daemon to ask, or -ETIMEDOUT when it does not answer in
 * wait_s.
 */
int control_ask(const struct ipc_request *request, unsigned wait_s, struct ipc_reply *reply);
/* The same for a dial of a socket with patience. */
int control_ask_patiently(const struct ipc_patience *request, unsigned wait_s,
			  struct ipc_reply *reply);
/* IPC_PATIENCE, which has no answer: 0 or -errno. wait_s: for a place in the daemon's queue. */
int control_tell(const struct ipc_patience *patience, unsigned wait_s);
/* The same as control_ask() for a name. */
int control_look_up(const struct ipc_lookup *question, unsigned wait_s, struct ipc_found *found);
/* Without waiting for anything. False: it could not be posted now, and is to be asked. */
bool control_post(const struct ipc_post *post);

#endif
