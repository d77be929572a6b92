/* Small things every file may need. */
#ifndef MESHWRAP_SHARED_UTIL_H
#define MESHWRAP_SHARED_UTIL_H

#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a)                  (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define CONTAINER_OF(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* A deadline that never comes. */
#define NEVER_NS UINT64_MAX

#endif
