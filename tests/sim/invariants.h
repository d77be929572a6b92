/* What must hold inside an endpoint after every flush. */
#ifndef MESHWRAP_TESTS_SIM_INVARIANTS_H
#define MESHWRAP_TESTS_SIM_INVARIANTS_H

struct tcp;

/* NULL, or what is wrong. */
const char *invariants_check(const struct tcp *tcp);

#endif
