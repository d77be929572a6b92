/* The proxies on the way to servers, as the environment names them. */
#ifndef MESHWRAP_DAEMON_OPTIONS_PROXY_H
#define MESHWRAP_DAEMON_OPTIONS_PROXY_H

#include "daemon/outproxy.h"

struct options;

/* options say at which addresses this daemon is a proxy itself. */
void options_read_proxies(struct outproxies *proxies, const struct options *options);

#endif
