/* Far-side ports with a fate, for tests that are linked with fake_stack.c. */
#ifndef MESHWRAP_TESTS_FAKE_STACK_H
#define MESHWRAP_TESTS_FAKE_STACK_H

#include "daemon/stack/netstack.h"

enum fake_port {
	FAKE_PORT_TIMES_OUT = 1,
	FAKE_PORT_UNREACHABLE = 2,
	FAKE_PORT_SILENT = 3,
	FAKE_PORT_NO_BUFFERS = 4
};

#endif
