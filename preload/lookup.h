/*
 * Who knows a name: the map, the daemon, libc, or nobody. Used by the
 * getaddrinfo and the gethostbyname family; may allocate and wait.
 */
#ifndef MESHWRAP_PRELOAD_LOOKUP_H
#define MESHWRAP_PRELOAD_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/endpoint.h"
#include "shared/ipc.h"
#include "shared/map.h"

#define LOOKUP_MAX IPC_LOOKUP_MAX /* addresses of a name */

enum lookup_verdict {
	LOOKUP_LIBC,    /* libc is to be asked for candidate */
	LOOKUP_FOUND,   /* ip has at least one address of a wanted family */
	LOOKUP_NO_DATA, /* the candidate exists without such an address */
	LOOKUP_NO_NAME, /* the candidate does not exist */
	LOOKUP_AGAIN,   /* the daemon knows whom to ask, and got no answer */
	LOOKUP_END      /* no further candidate */
};

/*
 * A name's candidates: without a dot it is tried in each search domain, and at last
 * as it is. Others have one.
 */
struct lookup {
	const struct map *map;
	const char *name;
	unsigned want; /* IPC_LOOKUP_V4, IPC_LOOKUP_V6 */
	uint32_t next;
	bool is_done;
	bool is_own; /* this machine's own host name, which is at the mesh addresses */
	/* Of the last verdict. With LOOKUP_LIBC and a search domain it ends in a dot. */
	char candidate[2 * MAP_NAME_MAX];
	bool is_searched; /* libc saying "no such name" is not the end */
	struct ip_addr ip[LOOKUP_MAX];
	unsigned count;
};

/* map NULL, a number, or "localhost": libc is to be asked. */
void lookup_begin(struct lookup *l, const struct map *map, const char *name, unsigned want);
enum lookup_verdict lookup_next(struct lookup *l);
/* A line about what lookup_next() said, for explain.h. */
void lookup_explain(const struct lookup *l, const char *call, enum lookup_verdict verdict);

#endif
