/* The vectors of the reference implementation, as JSON objects. */
#ifndef MESHWRAP_TESTS_CONTROL_VECTORS_H
#define MESHWRAP_TESTS_CONTROL_VECTORS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

static inline struct json_object *load(const char *name)
{
	char path[512];
	struct json_object *object;

	snprintf(path, sizeof(path), "%s/%s", VECTORS_DIR, name);
	object = json_object_from_file(path);
	assert_non_null(object);
	return object;
}

static inline struct json_object *at(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;

	assert_true(json_object_object_get_ex(object, key, &value));
	return value;
}

static inline const char *text(struct json_object *object, const char *key)
{
	return json_object_get_string(at(object, key));
}

static inline size_t unhex(const char *hex, uint8_t *out, size_t room)
{
	size_t len = strlen(hex) / 2;

	assert_true(len <= room);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
	return len;
}

#endif
