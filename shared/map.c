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
 * number, as the kernel's seqlocks are; the fence keeps them in place. The
 * directory's number is its turn: it says which of the two copies is whole, and
 * has changed when the one that was being read is being written again. So a
 * reader tries again only after two changes, and a writer that died in the
 * middle of one is not noticed at all.
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

static const struct map_directory *read_directory(const struct map *map, uint32_t *turn)
{
	*turn = atomic_load_explicit(&map->turn, memory_order_acquire);
	return &map->dir[*turn & 1];
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
	uint32_t low = 0, high = count;

	if (count == 0 || !is_not_above(&ranges[0].first, ip))
		return NULL;
	if (ip_is_v4(ip)) {
		for (high = 1; high < count && is_not_above(&ranges[high].first, ip); high *= 2)
			low = high;
		high = MIN(high, count);
	}
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (is_not_above(&ranges[mid].first, ip))
			low = mid + 1;
		else
			high = mid;
	}
	return low ? &ranges[low - 1] : NULL; /* 0: written meanwhile */
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

bool map_own(const struct map *map, bool want_v6, struct map_own *own)
{
	for (uint32_t i = 0; map_own_at(map, i, own); i++)
		if (ip_is_v4(&own->addr) != want_v6)
			return true;
	return false;
}

/* Text of the directory with its length; false when it leaves the table. */
static bool text_at(const struct map_directory *dir, uint32_t off, const char **text, size_t *len)
{
	size_t room;

	if (off >= MAP_NAME_BYTES)
		return false;
	room = MIN((size_t)MAP_NAME_BYTES - off, (size_t)MAP_NAME_MAX);
	*text = dir->text + off;
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

static int compare_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, MIN(a_len, b_len));

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* The first entry of this name, or of a later one. */
static uint32_t first_not_below(const struct map_directory *dir, const char *name, size_t name_len)
{
	uint32_t low = 0, high = MIN(dir->name_count, MAP_MAX_NAMES);

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const char *text;
		size_t len;

		if (!text_at(dir, dir->names[mid].name_off, &text, &len))
			return MAP_MAX_NAMES;
		if (compare_text(name, name_len, text, len) > 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static unsigned look_up_names(const struct map_directory *dir, const char *name, size_t name_len,
			      struct map_name *found, unsigned max)
{
	uint32_t n = MIN(dir->name_count, MAP_MAX_NAMES);
	unsigned count = 0;

	for (uint32_t i = first_not_below(dir, name, name_len); i < n && count < max; i++) {
		const char *text;
		size_t len;

		if (!text_at(dir, dir->names[i].name_off, &text, &len) ||
		    compare_text(name, name_len, text, len) != 0)
			break;
		found[count++] = dir->names[i];
	}
	return count;
}

unsigned map_find_names(const struct map *map, const char *name, struct map_name *found,
			unsigned max)
{
	const struct map_directory *dir;
	char wanted[MAP_NAME_MAX];
	size_t len = normalise_name(name, wanted);
	unsigned count;
	uint32_t turn;

	if (len == 0)
		return 0;
	for (int i = 0; i < READ_TRIES; i++) {
		dir = read_directory(map, &turn);
		count = look_up_names(dir, wanted, len, found, max);
		if (read_ended_well(&map->turn, turn))
			return count;
	}
	return 0;
}

bool map_find_name(const struct map *map, const char *name, struct map_name *found)
{
	struct map_name answer;

	if (map_find_names(map, name, &answer, 1) == 0)
		return false;
	*found = answer;
	return true;
}

static const struct map_suffix *look_up_suffix(const struct map_directory *dir, const char *name,
					       size_t name_len)
{
	uint32_t low = 0, high = MIN(dir->suffix_count, MAP_MAX_SUFFIXES);

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const char *text;
		size_t len;
		int order;

		if (!text_at(dir, dir->suffixes[mid].name_off, &text, &len))
			return NULL;
		order = compare_text(name, name_len, text, len);
		if (order == 0)
			return &dir->suffixes[mid];
		if (order > 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static enum map_suffix_kind kind_of(const struct map_directory *dir, const char *name, size_t len)
{
	for (;;) {
		const struct map_suffix *s = look_up_suffix(dir, name, len);
		const char *dot;

		if (s && s->is_zone)
			return MAP_SUFFIX_ZONE;
		if (s)
			return len ? MAP_SUFFIX_ROUTE : MAP_SUFFIX_DEFAULT;
		if (len == 0)
			return MAP_SUFFIX_NONE;
		dot = memchr(name, '.', len);
		len = dot ? len - (size_t)(dot + 1 - name) : 0;
		name = dot ? dot + 1 : name;
	}
}

enum map_suffix_kind map_suffix_of(const struct map *map, const char *name)
{
	const struct map_directory *dir;
	char wanted[MAP_NAME_MAX];
	size_t len = normalise_name(name, wanted);
	enum map_suffix_kind kind;
	uint32_t turn;

	for (int i = 0; i < READ_TRIES; i++) {
		dir = read_directory(map, &turn);
		kind = len && dir->suffix_count ? kind_of(dir, wanted, len) : MAP_SUFFIX_NONE;
		if (read_ended_well(&map->turn, turn))
			return kind;
	}
	return MAP_SUFFIX_NONE;
}

bool map_search_domain(const struct map *map, uint32_t i, char domain[static MAP_NAME_MAX])
{
	const struct map_directory *dir;
	const char *text;
	size_t len;
	uint32_t turn;
	bool found;

	for (int t = 0; t < READ_TRIES; t++) {
		dir = read_directory(map, &turn);
		found = i < MIN(dir->search_count, MAP_MAX_SEARCH) &&
			text_at(dir, dir->search[i], &text, &len);
		if (found) {
			memcpy(domain, text, len);
			domain[len] = '\0';
		}
		if (read_ended_well(&map->turn, turn))
			return found;
	}
	return false;
}

bool map_find_host(const struct map *map, const char *name, struct map_name *found)
{
	char full[MAP_NAME_MAX], domain[MAP_NAME_MAX];
	size_t len = strnlen(name, MAP_NAME_MAX), more;
	bool is_found = map_find_name(map, name, found);

	if (is_found || strchr(name, '.'))
		return is_found;
	for (uint32_t i = 0; !is_found && map_search_domain(map, i, domain); i++) {
		more = strlen(domain);
		if (len + 1 + more >= sizeof(full))
			continue;
		memcpy(full, name, len);
		full[len] = '.';
		memcpy(full + len + 1, domain, more + 1);
		is_found = map_find_name(map, full, found);
	}
	return is_found;
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
	const struct map_directory *dir;
	const struct map_name *e;
	const char *text;
	size_t len;
	uint32_t seq;
	bool found;

	for (int i = 0; i < READ_TRIES; i++) {
		dir = read_directory(map, &seq);
		e = entry_of(dir, addr, MAP_NAME_CANONICAL);
		if (!e)
			e = entry_of(dir, addr, 0);
		found = e && text_at(dir, e->name_off, &text, &len);
		if (found) {
			memcpy(name, text, len);
			name[len] = '\0';
		}
		if (read_ended_well(&map->turn, seq))
			return found;
	}
	return false;
}

bool map_v4_of_v6(const struct map *map, const struct ip_addr *v6, struct ip_addr *v4)
{
	const struct map_directory *dir;
	const struct map_name *e;
	struct ip_addr answer;
	uint32_t seq;
	bool found;

	for (int i = 0; i < READ_TRIES; i++) {
		dir = read_directory(map, &seq);
		e = entry_of(dir, v6, 0);
		found = e && ip_is_v4(&e->v4);
		if (found)
			answer = e->v4;
		if (read_ended_well(&map->turn, seq)) {
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
