/*
 * Building JSON without a check at every step: a builder that once ran out of
 * memory stays failed, and is asked once at the end. For this folder.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_BUILD_H
#define MESHWRAP_DAEMON_NETMAP_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include <json.h>

#include "daemon/netmap/types.h"

struct build {
	bool failed;
};

/* Each takes the value; o may be NULL after a failure. */
void build_add(struct build *b, struct json_object *o, const char *name, struct json_object *value);
void build_add_null(struct build *b, struct json_object *o, const char *name);
void build_text(struct build *b, struct json_object *o, const char *name, const char *text);
void build_bool(struct build *b, struct json_object *o, const char *name, bool value);
void build_int(struct build *b, struct json_object *o, const char *name, int64_t value);
void build_time(struct build *b, struct json_object *o, const char *name, int64_t time_s);
void build_append(struct build *b, struct json_object *list, struct json_object *value);
struct json_object *build_object(struct build *b);
struct json_object *build_list(struct build *b);
struct json_object *build_string(struct build *b, const char *text);

struct json_object *build_texts(struct build *b, const char *const *texts, unsigned count);
struct json_object *build_prefix(struct build *b, const struct ip_prefix *prefix);
/* Another reference to what is there, or nothing at all. */
void build_copy(struct build *b, struct json_object *o, struct json_object *from, const char *name,
		enum json_type type);
/* The result, or NULL (and o is put) when something failed. */
struct json_object *build_result(const struct build *b, struct json_object *o);

#endif
