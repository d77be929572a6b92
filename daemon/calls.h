/*
 * The system calls that the daemon cannot do without, and that a sandbox may refuse. Found out
 * later, the refusal would be silence, or a loop that turns for nothing.
 */
#ifndef MESHWRAP_DAEMON_CALLS_H
#define MESHWRAP_DAEMON_CALLS_H

/* 0, or -errno and one sentence for the user that names the call. */
int calls_check(char error[static 256]);

#endif
