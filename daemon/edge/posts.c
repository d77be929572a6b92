/*
 * A post is taken on trust that it can be served: a program that waits in connect() hears of a
 * failure only by a reset, which takes a flow and a descriptor. So as soon as one of these is
 * short, programs are told by the map to ask instead (apps.c), where each gets its answer.
 */
#include "daemon/edge/posts.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/folder.h"
#include "daemon/edge/private.h"
#include "shared/log.h"
#include "shared/util.h"

#define BATCH 8

struct batch {
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	uint8_t bytes[BATCH][sizeof(struct ipc_post) + 1]; /* one more, to see what is too long */
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control[BATCH];
};

static int receive(int fd, struct batch *b)
{
	int n;

	for (unsigned i = 0; i < BATCH; i++) {
		b->iov[i] = (struct iovec){ b->bytes[i], sizeof(b->bytes[i]) };
		b->msgs[i].msg_hdr = (struct msghdr){ .msg_iov = &b->iov[i],
						      .msg_iovlen = 1,
						      .msg_control = &b->control[i],
						      .msg_controllen = sizeof(b->control[i]) };
	}
	do
		n = recvmmsg(fd, b->msgs, BATCH, MSG_DONTWAIT, NULL);
	while (n < 0 && errno == EINTR);
	return n;
}

/* False: nobody we serve. */
static bool find_sender(struct msghdr *msg, bool allow_all_users, struct ucred *who)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
		    c->cmsg_len == CMSG_LEN(sizeof(*who))) {
			memcpy(who, CMSG_DATA(c), sizeof(*who));
			return folder_may_tell(who, allow_all_users);
		}
	return false;
}

static void take(evutil_socket_t fd, short what, void *arg)
{
	struct posts *posts = arg;
	struct edge *edge = posts->edge;
	struct batch batch;
	struct ipc_post post;
	struct ucred who;
	int n = receive(fd, &batch);

	(void)what;
	flows_reap(&edge->flows);
	for (int i = 0; i < n; i++)
		if (find_sender(&batch.msgs[i].msg_hdr, edge->config.allow_all_users, &who) &&
		    ipc_check_post(batch.bytes[i], batch.msgs[i].msg_len, &post) == 0)
			flow_dial_posted(edge, &post, &who);
	if (edge->flows.count + POSTS_SPARE > FLOWS_MAX)
		posts_pause(posts);
}

void posts_pause(struct posts *posts)
{
	struct edge *edge = posts->edge;

	mapfile_set_takes_posts(edge->mapfile, false);
	edge_timer_set(&edge->timers, &posts->resume,
		       loop_now(edge->loop) + POSTS_PAUSE_MS * NS_PER_MS);
}

/* Whose a port is, where that matters, is known from the kernel's table only. */
static bool may_take(const struct posts *posts)
{
	const struct edge *edge = posts->edge;

	return posts->has_event && edge->hold.works &&
	       (!edge->config.allow_all_users || edge->socket_table >= 0);
}

static void resume(struct edge_timer *timer, uint64_t now_ns)
{
	struct posts *posts = CONTAINER_OF(timer, struct posts, resume);
	struct edge *edge = posts->edge;

	(void)now_ns;
	if (edge->flows.count + POSTS_SPARE > FLOWS_MAX)
		posts_pause(posts);
	else
		mapfile_set_takes_posts(edge->mapfile, may_take(posts));
}

static void stop_listening(struct posts *posts)
{
	if (posts->has_event)
		event_del(&posts->event);
	posts->has_event = false;
	if (posts->fd >= 0)
		close(posts->fd);
	posts->fd = -1;
}

int posts_open(struct posts *posts, struct edge *edge)
{
	posts->edge = edge;
	posts->resume.fired = resume;
	return posts_listen(posts);
}

int posts_listen(struct posts *posts)
{
	struct edge *edge = posts->edge;
	int one = 1;

	stop_listening(posts);
	posts->fd = folder_listen(edge->dir, PATHS_POSTS, SOCK_DGRAM, edge->config.allow_all_users);
	if (posts->fd < 0)
		return posts->fd;
	if (setsockopt(posts->fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) != 0)
		return -errno;
	if (event_assign(&posts->event, loop_base(edge->loop), posts->fd, EV_READ | EV_PERSIST,
			 take, posts) != 0 ||
	    event_add(&posts->event, NULL) != 0)
		return -ENOMEM;
	posts->has_event = true;
	mapfile_set_takes_posts(edge->mapfile, may_take(posts));
	return 0;
}

void posts_close(struct posts *posts)
{
	stop_listening(posts);
}
