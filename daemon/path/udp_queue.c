/*
 * Sending.
 *
 * A message is one train: datagrams of equal size back to back for one address,
 * which UDP_SEGMENT makes the kernel cut. Trains are cut to what one message may
 * be when they are added, so a flush is sendmmsg over the table as it stands.
 *
 * Without UDP_SEGMENT a message is one datagram. That is found out at start, or
 * by EIO later (a device that cannot checksum them), and then for good. EINVAL
 * and EMSGSIZE speak of one message only (its datagrams do not fit the link's
 * MTU): its datagrams are sent one by one, and IP makes fragments of them.
 *
 * A full socket (EAGAIN) is the only case in which bytes are copied: what is left
 * waits in the backlog, in order, and so does all that comes while it waits.
 * Every other error loses the message, as a network may.
 */
#include "daemon/path/udp_queue.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "shared/util.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

union segment_control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
};

union destination {
	struct sockaddr_storage storage; /* what endpoint_to_sockaddr() writes */
	struct sockaddr sa;
};

struct copy {
	STAILQ_ENTRY(copy) link;
	struct endpoint to;
	size_t len, segment_len;
	size_t done; /* bytes of it that are gone */
	uint8_t bytes[];
};

struct udp_queue {
	int fd, family;
	struct udp_stats *stats; /* of the path; gso in it decides */
	unsigned count;
	struct mmsghdr message[UDP_QUEUE_MESSAGES];
	struct iovec piece[UDP_QUEUE_MESSAGES];
	size_t segment_len[UDP_QUEUE_MESSAGES];
	struct endpoint to[UDP_QUEUE_MESSAGES];
	union destination address[UDP_QUEUE_MESSAGES];
	union segment_control control[UDP_QUEUE_MESSAGES];
	STAILQ_HEAD(, copy) backlog;
	size_t backlog_bytes;
	void (*unreachable)(void *owner, const struct endpoint *to);
	void *owner;
};

struct udp_queue *udp_queue_create(int fd, int family, struct udp_stats *stats)
{
	struct udp_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->fd = fd;
	q->family = family;
	q->stats = stats;
	STAILQ_INIT(&q->backlog);
	return q;
}

static void drop_first_copy(struct udp_queue *q)
{
	struct copy *copy = STAILQ_FIRST(&q->backlog);

	STAILQ_REMOVE_HEAD(&q->backlog, link);
	q->backlog_bytes -= sizeof(*copy) + copy->len;
	free(copy);
}

void udp_queue_destroy(struct udp_queue *q)
{
	if (!q)
		return;
	while (!STAILQ_EMPTY(&q->backlog))
		drop_first_copy(q);
	free(q);
}

void udp_queue_on_unreachable(struct udp_queue *q,
			      void (*unreachable)(void *owner, const struct endpoint *to),
			      void *owner)
{
	q->unreachable = unreachable;
	q->owner = owner;
}

bool udp_queue_is_blocked(const struct udp_queue *q)
{
	return !STAILQ_EMPTY(&q->backlog);
}

static size_t segments(size_t len, size_t segment_len)
{
	return (len + segment_len - 1) / segment_len;
}

static void count_sent(struct udp_queue *q, size_t len, size_t segment_len)
{
	q->stats->tx_packets += segments(len, segment_len);
	q->stats->tx_bytes += len;
}

static void count_dropped(struct udp_queue *q, size_t len, size_t segment_len)
{
	q->stats->tx_dropped += segments(len, segment_len);
}

static void keep_copy(struct udp_queue *q, const struct endpoint *to, const uint8_t *bytes,
		      size_t len, size_t segment_len)
{
	struct copy *copy = NULL;

	if (sizeof(*copy) + len <= UDP_BACKLOG_MAX - q->backlog_bytes)
		copy = malloc(sizeof(*copy) + len);
	if (!copy) {
		count_dropped(q, len, segment_len);
		return;
	}
	copy->to = *to;
	copy->len = len;
	copy->done = 0;
	copy->segment_len = segment_len;
	memcpy(copy->bytes, bytes, len);
	STAILQ_INSERT_TAIL(&q->backlog, copy, link);
	q->backlog_bytes += sizeof(*copy) + len;
}

static void fill_message(struct udp_queue *q, unsigned i, const struct endpoint *to,
			 const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct msghdr *m = &q->message[i].msg_hdr;
	uint16_t value = (uint16_t)segment_len;
	struct cmsghdr *c;

	q->to[i] = *to;
	q->segment_len[i] = segment_len;
	q->piece[i] = (struct iovec){ (void *)bytes, len };
	memset(m, 0, sizeof(*m));
	m->msg_name = &q->address[i].sa;
	m->msg_namelen = endpoint_to_sockaddr(&q->to[i], q->family, &q->address[i].storage);
	m->msg_iov = &q->piece[i];
	m->msg_iovlen = 1;
	if (len <= segment_len)
		return;
	m->msg_control = q->control[i].bytes;
	m->msg_controllen = sizeof(q->control[i].bytes);
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof(value));
	memcpy(CMSG_DATA(c), &value, sizeof(value));
}

/* One message, at most UDP_MESSAGE_MAX long. */
static void add_message(struct udp_queue *q, const struct endpoint *to, const uint8_t *bytes,
			size_t len, size_t segment_len)
{
	if (q->count == UDP_QUEUE_MESSAGES)
		udp_queue_flush(q);
	if (udp_queue_is_blocked(q)) {
		keep_copy(q, to, bytes, len, segment_len);
		return;
	}
	fill_message(q, q->count++, to, bytes, len, segment_len);
}

void udp_queue_add(struct udp_queue *q, const struct endpoint *to, const uint8_t *bytes, size_t len,
		   size_t segment_len)
{
	size_t step = segment_len;

	if (len == 0 || segment_len == 0 || segment_len > UDP_MESSAGE_MAX) {
		q->stats->tx_dropped++;
		return;
	}
	if (q->stats->gso)
		step = segment_len * MIN(UDP_SEGMENTS_MAX, UDP_MESSAGE_MAX / segment_len);
	for (size_t at = 0; at < len; at += step)
		add_message(q, to, bytes + at, MIN(step, len - at), segment_len);
}

/* One datagram; what earlier ones have met (ECONNREFUSED) is told once and means nothing to it. */
static bool send_datagram(struct udp_queue *q, const struct msghdr *m, const uint8_t *bytes,
			  size_t len)
{
	for (int attempt = 0;; attempt++) {
		q->stats->tx_calls++;
		if (sendto(q->fd, bytes, len, MSG_DONTWAIT, m->msg_name, m->msg_namelen) >= 0)
			return true;
		if ((errno != ECONNREFUSED && errno != EINTR) || attempt > 0)
			return false;
	}
}

/* The datagrams of message i one by one. How many bytes were dealt with before EAGAIN. */
static size_t send_singly(struct udp_queue *q, unsigned i)
{
	const uint8_t *bytes = q->piece[i].iov_base;
	size_t len = q->piece[i].iov_len, segment_len = q->segment_len[i], at;

	for (at = 0; at < len; at += segment_len) {
		size_t part = MIN(segment_len, len - at);

		if (send_datagram(q, &q->message[i].msg_hdr, bytes + at, part))
			count_sent(q, part, segment_len);
		else if (errno == EAGAIN)
			return at;
		else
			count_dropped(q, part, segment_len);
	}
	return len;
}

/*
 * Message i met err in sendmmsg. How many bytes of it were dealt with; less than
 * all: the socket is full.
 */
static size_t handle_error(struct udp_queue *q, unsigned i, int err)
{
	size_t len = q->piece[i].iov_len;

	switch (err) {
	case EAGAIN:
		return 0;
	case EIO:
		q->stats->gso = false;
		return send_singly(q, i);
	case EINVAL:
	case EMSGSIZE:
	case EINTR:
	case ECONNREFUSED:
		return send_singly(q, i);
	case EHOSTUNREACH:
	case ENETUNREACH:
		if (q->unreachable)
			q->unreachable(q->owner, &q->to[i]);
		break;
	default:
		break;
	}
	count_dropped(q, len, q->segment_len[i]);
	return len;
}

/* Sends messages from i on as far as the kernel takes them; returns how many it has taken. */
static unsigned send_messages(struct udp_queue *q, unsigned i)
{
	int n = sendmmsg(q->fd, q->message + i, q->count - i, MSG_DONTWAIT);

	q->stats->tx_calls++;
	for (int k = 0; k < n; k++)
		count_sent(q, q->piece[i + (unsigned)k].iov_len, q->segment_len[i + (unsigned)k]);
	return n > 0 ? (unsigned)n : 0;
}

void udp_queue_flush(struct udp_queue *q)
{
	for (unsigned i = 0; i < q->count;) {
		unsigned taken = udp_queue_is_blocked(q) ? 0 : send_messages(q, i);
		size_t done = 0;

		if (taken > 0) {
			i += taken;
			continue;
		}
		if (!udp_queue_is_blocked(q))
			done = handle_error(q, i, errno);
		if (done < q->piece[i].iov_len)
			keep_copy(q, &q->to[i], (uint8_t *)q->piece[i].iov_base + done,
				  q->piece[i].iov_len - done, q->segment_len[i]);
		i++;
	}
	q->count = 0;
}

/* Sends a copy, or as much of it as the socket takes. */
static void retry_copy(struct udp_queue *q, struct copy *copy)
{
	size_t left = copy->len - copy->done;

	fill_message(q, 0, &copy->to, copy->bytes + copy->done, left, copy->segment_len);
	q->count = 1;
	if (!q->stats->gso && left > copy->segment_len)
		copy->done += send_singly(q, 0);
	else if (send_messages(q, 0) == 1)
		copy->done = copy->len;
	else
		copy->done += handle_error(q, 0, errno);
	q->count = 0;
}

void udp_queue_retry(struct udp_queue *q)
{
	udp_queue_flush(q); /* the table is free then: what was in it waits behind the copies */
	while (!STAILQ_EMPTY(&q->backlog)) {
		struct copy *copy = STAILQ_FIRST(&q->backlog);

		retry_copy(q, copy);
		if (copy->done < copy->len)
			break;
		drop_first_copy(q);
	}
}
