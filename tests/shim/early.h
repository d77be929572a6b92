/* What libc and the shim answered before any of the shim's own code had to be run. */
#ifndef MESHWRAP_TESTS_SHIM_EARLY_H
#define MESHWRAP_TESTS_SHIM_EARLY_H

#include <net/if.h>
#include <stdbool.h>

struct early {
	unsigned lo;
	char name[IF_NAMESIZE];
	bool has_name, has_list;
	int exec_error;
	int look_up_error, dial_error; /* of a thread, while the shim was starting */
	int child_status;              /* of what it forked then, which dialled as well */
};

extern struct early early;
/* Call first: the thread's answers are there. */
void early_end(void);

#endif
