/* The mesh interface in the kernel's own lists of links and addresses (rtnetlink). Pure. */
#ifndef MESHWRAP_PRELOAD_NETLINK_H
#define MESHWRAP_PRELOAD_NETLINK_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/map.h"

/* Cheap: could these bytes be an answer that netlink_show_mesh() would change? */
bool netlink_is_list(const void *data, size_t len);

/*
 * A datagram of len bytes received from a netlink socket, in a buffer of room
 * bytes: entries for the mesh interface are put in where there is room. Returns
 * the new length.
 */
size_t netlink_show_mesh(const struct map *map, void *data, size_t len, size_t room);
/*
 * Who asks with these flags of recv() how long the next datagram is, to make a
 * buffer for it, must hear of the room that entries need: a guess of what to say instead of
 * len, for who cannot look at the list, and len itself where nothing was asked, or room is enough.
 */
size_t netlink_told_len(size_t len, size_t room, int flags);

#endif
