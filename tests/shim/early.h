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
};

extern struct early early;

#endif
