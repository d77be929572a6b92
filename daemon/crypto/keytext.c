/*
 * Text forms of keys.
 *
 * Strict on purpose: a server rejects a whole request for one bad key, so we
 * hold the same line, and a key in a map that is almost right is no key at all.
 * Digits are turned in constant time by libsodium, since some are private.
 */
#include "daemon/crypto/keytext.h"

#include <string.h>

#include <sodium.h>

#define HEX_LEN (2 * KEY_LEN)

static const char *const prefixes[] = {
	[KEYTEXT_MACHINE] = "mkey:",      [KEYTEXT_NODE] = "nodekey:",
	[KEYTEXT_DISCO] = "discokey:",    [KEYTEXT_LOCK] = "nlpub:",
	[KEYTEXT_CHALLENGE] = "chalpub:", [KEYTEXT_PRIVATE] = "privkey:",
};

bool keytext_parse(enum keytext_kind kind, const char *text, size_t len, uint8_t key[KEY_LEN])
{
	size_t prefix_len = strlen(prefixes[kind]), got;
	uint8_t parsed[KEY_LEN];
	bool ok;

	if (len != prefix_len + HEX_LEN || memcmp(text, prefixes[kind], prefix_len) != 0)
		return false;
	ok = sodium_hex2bin(parsed, sizeof(parsed), text + prefix_len, HEX_LEN, NULL, &got, NULL) ==
		     0 &&
	     got == KEY_LEN;
	if (ok)
		memcpy(key, parsed, KEY_LEN);
	secret_wipe(parsed, sizeof(parsed));
	return ok;
}

char *keytext_format(enum keytext_kind kind, const uint8_t key[KEY_LEN],
		     char text[static KEYTEXT_MAX])
{
	size_t prefix_len = strlen(prefixes[kind]);

	memcpy(text, prefixes[kind], prefix_len);
	sodium_bin2hex(text + prefix_len, HEX_LEN + 1, key, KEY_LEN);
	return text;
}

bool key_is_zero(const uint8_t key[KEY_LEN])
{
	return sodium_is_zero(key, KEY_LEN) == 1;
}
