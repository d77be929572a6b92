/*
 * The shim's files: one for each libc a program may be linked with.
 *
 * The build makes libmeshwrap.so for the compiler's own libc. Beside it there
 * may be one for the other: libmeshwrap-musl.so where that is glibc,
 * libmeshwrap-gnu.so where it is musl. Pure; async-signal-safe.
 */
#ifndef MESHWRAP_PRELOAD_LIBRARIES_H
#define MESHWRAP_PRELOAD_LIBRARIES_H

#include <features.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __GLIBC__
#define LIBRARY_OURS  "libmeshwrap.so"
#define LIBRARY_OTHER "libmeshwrap-musl.so"
#elif defined(MESHWRAP_GUEST) /* built for musl where glibc is at home */
#define LIBRARY_OURS  "libmeshwrap-musl.so"
#define LIBRARY_OTHER "libmeshwrap.so"
#else
#define LIBRARY_OURS  "libmeshwrap.so"
#define LIBRARY_OTHER "libmeshwrap-gnu.so"
#endif

/*
 * gcc's AddressSanitizer ends a program that has a library in front of its own, as each
 * preloaded one is, unless these options of it say otherwise. Nobody else reads them.
 */
#define LIBRARIES_ASAN_VARIABLE "ASAN_OPTIONS"
#define LIBRARIES_ASAN_ORDER    "verify_asan_link_order"
#define LIBRARIES_ASAN_OPTION   LIBRARIES_ASAN_ORDER "=0"

/* Are programs of this ELF interpreter linked with the libc we were built for? */
bool libraries_is_our_libc(const char *interpreter);

/* The first shim that LD_PRELOAD's value names, of len bytes; NULL: there is none. */
const char *libraries_first(const char *preload, size_t *len);

/*
 * LD_PRELOAD's value with library (a path) in place of every other shim, at its
 * end if there was none; with library NULL, without any. preload may be NULL.
 * False: out has no room.
 */
bool libraries_replace(const char *preload, const char *library, char *out, size_t room);

#endif
