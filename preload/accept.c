/*
 * accept() and accept4(): the kernel's own, then the peer's true name.
 *
 * The call goes through with the program's own buffer, so the kernel checks
 * its pointers. Only a loopback peer is looked at again, and when the buffer was too
 * short to see it whole, the new socket is asked.
 */
#include <errno.h>
#include <string.h>

#include "preload/address.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/patience.h"
#include "preload/reply.h"
#include "preload/shim.h"

/* A new connection without a peer's address asked for: the same, for the reader's eyes only. */
static void explain_accepted(int listener, int fd)
{
	struct socket_end peer;
	struct endpoint mesh;
	struct explain e;

	if (socket_peer(fd, &peer) < 0)
		return;
	explain_begin(&e, "accept", listener);
	if (shim_map() && stream_peer_to_mesh(shim_map(), fd, &peer.ep, &mesh)) {
		explain_text(&e, ": from");
		explain_endpoint(&e, &mesh);
		explain_text(&e, ", mirror");
		explain_endpoint(&e, &peer.ep);
	} else {
		explain_text(&e, ": from");
		if (peer.ep.port)
			explain_endpoint(&e, &peer.ep);
		explain_text(&e, " left alone (not from the mesh)");
	}
	explain_text(&e, ", is fd ");
	explain_number(&e, fd);
	explain_end(&e);
}

static void translate_peer(int fd, struct sockaddr *addr, socklen_t room, socklen_t *len)
{
	const struct map *map = shim_map();
	struct endpoint mesh;
	struct socket_end peer;

	if (!map || !is_plausible(addr))
		return;
	if (reply_is_whole(addr, room, *len)) {
		if (!reply_may_be_mesh(addr, *len))
			return;
		endpoint_from_sockaddr(addr, *len, &peer.ep);
		peer.family = addr->sa_family;
	} else if (socket_peer(fd, &peer) < 0) {
		return;
	}
	if (stream_peer_to_mesh(map, fd, &peer.ep, &mesh))
		reply_write(map, &mesh, peer.family, addr, room, len);
}

SHIM_EXPORT(int, accept, (int fd, struct sockaddr *addr, socklen_t *len))
{
	socklen_t room = reply_room(addr, len);
	int conn = libc.accept(fd, addr, len);

	if (conn >= 0 && explain_is_on())
		explain_accepted(fd, conn);
	if (conn >= 0 && room)
		translate_peer(conn, addr, room, len);
	if (conn >= 0)
		patience_accepted(conn);
	return conn;
}

SHIM_EXPORT(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags))
{
	socklen_t room = reply_room(addr, len);
	int conn = libc.accept4(fd, addr, len, flags);

	if (conn >= 0 && explain_is_on())
		explain_accepted(fd, conn);
	if (conn >= 0 && room)
		translate_peer(conn, addr, room, len);
	if (conn >= 0)
		patience_accepted(conn);
	return conn;
}
