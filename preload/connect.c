/*
 * connect(): the real one, to another address.
 *
 * TCP to a peer is the SYN hold. The socket is bound to our mirror, the daemon
 * is told whom it wants, and the real connect() goes to a port where the kernel
 * drops the SYN: the socket is truly connecting, blocking or not, until the
 * daemon completes or resets it. The flow table has the last word on failures:
 * the kernel may show a failed dial as connected for an instant.
 *
 * The daemon answers at once, but being woken for that is a good part of what a connect
 * costs on a LAN. A blocking connect() can do without: until it returns the program can
 * ask for nothing that the daemon must have read before.
 *
 * Whether a socket may be dialled at all is the kernel's knowledge, which it
 * tells without side effects when asked to connect to an address of a family
 * it does not take: a fresh socket answers EAFNOSUPPORT, any other what a second
 * connect() must answer (EALREADY, EISCONN, 0 once, or the error).
 *
 * TCP to ourselves needs no daemon: our mirror first, where listeners on any
 * address and on the mesh address are, then plain loopback. A refusal on
 * loopback has happened when connect() returns, non-blocking or not, so
 * one can follow the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/syscall.h>

#include "preload/address.h"
#include "preload/control.h"
#include "preload/dial.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/patience.h"
#include "preload/primary.h"
#include "preload/raw.h"
#include "preload/shim.h"
#include "preload/source.h"

#define LOOPBACK_V4    0x7f000001u
#define UNUSED_V4      0x7f00fffeu /* nobody serves there alone */
#define DIAL_FIRST_S   150         /* without SYN hold the answer comes after the dial */
#define TCP_STATE_DEAD 7           /* TCP_CLOSE of the kernel's enum */

static const struct ip_addr loopback_v6 = { .byte = { [15] = 1 } };

static int fail(int error)
{
	errno = error;
	return -1;
}

static int connect_to(int fd, const struct endpoint *to, int family)
{
	struct sockaddr_storage addr;
	socklen_t len = endpoint_to_sockaddr(to, family, &addr);

	if (len == 0)
		return fail(ENETUNREACH);
	return libc.connect(fd, (struct sockaddr *)&addr, len);
}

/* Back to a socket that was never connected, whatever it is now. */
static void disconnect(int fd)
{
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	int saved = errno, ignored;
	socklen_t len = sizeof(ignored);

	libc.connect(fd, &unspec, sizeof(unspec));
	/* Cutting an established connection leaves ECONNRESET behind. */
	libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, &ignored, &len);
	errno = saved;
}

/* The reset that came meanwhile, or that our own disconnect left: it is told by the verdict. */
static void forget_error(int fd)
{
	int ignored, saved = errno;
	socklen_t len = sizeof(ignored);

	libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, &ignored, &len);
	errno = saved;
}

int dial_verdict(int fd, const struct map *map, const struct endpoint *local,
		 const struct endpoint *peer)
{
	struct socket_end now;
	struct map_flow flow;

	if (!dialled_flow(map, local, peer, &flow) || flow.state != MAP_FLOW_FAILED)
		return 0;
	if (socket_peer(fd, &now) == 0)
		disconnect(fd);
	forget_error(fd);
	return flow.error > 0 ? flow.error : ECONNREFUSED;
}

/* What the kernel said of the dial to peer, corrected by the flow table. */
static int settle(int fd, const struct map *map, const struct endpoint *local,
		  const struct endpoint *peer, int result)
{
	int error = errno, verdict;
	struct map_flow flow;

	if (result == 0 || error == ECONNRESET) {
		verdict = dial_verdict(fd, map, local, peer);
		if (verdict && result == 0)
			disconnect(fd); /* reset already, but for the kernel connect() succeeded */
		if (verdict)
			return fail(verdict);
	} else if (error == ECONNREFUSED && !map_is_alive(map) &&
		   dialled_flow(map, local, peer, &flow)) {
		return fail(ENETUNREACH); /* the daemon died while it held the dial */
	}
	errno = error;
	return result;
}

/*
 * True: a fresh socket. False: it is connecting, connected or failed before,
 * and *result with errno is what connect() answers, local being where it is;
 * map NULL: it was not to the mesh.
 */
static bool is_fresh(int fd, const struct map *map, const struct socket_end *local, int *result)
{
	struct sockaddr_storage probe = { .ss_family = AF_UNIX };
	struct socket_end peer;
	int saved = errno;
	/* Before a failure is told: with that the kernel forgets both ends. */
	bool has_begun = map && local->ep.port != 0 &&
			 socket_last_peer(fd, local->family, &peer) == 0;

	*result = libc.connect(fd, (struct sockaddr *)&probe, INET_ADDR_MAX);
	if (*result < 0 && (errno == EAFNOSUPPORT || errno == EINVAL)) {
		errno = saved;
		return true;
	}
	if (has_begun)
		*result = settle(fd, map, &local->ep, &peer.ep, *result);
	return false;
}

/*
 * A multipath socket that is met in the middle of its connect loses the first byte it
 * is sent (Linux 6.18), so the daemon takes its connect at a listener.
 */
static bool can_be_held(int fd, const struct map *map)
{
	return map->hold_port && socket_option(fd, SO_PROTOCOL) != IPPROTO_MPTCP;
}

static int ask_to_dial(const struct ipc_patience *question, bool is_patient, unsigned wait_s,
		       struct ipc_reply *reply)
{
	return is_patient ? control_ask_patiently(question, wait_s, reply)
			  : control_ask(&question->request, wait_s, reply);
}

/*
 * Two that share a port dial the same peer at once: the daemon has the dial of who asked last, the
 * kernel lets in who connects first. Has somebody else asked between our question and our
 * connect()? Whoever asks later is refused.
 */
static bool is_dial_of_another(const struct route *route, const struct endpoint *local,
			       const struct endpoint *to)
{
	struct map_flow flow;
	struct endpoint dialled;

	if (!dialled_flow(route->map, local, to, &flow))
		return false;
	dialled = (struct endpoint){ flow.remote, flow.remote_port };
	return !endpoint_equal(&dialled, &route->mesh) ||
	       (flow.state == MAP_FLOW_FAILED && flow.error == EADDRNOTAVAIL);
}

/* Blocking, and nobody else can have the port, which is new. */
static bool needs_no_answer(int fd, const struct route *route)
{
	long flags;

	if (route->kind != ROUTE_PEER || !atomic_load(&route->map->takes_posts))
		return false;
	flags = raw_syscall(SYS_fcntl, fd, F_GETFL);
	return flags >= 0 && !(flags & O_NONBLOCK) && socket_option(fd, SO_REUSEADDR) == 0 &&
	       socket_option(fd, SO_REUSEPORT) == 0;
}

/* What the daemon would not take must be asked: it cannot say so to who posts. */
static bool post_dial(const struct ipc_patience *dial, uint32_t mirror)
{
	struct ipc_post post = { *dial, mirror };

	return ipc_check_post(&post, sizeof(post), &post) == 0 && control_post(&post);
}

/*
 * Until the daemon has read the post, it may still look for whom the port had before, and meet us
 * instead: then *was_met is false, the socket is fresh again, and is to ask.
 */
static int connect_posted(int fd, const struct route *route, const struct socket_end *local,
			  const struct endpoint *to, bool *was_met)
{
	int result = connect_to(fd, to, local->family);
	bool has_met = result == 0 || errno == ECONNRESET;

	*was_met = !has_met || !is_dial_of_another(route, &local->ep, to);
	if (!*was_met)
		disconnect(fd);
	else if (has_met)
		return settle(fd, route->map, &local->ep, to, result);
	else if (errno == ECONNREFUSED && !map_is_alive(route->map))
		return fail(ENETUNREACH); /* nobody has read it */
	return result;
}

static int connect_asked(int fd, const struct route *route, const struct socket_end *local,
			 const struct endpoint *to)
{
	int result = connect_to(fd, to, local->family);

	if (is_dial_of_another(route, &local->ep, to)) {
		bool was_reset = result < 0 && errno == ECONNRESET;

		disconnect(fd);
		return fail(was_reset ? ECONNRESET : EADDRNOTAVAIL);
	}
	return settle(fd, route->map, &local->ep, to, result);
}

/* As is_fresh() found it; may_post: it has no port yet. */
static int connect_fresh(int fd, const struct route *route, struct socket_end *local, bool may_post)
{
	struct ipc_patience question = { .idle_s = 0 };
	struct endpoint to = { ip_from_v4(route->mirror), (uint16_t)route->map->hold_port };
	struct ipc_reply reply;
	bool is_held, is_patient, was_met = true;
	int result, err = source_take(fd, route, local);

	if (err < 0)
		return fail(-err);
	is_held = can_be_held(fd, route->map);
	is_patient = patience_of(fd, &question);
	ipc_make_request(&question.request, IPC_CONNECT, &local->ep, &route->mesh,
			 is_held ? 0 : IPC_CONNECT_FIRST);
	if (may_post && is_held && needs_no_answer(fd, route) &&
	    post_dial(&question, route->mirror)) {
		result = connect_posted(fd, route, local, &to, &was_met);
		if (!was_met)
			return connect_fresh(fd, route, local, false);
	} else {
		err = ask_to_dial(&question, is_patient, is_held ? SOURCE_WAIT_S : DIAL_FIRST_S,
				  &reply);
		if (err < 0)
			return fail(-err);
		to = (struct endpoint){ reply.mirror, reply.mirror_port };
		result = connect_asked(fd, route, local, &to);
	}
	if (question.idle_s && (result == 0 || errno == EINPROGRESS || errno == EINTR))
		patience_begin(fd);
	return result;
}

static int connect_stream_peer(int fd, const struct route *route, struct socket_end *local)
{
	int result;

	if (!is_fresh(fd, route->map, local, &result))
		return result;
	if (route->mesh.port == 0)
		return fail(ECONNREFUSED);
	return connect_fresh(fd, route, local, local->ep.port == 0);
}

/* A refused non-blocking connect() on loopback: seen at once, and forgotten. */
static bool was_refused(int fd, int result)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	int ignored;

	if (result == 0)
		return false;
	if (errno == ECONNREFUSED)
		return true;
	if (errno != EINPROGRESS)
		return false;
	memset(&info, 0, sizeof(info));
	if (libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    info.tcpi_state != TCP_STATE_DEAD) {
		errno = EINPROGRESS;
		return false;
	}
	is_fresh(fd, NULL, NULL, &ignored);
	return true;
}

/* Our own IPv6 address, where only ::1 is left to be tried. */
static int connect_own_v6(int fd, uint16_t port)
{
	struct endpoint to = { loopback_v6, port };

	source_mark_own_v6(fd);
	return connect_to(fd, &to, AF_INET6);
}

/*
 * A socket that once dialled a v4-mapped address cannot dial ::1 any more (the
 * kernel keeps it IPv4 inside), so whether the listener is on ::1 alone must be
 * known before; otherwise trying is the surer way to find the listener.
 */
static int connect_stream_own(int fd, const struct route *route, struct socket_end *local)
{
	struct endpoint mirror = { ip_from_v4(route->mirror), route->mesh.port };
	struct endpoint plain = { ip_from_v4(LOOPBACK_V4), route->mesh.port }, target;
	bool is_v6 = !ip_is_v4(&route->mesh.addr);
	int result;

	if (!is_fresh(fd, route->map, local, &result))
		return result;
	if (is_v6) {
		target = source_own_target(SOCK_STREAM, route);
		if (!ip_is_v4(&target.addr))
			return connect_own_v6(fd, target.port);
	}
	/* A socket bound elsewhere on this machine may dial us too. */
	source_take(fd, route, local);
	result = connect_to(fd, &mirror, local->family);
	if (!was_refused(fd, result))
		return result;
	source_take(fd, route, local);
	return connect_to(fd, &plain, local->family);
}

/*
 * A socket that was used before has a port on all addresses, and sends from 127.0.0.1: there
 * a server on all addresses answers it, from there too, and not from our mirror.
 */
static bool is_answered_on_loopback(const struct socket_end *local, uint16_t port)
{
	struct endpoint unused = { ip_from_v4(UNUSED_V4), port };
	struct ip_addr loopback = ip_from_v4(LOOPBACK_V4);

	return ip_equal(&local->ep.addr, &loopback) && source_is_taken(SOCK_DGRAM, &unused);
}

static int connect_datagram_own(int fd, const struct route *route, struct socket_end *local)
{
	struct endpoint to = source_own_target(SOCK_DGRAM, route);

	if (!ip_is_v4(&to.addr))
		return connect_own_v6(fd, to.port);
	if (source_take(fd, route, local) < 0 && local->family == AF_INET6 && source_is_v6only(fd))
		return connect_own_v6(fd, to.port);
	if (is_answered_on_loopback(local, to.port))
		to.addr = ip_from_v4(LOOPBACK_V4);
	return connect_to(fd, &to, local->family);
}

static int connect_datagram_peer(int fd, const struct route *route, struct socket_end *local)
{
	struct endpoint to;
	bool v6only = false;
	int err;

	err = source_take(fd, route, local);
	if (err == -ENETUNREACH && ip_is_any(&local->ep.addr) && source_is_v6only(fd)) {
		v6only = true; /* bound to [::] and IPv6 only: by way of ::1 */
		err = 0;
	}
	if (err < 0)
		return fail(-err);
	err = source_datagram_target(route, &local->ep, v6only, &to);
	if (err < 0)
		return fail(-err);
	return connect_to(fd, &to, local->family);
}

static int connect_closed(int fd, const struct route *route, int type,
			  const struct socket_end *local)
{
	int result;

	if (type == SOCK_STREAM && !is_fresh(fd, route->map, local, &result))
		return result;
	return fail(route->error);
}

/*
 * Outside the mesh: the kernel's affair, except that a socket which tried the
 * mesh before still has our mirror as its source, and cannot leave with it.
 */
static int outside_again(int fd, const struct sockaddr *addr, socklen_t len,
			 const struct route *route, int saved)
{
	int result = -1;

	if (source_drop(fd, socket_type(fd))) {
		errno = saved;
		result = libc.connect(fd, addr, len);
		if (result == 0 && primary_is_on())
			primary_connected(fd, addr, &route->mesh);
	} else if (route->map && errno == EINVAL) {
		errno = source_explain_invalid(fd);
	}
	return result;
}

/* In line: a processor that guards itself forgets where to return to in a system call. */
static inline __attribute__((always_inline)) int
connect_outside(int fd, const struct sockaddr *addr, socklen_t len, const struct route *route)
{
	int saved = errno;
	int result = libc.connect(fd, addr, len);

	if (result == 0 && __builtin_expect(addr->sa_family == AF_UNSPEC, 0))
		source_disconnected(fd);
	else if (result == 0 && primary_is_on())
		primary_connected(fd, addr, &route->mesh);
	else if (__builtin_expect(result < 0 && (errno == EINVAL || errno == EAFNOSUPPORT), 0))
		return outside_again(fd, addr, len, route, saved);
	return result;
}

/* A socket with an address of this machine's keeps it: the daemon takes it from any. */
static int connect_datagram_server(int fd, const struct route *route, struct socket_end *local)
{
	struct endpoint to;
	int err = source_datagram_target(route, &local->ep, source_is_outside_v6(&local->ep), &to);

	return err < 0 ? fail(-err) : connect_to(fd, &to, local->family);
}

/*
 * A name server of this machine. What the daemon cannot take over goes to the
 * server itself, as it would without us.
 */
static int connect_server(int fd, const struct sockaddr *addr, socklen_t len, int type,
			  const struct route *route, struct socket_end *local)
{
	uint32_t loopback;
	struct ip_addr mesh;
	bool is_bound = !ip_is_any(&local->ep.addr) &&
			!(loopback_of(&local->ep.addr, &loopback) &&
			  (loopback == LOOPBACK_V4 || loopback == 0 ||
			   is_own_mirror(route->map, loopback, &mesh)));
	int result;

	if (type != SOCK_DGRAM && (type != SOCK_STREAM || is_bound))
		return connect_outside(fd, addr, len, route);
	if (type == SOCK_STREAM && !is_fresh(fd, route->map, local, &result))
		return result;
	result = is_bound             ? connect_datagram_server(fd, route, local)
		 : type == SOCK_DGRAM ? connect_datagram_peer(fd, route, local)
				      : connect_stream_peer(fd, route, local);
	if (result == 0 || errno == EINPROGRESS || errno == EINTR || errno == EAGAIN)
		return result;
	return connect_outside(fd, addr, len, route);
}

int dial_lost(const struct map *map, const struct endpoint *local, const struct endpoint *peer)
{
	struct map_flow flow;

	return flow_between(map, local, peer, &flow) && flow.state == MAP_FLOW_LOST ? flow.error
										    : 0;
}

void dial_reset(int fd)
{
	const struct map *map = shim_map();
	struct endpoint local, peer;
	int verdict = 0;

	if (map && socket_type(fd) == SOCK_STREAM && socket_ends(fd, &local, &peer)) {
		verdict = dial_verdict(fd, map, &local, &peer);
		verdict = verdict ? verdict : dial_lost(map, &local, &peer);
	}
	errno = verdict ? verdict : ECONNRESET;
}

void dial_refused(int fd)
{
	struct route route = { .kind = ROUTE_OUTSIDE, .map = shim_map() };
	struct sockaddr_storage addr;
	struct socket_end peer;
	int saved = errno;

	if (route.map && !map_is_alive(route.map) && socket_type(fd) == SOCK_DGRAM &&
	    socket_peer(fd, &peer) == 0 && sender_to_mesh(route.map, &peer.ep, &route.mesh) &&
	    route.mesh.port == MAP_DNS_PORT &&
	    map_server_mirror(route.map, &route.mesh.addr, &route.mirror)) {
		socklen_t len = endpoint_to_sockaddr(&route.mesh, peer.family, &addr);

		connect_outside(fd, (struct sockaddr *)&addr, len, &route);
	}
	errno = saved;
}

static int dial_routed(int fd, const struct sockaddr *addr, socklen_t len,
		       const struct route *route)
{
	struct socket_end local;
	int err = socket_local(fd, &local);
	int type = err < 0 ? err : socket_type(fd);

	if (type < 0)
		return fail(-type);
	if (local.family != addr->sa_family && (type != SOCK_DGRAM || local.family != AF_INET6))
		return libc.connect(fd, addr, len); /* which refuses the family */
	if (route->kind == ROUTE_SERVER)
		return connect_server(fd, addr, len, type, route, &local);
	if (type != SOCK_STREAM && type != SOCK_DGRAM)
		return fail(ENETUNREACH); /* raw packets do not pass the mirror */
	if (route->kind == ROUTE_CLOSED)
		return connect_closed(fd, route, type, &local);
	if (route->kind == ROUTE_OWN)
		return type == SOCK_DGRAM ? connect_datagram_own(fd, route, &local)
					  : connect_stream_own(fd, route, &local);
	return type == SOCK_DGRAM ? connect_datagram_peer(fd, route, &local)
				  : connect_stream_peer(fd, route, &local);
}

int dial(int fd, const struct sockaddr *addr, socklen_t len, const struct route *route)
{
	int saved = errno, result = dial_routed(fd, addr, len, route);

	if (result == 0)
		errno = saved; /* what was tried before it worked is nobody's business */
	return result;
}

static void explain_dial(struct explain *e, int fd, const struct route *route, int error)
{
	bool is_held = socket_type(fd) == SOCK_STREAM && route->kind != ROUTE_OWN &&
		       can_be_held(fd, route->map);
	struct socket_end peer;

	if (socket_peer(fd, &peer) < 0)
		peer.ep = (struct endpoint){ ip_from_v4(route->mirror),
					     is_held ? (uint16_t)route->map->hold_port
						     : route->mesh.port };
	explain_mirror(e, &peer.ep);
	if (is_held && error != EISCONN)
		explain_text(e, error == EINPROGRESS || error == EALREADY
					? ", held until the peer answers"
					: ", held until the peer answered");
}

__attribute__((cold, noinline)) static int
connect_explained(int fd, const struct sockaddr *addr, socklen_t len, const struct route *route)
{
	struct explain e;
	int result, error;

	explain_begin(&e, "connect", fd);
	explain_address(&e, addr, len);
	result = route->kind == ROUTE_OUTSIDE ? connect_outside(fd, addr, len, route)
					      : dial(fd, addr, len, route);
	error = result < 0 ? errno : 0;
	switch (route->kind) {
	case ROUTE_OUTSIDE:
		explain_left_alone(&e, addr, len);
		break;
	case ROUTE_CLOSED:
		explain_text(&e, ", a mesh address that nobody can reach now");
		break;
	case ROUTE_OWN:
		explain_text(&e, ", this node's own");
		explain_dial(&e, fd, route, error);
		break;
	case ROUTE_SERVER:
		explain_text(&e, ", a name server: the daemon answers for it");
		explain_dial(&e, fd, route, error);
		break;
	case ROUTE_PEER:
		explain_dial(&e, fd, route, error);
		break;
	}
	explain_result(&e, error);
	explain_end(&e);
	errno = result < 0 ? error : errno;
	return result;
}

SHIM_EXPORT(int, connect, (int fd, const struct sockaddr *addr, socklen_t len))
{
	struct route route;
	enum route_kind kind = route_find(addr, len, &route);

	if (explain_is_on())
		return connect_explained(fd, addr, len, &route);
	if (__builtin_expect(kind == ROUTE_OUTSIDE, 1))
		return connect_outside(fd, addr, len, &route);
	return dial(fd, addr, len, &route);
}

SHIM_EXPORT(int, __connect, (int fd, const struct sockaddr *addr, socklen_t len))
{
	return shim_connect(fd, addr, len);
}
