/*
 * Puts fragments together again, within bounds.
 */
#ifndef MESHWRAP_DAEMON_STACK_REASSEMBLY_H
#define MESHWRAP_DAEMON_STACK_REASSEMBLY_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/stack/ip.h"
#include "shared/util.h"

#define REASSEMBLY_MAX        64 /* datagrams at a time */
#define REASSEMBLY_MAX_SOURCE 16 /* of them from one address */
#define REASSEMBLY_MAX_SPANS  32 /* pieces of one datagram that do not touch */
#define REASSEMBLY_TIMEOUT_NS (30 * NS_PER_S)

struct reassembly;

struct reassembly *reassembly_create(void);
void reassembly_destroy(struct reassembly *r);
/*
 * Takes a copy of a fragment. peer: whom it came from, only to tell peers apart: one
 * holds at most twice as many datagrams as are free, with all its addresses. When it was the last
 * that was missing, *whole is the IP packet without fragmentation and *len its length; it lives
 * until the next call. Otherwise *whole is NULL. 0; -EBADMSG when the fragment, and with it the
 * datagram, is unusable (counts as one failure); -ENOMEM.
 */
int reassembly_add(struct reassembly *r, const void *peer, const struct ip_packet *fragment,
		   uint64_t now_ns, uint8_t **whole, size_t *len);
uint64_t reassembly_deadline(const struct reassembly *r);
/* Gives up what is too old; returns how many datagrams that were. */
unsigned reassembly_expire(struct reassembly *r, uint64_t now_ns);
/* Datagrams that had to make room for newer ones. */
uint64_t reassembly_evicted(const struct reassembly *r);

#endif
