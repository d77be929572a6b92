/*
 * The shared map's writer.
 *
 * Readers are other processes that never wait and may look at any moment, so
 * every change is one of: a sequence lock made odd, written, made even (flows);
 * the copy written that nobody reads, and given the turn (directory); or a word
 * stored with release order (pairs: the value before its key; a key taken away
 * before its slot is used anew).
 *
 * A writer may be killed anywhere. Its successor works on the same bytes: it
 * makes a sequence number that was left odd even again by a complete write,
 * and takes back everything that only the dead process could make true.
 *
 * Liveness is the futex word of a robust mutex that we hold. Where the word
 * lies in pthread_mutex_t is libc's secret, but it holds our TID.
 *
 * Flow slots are never freed: an entry stays for getpeername() as long as its
 * slot is not needed. So a chain of probes ends only at a slot that was never
 * used, as readers expect. There are many more ends than slots, so all will have been used one
 * day; readers then still find nearly every flow where they look first, since a
 * new one takes the first slot whose flow has ended long ago.
 *
 * The file has one size for ever: truncating a file that others have mapped
 * kills them. So does a hole in it where the file system is full, and on tmpfs
 * even who only reads. So whatever may be looked at has its room beforehand: the
 * tables of flows and pairs, which are looked at anywhere, from the start, and of
 * a directory what is used. Room is no memory of ours before it is touched, and
 * the rest of the file are holes, so that a small mesh costs little.
 */
#include "daemon/edge/mapfile.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/edge/mapfile_private.h"
#include "shared/paths.h"
#include "shared/util.h"

#define TID_MASK 0x3fffffffu
/* An ended flow's error is kept for so many further ones. Old is what came before that. */
#define KEPT_FLOWS (MAP_FLOW_SLOTS / 8)

static_assert(sizeof(pthread_mutex_t) <= sizeof(((struct map *)0)->mutex), "the mutex fits");

static pthread_mutex_t *map_mutex(struct map *map)
{
	return (pthread_mutex_t *)map->mutex;
}

static uint32_t write_begin(_Atomic uint32_t *lock)
{
	uint32_t seq = atomic_load_explicit(lock, memory_order_relaxed) | 1;

	atomic_store_explicit(lock, seq, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	return seq;
}

static void write_end(_Atomic uint32_t *lock, uint32_t seq)
{
	atomic_store_explicit(lock, seq + 1, memory_order_release);
}

/* ---- life ---- */

/* Where our TID is inside the mutex that we have just locked; 0 if nowhere. */
static uint32_t find_futex_word(const struct map *map)
{
	uint32_t tid = (uint32_t)gettid();

	for (uint32_t i = 0; i < sizeof(pthread_mutex_t); i += 4) {
		uint32_t word;

		memcpy(&word, map->mutex + i, sizeof(word));
		if ((word & TID_MASK) == tid)
			return (uint32_t)offsetof(struct map, mutex) + i;
	}
	return 0;
}

int mapfile_lock_life(struct map *map)
{
	pthread_mutexattr_t attr;
	uint32_t off;
	int err;

	/* Nobody ever waits for this mutex, so it may be made anew under its readers. */
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	memset(map->mutex, 0, sizeof(map->mutex));
	err = pthread_mutex_init(map_mutex(map), &attr);
	pthread_mutexattr_destroy(&attr);
	if (err == 0)
		err = pthread_mutex_lock(map_mutex(map));
	if (err)
		return -err;
	off = find_futex_word(map);
	if (off == 0) {
		pthread_mutex_unlock(map_mutex(map));
		return -ENOTSUP;
	}
	atomic_store_explicit(&map->life_off, off, memory_order_release);
	return 0;
}

void mapfile_end_life(struct map *map)
{
	pthread_mutex_unlock(map_mutex(map));
}

/* ---- the file ---- */

/* 0, or -errno: it is full. Where room cannot be had beforehand, the file is left as it is. */
static int give_room(int fd, size_t offset, size_t len)
{
	int err;

	do
		err = len == 0 || fallocate(fd, 0, (off_t)offset, (off_t)len) == 0 ? 0 : -errno;
	while (err == -EINTR);
	return err == -ENOSPC || err == -EDQUOT ? err : 0;
}

/* All but the directories. */
static int give_tables_room(int fd)
{
	size_t tables = offsetof(struct map, flows);
	int err = give_room(fd, 0, offsetof(struct map, dir));

	return err ? err : give_room(fd, tables, sizeof(struct map) - tables);
}

static int map_fd(int fd, struct map **map)
{
	void *at = mmap(NULL, sizeof(**map), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	/* A look at a hole shall bring that page alone, not those around it: hints may fail. */
	(void)madvise(at, sizeof(**map), MADV_RANDOM);
	*map = at;
	return 0;
}

/*
 * The predecessor's file, if it can be used in place; else *map stays NULL,
 * and readers of the old file are told to look for the new one.
 */
static int open_old(const char *path, mode_t mode, struct map **map, int *kept)
{
	struct map *old = NULL;
	struct stat st;
	int err = 0, fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) != 0) {
		err = -errno;
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		err = -EINVAL;
		goto out;
	}
	/* Smaller than ours means another version: its flag lies where ours does. */
	if ((uint64_t)st.st_size < sizeof(*old)) {
		uint32_t one = 1;

		if (pwrite(fd, &one, sizeof(one), offsetof(struct map, retired)) < 0)
			err = -errno;
		goto out;
	}
	err = map_fd(fd, &old);
	if (err)
		goto out;
	if (map_is_valid(old, (uint64_t)st.st_size) && (uint64_t)st.st_size == sizeof(*old) &&
	    !atomic_load(&old->retired)) {
		err = fchmod(fd, mode) != 0 ? -errno : give_tables_room(fd);
		if (err) {
			munmap(old, sizeof(*old));
			goto out;
		}
		*map = old;
		*kept = fd;
		return 0;
	}
	atomic_store(&old->retired, 1);
	munmap(old, sizeof(*old));
out:
	close(fd);
	return err;
}

int mapfile_make(const char *path, mode_t mode, struct map **map, int *kept)
{
	int err, fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	err = fchmod(fd, mode) != 0 || ftruncate(fd, sizeof(**map)) != 0 ? -errno
									 : give_tables_room(fd);
	if (err == 0)
		err = map_fd(fd, map);
	if (err)
		close(fd);
	else
		*kept = fd;
	return err;
}

/* A held connect of the predecessor waits for nobody, nobody knows any more which flow was LOST;
 * the rest is only an old address. */
static void take_over_flows(struct mapfile *mf)
{
	for (uint32_t i = 0; i < MAP_FLOW_SLOTS; i++) {
		struct map_flow *f = &mf->map->flows[i];
		uint32_t was = atomic_load_explicit(&f->seq, memory_order_relaxed);

		if (f->generation == 0 && was == 0)
			continue;
		mf->generation = MAX(mf->generation, f->generation);
		if ((was & 1) == 0 && f->state != MAP_FLOW_HELD && f->state != MAP_FLOW_LOST)
			continue;
		was = write_begin(&f->seq);
		f->state = MAP_FLOW_FAILED;
		f->error = ECONNRESET;
		f->generation = MAX(f->generation, 1u);
		write_end(&f->seq, was);
	}
}

static void take_over_pairs(struct map *map)
{
	for (unsigned t = 0; t < MAP_TABLES; t++) {
		atomic_store(&map->pair_count[t], 0);
		for (uint32_t i = 0; i < MAP_PAIR_SLOTS; i++)
			if (atomic_load_explicit(&map->pairs[t][i].key, memory_order_relaxed))
				atomic_store(&map->pairs[t][i].key, 0);
	}
}

static int take_over(struct mapfile *mf, bool is_new)
{
	static const struct map_directory nothing;
	struct map *map = mf->map;
	int err;

	atomic_store(&map->ready, 0);
	err = mapfile_write_directory(mf, &nothing);
	if (err || is_new)
		return err; /* to look at all of a new file would give each of its pages memory */
	take_over_flows(mf);
	take_over_pairs(map);
	/* The file keeps its pages; our memory, those that are used from now on. */
	(void)madvise(map, sizeof(*map), MADV_DONTNEED);
	return 0;
}

int mapfile_open(const char *dir, bool world_readable, struct mapfile **out)
{
	mode_t mode = world_readable ? 0644 : 0600;
	char path[PATHS_MAX + 8], fresh[PATHS_MAX + 16];
	struct mapfile *mf;
	bool is_new = false;
	int err;

	err = paths_join(dir, PATHS_MAP, path, sizeof(path));
	if (err == 0)
		err = paths_join(dir, PATHS_MAP ".new", fresh, sizeof(fresh));
	if (err)
		return err;
	mf = calloc(1, sizeof(*mf));
	if (!mf)
		return -ENOMEM;
	mf->fd = -1;
	err = open_old(path, mode, &mf->map, &mf->fd);
	if (err)
		goto fail;
	is_new = mf->map == NULL;
	if (is_new) {
		if (unlink(fresh) != 0 && errno != ENOENT) {
			err = -errno;
			goto fail;
		}
		err = mapfile_make(fresh, mode, &mf->map, &mf->fd);
		if (err)
			goto fail;
		mf->map->magic = MAP_MAGIC;
		mf->map->version = MAP_VERSION;
		mf->map->size = sizeof(*mf->map);
	}
	err = take_over(mf, is_new);
	if (err)
		goto fail;
	if (getrandom(&mf->map->boot_id, sizeof(mf->map->boot_id), 0) < 0) {
		err = -errno;
		goto fail;
	}
	err = mapfile_lock_life(mf->map);
	if (err)
		goto fail;
	mf->is_locked = true;
	if (is_new && rename(fresh, path) != 0) {
		err = -errno;
		goto fail;
	}
	*out = mf;
	return 0;
fail:
	if (is_new)
		unlink(fresh);
	mapfile_close(mf);
	return err;
}

void mapfile_close(struct mapfile *mf)
{
	if (!mf)
		return;
	if (mf->map) {
		atomic_store(&mf->map->ready, 0);
		if (mf->is_locked)
			mapfile_end_life(mf->map);
		munmap(mf->map, sizeof(*mf->map));
	}
	if (mf->fd >= 0)
		close(mf->fd);
	free(mf);
}

const struct map *mapfile_map(const struct mapfile *mf)
{
	return mf->map;
}

uint32_t mapfile_hold_port(const struct mapfile *mf)
{
	return mf->map->hold_port;
}

uint32_t mapfile_dial_port(const struct mapfile *mf)
{
	return mf->map->dial_port;
}

void mapfile_set_dial_ports(struct mapfile *mf, uint16_t hold_port, uint16_t dial_port)
{
	mf->map->hold_port = hold_port;
	mf->map->dial_port = dial_port;
}

void mapfile_set_takes_posts(struct mapfile *mf, bool takes_posts)
{
	atomic_store(&mf->map->takes_posts, takes_posts);
}

void mapfile_set_ready(struct mapfile *mf, bool ready)
{
	atomic_store(&mf->map->ready, ready);
}

int mapfile_write_directory(struct mapfile *mf, const struct map_directory *dir)
{
	uint32_t turn = atomic_load_explicit(&mf->map->turn, memory_order_relaxed) + 1;
	struct map_directory *to = &mf->map->dir[turn & 1];
	/* Up to the first table in one piece, of the tables the used part. */
	const struct {
		void *to;
		const void *from;
		size_t len;
	} parts[] = {
		{ to, dir, offsetof(struct map_directory, suffixes) },
		{ to->suffixes, dir->suffixes, dir->suffix_count * sizeof(*to->suffixes) },
		{ to->ranges, dir->ranges, dir->range_count * sizeof(*to->ranges) },
		{ to->mirrors, dir->mirrors, dir->mirror_count * sizeof(*to->mirrors) },
		{ to->names, dir->names, dir->name_count * sizeof(*to->names) },
		{ to->text, dir->text, dir->text_len },
	};
	int err = 0;

	assert(dir->own_count <= MAP_MAX_OWN && dir->range_count <= MAP_MAX_RANGES &&
	       dir->mirror_count <= MAP_MAX_RANGES && dir->name_count <= MAP_MAX_NAMES &&
	       dir->suffix_count <= MAP_MAX_SUFFIXES && dir->search_count <= MAP_MAX_SEARCH &&
	       dir->server_count <= MAP_MAX_SERVERS && dir->text_len <= MAP_NAME_BYTES);
	for (size_t i = 0; err == 0 && i < ARRAY_LEN(parts); i++)
		err = give_room(mf->fd, (size_t)((char *)parts[i].to - (char *)mf->map),
				parts[i].len);
	if (err)
		return err;
	/* Who still reads this one shall see that its turn is over before what is written now. */
	atomic_thread_fence(memory_order_release);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		memcpy(parts[i].to, parts[i].from, parts[i].len);
	atomic_store_explicit(&mf->map->turn, turn, memory_order_release);
	return 0;
}

/* ---- flows ---- */

static bool is_live(const struct mapfile *mf, uint32_t slot)
{
	return mf->live[slot / 8] >> (slot % 8) & 1;
}

static void set_live(struct mapfile *mf, uint32_t slot, bool live)
{
	uint8_t bit = (uint8_t)(1 << (slot % 8));

	mf->live[slot / 8] = (uint8_t)(live ? mf->live[slot / 8] | bit : mf->live[slot / 8] & ~bit);
}

/* Generations may wrap: the difference counts. */
static uint32_t age(const struct mapfile *mf, uint32_t slot)
{
	return mf->generation - mf->map->flows[slot].generation;
}

/* The same ends first; then the first slot that is old or was never used; then the oldest. */
static int pick_slot(const struct mapfile *mf, const struct map_ends *ends)
{
	uint32_t home = map_flow_slot(ends);
	int oldest = -ENOBUFS;
	bool is_old = false;

	for (uint32_t i = 0; i < MAP_PROBE_LIMIT; i++) {
		uint32_t slot = (home + i) % MAP_FLOW_SLOTS;
		const struct map_flow *f = &mf->map->flows[slot];

		if (f->generation == 0)
			return is_old ? oldest : (int)slot;
		if (f->state != MAP_FLOW_FREE && map_ends_equal(&f->ends, ends))
			return (int)slot;
		if (is_live(mf, slot) || is_old)
			continue;
		is_old = age(mf, slot) > KEPT_FLOWS;
		if (is_old || oldest < 0 || age(mf, slot) > age(mf, (uint32_t)oldest))
			oldest = (int)slot;
	}
	return oldest;
}

int mapfile_flow_begin(struct mapfile *mf, const struct map_ends *ends,
		       const struct endpoint *remote, struct mapfile_flow *flow)
{
	int slot = pick_slot(mf, ends);
	struct map_flow *f;
	uint32_t seq;

	if (slot < 0)
		return slot;
	if (++mf->generation == 0)
		mf->generation = 1;
	f = &mf->map->flows[slot];
	seq = write_begin(&f->seq);
	f->state = MAP_FLOW_HELD;
	f->ends = *ends;
	f->remote_port = remote->port;
	f->remote = remote->addr;
	f->error = 0;
	f->generation = mf->generation;
	write_end(&f->seq, seq);
	set_live(mf, (uint32_t)slot, true);
	*flow = (struct mapfile_flow){ (uint32_t)slot, mf->generation };
	return 0;
}

static bool is_current(const struct mapfile *mf, const struct mapfile_flow *flow)
{
	return flow->generation != 0 && mf->map->flows[flow->slot].generation == flow->generation;
}

void mapfile_flow_set(struct mapfile *mf, const struct mapfile_flow *flow,
		      enum map_flow_state state, int error)
{
	struct map_flow *f = &mf->map->flows[flow->slot];
	uint32_t seq;

	assert(error >= 0 && error <= UINT8_MAX);
	if (!is_current(mf, flow))
		return;
	seq = write_begin(&f->seq);
	f->state = (uint8_t)state;
	f->error = (uint8_t)error;
	write_end(&f->seq, seq);
}

void mapfile_flow_not_lost(struct mapfile *mf, const struct map_ends *ends)
{
	struct mapfile_flow flow;
	struct map_flow found;

	if (!map_find_flow(mf->map, ends, &found) || found.state != MAP_FLOW_LOST)
		return;
	flow.slot = (uint32_t)pick_slot(mf, ends);
	flow.generation = mf->map->flows[flow.slot].generation;
	mapfile_flow_set(mf, &flow, MAP_FLOW_FREE, 0);
}

void mapfile_flow_end(struct mapfile *mf, struct mapfile_flow *flow)
{
	if (is_current(mf, flow))
		set_live(mf, flow->slot, false);
	flow->generation = 0;
}

/* ---- pairs ---- */

int mapfile_pair_set(struct mapfile *mf, enum map_table table, uint64_t key, uint64_t value)
{
	struct map_pair *pairs = mf->map->pairs[table], *place = NULL;
	uint32_t home = map_pair_slot(key);

	for (uint32_t i = 0; i < MAP_PROBE_LIMIT; i++) {
		struct map_pair *p = &pairs[(home + i) % MAP_PAIR_SLOTS];
		uint64_t seen = atomic_load_explicit(&p->key, memory_order_relaxed);

		if (seen == key) {
			atomic_store_explicit(&p->value, value, memory_order_release);
			return 0;
		}
		if (!place && (seen == 0 || seen == MAP_PAIR_GONE))
			place = p;
		if (seen == 0)
			break;
	}
	if (!place)
		return -ENOBUFS;
	/*
	 * A reader that still holds the slot's old key must not take the new value
	 * for its own: it reads value (acquire) and then the key again.
	 */
	atomic_fetch_add(&mf->map->pair_count[table], 1);
	atomic_store_explicit(&place->value, value, memory_order_release);
	atomic_store_explicit(&place->key, key, memory_order_release);
	return 0;
}

void mapfile_pair_remove(struct mapfile *mf, enum map_table table, uint64_t key)
{
	struct map_pair *pairs = mf->map->pairs[table];
	uint32_t home = map_pair_slot(key), slot;

	for (uint32_t i = 0; i < MAP_PROBE_LIMIT; i++) {
		uint64_t seen;

		slot = (home + i) % MAP_PAIR_SLOTS;
		seen = atomic_load_explicit(&pairs[slot].key, memory_order_relaxed);
		if (seen == 0)
			return;
		if (seen != key)
			continue;
		atomic_store_explicit(&pairs[slot].key, MAP_PAIR_GONE, memory_order_release);
		atomic_fetch_sub(&mf->map->pair_count[table], 1);
		/* Nothing lies behind a free slot: tombstones before one are not needed. */
		while (atomic_load(&pairs[slot].key) == MAP_PAIR_GONE &&
		       atomic_load(&pairs[(slot + 1) % MAP_PAIR_SLOTS].key) == 0) {
			atomic_store_explicit(&pairs[slot].key, 0, memory_order_release);
			slot = (slot + MAP_PAIR_SLOTS - 1) % MAP_PAIR_SLOTS;
		}
		return;
	}
}
