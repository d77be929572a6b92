/* What the shim answers before its own constructor has run. */
#include "tests/shim/early.h"
#include "tests/shim/harness.h"

#include <errno.h>

static void test_constructors_of_other_libraries_may_ask(void **state)
{
	(void)state;
	assert_int_equal(early.lo, 1);
	assert_true(early.has_name);
	assert_string_equal(early.name, "lo");
	assert_true(early.has_list);
	/* A folder of PATH may be closed to us. */
	assert_true(early.exec_error == ENOENT || early.exec_error == EACCES);
}

static void test_threads_wait_until_the_shim_has_started(void **state)
{
	(void)state;
	assert_int_equal(early.dial_error, 0);
	assert_int_equal(early.look_up_error, 0);
}

static void test_a_child_that_is_forked_meanwhile_starts_for_itself(void **state)
{
	(void)state;
	assert_int_equal(early.child_status, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constructors_of_other_libraries_may_ask),
		cmocka_unit_test(test_threads_wait_until_the_shim_has_started),
		cmocka_unit_test(test_a_child_that_is_forked_meanwhile_starts_for_itself),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	early_end();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
