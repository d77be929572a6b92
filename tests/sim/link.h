/*
 * One direction of a virtual link: a queue that overflows, a rate, a delay,
 * and seeded misfortune. Time is whatever the caller says it is.
 */
#ifndef MESHWRAP_TESTS_SIM_LINK_H
#define MESHWRAP_TESTS_SIM_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_PACKET_MAX 2048

struct link_config {
	uint64_t bits_per_s; /* 0: no limit */
	uint64_t delay_ns;
	uint64_t queue_bytes; /* before the link; more is dropped. 0: no limit */
	/* A token bucket: so much passes at a higher rate, after a time of less than bits_per_s. */
	uint64_t burst_bytes, burst_bits_per_s;
	/* Chances in a million for each packet. */
	uint32_t loss, duplicate, reorder, corrupt;
	uint64_t reorder_ns; /* a reordered packet is late by up to this */
};

struct link_stats {
	uint64_t packets, queue_drops, losses, duplicates, reordered, corrupted;
};

struct link_packet {
	struct link_packet *earlier, *next;
	uint64_t at_ns; /* arrives */
	size_t len;
	uint8_t data[LINK_PACKET_MAX];
};

struct link {
	struct link_config config;
	struct link_stats stats;
	uint64_t random;                  /* state of the generator */
	uint64_t busy_until_ns;           /* by bits_per_s */
	uint64_t line_until_ns;           /* by burst_bits_per_s */
	struct link_packet *first, *last; /* in order of arrival */
	struct link_packet *unused;
};

uint64_t link_random(uint64_t *state); /* splitmix64 */
void link_init(struct link *link, const struct link_config *config, uint64_t seed);
void link_finish(struct link *link);
void link_trim(struct link *link); /* frees packets that are not in use */
/* A packet of len bytes to fill, then link_send() it. */
struct link_packet *link_packet(struct link *link);
void link_send(struct link *link, struct link_packet *packet, uint64_t now_ns);
/* The next packet that has arrived, or NULL; give it back when read. */
struct link_packet *link_receive(struct link *link, uint64_t now_ns);
void link_give_back(struct link *link, struct link_packet *packet);
uint64_t link_next_ns(const struct link *link);

#endif
