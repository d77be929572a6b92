/*
 * One UDP socket's way out: a table of messages for sendmmsg, and a bounded
 * backlog of copies for when the kernel takes no more.
 */
#ifndef MESHWRAP_DAEMON_PATH_UDP_QUEUE_H
#define MESHWRAP_DAEMON_PATH_UDP_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/path/udp.h"
#include "shared/endpoint.h"

#define UDP_QUEUE_MESSAGES 64
#define UDP_SEGMENTS_MAX   64    /* in one message; the kernel's limit before 6.9 */
#define UDP_MESSAGE_MAX    65487 /* bytes of one message, of either family */
#define UDP_BACKLOG_MAX    (1u << 20)

struct udp_queue;

/* stats is shared by the queues of a path: counted up, and gso turned off in it. NULL on -ENOMEM.
 */
struct udp_queue *udp_queue_create(int fd, int family, struct udp_stats *stats);
void udp_queue_destroy(struct udp_queue *q);
/* Called from within sends that the kernel refuses with host or network unreachable. */
void udp_queue_on_unreachable(struct udp_queue *q,
			      void (*unreachable)(void *owner, const struct endpoint *to),
			      void *owner);
/* As udp_path_send(). */
void udp_queue_add(struct udp_queue *q, const struct endpoint *to, const uint8_t *bytes, size_t len,
		   size_t segment_len);
void udp_queue_flush(struct udp_queue *q);
/* True while there is a backlog: wait until the socket is writable, then call udp_queue_retry(). */
bool udp_queue_is_blocked(const struct udp_queue *q);
void udp_queue_retry(struct udp_queue *q);

#endif
