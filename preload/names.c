/*
 * getsockname(), getpeername() and SO_ERROR: both ends as the program must see
 * them.
 *
 * A dial that failed may look connected in the kernel for an instant. The
 * flow table is asked first, and a socket whose failure is told in that
 * instant is disconnected, so that later answers of the kernel agree.
 */
#include <errno.h>
#include <sys/socket.h>

#include "preload/address.h"
#include "preload/dial.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/options.h"
#include "preload/primary.h"
#include "preload/reply.h"
#include "preload/shim.h"

static int fail(int error)
{
	errno = error;
	return -1;
}

/* The whole name, although the program's buffer shows only a part; false: leave it. */
static bool see_end(int fd, bool peer, const struct sockaddr *addr, socklen_t room, socklen_t full,
		    struct socket_end *end)
{
	uint32_t loopback;

	if (reply_is_whole(addr, room, full)) {
		if (!reply_may_be_mesh(addr, full) && (peer || !primary_is_asked(fd)))
			return false;
		end->family = addr->sa_family;
		return endpoint_from_sockaddr(addr, full, &end->ep) == 0;
	}
	return (peer ? socket_peer(fd, end) : socket_local(fd, end)) == 0 &&
	       (loopback_of(&end->ep.addr, &loopback) || (!peer && primary_is_asked(fd)));
}

static void explain_shown(const char *call, int fd, const struct endpoint *kernel,
			  const struct endpoint *mesh)
{
	struct explain e;

	explain_begin(&e, call, fd);
	explain_text(&e, ": the kernel's");
	explain_endpoint(&e, kernel);
	explain_text(&e, " is shown as");
	explain_endpoint(&e, mesh);
	explain_end(&e);
}

static bool local_is_mesh(const struct map *map, int fd, const struct endpoint *local,
			  struct endpoint *mesh)
{
	uint32_t loopback;

	if (loopback_of(&local->addr, &loopback))
		return local_to_mesh(map, fd, local, mesh);
	return primary_local(map, fd, local, mesh);
}

SHIM_EXPORT(int, getsockname, (int fd, struct sockaddr *addr, socklen_t *len))
{
	socklen_t room = reply_room(addr, len);
	int result = libc.getsockname(fd, addr, len);
	const struct map *map;
	struct socket_end local;
	struct endpoint mesh;

	if (result < 0 || !room || !see_end(fd, false, addr, room, *len, &local))
		return result;
	map = shim_map();
	if (!map || !local_is_mesh(map, fd, &local.ep, &mesh))
		return 0;
	reply_write(map, &mesh, local.family, addr, room, len);
	if (explain_is_on())
		explain_shown("getsockname", fd, &local.ep, &mesh);
	return 0;
}

/* As the program shall see it; false: leave it. *failed: it only looks connected. */
static bool stream_peer(const struct map *map, int fd, const struct endpoint *peer,
			struct endpoint *mesh, bool *failed)
{
	struct map_flow flow;

	*failed = false;
	if (!dialled_by(map, fd, peer, &flow))
		return stream_peer_to_mesh(map, fd, peer, mesh);
	/* The reset is on its way. */
	*failed = flow.state == MAP_FLOW_FAILED;
	*mesh = (struct endpoint){ flow.remote, flow.remote_port };
	return true;
}

SHIM_EXPORT(int, getpeername, (int fd, struct sockaddr *addr, socklen_t *len))
{
	socklen_t room = reply_room(addr, len);
	int result = libc.getpeername(fd, addr, len);
	const struct map *map;
	struct socket_end peer;
	struct endpoint mesh;
	bool known, failed;

	if (result < 0 || !room || !see_end(fd, true, addr, room, *len, &peer))
		return result;
	map = shim_map();
	if (!map)
		return 0;
	if (socket_type(fd) == SOCK_DGRAM) {
		known = datagram_peer_to_mesh(map, fd, &peer.ep, &mesh);
	} else {
		known = stream_peer(map, fd, &peer.ep, &mesh, &failed);
		if (failed)
			return fail(ENOTCONN);
	}
	if (known)
		reply_write(map, &mesh, peer.family, addr, room, len);
	if (known && explain_is_on())
		explain_shown("getpeername", fd, &peer.ep, &mesh);
	return 0;
}

static int kernel_error(int fd)
{
	int error = 0, saved = errno;
	socklen_t len = sizeof(error);

	libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	errno = saved;
	return error;
}

/*
 * SO_ERROR as the kernel gave it; the truth about a mesh dial in its place.
 * With 0, a failed dial is one the kernel still shows as connected, or one
 * that was told already; the reset may also arrive while we look.
 */
static int true_error(int fd, int error, const struct endpoint *local, const struct endpoint *peer)
{
	const struct map *map = shim_map();
	struct socket_end now;
	struct map_flow flow;
	int verdict;

	if (error != 0 && error != ECONNRESET)
		return error;
	verdict = error ? dial_lost(map, local, peer) : 0;
	if (verdict)
		return verdict;
	if (!dialled_flow(map, local, peer, &flow) || flow.state != MAP_FLOW_FAILED)
		return error;
	if (error == 0 && socket_peer(fd, &now) < 0 && kernel_error(fd) == 0)
		return 0;
	verdict = dial_verdict(fd, map, local, peer);
	return verdict ? verdict : error;
}

static void correct_error(int fd, int *error)
{
	struct endpoint local, peer;
	struct map_flow flow;
	struct explain e;
	int kernel = *error;

	if (!shim_map() || !socket_ends(fd, &local, &peer))
		return;
	*error = true_error(fd, kernel, &local, &peer);
	if (!explain_is_on() || !dialled_flow(shim_map(), &local, &peer, &flow))
		return;
	explain_begin(&e, "getsockopt", fd);
	explain_text(&e, " SO_ERROR of the connection to");
	explain_endpoint(&e, &(struct endpoint){ flow.remote, flow.remote_port });
	explain_result(&e, *error);
	if (*error != kernel)
		explain_text(&e, ", as the mesh says");
	explain_end(&e);
}

SHIM_EXPORT(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len))
{
	socklen_t room = name == SO_BINDTODEVICE && is_plausible(len) ? *len : 0;
	int result = libc.getsockopt(fd, level, name, value, len);

	if (__builtin_expect(level != SOL_SOCKET || result < 0, 1))
		return result;
	if (name == SO_ERROR && *len == sizeof(int))
		correct_error(fd, value);
	else if (name == SO_BINDTODEVICE)
		options_show_device(fd, value, room, len);
	else if (name == SO_BINDTOIFINDEX && *len == sizeof(int))
		options_show_index(fd, value);
	return result;
}
