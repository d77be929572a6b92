/*
 * Start-up, and the one thing the shim keeps: a read-only mapping of the map.
 *
 * The mapping is published once through an atomic pointer and never unmapped,
 * since another thread may be reading it; it is replaced only when the daemon
 * has retired the file (a new version) or has gone and a new one has made a
 * new file. A process without a daemon tries again when it meets an address of
 * the usual mesh ranges, and else at most ten times a second.
 *
 * Start-up happens in our constructor, or in the first hooked call if another
 * library's constructor comes first. While it runs, calls made by the dynamic
 * linker or an allocator from inside it pass straight through, and those of other threads
 * wait for its end, but not for ever: it may need a lock that such a thread has. A child that
 * such a thread forks meanwhile starts for itself.
 *
 * A map is believed only if the folder was named by the user (MESHWRAP_DIR) or
 * the file belongs to root or to this user: a folder in /tmp can be made by
 * anybody first.
 */
#include "preload/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "preload/explain.h"
#include "preload/follow.h"
#include "preload/libc.h"
#include "preload/loaded.h"
#include "preload/primary.h"
#include "preload/raw.h"
#include "preload/traced.h"
#include "shared/paths.h"
#include "shared/util.h"

#define RETRY_NS        (100 * NS_PER_MS)
#define START_WAITS_MAX 2000
#define PATH_LENGTH     (PATHS_MAX + 16)

enum state { STATE_NEW, STATE_STARTING, STATE_ON, STATE_OFF };

static _Atomic int state;
static _Atomic(pthread_t) starter;
static _Atomic unsigned start_waits; /* ms, of all threads together */
static _Atomic(const struct map *) current;
static _Atomic uint64_t map_ino;
static _Atomic uint64_t next_try_ns;
static char runtime_dir[PATHS_MAX];
static char map_path[PATH_LENGTH];
static char control_path[PATH_LENGTH], posts_path[PATH_LENGTH];
static bool dir_was_named;
bool shim_is_talkative;

static uint64_t coarse_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int open_map_file(struct stat *st)
{
	int fd = (int)raw_syscall(SYS_openat, AT_FDCWD, map_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW,
				  0);

	if (fd < 0)
		return -1;
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode) &&
	    st->st_size >= (off_t)sizeof(struct map) &&
	    (dir_was_named || st->st_uid == 0 || st->st_uid == geteuid()))
		return fd;
	raw_syscall(SYS_close, fd);
	return -1;
}

/* Maps the file and makes it the current one in place of old. */
static const struct map *map_open(const struct map *old)
{
	const struct map *map = MAP_FAILED;
	const struct map *expected = old;
	struct stat st;
	int saved = errno;
	int fd;

	fd = open_map_file(&st);
	if (fd >= 0 && (!old || st.st_ino != atomic_load(&map_ino)))
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (fd >= 0)
		raw_syscall(SYS_close, fd);
	if (map != MAP_FAILED) {
		if (map_is_valid(map, (uint64_t)st.st_size) &&
		    atomic_compare_exchange_strong(&current, &expected, map)) {
			atomic_store(&map_ino, st.st_ino);
			errno = saved;
			return map;
		}
		munmap((void *)map, (size_t)st.st_size);
	}
	errno = saved;
	return atomic_load(&current);
}

static bool set_dir(const char *dir)
{
	if (strlen(dir) >= sizeof(runtime_dir) ||
	    paths_join(dir, PATHS_MAP, map_path, sizeof(map_path)) < 0 ||
	    paths_join(dir, PATHS_CONTROL, control_path, sizeof(control_path)) < 0 ||
	    paths_join(dir, PATHS_POSTS, posts_path, sizeof(posts_path)) < 0)
		return false;
	memcpy(runtime_dir, dir, strlen(dir) + 1);
	return true;
}

#ifdef MESHWRAP_TRACER
static bool is_own_tool(void)
{
	return false; /* meshrun, on behalf of somebody else's program */
}

static bool is_served_otherwise(void)
{
	return false;
}
#else
static bool is_served_otherwise(void)
{
	return traced_is_served();
}

static bool is_own_tool(void)
{
	static const char *const tools[] = { "meshd", "meshctl", "meshrun" };
	char exe[4096];
	const char *base;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n <= 0)
		return false;
	exe[n] = '\0';
	base = strrchr(exe, '/');
	base = base ? base + 1 : exe;
	for (size_t i = 0; i < ARRAY_LEN(tools); i++)
		if (strcmp(base, tools[i]) == 0)
			return true;
	return false;
}
#endif

static bool read_environment(void)
{
	const char *off = getenv("MESHWRAP_OFF");
	const char *level = getenv("MESHWRAP_LOG");
	const char *explain = getenv("MESHWRAP_EXPLAIN");
	const char *primary = getenv("MESHWRAP_PRIMARY");
	const char *named = getenv("MESHWRAP_DIR");
	char dir[PATHS_MAX];

	if (getauxval(AT_SECURE) || (off && strcmp(off, "1") == 0) || is_own_tool() ||
	    is_served_otherwise())
		return false;
	shim_is_talkative = level && (strcmp(level, "debug") == 0 || strcmp(level, "info") == 0);
	explain_start(explain ? explain : level && strcmp(level, "debug") == 0 ? "1" : NULL);
	primary_wanted = !primary || strcmp(primary, "0") != 0;
	dir_was_named = named && *named;
	if (paths_runtime_dir(named, getenv("XDG_RUNTIME_DIR"), geteuid(), dir) == 0)
		set_dir(dir);
	return true;
}

#ifdef MESHWRAP_TRACER
static void start_follow(void)
{
	/* The kernel keeps the trace across exec. */
}

static void start_looking(void)
{
	/* Whose calls they are makes no difference to us. */
}

static void expect_forks(void)
{
	/* It starts when it has one thread. */
}
#else
#ifndef __GLIBC__ /* musl's, which glibc has not where this library gets to it */
#pragma weak pthread_atfork
#endif

/* Who is starting is another thread of the parent's, and not in this child. */
static void start_anew(void)
{
	int expected = STATE_STARTING;

	if (!pthread_equal(atomic_load(&starter), pthread_self()))
		atomic_compare_exchange_strong(&state, &expected, STATE_NEW);
}

static void expect_forks(void)
{
	if (__register_atfork)
		__register_atfork(NULL, NULL, start_anew, NULL);
#ifndef __GLIBC__
	else if (pthread_atfork)
		pthread_atfork(NULL, NULL, start_anew);
#endif
}

static void start_looking(void)
{
	loaded_start();
}

static void start_follow(void)
{
	follow_start();
}
#endif

static void say_on(void)
{
	struct explain e;

#ifdef MESHWRAP_TRACER
	explain_begin(&e, "traced", -1);
#else
	explain_begin(&e, "on in ", -1);
	explain_text(&e, program_invocation_short_name);
#endif
	if (!atomic_load(&current))
		explain_text(&e, ", no mesh is known yet");
	explain_end(&e);
}

static void start(void)
{
	int expected = STATE_NEW;
	int saved = errno;

	if (!atomic_compare_exchange_strong(&state, &expected, STATE_STARTING))
		return;
	atomic_store(&starter, pthread_self());
	expect_forks();
	libc_bind();
	if (!read_environment()) {
		atomic_store(&state, STATE_OFF);
		errno = saved;
		return;
	}
	start_follow();
	if (!map_open(NULL) && !dir_was_named && geteuid() != 0) {
		char own[PATHS_MAX];

		memcpy(own, runtime_dir, sizeof(own));
		if (!set_dir(PATHS_COMMON_DIR) || !map_open(NULL))
			set_dir(own);
	}
	atomic_store(&state, STATE_ON);
	if (shim_is_talkative || explain_is_on())
		say_on();
	start_looking();
	errno = saved;
}

#ifndef MESHWRAP_TRACER /* which knows its folder only later, and starts at its first call */
__attribute__((constructor)) static void shim_constructor(void)
{
	start();
}
#endif

static void wait_for_start(void)
{
	const struct timespec ms = { 0, NS_PER_MS };
	int saved = errno;

	while (atomic_load(&state) == STATE_STARTING &&
	       !pthread_equal(atomic_load(&starter), pthread_self()) &&
	       atomic_fetch_add(&start_waits, 1) < START_WAITS_MAX)
		raw_syscall(SYS_nanosleep, &ms, NULL);
	errno = saved;
}

bool shim_is_on(void)
{
	int now = atomic_load_explicit(&state, memory_order_acquire);

	if (__builtin_expect(now == STATE_NEW, 0))
		start();
	if (__builtin_expect(now == STATE_NEW || now == STATE_STARTING, 0))
		wait_for_start();
	return atomic_load_explicit(&state, memory_order_acquire) == STATE_ON;
}

/* No map, or one that was retired: look for another, but not at every call. */
static const struct map *map_slow(const struct map *old)
{
	uint64_t now;

	if (!shim_is_on())
		return NULL;
	now = coarse_now_ns();
	if (now < atomic_load_explicit(&next_try_ns, memory_order_relaxed))
		return atomic_load(&current);
	atomic_store_explicit(&next_try_ns, now + RETRY_NS, memory_order_relaxed);
	return map_open(old);
}

const struct map *shim_map(void)
{
	const struct map *map = atomic_load_explicit(&current, memory_order_acquire);

	if (__builtin_expect(map && !atomic_load_explicit(&map->retired, memory_order_relaxed), 1))
		return map;
	return map_slow(map);
}

const struct map *shim_map_again(const struct map *dead)
{
	return shim_is_on() ? map_open(dead) : NULL;
}

bool shim_is_default_mesh(const struct ip_addr *ip)
{
	static const uint8_t v6_prefix[6] = { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0 };

	if (ip_is_v4(ip))
		return ip_v4(ip) >> 22 == 0x64400000u >> 22;
	return memcmp(ip->byte, v6_prefix, sizeof(v6_prefix)) == 0;
}

const char *shim_control_path(void)
{
	return *control_path ? control_path : NULL;
}

const char *shim_posts_path(void)
{
	return *posts_path ? posts_path : NULL;
}

const char *shim_dir(void)
{
	return runtime_dir;
}
