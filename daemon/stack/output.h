/*
 * The way out: packets are written into one batch, which leaves when it is full
 * or flushed. Datagrams longer than the MTU become fragments.
 */
#ifndef MESHWRAP_DAEMON_STACK_OUTPUT_H
#define MESHWRAP_DAEMON_STACK_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/packet.h"
#include "daemon/stack/path_mtu.h"
#include "shared/endpoint.h"

struct output {
	void (*send)(void *owner, struct packet_batch *batch);
	void *owner;
	bool is_blocked;
	uint32_t next_id; /* of fragmented datagrams */
	uint64_t packets;
	uint64_t now_ns; /* of the last round: ages the path MTUs */
	struct path_mtus path_mtus;
	struct packet_batch batch;
};

/* The payload of a datagram in two pieces; head_len is even. */
struct output_payload {
	const uint8_t *head;
	size_t head_len;
	const uint8_t *data;
	size_t data_len;
};

/* Room for one packet, or NULL while blocked. */
uint8_t *output_reserve(struct output *o, size_t len);
void output_commit(struct output *o, size_t len);
void output_flush(struct output *o);
/* 0; -EMSGSIZE above what IP carries; -EAGAIN while blocked; -EAFNOSUPPORT for mixed families. */
int output_datagram(struct output *o, const struct ip_addr *src, const struct ip_addr *dst,
		    uint8_t protocol, const struct output_payload *payload);

#endif
