/*
 * Reading the shared map.
 *
 * The file is written by another process, perhaps at this very moment, perhaps
 * by a broken or hostile one. So: every count and index that is read is
 * clamped before use, every loop is bounded, every copy of locked data is
 * checked against its sequence number afterwards, and text is taken to end
 * where our own limit says. A reader that cannot get a consistent view in
 * READ_TRIES tries (the writer died in the middle) answers as if there were
 * nothing, and a mesh destination then fails closed.
 *
 * Locked data is read with plain loads between acquire loads of the sequence
 * number, as the kernel's seqlocks are; the fence keeps them in place.
 */
#include "shared/map.h"

#include <netinet/in.h>
#include <string.h>

#include "shared/util.h"
#include "shared/wire.h"

#define READ_TRIES 1000

/* Set by the kernel in a robust futex word whose owner has died; see futex(2). */
#define FUTEX_WORD_DIED 0x40000000u
#define FUTEX_WORD_TID  0x3fffffffu

bool map_is_valid(const struct map *map, uint64_t size)
{
	return size >= sizeof(*map) && map->magic == MAP_MAGIC && map->version == MAP_VERSION &&
	       map->size == sizeof(*map);
}

bool map_is_alive(const struct map *map)
{
	uint32_t off = atomic_load_explicit(&map->life_off, memory_order_acquire);
	uint32_t word;

	if (off < offsetof(struct map, mutex) ||
	    off > offsetof(struct map, mutex) + sizeof(map->mutex) - sizeof(word) || off % 4)
		return false;
	word = atomic_load_explicit((const _Atomic uint32_t *)((const char *)map + off),
				    memory_order_relaxed);
	return !(word & FUTEX_WORD_DIED) && (word & FUTEX_WORD_TID) != 0;
}

/* The sequence number before a read; false when the writer is at it. */
static bool read_begin(const _Atomic uint32_t *lock, uint32_t *seq)
{
	*seq = atomic_load_explicit(lock, memory_order_acquire);
	return (*seq & 1) == 0;
}

static bool read_ended_well(const _Atomic uint32_t *lock, uint32_t seq)
{
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(lock, memory_order_relaxed) == seq;
}

/* The last of count ranges whose first is <= ip, or NULL. */
static const struct map_range *range_below(const struct map_range *ranges, uint32_t count,
					   const struct ip_addr *ip)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ip_compare(&ranges[mid].first, ip) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low ? &ranges[low - 1] : NULL;
}

static bool is_own(const struct map_directory *dir, const struct ip_addr *ip)
{
	uint32_t n = MIN(dir->own_count, MAP_MAX_OWN);

	for (uint32_t i = 0; i < n; i++)
		if (ip_equal(&dir->own[i].addr, ip))
			return true;
	return false;
}

static enum map_verdict look_up(const struct map_directory *dir, const struct ip_addr *mesh,
				uint32_t *mirror)
{
	const struct map_range *r =
		range_below(dir->ranges, MIN(dir->range_count, MAP_MAX_RANGES), mesh);
	uint32_t offset;

	if (!r || ip_compare(mesh, &r->last) > 0)
		return MAP_OUTSIDE;
	if (r->mirror == 0)
		return MAP_NO_MIRROR;
	/* A range with a mirror is IPv4, or one address: the low 32 bits tell. */
	offset = load_be32(mesh->byte + 12) - load_be32(r->first.byte + 12);
	if (offset >= r->count)
		return MAP_NO_MIRROR;
	*mirror = r->mirror + offset;
	return is_own(dir, mesh) ? MAP_OWN : MAP_PEER;
}

enum map_verdict map_to_mirror(const struct map *map, const struct ip_addr *mesh, uint32_t *mirror)
{
	const struct map_directory *dir = &map->dir;
	enum map_verdict verdict;
	uint32_t seq;

	for (int i = 0; i < READ_TRIES; i++) {
		if (!read_begin(&dir->seq, &seq))
			continue;
		verdict = look_up(dir, mesh, mirror);
		if (read_ended_well(&dir->seq, seq))
			return verdict;
	}
	/* Nothing is known: only an address that cannot be the mesh's may pass. */
	return ip_is_loopback(mesh) || ip_is_any(mesh) ? MAP_OUTSIDE : MAP_NO_MIRROR;
}

static bool look_up_mirror(const struct map_directory *dir, uint32_t mirror, struct ip_addr *mesh)
{
	uint32_t low = 0, high = MIN(dir->mirror_count, MAP_MAX_RANGES), offset;
	const struct map_range *r;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (dir->mirrors[mid].first <= mirror)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0 || dir->mirrors[low - 1].range >= MAP_MAX_RANGES)
		return false;
	r = &dir->ranges[dir->mirrors[low - 1].range];
	offset = mirror - dir->mirrors[low - 1].first;
	if (offset >= r->count)
		return false;
	*mesh = r->first;
	store_be32(mesh->byte + 12, load_be32(r->first.byte + 12) + offset);
	return true;
}

bool map_from_mirror(const struct map *map, uint32_t mirror, struct ip_addr *mesh)
{
	const struct map_directory *dir = &map->dir;
	struct ip_addr answer;
	uint32_t seq;
	bool found;

	for (int i = 0; i < READ_TRIES; i++) {
		if (!read_begin(&dir->seq, &seq))
			continue;
		found = look_up_mirror(dir, mirror, &answer);
		if (read_ended_well(&dir->seq, seq)) {
			if (found)
				*mesh = answer;
			return found;
		}
	}
	return false;
}

bool map_own_at(const struct map *map, uint32_t i, struct map_own *own)
{
	const struct map_directory *dir = &map->dir;
	struct map_own answer;
	uint32_t seq;
	bool found;

	for (int t = 0; t < READ_TRIES; t++) {
		if (!read_begin(&dir->seq, &seq))
			continue;
		found = i < MIN(dir->own_count, MAP_MAX_OWN);
		if (found)
			answer = dir->own[i];
		if (read_ended_well(&dir->seq, seq)) {
			if (found)
				*own = answer;
			return found;
		}
	}
	return false;
}

bool map_own(const struct map *map, bool want_v6, struct map_own *own)
{
	for (uint32_t i = 0; map_own_at(map, i, own); i++)
		if (ip_is_v4(&own->addr) != want_v6)
			return true;
	return false;
}

/* The text of a name entry with its length; false when it leaves the table. */
static bool name_text(const struct map_directory *dir, const struct map_name *name,
		      const char **text, size_t *len)
{
	size_t room;

	if (name->name_off >= MAP_NAME_BYTES)
		return false;
	room = MIN((size_t)MAP_NAME_BYTES - name->name_off, (size_t)MAP_NAME_MAX);
	*text = dir->names_text + name->name_off;
	*len = strnlen(*text, room);
	return *len < room;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Lower case and without a trailing dot; 0 when empty or too long. */
static size_t normalise_name(const char *name, char out[static MAP_NAME_MAX])
{
	size_t len = strnlen(name, MAP_NAME_MAX + 1);

	if (len && name[len - 1] == '.')
		len--;
	if (len >= MAP_NAME_MAX)
		return 0;
	for (size_t i = 0; i < len; i++)
		out[i] = lower(name[i]);
	return len;
}

static bool look_up_name(const struct map_directory *dir, const char *name, size_t name_len,
			 struct map_name *found)
{
	uint32_t low = 0, high = MIN(dir->name_count, MAP_MAX_NAMES);

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const char *text;
		size_t len;
		int order;

		if (!name_text(dir, &dir->names[mid], &text, &len))
			return false;
		order = memcmp(name, text, MIN(name_len, len));
		if (order == 0)
			order = (name_len > len) - (name_len < len);
		if (order == 0) {
			*found = dir->names[mid];
			return true;
		}
		if (order > 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

bool map_find_name(const struct map *map, const char *name, struct map_name *found)
{
	const struct map_directory *dir = &map->dir;
	char wanted[MAP_NAME_MAX];
	size_t len = normalise_name(name, wanted);
	struct map_name answer;
	uint32_t seq;
	bool hit;

	if (len == 0)
		return false;
	for (int i = 0; i < READ_TRIES; i++) {
		if (!read_begin(&dir->seq, &seq))
			continue;
		hit = look_up_name(dir, wanted, len, &answer);
		if (read_ended_well(&dir->seq, seq)) {
			if (hit)
				*found = answer;
			return hit;
		}
	}
	return false;
}

/* The name entry that has addr, of those with all of the flags; NULL if none. */
static const struct map_name *entry_of(const struct map_directory *dir, const struct ip_addr *addr,
				       uint32_t flags)
{
	uint32_t n = MIN(dir->name_count, MAP_MAX_NAMES);
	bool v4 = ip_is_v4(addr);

	for (uint32_t i = 0; i < n; i++) {
		const struct map_name *e = &dir->names[i];

		if ((e->flags & flags) == flags && ip_equal(v4 ? &e->v4 : &e->v6, addr))
			return e;
	}
	return NULL;
}

bool map_name_of(const struct map *map, const struct ip_addr *addr, char name[static MAP_NAME_MAX])
{
	const struct map_directory *dir = &map->dir;
	const struct map_name *e;
	const char *text;
	size_t len;
	uint32_t seq;
	bool found;

	for (int i = 0; i < READ_TRIES; i++) {
		if (!read_begin(&dir->seq, &seq))
			continue;
		e = entry_of(dir, addr, MAP_NAME_CANONICAL);
		found = e && name_text(dir, e, &text, &len);
		if (found) {
			memcpy(name, text, len);
			name[len] = '\0';
		}
		if (read_ended_well(&dir->seq, seq))
			return found;
	}
	return false;
}

bool map_v4_of_v6(const struct map *map, const struct ip_addr *v6, struct ip_addr *v4)
{
	const struct map_directory *dir = &map->dir;
	const struct map_name *e;
	struct ip_addr answer;
	uint32_t seq;
	bool found;

	for (int i = 0; i < READ_TRIES; i++) {
		if (!read_begin(&dir->seq, &seq))
			continue;
		e = entry_of(dir, v6, 0);
		found = e && ip_is_v4(&e->v4);
		if (found)
			answer = e->v4;
		if (read_ended_well(&dir->seq, seq)) {
			if (found)
				*v4 = answer;
			return found;
		}
	}
	return false;
}

static uint32_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	return (uint32_t)(x >> 7);
}

uint32_t map_flow_slot(uint32_t local_addr, uint16_t local_port)
{
	return mix((uint64_t)local_addr << 16 | local_port) % MAP_FLOW_SLOTS;
}

uint32_t map_pair_slot(uint64_t key)
{
	return mix(key) % MAP_PAIR_SLOTS;
}

/* A consistent copy of one slot; false when the writer would not let go of it. */
static bool copy_flow(const struct map_flow *slot, struct map_flow *copy)
{
	uint32_t seq;

	for (int i = 0; i < READ_TRIES; i++) {
		if (!read_begin(&slot->seq, &seq))
			continue;
		memcpy(copy, slot, sizeof(*copy));
		if (read_ended_well(&slot->seq, seq))
			return true;
	}
	return false;
}

bool map_find_flow(const struct map *map, uint32_t local_addr, uint16_t local_port,
		   struct map_flow *found)
{
	uint32_t slot = map_flow_slot(local_addr, local_port);
	struct map_flow copy;

	for (uint32_t i = 0; i < MAP_PROBE_LIMIT; i++) {
		if (!copy_flow(&map->flows[(slot + i) % MAP_FLOW_SLOTS], &copy))
			continue;
		if (copy.state == MAP_FLOW_FREE && copy.generation == 0)
			return false; /* never used: the chain ends here */
		if (copy.state != MAP_FLOW_FREE && copy.local_addr == local_addr &&
		    copy.local_port == local_port) {
			*found = copy;
			return true;
		}
	}
	return false;
}

bool map_find_pair(const struct map *map, enum map_table table, uint32_t addr, uint16_t port,
		   uint32_t *value_addr, uint16_t *value_port)
{
	uint64_t key = map_pack(addr, port), seen, value;
	uint32_t slot = map_pair_slot(key);

	if (atomic_load_explicit(&map->pair_count[table], memory_order_relaxed) == 0)
		return false;
	for (uint32_t i = 0; i < MAP_PROBE_LIMIT; i++) {
		const struct map_pair *pair = &map->pairs[table][(slot + i) % MAP_PAIR_SLOTS];

		seen = atomic_load_explicit(&pair->key, memory_order_acquire);
		if (seen == 0)
			return false;
		if (seen != key)
			continue;
		value = atomic_load_explicit(&pair->value, memory_order_acquire);
		/* The slot may have been given to another key in between. */
		if (atomic_load_explicit(&pair->key, memory_order_relaxed) != key)
			return false;
		*value_addr = (uint32_t)(value >> 16);
		*value_port = (uint16_t)value;
		return true;
	}
	return false;
}
