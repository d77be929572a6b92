/* A short answer, collected up to a limit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/control/private.h"
#include "shared/util.h"

void answer_reset(struct answer *a)
{
	free(a->body);
	*a = (struct answer){ 0 };
}

int answer_append(struct answer *a, const uint8_t *bytes, size_t len, size_t max)
{
	size_t room = MAX(a->room, (size_t)1024);
	char *grown;

	if (len > max - a->len)
		return -EMSGSIZE;
	while (room < a->len + len)
		room *= 2;
	if (room != a->room) {
		grown = realloc(a->body, room);
		if (!grown)
			return -ENOMEM;
		a->body = grown;
		a->room = room;
	}
	memcpy(a->body + a->len, bytes, len);
	a->len += len;
	return 0;
}

void answer_words(const struct answer *a, char *out, size_t room)
{
	messages_strip(a->body ? a->body : "", a->len, out, MIN(room, CONTROL_WORDS_MAX + 1));
}
