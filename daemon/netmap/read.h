/*
 * Reading values out of the server's JSON: bounded, cleaned, never failing. What
 * is absent or of the wrong type or form is the zero value.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_READ_H
#define MESHWRAP_DAEMON_NETMAP_READ_H

#include <stdbool.h>
#include <stdint.h>

#include <json.h>

#include "daemon/crypto/keytext.h"
#include "daemon/netmap/arena.h"
#include "daemon/netmap/types.h"

#define READ_TEXT_MAX 1024 /* bytes; longer texts are cut */
#define READ_NAME_MAX 253
#define READ_LIST_MAX 1024 /* entries of a list, where nothing else is said */

/* The member, NULL when it is absent, null or not of this type. o may be NULL. */
struct json_object *read_member(struct json_object *o, const char *name, enum json_type type);
/* Is it there and not null? */
bool read_has(struct json_object *o, const char *name);
int64_t read_int(struct json_object *o, const char *name);
/* Within the range, else 0. */
int read_int_within(struct json_object *o, const char *name, int min, int max);
bool read_bool(struct json_object *o, const char *name);
/* An integer that names something, from a key of an object: "12". False: it is none. */
bool read_id(const char *text, int64_t *id);
/* Never NULL; "" also when the arena failed. Control characters become '?'. */
const char *read_text(struct arena *a, struct json_object *o, const char *name);
const char *read_text_value(struct arena *a, struct json_object *value);
/* A host name in lower case without trailing dot; "" when it is none. */
const char *read_name_value(struct arena *a, struct json_object *value);
/* Into a buffer. is_host: letters, digits, '-' and '_' only, else any visible ASCII. */
bool read_name(const char *text, size_t len, bool is_host, char out[static READ_NAME_MAX + 1]);
/* `localhost`, or below it, or the first label: no server may say where that is. */
bool read_is_localhost(const char *name);
/* RFC 3339; 0: none. */
int64_t read_time(struct json_object *o, const char *name);
/* False: absent or malformed; key is zeroed then. */
bool read_key(struct json_object *o, const char *name, enum keytext_kind kind,
	      uint8_t key[static NETMAP_KEY_LEN]);
/* "1.2.3.0/24", host bits cleared; IPv4 in IPv6 form is refused. */
bool read_prefix(const char *text, struct ip_prefix *prefix);
/* An address that is not IPv4 in IPv6 form. */
bool read_addr(const char *text, struct ip_addr *addr);

/* A list of texts; entries that clean() makes "" are left out. */
typedef const char *read_cleaner(struct arena *a, struct json_object *value);
const char *const *read_texts(struct arena *a, struct json_object *list, read_cleaner *clean,
			      unsigned *count);
/* Entries of an array, at most max. */
unsigned read_length(struct json_object *list, unsigned max);

#endif
