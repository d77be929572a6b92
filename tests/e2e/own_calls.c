/*
 * A dynamic program that makes its network calls by instructions of its own, as Rust's
 * rustix does, for test_own_calls.py. The first word says what it does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static inline long call(long number, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#endif
}

static long check(const char *what, long result)
{
	if (result >= 0)
		return result;
	printf("%s: errno %ld\n", what, -result);
	exit(1);
}

static struct sockaddr_in at(const char *ip, const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int open_socket(int type)
{
	return (int)check("socket", call(SYS_socket, AF_INET, type, 0, 0, 0, 0));
}

static void show_ends(const char *text, int fd)
{
	char ends[2][INET_ADDRSTRLEN];
	struct sockaddr_in local, peer;
	socklen_t len = sizeof(local);

	check("getsockname", call(SYS_getsockname, fd, (long)&local, (long)&len, 0, 0, 0));
	len = sizeof(peer);
	check("getpeername", call(SYS_getpeername, fd, (long)&peer, (long)&len, 0, 0, 0));
	printf("%s %s %s\n", text, inet_ntop(AF_INET, &local.sin_addr, ends[0], sizeof(ends[0])),
	       inet_ntop(AF_INET, &peer.sin_addr, ends[1], sizeof(ends[1])));
}

static void dial(char **argv)
{
	struct sockaddr_in to = at(argv[2], argv[3]);
	int fd = open_socket(SOCK_STREAM);
	char text[8] = "";

	check("connect", call(SYS_connect, fd, (long)&to, sizeof(to), 0, 0, 0));
	if (write(fd, "hello", 5) != 5 || read(fd, text, 5) != 5)
		exit(2);
	show_ends(text, fd);
}

static void serve(char **argv)
{
	struct sockaddr_in own = at(argv[2], argv[3]), peer;
	socklen_t len = sizeof(own);
	int fd = open_socket(SOCK_STREAM), conn;

	check("bind", call(SYS_bind, fd, (long)&own, sizeof(own), 0, 0, 0));
	check("listen", call(SYS_listen, fd, 5, 0, 0, 0, 0));
	check("getsockname", call(SYS_getsockname, fd, (long)&own, (long)&len, 0, 0, 0));
	printf("ready %d\n", ntohs(own.sin_port));
	len = sizeof(peer);
	conn = (int)check("accept4", call(SYS_accept4, fd, (long)&peer, (long)&len, 0, 0, 0));
	printf("from %s\n", inet_ntoa(peer.sin_addr));
	if (write(conn, "welcome", 7) != 7)
		exit(2);
}

static void datagram(char **argv)
{
	struct sockaddr_in to = at(argv[2], argv[3]), from;
	socklen_t len = sizeof(from);
	int fd = open_socket(SOCK_DGRAM);
	char text[8] = "";

	check("sendto", call(SYS_sendto, fd, (long)"hello", 5, 0, (long)&to, sizeof(to)));
	check("recvfrom", call(SYS_recvfrom, fd, (long)text, 5, 0, (long)&from, (long)&len));
	printf("%s from %s\n", text, inet_ntoa(from.sin_addr));
}

#if defined(__x86_64__)
/* Each of the registers that the kernel keeps over a call; the wrong ones are counted. */
static void registers(char **argv)
{
	static uint64_t in[34], out[34];
	struct sockaddr_in to = at(argv[2], argv[3]);
	register uint64_t *in_at __asm__("r12") = in, *out_at __asm__("r13") = out;
	unsigned wrong = 0;
	int fd = open_socket(SOCK_STREAM);
	long result;

	for (unsigned i = 0; i < 34; i++)
		in[i] = (i + 1) * UINT64_C(0x0123456789abcdef);
	__asm__ volatile("push %%rbp\n push %%rbx\n sub $8, %%rsp\n"
			 "movq 16(%[in]), %%xmm0\n movhps 24(%[in]), %%xmm0\n"
			 "movq 32(%[in]), %%xmm7\n movhps 40(%[in]), %%xmm7\n"
			 "movq 48(%[in]), %%xmm8\n movhps 56(%[in]), %%xmm8\n"
			 "movq 64(%[in]), %%xmm15\n movhps 72(%[in]), %%xmm15\n"
			 "mov 80(%[in]), %%r10\n mov 88(%[in]), %%r8\n mov 96(%[in]), %%r9\n"
			 "mov 104(%[in]), %%r14\n mov 112(%[in]), %%r15\n"
			 "mov 120(%[in]), %%rbp\n mov 128(%[in]), %%rbx\n"
			 "movl $0x55667788, -64(%%rsp)\n"
			 "stc\n"
			 "syscall\n"
			 "setc 144(%[out])\n"
			 "mov -64(%%rsp), %%ecx\n mov %%ecx, 152(%[out])\n"
			 "movq %%xmm0, 16(%[out])\n movhps %%xmm0, 24(%[out])\n"
			 "movq %%xmm7, 32(%[out])\n movhps %%xmm7, 40(%[out])\n"
			 "movq %%xmm8, 48(%[out])\n movhps %%xmm8, 56(%[out])\n"
			 "movq %%xmm15, 64(%[out])\n movhps %%xmm15, 72(%[out])\n"
			 "mov %%r10, 80(%[out])\n mov %%r8, 88(%[out])\n mov %%r9, 96(%[out])\n"
			 "mov %%r14, 104(%[out])\n mov %%r15, 112(%[out])\n"
			 "mov %%rbp, 120(%[out])\n mov %%rbx, 128(%[out])\n"
			 "add $8, %%rsp\n pop %%rbx\n pop %%rbp\n"
			 : "=a"(result)
			 : "a"(SYS_connect), "D"((long)fd), "S"(&to),
			   "d"(sizeof(to)), [in] "r"(in_at), [out] "r"(out_at)
			 : "rcx", "r8", "r9", "r10", "r11", "r14", "r15", "xmm0", "xmm7", "xmm8",
			   "xmm15", "memory", "cc");
	for (unsigned i = 2; i <= 16; i++)
		wrong += in[i] != out[i];
	printf("result %ld wrong %u carry %u red zone %x\n", result, wrong, (unsigned)(out[18] & 1),
	       (unsigned)out[19]);
}
#endif

/* How often an accept() that waits was interrupted, by an alarm each 50 ms. */
static volatile int alarms;

static void count_alarm(int signal)
{
	(void)signal;
	alarms++;
}

static void interrupted(char **argv)
{
	const struct itimerval often = { { 0, 50000 }, { 0, 50000 } };
	struct sigaction action = { .sa_handler = count_alarm };
	struct sockaddr_in own = at(argv[2], argv[3]);
	int fd = open_socket(SOCK_STREAM), interruptions = 0;

	sigaction(SIGALRM, &action, NULL);
	check("bind", call(SYS_bind, fd, (long)&own, sizeof(own), 0, 0, 0));
	check("listen", call(SYS_listen, fd, 5, 0, 0, 0, 0));
	setitimer(ITIMER_REAL, &often, NULL);
	while (interruptions < 3)
		interruptions += call(SYS_accept4, fd, (long)&own,
				      (long)&(socklen_t){ sizeof(own) }, 0, 0, 0) == -EINTR;
	printf("interrupted %d of %d\n", interruptions, alarms < 3 ? 0 : 3);
}

/* Starts what the words say from the fifth on, as often as the fourth says, and waits for it. */
static void start(char **argv)
{
	extern char **environ;
	int status = 0;
	pid_t pid;

	for (int i = 0; i < atoi(argv[3]); i++) {
		pid = vfork();
		if (pid == 0) {
			if (call(SYS_execve, (long)"/nowhere/at/all", (long)argv, (long)environ, 0,
				 0, 0) != -ENOENT)
				_exit(98);
			if (strcmp(argv[2], "at") == 0)
				call(SYS_execveat, AT_FDCWD, (long)argv[4], (long)(argv + 4),
				     (long)environ, 0, 0);
			else
				call(SYS_execve, (long)argv[4], (long)(argv + 4), (long)environ, 0,
				     0, 0);
			_exit(99);
		}
		if (waitpid(pid, &status, 0) != pid || status)
			printf("child %d: status %x\n", i, (unsigned)status);
	}
}

/*
 * While an accept() waits in a handler on the alternate stack, other handlers come there, which
 * make calls, too: no one's variables are another's.
 */
#define VARIABLES 3000
static struct sockaddr_in waiting_at;
static int waiting;
static volatile unsigned overwritten, elsewhere;

static void count_changed(const volatile char *variables, char value)
{
	for (unsigned i = 0; i < VARIABLES; i++)
		overwritten += variables[i] != value;
}

static void set_all(volatile char *variables, char value)
{
	stack_t now;

	for (unsigned i = 0; i < VARIABLES; i++)
		variables[i] = value;
	sigaltstack(NULL, &now);
	elsewhere += now.ss_flags != SS_ONSTACK;
}

static void call_above(int signal)
{
	volatile char variables[VARIABLES];
	struct sockaddr_in own;

	set_all(variables, (char)signal);
	call(SYS_getsockname, waiting, (long)&own, (long)&(socklen_t){ sizeof(own) }, 0, 0, 0);
	elsewhere += own.sin_port != waiting_at.sin_port;
	if (signal == SIGALRM) {
		alarms++;
		raise(SIGUSR2);
	}
	count_changed(variables, (char)signal);
}

static void wait_above(int signal)
{
	volatile char variables[VARIABLES];
	struct sockaddr_in peer;
	int interruptions = 0;

	set_all(variables, (char)signal);
	while (interruptions < 3)
		interruptions += call(SYS_accept4, waiting, (long)&peer,
				      (long)&(socklen_t){ sizeof(peer) }, 0, 0, 0) == -EINTR;
	count_changed(variables, (char)signal);
}

static void stacks(char **argv)
{
	const struct itimerval often = { { 0, 50000 }, { 0, 50000 } };
	struct sigaction action = { .sa_handler = wait_above, .sa_flags = SA_ONSTACK };
	stack_t above = { .ss_sp = malloc(65536), .ss_size = 65536 }, then;
	socklen_t len = sizeof(waiting_at);

	waiting_at = at(argv[2], argv[3]);
	waiting = open_socket(SOCK_STREAM);
	check("bind", call(SYS_bind, waiting, (long)&waiting_at, len, 0, 0, 0));
	check("listen", call(SYS_listen, waiting, 5, 0, 0, 0, 0));
	check("getsockname",
	      call(SYS_getsockname, waiting, (long)&waiting_at, (long)&len, 0, 0, 0));
	sigaltstack(&above, NULL);
	sigaction(SIGUSR1, &action, NULL);
	action.sa_handler = call_above;
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	raise(SIGUSR1);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	sigaltstack(NULL, &then);
	printf("overwritten %u elsewhere %u alarms %d\n", overwritten, elsewhere,
	       alarms < 3 ? 0 : 3);
	printf("same stack %d flags %d\n",
	       then.ss_sp == above.ss_sp && then.ss_size == above.ss_size, then.ss_flags);
}

int main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(what, "dial") == 0)
		dial(argv);
	else if (strcmp(what, "serve") == 0)
		serve(argv);
	else if (strcmp(what, "datagram") == 0)
		datagram(argv);
	else if (strcmp(what, "interrupted") == 0)
		interrupted(argv);
	else if (strcmp(what, "start") == 0)
		start(argv);
	else if (strcmp(what, "stacks") == 0)
		stacks(argv);
#if defined(__x86_64__)
	else if (strcmp(what, "registers") == 0)
		registers(argv);
#endif
	else if (strcmp(what, "exec") == 0)
		execvp(argv[2], argv + 2);
	return 0;
}
