/*
 * Candidates of a name.
 *
 * Names of the mesh are in the map, and stay known when the daemon has gone. A
 * name below a zone that is not in the map does not exist, and one below a
 * route is asked of the daemon: nobody else is told of either. Where the mesh
 * gives resolvers for everything, the daemon is asked while it lives, but for
 * names that the hosts file has: that is how libc orders the two.
 */
#include "preload/lookup.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "preload/control.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/primary.h"
#include "shared/util.h"

#define HOSTS_FILE    "/etc/hosts"
#define LOOKUP_WAIT_S 15 /* the daemon's own limit is shorter */

static bool is_number(const char *name)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST };
	struct addrinfo *list;

	if (libc.getaddrinfo(name, NULL, &hints, &list) != 0)
		return false;
	libc.freeaddrinfo(list);
	return true;
}

static bool is_localhost(const char *name)
{
	size_t len = strlen(name);

	if (len && name[len - 1] == '.')
		len--;
	return len >= 9 && strncasecmp(name + len - 9, "localhost", 9) == 0 &&
	       (len == 9 || name[len - 10] == '.');
}

/* The words of a line behind the first one are names. */
static bool line_has(char *line, const char *name)
{
	char *rest = line, *word;
	unsigned at = 0;

	line[strcspn(line, "#\n")] = '\0';
	while ((word = strsep(&rest, " \t\r")))
		if (*word && at++ > 0 && strcasecmp(word, name) == 0)
			return true;
	return false;
}

static bool is_in_hosts_file(const char *name)
{
	FILE *f = fopen(HOSTS_FILE, "re");
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	if (!f)
		return false;
	while (!found && getline(&line, &room, f) >= 0)
		found = line_has(line, name);
	free(line);
	fclose(f);
	return found;
}

void lookup_begin(struct lookup *l, const struct map *map, const char *name, unsigned want)
{
	const struct map_directory *dir = map ? map_dir(map) : NULL;

	l->map = map;
	l->name = name;
	l->want = want;
	l->next = 0;
	l->is_done = false;
	l->count = 0;
	l->is_own = false;
	if (!dir ||
	    (dir->own_count == 0 && dir->name_count == 0 && dir->suffix_count == 0 &&
	     dir->search_count == 0) ||
	    !*name || is_localhost(name) || is_number(name))
		l->map = NULL;
	else
		l->is_own = dir->own_count && primary_is_own_name(name);
}

static enum lookup_verdict in_map(struct lookup *l)
{
	struct map_name entry[LOOKUP_MAX];
	unsigned n = map_find_names(l->map, l->candidate, entry, LOOKUP_MAX);

	l->count = 0;
	for (unsigned i = 0; i < n && l->count < LOOKUP_MAX; i++)
		if ((l->want & IPC_LOOKUP_V4) && !(entry[i].flags & MAP_NAME_HIDE_V4) &&
		    !ip_is_any(&entry[i].v4))
			l->ip[l->count++] = entry[i].v4;
	for (unsigned i = 0; i < n && l->count < LOOKUP_MAX; i++)
		if ((l->want & IPC_LOOKUP_V6) && !(entry[i].flags & MAP_NAME_HIDE_V6) &&
		    !ip_is_any(&entry[i].v6))
			l->ip[l->count++] = entry[i].v6;
	return l->count ? LOOKUP_FOUND : n ? LOOKUP_NO_DATA : LOOKUP_NO_NAME;
}

static enum lookup_verdict ask_daemon(struct lookup *l)
{
	struct ipc_lookup question;
	struct ipc_found found;
	int err = ipc_make_lookup(&question, l->candidate, l->want);

	if (err == 0)
		err = control_look_up(&question, LOOKUP_WAIT_S, &found);
	switch (err) {
	case 0:
		l->count = found.count;
		memcpy(l->ip, found.addr, sizeof(l->ip));
		return LOOKUP_FOUND;
	case -ENODATA:
		return LOOKUP_NO_DATA;
	case -ENOENT:
	case -ENAMETOOLONG:
		return LOOKUP_NO_NAME;
	default:
		return LOOKUP_AGAIN;
	}
}

static enum lookup_verdict to_libc(struct lookup *l)
{
	size_t len = strlen(l->candidate);

	if (l->is_searched) {
		l->candidate[len] = '.';
		l->candidate[len + 1] = '\0';
	}
	return LOOKUP_LIBC;
}

static enum lookup_verdict judge(struct lookup *l)
{
	enum lookup_verdict verdict = in_map(l);

	if (verdict != LOOKUP_NO_NAME) {
		/* A node was meant, even if it has no such address. */
		l->is_done = true;
		return verdict;
	}
	switch (map_suffix_of(l->map, l->candidate)) {
	case MAP_SUFFIX_ZONE:
		return LOOKUP_NO_NAME;
	case MAP_SUFFIX_ROUTE:
		return ask_daemon(l);
	case MAP_SUFFIX_DEFAULT:
		if (map_is_alive(l->map) && !is_in_hosts_file(l->candidate))
			return ask_daemon(l);
		break;
	case MAP_SUFFIX_NONE:
		break;
	}
	return to_libc(l);
}

/* The next search domain behind the name; false when there is none. */
static bool next_searched(struct lookup *l)
{
	char domain[MAP_NAME_MAX];
	size_t len = strlen(l->name);

	if (len >= MAP_NAME_MAX || strchr(l->name, '.'))
		return false;
	while (map_search_domain(l->map, l->next, domain)) {
		l->next++;
		if (!*domain)
			continue;
		memcpy(l->candidate, l->name, len);
		l->candidate[len] = '.';
		memcpy(l->candidate + len + 1, domain, strlen(domain) + 1);
		return true;
	}
	return false;
}

/*
 * All own addresses; by the node's name if it has one, since peers know no other. Where the mesh
 * is IPv6 only, the host keeps the IPv4 address it has: without any, old programs do not start.
 */
static enum lookup_verdict own(struct lookup *l)
{
	size_t len = strlen(l->name);
	struct map_own own;

	memcpy(l->candidate, l->name, len + 1);
	for (uint32_t i = 0; l->count < LOOKUP_MAX && map_own_at(l->map, i, &own); i++) {
		map_name_of(l->map, &own.addr, l->candidate);
		if (l->want & (ip_is_v4(&own.addr) ? IPC_LOOKUP_V4 : IPC_LOOKUP_V6))
			l->ip[l->count++] = own.addr;
	}
	if (l->count == 0 && (l->want & IPC_LOOKUP_V4)) {
		memcpy(l->candidate, l->name, len + 1);
		return LOOKUP_LIBC;
	}
	return l->count ? LOOKUP_FOUND : LOOKUP_NO_DATA;
}

enum lookup_verdict lookup_next(struct lookup *l)
{
	size_t len;

	l->count = 0;
	if (l->is_done)
		return LOOKUP_END;
	if (l->is_own) {
		l->is_done = true;
		l->is_searched = false;
		return own(l);
	}
	l->is_searched = l->map && next_searched(l);
	if (l->is_searched)
		return judge(l);
	l->is_done = true;
	len = strlen(l->name);
	if (!l->map || len >= sizeof(l->candidate))
		return LOOKUP_LIBC;
	memcpy(l->candidate, l->name, len + 1);
	return judge(l);
}

void lookup_explain(const struct lookup *l, const char *call, enum lookup_verdict verdict)
{
	static const char *const said[] = {
		[LOOKUP_LIBC] = ": left to libc (no name of the mesh)",
		[LOOKUP_FOUND] = " ->",
		[LOOKUP_NO_DATA] = ": has no address of this family",
		[LOOKUP_NO_NAME] = ": does not exist on the mesh",
		[LOOKUP_AGAIN] = ": no answer from the mesh's name servers",
	};
	struct explain e;

	if (verdict == LOOKUP_END)
		return;
	explain_begin(&e, call, -1);
	explain_text(&e, " ");
	explain_text(&e, l->name);
	if (l->map && strcmp(l->name, l->candidate) != 0) {
		explain_text(&e, " as ");
		explain_text(&e, l->candidate);
	}
	explain_text(&e, said[verdict]);
	for (unsigned i = 0; verdict == LOOKUP_FOUND && i < l->count; i++) {
		char text[IP_TEXT_MAX];

		explain_text(&e, " ");
		explain_text(&e, ip_format(&l->ip[i], text));
	}
	if (verdict == LOOKUP_FOUND && l->is_own)
		explain_text(&e, ", the mesh addresses of this host");
	explain_end(&e);
}
