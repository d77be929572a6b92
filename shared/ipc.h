/*
 * The control protocol between shim and daemon: one question, one answer.
 *
 * On a Unix-domain SOCK_SEQPACKET socket in the runtime folder; the client
 * connects, sends one struct ipc_request, receives one struct ipc_reply and
 * closes. Native byte order (same machine). Sizes and unused fields must match
 * exactly. The daemon checks SO_PEERCRED before it reads anything.
 *
 * A dial that need not be answered is posted instead: struct ipc_post, on a SOCK_DGRAM socket
 * beside that one. The daemon checks SCM_CREDENTIALS.
 */
#ifndef MESHWRAP_SHARED_IPC_H
#define MESHWRAP_SHARED_IPC_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define IPC_MAGIC   0x4d574331u /* "MWC1" */
#define IPC_VERSION 1u

enum ipc_type {
	/*
	 * Dial remote (a mesh endpoint) over TCP for the program's socket that is
	 * bound to local (a loopback endpoint). The answer's mirror is where the
	 * program's own connect() must go. With SYN hold it comes at once; without
	 * (IPC_REPLY_DIALLED), or with IPC_CONNECT_FIRST, it comes when the far side
	 * has answered. A later failure is told by the flow entry in the map.
	 */
	IPC_CONNECT = 1,
	/*
	 * Make a loopback UDP socket that stands for remote (a mesh endpoint); the
	 * answer's mirror is that socket, and it is in the map too. With
	 * IPC_UDP_V6ONLY the socket is on ::1. local is where the program sends
	 * from (port 0: not known yet).
	 */
	IPC_UDP_OPEN = 2,
	/* Is the mesh usable? error 0 = yes, EAGAIN = starting. */
	IPC_READY = 3,
	/* The addresses of a name that is the daemon's to look up: other structs, see below. */
	IPC_LOOKUP = 4,
	/*
	 * How long the program has patience with a silent far side: struct ipc_patience.
	 * local and remote name the flow, as in IPC_CONNECT; with IPC_ACCEPTED it is one that
	 * the peer opened, and only local's port counts. There is no answer.
	 */
	IPC_PATIENCE = 5
};

#define IPC_UDP_V6ONLY    1u
#define IPC_CONNECT_FIRST 2u /* this socket cannot be held: dial first */
#define IPC_ACCEPTED      4u
#define IPC_REPLY_DIALLED 1u

struct ipc_request {
	uint32_t magic;
	uint16_t version;
	uint16_t type; /* enum ipc_type */
	uint32_t flags;
	uint16_t local_port, remote_port;
	struct ip_addr local, remote;
};
static_assert(sizeof(struct ipc_request) == 48, "ipc_request is 48 bytes");

/*
 * SO_KEEPALIVE (off: idle_s, interval_s and count are 0) and TCP_USER_TIMEOUT of a program's
 * socket, in Linux' own bounds: IPC_PATIENCE, or an IPC_CONNECT of a socket that has some.
 */
struct ipc_patience {
	struct ipc_request request;
	uint32_t user_timeout_ms; /* 0: none */
	uint16_t idle_s, interval_s, count;
	uint16_t pad;
};
static_assert(sizeof(struct ipc_patience) == 60, "ipc_patience is 60 bytes");
#define IPC_IDLE_S_MAX       32767u
#define IPC_COUNT_MAX        127u
#define IPC_USER_TIMEOUT_MAX 0x7fffffffu

/*
 * IPC_CONNECT of a socket that can be held, and whose port is no other socket's; fields of patience
 * may be 0. The program goes to the hold port at mirror without an answer: a failure is told by
 * the flow's entry in the map, and then a reset.
 */
struct ipc_post {
	struct ipc_patience dial;
	uint32_t mirror; /* host byte order */
};
static_assert(sizeof(struct ipc_post) == 64, "ipc_post is 64 bytes");

struct ipc_reply {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	int32_t error; /* 0 or a positive errno the program may see */
	uint32_t flags;
	uint16_t mirror_port;
	uint16_t pad;
	struct ip_addr mirror;
};
static_assert(sizeof(struct ipc_reply) == 36, "ipc_reply is 36 bytes");

/* name: zero-terminated, and zeros to the end. It is taken as it is, no search domain is tried. */
struct ipc_lookup {
	uint32_t magic;
	uint16_t version;
	uint16_t type;  /* IPC_LOOKUP */
	uint32_t flags; /* IPC_LOOKUP_V4, IPC_LOOKUP_V6: at least one */
	char name[256];
};
static_assert(sizeof(struct ipc_lookup) == 268, "ipc_lookup is 268 bytes");
#define IPC_LOOKUP_V4  1u
#define IPC_LOOKUP_V6  2u
#define IPC_LOOKUP_MAX 16

/* error: 0 with addresses, ENOENT (no such name), ENODATA (none of the family), EAGAIN. */
struct ipc_found {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	int32_t error;
	uint32_t count;
	struct ip_addr addr[IPC_LOOKUP_MAX]; /* zeros behind count */
};
static_assert(sizeof(struct ipc_found) == 272, "ipc_found is 272 bytes");

/* Is this exactly one well-formed request of our version? 0, -EPROTO, -EINVAL. */
int ipc_check_request(const void *bytes, size_t len, struct ipc_request *out);
/* The same for one with patience. */
int ipc_check_patience(const void *bytes, size_t len, struct ipc_patience *out);
/* The same for what is posted. */
int ipc_check_post(const void *bytes, size_t len, struct ipc_post *out);
/* The same for an answer to a question of this type. */
int ipc_check_reply(const void *bytes, size_t len, enum ipc_type type, struct ipc_reply *out);

int ipc_check_lookup(const void *bytes, size_t len, struct ipc_lookup *out);
int ipc_check_found(const void *bytes, size_t len, struct ipc_found *out);
/* -ENAMETOOLONG when the name does not fit. */
int ipc_make_lookup(struct ipc_lookup *out, const char *name, uint32_t flags);

void ipc_make_request(struct ipc_request *out, enum ipc_type type, const struct endpoint *local,
		      const struct endpoint *remote, uint32_t flags);

#endif
