/* Looking up names: without waiting in the loop, and without a network here. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/loop.h"
#include "daemon/resolve.h"
#include "shared/util.h"

struct fixture {
	struct loop *loop;
	struct resolver *r;
	unsigned calls, token;
	bool failed;
	struct endpoint ep;
};

static void done(void *owner, unsigned token, const char *error, const struct endpoint *ep)
{
	struct fixture *f = owner;

	f->calls++;
	f->token = token;
	f->failed = error != NULL;
	f->ep = *ep;
	loop_stop(f->loop);
}

static void open_resolver(struct fixture *f)
{
	f->loop = loop_create(NULL);
	assert_non_null(f->loop);
	f->r = resolver_create(f->loop, done, f);
	assert_non_null(f->r);
}

static void close_resolver(struct fixture *f)
{
	resolver_destroy(f->r);
	loop_destroy(f->loop);
}

static void test_addresses_need_no_looking_up(void **state)
{
	struct fixture f = { 0 };

	(void)state;
	assert_true(resolve_is_numeric("192.0.2.1"));
	assert_true(resolve_is_numeric("2001:db8::1"));
	assert_false(resolve_is_numeric("host.example"));
	open_resolver(&f);
	assert_int_equal(resolver_start(f.r, "2001:db8::1", 7, 1), 0);
	assert_int_equal(loop_run(f.loop), 0);
	assert_false(f.failed);
	assert_int_equal(f.ep.port, 7);
	assert_int_equal(f.ep.addr.byte[0], 0x20);
	close_resolver(&f);
}

static void test_invalid_names_are_refused_without_asking(void **state)
{
	static const char *const names[] = { "no-such-host.invalid", "Some.Host.Invalid." };
	struct fixture f = { 0 };

	(void)state;
	open_resolver(&f);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_true(resolve_is_invalid(names[i]));
		assert_int_equal(resolver_start(f.r, names[i], 1, 1), 0);
		assert_true(resolver_is_busy(f.r));
		assert_int_equal(loop_run(f.loop), 0);
		assert_false(resolver_is_busy(f.r));
		assert_true(f.failed);
	}
	assert_false(resolve_is_invalid("invalid.example"));
	close_resolver(&f);
}

static void test_a_name_is_looked_up_beside_the_loop(void **state)
{
	struct fixture f = { 0 };

	(void)state;
	open_resolver(&f);
	assert_int_equal(resolver_start(f.r, "localhost", 51820, 5), 0);
	assert_int_equal(resolver_start(f.r, "localhost", 51820, 6), -EBUSY);
	assert_int_equal(loop_run(f.loop), 0);
	assert_int_equal(f.calls, 1);
	assert_int_equal(f.token, 5);
	assert_false(f.failed);
	assert_true(ip_is_loopback(&f.ep.addr));
	assert_int_equal(f.ep.port, 51820);
	assert_int_equal(resolver_start(f.r, "no.invalid", 1, 7), 0);
	assert_int_equal(loop_run(f.loop), 0);
	assert_int_equal(f.calls, 2);
	assert_true(f.failed);
	close_resolver(&f);
}

static void test_a_resolver_may_go_while_a_look_up_runs(void **state)
{
	struct fixture f = { 0 };

	(void)state;
	for (int i = 0; i < 20; i++) {
		open_resolver(&f);
		assert_int_equal(resolver_start(f.r, "localhost", 1, 1), 0);
		close_resolver(&f);
	}
	assert_int_equal(f.calls, 0);
	resolver_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_need_no_looking_up),
		cmocka_unit_test(test_invalid_names_are_refused_without_asking),
		cmocka_unit_test(test_a_name_is_looked_up_beside_the_loop),
		cmocka_unit_test(test_a_resolver_may_go_while_a_look_up_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
