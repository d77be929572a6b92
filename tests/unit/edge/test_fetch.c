/*
 * A stowed flow wants its descriptor and there is none: flow_stow.c against a stow that does at
 * will what the real one does when descriptors and those in flight are used up both at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/edge/flow_stow.c"
#include "tests/unit/edge/fake_stack.h"

#include <sys/socket.h>
#include <unistd.h>

#define FLOWS 8

/* The stow: it has no descriptor to give, but one socket may come back while others are put. */
static struct {
	void (*came_back)(void *owner, int fd);
	struct flow *returns;
	int pipe[2];
	unsigned puts;
} fake;

static struct edge edge;
static struct flow *flow[FLOWS];
static int program[FLOWS], ours[FLOWS];

struct stow *stow_create(void (*came_back)(void *owner, int fd))
{
	fake.came_back = came_back;
	return (struct stow *)&fake;
}

void stow_destroy(struct stow *stow)
{
	(void)stow;
}

unsigned stow_put(struct stow *stow, struct stow_item *items, unsigned count)
{
	struct flow *back = fake.returns;

	(void)stow;
	fake.puts++;
	fake.returns = NULL;
	if (back)
		fake.came_back(back, dup(ours[0]));
	for (unsigned i = 0; i < count; i++)
		items[i].ticket = i + 100;
	return count;
}

void stow_refill(struct stow *stow)
{
	(void)stow;
}

bool stow_lend(struct stow *stow)
{
	(void)stow;
	return false;
}

int stow_take(struct stow *stow, uint32_t ticket, enum stow_why why)
{
	(void)stow;
	(void)why;
	assert_int_not_equal(ticket, 0);
	return -EMFILE;
}

void stow_forget(struct stow *stow, uint32_t ticket)
{
	(void)stow;
	(void)ticket;
}

int stow_event_fd(const struct stow *stow)
{
	(void)stow;
	return fake.pipe[0];
}

void *stow_ready(struct stow *stow)
{
	(void)stow;
	return NULL;
}

unsigned stow_count(const struct stow *stow)
{
	(void)stow;
	return 0;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	(void)owner;
	(void)now_ns;
	return NEVER_NS;
}

static int setup(void **state)
{
	static const struct loop_hooks hooks = { .round_end = round_end };
	static const struct netstack_callbacks callbacks;
	struct ip_addr own;
	struct endpoint local = { .port = 1000 }, remote = { .port = 80 };

	(void)state;
	assert_int_equal(ip_parse("100.64.0.1", &own), 0);
	local.addr = own;
	assert_int_equal(ip_parse("100.64.0.2", &remote.addr), 0);
	edge = (struct edge){ .loop = loop_create(&hooks) };
	edge.ns = netstack_create(&own, 1, NULL, &callbacks, NULL, NULL, NULL, NULL);
	assert_int_equal(pipe(fake.pipe), 0);
	assert_int_equal(flows_open(&edge.flows, &edge), 0);
	for (int i = 0; i < FLOWS; i++, local.port++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		program[i] = pair[0];
		ours[i] = pair[1];
		flow[i] = flow_create(&edge, &local, &remote, FLOW_CALLING);
		assert_int_equal(tcp_connect(netstack_tcp(edge.ns), &local, &remote, flow[i], 0,
					     &flow[i]->conn),
				 0);
		flow_set_state(flow[i], FLOW_OPEN);
		assert_int_equal(stream_open(&flow[i]->stream, loop_base(edge.loop), dup(pair[1]),
					     flow[i]->conn, on_event, flow[i]),
				 0);
		flow_hold_descriptor(flow[i]);
	}
	fake.puts = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	flows_close(&edge.flows);
	netstack_destroy(edge.ns);
	loop_destroy(edge.loop);
	for (int i = 0; i < FLOWS; i++) {
		close(program[i]);
		close(ours[i]);
	}
	close(fake.pipe[0]);
	close(fake.pipe[1]);
	return 0;
}

/* As if it had been stowed before. */
static void stow(struct flow *f, uint32_t ticket)
{
	if (!edge.flows.stow)
		assert_int_equal(start(&edge.flows), 0);
	let_go(f);
	f->ticket = ticket;
	stream_leave(&f->stream);
}

static void test_a_socket_may_come_back_while_room_is_made_for_it(void **state)
{
	(void)state;
	stow(flow[0], 1);
	fake.returns = flow[0];
	assert_true(flow_fetch(flow[0]));
	assert_int_equal(flow[0]->ticket, 0);
	assert_true(flow[0]->stream.fd >= 0);
	assert_true(flow[0]->is_held);
}

static void test_where_no_flow_is_idle_all_are_asked_once_a_while_only(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FLOWS; i++) {
		stow(flow[i], i + 1);
		if (i % 2 == 0)
			continue;
		assert_true(give_back(flow[i], dup(ours[i]))); /* has something to read */
	}
	for (unsigned i = 0; i < FLOWS; i += 2)
		assert_false(flow_fetch(flow[i]));
	assert_int_equal(fake.puts, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_socket_may_come_back_while_room_is_made_for_it),
		TEST(test_where_no_flow_is_idle_all_are_asked_once_a_while_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
