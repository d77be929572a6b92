/*
 * The proxy for programs that are set up for one: SOCKS5 and HTTP on one
 * listener, told apart by the first byte. The front door of daemon/proxy.
 *
 * Mesh destinations go through the edge and its netstack; all others are
 * dialled by the kernel, as if the program had done it.
 */
#ifndef MESHWRAP_DAEMON_PROXY_PROXY_H
#define MESHWRAP_DAEMON_PROXY_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define PROXY_CLIENTS_MAX 1024

struct edge;
struct loop;
struct proxy;

struct proxy_config {
	/*
	 * "127.0.0.1:1055", "[::1]:1055"; "localhost:1055" means both families, and so do
	 * ":1055", "0.0.0.0:1055" and "[::]:1055". NULL: none. May be equal.
	 */
	const char *socks5_listen, *http_listen;
	bool allow_all_users; /* else programs of our own uid and of root only */
};

/* As dns_found: error 0 and addresses, or a positive errno. */
typedef void proxy_found(void *arg, int error, const struct ip_addr *ips, unsigned count);

struct proxy_backend {
	/*
	 * The addresses of a name (lower case, without a trailing dot), both families.
	 * found is called exactly once, perhaps before this returns; later calls after
	 * proxy_destroy() are fine. NULL: only names of the mesh and /etc/hosts exist.
	 */
	void (*lookup)(void *owner, const char *name, proxy_found *found, void *arg);
	void *owner;
};

/*
 * 0 or -errno with one sentence for the user. The edge must outlive the proxy.
 * Destroy it before the edge.
 */
int proxy_create(struct loop *loop, struct edge *edge, const struct proxy_config *config,
		 const struct proxy_backend *backend, struct proxy **proxy, char error[static 256]);
void proxy_destroy(struct proxy *proxy);
/* For the log: "SOCKS5 and HTTP proxy at 127.0.0.1:1055". */
void proxy_describe(const struct proxy *proxy, char line[static 256]);
/* As edge_deadline() and edge_expire(). */
uint64_t proxy_deadline(const struct proxy *proxy);
void proxy_expire(struct proxy *proxy, uint64_t now_ns);

#endif
