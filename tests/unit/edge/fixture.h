/* What a test of two edges begins with: two nodes of its own, which end with it. */
#ifndef MESHWRAP_TESTS_EDGE_FIXTURE_H
#define MESHWRAP_TESTS_EDGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/edge/two_nodes.h"

extern struct two_nodes t;
extern struct node *const a, *const b; /* of t */

int with_hold(void **state);
int dial_first(void **state);
int end_nodes(void **state);

/* Where a SYN can be held, and where programs are dialled for first. */
#define TEST(name)  cmocka_unit_test_setup_teardown(name, with_hold, end_nodes)
#define FIRST(name) cmocka_unit_test_setup_teardown(name, dial_first, end_nodes)

/*
 * In a process of another user, with a's folder and this socket of it (PATHS_CONTROL, PATHS_API)
 * wide open. Where we cannot become another user the test is skipped.
 */
void assert_for_another_user(const char *name, bool (*holds)(void));

#endif
