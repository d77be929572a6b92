/*
 * The JSON of a coordination server's requests and answers, and the other
 * small texts it sends. Pure.
 */
#ifndef MESHWRAP_DAEMON_CONTROL_MESSAGES_H
#define MESHWRAP_DAEMON_CONTROL_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/control/client.h"
#include "daemon/crypto/keys.h"

#define MESSAGES_TEXT_MAX   256 /* of a server's words that we show */
#define MESSAGES_URL_MAX    1024
#define MESSAGES_HOST_MAX   64
#define MESSAGES_TYPES_MAX  64
#define MESSAGES_ANSWER_MAX (1u << 20) /* bytes of a register answer */

/* What never changes while we run. */
struct messages_node {
	char host_name[MESSAGES_HOST_MAX];
	char version[64];
	int capability_version;
	bool is_ephemeral;
	char **tags;
	unsigned tag_count;
};

/* Any text as a DNS label: lower case, [a-z0-9-], 1 to 63 bytes. */
void messages_host_label(const char *text, char label[static MESSAGES_HOST_MAX]);
/* Whether an auth key may be sent as it is: 1 to 1023 printable ASCII, no quote, no backslash. */
bool messages_auth_key_ok(const char *key, size_t len);
/* For terminals and logs: what is not printable ASCII becomes '?'; cut at room - 1. */
void messages_strip(const char *text, size_t len, char *out, size_t room);

struct messages_register {
	const struct public_key *node_key;
	const struct public_key *old_node_key; /* NULL: none */
	const char *auth_key;                  /* NULL: none */
	const char *followup;                  /* NULL: none */
	bool is_logout;
};

/*
 * Secret memory, terminated, of *len bytes, freed by secret_free(). NULL: -ENOMEM.
 * self may be NULL.
 */
char *messages_make_register(const struct messages_node *node, const struct control_self *self,
			     const struct messages_register *ask, size_t *len);
/* is_stream: the long poll; else an update. Freed by free(). */
char *messages_make_map(const struct messages_node *node, const struct control_self *self,
			const struct public_key *node_key, bool is_stream, size_t *len);

struct messages_registered {
	bool is_key_expired, is_authorized, wants_signature;
	char auth_url[MESSAGES_URL_MAX]; /* "" or an http(s) URL of printable bytes */
	char error[MESSAGES_TEXT_MAX];
	char login_name[MESSAGES_TEXT_MAX];
};
/* 0, -EBADMSG (not such JSON, or a URL that nobody should open), -ENOMEM. */
int messages_parse_registered(const char *text, size_t len, struct messages_registered *answer);

/* {"publicKey":"mkey:..."} of GET /key. 0, -EBADMSG, or -EPROTONOSUPPORT: the server is too old. */
int messages_parse_server_key(const char *text, size_t len, struct public_key *key);

/* Retry-After, seconds or a date, as a wait: at most 5 minutes; what makes no sense is 5 to 10 s.
 */
uint64_t messages_retry_after_ns(const char *text, int64_t wall_s, uint32_t random);

/* RFC 3339 to seconds since 1970; 0 for Go's zero time. False: no such time. */
bool messages_parse_time(const char *text, size_t len, int64_t *seconds);

/* What a map message says besides the map. */
struct messages_notes {
	bool is_keep_alive, has_node;
	bool is_expired, is_authorized; /* of Node */
	int64_t key_expiry;             /* 0: never */
	int64_t control_time;           /* 0: not said */
	uint64_t sleep_ns;              /* Debug.SleepSeconds, clamped; 0: none */
	char pop_url[MESSAGES_URL_MAX]; /* "" or as auth_url */
	bool has_ping;
};
struct messages_ping {
	char url[MESSAGES_URL_MAX];
	char types[MESSAGES_TYPES_MAX];
	bool is_noise, has_ip;
	struct ip_addr ip;
	uint8_t *payload; /* freed by messages_ping_free() */
	size_t payload_len;
};
/* 0, or -EBADMSG: not an object. ping is filled when has_ping. */
int messages_read_notes(const char *text, size_t len, struct messages_notes *notes,
			struct messages_ping *ping);
void messages_ping_free(struct messages_ping *ping);
/* The answer to one of another kind: JSON, freed by free(); NULL: -ENOMEM. */
char *messages_pong(const char *type, const struct ip_addr *ip, const struct pong *pong);

/*
 * The raw HTTP/1.1 answer to a raw request that the server sends down: /echo
 * returns the body, all else is unknown. Freed by free(); NULL: -ENOMEM.
 */
char *messages_answer_c2n(const uint8_t *request, size_t len, size_t *answer_len);

#endif
