/*
 * Containers that ran the stock client bring variables that it knows and this node has no use
 * for: routes to offer, services to publish. Whoever set one meant something by it, so it is told.
 */
#include "daemon/options_unused.h"

#include <stdlib.h>

#include "shared/log.h"
#include "shared/util.h"

void options_note_unused(void)
{
	static const char *const names[] = { "TS_ROUTES", "TS_DEST_IP", "TS_SERVE_CONFIG",
					     "TS_KUBE_SECRET", "TS_TAILSCALED_EXTRA_ARGS" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			log_warn("meshd: %s has no meaning here and is left out", names[i]);
	}
}
