/*
 * resolv.conf is watched twice: the file itself, since container engines write
 * into it in place through another name, and its folder, since everybody else
 * renames a new one over it. Any event of the two means: read it again, soon
 * (many writers truncate first). While the file is not there, or cannot be watched (a user
 * has few inotify instances, and containers share them), it is read every few seconds.
 *
 * A file that cannot be read, or is empty for now, changes nothing.
 */
#include "daemon/dns/system.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/loop.h"
#include "shared/log.h"
#include "shared/paths.h"
#include "shared/util.h"

#define DEFAULT_PATH "/etc/resolv.conf"
#define FILE_MAX     65536
#define SETTLE_MS    50
#define POLL_S       3
#define FILE_EVENTS  (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF)
#define DIR_EVENTS   (IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE)

struct dns_system {
	char path[PATHS_MAX];
	void (*changed)(void *owner);
	void *owner;
	int watch; /* inotify, -1: none */
	struct event event, settle;
	bool has_event, has_settle, is_settling;
	struct ip_addr servers[DNS_SERVERS_MAX];
	unsigned count;
};

/* One word of a line; NULL at its end. */
static const char *next_word(const char **at, const char *end, size_t *len)
{
	const char *word;

	while (*at < end && (**at == ' ' || **at == '\t' || **at == '\r'))
		(*at)++;
	word = *at;
	while (*at < end && **at != ' ' && **at != '\t' && **at != '\r')
		(*at)++;
	*len = (size_t)(*at - word);
	return *len ? word : NULL;
}

static bool server_of(const char *line, const char *end, struct ip_addr *server)
{
	char text[IP_TEXT_MAX];
	size_t len;
	const char *word = next_word(&line, end, &len);

	if (!word || len != 10 || memcmp(word, "nameserver", 10) != 0)
		return false;
	word = next_word(&line, end, &len);
	if (!word || len >= sizeof(text))
		return false;
	memcpy(text, word, len);
	text[len] = '\0';
	return ip_parse(text, server) == 0;
}

unsigned dns_system_parse(const char *text, struct ip_addr servers[static DNS_SERVERS_MAX])
{
	unsigned count = 0;

	while (*text && count < DNS_SERVERS_MAX) {
		const char *end = text + strcspn(text, "\n");
		struct ip_addr server;
		bool is_known = false;

		if (server_of(text, end, &server)) {
			for (unsigned i = 0; i < count; i++)
				is_known |= ip_equal(&servers[i], &server);
			if (!is_known)
				servers[count++] = server;
		}
		text = *end ? end + 1 : end;
	}
	if (count == 0)
		servers[count++] = ip_from_v4(0x7f000001);
	return count;
}

/* malloc'd, NULL when it cannot be read. */
static char *read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = malloc(FILE_MAX + 1);
	size_t len = 0;
	ssize_t n = -1;

	while (fd >= 0 && text && len < FILE_MAX && (n = read(fd, text + len, FILE_MAX - len)) > 0)
		len += (size_t)n;
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

/* True: the servers are others now. */
static bool read_servers(struct dns_system *s)
{
	struct ip_addr servers[DNS_SERVERS_MAX];
	char *text = read_file(s->path);
	unsigned count;
	bool is_same;

	if (!text || (!*text && s->count)) {
		free(text);
		if (s->count == 0)
			s->count = dns_system_parse("", s->servers);
		return false;
	}
	count = dns_system_parse(text, servers);
	free(text);
	is_same = count == s->count && memcmp(servers, s->servers, count * sizeof(*servers)) == 0;
	memcpy(s->servers, servers, count * sizeof(*servers));
	s->count = count;
	return !is_same;
}

/* True: changes of the file will be seen. */
static bool watch(struct dns_system *s)
{
	char folder[PATHS_MAX];
	bool is_watched;
	char *slash;

	if (s->watch < 0)
		return false;
	snprintf(folder, sizeof(folder), "%s", s->path);
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	/* Either may be missing or not ours to watch; the other then has to do. */
	is_watched = inotify_add_watch(s->watch, s->path, FILE_EVENTS) >= 0;
	if (!is_watched)
		log_debug("dns: %s is not watched: %s", s->path, strerror(errno));
	if (inotify_add_watch(s->watch, slash ? folder : ".", DIR_EVENTS) < 0)
		log_debug("dns: %s is not watched: %s", folder, strerror(errno));
	return is_watched;
}

static void watch_or_poll(struct dns_system *s)
{
	if (!watch(s) && event_add(&s->settle, &(struct timeval){ POLL_S, 0 }) != 0)
		log_err("dns: changes of %s are not seen until a restart", s->path);
}

static void on_settled(evutil_socket_t fd, short what, void *arg)
{
	struct dns_system *s = arg;

	(void)fd;
	(void)what;
	s->is_settling = false;
	watch_or_poll(s);
	if (read_servers(s)) {
		log_info("dns: %s: the servers have changed, they are %u now", s->path, s->count);
		s->changed(s->owner);
	}
}

static void on_change(evutil_socket_t fd, short what, void *arg)
{
	struct dns_system *s = arg;
	char events[4096];

	(void)what;
	while (read(fd, events, sizeof(events)) > 0)
		;
	/* Never put off: what is in the folder besides may be written to without a pause. */
	if (s->is_settling)
		return;
	s->is_settling = true;
	if (event_add(&s->settle, &(struct timeval){ 0, SETTLE_MS * 1000 }) != 0)
		on_settled(-1, 0, s);
}

struct dns_system *dns_system_create(struct loop *loop, const char *path,
				     void (*changed)(void *owner), void *owner)
{
	struct dns_system *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->changed = changed;
	s->owner = owner;
	s->watch = -1;
	if ((size_t)snprintf(s->path, sizeof(s->path), "%s", path ? path : DEFAULT_PATH) >=
	    sizeof(s->path))
		goto fail;
	read_servers(s);
	s->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (s->watch < 0)
		log_info("dns: %s is looked at every %d s, since it cannot be watched: %s", s->path,
			 POLL_S, strerror(errno));
	if (event_assign(&s->settle, loop_base(loop), -1, 0, on_settled, s) != 0)
		goto fail;
	s->has_settle = true;
	if (s->watch >= 0) {
		if (event_assign(&s->event, loop_base(loop), s->watch, EV_READ | EV_PERSIST,
				 on_change, s) != 0 ||
		    event_add(&s->event, NULL) != 0)
			goto fail;
		s->has_event = true;
	}
	watch_or_poll(s);
	return s;
fail:
	dns_system_destroy(s);
	return NULL;
}

void dns_system_destroy(struct dns_system *s)
{
	if (!s)
		return;
	if (s->has_event)
		event_del(&s->event);
	if (s->has_settle)
		event_del(&s->settle);
	if (s->watch >= 0)
		close(s->watch);
	free(s);
}

unsigned dns_system_servers(const struct dns_system *s, const struct ip_addr **servers)
{
	*servers = s->servers;
	return s->count;
}
