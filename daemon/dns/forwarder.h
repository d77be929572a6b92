/*
 * Queries that others answer: to all resolvers of a set at once, the first
 * good answer wins.
 */
#ifndef MESHWRAP_DAEMON_DNS_FORWARDER_H
#define MESHWRAP_DAEMON_DNS_FORWARDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/dns/dns.h"
#include "shared/endpoint.h"

/* Within the five seconds that clients wait: they shall hear of a failure. */
#define FORWARDER_QUERY_MS       4500 /* a query is over, whatever happens */
#define FORWARDER_TO_TCP_MS      2000 /* no answer by UDP: TCP as well */
#define FORWARDER_TO_TCP_LONG_MS 300  /* the same for a client that takes long answers */
#define FORWARDER_AGAIN_MS       1500 /* after that: by UDP again, since that loses datagrams */

struct forwarder;

/* Called once. The bytes may be changed until it returns; NULL: the forwarder is being destroyed.
 */
typedef void forwarder_done(void *arg, uint8_t *answer, size_t len);

struct forwarder *forwarder_create(struct loop *loop);
void forwarder_destroy(struct forwarder *f);
void forwarder_set_tunnel(struct forwarder *f, const struct dns_tunnel *tunnel);
void forwarder_set_dialler(struct forwarder *f, const struct dns_dialler *dialler);
enum dns_place forwarder_place(const struct forwarder *f, const struct ip_addr *ip);
/*
 * Where a resolver is asked that the mesh has named. False: nowhere. One on this node is where
 * its program is; one at a mesh address is not looked for on the real network while nobody has
 * it there.
 */
bool forwarder_find(const struct forwarder *f, const struct endpoint *resolver,
		    struct endpoint *at);

/*
 * query: a message with a question that can be read. is_tcp: an answer may be
 * long. done is called later, never from inside. 0; -EBUSY: too many are under
 * way; -ENOMEM; -EHOSTUNREACH: nobody to ask.
 */
int forwarder_ask(struct forwarder *f, const uint8_t *query, size_t len, bool is_tcp,
		  const struct endpoint *upstream, unsigned count, forwarder_done *done, void *arg);
bool forwarder_tunnel_received(struct forwarder *f, const struct endpoint *from,
			       uint16_t local_port, const uint8_t *data, size_t len);
unsigned forwarder_in_flight(const struct forwarder *f);
uint64_t forwarder_spoofed(const struct forwarder *f);

#endif
