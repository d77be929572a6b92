/* Bytes of bulk streams wait for more: how long, and which never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/edge/gather.h"
#include "shared/util.h"

#define KB 1024u

struct bulk {
	struct gather_item item;
	unsigned delivered;
};

static struct gather gather;
static struct bulk bulk[3];

static int setup(void **state)
{
	(void)state;
	gather_init(&gather);
	for (unsigned i = 0; i < 3; i++)
		bulk[i] = (struct bulk){ 0 };
	return 0;
}

static void deliver(struct gather_item *item)
{
	CONTAINER_OF(item, struct bulk, item)->delivered++;
}

static bool more(unsigned i, size_t bytes)
{
	return gather_waits(&gather, &bulk[i].item, bytes);
}

static void test_few_bytes_go_at_once(void **state)
{
	(void)state;
	assert_false(more(0, 1));
	assert_false(more(0, GATHER_LEAST - 1));
	assert_true(gather_is_empty(&gather));
}

static void test_bytes_wait_for_one_look_that_brings_no_more(void **state)
{
	(void)state;
	assert_true(more(0, 64 * KB));
	gather_look(&gather, deliver);
	assert_int_equal(bulk[0].delivered, 0);
	gather_look(&gather, deliver);
	assert_int_equal(bulk[0].delivered, 1);
	assert_true(gather_is_empty(&gather));
	gather_look(&gather, deliver);
	assert_int_equal(bulk[0].delivered, 1);
}

static void test_they_wait_while_more_comes_but_not_for_ever(void **state)
{
	unsigned looks = 0;

	(void)state;
	while (!bulk[0].delivered) {
		assert_true(more(0, GATHER_LEAST + looks));
		gather_look(&gather, deliver);
		looks++;
	}
	assert_int_equal(looks, GATHER_LOOKS + 1);
	/* The next bytes have as long again. */
	assert_true(more(0, GATHER_LEAST));
	gather_look(&gather, deliver);
	assert_int_equal(bulk[0].delivered, 1);
}

static void test_many_bytes_wait_for_nothing(void **state)
{
	(void)state;
	assert_true(more(0, GATHER_MOST - 1));
	assert_false(more(0, GATHER_MOST));
	gather_leave(&gather, &bulk[0].item);
	assert_true(gather_is_empty(&gather));
	gather_leave(&gather, &bulk[0].item);
	gather_look(&gather, deliver);
	gather_look(&gather, deliver);
	assert_int_equal(bulk[0].delivered, 0);
}

static void test_each_waits_for_its_own(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_true(more(i, 64 * KB));
	gather_look(&gather, deliver);
	assert_true(more(1, 128 * KB));
	gather_look(&gather, deliver);
	assert_int_equal(bulk[0].delivered, 1);
	assert_int_equal(bulk[1].delivered, 0);
	assert_int_equal(bulk[2].delivered, 1);
	gather_look(&gather, deliver);
	assert_int_equal(bulk[1].delivered, 1);
	assert_true(gather_is_empty(&gather));
}

/* What cannot all go is waited with again. */
static void deliver_half(struct gather_item *item)
{
	deliver(item);
	assert_true(gather_waits(&gather, item, GATHER_LEAST));
}

static void test_what_was_delivered_in_part_waits_again(void **state)
{
	(void)state;
	assert_true(more(0, 64 * KB));
	gather_look(&gather, deliver_half);
	gather_look(&gather, deliver_half);
	assert_int_equal(bulk[0].delivered, 1);
	assert_false(gather_is_empty(&gather));
	gather_look(&gather, deliver);
	gather_look(&gather, deliver);
	assert_int_equal(bulk[0].delivered, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_few_bytes_go_at_once, setup),
		cmocka_unit_test_setup(test_bytes_wait_for_one_look_that_brings_no_more, setup),
		cmocka_unit_test_setup(test_they_wait_while_more_comes_but_not_for_ever, setup),
		cmocka_unit_test_setup(test_many_bytes_wait_for_nothing, setup),
		cmocka_unit_test_setup(test_each_waits_for_its_own, setup),
		cmocka_unit_test_setup(test_what_was_delivered_in_part_waits_again, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
