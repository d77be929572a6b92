/*
 * Reading the shared map: is it whole, is its writer alive, which address has
 * which mirror. Names are in map_names.c, flows in map_flows.c.
 *
 * The file is written by another process, perhaps at this very moment, perhaps
 * by a broken or hostile one. So: every count and index that is read is
 * clamped before use, every loop is bounded, every copy of locked data is
 * checked against its sequence number afterwards (map_read.h), and text is
 * taken to end where our own limit says. A reader that cannot get a consistent
 * view in READ_TRIES tries (the writer died in the middle) answers as if there
 * were nothing, and a mesh destination then fails closed.
 */
#include "shared/map.h"

#include <netinet/in.h>
#include <string.h>

#include "shared/map_read.h"
#include "shared/util.h"
#include "shared/wire.h"

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

/* ip_compare() <= 0, in two words: every address a program uses is looked up here. */
static inline bool is_not_above(const struct ip_addr *a, const struct ip_addr *b)
{
	uint64_t x = load_be64(a->byte), y = load_be64(b->byte);

	return x == y ? load_be64(a->byte + 8) <= load_be64(b->byte + 8) : x < y;
}

/*
 * The last of count ranges whose first is <= ip, or NULL. IPv4 addresses come first and
 * their ranges are few, however many peers have IPv6: so they are looked for from that end.
 */
static const struct map_range *range_below(const struct map_range *ranges, uint32_t count,
					   const struct ip_addr *ip)
{
	uint32_t low = 1, high = count; /* of ranges that are not above */

	if (count == 0 || !is_not_above(&ranges[0].first, ip))
		return NULL;
	if (ip_is_v4(ip)) {
		for (high = 1; high < count && is_not_above(&ranges[high].first, ip); high *= 2)
			low = high + 1;
		high = MIN(high, count);
	}
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (is_not_above(&ranges[mid].first, ip))
			low = mid + 1;
		else
			high = mid;
	}
	return &ranges[low - 1];
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

	if (!r || !is_not_above(mesh, &r->last))
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
	const struct map_directory *dir;
	enum map_verdict verdict;
	uint32_t seq;

	for (int i = 0; i < READ_TRIES; i++) {
		dir = read_directory(map, &seq);
		verdict = look_up(dir, mesh, mirror);
		if (read_ended_well(&map->turn, seq))
			return verdict;
	}
	/* Nothing is known: only an address that cannot be the mesh's may pass. */
	return ip_is_loopback(mesh) || ip_is_any(mesh) ? MAP_OUTSIDE : MAP_NO_MIRROR;
}

static bool look_up_server_mirror(const struct map_directory *dir, uint32_t mirror,
				  struct ip_addr *addr)
{
	uint32_t n = MIN(dir->server_count, MAP_MAX_SERVERS);

	for (uint32_t i = 0; i < n; i++)
		if (dir->servers[i].mirror == mirror) {
			*addr = dir->servers[i].addr;
			return true;
		}
	return false;
}

bool map_server_mirror(const struct map *map, const struct ip_addr *addr, uint32_t *mirror)
{
	const struct map_directory *dir;
	uint32_t turn, n, found;

	for (int t = 0; t < READ_TRIES; t++) {
		dir = read_directory(map, &turn);
		n = MIN(dir->server_count, MAP_MAX_SERVERS);
		found = 0;
		for (uint32_t i = 0; i < n; i++)
			if (ip_equal(&dir->servers[i].addr, addr))
				found = dir->servers[i].mirror;
		if (read_ended_well(&map->turn, turn)) {
			*mirror = found;
			return found != 0;
		}
	}
	return false;
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
		return look_up_server_mirror(dir, mirror, mesh);
	r = &dir->ranges[dir->mirrors[low - 1].range];
	offset = mirror - dir->mirrors[low - 1].first;
	if (offset >= r->count)
		return look_up_server_mirror(dir, mirror, mesh);
	*mesh = r->first;
	store_be32(mesh->byte + 12, load_be32(r->first.byte + 12) + offset);
	return true;
}

bool map_from_mirror(const struct map *map, uint32_t mirror, struct ip_addr *mesh)
{
	const struct map_directory *dir;
	struct ip_addr answer;
	uint32_t seq;
	bool found;

	for (int i = 0; i < READ_TRIES; i++) {
		dir = read_directory(map, &seq);
		found = look_up_mirror(dir, mirror, &answer);
		if (read_ended_well(&map->turn, seq)) {
			if (found)
				*mesh = answer;
			return found;
		}
	}
	return false;
}

bool map_own_at(const struct map *map, uint32_t i, struct map_own *own)
{
	const struct map_directory *dir;
	struct map_own answer;
	uint32_t seq;
	bool found;

	for (int t = 0; t < READ_TRIES; t++) {
		dir = read_directory(map, &seq);
		found = i < MIN(dir->own_count, MAP_MAX_OWN);
		if (found)
			answer = dir->own[i];
		if (read_ended_well(&map->turn, seq)) {
			if (found)
				*own = answer;
			return found;
		}
	}
	return false;
}

bool map_range_at(const struct map *map, uint32_t i, struct map_range *range)
{
	const struct map_directory *dir;
	struct map_range answer;
	uint32_t turn;
	bool found;

	for (int t = 0; t < READ_TRIES; t++) {
		dir = read_directory(map, &turn);
		found = i < MIN(dir->range_count, MAP_MAX_RANGES);
		if (found)
			answer = dir->ranges[i];
		if (read_ended_well(&map->turn, turn)) {
			if (found)
				*range = answer;
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
