/*
 * The UDP sockets on loopback: trains, both families, and a kernel that
 * refuses in every way it may. The refusals are made by putting our own
 * sendmmsg and sendto in front of the real ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the next calls answer: an errno, or 0 to let them through. */
static int sendmmsg_error, sendto_error, sendto_allowed;

static int fake_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	if (sendmmsg_error) {
		errno = sendmmsg_error;
		return -1;
	}
	return sendmmsg(fd, messages, count, flags);
}

static ssize_t fake_sendto(int fd, const void *bytes, size_t len, int flags,
			   const struct sockaddr *to, socklen_t to_len)
{
	if (sendto_error && sendto_allowed-- <= 0) {
		errno = sendto_error;
		return -1;
	}
	return sendto(fd, bytes, len, flags, to, to_len);
}

#define sendmmsg fake_sendmmsg
#define sendto   fake_sendto
#include "daemon/path/udp_queue.c"
#undef sendmmsg
#undef sendto
#include "daemon/path/udp.c"

#define SEGMENT 1312
#define LOTS    150

struct fixture {
	struct loop *loop;
	struct udp_path *a, *b;
	unsigned received, blocked_calls;
	bool blocked;
	uint64_t bytes;
	struct endpoint last_from;
	uint8_t expected; /* the first byte of the next datagram */
	uint64_t until_ns;
	unsigned wanted;
};

static void on_received(void *owner, struct udp_datagram *datagrams, unsigned count)
{
	struct fixture *f = owner;

	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(datagrams[i].data[0], f->expected++);
		f->bytes += datagrams[i].len;
		f->last_from = datagrams[i].from;
	}
	f->received += count;
}

static void on_blocked(void *owner, bool blocked)
{
	struct fixture *f = owner;

	f->blocked = blocked;
	f->blocked_calls++;
}

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	struct fixture *f = owner;

	if (f->received >= f->wanted || now_ns >= f->until_ns)
		loop_stop(f->loop);
	return f->until_ns;
}

static int set_up(void **state)
{
	static const struct udp_callbacks callbacks = { on_received, on_blocked };
	struct fixture *f = calloc(1, sizeof(*f));
	struct loop_hooks hooks = { round_end, f };

	sendmmsg_error = sendto_error = sendto_allowed = 0;
	*state = f;
	f->loop = loop_create(&hooks);
	return !f->loop || udp_path_create(f->loop, 0, &callbacks, f, &f->a) ||
	       udp_path_create(f->loop, 0, &callbacks, f, &f->b);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	udp_path_destroy(f->a);
	udp_path_destroy(f->b);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

/* Runs until that many datagrams have arrived in all, or that takes very long. */
static void run_until(struct fixture *f, unsigned wanted)
{
	f->wanted = wanted;
	f->until_ns = loop_now(f->loop) + 20 * NS_PER_S;
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->received, wanted);
}

static struct endpoint address_of(const char *ip, const struct udp_path *path)
{
	struct endpoint ep = { .port = udp_path_port(path) };

	assert_int_equal(ip_parse(ip, &ep.addr), 0);
	return ep;
}

static uint8_t train[LOTS * SEGMENT];

/* count datagrams of SEGMENT bytes, the last one of last_len. */
static size_t make_train(unsigned count, size_t last_len)
{
	memset(train, 0, sizeof(train));
	for (unsigned i = 0; i < count; i++)
		train[i * SEGMENT] = (uint8_t)i;
	return (count - 1) * SEGMENT + last_len;
}

static void test_a_train_arrives_as_single_datagrams_in_order(void **state)
{
	static const char *const addresses[] = { "127.0.0.1", "::1" };
	struct fixture *f = *state;
	struct endpoint to, from;
	size_t len;

	for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
		to = address_of(addresses[i], f->b);
		from = address_of(addresses[i], f->a);
		f->expected = 0;
		f->bytes = 0;
		f->received = 0;
		len = make_train(LOTS, 40);
		udp_path_send(f->a, &to, train, len, SEGMENT);
		udp_path_flush(f->a);
		run_until(f, LOTS);
		assert_int_equal(f->bytes, len);
		assert_true(endpoint_equal(&f->last_from, &from));
	}
}

static void test_trains_cost_few_calls_where_the_kernel_cuts_them(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);
	struct udp_stats out, in;

	udp_path_send(f->a, &to, train, make_train(40, SEGMENT), SEGMENT);
	udp_path_flush(f->a);
	run_until(f, 40);
	udp_path_get_stats(f->a, &out);
	udp_path_get_stats(f->b, &in);
	assert_true(out.gso && in.gro); /* any kernel since 5.0 */
	assert_int_equal(out.tx_calls, 1);
	assert_int_equal(out.tx_packets, 40);
	assert_int_equal(in.rx_calls, 1);
	assert_int_equal(in.rx_packets, 40);
}

static void test_without_segmentation_the_same_arrives(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);

	f->a->stats.gso = false;
	udp_path_send(f->a, &to, train, make_train(LOTS, 1), SEGMENT);
	udp_path_flush(f->a);
	run_until(f, LOTS);
}

static void test_a_device_that_cannot_cut_turns_it_off_for_good(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);

	sendmmsg_error = EIO;
	udp_path_send(f->a, &to, train, make_train(20, 7), SEGMENT);
	udp_path_flush(f->a);
	run_until(f, 20);
	assert_false(f->a->stats.gso);
	assert_int_equal(f->a->stats.tx_dropped, 0);
}

static void test_a_train_for_a_narrow_link_goes_piece_by_piece(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);

	sendmmsg_error = EMSGSIZE;
	udp_path_send(f->a, &to, train, make_train(20, 7), SEGMENT);
	udp_path_flush(f->a);
	run_until(f, 20);
	assert_true(f->a->stats.gso);
}

static void test_an_unreachable_destination_costs_only_its_own_datagrams(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);
	size_t len = make_train(3, SEGMENT);

	sendmmsg_error = ENETUNREACH;
	udp_path_send(f->a, &to, train, len, SEGMENT);
	udp_path_send(f->a, &to, train, 10, 10);
	udp_path_flush(f->a);
	assert_int_equal(f->a->stats.tx_dropped, 4);
	sendmmsg_error = 0;
	udp_path_send(f->a, &to, train, len, SEGMENT);
	udp_path_flush(f->a);
	run_until(f, 3);
	assert_int_equal(f->blocked_calls, 0);
}

static void test_a_full_socket_loses_nothing_and_says_so(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);
	size_t len = make_train(20, SEGMENT);

	sendmmsg_error = EAGAIN;
	udp_path_send(f->a, &to, train, 8 * SEGMENT, SEGMENT);
	udp_path_flush(f->a);
	assert_true(f->blocked);
	sendmmsg_error = EMSGSIZE; /* one by one, and still behind what waits */
	udp_path_send(f->a, &to, train + 8 * SEGMENT, len - 8 * SEGMENT, SEGMENT);
	udp_path_flush(f->a);
	memset(train, 0xff, sizeof(train)); /* the backlog has a copy */
	sendto_error = EAGAIN;
	sendto_allowed = 11; /* stops in the middle of the second train */
	for (int i = 0; i < 3; i++)
		socket_writable(f->a->socket[0].fd, EV_WRITE, &f->a->socket[0]);
	assert_true(f->blocked);
	sendto_error = 0;
	run_until(f, 20);
	assert_false(f->blocked);
	assert_int_equal(f->blocked_calls, 2);
	assert_int_equal(f->a->stats.tx_dropped, 0);
}

static void test_the_backlog_is_bounded_and_counts_what_it_drops(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);
	size_t len = make_train(40, SEGMENT), kept;
	const struct copy *copy;

	sendmmsg_error = EAGAIN;
	for (int i = 0; i < 40; i++) {
		udp_path_send(f->a, &to, train, len, SEGMENT);
		udp_path_flush(f->a);
	}
	kept = 0;
	STAILQ_FOREACH(copy, &f->a->socket[0].queue->backlog, link)
	kept += copy->len;
	assert_true(kept > UDP_BACKLOG_MAX / 2 && kept <= UDP_BACKLOG_MAX);
	assert_true(f->a->stats.tx_dropped > 0);
	assert_int_equal(f->a->stats.tx_dropped + kept / SEGMENT, 40 * 40);
}

static void test_many_messages_flush_by_themselves(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);

	make_train(LOTS, SEGMENT);
	for (unsigned i = 0; i < LOTS; i++)
		udp_path_send(f->a, &to, train + i * SEGMENT, 100, 100);
	udp_path_flush(f->a);
	run_until(f, LOTS);
}

static void test_a_taken_port_is_told(void **state)
{
	static const struct udp_callbacks callbacks = { on_received, on_blocked };
	struct fixture *f = *state;
	struct udp_path *none;

	assert_int_equal(udp_path_create(f->loop, udp_path_port(f->a), &callbacks, f, &none),
			 -EADDRINUSE);
}

static void test_nonsense_lengths_are_dropped_and_counted(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);

	udp_path_send(f->a, &to, train, 10, 0);
	udp_path_send(f->a, &to, train, 66000, 66000);
	assert_int_equal(f->a->stats.tx_dropped, 2);
}

static void on_unreachable(void *owner, const struct endpoint *to)
{
	struct fixture *f = owner;

	f->last_from = *to;
	f->received++;
}

static void test_unreachable_addresses_are_told_once_and_not_within_the_send(void **state)
{
	struct fixture *f = *state;
	struct endpoint to = address_of("127.0.0.1", f->b);

	assert_int_equal(udp_path_on_unreachable(f->a, on_unreachable), 0);
	for (unsigned i = 0; i < 2 * UNREACHABLE; i++) {
		sendmmsg_error = i % 2 ? EHOSTUNREACH : ENETUNREACH;
		udp_path_send(f->a, &to, train, 10, 10);
		udp_path_flush(f->a);
	}
	assert_int_equal(f->received, 0);
	run_until(f, 1);
	assert_true(endpoint_equal(&f->last_from, &to));
	for (unsigned i = 0; i < 2 * UNREACHABLE; i++) {
		to.port++;
		udp_path_send(f->a, &to, train, 10, 10);
		udp_path_flush(f->a);
	}
	run_until(f, 1 + UNREACHABLE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_train_arrives_as_single_datagrams_in_order),
		T(test_trains_cost_few_calls_where_the_kernel_cuts_them),
		T(test_without_segmentation_the_same_arrives),
		T(test_a_device_that_cannot_cut_turns_it_off_for_good),
		T(test_a_train_for_a_narrow_link_goes_piece_by_piece),
		T(test_an_unreachable_destination_costs_only_its_own_datagrams),
		T(test_a_full_socket_loses_nothing_and_says_so),
		T(test_the_backlog_is_bounded_and_counts_what_it_drops),
		T(test_many_messages_flush_by_themselves),
		T(test_a_taken_port_is_told),
		T(test_nonsense_lengths_are_dropped_and_counted),
		T(test_unreachable_addresses_are_told_once_and_not_within_the_send),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
