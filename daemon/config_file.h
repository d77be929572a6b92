/* The WireGuard file on disk: read, and read again. */
#ifndef MESHWRAP_DAEMON_CONFIG_FILE_H
#define MESHWRAP_DAEMON_CONFIG_FILE_H

#include <limits.h>
#include <stdbool.h>

#include "daemon/config.h"

#define CONFIG_FILE_ERROR_MAX (PATH_MAX + 512)

/*
 * Reads and parses path. again: it is a running node's, so what is no ordinary file (a pipe that
 * was read already) is refused, and nothing is waited for. 0, or -errno and one sentence; config
 * must be finished in either case.
 */
int config_file_read(const char *path, bool again, struct config *config,
		     char error[static CONFIG_FILE_ERROR_MAX]);

#endif
