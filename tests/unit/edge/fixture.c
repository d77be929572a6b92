/* See fixture.h. */
#include "tests/unit/edge/fixture.h"

struct two_nodes t;
struct node *const a = &t.node[0], *const b = &t.node[1];

int with_hold(void **state)
{
	(void)state;
	two_nodes_start(&t, false);
	return 0;
}

int dial_first(void **state)
{
	(void)state;
	two_nodes_start(&t, true);
	return 0;
}

int end_nodes(void **state)
{
	(void)state;
	two_nodes_stop(&t);
	return 0;
}
