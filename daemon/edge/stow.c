/*
 * A socket lives as long as somebody refers to it, and a message in flight does
 * (SCM_RIGHTS), though it counts against no limit of open files. So a group of
 * sockets is one message in a socket pair of ours: two descriptors instead of
 * STOW_GROUP. When the daemon dies, however it does, pair and message go with it, and the
 * sockets are closed as they would be in its table.
 *
 * Events. A registration with epoll belongs to an open file and a descriptor's
 * number, and it outlives the number. All are made, and removed, under one number
 * that is kept for that, the seat. An event carries a ticket and the turn in which it was
 * issued, so one that comes late is for nobody.
 *
 * To take one out the message is looked at (MSG_PEEK, which gives a second
 * descriptor of each), dropped, and sent again without it. One message for all is cheaper
 * than one each, since a queue of those would have to be turned: 17 us against 50.
 *
 * Looking takes a descriptor for each of the group. Some are kept in reserve for that:
 * without them a socket could not even be closed when all others are in use.
 *
 * What was taken leaves a hole. Groups with many are filled before there is a new
 * one, so that there are never many groups of few.
 *
 * At the limit of descriptors in flight no message is taken; then an old one goes before the new
 * one comes, so that one socket can still replace another. If the new one is refused even so,
 * because other processes of the user were faster, its sockets come back to their owners.
 */
#include "daemon/edge/stow.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <unistd.h>

#include "daemon/edge/rights.h"
#include "shared/util.h"

#define RESERVE (STOW_GROUP + 8)
#define HOLES   8 /* so many make it worth the effort to fill them */
#define LEAST   9 /* for fewer a group of their own costs more than it gives */

static_assert(STOW_GROUP == 32 && STOW_GROUP == RIGHTS_MAX,
	      "a group is a message, and its members are the bits of a word");

/* What is done with a group next, by its members. */
enum kind { FREE, LOOSE, TIGHT, FULL, KINDS };

struct group {
	unsigned number;
	enum kind kind;
	LIST_ENTRY(group) by_kind;
	int end[2];              /* written to, read from; not when FREE */
	uint32_t members;        /* the message has them in the order of their bits */
	void *owner[STOW_GROUP]; /* NULL: to be closed */
	uint32_t turn[STOW_GROUP];
};

struct stow {
	void (*came_back)(void *owner, int fd);
	int epoll, seat;
	int spare[2]; /* the next group's: to stow must work when no descriptor is free */
	int reserve[RESERVE];
	unsigned reserved;
	struct group **groups; /* by number */
	unsigned group_count;
	LIST_HEAD(, group) list[KINDS];
	uint32_t turn;
	unsigned count;
};

/* Members of a group that have descriptors for a moment. */
struct handful {
	unsigned count;
	int fd[STOW_GROUP];
	unsigned place[STOW_GROUP];
};

static unsigned size(const struct group *g)
{
	return (unsigned)__builtin_popcount(g->members);
}

/* Second descriptors of all members: 0, or -errno and none. */
static int look(const struct group *g, struct handful *h)
{
	int count = rights_look(g->end, h->fd);

	h->count = count > 0 ? (unsigned)count : 0;
	if (count < 0)
		return count;
	/* The kernel gives none, and does not say so, where it finds no memory for the list. */
	if (count == 0)
		return -ENOMEM;
	assert(h->count == size(g));
	for (unsigned i = 0, place = 0; i < h->count; place++)
		if (g->members & 1u << place)
			h->place[i++] = place;
	return 0;
}

static void close_all(const struct handful *h)
{
	for (unsigned i = 0; i < h->count; i++)
		close(h->fd[i]);
}

/* ---- registrations ---- */

static void leave_seat(struct stow *stow)
{
	dup3(stow->epoll, stow->seat, O_CLOEXEC); /* replaces: needs no free descriptor */
}

static int watch(struct stow *stow, int fd, uint32_t ticket, uint32_t turn)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT,
				     .data.u64 = (uint64_t)turn << 32 | ticket };

	if (dup3(fd, stow->seat, O_CLOEXEC) < 0 ||
	    epoll_ctl(stow->epoll, EPOLL_CTL_ADD, stow->seat, &event) != 0)
		return -errno;
	return 0;
}

static void unwatch(struct stow *stow, int fd)
{
	dup3(fd, stow->seat, O_CLOEXEC);
	epoll_ctl(stow->epoll, EPOLL_CTL_DEL, stow->seat, NULL);
}

/* ---- descriptors ---- */

static bool fill_reserve(struct stow *stow)
{
	int fd;

	while (stow->reserved < RESERVE && (fd = fcntl(stow->epoll, F_DUPFD_CLOEXEC, 0)) >= 0)
		stow->reserve[stow->reserved++] = fd;
	return stow->reserved == RESERVE;
}

static void open_reserve(struct stow *stow)
{
	while (stow->reserved > 0)
		close(stow->reserve[--stow->reserved]);
}

bool stow_lend(struct stow *stow)
{
	if (stow->reserved <= STOW_GROUP)
		return false;
	close(stow->reserve[--stow->reserved]);
	return true;
}

static int open_spare(struct stow *stow)
{
	return stow->spare[0] >= 0 ? 0 : rights_open(stow->spare);
}

void stow_refill(struct stow *stow)
{
	/* Where that fails it is tried again by who needs them. */
	if (open_spare(stow) == 0)
		fill_reserve(stow);
}

/* ---- groups ---- */

static enum kind kind_of(unsigned members)
{
	if (members == 0)
		return FREE;
	if (members == STOW_GROUP)
		return FULL;
	return STOW_GROUP - members >= HOLES ? LOOSE : TIGHT;
}

static void set_members(struct stow *stow, struct group *g, uint32_t members)
{
	unsigned was = size(g), is;

	g->members = members;
	is = size(g);
	stow->count += is - was;
	if (g->kind != FREE && is == 0) {
		close(g->end[0]);
		close(g->end[1]);
	}
	LIST_REMOVE(g, by_kind);
	g->kind = kind_of(is);
	LIST_INSERT_HEAD(&stow->list[g->kind], g, by_kind);
}

static struct group *make_group(struct stow *stow)
{
	struct group **groups = stow->groups, *g;
	unsigned count = stow->group_count;

	/* The table doubles when the count is a power of two. */
	if ((count & (count - 1)) == 0)
		groups = realloc(groups, (count ? 2 * count : 1) * sizeof(struct group *));
	if (!groups)
		return NULL;
	stow->groups = groups;
	g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	g->number = count;
	g->kind = FREE;
	groups[stow->group_count++] = g;
	LIST_INSERT_HEAD(&stow->list[FREE], g, by_kind);
	return g;
}

/* Where that many are put: one with holes, or one that is FREE with its pair in place. */
static struct group *find_room(struct stow *stow, unsigned count, bool may_be_new)
{
	struct group *g = LIST_FIRST(&stow->list[LOOSE]);

	if (g)
		return g;
	if (may_be_new && count >= LEAST && open_spare(stow) == 0) {
		g = LIST_FIRST(&stow->list[FREE]);
		if (!g)
			g = make_group(stow);
		if (!g)
			return NULL;
		memcpy(g->end, stow->spare, sizeof(g->end));
		return g;
	}
	return LIST_FIRST(&stow->list[TIGHT]);
}

static uint32_t ticket_of(const struct group *g, unsigned place)
{
	return g->number * STOW_GROUP + place + 1;
}

static struct group *find(const struct stow *stow, uint32_t ticket, unsigned *place)
{
	struct group *g = stow->groups[(ticket - 1) / STOW_GROUP];

	*place = (ticket - 1) % STOW_GROUP;
	return g;
}

static struct group *find_member(const struct stow *stow, uint32_t ticket, unsigned *place)
{
	struct group *g;

	assert(ticket > 0 && (ticket - 1) / STOW_GROUP < stow->group_count);
	g = find(stow, ticket, place);
	assert(g->members & 1u << *place);
	return g;
}

/* The members, with descriptors for a moment, if need be out of the reserve. */
static int look_surely(struct stow *stow, const struct group *g, struct handful *h)
{
	int err = look(g, h);

	if (err != -EMFILE)
		return err;
	open_reserve(stow);
	return look(g, h);
}

/* The members that are in h have their descriptors for good; the group is no more. */
static void dissolve(struct stow *stow, struct group *g, const struct handful *h)
{
	void *owner[STOW_GROUP];

	for (unsigned i = 0; i < h->count; i++) {
		owner[i] = g->owner[h->place[i]];
		unwatch(stow, h->fd[i]);
	}
	leave_seat(stow);
	set_members(stow, g, 0);
	/* Only now: what is called may ask for other sockets. */
	for (unsigned i = 0; i < h->count; i++) {
		if (owner[i])
			stow->came_back(owner[i], h->fd[i]);
		else
			close(h->fd[i]);
	}
}

/* ---- putting ---- */

/* What the message shall be: the members that are there, and items in the holes. */
static uint32_t join(const struct group *g, const struct handful *old, struct stow_item *items,
		     unsigned count, struct handful *all)
{
	uint32_t members = 0;
	unsigned used = 0;

	all->count = 0;
	for (unsigned place = 0; place < STOW_GROUP && (used < count || g->members >> place);
	     place++) {
		int fd;

		if (g->members & 1u << place) {
			fd = old->fd[all->count - used];
		} else if (used < count) {
			items[used].ticket = ticket_of(g, place);
			fd = items[used++].fd;
		} else {
			continue;
		}
		all->fd[all->count++] = fd;
		members |= 1u << place;
	}
	return members;
}

/*
 * The new message in place of the old one, if there is one. 0, or -errno: then all is as before,
 * but when has_old has become false.
 */
static int replace_message(const struct group *g, const struct handful *all, bool *has_old)
{
	int err = rights_send(g->end, all->fd, all->count);

	/* At the limit the old one must go first, since it counts, too. */
	if (*has_old && (err == 0 || err == -ETOOMANYREFS)) {
		rights_drop(g->end);
		*has_old = false;
		if (err)
			err = rights_send(g->end, all->fd, all->count);
	}
	return err;
}

/* All of them into the group's holes: 0 or -errno. */
static int fill(struct stow *stow, struct group *g, struct stow_item *items, unsigned count)
{
	struct handful old = { 0 }, all;
	unsigned watched = 0, place;
	uint32_t members;
	bool has_old = g->kind != FREE;
	int err = has_old ? look_surely(stow, g, &old) : 0;

	if (err)
		return err;
	stow->turn++;
	members = join(g, &old, items, count, &all);
	while (err == 0 && watched < count) {
		err = watch(stow, items[watched].fd, items[watched].ticket, stow->turn);
		watched += err == 0;
	}
	if (err == 0)
		err = replace_message(g, &all, &has_old);
	while (err && watched > 0)
		unwatch(stow, items[--watched].fd);
	leave_seat(stow);
	if (err && old.count > 0 && !has_old)
		dissolve(stow, g, &old);
	else
		close_all(&old);
	if (err)
		return err;
	if (g->kind == FREE)
		stow->spare[0] = -1;
	set_members(stow, g, members);
	for (unsigned i = 0; i < count; i++) {
		find(stow, items[i].ticket, &place);
		g->owner[place] = items[i].owner;
		g->turn[place] = stow->turn;
	}
	return 0;
}

unsigned stow_put(struct stow *stow, struct stow_item *items, unsigned count)
{
	unsigned done = 0;
	bool may_be_new = true;

	while (done < count) {
		struct group *g = find_room(stow, count - done, may_be_new);
		unsigned n = g ? MIN(STOW_GROUP - size(g), count - done) : 0;
		bool is_new = g && g->kind == FREE;

		if (n > 0 && fill(stow, g, items + done, n) == 0)
			done += n;
		else if (is_new)
			may_be_new = false; /* holes need less */
		else
			break;
	}
	return done;
}

/* ---- taking ---- */

/* Picks one member out of all; those that were forgotten are closed. */
static int pick(const struct group *g, unsigned place, const struct handful *all,
		struct handful *rest)
{
	int fd = -1;

	rest->count = 0;
	for (unsigned i = 0; i < all->count; i++) {
		if (all->place[i] == place) {
			fd = all->fd[i];
		} else if (!g->owner[all->place[i]]) {
			close(all->fd[i]);
		} else {
			rest->fd[rest->count] = all->fd[i];
			rest->place[rest->count++] = all->place[i];
		}
	}
	return fd;
}

/* They are in flight again. */
static void put_back(struct stow *stow, struct group *g, const struct handful *rest)
{
	uint32_t members = 0;

	for (unsigned i = 0; i < rest->count; i++)
		members |= 1u << rest->place[i];
	set_members(stow, g, members);
	close_all(rest);
}

int stow_take(struct stow *stow, uint32_t ticket, enum stow_why why)
{
	struct handful all, rest;
	unsigned place;
	struct group *g = find_member(stow, ticket, &place);
	int fd, err;

	if (!fill_reserve(stow) && why == STOW_USE)
		return -EMFILE;
	err = look_surely(stow, g, &all);
	if (err) {
		fill_reserve(stow);
		return err;
	}
	rights_drop(g->end);
	fd = pick(g, place, &all, &rest);
	unwatch(stow, fd);
	leave_seat(stow);
	if (rest.count > 0 && rights_send(g->end, rest.fd, rest.count) == 0)
		put_back(stow, g, &rest);
	else
		dissolve(stow, g, &rest);
	fill_reserve(stow);
	return fd;
}

void stow_forget(struct stow *stow, uint32_t ticket)
{
	unsigned place;
	struct group *g = find_member(stow, ticket, &place);

	g->owner[place] = NULL;
	for (place = 0; place < STOW_GROUP; place++)
		if (g->members & 1u << place && g->owner[place])
			return;
	set_members(stow, g, 0);
}

/* ---- all the rest ---- */

void *stow_ready(struct stow *stow)
{
	struct epoll_event event;

	while (epoll_wait(stow->epoll, &event, 1, 0) == 1) {
		unsigned place;
		const struct group *g = find(stow, (uint32_t)event.data.u64, &place);

		if (g->members & 1u << place && g->turn[place] == event.data.u64 >> 32 &&
		    g->owner[place])
			return g->owner[place];
	}
	return NULL;
}

int stow_event_fd(const struct stow *stow)
{
	return stow->epoll;
}

unsigned stow_count(const struct stow *stow)
{
	return stow->count;
}

struct stow *stow_create(void (*came_back)(void *owner, int fd))
{
	struct stow *stow = calloc(1, sizeof(*stow));

	if (!stow)
		return NULL;
	stow->came_back = came_back;
	for (unsigned i = 0; i < KINDS; i++)
		LIST_INIT(&stow->list[i]);
	stow->seat = stow->spare[0] = -1;
	stow->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (stow->epoll >= 0)
		stow->seat = fcntl(stow->epoll, F_DUPFD_CLOEXEC, 0);
	if (stow->seat < 0 || open_spare(stow) != 0) {
		stow_destroy(stow);
		return NULL;
	}
	return stow;
}

void stow_destroy(struct stow *stow)
{
	if (!stow)
		return;
	for (unsigned i = 0; i < stow->group_count; i++)
		set_members(stow, stow->groups[i], 0);
	for (unsigned i = 0; i < stow->group_count; i++)
		free(stow->groups[i]);
	free(stow->groups);
	open_reserve(stow);
	if (stow->spare[0] >= 0) {
		close(stow->spare[0]);
		close(stow->spare[1]);
	}
	if (stow->seat >= 0)
		close(stow->seat);
	if (stow->epoll >= 0)
		close(stow->epoll);
	free(stow);
}
