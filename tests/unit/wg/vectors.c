#include "vectors.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

struct json_object *vectors_load(const char *name)
{
	char path[4096];
	struct json_object *o;

	snprintf(path, sizeof(path), "%s/%s", VECTORS_DIR, name);
	o = json_object_from_file(path);
	if (!o)
		fprintf(stderr, "%s: %s\n", path, json_util_get_last_err());
	assert(o);
	return o;
}

struct json_object *vectors_get(struct json_object *o, const char *path)
{
	char copy[256], *rest = copy, *name;

	snprintf(copy, sizeof(copy), "%s", path);
	while ((name = strsep(&rest, "/"))) {
		int found = json_object_object_get_ex(o, name, &o);

		if (!found)
			fprintf(stderr, "vectors: no %s in %s\n", name, path);
		assert(found);
	}
	return o;
}

const char *vectors_text(struct json_object *o, const char *path)
{
	return json_object_get_string(vectors_get(o, path));
}

size_t vectors_bytes(struct json_object *o, const char *path, void *out, size_t size)
{
	const char *hex = vectors_text(o, path);
	size_t len;
	int rc = sodium_hex2bin(out, size, hex, strlen(hex), NULL, &len, NULL);

	assert(rc == 0);
	return len;
}

uint64_t vectors_number(struct json_object *o, const char *path)
{
	return strtoull(vectors_text(o, path), NULL, 0);
}
