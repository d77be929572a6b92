/*
 * Our endpoint against lwIP over a virtual link, with a virtual clock: every
 * case of cases.c, both IP versions, every byte checked on both sides. lwIP
 * sends no SACK, no timestamps and no window beyond 65,535 bytes: what a plain
 * peer sees of us.
 *
 *   lwip_tcp MODULE [PART-OF-CASE [PART-OF-WEATHER [TIMES]]]
 * TIMES as many seeds as usual.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lwip_side.h"
#include "our_side.h"
#include "shared/util.h"

#define MTU      1280
#define PORT     1025
#define STALL_NS (200 * NS_PER_S) /* no new byte, and the case not over */
#define CLOSE_NS (3 * NS_PER_S)   /* into the case, where both close at once */

struct weather {
	const char *name;
	unsigned divide, seeds;
	struct link_config link;
};

static const struct weather weathers[] = {
	{ "clear, 10 ms", 1, 1, { .bits_per_s = 1000000000, .delay_ns = 5 * NS_PER_MS } },
	{ "20 ms, 1 % lost, late and doubled",
	  4,
	  16,
	  { .bits_per_s = 400000000,
	    .delay_ns = 10 * NS_PER_MS,
	    .queue_bytes = 1 << 20,
	    .loss = 10000,
	    .reorder = 10000,
	    .duplicate = 10000,
	    .reorder_ns = 8 * NS_PER_MS } },
	{ "2 ms, 10 % lost, late and doubled",
	  16,
	  16,
	  { .bits_per_s = 100000000,
	    .delay_ns = NS_PER_MS,
	    .queue_bytes = 1 << 20,
	    .loss = 100000,
	    .reorder = 50000,
	    .duplicate = 20000,
	    .reorder_ns = 4 * NS_PER_MS } },
};

struct bench {
	const struct lwip_side *lwip;
	struct our_side our;
	struct link in; /* from lwIP */
	unsigned closed_at_once, crossed;
};

static void lwip_output(void *owner, const uint8_t *data, size_t len)
{
	struct bench *b = owner;
	struct link_packet *packet = link_packet(&b->in);

	memcpy(packet->data, data, len);
	packet->len = len;
	link_send(&b->in, packet, b->our.now_ns);
}

static void step(struct bench *b)
{
	struct our_side *our = &b->our;
	uint64_t next = MIN(link_next_ns(&b->in), link_next_ns(&our->out));
	struct link_packet *packet;

	next = MIN(next, MIN(tcp_deadline(our->tcp), our_side_next_ns(our)));
	next = MIN(next, b->lwip->next_ns());
	our->now_ns = MAX(our->now_ns, next);
	b->lwip->run(our->now_ns);
	while ((packet = link_receive(&our->out, our->now_ns))) {
		b->lwip->input(packet->data, packet->len);
		link_give_back(&our->out, packet);
	}
	while ((packet = link_receive(&b->in, our->now_ns))) {
		tcp_input(our->tcp, packet->data, packet->len, our->now_ns);
		link_give_back(&b->in, packet);
	}
	our_side_go_on(our);
	tcp_expire(our->tcp, our->now_ns);
}

/* Until both applications are through and neither stack keeps more than a TIME_WAIT. */
static const char *run_to_end(struct bench *b)
{
	struct our_side *our = &b->our;
	uint64_t seen = 0, progress_ns = our->now_ns;
	struct tcp_stats stats;

	for (;;) {
		tcp_get_stats(our->tcp, &stats);
		if (our->is_over && b->lwip->is_over() && stats.conns + stats.parked == 0)
			return stats.memory > 0 ? "memory is left at the end" : NULL;
		step(b);
		if (our->wrong || b->lwip->wrong())
			return our->wrong ? our->wrong : b->lwip->wrong();
		if (our->received + b->lwip->received() > seen) {
			seen = our->received + b->lwip->received();
			progress_ns = our->now_ns;
		}
		if (our->now_ns - progress_ns > STALL_NS)
			return our->is_over ? "lwIP has not ended" : "stalled";
	}
}

static bool run_case(struct bench *b, const struct test_case *t, bool is_v6, uint64_t seed,
		     const struct link_config *link)
{
	static uint16_t port = PORT;
	struct our_side *our = &b->our;
	uint64_t start_ns = our->now_ns, random = seed;
	struct tcp_config config;
	const char *wrong;

	tcp_config_defaults(&config, MTU);
	config.verify_checksum = true;
	config.congestion = seed % 2 ? TCP_CUBIC : TCP_RATE;
	for (size_t i = 0; i < sizeof(config.secret); i++)
		config.secret[i] = (uint8_t)link_random(&random);
	our->tcp = tcp_create(&config, &our_side_callbacks, our);
	link_init(&b->in, link, link_random(&random));
	link_init(&our->out, link, link_random(&random));
	if (ip_parse(is_v6 ? LWIP_V6 : LWIP_V4, &our->remote.addr) < 0 ||
	    ip_parse(is_v6 ? OURS_V6 : OURS_V4, &our->local.addr) < 0)
		abort();
	our->remote.port = our->local.port = port;
	our->close_ns = start_ns + CLOSE_NS;
	b->lwip->play(t, is_v6, port, our->close_ns);
	port = port == UINT16_MAX ? PORT : port + 1;
	wrong = our_side_start(our, t) ? run_to_end(b) : "we could not dial";
	b->closed_at_once += t->order == BOTH_CLOSE;
	b->crossed += our->has_crossed;
	if (wrong) {
		printf("  %s, %s, %s, seed %llu: %s, after %.3f s\n", t->name,
		       t->dials == WE_DIAL ? "we dial" : "lwIP dials", is_v6 ? "IPv6" : "IPv4",
		       (unsigned long long)seed, wrong, (double)(our->now_ns - start_ns) / 1e9);
		our_side_describe(our);
	}
	tcp_destroy(our->tcp);
	free(our->reserved);
	our->reserved = NULL;
	link_finish(&b->in);
	link_finish(&our->out);
	return !wrong;
}

/* False: something went wrong, after which lwIP's one state is not to be trusted. */
static bool run_weather(struct bench *b, const struct weather *w, const char *part, unsigned seeds)
{
	unsigned count = 0;
	struct test_case t;

	b->closed_at_once = b->crossed = 0;
	for (uint64_t seed = 1; seed <= seeds; seed++)
		for (unsigned i = 0; test_cases[i].name; i++)
			for (unsigned k = 0; k < 4; k++) {
				if (!strstr(test_cases[i].name, part) ||
				    !test_case_make(&t, i, k & 1, w->divide))
					continue;
				if (!run_case(b, &t, k & 2, seed, &w->link))
					return false;
				count++;
			}
	printf("%s: %u cases; the FINs crossed in %u of %u\n", w->name, count, b->crossed,
	       b->closed_at_once);
	if (w->link.loss > 0 || b->crossed == b->closed_at_once)
		return true;
	printf("  not every close at once was simultaneous\n");
	return false;
}

int main(int argc, char **argv)
{
	struct bench b = { .our = { .now_ns = 1000 * NS_PER_S } };
	void *module = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;

	if (!module || !(b.lwip = dlsym(module, "lwip_side"))) {
		fprintf(stderr, "usage: lwip_tcp MODULE [CASE [WEATHER]]: %s\n",
			argc > 1 ? dlerror() : "no module");
		return 2;
	}
	b.lwip->start(lwip_output, &b, b.our.now_ns);
	for (size_t i = 0; i < ARRAY_LEN(weathers); i++) {
		const struct weather *w = &weathers[i];
		unsigned times = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 1;

		if ((argc < 4 || strstr(w->name, argv[3])) &&
		    !run_weather(&b, w, argc > 2 ? argv[2] : "", times * w->seeds))
			return 1;
	}
	return 0;
}
