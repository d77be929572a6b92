/*
 * Host names of endpoints, looked up without holding up the loop.
 */
#ifndef MESHWRAP_DAEMON_RESOLVE_H
#define MESHWRAP_DAEMON_RESOLVE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/endpoint.h"

struct loop;
struct resolver;

#define RESOLVE_MAX 16 /* addresses of a name; more are left out */

/* error: NULL, or what went wrong, in words; ep is set without one. */
typedef void resolve_done(void *owner, unsigned token, const char *error,
			  const struct endpoint *ep);

/* An address as text needs no looking up. */
bool resolve_is_numeric(const char *host);
/* A name that cannot exist, whomever one asks (RFC 6761, 6.4). */
bool resolve_is_invalid(const char *host);
struct resolver *resolver_create(struct loop *loop, resolve_done *done, void *owner);
/* A look-up that still runs ends without being told. */
void resolver_destroy(struct resolver *r);
/* All addresses, in the order of trying; only inside done(), and only without an error. */
unsigned resolver_found(const struct resolver *r, const struct endpoint **found);
/* Does a look-up run? */
bool resolver_is_busy(const struct resolver *r);
/* Looks host up; done() is called later from the loop. 0; -EBUSY while one runs; -errno. */
int resolver_start(struct resolver *r, const char *host, uint16_t port, unsigned token);

#endif
