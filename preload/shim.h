/*
 * The shim's start-up, its one piece of state (the mapped map), and its log.
 *
 * Everything is set once: the environment is read at start-up and never again,
 * since programs overwrite it. Everything here is async-signal-safe after
 * start-up, allocates nothing and leaves errno alone.
 */
#ifndef MESHWRAP_PRELOAD_SHIM_H
#define MESHWRAP_PRELOAD_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/endpoint.h"
#include "shared/map.h"

/*
 * The map in use, newly mapped if need be. NULL: the shim is off, or there is
 * no daemon and never was one.
 */
const struct map *shim_map(void);
/* The same, after a look whether the folder has a newer one: for maps found dead. */
const struct map *shim_map_again(const struct map *dead);
/* False in our own tools, in set-uid programs and with MESHWRAP_OFF=1. */
bool shim_is_on(void);
/* An address of the usual mesh ranges; these stay closed while nothing is known. */
bool shim_is_default_mesh(const struct ip_addr *ip);
/* dir/control, or NULL when there is no folder. */
const char *shim_control_path(void);
/* The runtime folder in use, "" when there is none. */
const char *shim_dir(void);

enum shim_level { SHIM_QUIET, SHIM_INFO, SHIM_DEBUG };
extern enum shim_level shim_level;

/* "meshwrap: what: from -> to (strerror-like number)"; nothing unless asked by MESHWRAP_LOG. */
void shim_log_line(const char *what, const struct endpoint *from, const struct endpoint *to,
		   int error);
#define shim_debug(what, from, to, error)                          \
	do {                                                       \
		if (__builtin_expect(shim_level >= SHIM_DEBUG, 0)) \
			shim_log_line(what, from, to, error);      \
	} while (0)

#endif
