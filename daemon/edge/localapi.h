/*
 * What meshctl asks: HTTP on the Unix socket DIR/api, with the paths and shapes
 * of the stock client's API where it has them.
 *
 *	GET  /localapi/v0/status[?peers=false]
 *	GET  /localapi/v0/whois?addr=IP[:PORT]
 *	POST /localapi/v0/ping?ip=IP&type=disco|TSMP|ICMP[&size=N]
 *	POST /localapi/v0/netcheck
 *	POST /localapi/v0/up | down | login-interactive | logout | reload    owner and root only
 *
 * An answer may be late: the request waits under a ticket, for a bounded time.
 */
#ifndef MESHWRAP_DAEMON_EDGE_LOCALAPI_H
#define MESHWRAP_DAEMON_EDGE_LOCALAPI_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/pong.h"
#include "shared/endpoint.h"

#define LOCALAPI_WAITING_MAX      64 /* requests whose answers are to come */
#define LOCALAPI_TICKET_MAX       INT32_MAX
#define LOCALAPI_PING_S           60 /* callers have shorter limits of their own */
#define LOCALAPI_NETCHECK_S       30
#define LOCALAPI_LOGOUT_S         30
#define LOCALAPI_STATUS_S         30
#define LOCALAPI_IDLE_S           90
#define LOCALAPI_MAX_BYTES        16384 /* of a request */
#define LOCALAPI_ERROR_MAX        256
#define LOCALAPI_RELOAD_ERROR_MAX (PATH_MAX + 512)
#define LOCALAPI_NO_ANSWER        "no answer in time" /* of a ping that got none */

struct edge;
struct localapi;

/*
 * Who answers. Texts that are returned are malloc'd. A function that fails
 * writes one sentence to error. Late answers come by localapi_ponged() and
 * localapi_answered() with the ticket, also from inside the call.
 * A NULL function is answered with "not available".
 */
struct localapi_backend {
	/* JSON of `status --json`, indented by 2, no newline at its end; NULL: no memory. */
	char *(*status)(void *owner, bool want_peers);
	/*
	 * The same with peers, later, as there may be many: localapi_answered() follows when
	 * 0. NULL: status() is asked.
	 */
	int (*status_all)(void *owner, uint32_t ticket, char *error);
	/* JSON of `whois --json`; NULL with error: "peer not found". addr: "IP" or "IP:PORT". */
	char *(*whois)(void *owner, const char *addr, char error[static LOCALAPI_ERROR_MAX]);
	/* 0 or -errno; localapi_ponged() follows when 0. size: of an ICMP payload, 0 usual. */
	int (*ping)(void *owner, const struct ip_addr *ip, enum ping_type type, unsigned size,
		    uint32_t ticket, char error[static LOCALAPI_ERROR_MAX]);
	/*
	 * The JSON report with keys more, "Regions": {"id": {"Code", "Name"}} and "Proxy", for
	 * people's eyes. localapi_answered() follows when 0.
	 */
	int (*netcheck)(void *owner, uint32_t ticket, char error[static LOCALAPI_ERROR_MAX]);
	/* up (also: log in again where that is needed) and down. 0 or -errno. */
	int (*set_running)(void *owner, bool running, char error[static LOCALAPI_ERROR_MAX]);
	/* Fetches a new URL, which then is AuthURL of status. 0 or -errno. */
	int (*login)(void *owner, char error[static LOCALAPI_ERROR_MAX]);
	/* localapi_answered() with json "" or an error follows when 0. */
	int (*logout)(void *owner, uint32_t ticket, char error[static LOCALAPI_ERROR_MAX]);
	/*
	 * Reads the WireGuard file again, and does all that it says or nothing. JSON of how many
	 * peers are "Added", "Changed", "Removed", "Unchanged"; NULL with a sentence of up to
	 * LOCALAPI_RELOAD_ERROR_MAX.
	 */
	char *(*reload)(void *owner, char *error);
	void *owner;
};

/* 0 or -errno. */
int localapi_open(struct edge *edge, struct localapi **api);
/* On a new socket, when the old one's file was removed. 0 or -errno. */
int localapi_listen_again(struct localapi *api);
void localapi_close(struct localapi *api);
void localapi_set_backend(struct localapi *api, const struct localapi_backend *backend);
/* Late answers; a ticket that nobody waits for any more is fine. */
void localapi_ponged(struct localapi *api, uint32_t ticket, const struct pong *pong);
/* error NULL: json is the answer. */
void localapi_answered(struct localapi *api, uint32_t ticket, const char *json, const char *error);

#endif
