#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "world.h"

static void test_staged_packets_arrive_in_order_after_the_handshake(void **state)
{
	struct world *w = world_create(&(struct world_options){ 0 });
	struct node *b = &w->node[1];

	(void)state;
	world_send(w, 0, 0, 100, 1280);
	assert_int_equal(w->wire_count, 1);
	world_settle(w);
	assert_int_equal(b->received, 100);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(b->seq[i], i);
	assert_int_equal(w->node[0].established, 1);
	assert_int_equal(b->established, 1);
	world_send(w, 1, 7, 1, 40);
	world_settle(w);
	assert_int_equal(w->node[0].received, 1);
	assert_int_equal(w->node[0].seq[0], 7);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_staged_packets_arrive_in_order_after_the_handshake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
