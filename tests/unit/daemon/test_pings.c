/* Echo requests under way. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/pings.h"

static void test_an_answer_finds_its_ticket_once(void **state)
{
	struct ip_addr to = ip_from_v4(0x64400002), other = ip_from_v4(0x64400003);
	struct pings p = { 0 };
	const struct ping *ping = pings_add(&p, &to, 77, 1000);
	uint16_t id = ping->id, seq = ping->seq;
	struct ping found;

	(void)state;
	assert_int_equal(pings_take(&p, &other, id, seq, &found), -ENOENT);
	assert_int_equal(pings_take(&p, &to, id, (uint16_t)(seq + 1), &found), -ENOENT);
	assert_int_equal(pings_take(&p, &to, PINGS_MAX, seq, &found), -ENOENT);
	assert_int_equal(pings_take(&p, &to, id, seq, &found), 0);
	assert_int_equal(found.ticket, 77);
	assert_int_equal(found.sent_ns, 1000);
	assert_int_equal(pings_take(&p, &to, id, seq, &found), -ENOENT);
	assert_true(pings_deadline(&p) == NEVER_NS);
}

static void test_late_ones_are_given_up(void **state)
{
	struct ip_addr to = ip_from_v4(0x64400002);
	struct pings p = { 0 };
	struct ping found;

	(void)state;
	assert_non_null(pings_add(&p, &to, 1, 1000));
	assert_non_null(pings_add(&p, &to, 2, 2000));
	assert_true(pings_deadline(&p) == 1000 + PINGS_TIMEOUT_NS);
	assert_int_equal(pings_expire(&p, 999 + PINGS_TIMEOUT_NS, &found), -ENOENT);
	assert_int_equal(pings_expire(&p, 1000 + PINGS_TIMEOUT_NS, &found), 0);
	assert_int_equal(found.ticket, 1);
	assert_int_equal(pings_expire(&p, 1000 + PINGS_TIMEOUT_NS, &found), -ENOENT);
	assert_true(pings_deadline(&p) == 2000 + PINGS_TIMEOUT_NS);
}

static void test_there_is_room_for_so_many_only(void **state)
{
	struct ip_addr to = ip_from_v4(0x64400002);
	struct pings p = { 0 };
	struct ping found;

	(void)state;
	for (uint32_t i = 0; i < PINGS_MAX; i++)
		assert_non_null(pings_add(&p, &to, i, 1000));
	assert_null(pings_add(&p, &to, 99, 1000));
	assert_int_equal(pings_expire(&p, NEVER_NS, &found), 0);
	assert_non_null(pings_add(&p, &to, 99, 1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_answer_finds_its_ticket_once),
		cmocka_unit_test(test_late_ones_are_given_up),
		cmocka_unit_test(test_there_is_room_for_so_many_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
