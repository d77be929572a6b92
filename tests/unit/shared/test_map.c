/* Reading the shared map: look-ups, torn and hostile content, life and death of the writer. */
#include "shared/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/util.h"

static struct ip_addr ip(const char *text)
{
	struct ip_addr a;

	assert_int_equal(ip_parse(text, &a), 0);
	return a;
}

static void add_range(struct map *map, const char *first, const char *last, uint32_t mirror,
		      uint32_t count)
{
	struct map_directory *d = &map->dir[0];

	d->ranges[d->range_count] =
		(struct map_range){ ip(first), ip(last), mirror, mirror ? count : 0 };
	if (mirror) {
		d->mirrors[d->mirror_count].first = mirror;
		d->mirrors[d->mirror_count++].range = d->range_count;
	}
	d->range_count++;
}

static void add_name(struct map *map, uint32_t off, const char *name, uint32_t flags,
		     const char *v4, const char *v6)
{
	struct map_name *n = &map->dir[0].names[map->dir[0].name_count++];

	n->name_off = off;
	n->flags = flags;
	strcpy(map->dir[0].text + off, name);
	if (v4)
		n->v4 = ip(v4);
	if (v6)
		n->v6 = ip(v6);
}

/* 100.64/10 and two IPv6 addresses are the mesh; 10.9/16 belongs to it but leads nowhere. */
static int make_map(void **state)
{
	struct map *map =
		mmap(NULL, sizeof(*map), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return -1;
	map->magic = MAP_MAGIC;
	map->version = MAP_VERSION;
	map->size = sizeof(*map);
	map->dir[0].own[0] = (struct map_own){ ip("100.64.0.2"), 0x7f400002, 10 };
	map->dir[0].own[1] = (struct map_own){ ip("fd7a::2"), 0x7f800001, 64 };
	map->dir[0].own_count = 2;
	add_range(map, "10.9.0.0", "10.9.255.255", 0, 0);
	add_range(map, "100.64.0.0", "100.127.255.255", 0x7f400000, 1u << 22);
	add_range(map, "fd7a::2", "fd7a::2", 0x7f800001, 1);
	add_range(map, "fd7a::3", "fd7a::3", 0x7f800002, 1);
	add_name(map, 0, "node-a", MAP_NAME_SELF, "100.64.0.2", "fd7a::2");
	add_name(map, 10, "node-a.mesh", MAP_NAME_SELF | MAP_NAME_CANONICAL, "100.64.0.2",
		 "fd7a::2");
	add_name(map, 30, "node-b", 0, "100.64.0.3", "fd7a::3");
	add_name(map, 40, "node-b.mesh", MAP_NAME_CANONICAL, "100.64.0.3", "fd7a::3");
	*state = map;
	return 0;
}

static int drop_map(void **state)
{
	return munmap(*state, sizeof(struct map));
}

static void test_mesh_addresses_and_mirrors_are_one_to_one(void **state)
{
	static const struct {
		const char *mesh;
		uint32_t mirror;
		enum map_verdict verdict;
	} cases[] = {
		{ "100.64.0.0", 0x7f400000, MAP_PEER }, { "100.64.0.2", 0x7f400002, MAP_OWN },
		{ "100.90.1.7", 0x7f5a0107, MAP_PEER }, { "100.127.255.255", 0x7f7fffff, MAP_PEER },
		{ "fd7a::2", 0x7f800001, MAP_OWN },     { "fd7a::3", 0x7f800002, MAP_PEER },
	};
	struct map *map = *state;
	struct ip_addr mesh, back;
	uint32_t mirror;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		mesh = ip(cases[i].mesh);
		assert_int_equal(map_to_mirror(map, &mesh, &mirror), cases[i].verdict);
		assert_int_equal(mirror, cases[i].mirror);
		assert_true(map_from_mirror(map, mirror, &back));
		assert_true(ip_equal(&mesh, &back));
	}
}

static void test_other_addresses_are_left_alone(void **state)
{
	static const char *const outside[] = { "0.0.0.0",     "8.8.8.8",         "100.63.255.255",
					       "100.128.0.0", "255.255.255.255", "127.64.0.2",
					       "::1",         "fd7a::1",         "fd7a::4" };
	struct map *map = *state;
	struct ip_addr mesh = ip("10.9.1.1");
	uint32_t mirror;

	assert_int_equal(map_to_mirror(map, &mesh, &mirror), MAP_NO_MIRROR);
	for (size_t i = 0; i < ARRAY_LEN(outside); i++) {
		mesh = ip(outside[i]);
		assert_int_equal(map_to_mirror(map, &mesh, &mirror), MAP_OUTSIDE);
	}
	assert_false(map_from_mirror(map, 0x7f000001, &mesh));
	assert_false(map_from_mirror(map, 0x7f3fffff, &mesh));
	assert_false(map_from_mirror(map, 0x7f800003, &mesh));
	assert_false(map_from_mirror(map, 0xffffffff, &mesh));
}

/* Any number of ranges of each family: an address is found exactly if a range has it. */
static void test_ranges_are_found_among_any_number_of_others(void **state)
{
	struct map *map = *state;
	struct map_directory *d = &map->dir[0];
	uint32_t mirror;

	for (uint32_t v4 = 0; v4 < 12; v4++)
		for (uint32_t v6 = 0; v6 < 12; v6++) {
			d->range_count = 0;
			for (uint32_t i = 0; i < v4 + v6; i++) {
				struct ip_addr a = ip("fd7a::");

				if (i < v4)
					a = ip_from_v4(0x0a000000 + 10 * i);
				else
					a.byte[15] = (uint8_t)(10 * i);
				d->ranges[d->range_count++] = (struct map_range){ a, a, 0, 0 };
			}
			for (uint32_t n = 0; n < 130; n++) {
				struct ip_addr a = ip_from_v4(0x0a000000 + n), b = ip("fd7a::");

				b.byte[15] = (uint8_t)n;
				assert_int_equal(map_to_mirror(map, &a, &mirror),
						 n % 10 == 0 && n / 10 < v4 ? MAP_NO_MIRROR
									    : MAP_OUTSIDE);
				assert_int_equal(map_to_mirror(map, &b, &mirror),
						 n % 10 == 0 && n / 10 >= v4 && n / 10 < v4 + v6
							 ? MAP_NO_MIRROR
							 : MAP_OUTSIDE);
			}
		}
}

static void test_own_addresses_are_found_by_family(void **state)
{
	struct map_own own;

	assert_true(map_own(*state, false, &own));
	assert_int_equal(own.mirror, 0x7f400002);
	assert_true(map_own(*state, true, &own));
	assert_int_equal(own.mirror, 0x7f800001);
	((struct map *)*state)->dir[0].own_count = 1;
	assert_false(map_own(*state, true, &own));
	assert_false(map_own_at(*state, 1, &own));
}

static void test_names_are_found_in_any_case_and_with_a_dot(void **state)
{
	static const char *const good[] = { "node-b", "NODE-B", "node-b.", "Node-B.Mesh",
					    "node-b.mesh." };
	static const char *const bad[] = {
		"", ".", "node", "node-bb", "node-b.mes", "node-b.mesh.x"
	};
	struct map_name found;
	char longest[300];

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_true(map_find_name(*state, good[i], &found));
		assert_int_equal(ip_v4(&found.v4), 0x64400003);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(map_find_name(*state, bad[i], &found));
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_false(map_find_name(*state, longest, &found));
}

static void test_a_reverse_look_up_gives_the_full_name(void **state)
{
	struct ip_addr v6 = ip("fd7a::3"), v4 = ip("100.64.0.3"), none = ip("100.64.0.9"), answer;
	char name[MAP_NAME_MAX];

	assert_true(map_name_of(*state, &v6, name));
	assert_string_equal(name, "node-b.mesh");
	assert_true(map_name_of(*state, &v4, name));
	assert_string_equal(name, "node-b.mesh");
	assert_false(map_name_of(*state, &none, name));
	assert_true(map_v4_of_v6(*state, &v6, &answer));
	assert_true(ip_equal(&answer, &v4));
	assert_false(map_v4_of_v6(*state, &none, &answer));
}

static void test_flows_are_found_by_both_ends(void **state)
{
	const struct map_ends ends = { 0x7f400002, 0x7f400003, 40000, 62000 };
	struct map_ends others[] = { ends, ends, ends, ends };
	struct map *map = *state;
	uint32_t slot = map_flow_slot(&ends);
	struct map_flow found;

	assert_false(map_find_flow(map, &ends, &found));
	/* A used and freed slot does not end the chain. */
	map->flows[slot] = (struct map_flow){ .state = MAP_FLOW_FREE, .generation = 3 };
	map->flows[(slot + 1) % MAP_FLOW_SLOTS] = (struct map_flow){
		.state = MAP_FLOW_FAILED, .ends = ends, .error = ECONNREFUSED, .generation = 1
	};
	assert_true(map_find_flow(map, &ends, &found));
	assert_int_equal(found.error, ECONNREFUSED);
	others[0].local_addr++;
	others[1].local_port++;
	others[2].peer_addr++;
	others[3].peer_port++;
	for (unsigned i = 0; i < ARRAY_LEN(others); i++)
		assert_false(map_find_flow(map, &others[i], &found));
	atomic_store(&map->flows[(slot + 1) % MAP_FLOW_SLOTS].seq, 1); /* being written for ever */
	assert_false(map_find_flow(map, &ends, &found));
}

static void test_pairs_are_found_past_deleted_ones(void **state)
{
	struct map *map = *state;
	uint64_t key = map_pack(0x7f400003, 53);
	uint32_t slot = map_pair_slot(key), addr;
	uint16_t port;

	map->pair_count[MAP_UDP_OUT] = 1;
	assert_false(map_find_pair(map, MAP_UDP_OUT, 0x7f400003, 53, &addr, &port));
	map->pairs[MAP_UDP_OUT][slot].key = MAP_PAIR_GONE;
	map->pairs[MAP_UDP_OUT][(slot + 1) % MAP_PAIR_SLOTS].key = key;
	map->pairs[MAP_UDP_OUT][(slot + 1) % MAP_PAIR_SLOTS].value = map_pack(0xffffffff, 65535);
	assert_true(map_find_pair(map, MAP_UDP_OUT, 0x7f400003, 53, &addr, &port));
	assert_int_equal(addr, 0xffffffff);
	assert_int_equal(port, 65535);
	assert_false(map_find_pair(map, MAP_UDP_IN, 0x7f400003, 53, &addr, &port));
	map->pair_count[MAP_UDP_OUT] = 0;
	assert_false(map_find_pair(map, MAP_UDP_OUT, 0x7f400003, 53, &addr, &port));
}

static void test_a_directory_that_is_being_written_is_not_looked_at(void **state)
{
	struct map *map = *state;
	struct ip_addr mesh = ip("100.64.0.3");
	struct map_name found;
	uint32_t mirror;

	memset(&map->dir[1], 0xff, sizeof(map->dir[1]));
	assert_int_equal(map_to_mirror(map, &mesh, &mirror), MAP_PEER);
	assert_true(map_find_name(map, "node-b", &found));
	/* Its turn: readers see it, whatever it is. */
	memset(&map->dir[1], 0, sizeof(map->dir[1]));
	atomic_store(&map->turn, 1);
	assert_int_equal(map_to_mirror(map, &mesh, &mirror), MAP_OUTSIDE);
	assert_false(map_find_name(map, "node-b", &found));
}

static uint32_t put(struct map *map, const char *text)
{
	static uint32_t used = 4096;
	uint32_t at = used;

	strcpy(map->dir[0].text + at, text);
	used += (uint32_t)strlen(text) + 1;
	return at;
}

static void test_the_longest_suffix_says_who_knows_a_name(void **state)
{
	struct map *map = *state;
	struct map_directory *d = &map->dir[0];
	char domain[MAP_NAME_MAX];

	assert_int_equal(map_suffix_of(map, "www.example.org"), MAP_SUFFIX_NONE);
	d->suffixes[d->suffix_count++] = (struct map_suffix){ put(map, "corp.example"), 0 };
	d->suffixes[d->suffix_count++] = (struct map_suffix){ put(map, "in.corp.example"), 1 };
	d->suffixes[d->suffix_count++] = (struct map_suffix){ put(map, "mesh"), 1 };
	assert_int_equal(map_suffix_of(map, "Node.MESH."), MAP_SUFFIX_ZONE);
	assert_int_equal(map_suffix_of(map, "mesh"), MAP_SUFFIX_ZONE);
	assert_int_equal(map_suffix_of(map, "xmesh"), MAP_SUFFIX_NONE);
	assert_int_equal(map_suffix_of(map, "a.b.corp.example"), MAP_SUFFIX_ROUTE);
	assert_int_equal(map_suffix_of(map, "xcorp.example"), MAP_SUFFIX_NONE);
	assert_int_equal(map_suffix_of(map, "a.in.corp.example"), MAP_SUFFIX_ZONE);
	memmove(d->suffixes + 1, d->suffixes, d->suffix_count * sizeof(d->suffixes[0]));
	d->suffixes[0] = (struct map_suffix){ put(map, ""), 0 };
	d->suffix_count++;
	assert_int_equal(map_suffix_of(map, "www.example.org"), MAP_SUFFIX_DEFAULT);
	assert_int_equal(map_suffix_of(map, ""), MAP_SUFFIX_NONE);
	d->search[d->search_count++] = d->suffixes[3].name_off;
	assert_true(map_search_domain(map, 0, domain));
	assert_string_equal(domain, "mesh");
	assert_false(map_search_domain(map, 1, domain));
}

static void test_a_name_with_several_addresses_has_several_entries(void **state)
{
	struct map *map = *state;
	struct ip_addr second = ip("10.0.0.9");
	struct map_name found[4];

	assert_int_equal(map_find_names(map, "node-b", found, 4), 1);
	map->dir[0].names[map->dir[0].name_count] = map->dir[0].names[map->dir[0].name_count - 1];
	map->dir[0].names[map->dir[0].name_count++].v4 = second;
	assert_true(map_find_names(map,
				   map->dir[0].text +
					   map->dir[0].names[map->dir[0].name_count - 1].name_off,
				   found, 4) == 2);
	assert_true(ip_equal(&found[1].v4, &second));
}

static void test_name_servers_have_mirrors_apart_from_the_mesh(void **state)
{
	struct map *map = *state;
	struct ip_addr server = ip("127.0.0.53"), other = ip("127.0.0.54"), back;
	uint32_t mirror;

	assert_false(map_server_mirror(map, &server, &mirror));
	map->dir[0].servers[map->dir[0].server_count++] = (struct map_server){ server, 0x7f900001 };
	assert_true(map_server_mirror(map, &server, &mirror));
	assert_int_equal(mirror, 0x7f900001);
	assert_false(map_server_mirror(map, &other, &mirror));
	assert_int_equal(map_to_mirror(map, &server, &mirror), MAP_OUTSIDE);
	assert_true(map_from_mirror(map, 0x7f900001, &back));
	assert_true(ip_equal(&back, &server));
}

static void test_hostile_counts_and_offsets_stay_inside_the_map(void **state)
{
	struct map *map = *state;
	struct ip_addr mesh = ip("200.1.1.1");
	struct map_name found;
	struct map_range range;
	struct map_own own;
	uint32_t mirror;
	char name[MAP_NAME_MAX];

	memset(map->dir, 0xff, sizeof(map->dir));
	assert_int_not_equal(map_to_mirror(map, &mesh, &mirror), MAP_OWN);
	assert_false(map_from_mirror(map, 0x7f400003, &mesh));
	assert_false(map_find_name(map, "node-b", &found));
	mesh = map->dir[0].names[0].v6;
	map_name_of(map, &mesh, name);
	assert_true(map_own_at(map, MAP_MAX_OWN - 1, &own));
	assert_false(map_own_at(map, MAP_MAX_OWN, &own));
	assert_true(map_range_at(map, MAP_MAX_RANGES - 1, &range));
	assert_false(map_range_at(map, MAP_MAX_RANGES, &range));
	/* With a range that holds everything our own addresses are looked through. */
	map->dir[0].ranges[0].first = ip("0.0.0.0");
	mesh = ip("200.1.1.1");
	assert_int_equal(map_to_mirror(map, &mesh, &mirror), MAP_PEER);
}

static void test_a_map_of_another_shape_is_not_taken(void **state)
{
	struct map *map = *state;

	assert_true(map_is_valid(map, sizeof(*map)));
	assert_false(map_is_valid(map, sizeof(*map) - 1));
	map->version++;
	assert_false(map_is_valid(map, sizeof(*map)));
	map->version--;
	map->size--;
	assert_false(map_is_valid(map, sizeof(*map)));
}

/* As the daemon does it: a robust mutex, held for life; its futex word holds the thread's id. */
static void hold_mutex(struct map *map)
{
	pthread_mutex_t *mutex = (pthread_mutex_t *)map->mutex;
	pthread_mutexattr_t attr;
	uint32_t word, off;

	assert_true(sizeof(*mutex) <= sizeof(map->mutex));
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &attr);
	pthread_mutex_lock(mutex);
	for (off = 0; off < sizeof(map->mutex); off += 4) {
		memcpy(&word, map->mutex + off, 4);
		if (word == (uint32_t)getpid())
			break;
	}
	atomic_store(&map->life_off, (uint32_t)offsetof(struct map, mutex) + off);
}

static void test_the_map_knows_when_its_writer_was_killed(void **state)
{
	struct map *map = *state;
	int ready[2], status;
	pid_t child;
	char c;

	assert_false(map_is_alive(map));
	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		hold_mutex(map);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_true(map_is_alive(map));
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_false(map_is_alive(map));
	atomic_store(&map->life_off, 0xfffffff0);
	assert_false(map_is_alive(map));
	close(ready[0]);
	close(ready[1]);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_map, drop_map)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_mesh_addresses_and_mirrors_are_one_to_one),
		T(test_other_addresses_are_left_alone),
		T(test_ranges_are_found_among_any_number_of_others),
		T(test_own_addresses_are_found_by_family),
		T(test_names_are_found_in_any_case_and_with_a_dot),
		T(test_a_reverse_look_up_gives_the_full_name),
		T(test_flows_are_found_by_both_ends),
		T(test_pairs_are_found_past_deleted_ones),
		T(test_a_directory_that_is_being_written_is_not_looked_at),
		T(test_the_longest_suffix_says_who_knows_a_name),
		T(test_a_name_with_several_addresses_has_several_entries),
		T(test_name_servers_have_mirrors_apart_from_the_mesh),
		T(test_hostile_counts_and_offsets_stay_inside_the_map),
		T(test_a_map_of_another_shape_is_not_taken),
		T(test_the_map_knows_when_its_writer_was_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
