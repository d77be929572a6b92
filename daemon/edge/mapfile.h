/* Writing the shared map (shared/map.h). One writer: the daemon's main thread. */
#ifndef MESHWRAP_DAEMON_EDGE_MAPFILE_H
#define MESHWRAP_DAEMON_EDGE_MAPFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/map.h"

struct mapfile;

/* A flow's entry; stale (and then ignored) once the slot was given to another flow. */
struct mapfile_flow {
	uint32_t slot, generation; /* generation 0: none */
};

/*
 * Opens or makes DIR/map and takes it over: nothing of a predecessor is left
 * but the flows' addresses. The caller holds the folder's lock, and is the
 * thread whose end shall mean the daemon's end. 0 or -errno.
 */
int mapfile_open(const char *dir, bool world_readable, struct mapfile **out);
/* Another file with the same content for one that was removed. 0, or -errno: all is as it was. */
int mapfile_renew(struct mapfile *mf, const char *dir, bool world_readable);
/* The file, to be compared. */
int mapfile_fd(const struct mapfile *mf);
/* Not ready, not alive. The file stays for readers. */
void mapfile_close(struct mapfile *mf);
const struct map *mapfile_map(const struct mapfile *mf);

/* What the predecessor used, 0 if there was none; valid until mapfile_set_dial_ports(). */
uint32_t mapfile_hold_port(const struct mapfile *mf);
uint32_t mapfile_dial_port(const struct mapfile *mf);
/* hold_port 0: SYN hold does not work here. */
void mapfile_set_dial_ports(struct mapfile *mf, uint16_t hold_port, uint16_t dial_port);
/* May dials be posted (ipc.h)? */
void mapfile_set_takes_posts(struct mapfile *mf, bool takes_posts);
void mapfile_set_ready(struct mapfile *mf, bool ready);
/* Replaces the directory. 0 or -errno (no room in the file system): then the old one stands. */
int mapfile_write_directory(struct mapfile *mf, const struct map_directory *dir);

/* A HELD flow; takes the place of one with the same ends. 0 or -ENOBUFS. */
int mapfile_flow_begin(struct mapfile *mf, const struct map_ends *ends,
		       const struct endpoint *remote, struct mapfile_flow *flow);
void mapfile_flow_set(struct mapfile *mf, const struct mapfile_flow *flow,
		      enum map_flow_state state, int error);
/* No entry of these ends says any more that a flow was LOST. */
void mapfile_flow_not_lost(struct mapfile *mf, const struct map_ends *ends);
/* The entry stays readable, but its slot may now be used anew. */
void mapfile_flow_end(struct mapfile *mf, struct mapfile_flow *flow);

/* Sets or replaces. 0, or -ENOBUFS when all slots near its own are taken. */
int mapfile_pair_set(struct mapfile *mf, enum map_table table, uint64_t key, uint64_t value);
void mapfile_pair_remove(struct mapfile *mf, enum map_table table, uint64_t key);

#endif
