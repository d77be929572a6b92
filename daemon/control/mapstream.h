/* The body of a streaming map answer: length-prefixed messages, plain or zstd. */
#ifndef MESHWRAP_DAEMON_CONTROL_MAPSTREAM_H
#define MESHWRAP_DAEMON_CONTROL_MAPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mapstream;

#define MAPSTREAM_DECODED_MAX (64u << 20) /* unless told otherwise */
/* A message may be this many times larger than its zstd form, beyond the first MiB. */
#define MAPSTREAM_RATIO_MAX 256
#define MAPSTREAM_SLACK     (1u << 20)

struct mapstream_callbacks {
	/* One whole message; text[len] is '\0'. 0, or -errno: stop. */
	int (*message)(void *owner, const char *text, size_t len);
	void *owner;
};

/* decoded_max 0: the default. NULL: -ENOMEM. */
struct mapstream *mapstream_create(bool is_zstd, size_t decoded_max,
				   const struct mapstream_callbacks *callbacks);
void mapstream_destroy(struct mapstream *ms);
/*
 * In any portions. 0; what message() returned; -EMSGSIZE: too large, by itself or
 * for what was sent; -EBADMSG: not one whole zstd frame; -ENOMEM. Dead after an error.
 */
int mapstream_receive(struct mapstream *ms, const uint8_t *bytes, size_t len);

#endif
