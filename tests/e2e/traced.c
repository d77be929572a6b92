/*
 * A static program that makes system calls itself, for test_trace.py. The first
 * word says what it does; it prints one line and ends with a status of meaning.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in at(const char *ip, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int dial(const char *ip, const char *port)
{
	struct sockaddr_in a = at(ip, port);
	int fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);

	if (syscall(SYS_connect, fd, &a, sizeof(a)) == 0)
		return fd;
	printf("errno %d\n", errno);
	exit(1);
}

static void echo(int fd)
{
	char text[32] = "";

	if (write(fd, "hello", 5) != 5 || read(fd, text, sizeof(text) - 1) != 5)
		exit(2);
	printf("%s\n", text);
}

static void ends(int fd)
{
	struct sockaddr_in peer, local;
	socklen_t len = sizeof(peer);

	syscall(SYS_getpeername, fd, &peer, &len);
	len = sizeof(local);
	syscall(SYS_getsockname, fd, &local, &len);
	printf("%s ", inet_ntoa(local.sin_addr));
	printf("%s\n", inet_ntoa(peer.sin_addr));
}

static void *dial_and_show(void *argv)
{
	ends(dial(((char **)argv)[2], ((char **)argv)[3]));
	return NULL;
}

/* In a thread whose stack is the smallest there is. */
static void small(char **argv)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
	pthread_create(&thread, &attr, dial_and_show, argv);
	pthread_join(thread, NULL);
}

static void on_alarm(int number)
{
	(void)number;
}

/* A held dial and a signal every 5 ms: EINTR, or with SA_RESTART the dial's own end. */
static void interrupted(char **argv, int flags)
{
	struct sigaction act = { .sa_handler = on_alarm, .sa_flags = flags };
	struct itimerval often = { { 0, 5000 }, { 0, 5000 } };

	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	ends(dial(argv[2], argv[3]));
}

static struct sockaddr_in shown;
static struct sockaddr_in one, other;
static struct iovec byte = { "x", 1 };
static struct mmsghdr message = { { &shown, sizeof(shown), &byte, 1, NULL, 0, 0 }, 0 };
static volatile int is_over;

static void *flip(void *unused)
{
	while (!is_over) {
		memcpy(&shown, &one, sizeof(one));
		message.msg_hdr.msg_name = &one;
		__asm__ volatile("" ::: "memory"); /* each of these is really written */
		memcpy(&shown, &other, sizeof(one));
		message.msg_hdr.msg_name = &other;
		__asm__ volatile("" ::: "memory");
	}
	return unused;
}

/* Another thread changes the address all the time: whatever is dialled was looked at. */
static void race(char **argv)
{
	int done[5] = { 0 }, stream, fd;
	pthread_t thread;

	shown = one = at(argv[2], argv[3]);
	other = at(argv[4], argv[5]);
	pthread_create(&thread, NULL, flip, NULL);
	for (int i = 0; i < 3000; i++) {
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		stream = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		done[0] += syscall(SYS_sendto, fd, "x", 1, 0, &shown, sizeof(shown)) == 1;
		done[1] += syscall(SYS_sendmsg, fd, &message.msg_hdr, 0) == 1;
		done[2] += syscall(SYS_sendmmsg, fd, &message, 1, 0) == 1;
		done[3] += syscall(SYS_connect, fd, &shown, sizeof(shown)) == 0 &&
			   write(fd, "x", 1) == 1;
		done[4] += syscall(SYS_connect, stream, &shown, sizeof(shown)) == 0 ||
			   errno == EINPROGRESS;
		close(stream);
		close(fd);
	}
	is_over = 1;
	pthread_join(thread, NULL);
	printf("done %d %d %d %d %d\n", done[0] > 0, done[1] > 0, done[2] > 0, done[3] > 0,
	       done[4] > 0);
}

static void fork_and_vfork(char **argv)
{
	static int i, sum; /* not in registers, which vfork() may spoil */
	int status;

	for (i = 0; i < 20; i++) {
		pid_t pid = i % 2 ? fork() : vfork();

		if (pid == 0)
			_exit(close(dial(argv[2], argv[3])) == 0 ? 3 : 4);
		waitpid(pid, &status, 0);
		sum += WEXITSTATUS(status);
	}
	printf("sum %d\n", sum);
}

static void ask_tracer(void)
{
	long result = ptrace(PTRACE_TRACEME, 0, 0, 0);

	printf("traceme %ld errno %d\n", result, errno);
}

/* What a program does most of its life, begun by a signal: not one of these calls may stop. */
static void exchange(char **argv)
{
	int fd = dial(argv[2], argv[3]), number;
	sigset_t begin;
	char byte = 0;

	sigemptyset(&begin);
	sigaddset(&begin, SIGUSR1);
	sigprocmask(SIG_BLOCK, &begin, NULL);
	printf("ready %d\n", getpid());
	sigwait(&begin, &number);
	for (int i = 0; i < 1000; i++)
		if (write(fd, "x", 1) != 1 || read(fd, &byte, 1) != 1 || byte != 'x' ||
		    send(fd, "y", 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1 || byte != 'y')
			exit(3);
	printf("over\n");
	sleep(60);
}

static void time_calls(char **argv)
{
	struct sockaddr_in name;
	struct timespec a, b;
	socklen_t len;
	int fd = socket(AF_INET, SOCK_STREAM, 0), n = atoi(argv[2]);

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < n; i++) {
		len = sizeof(name);
		syscall(SYS_getsockname, fd, &name, &len);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("ns %ld\n", ((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec) / n);
}

static void *call_once(void *fd)
{
	struct sockaddr_in name;
	socklen_t len = sizeof(name);

	syscall(SYS_getsockname, *(int *)fd, &name, &len);
	return NULL;
}

static void *start_and_join(void *fd)
{
	pthread_t thread;

	while (!is_over)
		if (pthread_create(&thread, NULL, call_once, fd) == 0)
			pthread_join(thread, NULL);
	return NULL;
}

/* Threads of one call each, and how many parts the process's memory has then. */
static void churn(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), parts = 0, c;
	pthread_t threads[6];
	FILE *maps;

	for (int i = 0; i < 6; i++)
		pthread_create(&threads[i], NULL, start_and_join, &fd);
	sleep(2);
	is_over = 1;
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	maps = fopen("/proc/self/maps", "r");
	while ((c = getc(maps)) != EOF)
		parts += c == '\n';
	printf("parts %d\n", parts);
}

static void *call_always(void *count)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	while (!is_over) {
		call_once(&fd);
		++*(long *)count;
	}
	return NULL;
}

/* Threads that do nothing but such calls, in the order of their age: how many each has made. */
static void take_turns(void)
{
	static long counts[8];
	pthread_t threads[8];

	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, call_always, &counts[i]);
	sleep(2);
	is_over = 1;
	printf("turns");
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		printf(" %ld", counts[i]);
	}
	printf("\n");
}

/* A process that starts others is killed in the middle; all it has started go on, and end. */
static void abandon(int rounds)
{
	struct pollfd end = { .events = POLLIN };
	int ends[2], lost = 0;
	pid_t pid;

	for (int i = 0; i < rounds; i++) {
		if (pipe(ends) < 0)
			exit(3);
		pid = fork();
		if (pid == 0) {
			signal(SIGCHLD, SIG_IGN);
			for (;;)
				if (fork() == 0)
					_exit(0);
		}
		close(ends[1]);
		usleep((useconds_t)(1000 + i * 37 % 2000));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		end.fd = ends[0];
		lost += poll(&end, 1, 5000) != 1; /* it is theirs to close */
		close(ends[0]);
	}
	printf("lost %d\n", lost);
}

/* Starts what follows with a shim in its environment that is nowhere. */
static void lose_shim(char **argv)
{
	setenv("LD_PRELOAD", "/nonexistent/libmeshwrap.so", 1);
	execvp(argv[2], argv + 2);
}

static void *stop_all(void *unused)
{
	kill(getpid(), SIGSTOP);
	return unused;
}

static void *stay(void *unused)
{
	sleep(3);
	return unused;
}

/* It is stopped again and again, while it starts threads. */
static void bursts(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 16384);
	printf("ready %d\n", getpid());
	for (int i = 0; i < 60; i++) {
		pthread_create(&thread, &attr, stop_all, NULL);
		for (int j = 0; j < 20; j++)
			pthread_create(&thread, &attr, stay, NULL);
		usleep(1000);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(what, "echo") == 0)
		echo(dial(argv[2], argv[3]));
	else if (strcmp(what, "ends") == 0)
		ends(dial(argv[2], argv[3]));
	else if (strcmp(what, "small") == 0)
		small(argv);
	else if (strcmp(what, "interrupted") == 0)
		interrupted(argv, 0);
	else if (strcmp(what, "restarted") == 0)
		interrupted(argv, SA_RESTART);
	else if (strcmp(what, "race") == 0)
		race(argv);
	else if (strcmp(what, "forks") == 0)
		fork_and_vfork(argv);
	else if (strcmp(what, "exec") == 0)
		execvp(argv[2], argv + 2);
	else if (strcmp(what, "tracer") == 0)
		ask_tracer();
	else if (strcmp(what, "exchange") == 0)
		exchange(argv);
	else if (strcmp(what, "time") == 0)
		time_calls(argv);
	else if (strcmp(what, "status") == 0)
		return atoi(argv[2]);
	else if (strcmp(what, "die") == 0)
		raise(atoi(argv[2]));
	else if (strcmp(what, "churn") == 0)
		churn();
	else if (strcmp(what, "turns") == 0)
		take_turns();
	else if (strcmp(what, "abandon") == 0)
		abandon(atoi(argv[2]));
	else if (strcmp(what, "lose") == 0)
		lose_shim(argv);
	else if (strcmp(what, "bursts") == 0)
		bursts();
	else if (strcmp(what, "closes") == 0)
		close(atoi(argv[2])), printf("ready\n"), sleep(60);
	else if (strcmp(what, "sleep") == 0)
		printf("ready %d\n", getpid()), sleep(60);
	return 0;
}
