/* For the tests of the map: reading vectors, applying messages. */
#ifndef MESHWRAP_TESTS_NETMAP_COMMON_H
#define MESHWRAP_TESTS_NETMAP_COMMON_H

#include <stdint.h>

#include <json.h>

#include "daemon/netmap/netmap.h"

#define WALL_S INT64_C(1795000000)

/* A file of tests/vectors; aborts when it is not there. */
struct json_object *vectors_load(const char *name);
/* A member that must be there. */
struct json_object *vectors_get(struct json_object *o, const char *name);
/* Applies an object or a text; must succeed. changes may be NULL. */
void apply_object(struct netmap *nm, struct json_object *message, struct netmap_changes *changes);
void apply_text(struct netmap *nm, const char *json, struct netmap_changes *changes);
int try_text(struct netmap *nm, const char *json);
/* Everything that can be read out of a map, as text; free() it. */
char *dump(const struct netmap *nm);

#endif
