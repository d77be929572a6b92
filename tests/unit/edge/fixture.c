/* See fixture.h. */
#include "tests/unit/edge/fixture.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/paths.h"

#define NOBODY 65534

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

void assert_for_another_user(const char *name, bool (*holds)(void))
{
	char path[PATHS_MAX + 8];
	int status;
	pid_t child;

	if (geteuid() != 0)
		skip();
	paths_join(a->dir, name, path, sizeof(path));
	assert_int_equal(chmod(a->dir, 0755), 0);
	assert_int_equal(chmod(path, 0666), 0);
	child = fork();
	if (child == 0)
		_exit(setuid(NOBODY) == 0 && holds() ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}
