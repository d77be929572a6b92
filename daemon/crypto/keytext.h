/*
 * The text forms of keys: a prefix that names the kind, and 64 hex digits.
 */
#ifndef MESHWRAP_DAEMON_CRYPTO_KEYTEXT_H
#define MESHWRAP_DAEMON_CRYPTO_KEYTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"

enum keytext_kind {
	KEYTEXT_MACHINE,   /* "mkey:" */
	KEYTEXT_NODE,      /* "nodekey:" */
	KEYTEXT_DISCO,     /* "discokey:" */
	KEYTEXT_CHALLENGE, /* "chalpub:" */
	KEYTEXT_LOCK,      /* "nlpub:" */
	KEYTEXT_PRIVATE,   /* "privkey:", any private X25519 key; only on disk */
};

#define KEYTEXT_MAX 76 /* the longest text with its terminator */

/*
 * Exactly prefix and digits (of either case), nothing around them. A key of 64
 * zeros is well formed: it says "no key". False leaves key alone.
 */
bool keytext_parse(enum keytext_kind kind, const char *text, size_t len, uint8_t key[KEY_LEN]);
/* Writes at most KEYTEXT_MAX bytes and returns text. Wipe the text of a private key. */
char *keytext_format(enum keytext_kind kind, const uint8_t key[KEY_LEN],
		     char text[static KEYTEXT_MAX]);
bool key_is_zero(const uint8_t key[KEY_LEN]);

#endif
