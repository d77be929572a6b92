/* A library of the program's own that wraps bind(), and asks libc's handle for the real one. */
#ifndef MESHWRAP_TESTS_SHIM_BEHIND_H
#define MESHWRAP_TESTS_SHIM_BEHIND_H

extern int behind_calls;

/* Of its file. */
const char *behind_path(void);

#endif
