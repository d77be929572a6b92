/*
 * Network calls that code other than libc's makes by instructions of its own come to the
 * shim, and so do programs that it starts: a seccomp filter traps them, and a handler of SIGSYS
 * leads them to the functions we replace.
 */
#ifndef MESHWRAP_PRELOAD_TRAP_H
#define MESHWRAP_PRELOAD_TRAP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * From now on, in all threads and for ever, for the code from here up to there. 0, or -errno: this
 * system refuses it, and nothing has changed but that no_new_privs may be set. One
 * caller at a time.
 */
int trap_arm(uintptr_t from, uintptr_t to);
/* Is there such a filter, of ours or from before our exec? It stays for all children. */
bool trap_is_armed(void);
/* At start-up: a filter was left to us, whose addresses are another program's. */
void trap_inherit(void);

/* Of this kind of machine: may there be a trap in this process, sooner or later? */
bool trap_is_possible(void);
/* Is our handler of SIGSYS there? It stays. */
bool trap_has_handler(void);
/*
 * sigaction(SIGSYS) then: what it is told and tells is the handler behind ours. Async-signal-safe.
 * Either may be NULL.
 */
void trap_put_behind(const struct sigaction *action, struct sigaction *old);

#endif
