/*
 * The kernel's table of sockets (sock_diag needs no privilege), asked for one
 * socket at a time: the kernel looks it up as it would for a packet.
 *
 * A TCP socket without an inode belongs to nobody, and neither does the
 * remainder of one that waits for our FIN.
 *
 * Who takes a new flow is asked as from port 0, which no connected socket has
 * as its far end. The kernel before this one, or the sandbox, may lack all or
 * some of it: then nothing is known, and callers find out by trying.
 */
#include "daemon/edge/socktable.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/util.h"

/* idiag_timer; others are for what was sent. */
#define NO_TIMER        0
#define KEEPALIVE_TIMER 2

struct answer {
	int error; /* 0 or a negative errno */
	struct inet_diag_msg socket;
	bool is_v6only;
};

int socktable_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);

	return fd >= 0 ? fd : -errno;
}

static void put_address(__be32 at[4], const struct ip_addr *addr)
{
	if (ip_is_v4(addr))
		at[0] = htonl(ip_v4(addr));
	else
		memcpy(at, addr->byte, sizeof(addr->byte));
}

static int send_question(int fd, int protocol, const struct endpoint *near,
			 const struct endpoint *far)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 body;
	} question = {
		.head = { .nlmsg_len = sizeof(question),
			  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST },
		.body = { .sdiag_family = ip_is_v4(&near->addr) ? AF_INET : AF_INET6,
			  .sdiag_protocol = (uint8_t)protocol,
			  .idiag_states = UINT32_MAX,
			  .id = { .idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } } },
	};
	struct inet_diag_sockid *id = &question.body.id;

	/* For UDP the kernel wants them the other way round. */
	if (protocol == IPPROTO_UDP) {
		const struct endpoint *swap = near;

		near = far;
		far = swap;
	}
	id->idiag_sport = htons(near->port);
	id->idiag_dport = htons(far->port);
	put_address(id->idiag_src, &near->addr);
	put_address(id->idiag_dst, &far->addr);
	return send(fd, &question, sizeof(question), 0) == sizeof(question) ? 0 : -errno;
}

/* The attributes behind the fixed part. */
static bool find_v6only(const char *at, size_t len)
{
	struct rtattr head;

	while (len >= sizeof(head)) {
		memcpy(&head, at, sizeof(head));
		if (head.rta_len < sizeof(head) || head.rta_len > len)
			break;
		if (head.rta_type == INET_DIAG_SKV6ONLY && head.rta_len > RTA_LENGTH(0))
			return at[RTA_LENGTH(0)] != 0;
		if (RTA_ALIGN(head.rta_len) >= len)
			break;
		at += RTA_ALIGN(head.rta_len);
		len -= RTA_ALIGN(head.rta_len);
	}
	return false;
}

/* 0 and an answer (which may be an error of the kernel's), or -errno when there is none. */
static int ask(int fd, int protocol, const struct endpoint *near, const struct endpoint *far,
	       struct answer *out)
{
	union {
		struct nlmsghdr head;
		char bytes[1024];
	} answer;
	struct nlmsgerr e;
	ssize_t n;
	size_t body;
	int err = send_question(fd, protocol, near, far);

	if (err)
		return err;
	/* The kernel answers before send() returns, and each question with one message. */
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if (n >= (ssize_t)(NLMSG_HDRLEN + sizeof(e)) && answer.head.nlmsg_type == NLMSG_ERROR) {
		memcpy(&e, answer.bytes + NLMSG_HDRLEN, sizeof(e));
		out->error = e.error;
		return 0;
	}
	body = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(out->socket));
	if (n < (ssize_t)body || answer.head.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -EPROTO;
	out->error = 0;
	memcpy(&out->socket, answer.bytes + NLMSG_HDRLEN, sizeof(out->socket));
	/* Where there is no such connection, it finds who would take one. */
	if (protocol == IPPROTO_TCP && far->port && out->socket.idiag_state == TCP_LISTEN)
		out->error = -ENOENT;
	out->is_v6only = find_v6only(answer.bytes + body, (size_t)n - body);
	return 0;
}

static enum sock_life find_life(int table, const struct endpoint *theirs,
				const struct endpoint *ours, struct answer *answer)
{
	/* One of another host is in no table of this one. */
	if (table < 0 || !ip_is_loopback(&theirs->addr) || !ip_is_loopback(&ours->addr) ||
	    ip_is_v4(&theirs->addr) != ip_is_v4(&ours->addr) ||
	    ask(table, IPPROTO_TCP, theirs, ours, answer) != 0)
		return SOCK_UNKNOWN;
	if (answer->error)
		return answer->error == -ENOENT ? SOCK_NONE : SOCK_UNKNOWN;
	if (answer->socket.idiag_state == TCP_TIME_WAIT)
		return SOCK_WAITING;
	return answer->socket.idiag_inode == 0 ? SOCK_ORPHAN : SOCK_HELD;
}

enum sock_life socktable_life(int table, const struct endpoint *theirs, const struct endpoint *ours)
{
	struct answer answer;

	return find_life(table, theirs, ours, &answer);
}

enum sock_life socktable_wait(int table, const struct endpoint *theirs, const struct endpoint *ours,
			      struct sock_wait *wait)
{
	struct answer answer;
	enum sock_life life = find_life(table, theirs, ours, &answer);

	*wait = (struct sock_wait){ .for_what = SOCK_WAITS_FOR_NOTHING };
	if (life != SOCK_HELD || answer.socket.idiag_timer == NO_TIMER)
		return life;
	wait->for_what = answer.socket.idiag_timer == KEEPALIVE_TIMER ? SOCK_WAITS_TO_ASK
								      : SOCK_WAITS_FOR_ANSWER;
	wait->left_ns = answer.socket.idiag_expires * NS_PER_MS;
	wait->asked = answer.socket.idiag_retrans;
	return life;
}

enum sock_taker socktable_taker(int table, int type, const struct endpoint *at)
{
	static const __be32 any[4];
	bool is_tcp = type == SOCK_STREAM;
	struct endpoint far = { at->addr, 0 };
	struct answer answer;
	const struct inet_diag_msg *found = &answer.socket;

	if (table < 0 || ask(table, is_tcp ? IPPROTO_TCP : IPPROTO_UDP, at, &far, &answer) != 0 ||
	    answer.error || found->idiag_state != (is_tcp ? TCP_LISTEN : TCP_CLOSE))
		return TAKER_NONE;
	/* Its own family, not the one asked for: one of IPv6 may take both. */
	if (memcmp(found->id.idiag_src, any, found->idiag_family == AF_INET ? 4 : 16) != 0)
		return TAKER_SPECIFIC;
	return answer.is_v6only ? TAKER_ANY6 : TAKER_ANY;
}

int socktable_owner(int table, int type, const struct endpoint *theirs, const struct endpoint *ours,
		    uid_t *uid)
{
	int protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
	struct answer answer;
	int err = table < 0 ? -EBADF : ask(table, protocol, theirs, ours, &answer);

	if (err == 0)
		err = answer.error;
	if (err == 0 && answer.socket.idiag_inode == 0)
		err = -ENOENT;
	if (err == 0)
		*uid = answer.socket.idiag_uid;
	return err;
}
