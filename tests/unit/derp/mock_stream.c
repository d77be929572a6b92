#include "tests/unit/derp/mock_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mock mock;

struct net_stream {
	struct net_stream_callbacks callbacks;
	void *owner;
	struct net_stream *next;
};

/* As the real ones they live on for a while, and no new one has their address. */
static struct net_stream *destroyed;

void mock_reset(void)
{
	net_stream_destroy(mock.stream);
	while (destroyed) {
		struct net_stream *next = destroyed->next;

		free(destroyed);
		destroyed = next;
	}
	memset(&mock, 0, sizeof(mock));
}

struct net_stream *net_stream_open(struct loop *loop, const struct net_stream_options *options,
				   const struct net_stream_callbacks *callbacks, void *owner)
{
	(void)loop;
	mock.options = *options;
	mock.opened++;
	mock.out_len = 0;
	mock.stream = calloc(1, sizeof(*mock.stream));
	if (!mock.stream)
		abort();
	mock.stream->callbacks = *callbacks;
	mock.stream->owner = owner;
	return mock.stream;
}

void net_stream_destroy(struct net_stream *s)
{
	if (!s)
		return;
	if (s == mock.stream)
		mock.stream = NULL;
	s->next = destroyed;
	destroyed = s;
}

uint8_t *net_stream_reserve(struct net_stream *s, size_t len)
{
	size_t max = mock.is_stuck ? mock.options.queue_max : sizeof(mock.out);

	(void)s;
	if (!mock.is_stuck && len > sizeof(mock.out) - mock.out_len)
		mock.out_len = 0;
	return mock.out_len + len > max ? NULL : mock.out + mock.out_len;
}

void net_stream_commit(struct net_stream *s, size_t len)
{
	(void)s;
	mock.out_len += len;
}

int net_stream_write(struct net_stream *s, const void *bytes, size_t len)
{
	uint8_t *room = net_stream_reserve(s, len);

	if (!room)
		return -ENOBUFS;
	memcpy(room, bytes, len);
	net_stream_commit(s, len);
	return 0;
}

size_t net_stream_queued(const struct net_stream *s)
{
	(void)s;
	return mock.is_stuck ? mock.out_len : 0;
}

long net_stream_read(struct net_stream *s, void *bytes, size_t max)
{
	size_t n = mock.in_len - mock.in_at;

	(void)s;
	if (mock.piece > 0 && n > mock.piece)
		n = mock.piece;
	if (n > max)
		n = max;
	if (n == 0)
		return -EAGAIN;
	memcpy(bytes, mock.in + mock.in_at, n);
	mock.in_at += n;
	return (long)n;
}

void net_stream_wake_at(struct net_stream *s, size_t bytes)
{
	(void)s;
	mock.wake_at = bytes;
}

void net_stream_addresses(const struct net_stream *s, struct endpoint *remote,
			  struct endpoint *local)
{
	(void)s;
	memset(remote, 0, sizeof(*remote));
	memset(local, 0, sizeof(*local));
}

bool net_stream_relay_key(const struct net_stream *s, uint8_t key[static 32])
{
	(void)s;
	memcpy(key, mock.relay_key, 32);
	return mock.has_relay_key;
}

void mock_connected(void)
{
	if (mock.stream)
		mock.stream->callbacks.connected(mock.stream->owner);
}

void mock_received(const void *bytes, size_t len)
{
	struct net_stream *before = mock.stream;

	mock.in = (uint8_t *)bytes;
	mock.in_at = 0;
	mock.in_len = len;
	while (mock.stream && mock.stream == before && mock.in_at < mock.in_len)
		mock.stream->callbacks.readable(mock.stream->owner);
}

void mock_drained(void)
{
	mock.out_len = 0;
	if (mock.stream)
		mock.stream->callbacks.drained(mock.stream->owner);
}

void mock_closed(const char *sentence)
{
	if (mock.stream)
		mock.stream->callbacks.closed(mock.stream->owner, sentence);
}
