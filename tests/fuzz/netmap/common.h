/* A second map from what the first exports must read the same. */
#ifndef MESHWRAP_TESTS_FUZZ_NETMAP_COMMON_H
#define MESHWRAP_TESTS_FUZZ_NETMAP_COMMON_H

#include "daemon/netmap/netmap.h"

#define WALL_S INT64_C(1795000000)

/* 0, or the error of netmap_apply(); aborts when the changes cannot be. */
int apply(struct netmap *nm, const char *json, size_t len);
/* Looks everything up, exports, compares; aborts on a difference. */
void check(const struct netmap *nm);

#endif
