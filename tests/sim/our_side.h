/*
 * Our side of a case against a foreign TCP: an endpoint, the application on
 * it, and the link that its packets go out on.
 */
#ifndef MESHWRAP_TESTS_SIM_OUR_SIDE_H
#define MESHWRAP_TESTS_SIM_OUR_SIDE_H

#include "cases.h"
#include "daemon/tcp/endpoint.h"
#include "link.h"

struct our_side {
	struct tcp *tcp;
	struct link out;
	struct link_packet *reserved;
	const struct test_case *test;
	struct endpoint local, remote;
	struct tcp_conn *conn, *parked;
	uint64_t sent, received;
	uint64_t resume_ns; /* not read, or not decided, before */
	uint64_t close_ns;  /* where both close at once */
	bool has_finished, is_over;
	bool has_crossed; /* was in CLOSING: our FIN was under way when the peer's came */
	const char *wrong;
	uint64_t now_ns;
};

/* Callbacks of the endpoint; their owner is the side. */
extern const struct tcp_callbacks our_side_callbacks;

/* Plays t from now on; dials if it is for us. The addresses and the clock are set. */
bool our_side_start(struct our_side *s, const struct test_case *t);
/* Does what is due: decides, reads, writes, closes. */
void our_side_go_on(struct our_side *s);
/* When there may be something due. */
uint64_t our_side_next_ns(const struct our_side *s);
void our_side_describe(const struct our_side *s);

#endif
