/* The second half of config_parse(): checks that need the whole file. */
#ifndef MESHWRAP_DAEMON_CONFIG_CHECK_H
#define MESHWRAP_DAEMON_CONFIG_CHECK_H

#include "daemon/config.h"

/* One item of AllowedIPs. */
struct config_allowed {
	struct ip_prefix prefix;
	unsigned peer, line; /* index of the peer; where the item stands */
};

/* Writes "line N: ..." into error (256 bytes) and returns -EINVAL. */
int config_fail(char *error, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int config_fail_memory(char *error);

/*
 * Checks the file as a whole and gives each peer its sorted ranges.
 * interface_line: where [Interface] is, 0 for nowhere. As config_parse().
 */
int config_check(struct config *config, unsigned interface_line, struct config_allowed *allowed,
		 unsigned allowed_count, char error[static 256]);

#endif
