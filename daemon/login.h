/*
 * What a node that joins by a coordination server is told at its start. Values
 * only; options.c fills them in, and owns them until options_finish().
 */
#ifndef MESHWRAP_DAEMON_LOGIN_H
#define MESHWRAP_DAEMON_LOGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGIN_DEFAULT_SERVER "https://controlplane.tailscale.com"
#define LOGIN_KEY_MAX        4096
#define LOGIN_TAGS_MAX       64

struct outproxies;

struct login_setup {
	const char *server_url; /* http:// or https://, checked, without a trailing slash */
	char *auth_key;         /* secret memory, zero-terminated; NULL: interactive login */
	size_t auth_key_len;
	const char *hostname;             /* "": choose the machine's */
	const char *state_dir;            /* absolute; NULL: keep the state in memory */
	const char *ca_file;              /* PEM, trusted besides the system's; NULL: none */
	const struct outproxies *proxies; /* that lead to the server and the relays; NULL: none */
	const char *tags[LOGIN_TAGS_MAX]; /* "tag:..." each */
	unsigned tag_count;
	unsigned capability_version; /* 0: the one this program was made for */
	uint16_t port;               /* UDP; 0: any */
	bool accept_routes, accept_dns, shields_up;
	bool trusts_new_server_key; /* the user's answer to a changed key of the server */
	bool ephemeral;             /* the server shall forget this node when it is gone */
};

#endif
