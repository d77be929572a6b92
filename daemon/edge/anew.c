/*
 * Who clears /tmp by rm takes the folder of a daemon that runs. It would go on, known
 * to nobody: programs that run open no connection any more, new ones find no daemon, and the next
 * one finds its port taken.
 *
 * So the folder is watched, which costs nothing while nobody touches it. What is missing is made
 * again a moment after the last removal, since who removes a folder fails where a file comes
 * into it meanwhile. First come the sockets, then the map, by which programs find them.
 */
#include "daemon/edge/anew.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/edge/folder.h"
#include "daemon/edge/localapi.h"
#include "daemon/edge/private.h"
#include "shared/log.h"
#include "shared/util.h"

#define EVENTS    (IN_DELETE | IN_DELETE_SELF | IN_MOVED_FROM | IN_MOVE_SELF | IN_ONLYDIR)
#define SETTLE_MS 500
#define RETRY_S   10

/* fd negative: any file will do. */
static bool is_there(const struct edge *edge, const char *file, int fd)
{
	char path[PATHS_MAX + 16];
	struct stat own, st;

	if (paths_join(edge->dir, file, path, sizeof(path)) != 0 || lstat(path, &st) != 0)
		return false;
	return fd < 0 ||
	       (fstat(fd, &own) == 0 && own.st_dev == st.st_dev && own.st_ino == st.st_ino);
}

static bool is_whole(const struct edge *edge)
{
	return is_there(edge, PATHS_LOCK, edge->lock_fd) && is_there(edge, PATHS_CONTROL, -1) &&
	       is_there(edge, PATHS_POSTS, -1) && is_there(edge, PATHS_API, -1) &&
	       is_there(edge, PATHS_MAP, mapfile_fd(edge->mapfile));
}

/* The lock, and with it the folder. Another daemon may have taken the place: -EEXIST. */
static int take_folder(struct edge *edge, char *error)
{
	int err, fd;

	if (is_there(edge, PATHS_LOCK, edge->lock_fd))
		return 0;
	err = folder_lock(edge->dir, edge->config.allow_all_users, &fd, error);
	if (err)
		return err;
	close(edge->lock_fd);
	edge->lock_fd = fd;
	if (edge->keep_fd >= 0)
		close(edge->keep_fd);
	edge->keep_fd = folder_keep(edge->dir);
	return 0;
}

static int make_anew(struct edge *edge, char error[static 256])
{
	int err = take_folder(edge, error);

	if (err)
		return err;
	err = apps_listen(&edge->apps);
	if (err == 0)
		err = posts_listen(&edge->posts);
	if (err == 0)
		err = localapi_listen_again(edge->api);
	if (err == 0 && !is_there(edge, PATHS_MAP, mapfile_fd(edge->mapfile)))
		err = mapfile_renew(edge->mapfile, edge->dir, edge->config.allow_all_users);
	if (err)
		snprintf(error, 256, "%s", strerror(-err));
	return err;
}

static void settled(struct edge_timer *timer, uint64_t now_ns)
{
	struct anew *anew = CONTAINER_OF(timer, struct anew, settle);
	struct edge *edge = anew->edge;
	bool was_whole = is_whole(edge);
	char error[256] = "";
	int err = was_whole ? 0 : make_anew(edge, error);

	/* The folder may be another one; for the same one this changes nothing. */
	if (err == 0 && inotify_add_watch(anew->watch, edge->dir, EVENTS) < 0) {
		err = -errno;
		snprintf(error, sizeof(error), "%s", strerror(-err));
	}
	if (err) {
		if (!anew->is_told)
			log_err("edge: %s: was removed, and cannot be made anew (%s): programs "
				"do not find this daemon",
				edge->dir, error);
		anew->is_told = true;
		edge_timer_set(&edge->timers, timer, now_ns + RETRY_S * NS_PER_S);
		return;
	}
	anew->is_told = false;
	if (was_whole)
		return;
	log_warn("edge: %s: somebody removed it, or files in it: made anew", edge->dir);
	/* Something may have been removed before the watch was there. */
	edge_timer_set(&edge->timers, timer, now_ns + SETTLE_MS * NS_PER_MS);
}

static void removed(evutil_socket_t watch, short what, void *arg)
{
	struct anew *anew = arg;
	char events[4096];

	(void)what;
	while (read(watch, events, sizeof(events)) > 0)
		;
	edge_timer_set(&anew->edge->timers, &anew->settle,
		       loop_now(anew->edge->loop) + SETTLE_MS * NS_PER_MS);
}

void anew_begin(struct anew *anew, struct edge *edge)
{
	anew->edge = edge;
	anew->settle.fired = settled;
	anew->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (anew->watch >= 0 && inotify_add_watch(anew->watch, edge->dir, EVENTS) >= 0 &&
	    event_assign(&anew->event, loop_base(edge->loop), anew->watch, EV_READ | EV_PERSIST,
			 removed, anew) == 0 &&
	    event_add(&anew->event, NULL) == 0) {
		anew->has_event = true;
		return;
	}
	log_info("edge: %s: cannot be watched (%s): who removes it hides this daemon", edge->dir,
		 strerror(errno));
	anew_end(anew);
}

void anew_end(struct anew *anew)
{
	if (anew->has_event)
		event_del(&anew->event);
	anew->has_event = false;
	if (anew->edge)
		edge_timer_cancel(&anew->edge->timers, &anew->settle);
	if (anew->edge && anew->watch >= 0)
		close(anew->watch);
	anew->watch = -1;
}
