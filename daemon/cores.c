/*
 * A container of one processor's worth runs on a machine of sixty-four: what the
 * kernel counts there is the machine's. Its share is a quota, of its own group or of one
 * above: cpu.max of cgroup version 2, cpu.cfs_quota_us and cpu.cfs_period_us of version 1.
 * Inside a container the path is often the host's and names nothing here; then the
 * root of the mount is its own group. Part of a processor does not count.
 */
#include "daemon/cores.h"

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/util.h"

#define PATH_ROOM 1024
#define TEXT_ROOM 4096

static bool read_text(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return false;
	while (len + 1 < room && (n = read(fd, text + len, room - 1 - len)) > 0)
		len += (size_t)n;
	close(fd);
	text[len] = '\0';
	return len > 0;
}

static unsigned whole_cores(long quota, long period)
{
	if (quota <= 0 || period <= 0)
		return CORES_NO_LIMIT;
	return (unsigned)MIN(MAX(quota / period, 1), (long)CORES_NO_LIMIT);
}

static unsigned limit_v2(const char *dir)
{
	char path[PATH_ROOM + 32], text[64];
	long quota, period;

	snprintf(path, sizeof(path), "%s/cpu.max", dir);
	if (!read_text(path, text, sizeof(text)) || sscanf(text, "%ld %ld", &quota, &period) != 2)
		return CORES_NO_LIMIT; /* "max 100000" */
	return whole_cores(quota, period);
}

static unsigned limit_v1(const char *dir)
{
	char path[PATH_ROOM + 32], quota[64], period[64];

	snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", dir);
	if (!read_text(path, quota, sizeof(quota)))
		return CORES_NO_LIMIT;
	snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", dir);
	if (!read_text(path, period, sizeof(period)))
		return CORES_NO_LIMIT;
	return whole_cores(strtol(quota, NULL, 10), strtol(period, NULL, 10));
}

/* The least of a group and those above it, up to the mount. */
static unsigned limit_upwards(const char *mount, const char *group,
			      unsigned (*limit)(const char *dir))
{
	char dir[PATH_ROOM];
	size_t mount_len = strlen(mount);
	unsigned least = limit(mount);

	if (snprintf(dir, sizeof(dir), "%s%s", mount, group) >= (int)sizeof(dir))
		return least;
	while (strlen(dir) > mount_len) {
		unsigned cores = limit(dir);

		least = MIN(least, cores);
		*strrchr(dir, '/') = '\0';
	}
	return least;
}

/* Is cpu among "cpu,cpuacct"? */
static bool has_cpu(const char *controllers)
{
	const char *end;

	for (const char *at = controllers; *at; at = *end ? end + 1 : end) {
		end = strchrnul(at, ',');
		if (end - at == 3 && memcmp(at, "cpu", 3) == 0)
			return true;
	}
	return false;
}

/* One line, "0::/path" of version 2 or "4:cpu,cpuacct:/path". */
static unsigned limit_of_line(const char *root, char *line)
{
	char *controllers = strchr(line, ':'), *group, mount[PATH_ROOM];

	group = controllers ? strchr(controllers + 1, ':') : NULL;
	if (!group || group[1] != '/')
		return CORES_NO_LIMIT;
	controllers++;
	*group++ = '\0';
	if (!*controllers)
		return limit_upwards(root, group, limit_v2);
	if (!has_cpu(controllers) ||
	    snprintf(mount, sizeof(mount), "%s/%s", root, controllers) >= (int)sizeof(mount))
		return CORES_NO_LIMIT;
	return limit_upwards(mount, group, limit_v1);
}

unsigned cores_of_groups(const char *root, const char *memberships)
{
	char text[TEXT_ROOM], *at = text, *line;
	unsigned least = CORES_NO_LIMIT;

	snprintf(text, sizeof(text), "%s", memberships);
	while ((line = strsep(&at, "\n"))) {
		unsigned cores = limit_of_line(root, line);

		least = MIN(least, cores);
	}
	return least;
}

unsigned cores_usable(void)
{
	char memberships[TEXT_ROOM];
	cpu_set_t set;
	unsigned cores = 1;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		cores = (unsigned)MAX(CPU_COUNT(&set), 1);
	if (read_text("/proc/self/cgroup", memberships, sizeof(memberships))) {
		unsigned quota = cores_of_groups("/sys/fs/cgroup", memberships);

		cores = MIN(cores, quota);
	}
	return cores;
}
