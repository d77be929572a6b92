/* Reading tests/vectors: JSON with byte strings in hex. */
#ifndef MESHWRAP_TESTS_WG_VECTORS_H
#define MESHWRAP_TESTS_WG_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include <json.h>

/* A file of the vectors; json_object_put() it. Aborts when it is not there. */
struct json_object *vectors_load(const char *name);
/* The member at a path such as "a/b"; aborts when there is none. */
struct json_object *vectors_get(struct json_object *o, const char *path);
const char *vectors_text(struct json_object *o, const char *path);
/* Decodes hex into out and returns its length; aborts when it does not fit. */
size_t vectors_bytes(struct json_object *o, const char *path, void *out, size_t size);
/* A number, which may be written as text, decimal or 0x. */
uint64_t vectors_number(struct json_object *o, const char *path);

#endif
