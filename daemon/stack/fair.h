/*
 * Who goes when a bounded table is full: the one unused for longest, but of the peer
 * that has most, unless it is idle.
 *
 * The table's own structs embed the entries, and the table says when it is full.
 */
#ifndef MESHWRAP_DAEMON_STACK_FAIR_H
#define MESHWRAP_DAEMON_STACK_FAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "shared/util.h"

#define FAIR_SHARES  1024u
#define FAIR_IDLE_NS (300 * NS_PER_S) /* unused for so long: as good as free, whosever it is */

struct fair_entry {
	TAILQ_ENTRY(fair_entry) of_all, of_share;
	uint64_t used_ns;
	uint32_t share;
};

TAILQ_HEAD(fair_list, fair_entry); /* the one unused for longest is first */

struct fair_share {
	unsigned count;
	struct fair_list entries;
};

struct fair_stats {
	uint64_t evicted;
	uint64_t over_share; /* of these: others were unused for longer, but their peers had less */
};

struct fair {
	struct fair_list all;
	struct fair_share share[FAIR_SHARES];
	uint8_t secret[16];
	struct fair_stats stats;
};

void fair_init(struct fair *fair, const uint8_t secret[static 16]);
/* peer: only compared, and never looked into; NULL is one, too. */
void fair_enter(struct fair *fair, struct fair_entry *entry, const void *peer, uint64_t now_ns);
void fair_used(struct fair *fair, struct fair_entry *entry, uint64_t now_ns);
void fair_leave(struct fair *fair, struct fair_entry *entry);
/* Takes out the one that goes; NULL: there is none. */
struct fair_entry *fair_evict(struct fair *fair, uint64_t now_ns);
/* The entries of a peer, and of those with the same share. */
const struct fair_list *fair_list_of(const struct fair *fair, const void *peer);
/* The newest of all, or NULL. */
struct fair_entry *fair_newest(const struct fair *fair);

#endif
