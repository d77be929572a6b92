/*
 * Names: numbers need no look-up, /etc/hosts and localhost come before everything else as
 * in libc, and the rest is the backend's, or, without one, the shared map's.
 *
 * A name that somebody else answers for may not lead to loopback: a page in a browser could
 * otherwise reach services of this machine by a name of its own (DNS rebinding).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/proxy/private.h"
#include "shared/util.h"

#define HOSTS     "/etc/hosts"
#define HOSTS_MAX 65536

struct lookup {
	proxy_found *done; /* NULL: nobody waits any more */
	void *arg;
	bool is_inside; /* lookup_start() has not returned */
	bool is_done;
	struct lookup **self; /* where the asker keeps us */
};

static bool is_on_line(char *line, const char *name, struct ip_addr *ip)
{
	char *rest = NULL, *word;
	bool found = false;

	line[strcspn(line, "#")] = '\0';
	word = strtok_r(line, " \t\r", &rest);
	if (!word || ip_parse(word, ip) != 0)
		return false;
	while (!found && (word = strtok_r(NULL, " \t\r", &rest)) != NULL)
		found = strcasecmp(word, name) == 0;
	return found;
}

static unsigned find_in_text(char *text, const char *name, struct ip_addr ip[])
{
	unsigned count = 0;
	char *line;

	while (count < PROXY_ADDRESSES_MAX && (line = strsep(&text, "\n")) != NULL)
		if (is_on_line(line, name, &ip[count]))
			count++;
	return count;
}

static unsigned find_in_hosts(const char *name, struct ip_addr ip[])
{
	int fd = open(HOSTS, O_RDONLY | O_CLOEXEC);
	char *text = fd < 0 ? NULL : malloc(HOSTS_MAX + 1);
	ssize_t n = text ? read(fd, text, HOSTS_MAX) : -1;
	unsigned count = 0;

	if (n > 0) {
		text[n] = '\0';
		count = find_in_text(text, name, ip);
	}
	free(text);
	if (fd >= 0)
		close(fd);
	return count;
}

/* What no server is asked for. */
static unsigned find_here(const struct target_place *place, struct ip_addr ip[])
{
	unsigned count;

	if (!place->is_name) {
		ip[0] = place->addr;
		return 1;
	}
	count = find_in_hosts(place->name, ip);
	if (count == 0 && strcmp(place->name, "localhost") == 0)
		ip[count++] = ip_from_v4(0x7f000001);
	return count;
}

static void found(void *arg, int error, const struct ip_addr *ips, unsigned count)
{
	struct lookup *l = arg;
	struct ip_addr kept[PROXY_ADDRESSES_MAX];
	unsigned n = 0;

	for (unsigned i = 0; error == 0 && i < count && n < PROXY_ADDRESSES_MAX; i++)
		if (!ip_is_loopback(&ips[i]) && !ip_is_any(&ips[i]))
			kept[n++] = ips[i];
	if (l->self)
		*l->self = NULL;
	if (l->done)
		l->done(l->arg, error ? error : n ? 0 : ENOENT, kept, n);
	l->is_done = true;
	if (!l->is_inside)
		free(l);
}

void lookup_start(struct proxy *proxy, const struct target_place *place, proxy_found *done,
		  void *arg, struct lookup **out)
{
	struct ip_addr ip[PROXY_ADDRESSES_MAX];
	unsigned count = find_here(place, ip);
	struct lookup *l;

	*out = NULL;
	if (count == 0 && !proxy->backend.lookup)
		count = dial_find_name(proxy->edge, place->name, ip, PROXY_ADDRESSES_MAX);
	if (count > 0 || !proxy->backend.lookup) {
		done(arg, count ? 0 : ENOENT, ip, count);
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		done(arg, ENOMEM, NULL, 0);
		return;
	}
	*l = (struct lookup){ done, arg, .is_inside = true, .self = out };
	*out = l;
	proxy->backend.lookup(proxy->backend.owner, place->name, found, l);
	l->is_inside = false;
	if (l->is_done)
		free(l);
}

void lookup_forget(struct lookup *l)
{
	if (!l)
		return;
	l->done = NULL;
	l->self = NULL;
}
