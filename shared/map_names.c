/* Names in the shared map: host names, suffixes, search domains, and the names of addresses. */
#include <string.h>

#include "shared/map.h"
#include "shared/map_read.h"
#include "shared/util.h"

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
