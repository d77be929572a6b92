/*
 * In containers that ran the stock client, the variables often name the client's own proxy: they
 * were set for the programs beside it. It is left out here, for what it says to its server would
 * have to go through itself.
 */
#include "daemon/options_proxy.h"

#include <stdlib.h>

#include "daemon/options.h"
#include "shared/log.h"
#include "shared/util.h"

static const char *variable(const char *name)
{
	return getenv(name);
}

void options_read_proxies(struct outproxies *proxies, const struct options *options)
{
	const char *const own[] = { options->socks5_listen, options->http_listen };

	outproxies_read(proxies, variable);
	if (proxies->ignored)
		log_info("meshd: ALL_PROXY %s. Servers and relays are reached without it",
			 proxies->ignored);
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (own[i] && outproxies_forget(proxies, own[i]))
			log_info("meshd: the proxy at %s is this daemon's own, and leads to no "
				 "server or relay",
				 own[i]);
}
