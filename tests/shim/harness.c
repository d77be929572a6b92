#include "tests/shim/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload/raw.h"
#include "shared/map.h"
#include "shared/paths.h"

#define INSIDE "MESHWRAP_TEST_INSIDE"

/* From memory, so that nobody who looks at our file takes us for a program of such calls. */
static const volatile struct {
	long bind, connect, getsockname;
} number_of = { SYS_bind, SYS_connect, SYS_getsockname };

static void die(const char *what)
{
	perror(what);
	exit(99);
}

static pid_t start_daemon(const char *dir, bool has_mesh)
{
	const char *path = getenv("FAKEMESH");
	char fd[12], ready;
	int pipes[2];
	pid_t pid;

	if (!path || pipe(pipes) < 0)
		die("FAKEMESH");
	snprintf(fd, sizeof(fd), "%d", pipes[1]);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(path, path, dir, fd, has_mesh ? NULL : "no-mesh-yet", NULL);
		die(path);
	}
	close(pipes[1]);
	if (read(pipes[0], &ready, 1) != 1)
		die("the fake daemon did not start");
	close(pipes[0]);
	return pid;
}

/* From outside instead of by the shim, as meshrun does with programs it cannot enter. */
static void run_traced(char **argv)
{
	char *words[16] = { getenv("MESHRUN_TRACE"), "--timeout", "0", "--" }, self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int i;

	if (n < 0)
		die("/proc/self/exe");
	self[n] = '\0';
	words[4] = self;
	for (i = 1; argv[i] && i < 8; i++)
		words[4 + i] = argv[i];
	setenv("MESHWRAP_TRACE", "1", 1);
	execv(words[0], words);
	die(words[0]);
}

bool harness_is_traced(void)
{
	return getenv("MESHRUN_TRACE") != NULL;
}

static int run_inside(char **argv, const char *dir)
{
	const char *lib = getenv("LIBMESHWRAP");
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (!lib)
			die("LIBMESHWRAP");
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("MESHWRAP_DIR", dir, 1);
		setenv(INSIDE, "1", 1);
		if (harness_is_traced())
			run_traced(argv);
		setenv("LD_PRELOAD", lib, 1);
		execv("/proc/self/exe", argv);
		die("exec");
	}
	if (waitpid(pid, &status, 0) < 0)
		die("wait");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void remove_dir(const char *dir)
{
	static const char *const files[] = { PATHS_MAP, PATHS_CONTROL, PATHS_POSTS, FILE_PID,
					     FILE_TCP_IN };
	char path[128];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (paths_join(dir, files[i], path, sizeof(path)) == 0)
			unlink(path);
	rmdir(dir);
}

/* Where we may: others on this machine would take ports that a test counts on. */
static void take_own_network(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
		die("lo");
	close(fd);
}

void harness_enter(char **argv, enum harness_daemon daemon)
{
	char dir[] = "/tmp/meshwrap-test-XXXXXX";
	pid_t pid = 0;
	int status;

	if (getenv(INSIDE))
		return;
	take_own_network();
	if (!mkdtemp(dir))
		die("mkdtemp");
	if (daemon != HARNESS_NO_DAEMON)
		pid = start_daemon(dir, daemon == HARNESS_DAEMON);
	status = run_inside(argv, dir);
	if (pid) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	remove_dir(dir);
	exit(status);
}

struct harness_addr at(int family, const char *text, uint16_t port)
{
	struct harness_addr addr = { .len = 0 };
	struct endpoint ep = { .port = port };

	assert_int_equal(ip_parse(text, &ep.addr), 0);
	addr.len = endpoint_to_sockaddr(&ep, family, &addr.storage);
	assert_true(addr.len > 0);
	return addr;
}

struct sockaddr *sa(struct harness_addr *addr)
{
	return (struct sockaddr *)&addr->storage;
}

static const char *text_of(const void *addr, bool with_port)
{
	static char texts[4][INET6_ADDRSTRLEN + 32];
	static unsigned next;
	const struct sockaddr_in *in = addr;
	const struct sockaddr_in6 *in6 = addr;
	char *text = texts[next++ % 4], ip[INET6_ADDRSTRLEN];
	bool mapped = false;
	uint16_t port;

	if (in->sin_family == AF_INET) {
		inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
		port = ntohs(in->sin_port);
	} else {
		assert_int_equal(in6->sin6_family, AF_INET6);
		mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);
		if (mapped)
			inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, ip, sizeof(ip));
		else
			inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
		port = ntohs(in6->sin6_port);
	}
	if (with_port)
		sprintf(text, "%s%s:%u", mapped ? "mapped:" : "", ip, port);
	else
		sprintf(text, "%s%s", mapped ? "mapped:" : "", ip);
	return text;
}

static const char *end_text(int fd, bool peer, bool with_port)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	int r = peer ? getpeername(fd, (struct sockaddr *)&name, &len)
		     : getsockname(fd, (struct sockaddr *)&name, &len);

	return r < 0 ? strerror(errno) : text_of(&name, with_port);
}

const char *sockaddr_text(const void *addr, socklen_t len)
{
	assert_true(len == 16 || len == 28);
	return text_of(addr, true);
}

const char *local_text(int fd)
{
	return end_text(fd, false, true);
}

const char *peer_text(int fd)
{
	return end_text(fd, true, true);
}

const char *local_ip(int fd)
{
	return end_text(fd, false, false);
}

const char *peer_ip(int fd)
{
	return end_text(fd, true, false);
}

struct endpoint raw_local(int fd)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	struct endpoint ep;

	assert_int_equal(raw_syscall(number_of.getsockname, fd, &name, &len), 0);
	assert_int_equal(endpoint_from_sockaddr(&name, len, &ep), 0);
	return ep;
}

uint16_t local_port(int fd)
{
	return raw_local(fd).port;
}

int new_socket(int family, int type)
{
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

static void path_of(const char *file, char *path, size_t len)
{
	assert_int_equal(paths_join(getenv("MESHWRAP_DIR"), file, path, len), 0);
}

uint32_t mirror_of(const char *mesh)
{
	static const struct map *map;
	struct ip_addr ip;
	char path[128];
	uint32_t mirror;
	int fd;

	if (!map) {
		path_of(PATHS_MAP, path, sizeof(path));
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		map = mmap(NULL, sizeof(*map), PROT_READ, MAP_SHARED, fd, 0);
		assert_true(map != MAP_FAILED);
		close(fd);
	}
	assert_int_equal(ip_parse(mesh, &ip), 0);
	assert_in_range(map_to_mirror(map, &ip, &mirror), MAP_OWN, MAP_PEER);
	return mirror;
}

int raw_stream(uint32_t loopback, uint16_t port, uint32_t to, uint16_t to_port)
{
	struct sockaddr_in from = { .sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(loopback) };
	struct sockaddr_in dest = { .sin_family = AF_INET,
				    .sin_port = htons(to_port),
				    .sin_addr.s_addr = htonl(to) };
	int fd = new_socket(AF_INET, SOCK_STREAM), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(raw_syscall(number_of.bind, fd, &from, sizeof(from)), 0);
	if (to_port)
		assert_int_equal(raw_syscall(number_of.connect, fd, &dest, sizeof(dest)), 0);
	return fd;
}

void read_numbers(const char *file, unsigned *a, unsigned *b)
{
	char path[128];
	FILE *f;

	path_of(file, path, sizeof(path));
	f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fscanf(f, "%u %u", a, b) >= 1);
	fclose(f);
}

int so_error(int fd)
{
	int error = -1;
	socklen_t len = sizeof(error);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return error;
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}
