/*
 * A library of the program's own, whose constructor runs before the shim's, and a thread that it
 * has made asks while the shim starts: that takes a while here, since a function it calls does. So
 * does a child that this thread forks.
 */
#include "tests/shim/early.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/shim/mesh.h"

struct early early;
static pthread_t thread;
static _Atomic bool is_asked;

unsigned long getauxval(unsigned long type)
{
	unsigned long (*real)(unsigned long);

	*(void **)&real = dlsym(RTLD_NEXT, "getauxval");
	if (type == AT_SECURE) {
		is_asked = true;
		usleep(200000);
	}
	return real(type);
}

/* 0 or the error; past the mesh it would take long. */
static int dial(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT_ECHO) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;
	const struct timeval patience = { .tv_sec = 10 };

	inet_pton(AF_INET, PEER_V4, &to.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	error = connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? errno : 0;
	close(fd);
	return error;
}

static void *ask(void *unused)
{
	struct addrinfo *list;
	pid_t pid;

	while (!is_asked)
		usleep(1000);
	pid = fork();
	if (pid == 0)
		_exit(dial());
	early.dial_error = dial();
	early.look_up_error = getaddrinfo("node-b", NULL, NULL, &list);
	if (early.look_up_error == 0)
		freeaddrinfo(list);
	waitpid(pid, &early.child_status, 0);
	return unused;
}

void early_end(void)
{
	pthread_join(thread, NULL);
}

__attribute__((constructor)) static void before_main(void)
{
	static char *const words[] = { "no-such-program", NULL };
	struct if_nameindex *list;

	if (getenv("LD_PRELOAD"))
		pthread_create(&thread, NULL, ask, NULL);
	early.lo = if_nametoindex("lo");
	early.has_name = if_indextoname(early.lo, early.name) == early.name;
	list = if_nameindex();
	early.has_list = list != NULL;
	if_freenameindex(list);
	execvp(words[0], words);
	early.exec_error = errno;
}
