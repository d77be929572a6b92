/* Map messages out of a stream: recorded ones in any pieces, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "daemon/control/mapstream.h"
#include "daemon/crypto/keys.h"
#include "shared/util.h"
#include "shared/wire.h"
#include "tests/unit/control/vectors.h"

struct messages_seen {
	char *text[8];
	unsigned count;
	int verdict;
};

static int seen(void *owner, const char *message, size_t len)
{
	struct messages_seen *m = owner;

	assert_int_equal(strlen(message), len);
	assert_true(m->count < 8);
	m->text[m->count++] = strdup(message);
	return m->verdict;
}

static void forget(struct messages_seen *m)
{
	for (unsigned i = 0; i < m->count; i++)
		free(m->text[i]);
	*m = (struct messages_seen){ 0 };
}

static int feed(bool is_zstd, size_t max, const uint8_t *bytes, size_t len, size_t portion,
		struct messages_seen *m)
{
	struct mapstream_callbacks callbacks = { .message = seen, .owner = m };
	struct mapstream *ms = mapstream_create(is_zstd, max, &callbacks);
	int err = 0;

	for (size_t i = 0; i < len && err == 0; i += portion)
		err = mapstream_receive(ms, bytes + i, MIN(portion, len - i));
	mapstream_destroy(ms);
	return err;
}

static void test_map_messages_come_out_of_the_stream_in_any_portions(void **state)
{
	struct json_object *all = load("map_stream.json");
	struct messages_seen m = { 0 };
	static const size_t portions[] = { 1, 3, 4, 7, 1000, 100000 };
	uint8_t bytes[8192];

	(void)state;
	for (size_t p = 0; p < ARRAY_LEN(portions); p++) {
		for (int z = 0; z < 2; z++) {
			struct json_object *list = at(all, z ? "zstd" : "plain");
			size_t len = unhex(text(all, z ? "stream_zstd" : "stream_plain"), bytes,
					   sizeof(bytes));

			assert_int_equal(feed(z, 0, bytes, len, portions[p], &m), 0);
			assert_int_equal(m.count, json_object_array_length(list));
			for (unsigned i = 0; i < m.count; i++)
				assert_string_equal(
					m.text[i],
					text(json_object_array_get_idx(list, i), "json"));
			forget(&m);
		}
	}
	json_object_put(all);
}

static size_t bomb(uint8_t *out, size_t room, size_t unfolded)
{
	char *zeros = calloc(1, unfolded);
	size_t len = ZSTD_compress(out + 4, room - 4, zeros, unfolded, 1);

	assert_false(ZSTD_isError(len));
	free(zeros);
	store_le32(out, (uint32_t)len);
	return len + 4;
}

static void test_bombs_and_torn_frames_are_refused(void **state)
{
	struct messages_seen m = { 0 };
	static uint8_t bytes[1 << 16];
	size_t len = bomb(bytes, sizeof(bytes), 32 << 20);

	(void)state;
	assert_int_equal(feed(true, 0, bytes, len, len, &m), -EMSGSIZE);
	assert_int_equal(feed(true, 0, bytes, len, 1, &m), -EMSGSIZE);
	len = bomb(bytes, sizeof(bytes), 1000);
	assert_int_equal(feed(true, 999, bytes, len, len, &m), -EMSGSIZE);
	store_le32(bytes, (uint32_t)len - 4 - 1); /* the frame goes on where the message ends */
	assert_int_equal(feed(true, 0, bytes, len, len, &m), -EBADMSG);
	store_le32(bytes, (uint32_t)len - 4 + 1);
	bytes[len] = 0;
	assert_int_equal(feed(true, 0, bytes, len + 1, len + 1, &m), -EBADMSG);
	store_le32(bytes, 0xffffffff);
	assert_int_equal(feed(false, 0, bytes, 4, 4, &m), -EMSGSIZE);
	assert_int_equal(feed(true, 0, (const uint8_t *)"\5\0\0\0xxxxx", 9, 9, &m), -EBADMSG);
	assert_int_equal(feed(true, 0, (const uint8_t *)"\0\0\0\0", 4, 4, &m), -EBADMSG);
	assert_int_equal(m.count, 0);
	m.verdict = -EILSEQ;
	assert_int_equal(feed(false, 0, (const uint8_t *)"\2\0\0\0{}\2\0\0\0{}", 12, 12, &m),
			 -EILSEQ);
	assert_int_equal(m.count, 1);
	forget(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_messages_come_out_of_the_stream_in_any_portions),
		cmocka_unit_test(test_bombs_and_torn_frames_are_refused),
	};

	if (crypto_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
