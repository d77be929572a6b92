/* Sockets that wait in flight: nothing is lost, and each limit is met with grace. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/edge/sock.h"
#include "daemon/edge/stow.h"

#define MANY  128
#define LIMIT 400

struct end {
	int ours, theirs; /* ours: -1 while it is stowed */
	uint32_t ticket;
	bool came_back;
};

static struct end ends[MANY];
static struct stow *stow;
static int listener;
static struct endpoint at;

static void came_back(void *owner, int fd)
{
	struct end *end = owner;

	end->ours = fd;
	end->ticket = 0;
	end->came_back = true;
}

/* Without memory for the descriptors the kernel gives the message alone, and says nothing. */
static bool is_kernel_short;

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t n = syscall(SYS_recvmsg, fd, msg, flags);
	struct cmsghdr *c = n >= 0 && is_kernel_short ? CMSG_FIRSTHDR(msg) : NULL;

	if (c && c->cmsg_type == SCM_RIGHTS) {
		for (size_t at = CMSG_LEN(0); at < c->cmsg_len; at += sizeof(int)) {
			int given;

			memcpy(&given, (char *)c + at, sizeof(given));
			close(given);
		}
		msg->msg_controllen = 0;
	}
	return n;
}

static void set_limit(rlim_t count)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = count;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* A busy kernel puts off what comes over lo. */
static void await(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&ready, 1, 20000), 1);
}

static ssize_t read_when_there(int fd, char *got)
{
	await(fd);
	return read(fd, got, 1);
}

/* Programs' ends have high descriptors, so that ours do without them below a low limit. */
static void make_end(struct end *end)
{
	int fd;

	end->came_back = false;
	end->ticket = 0;
	end->ours = sock_open(&at, SOCK_STREAM);
	assert_int_equal(sock_connect(end->ours, &at), 0);
	sock_reset_on_close(end->ours);
	await(listener);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	end->theirs = fcntl(fd, F_DUPFD_CLOEXEC, LIMIT / 2);
	assert_true(end->theirs >= 0);
	close(fd);
}

static int setup(void **state)
{
	struct endpoint any = sock_endpoint(INADDR_LOOPBACK, 0);

	(void)state;
	set_limit(LIMIT);
	listener = sock_open(&any, SOCK_STREAM);
	assert_int_equal(sock_bind(listener, &any), 0);
	assert_int_equal(listen(listener, MANY), 0);
	assert_int_equal(sock_local(listener, &at), 0);
	stow = stow_create(came_back);
	assert_non_null(stow);
	stow_refill(stow);
	for (int i = 0; i < MANY; i++)
		make_end(&ends[i]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	stow_destroy(stow);
	set_limit(LIMIT);
	for (int i = 0; i < MANY; i++) {
		if (ends[i].ours >= 0)
			close(ends[i].ours);
		close(ends[i].theirs);
	}
	close(listener);
	return 0;
}

static void put(unsigned first, unsigned count)
{
	struct stow_item items[STOW_GROUP];

	for (unsigned i = 0; i < count; i++)
		items[i] = (struct stow_item){ ends[first + i].ours, &ends[first + i], 0 };
	assert_int_equal(stow_put(stow, items, count), count);
	for (unsigned i = 0; i < count; i++) {
		close(ends[first + i].ours);
		ends[first + i].ours = -1;
		ends[first + i].ticket = items[i].ticket;
		assert_true(items[i].ticket > 0);
	}
	stow_refill(stow);
}

static void take(struct end *end, enum stow_why why)
{
	end->ours = stow_take(stow, end->ticket, why);
	assert_true(end->ours >= 0);
	end->ticket = 0;
}

/* Both ends belong together, and bytes pass. */
static void check_joined(const struct end *end)
{
	char c = (char)(end - ends), got;

	assert_int_equal(write(end->theirs, &c, 1), 1);
	assert_int_equal(read_when_there(end->ours, &got), 1);
	assert_int_equal(got, c);
	c = (char)~c;
	assert_int_equal(write(end->ours, &c, 1), 1);
	assert_int_equal(read_when_there(end->theirs, &got), 1);
	assert_int_equal(got, c);
}

static bool is_open(const struct end *end)
{
	char c;

	return read(end->theirs, &c, 1) < 0 && errno == EAGAIN;
}

static bool is_reset(const struct end *end)
{
	char c;

	return read(end->theirs, &c, 1) < 0 && errno == ECONNRESET;
}

static unsigned descriptors_free(void)
{
	int fds[LIMIT];
	unsigned count = 0;

	while ((fds[count] = dup(listener)) >= 0)
		count++;
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
	return count;
}

static int filler[LIMIT];
static unsigned filled;

static void take_all_but(unsigned left)
{
	while ((filler[filled] = dup(listener)) >= 0)
		filled++;
	assert_true(filled >= left);
	while (left-- > 0)
		close(filler[--filled]);
}

static void give_all_back(void)
{
	while (filled > 0)
		close(filler[--filled]);
}

static void test_a_group_costs_two_descriptors(void **state)
{
	unsigned before;

	(void)state;
	put(0, STOW_GROUP);
	before = descriptors_free();
	put(STOW_GROUP, STOW_GROUP);
	assert_int_equal(descriptors_free(), before + STOW_GROUP - 2);
	assert_int_equal(stow_count(stow), 2 * STOW_GROUP);
	for (unsigned i = 0; i < 2 * STOW_GROUP; i++)
		assert_true(is_open(&ends[i]));
}

static void test_each_comes_out_as_itself_in_any_order(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < MANY; i += STOW_GROUP)
			put(i, STOW_GROUP);
		assert_int_equal(stow_count(stow), MANY);
		srandom(round);
		for (unsigned i = 0; i < 200; i++) {
			struct end *end = &ends[(unsigned)random() % MANY];

			if (end->ours < 0)
				take(end, random() % 2 ? STOW_USE : STOW_CLOSE);
			check_joined(end);
		}
		for (unsigned i = 0; i < MANY; i++)
			if (ends[i].ours < 0)
				take(&ends[i], STOW_USE);
		for (unsigned i = 0; i < MANY; i++)
			check_joined(&ends[i]);
		assert_int_equal(stow_count(stow), 0);
		assert_null(stow_ready(stow));
	}
}

static void test_holes_are_filled_before_there_is_a_new_group(void **state)
{
	unsigned before;

	(void)state;
	put(0, STOW_GROUP);
	put(STOW_GROUP, STOW_GROUP);
	for (unsigned i = 0; i < STOW_GROUP; i++)
		take(&ends[2 * i], STOW_USE); /* half of both */
	before = descriptors_free();
	for (unsigned i = 0; i < STOW_GROUP; i++) {
		put(2 * i, 1);
		assert_int_equal(descriptors_free(), before + i + 1);
	}
	assert_int_equal(stow_count(stow), 2 * STOW_GROUP);
	for (unsigned i = 0; i < 2 * STOW_GROUP; i++) {
		take(&ends[i], STOW_USE);
		check_joined(&ends[i]);
	}
}

static void test_few_get_no_group_of_their_own(void **state)
{
	struct stow_item item = { ends[0].ours, &ends[0], 0 };

	(void)state;
	assert_int_equal(stow_put(stow, &item, 1), 0);
	check_joined(&ends[0]);
	put(STOW_GROUP, STOW_GROUP);
	assert_int_equal(stow_put(stow, &item, 1), 0);
	take(&ends[STOW_GROUP], STOW_USE);
	put(0, 1); /* into the one hole */
	take(&ends[0], STOW_USE);
	check_joined(&ends[0]);
}

static void test_bytes_ends_and_resets_are_told_once(void **state)
{
	struct linger reset = { 1, 0 };
	char c;

	(void)state;
	assert_int_equal(write(ends[3].theirs, "x", 1), 1); /* before it is stowed */
	put(0, STOW_GROUP);
	assert_ptr_equal(stow_ready(stow), &ends[3]);
	assert_null(stow_ready(stow));
	assert_int_equal(write(ends[4].theirs, "y", 1), 1);
	assert_ptr_equal(stow_ready(stow), &ends[4]);
	shutdown(ends[5].theirs, SHUT_WR);
	assert_ptr_equal(stow_ready(stow), &ends[5]);
	setsockopt(ends[6].theirs, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(ends[6].theirs);
	assert_ptr_equal(stow_ready(stow), &ends[6]);
	assert_null(stow_ready(stow));
	take(&ends[4], STOW_USE);
	assert_int_equal(read(ends[4].ours, &c, 1), 1);
	take(&ends[5], STOW_USE);
	assert_int_equal(read(ends[5].ours, &c, 1), 0);
	take(&ends[6], STOW_USE);
	assert_int_equal(read(ends[6].ours, &c, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	/* What is out is not told any more. */
	assert_int_equal(write(ends[4].theirs, "z", 1), 1);
	assert_null(stow_ready(stow));
	close(ends[6].ours);
	make_end(&ends[6]);
}

static void test_an_event_is_never_for_the_next_in_the_same_place(void **state)
{
	(void)state;
	put(0, STOW_GROUP);
	assert_int_equal(write(ends[0].theirs, "x", 1), 1);
	for (unsigned i = 0; i < STOW_GROUP; i++)
		if (ends[i].ours < 0)
			take(&ends[i], STOW_USE);
	put(STOW_GROUP, STOW_GROUP);
	assert_null(stow_ready(stow));
}

static void test_closing_what_was_taken_resets_it_alone(void **state)
{
	(void)state;
	put(0, STOW_GROUP);
	take(&ends[7], STOW_CLOSE);
	assert_true(is_open(&ends[7]));
	close(ends[7].ours);
	assert_true(is_reset(&ends[7]));
	for (unsigned i = 0; i < STOW_GROUP; i++)
		assert_true(i == 7 || is_open(&ends[i]));
	close(ends[7].theirs);
	make_end(&ends[7]);
}

static void test_the_end_resets_all(void **state)
{
	(void)state;
	put(0, STOW_GROUP);
	put(STOW_GROUP, STOW_GROUP);
	stow_destroy(stow);
	stow = NULL;
	for (unsigned i = 0; i < 2 * STOW_GROUP; i++)
		assert_true(is_reset(&ends[i]));
}

static void test_without_a_descriptor_one_is_stowed_and_closed_but_not_used(void **state)
{
	(void)state;
	put(0, STOW_GROUP);
	put(STOW_GROUP, STOW_GROUP);
	take_all_but(0);
	/* One may still come out, on credit; then not even that. */
	take(&ends[0], STOW_USE);
	check_joined(&ends[0]);
	assert_int_equal(stow_take(stow, ends[1].ticket, STOW_USE), -EMFILE);
	for (unsigned i = 1; i < STOW_GROUP; i++) {
		take(&ends[i], STOW_CLOSE);
		close(ends[i].ours);
		assert_true(is_reset(&ends[i]));
		close(ends[i].theirs);
		ends[i].ours = ends[i].theirs = -1;
		close(filler[--filled]); /* the program's end was one too */
		take_all_but(0);
	}
	assert_int_equal(stow_count(stow), STOW_GROUP);
	/* The next group's pair is at hand, so this frees descriptors. */
	put(2 * STOW_GROUP, STOW_GROUP);
	take(&ends[STOW_GROUP], STOW_USE);
	check_joined(&ends[STOW_GROUP]);
	give_all_back();
	for (unsigned i = 1; i < STOW_GROUP; i++)
		make_end(&ends[i]);
}

static void test_without_any_descriptor_there_is_no_stow(void **state)
{
	(void)state;
	for (unsigned left = 0; left < 4; left++) {
		take_all_but(left);
		assert_null(stow_create(came_back));
		give_all_back();
	}
	take_all_but(4);
	stow_destroy(stow);
	stow = stow_create(came_back);
	assert_non_null(stow);
	give_all_back();
}

/*
 * In a child: without privilege descriptors in flight are counted. They are so for a user, so
 * each has one of its own: other runs of this may go on.
 */
static bool become_nobody(void)
{
	uid_t nobody = 20000 + (uid_t)getpid() % 40000;

	return geteuid() != 0 || (setgid(nobody) == 0 && setuid(nobody) == 0);
}

static int meet_the_limit_in_flight(void)
{
	struct stow_item one = { listener, NULL, 0 };

	if (!become_nobody())
		return 2;
	for (unsigned i = 0; i < MANY; i += STOW_GROUP)
		put(i, STOW_GROUP);
	set_limit(MANY - STOW_GROUP - 1);
	assert_int_equal(stow_put(stow, &one, 1), 0);
	assert_int_equal(stow_count(stow), MANY);
	/* One comes out, and the others of its group cannot go back. */
	take(&ends[0], STOW_CLOSE);
	for (unsigned i = 0; i < STOW_GROUP; i++) {
		assert_int_equal(ends[i].came_back, i > 0);
		check_joined(&ends[i]);
	}
	assert_int_equal(stow_count(stow), MANY - STOW_GROUP);
	set_limit(LIMIT);
	for (unsigned i = STOW_GROUP; i < MANY; i++) {
		if (ends[i].ours < 0)
			take(&ends[i], STOW_USE);
		check_joined(&ends[i]);
	}
	return 0;
}

static int replace_at_the_limit_in_flight(void)
{
	if (!become_nobody())
		return 2;
	for (unsigned i = 0; i < MANY; i += STOW_GROUP)
		put(i, STOW_GROUP);
	set_limit(MANY - STOW_GROUP);
	for (unsigned i = 0; i + 1 < MANY; i++) {
		take(&ends[i], STOW_USE);
		check_joined(&ends[i]);
		stow_refill(stow);
		put(i, 1);
	}
	/* In holes there is room, in a new group there is none. */
	for (unsigned i = 0; i < STOW_GROUP / 2; i++)
		take(&ends[2 * i], STOW_CLOSE);
	for (unsigned i = 0; i < STOW_GROUP / 2; i++)
		put(2 * i, 1);
	for (unsigned i = 0; i < MANY; i++)
		assert_true(!ends[i].came_back && is_open(&ends[i]));
	/* Others have used up what was free; one that should be closed is so even then. */
	take(&ends[0], STOW_CLOSE);
	stow_forget(stow, ends[1].ticket);
	set_limit(MANY - STOW_GROUP - 2);
	assert_int_equal(stow_put(stow, &(struct stow_item){ ends[0].ours, &ends[0], 0 }, 1), 0);
	check_joined(&ends[0]);
	assert_true(is_reset(&ends[1]));
	for (unsigned i = 1; i < MANY; i++)
		assert_int_equal(ends[i].came_back, i > 1 && i < STOW_GROUP);
	return 0;
}

/* The reserve is gone, since nothing could be sent again, and so is all else. */
static void test_a_kernel_without_memory_is_asked_again(void **state)
{
	struct stow_item item = { ends[STOW_GROUP].ours, &ends[STOW_GROUP], 0 };

	(void)state;
	put(0, STOW_GROUP - 1);
	is_kernel_short = true;
	assert_int_equal(stow_take(stow, ends[0].ticket, STOW_USE), -ENOMEM);
	assert_int_equal(stow_take(stow, ends[0].ticket, STOW_CLOSE), -ENOMEM);
	assert_int_equal(stow_put(stow, &item, 1), 0);
	is_kernel_short = false;
	for (unsigned i = 0; i < STOW_GROUP - 1; i++) {
		take(&ends[i], STOW_USE);
		check_joined(&ends[i]);
	}
	assert_int_equal(stow_count(stow), 0);
}

static int meet_both_limits(void)
{
	if (!become_nobody())
		return 2;
	for (unsigned i = 0; i < MANY; i += STOW_GROUP)
		put(i, STOW_GROUP);
	set_limit(MANY - STOW_GROUP - 1);
	take_all_but(0);
	take(&ends[0], STOW_CLOSE);
	take_all_but(0);
	for (unsigned i = STOW_GROUP; i < MANY - 1; i++) {
		assert_int_equal(stow_take(stow, ends[i].ticket, STOW_CLOSE), -EMFILE);
		stow_forget(stow, ends[i].ticket);
		assert_int_equal(is_reset(&ends[i]), i % STOW_GROUP == STOW_GROUP - 1);
	}
	assert_int_equal(stow_count(stow), STOW_GROUP);
	give_all_back();
	set_limit(LIMIT);
	take(&ends[MANY - 1], STOW_CLOSE);
	check_joined(&ends[MANY - 1]);
	for (unsigned i = STOW_GROUP; i < MANY - 1; i++)
		assert_true(i % STOW_GROUP == STOW_GROUP - 1 || is_reset(&ends[i]));
	assert_int_equal(stow_count(stow), 0);
	return 0;
}

static void run_apart(int (*body)(void))
{
	int status;
	pid_t child = fork();

	/* Its own sockets, none of which its parent has too. */
	if (child == 0)
		_exit(setup(NULL) == 0 ? body() : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_at_the_limit_in_flight_nothing_is_lost(void **state)
{
	(void)state;
	run_apart(meet_the_limit_in_flight);
}

static void test_at_the_limit_in_flight_one_can_replace_another(void **state)
{
	(void)state;
	run_apart(replace_at_the_limit_in_flight);
}

static void test_at_both_limits_what_should_be_closed_is_so_later(void **state)
{
	(void)state;
	run_apart(meet_both_limits);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_group_costs_two_descriptors),
		TEST(test_each_comes_out_as_itself_in_any_order),
		TEST(test_holes_are_filled_before_there_is_a_new_group),
		TEST(test_few_get_no_group_of_their_own),
		TEST(test_bytes_ends_and_resets_are_told_once),
		TEST(test_an_event_is_never_for_the_next_in_the_same_place),
		TEST(test_closing_what_was_taken_resets_it_alone),
		TEST(test_the_end_resets_all),
		TEST(test_without_a_descriptor_one_is_stowed_and_closed_but_not_used),
		TEST(test_without_any_descriptor_there_is_no_stow),
		TEST(test_a_kernel_without_memory_is_asked_again),
		cmocka_unit_test(test_at_the_limit_in_flight_nothing_is_lost),
		cmocka_unit_test(test_at_the_limit_in_flight_one_can_replace_another),
		cmocka_unit_test(test_at_both_limits_what_should_be_closed_is_so_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
