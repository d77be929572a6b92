/*
 * Scenes of two or three nodes, each with many seeds.
 *
 *     sim_paths [--seeds A-B] [--scene NAME] [--verbose]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "partner.h"
#include "shared/util.h"
#include "world.h"

#define EVERY_NS (20 * NS_PER_MS)
#define S        NS_PER_S

static unsigned failures;
static const char *scene_name;
static uint64_t scene_seed;
static bool is_verbose;

#define check(condition)                                                              \
	do {                                                                          \
		if (!(condition)) {                                                   \
			failures++;                                                   \
			printf("%s, seed %llu: line %d: %s\n", scene_name,            \
			       (unsigned long long)scene_seed, __LINE__, #condition); \
		}                                                                     \
	} while (0)

struct pair {
	struct world *w;
	struct node *a, *b;
};

static struct pair start(uint64_t seed, enum nat a, enum nat b, unsigned partner)
{
	struct pair p = { .w = world_create(seed) };

	p.a = world_add(p.w, a);
	p.b = partner ? world_add_partner(p.w, b, partner) : world_add(p.w, b);
	world_run(p.w, 2 * S);
	world_join(p.w);
	world_traffic(p.w, p.a, p.b, EVERY_NS);
	return p;
}

static bool both_direct(struct pair *p)
{
	return world_is_direct(p->w, p->a, p->b) && world_is_direct(p->w, p->b, p->a);
}

static bool none_direct(struct pair *p)
{
	return !world_is_direct(p->w, p->a, p->b) && !world_is_direct(p->w, p->b, p->a);
}

/* All that either has sent up to here must arrive. */
static void check_nothing_lost(struct pair *p, uint32_t first_a, uint32_t first_b)
{
	uint32_t end_a = p->a->sent[p->b->id], end_b = p->b->sent[p->a->id];

	world_run(p->w, S); /* for what is on its way */
	check(world_missing(p->b, p->a, first_a, end_a) == 0);
	check(world_missing(p->a, p->b, first_b, end_b) == 0);
}

static void expect_direct(uint64_t seed, enum nat a, enum nat b, unsigned partner)
{
	struct pair p = start(seed, a, b, partner);

	world_run(p.w, 3 * S);
	check(both_direct(&p));
	world_run(p.w, 120 * S);
	check(both_direct(&p));
	check_nothing_lost(&p, 0, 0);
	world_destroy(p.w);
}

static void expect_relay(uint64_t seed, enum nat a, enum nat b, unsigned partner)
{
	struct pair p = start(seed, a, b, partner);

	world_run(p.w, 60 * S);
	check(none_direct(&p));
	check_nothing_lost(&p, 0, 0);
	world_destroy(p.w);
}

static unsigned kinds(unsigned i)
{
	return i == 0 ? 0 : PARTNER_NORMAL;
}

static void scene_direct(uint64_t seed)
{
	static const enum nat pairs[][2] = {
		{ NAT_NONE, NAT_NONE }, { NAT_NONE, NAT_FIREWALL }, { NAT_FIREWALL, NAT_FIREWALL },
		{ NAT_EASY, NAT_NONE }, { NAT_EASY, NAT_EASY },     { NAT_FIREWALL, NAT_EASY },
		{ NAT_HARD, NAT_NONE }, { NAT_NONE, NAT_HARD },     { NAT_EASY, NAT_NONE },
	};

	for (unsigned i = 0; i < ARRAY_LEN(pairs) * 2; i++)
		expect_direct(seed + i, pairs[i / 2][0], pairs[i / 2][1], kinds(i % 2));
}

static void scene_relay(uint64_t seed)
{
	expect_relay(seed, NAT_HARD, NAT_HARD, 0);
	expect_relay(seed, NAT_BLOCKED, NAT_NONE, 0);
	expect_relay(seed, NAT_EASY, NAT_BLOCKED, 0);
	expect_relay(seed, NAT_HARD, NAT_HARD, PARTNER_NORMAL);
	expect_relay(seed, NAT_BLOCKED, NAT_EASY, PARTNER_NORMAL);
	expect_relay(seed, NAT_NONE, NAT_NONE, PARTNER_CALLS);
}

/* It only answers: we get a direct path, it stays with the relay. */
static void scene_lazy_partner(uint64_t seed)
{
	struct pair p = start(seed, NAT_NONE, NAT_NONE, PARTNER_ANSWERS);

	world_run(p.w, 5 * S);
	check(world_is_direct(p.w, p.a, p.b));
	check(!world_is_direct(p.w, p.b, p.a));
	check(!p.a->is_last_direct[p.b->id]);
	check_nothing_lost(&p, 0, 0);
	world_destroy(p.w);
}

/* How long until both get the other's datagrams again, and how many were lost? */
static void check_resumes(struct pair *p, uint64_t within_ns, unsigned lost_max)
{
	uint32_t first_a = p->a->sent[p->b->id], first_b = p->b->sent[p->a->id];
	unsigned lost_a, lost_b;

	world_run(p->w, within_ns);
	/* From now on nothing is lost. */
	check_nothing_lost(p, p->a->sent[p->b->id], p->b->sent[p->a->id]);
	check(world_now(p->w) - p->a->last_got_ns[p->b->id] < 200 * NS_PER_MS);
	check(world_now(p->w) - p->b->last_got_ns[p->a->id] < 200 * NS_PER_MS);
	lost_a = world_missing(p->b, p->a, first_a, p->a->sent[p->b->id] - 50);
	lost_b = world_missing(p->a, p->b, first_b, p->b->sent[p->a->id] - 50);
	if (is_verbose)
		printf("%s: lost %u and %u (of 50 a second)\n", scene_name, lost_a, lost_b);
	check(lost_a <= lost_max && lost_b <= lost_max);
}

static void scene_move(uint64_t seed)
{
	static const enum nat nats[] = { NAT_NONE, NAT_EASY, NAT_FIREWALL };

	for (unsigned i = 0; i < ARRAY_LEN(nats) * 2; i++) {
		struct pair p = start(seed, nats[i / 2], NAT_EASY, kinds(i % 2));

		world_run(p.w, 10 * S + world_random(p.w, 6000) * NS_PER_MS);
		check(both_direct(&p));
		world_move(p.w, p.a, true);
		/* A partner of another kind trusts the old address to the end: 6.5 s. */
		if (i % 2 == 0)
			check_resumes(&p, 5 * S, 25);
		else
			check_resumes(&p, 7 * S, 340);
		world_run(p.w, 10 * S);
		check(both_direct(&p));
		world_destroy(p.w);
	}
}

/* A NAT that restarts tells nobody. */
static void scene_rebind(uint64_t seed)
{
	for (unsigned i = 0; i < 2; i++) {
		struct pair p = start(seed, NAT_EASY, NAT_EASY, kinds(i));

		world_run(p.w, 10 * S + world_random(p.w, 6000) * NS_PER_MS);
		world_rebind(p.w, p.a);
		check_resumes(&p, i ? 8 * S : 5 * S, i ? 400 : 250);
		world_run(p.w, 10 * S);
		check(both_direct(&p));
		world_destroy(p.w);
	}
}

/* The address changes and the node is not told (a router further out did it). */
static void scene_silent_move(uint64_t seed)
{
	struct pair p = start(seed, NAT_EASY, NAT_NONE, 0);

	world_run(p.w, 10 * S + world_random(p.w, 6000) * NS_PER_MS);
	world_move(p.w, p.a, false);
	check_resumes(&p, 5 * S, 250);
	world_run(p.w, 30 * S);
	check(both_direct(&p));
	world_destroy(p.w);
}

static void scene_relay_dies(uint64_t seed)
{
	struct pair p = start(seed, NAT_EASY, NAT_EASY, 0);
	uint32_t first_a, first_b;

	world_run(p.w, 10 * S);
	first_a = p.a->sent[p.b->id];
	first_b = p.b->sent[p.a->id];
	world_set_relay(p.w, 1, false);
	world_set_relay(p.w, 2, false);
	world_run(p.w, 60 * S);
	check(both_direct(&p));
	check_nothing_lost(&p, first_a, first_b);
	world_destroy(p.w);
}

/* UDP dies while the relay works, in one direction first: asymmetry is legal. */
static void scene_udp_dies(uint64_t seed)
{
	struct pair p = start(seed, NAT_NONE, NAT_NONE, 0);

	world_run(p.w, 10 * S + world_random(p.w, 6000) * NS_PER_MS);
	world_set_one_way(p.w, p.a, p.b, true);
	check_resumes(&p, 5 * S, 250);
	world_set_one_way(p.w, p.b, p.a, true);
	check_resumes(&p, 5 * S, 250);
	check(none_direct(&p));
	world_set_one_way(p.w, p.a, p.b, false);
	world_set_one_way(p.w, p.b, p.a, false);
	world_run(p.w, 12 * S);
	check(both_direct(&p));
	world_destroy(p.w);
}

static void scene_idle(uint64_t seed)
{
	struct pair p = start(seed, NAT_EASY, NAT_EASY, 0);
	uint64_t udp, relay;

	world_run(p.w, 10 * S);
	world_traffic(p.w, p.a, p.b, 0);
	world_run(p.w, 60 * S);
	udp = p.a->udp_sent;
	relay = p.a->relay_sent;
	world_run(p.w, 300 * S);
	check(p.a->udp_sent == udp && p.a->relay_sent == relay);
	check(none_direct(&p));
	world_traffic(p.w, p.a, p.b, EVERY_NS);
	world_run(p.w, 3 * S);
	check(both_direct(&p));
	check_nothing_lost(&p, 0, 0);
	world_destroy(p.w);
}

static void scene_loss(uint64_t seed)
{
	struct pair p = start(seed, NAT_EASY, NAT_EASY, 0);

	world_set_loss(p.w, 10);
	world_run(p.w, 120 * S);
	check(world_is_direct(p.w, p.a, p.b) || world_is_direct(p.w, p.b, p.a));
	/* Never worse than the network itself. */
	check(world_missing(p.b, p.a, 0, p.a->sent[p.b->id] - 10) < p.a->sent[p.b->id] * 13 / 100);
	check(p.a->udp_sent < 3 * (uint64_t)p.a->sent[p.b->id]);
	world_destroy(p.w);
}

static void scene_ping(uint64_t seed)
{
	struct pair p = start(seed, NAT_EASY, NAT_EASY, 0);

	world_traffic(p.w, p.a, p.b, 0);
	check(paths_ping(p.a->paths, p.a->peer[p.b->id], 1, world_now(p.w)) == 0);
	world_run(p.w, S);
	check(p.a->pongs == 1);
	check(paths_ping(p.a->paths, p.a->peer[p.b->id], 2, world_now(p.w)) == 0);
	world_run(p.w, S);
	check(p.a->pongs == 2 && p.a->pongs_direct >= 1);
	world_set_relay(p.w, 1, false);
	world_set_one_way(p.w, p.a, p.b, true);
	check(paths_ping(p.a->paths, p.a->peer[p.b->id], 3, world_now(p.w)) == 0);
	world_run(p.w, 6 * S);
	check(p.a->pongs == 3);
	world_destroy(p.w);
}

/* Control is told when something changed and not for every report. */
static void scene_quiet_control(uint64_t seed)
{
	struct pair p = start(seed, NAT_EASY, NAT_HARD, 0);
	unsigned changes;

	world_run(p.w, 60 * S);
	changes = p.a->self_changes;
	check(changes >= 1 && changes <= 4);
	world_run(p.w, 400 * S > WORLD_SEQ_MAX * EVERY_NS ? 100 * S : 400 * S);
	check(p.a->self_changes == changes);
	check(p.a->home_changes == 1);
	check(paths_home(p.a->paths) == 1);
	check(paths_report(p.a->paths)->mapping_varies == NETCHECK_NO);
	check(paths_report(p.b->paths)->mapping_varies == NETCHECK_YES);
	world_destroy(p.w);
}

/* Its host still answers probes, but nobody can connect: another is home within 10 s, and stays. */
static void scene_home_dies(uint64_t seed)
{
	struct pair p = start(seed, NAT_EASY, NAT_HARD, 0);
	unsigned told;

	world_run(p.w, 20 * S);
	check(paths_home(p.a->paths) == 1 && paths_home(p.b->paths) == 1);
	told = p.a->self_changes;
	world_set_relay(p.w, 1, false);
	world_run(p.w, 4 * S); /* a relay may restart */
	check(p.a->home_changes == 1);
	world_run(p.w, 6 * S);
	check(paths_home(p.a->paths) == 2 && paths_home(p.b->paths) == 2);
	check(p.a->home_changes == 2 && p.a->self_changes == told + 1);
	world_run(p.w, 100 * S);
	check(p.a->home_changes == 2 && p.b->home_changes == 2);
	world_destroy(p.w);
}

/* A restart of the home relay is none of the world's business. */
static void scene_home_restarts(uint64_t seed)
{
	struct pair p = start(seed, NAT_EASY, NAT_HARD, 0);

	world_run(p.w, 20 * S);
	world_set_relay(p.w, 1, false);
	world_run(p.w, 4 * S);
	world_set_relay(p.w, 1, true);
	world_run(p.w, 60 * S);
	check(p.a->home_changes == 1 && p.b->home_changes == 1);
	world_destroy(p.w);
}

static const struct {
	const char *name;
	void (*run)(uint64_t seed);
} scenes[] = {
	{ "direct", scene_direct },
	{ "relay", scene_relay },
	{ "lazy-partner", scene_lazy_partner },
	{ "move", scene_move },
	{ "rebind", scene_rebind },
	{ "silent-move", scene_silent_move },
	{ "relay-dies", scene_relay_dies },
	{ "udp-dies", scene_udp_dies },
	{ "idle", scene_idle },
	{ "loss", scene_loss },
	{ "ping", scene_ping },
	{ "quiet-control", scene_quiet_control },
	{ "home-dies", scene_home_dies },
	{ "home-restarts", scene_home_restarts },
};

int main(int argc, char **argv)
{
	unsigned long first = 1, last = 10;
	const char *only = NULL;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
			char *end;

			first = last = strtoul(argv[++i], &end, 10);
			if (*end == '-')
				last = strtoul(end + 1, NULL, 10);
		} else if (strcmp(argv[i], "--scene") == 0 && i + 1 < argc) {
			only = argv[++i];
		} else if (strcmp(argv[i], "--verbose") == 0) {
			is_verbose = true;
		}
	}
	if (sodium_init() < 0)
		return 2;
	for (unsigned i = 0; i < ARRAY_LEN(scenes); i++) {
		for (unsigned long seed = first; seed <= last; seed++) {
			scene_name = scenes[i].name;
			scene_seed = seed;
			if (!only || strcmp(only, scene_name) == 0)
				scenes[i].run(seed * 1000);
		}
	}
	printf("%u failures\n", failures);
	return failures ? 1 : 0;
}
