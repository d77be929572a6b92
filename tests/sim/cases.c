/* The cases, and the content that both sides check. */
#include "cases.h"

#define KIB UINT64_C(1024)

const struct test_case test_cases[] = {
	{ "the peer sends, closes first", EITHER_DIALS, 8192 * KIB, 0, PEER_CLOSES, PLAIN },
	{ "we send, we close first", EITHER_DIALS, 0, 8192 * KIB, WE_CLOSE, PLAIN },
	{ "both send, the peer closes first", EITHER_DIALS, 2048 * KIB, 2048 * KIB, PEER_CLOSES,
	  PLAIN },
	{ "both send, we close first", EITHER_DIALS, 2048 * KIB, 2048 * KIB, WE_CLOSE, PLAIN },
	{ "both send, both close at once", EITHER_DIALS, 256 * KIB, 256 * KIB, BOTH_CLOSE, PLAIN },
	{ "half-close: a word up, a long answer down", EITHER_DIALS, 5, 4096 * KIB, PEER_CLOSES,
	  PLAIN },
	{ "half-close: a word down, a long answer up", EITHER_DIALS, 4096 * KIB, 5, WE_CLOSE,
	  PLAIN },
	{ "nothing either way, the peer closes first", EITHER_DIALS, 0, 0, PEER_CLOSES, PLAIN },
	{ "nothing either way, we close first", EITHER_DIALS, 0, 0, WE_CLOSE, PLAIN },
	{ "nothing either way, both close at once", EITHER_DIALS, 0, 0, BOTH_CLOSE, PLAIN },
	{ "one byte each way, both close at once", EITHER_DIALS, 1, 1, BOTH_CLOSE, PLAIN },
	{ "refused", EITHER_DIALS, 0, 0, PEER_CLOSES, REFUSED },
	{ "the peer resets in the middle", EITHER_DIALS, 1024 * KIB, 1024 * KIB, PEER_CLOSES,
	  PEER_RESETS },
	{ "we reset in the middle", EITHER_DIALS, 1024 * KIB, 1024 * KIB, WE_CLOSE, WE_RESET },
	{ "zero window: the peer reads late", PEER_DIALS, 0, 6144 * KIB, WE_CLOSE,
	  PEER_READS_LATE },
	{ "zero window: we read late", PEER_DIALS, 6144 * KIB, 0, PEER_CLOSES, WE_READ_LATE },
	{ "the answer to a SYN comes late", PEER_DIALS, 100, 100, PEER_CLOSES, WE_DECIDE_LATE },
	{ 0 },
};

bool test_case_make(struct test_case *t, unsigned i, bool peer_dials, unsigned divide)
{
	*t = test_cases[i];
	if (t->dials == (peer_dials ? WE_DIAL : PEER_DIALS))
		return false;
	t->dials = peer_dials ? PEER_DIALS : WE_DIAL;
	t->up = (t->up + divide - 1) / divide;
	t->down = (t->down + divide - 1) / divide;
	return true;
}

uint8_t content_at(uint64_t offset, bool is_up)
{
	return (uint8_t)(((uint32_t)(offset + is_up * 77) * 2654435761u) >> 21 ^ offset >> 16);
}

void content_fill(uint8_t *to, size_t len, uint64_t offset, bool is_up)
{
	for (size_t i = 0; i < len; i++)
		to[i] = content_at(offset + i, is_up);
}

bool content_is_right(const uint8_t *data, size_t len, uint64_t offset, bool is_up)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != content_at(offset + i, is_up))
			return false;
	return true;
}
