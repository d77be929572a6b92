/*
 * The shim's start-up, and its one piece of state: the mapped map.
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
/* False in our own tools, in set-uid programs, with MESHWRAP_OFF=1, and where a tracer serves all.
 */
bool shim_is_on(void);
/* An address of the usual mesh ranges; these stay closed while nothing is known. */
bool shim_is_default_mesh(const struct ip_addr *ip);
/* dir/control, or NULL when there is no folder. */
const char *shim_control_path(void);
/* dir/posts, the same way. */
const char *shim_posts_path(void);
/* The runtime folder in use, "" when there is none. */
const char *shim_dir(void);

/* MESHWRAP_LOG=info or more: say when we are on. */
extern bool shim_is_talkative;

#endif
