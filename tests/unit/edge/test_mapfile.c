/* The map's writer against its readers, in this process and in others. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/edge/mapfile.h"
#include "shared/util.h"

static char dir[64], path[80];

static const struct map_ends some_ends = { .peer_addr = 0x7f400002, .peer_port = 61234 };

/* Flows that differ in their local ends only. */
static struct map_ends ends_of(uint32_t local_addr, uint16_t local_port)
{
	struct map_ends ends = some_ends;

	ends.local_addr = local_addr;
	ends.local_port = local_port;
	return ends;
}

static int begin(struct mapfile *mf, uint32_t local_addr, uint16_t local_port,
		 const struct endpoint *remote, struct mapfile_flow *flow)
{
	struct map_ends ends = ends_of(local_addr, local_port);

	return mapfile_flow_begin(mf, &ends, remote, flow);
}

static bool find(const struct map *map, uint32_t local_addr, uint16_t local_port,
		 struct map_flow *found)
{
	struct map_ends ends = ends_of(local_addr, local_port);

	return map_find_flow(map, &ends, found);
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/meshwrap-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/map", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(path);
	rmdir(dir);
	return 0;
}

static struct mapfile *open_map(void)
{
	struct mapfile *mf = NULL;

	assert_int_equal(mapfile_open(dir, false, &mf), 0);
	return mf;
}

/* As a wrapped program maps it. */
static const struct map *read_map(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	const struct map *map;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	map = mmap(NULL, sizeof(*map), PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	close(fd);
	assert_true(map_is_valid(map, (uint64_t)st.st_size));
	return map;
}

static void unmap(const struct map *map)
{
	munmap((void *)map, sizeof(*map));
}

static void test_a_map_lives_as_long_as_its_writer(void **state)
{
	struct mapfile *mf = open_map();
	const struct map *map = read_map();
	struct stat st;

	(void)state;
	assert_true(map_is_alive(map));
	assert_int_equal(map->ready, 0);
	mapfile_set_ready(mf, true);
	assert_int_equal(map->ready, 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	mapfile_close(mf);
	assert_false(map_is_alive(map));
	assert_int_equal(map->ready, 0);
	unmap(map);
}

static void fill_and_die(bool killed)
{
	struct endpoint remote = { ip_from_v4(0x64400002), 80 };
	struct mapfile *mf = open_map();
	struct mapfile_flow flow;

	mapfile_set_dial_ports(mf, 61234, 61235);
	mapfile_set_ready(mf, true);
	begin(mf, 0x7f400001, 1000, &remote, &flow);
	begin(mf, 0x7f400001, 1001, &remote, &flow);
	mapfile_flow_set(mf, &flow, MAP_FLOW_OPEN, 0);
	mapfile_pair_set(mf, MAP_UDP_OUT, map_pack(1, 2), map_pack(3, 4));
	if (killed)
		raise(SIGKILL);
	_exit(0);
}

static void die_in_a_child(bool killed)
{
	int status;
	pid_t child = fork();

	if (child == 0)
		fill_and_die(killed);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(killed ? WIFSIGNALED(status) : status == 0);
}

static void test_a_killed_writer_is_seen_dead_and_its_successor_takes_over(void **state)
{
	struct map_flow flow;
	struct mapfile *mf;
	const struct map *map;
	uint64_t boot_id;
	uint32_t addr;
	uint16_t port;

	(void)state;
	for (int killed = 0; killed < 2; killed++) {
		die_in_a_child(killed);
		map = read_map();
		assert_false(map_is_alive(map));
		assert_true(map_find_pair(map, MAP_UDP_OUT, 1, 2, &addr, &port));
		boot_id = map->boot_id;
		mf = open_map();
		/* The same file, so the old mapping sees the new daemon. */
		assert_true(map_is_alive(map));
		assert_int_equal(map->ready, 0);
		assert_int_equal(mapfile_hold_port(mf), 61234);
		assert_int_equal(mapfile_dial_port(mf), 61235);
		assert_true(map->boot_id != boot_id);
		assert_false(map_find_pair(map, MAP_UDP_OUT, 1, 2, &addr, &port));
		assert_true(find(map, 0x7f400001, 1000, &flow));
		assert_int_equal(flow.state, MAP_FLOW_FAILED);
		assert_int_equal(flow.error, ECONNRESET);
		assert_true(find(map, 0x7f400001, 1001, &flow));
		assert_int_equal(flow.state, MAP_FLOW_OPEN);
		unmap(map);
		mapfile_close(mf);
	}
}

static void test_what_a_writer_left_half_written_is_made_whole(void **state)
{
	struct mapfile *mf = open_map();
	struct map *map = (struct map *)mapfile_map(mf);
	struct endpoint remote = { ip_from_v4(0x64400002), 80 };
	struct mapfile_flow flow;
	struct map_flow found;
	uint32_t mirror;

	(void)state;
	assert_int_equal(begin(mf, 0x7f400001, 7, &remote, &flow), 0);
	memset(&map->dir[(map->turn + 1) & 1], 0xff, sizeof(map->dir[0]));
	map->flows[flow.slot].seq |= 1;
	assert_false(find(map, 0x7f400001, 7, &found));
	assert_int_equal(map_to_mirror(map, &remote.addr, &mirror), MAP_OUTSIDE);
	mapfile_close(mf);
	mf = open_map();
	map = (struct map *)mapfile_map(mf);
	assert_int_equal(map_to_mirror(map, &remote.addr, &mirror), MAP_OUTSIDE);
	assert_true(find(map, 0x7f400001, 7, &found));
	assert_int_equal(found.state, MAP_FLOW_FAILED);
	mapfile_close(mf);
}

static void spoil(off_t at, uint32_t value)
{
	int fd = open(path, O_RDWR);

	assert_int_equal(pwrite(fd, &value, sizeof(value), at), sizeof(value));
	close(fd);
}

static void test_a_file_of_another_version_or_size_is_retired(void **state)
{
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		struct mapfile *mf = open_map();
		const struct map *old, *map;

		mapfile_close(mf);
		old = read_map();
		if (kind == 0)
			spoil(offsetof(struct map, version), MAP_VERSION + 1);
		else
			assert_int_equal(truncate(path, kind == 1 ? 4096 : sizeof(*old) + 4096), 0);
		mf = open_map();
		map = read_map();
		assert_int_equal(old->retired, 1);
		assert_int_equal(map->retired, 0);
		assert_true(map_is_alive(map));
		unmap(old);
		unmap(map);
		mapfile_close(mf);
	}
}

static void test_what_is_no_file_of_ours_is_an_error(void **state)
{
	struct mapfile *mf = NULL;
	char fresh[96];

	(void)state;
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(mapfile_open(dir, false, &mf), -ELOOP);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mapfile_open(dir, false, &mf), -EISDIR);
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(mapfile_open(dir, false, &mf), -EINVAL);
	unlink(path);
	/* A left-over of a start that was cut short is no obstacle, a folder is. */
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	close(open(fresh, O_CREAT | O_WRONLY, 0600));
	mf = open_map();
	mapfile_close(mf);
	unlink(path);
	assert_int_equal(mkdir(fresh, 0700), 0);
	assert_int_equal(mapfile_open(dir, false, &mf), -EISDIR);
	rmdir(fresh);
	assert_int_equal(mapfile_open("/nowhere/at/all", false, &mf), -ENOENT);
}

static void test_flows_from_one_port_have_slots_of_their_own(void **state)
{
	struct endpoint one = { ip_from_v4(1), 80 }, two = { ip_from_v4(2), 81 };
	struct map_ends first = ends_of(5, 6), second = first;
	struct mapfile *mf = open_map();
	struct mapfile_flow flow[2];
	struct map_flow found;

	(void)state;
	second.peer_addr++;
	assert_int_equal(mapfile_flow_begin(mf, &first, &one, &flow[0]), 0);
	assert_int_equal(mapfile_flow_begin(mf, &second, &two, &flow[1]), 0);
	mapfile_flow_set(mf, &flow[0], MAP_FLOW_FAILED, ECONNREFUSED);
	mapfile_flow_set(mf, &flow[1], MAP_FLOW_FAILED, ETIMEDOUT);
	mapfile_flow_end(mf, &flow[0]);
	mapfile_flow_end(mf, &flow[1]);
	assert_true(map_find_flow(mapfile_map(mf), &first, &found));
	assert_int_equal(found.error, ECONNREFUSED);
	assert_int_equal(found.remote_port, 80);
	assert_true(map_find_flow(mapfile_map(mf), &second, &found));
	assert_int_equal(found.error, ETIMEDOUT);
	assert_int_equal(found.remote_port, 81);
	mapfile_close(mf);
}

/* There are many more ends than slots: all slots have been used one day. */
static void test_flows_are_found_at_once_however_many_there_were(void **state)
{
	enum { ALL = 400000, LIVE = 2000, LAST = 4000 };
	struct endpoint remote = { ip_from_v4(1), 80 };
	struct mapfile *mf = open_map();
	struct mapfile_flow *flows = calloc(ALL, sizeof(*flows));
	struct map_ends *ends = calloc(ALL, sizeof(*ends));
	struct map_flow found;
	unsigned far = 0, unused = 0;

	(void)state;
	srand(7);
	for (uint32_t i = 0; i < ALL; i++) {
		ends[i] = ends_of(0x7f400001, (uint16_t)(32768 + i % 28232));
		ends[i].peer_addr += (uint32_t)rand() % 1000;
		assert_int_equal(mapfile_flow_begin(mf, &ends[i], &remote, &flows[i]), 0);
		mapfile_flow_set(mf, &flows[i], MAP_FLOW_FAILED, (int)(i % 100 + 1));
		if (i >= LIVE)
			mapfile_flow_end(mf, &flows[i - LIVE]);
	}
	for (uint32_t i = 0; i < MAP_FLOW_SLOTS; i++)
		unused += mapfile_map(mf)->flows[i].generation == 0;
	assert_true(unused < MAP_FLOW_SLOTS / 10);
	for (uint32_t i = ALL - LAST; i < ALL; i++) {
		assert_true(map_find_flow(mapfile_map(mf), &ends[i], &found));
		assert_int_equal(found.error, i % 100 + 1);
		for (uint32_t at = map_flow_slot(&ends[i]);
		     !map_ends_equal(&mapfile_map(mf)->flows[at].ends, &ends[i]);
		     at = (at + 1) % MAP_FLOW_SLOTS)
			far++;
	}
	/* In the mean: less than one slot beside its own. */
	assert_true(far < LAST);
	free(flows);
	free(ends);
	mapfile_close(mf);
}

static void test_a_flow_of_the_same_port_takes_the_slot_of_the_old(void **state)
{
	struct endpoint one = { ip_from_v4(1), 80 }, two = { ip_from_v4(2), 81 };
	struct mapfile *mf = open_map();
	struct mapfile_flow old, new;
	struct map_flow found;

	(void)state;
	assert_int_equal(begin(mf, 5, 6, &one, &old), 0);
	assert_int_equal(begin(mf, 5, 6, &two, &new), 0);
	assert_int_equal(old.slot, new.slot);
	mapfile_flow_set(mf, &old, MAP_FLOW_FAILED, EIO); /* too late, ignored */
	mapfile_flow_end(mf, &old);
	assert_true(find(mapfile_map(mf), 5, 6, &found));
	assert_int_equal(found.state, MAP_FLOW_HELD);
	assert_int_equal(found.remote_port, 81);
	mapfile_flow_set(mf, &new, MAP_FLOW_FAILED, ETIMEDOUT);
	mapfile_flow_end(mf, &new);
	assert_true(find(mapfile_map(mf), 5, 6, &found));
	assert_int_equal(found.error, ETIMEDOUT);
	mapfile_close(mf);
}

static void test_live_flows_are_never_pushed_out_and_ended_ones_oldest_first(void **state)
{
	struct endpoint remote = { ip_from_v4(1), 80 };
	struct mapfile *mf = open_map();
	struct mapfile_flow *flows = calloc(MAP_FLOW_SLOTS, sizeof(*flows)), more;
	struct map_flow found;
	unsigned made = 0;

	(void)state;
	for (uint32_t i = 0; i < MAP_FLOW_SLOTS; i++)
		if (begin(mf, 0x7f000000 + (i >> 10), (uint16_t)(i & 1023), &remote, &flows[i]) ==
		    0)
			made++;
	/* Nearly full before the first one finds no place near its own. */
	assert_true(made > MAP_FLOW_SLOTS * 9 / 10);
	for (uint32_t i = 0; i < MAP_FLOW_SLOTS; i++)
		if (flows[i].generation)
			assert_true(find(mapfile_map(mf), 0x7f000000 + (i >> 10),
					 (uint16_t)(i & 1023), &found));
	for (uint32_t i = 0; i < MAP_FLOW_SLOTS; i++)
		mapfile_flow_end(mf, &flows[i]);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(begin(mf, 9, (uint16_t)i, &remote, &more), 0);
	for (uint32_t i = 0; i < 1000; i++)
		assert_true(find(mapfile_map(mf), 9, (uint16_t)i, &found));
	/* The youngest of the ended ones are all still there. */
	for (uint32_t i = MAP_FLOW_SLOTS / 2; i < MAP_FLOW_SLOTS / 2 + 1000; i++)
		find(mapfile_map(mf), 0x7f000000 + (i >> 10), (uint16_t)(i & 1023), &found);
	free(flows);
	mapfile_close(mf);
}

static void test_pairs_come_and_go_like_a_simple_table(void **state)
{
	struct mapfile *mf = open_map();
	const struct map *map = mapfile_map(mf);
	static uint16_t model[20000];
	uint32_t addr;
	uint16_t port;
	unsigned count = 0;

	(void)state;
	srand(3);
	memset(model, 0, sizeof(model));
	for (int i = 0; i < 200000; i++) {
		uint32_t k = (uint32_t)rand() % ARRAY_LEN(model);

		if (rand() % 2) {
			uint16_t value = (uint16_t)(rand() % 65535 + 1);

			assert_int_equal(mapfile_pair_set(mf, MAP_TCP_IN, map_pack(k, 5),
							  map_pack(k, value)),
					 0);
			count += model[k] == 0;
			model[k] = value;
		} else {
			mapfile_pair_remove(mf, MAP_TCP_IN, map_pack(k, 5));
			count -= model[k] != 0;
			model[k] = 0;
		}
	}
	assert_int_equal(map->pair_count[MAP_TCP_IN], count);
	for (uint32_t k = 0; k < ARRAY_LEN(model); k++) {
		bool found = map_find_pair(map, MAP_TCP_IN, k, 5, &addr, &port);

		assert_int_equal(found, model[k] != 0);
		if (found) {
			assert_int_equal(addr, k);
			assert_int_equal(port, model[k]);
		}
		mapfile_pair_remove(mf, MAP_TCP_IN, map_pack(k, 5));
	}
	/* Tombstones before a free slot are cleared: none is left in an empty table. */
	for (uint32_t i = 0; i < MAP_PAIR_SLOTS; i++)
		assert_true(map->pairs[MAP_TCP_IN][i].key == 0);
	mapfile_close(mf);
}

static void test_a_full_table_of_pairs_says_so(void **state)
{
	struct mapfile *mf = open_map();
	uint32_t i;
	int err = 0;

	(void)state;
	for (i = 0; i <= MAP_PAIR_SLOTS && err == 0; i++)
		err = mapfile_pair_set(mf, MAP_UDP_IN, map_pack(i, 1), map_pack(i, 1));
	assert_int_equal(err, -ENOBUFS);
	assert_true(i > MAP_PAIR_SLOTS / 2);
	mapfile_close(mf);
}

/* ---- readers while it is written ---- */

static atomic_bool stop_reading;
static atomic_uint torn, seen;

static bool looks_whole(const struct map *map)
{
	struct ip_addr first = ip_from_v4(0x0a000000);
	struct map_flow flow;
	struct map_own own;
	uint32_t addr;
	uint16_t port;

	/* own[0].mirror and prefix_len are written together, so are flow and port. */
	if (map_own_at(map, 0, &own) &&
	    (own.mirror != own.prefix_len || !ip_equal(&own.addr, &first)))
		return false;
	if (find(map, 1, 1, &flow) && (uint32_t)flow.error != flow.remote_port &&
	    flow.state == MAP_FLOW_FAILED)
		return false;
	if (map_find_pair(map, MAP_UDP_OUT, 1, 1, &addr, &port) && addr != 1)
		return false;
	if (map_find_pair(map, MAP_UDP_OUT, 2, 2, &addr, &port) && addr != 2)
		return false;
	atomic_fetch_add(&seen, 1);
	return true;
}

static bool fill_up(void)
{
	static const char block[65536];
	char file[96];
	int fd;

	snprintf(file, sizeof(file), "%s/filler", dir);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	while (write(fd, block, sizeof(block)) > 0 || write(fd, block, 1) > 0)
		;
	close(fd);
	return errno == ENOSPC;
}

static struct map_directory *big_directory(uint32_t names)
{
	struct map_directory *d = calloc(1, sizeof(*d));

	d->name_count = names;
	d->text_len = 1;
	return d;
}

/* What a program looks at anywhere, and what the daemon writes: 0, or which step went wrong. */
static int use_map_of_full_folder(void)
{
	struct endpoint remote = { ip_from_v4(0x64400002), 80 };
	struct map_directory *big = big_directory(MAP_MAX_NAMES), *small = big_directory(1);
	struct mapfile_flow flow;
	struct mapfile *mf;
	const struct map *map;
	struct map_flow found;
	uint32_t addr;
	uint16_t port;

	if (mapfile_open(dir, false, &mf) != 0 || !fill_up())
		return 1;
	map = read_map();
	for (uint32_t i = 1; i < 5000; i++)
		if (find(map, i * 7919, (uint16_t)i, &found) ||
		    map_find_pair(map, MAP_UDP_OUT, i * 7919, (uint16_t)i, &addr, &port))
			return 2;
	for (uint32_t i = 1; i < 5000; i++) {
		if (begin(mf, i * 7919, (uint16_t)i, &remote, &flow) != 0 ||
		    mapfile_pair_set(mf, MAP_TCP_IN, map_pack(i * 7919, (uint16_t)i), 1) != 0)
			return 3;
		mapfile_flow_end(mf, &flow);
	}
	/* There is no room for a longer one; what was there stands, and can be written again. */
	if (mapfile_write_directory(mf, big) != -ENOSPC || map_dir(map)->name_count != 0)
		return 4;
	small->name_count = 0;
	small->text_len = 0;
	if (mapfile_write_directory(mf, small) != 0)
		return 5;
	mapfile_close(mf);
	return 0;
}

static void test_a_file_that_was_removed_is_made_anew(void **state)
{
	struct endpoint remote = { ip_from_v4(0x64400002), 80 };
	struct mapfile *mf = open_map();
	const struct map *old = read_map(), *map;
	struct map_directory *d = big_directory(2);
	struct mapfile_flow flow;
	struct map_flow found;
	uint32_t addr;
	uint16_t port;

	(void)state;
	mapfile_set_dial_ports(mf, 61234, 61235);
	assert_int_equal(mapfile_write_directory(mf, d), 0);
	assert_int_equal(begin(mf, 0x7f400001, 1000, &remote, &flow), 0);
	assert_int_equal(mapfile_pair_set(mf, MAP_UDP_OUT, map_pack(1, 2), map_pack(3, 4)), 0);
	mapfile_set_ready(mf, true);
	unlink(path);
	/* Where nothing can be made, all is as it was. */
	assert_int_equal(mapfile_renew(mf, "/nowhere/at/all", false), -ENOENT);
	assert_true(map_is_alive(old) && old->retired == 0);

	assert_int_equal(mapfile_renew(mf, dir, false), 0);
	map = read_map();
	assert_true(map_is_alive(map) && map->retired == 0 && map->ready);
	assert_true(!map_is_alive(old) && old->retired == 1);
	assert_int_equal(map->hold_port, 61234);
	assert_int_equal(map_dir(map)->name_count, 2);
	assert_true(find(map, 0x7f400001, 1000, &found) && found.state == MAP_FLOW_HELD);
	assert_true(map_find_pair(map, MAP_UDP_OUT, 1, 2, &addr, &port) && addr == 3 && port == 4);
	/* What is written from now on is written there. */
	mapfile_flow_set(mf, &flow, MAP_FLOW_OPEN, 0);
	assert_true(find(map, 0x7f400001, 1000, &found) && found.state == MAP_FLOW_OPEN);
	assert_true(find(old, 0x7f400001, 1000, &found) && found.state == MAP_FLOW_HELD);
	mapfile_close(mf);
	assert_false(map_is_alive(map));
	unmap(old);
	unmap(map);
	free(d);
}

/* tmpfs, where even a look at a hole takes room: where there is none, who looks is killed. */
static void test_a_full_file_system_kills_nobody(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) != 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("none", dir, "tmpfs", 0, "size=8m,mode=700") != 0)
			_exit(77);
		_exit(use_map_of_full_folder());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip(); /* needs root */
	assert_int_equal(status, 0);
}

static void test_a_map_without_room_is_not_begun(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct mapfile *mf;

		if (unshare(CLONE_NEWNS) != 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("none", dir, "tmpfs", 0, "size=2m,mode=700") != 0)
			_exit(77);
		_exit(mapfile_open(dir, false, &mf) == -ENOSPC && access(path, F_OK) < 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static void *read_on(void *arg)
{
	while (!atomic_load(&stop_reading))
		if (!looks_whole(arg))
			atomic_fetch_add(&torn, 1);
	return NULL;
}

static void write_once(struct mapfile *mf, struct map_directory *dir_now, uint32_t i)
{
	struct endpoint remote = { ip_from_v4(i), (uint16_t)(i % UINT8_MAX + 1) };
	struct mapfile_flow flow;

	dir_now->own[0].mirror = dir_now->own[0].prefix_len = i;
	mapfile_write_directory(mf, dir_now);
	begin(mf, 1, 1, &remote, &flow);
	mapfile_flow_set(mf, &flow, MAP_FLOW_FAILED, remote.port);
	mapfile_flow_end(mf, &flow);
	/* Two keys take turns in what may be one slot. */
	mapfile_pair_set(mf, MAP_UDP_OUT, map_pack(1, 1), map_pack(1, (uint16_t)i));
	mapfile_pair_remove(mf, MAP_UDP_OUT, map_pack(1, 1));
	mapfile_pair_set(mf, MAP_UDP_OUT, map_pack(2, 2), map_pack(2, (uint16_t)i));
	mapfile_pair_remove(mf, MAP_UDP_OUT, map_pack(2, 2));
}

static void test_readers_never_see_half_of_a_change(void **state)
{
	struct mapfile *mf = open_map();
	struct map_directory *now = calloc(1, sizeof(*now));
	const struct map *map = read_map();
	pthread_t readers[2];

	(void)state;
	now->own_count = 1;
	now->own[0].addr = ip_from_v4(0x0a000000);
	atomic_store(&stop_reading, false);
	for (int i = 0; i < 2; i++)
		pthread_create(&readers[i], NULL, read_on, (void *)map);
	for (uint32_t i = 1; i < 100000 || (atomic_load(&seen) < 1000 && i < 10000000); i++)
		write_once(mf, now, i);
	atomic_store(&stop_reading, true);
	for (int i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	assert_int_equal(torn, 0);
	assert_true(seen >= 1000);
	free(now);
	unmap(map);
	mapfile_close(mf);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_map_lives_as_long_as_its_writer),
		TEST(test_a_killed_writer_is_seen_dead_and_its_successor_takes_over),
		TEST(test_what_a_writer_left_half_written_is_made_whole),
		TEST(test_a_file_of_another_version_or_size_is_retired),
		TEST(test_what_is_no_file_of_ours_is_an_error),
		TEST(test_a_flow_of_the_same_port_takes_the_slot_of_the_old),
		TEST(test_flows_from_one_port_have_slots_of_their_own),
		TEST(test_flows_are_found_at_once_however_many_there_were),
		TEST(test_live_flows_are_never_pushed_out_and_ended_ones_oldest_first),
		TEST(test_pairs_come_and_go_like_a_simple_table),
		TEST(test_a_full_table_of_pairs_says_so),
		TEST(test_readers_never_see_half_of_a_change),
		TEST(test_a_file_that_was_removed_is_made_anew),
		TEST(test_a_full_file_system_kills_nobody),
		TEST(test_a_map_without_room_is_not_begun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
