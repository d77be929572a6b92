/* The answers of a server: to a login, to GET /key; what it says beside the map; small texts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/control/messages.h"

static void check_text(const char *text, size_t room)
{
	size_t len = strnlen(text, room);

	if (len == room)
		abort();
	for (size_t i = 0; i < len; i++)
		if (text[i] < ' ' || text[i] >= 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), label[MESSAGES_HOST_MAX], *answer;
	struct messages_registered registered;
	struct messages_notes notes;
	struct messages_ping ping;
	struct public_key key;
	int64_t seconds;
	size_t len;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (messages_parse_registered(text, size, &registered) == 0) {
		check_text(registered.error, sizeof(registered.error));
		check_text(registered.auth_url, sizeof(registered.auth_url));
		check_text(registered.login_name, sizeof(registered.login_name));
	}
	if (messages_read_notes(text, size, &notes, &ping) == 0) {
		check_text(notes.pop_url, sizeof(notes.pop_url));
		check_text(ping.url, sizeof(ping.url));
		check_text(ping.types, sizeof(ping.types));
		messages_ping_free(&ping);
	}
	messages_parse_server_key(text, size, &key);
	messages_parse_time(text, size, &seconds);
	if (messages_retry_after_ns(text, 1767323045, 1) > UINT64_C(300000000000))
		abort();
	messages_host_label(text, label);
	check_text(label, sizeof(label));
	answer = messages_answer_c2n(data, size, &len);
	free(answer);
	free(text);
	return 0;
}
