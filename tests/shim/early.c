/* A library of the program's own, whose constructor runs before the shim's. */
#include "tests/shim/early.h"

#include <errno.h>
#include <net/if.h>
#include <unistd.h>

struct early early;

__attribute__((constructor)) static void before_main(void)
{
	static char *const words[] = { "no-such-program", NULL };
	struct if_nameindex *list;

	early.lo = if_nametoindex("lo");
	early.has_name = if_indextoname(early.lo, early.name) == early.name;
	list = if_nameindex();
	early.has_list = list != NULL;
	if_freenameindex(list);
	execvp(words[0], words);
	early.exec_error = errno;
}
