/*
 * The paths of one node of ours, whose peers the test plays: what they send
 * it makes, what they are sent it keeps.
 */
#ifndef MESHWRAP_TESTS_UNIT_PATH_BENCH_H
#define MESHWRAP_TESTS_UNIT_PATH_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/path/disco.h"
#include "daemon/path/paths.h"

/* One node of ours, and peers played by the test. */
struct player {
	uint8_t key[32], private[32], disco[32];
	struct path_peer *peer;
};

struct bench {
	struct paths *paths;
	uint8_t disco[32];
	uint64_t now_ns;
	struct player a, b;
	unsigned udp, relayed, wireguard, pongs;
	unsigned relayed_pings; /* among relayed */
	int last_region;
	uint8_t last_dst[32];
	struct endpoint last_to, wireguard_from;
	uint8_t last[2048];
	size_t last_len;
	struct paths_pong pong;
	const struct player *relay_answered; /* the last */
	uint64_t udp_bytes;
};

/* For each test: *state is a struct bench. */
int set_up(void **state);
int tear_down(void **state);
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* Keys for a player whose node key is n over and over; add() makes it known. */
void make_player(struct player *p, uint8_t n);
/* endpoint NULL: it has none. */
void add(struct bench *t, struct player *p, const char *endpoint);

struct endpoint at(const char *text);
/* A disco packet with plain in it; returns its length. */
size_t seal(struct bench *t, const struct player *p, const uint8_t *plain, size_t len,
	    uint8_t *packet);
size_t make_ping(struct bench *t, const struct player *sealer, const uint8_t *node_key,
		 uint8_t *packet);
/* A pong, by UDP. */
void answer(struct bench *t, const struct player *p, const struct disco_message *ping,
	    const char *from);
void answer_by_relay(struct bench *t, const struct player *p, const struct disco_message *ping,
		     int region);
/* Lets so much time pass. */
void run(struct bench *t, uint64_t ns);
void from_udp(struct bench *t, uint8_t *bytes, size_t len, const char *from);
/* Opens the last datagram that was sent, as the player would. */
enum disco_type last_type(struct bench *t, const struct player *p, struct disco_message *m);
/* A packet of ours to it. */
void send_some(struct bench *t, struct player *p);

#endif
