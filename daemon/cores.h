/* How many processors this process may keep busy. */
#ifndef MESHWRAP_DAEMON_CORES_H
#define MESHWRAP_DAEMON_CORES_H

/* By its affinity and the quotas of its control groups; at least 1. */
unsigned cores_usable(void);

/* ---- the parts, for tests ---- */

#define CORES_NO_LIMIT 65535u

/* What /proc/self/cgroup says (memberships) and the files below the mount of cgroups at root allow.
 */
unsigned cores_of_groups(const char *root, const char *memberships);

#endif
