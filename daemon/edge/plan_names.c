/*
 * Names: NAME and NAME.domain of each node that has one, sorted for the
 * readers' binary search. Both answer with the node's first own address of
 * each family: for a peer the first single address it is allowed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/edge/plan.h"
#include "shared/util.h"

struct entry {
	char text[MAP_NAME_MAX];
	const struct edge_node *node;
	uint32_t flags;
};

static int compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->text, ((const struct entry *)b)->text);
}

static void lower(char *text)
{
	for (; *text; text++)
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
}

static struct ip_addr address_of(const struct edge_node *node, bool want_v4)
{
	for (unsigned i = 0; i < node->prefix_count; i++) {
		const struct ip_prefix *p = &node->prefix[i];
		bool v4 = ip_is_v4(&p->addr);

		if (v4 == want_v4 && (node->is_self || p->len == (v4 ? 32 : 128)))
			return p->addr;
	}
	return (struct ip_addr){ { 0 } };
}

static int add_entries(const struct edge_node *node, const char *domain, struct entry *e,
		       unsigned *made, char *error)
{
	uint32_t flags = node->is_self ? MAP_NAME_SELF : 0;
	int len = snprintf(e[0].text, sizeof(e[0].text), "%s", node->name);

	if (len > 0 && domain[0] && (size_t)len < sizeof(e[0].text)) {
		len = snprintf(e[1].text, sizeof(e[1].text), "%s.%s", node->name, domain);
		e[1].node = node;
		e[1].flags = flags | MAP_NAME_CANONICAL;
		lower(e[1].text);
		*made = 2;
	} else {
		flags |= MAP_NAME_CANONICAL;
		*made = 1;
	}
	if (len <= 0 || (size_t)len >= sizeof(e[0].text)) {
		snprintf(error, 256, "A node's name with its domain is longer than %d bytes.",
			 MAP_NAME_MAX - 1);
		return -EINVAL;
	}
	e[0].node = node;
	e[0].flags = flags;
	lower(e[0].text);
	return 0;
}

static int write_names(const struct entry *entries, unsigned count, struct map_directory *dir,
		       char *error)
{
	uint32_t off = 0;

	for (unsigned i = 0; i < count; i++) {
		size_t len = strlen(entries[i].text) + 1;

		if (i && strcmp(entries[i].text, entries[i - 1].text) == 0) {
			snprintf(error, 256, "Two nodes are named %.200s: give each its own name.",
				 entries[i].text);
			return -EINVAL;
		}
		if (i == MAP_MAX_NAMES || off + len > MAP_NAME_BYTES) {
			snprintf(error, 256, "Too many names: the map holds %d.", MAP_MAX_NAMES);
			return -E2BIG;
		}
		memcpy(dir->names_text + off, entries[i].text, len);
		dir->names[i] = (struct map_name){ off, entries[i].flags,
						   address_of(entries[i].node, true),
						   address_of(entries[i].node, false) };
		off += (uint32_t)len;
	}
	dir->name_count = count;
	return 0;
}

int plan_names(const struct edge_node *nodes, unsigned count, const char *domain,
	       struct map_directory *dir, char error[static 256])
{
	struct entry *entries = calloc(2 * (size_t)count + 1, sizeof(*entries));
	unsigned made = 0, more;
	int err = 0;

	error[0] = '\0';
	dir->name_count = 0;
	if (!entries) {
		snprintf(error, 256, "Out of memory.");
		return -ENOMEM;
	}
	snprintf(dir->domain, sizeof(dir->domain), "%s", domain);
	lower(dir->domain);
	for (unsigned i = 0; err == 0 && i < count; i++) {
		if (nodes[i].name[0] == '\0')
			continue;
		err = add_entries(&nodes[i], domain, entries + made, &more, error);
		made += err ? 0 : more;
	}
	if (err == 0) {
		qsort(entries, made, sizeof(*entries), compare_entries);
		err = write_names(entries, made, dir, error);
	}
	free(entries);
	return err;
}
