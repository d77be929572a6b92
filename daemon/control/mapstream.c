/*
 * Map messages out of a byte stream.
 *
 * Each is a little-endian length and so many bytes: JSON text, or one zstd
 * frame of it. Nothing is reserved by what a length claims: plain bytes and
 * the decoder's output are kept as they come, in a buffer that doubles up to
 * the limit. Compressed bytes are not kept at all, they go straight through
 * the decoder. A frame of few bytes that unfolds to very many is refused on
 * the way, long before the limit.
 *
 * After a large message its memory is given back; a stream mostly carries
 * small ones for days.
 */
#include "daemon/control/mapstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "shared/util.h"
#include "shared/wire.h"

#define PREFIX_LEN  4
#define BUFFER_MIN  (16u << 10)
#define BUFFER_KEEP (256u << 10)
#define WINDOW_MIN  20 /* log2 of the window that is always allowed */

struct mapstream {
	struct mapstream_callbacks callbacks;
	size_t decoded_max;
	bool is_zstd;
	int dead;
	uint8_t prefix[PREFIX_LEN];
	size_t prefix_len;
	size_t wire_len, wire_done; /* bytes of this message, as sent */
	ZSTD_DCtx *decoder;         /* NULL between messages, when the last one was large */
	bool frame_ended;
	char *text;
	size_t text_len, text_room;
};

struct mapstream *mapstream_create(bool is_zstd, size_t decoded_max,
				   const struct mapstream_callbacks *callbacks)
{
	struct mapstream *ms = calloc(1, sizeof(*ms));

	if (!ms)
		return NULL;
	ms->callbacks = *callbacks;
	ms->is_zstd = is_zstd;
	ms->decoded_max = decoded_max ? decoded_max : MAPSTREAM_DECODED_MAX;
	return ms;
}

void mapstream_destroy(struct mapstream *ms)
{
	if (!ms)
		return;
	ZSTD_freeDCtx(ms->decoder);
	free(ms->text);
	free(ms);
}

/* Room for one more byte at least, and the terminator. */
static int make_room(struct mapstream *ms, size_t wanted)
{
	size_t room = MAX(ms->text_room, (size_t)BUFFER_MIN);
	char *grown;

	if (wanted > ms->decoded_max)
		return -EMSGSIZE;
	while (room < wanted + 1)
		room *= 2;
	room = MIN(room, ms->decoded_max + 1);
	if (room == ms->text_room)
		return 0;
	grown = realloc(ms->text, room);
	if (!grown)
		return -ENOMEM;
	ms->text = grown;
	ms->text_room = room;
	return 0;
}

static int start_message(struct mapstream *ms)
{
	ms->wire_len = load_le32(ms->prefix);
	ms->wire_done = 0;
	ms->text_len = 0;
	ms->frame_ended = false;
	if (ms->wire_len > ms->decoded_max)
		return -EMSGSIZE;
	if (!ms->is_zstd)
		return 0;
	if (!ms->decoder) {
		int window = WINDOW_MIN;

		ms->decoder = ZSTD_createDCtx();
		if (!ms->decoder)
			return -ENOMEM;
		while (window < 31 && ((size_t)1 << window) < ms->decoded_max)
			window++;
		ZSTD_DCtx_setParameter(ms->decoder, ZSTD_d_windowLogMax, window);
	}
	ZSTD_DCtx_reset(ms->decoder, ZSTD_reset_session_only);
	return 0;
}

static int take_plain(struct mapstream *ms, const uint8_t *bytes, size_t len)
{
	int err = make_room(ms, ms->text_len + len);

	if (err != 0)
		return err;
	memcpy(ms->text + ms->text_len, bytes, len);
	ms->text_len += len;
	return 0;
}

static int take_zstd(struct mapstream *ms, const uint8_t *bytes, size_t len)
{
	ZSTD_inBuffer in = { bytes, len, 0 };

	/* Ends: each turn takes input, or fills the room that was made. */
	for (;;) {
		ZSTD_outBuffer out;
		size_t left;
		int err;

		if (ms->frame_ended)
			return in.pos < in.size ? -EBADMSG : 0;
		err = make_room(ms, MIN(ms->text_len + 1, ms->decoded_max));
		if (err != 0)
			return err;
		out = (ZSTD_outBuffer){ ms->text, ms->text_room - 1, ms->text_len };
		left = ZSTD_decompressStream(ms->decoder, &out, &in);
		if (ZSTD_isError(left))
			return -EBADMSG;
		ms->frame_ended = left == 0;
		if (out.pos > MAPSTREAM_SLACK &&
		    (out.pos - MAPSTREAM_SLACK) / MAPSTREAM_RATIO_MAX > ms->wire_done + in.pos)
			return -EMSGSIZE;
		if (!ms->frame_ended && out.pos == out.size && out.size == ms->decoded_max)
			return -EMSGSIZE;
		ms->text_len = out.pos;
		if (!ms->frame_ended && in.pos == in.size && out.pos < out.size)
			return 0;
	}
}

static int end_message(struct mapstream *ms)
{
	int err;

	if (ms->is_zstd && !ms->frame_ended)
		return -EBADMSG;
	err = make_room(ms, ms->text_len); /* of an empty one too */
	if (err != 0)
		return err;
	ms->text[ms->text_len] = '\0';
	ms->prefix_len = 0;
	err = ms->callbacks.message(ms->callbacks.owner, ms->text, ms->text_len);
	if (ms->text_room > BUFFER_KEEP) {
		free(ms->text);
		ms->text = NULL;
		ms->text_room = 0;
		ZSTD_freeDCtx(ms->decoder);
		ms->decoder = NULL;
	}
	return err;
}

static int receive_some(struct mapstream *ms, const uint8_t **bytes, size_t *len)
{
	size_t part;
	int err;

	if (ms->prefix_len < PREFIX_LEN) {
		part = MIN(PREFIX_LEN - ms->prefix_len, *len);
		memcpy(ms->prefix + ms->prefix_len, *bytes, part);
		ms->prefix_len += part;
		err = ms->prefix_len == PREFIX_LEN ? start_message(ms) : 0;
	} else {
		part = MIN(ms->wire_len - ms->wire_done, *len);
		err = ms->is_zstd ? take_zstd(ms, *bytes, part) : take_plain(ms, *bytes, part);
		ms->wire_done += part;
	}
	*bytes += part;
	*len -= part;
	if (err == 0 && ms->prefix_len == PREFIX_LEN && ms->wire_done == ms->wire_len)
		err = end_message(ms);
	return err;
}

int mapstream_receive(struct mapstream *ms, const uint8_t *bytes, size_t len)
{
	while (ms->dead == 0 && len > 0)
		ms->dead = receive_some(ms, &bytes, &len);
	return ms->dead;
}
