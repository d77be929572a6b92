/* Two network stacks joined by their output callbacks, and what each has reported. */
#ifndef MESHWRAP_TESTS_STACK_TWO_STACKS_H
#define MESHWRAP_TESTS_STACK_TWO_STACKS_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/stack/netstack.h"

#define MTU 1420

struct node {
	struct netstack *ns;
	struct node *other; /* NULL: output goes nowhere */
	uint64_t now_ns;
	const struct filter_source *serving; /* every address; NULL: everybody does */
	unsigned batches, packets, longest;
	uint8_t last[PACKET_MAX]; /* of the packets sent */
	uint32_t last_len;
	/* what was reported */
	unsigned received, failed, pongs, incoming, events;
	int error;
	struct endpoint local, remote;
	uint8_t data[PACKET_MAX];
	size_t len;
	uint16_t id, seq;
	struct tcp_conn *conn;
};

extern struct ip_addr v4[2], v6[2]; /* of a and of b */
extern struct node a, b;
extern uint32_t mtu;      /* of stacks that setup() makes */
extern size_t memory_max; /* 0: the default */

int setup(void **state);
int teardown(void **state);
/* Lets what is queued travel to and fro. */
void settle(void);
void fill(uint8_t *data, size_t len);
struct endpoint at(bool is_v6, int node, uint16_t port);
struct netstack_stats stats_of(const struct node *n);
extern const struct filter_source *injected_by;
/* Gives b one packet made by hand. */
void inject(uint8_t *bytes, size_t len);
size_t make_packet(uint8_t *out, bool is_v6, uint8_t protocol);
void fix_v4_header(uint8_t *p);
size_t add_extension(uint8_t *p, size_t len, uint8_t type, uint8_t fourth);

#define stack_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
