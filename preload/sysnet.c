/*
 * scandir(): the list of interfaces among the files has the mesh's, too.
 *
 * UCX takes its interfaces from the names in /sys/class/net, and asks libc and the
 * kernel what they are, which ifaddrs.c and ifioctl.c answer. So the name is put in, past
 * the caller's filter and in the caller's order. What the name would lead to is not there,
 * as of an interface that has just gone.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/meshif.h"
#include "preload/shim.h"

#define NET_CLASS "/sys/class/net"

static bool names_net_class(const char *path)
{
	size_t len = sizeof(NET_CLASS) - 1;

	return strncmp(path, NET_CLASS, len) == 0 && path[len + strspn(path + len, "/")] == '\0';
}

/* libc's own are freed one by one, so this is one that can be. */
static struct dirent *make_entry(const char *name)
{
	struct dirent *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->d_ino = MESHIF_INDEX;
	entry->d_reclen = sizeof(*entry);
	entry->d_type = DT_LNK; /* as all that are there */
	strcpy(entry->d_name, name);
	return entry;
}

static void explain_shown(const char *name)
{
	struct explain e;

	if (!explain_is_on())
		return;
	explain_begin(&e, "scandir", -1);
	explain_text(&e, ": with the mesh interface ");
	explain_text(&e, name);
	explain_end(&e);
}

/* The list of count names with one more, where its order wants it; without memory as it was. */
static int add_name(struct dirent ***list, int count, const char *name, dirent_filter *filter,
		    dirent_order *order)
{
	struct dirent *entry = make_entry(name), **longer;
	size_t at = (size_t)count;

	if (!entry)
		return count;
	longer = filter && !filter(entry)
			 ? NULL
			 : realloc(*list, ((size_t)count + 1) * sizeof(struct dirent *));
	if (!longer) {
		free(entry);
		return count;
	}
	while (order && at > 0 &&
	       order((const struct dirent **)&longer[at - 1], (const struct dirent **)&entry) > 0)
		at--;
	memmove(longer + at + 1, longer + at, ((size_t)count - at) * sizeof(*longer));
	longer[at] = entry;
	*list = longer;
	explain_shown(name);
	return count + 1;
}

SHIM_EXPORT(int, scandir,
	    (const char *path, struct dirent ***list, dirent_filter *filter, dirent_order *order))
{
	const struct map *map = shim_map(); /* first: it binds libc's functions if nobody has yet */
	int count = libc.scandir(path, list, filter, order), saved = errno;
	char name[MAP_IFNAME_MAX];

	if (count < 0 || !names_net_class(path) || !meshif_name(map, name) ||
	    libc.if_nametoindex(name))
		return count;
	count = add_name(list, count, name, filter, order);
	errno = saved;
	return count;
}

#ifdef __LP64__ /* where both have the same entries */
SHIM_EXPORT(int, scandir64,
	    (const char *path, struct dirent ***list, dirent_filter *filter, dirent_order *order))
{
	return shim_scandir(path, list, filter, order);
}
#endif
