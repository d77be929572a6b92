/*
 * The seccomp filter. It sees numbers only, so a call stops when its scalar
 * arguments do not rule out that an address is given or asked for.
 *
 * What would pass us by is refused: io_uring (programs then use epoll, as in
 * any container), and the socket calls of another kind of machine's programs.
 * An IPv4 address has 16 bytes, an IPv6 one at least 24; shorter ones pass.
 */
#include "preload/trace_filter.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>

#include "preload/options.h"
#include "preload/raw.h"
#include "shared/util.h"

#if defined(__x86_64__)
#define OUR_ARCH         AUDIT_ARCH_X86_64
#define OTHER_BIND       361 /* of i386 */
#define OTHER_CONN       362
#define OTHER_SENDTO     369
#define OTHER_SENDMSG    370
#define OTHER_SENDMMSG   345
#define OTHER_SOCKETCALL 102
#define X32_BIT          0x40000000u
#elif defined(__aarch64__)
#define OUR_ARCH         AUDIT_ARCH_AARCH64
#define OTHER_BIND       282 /* of arm */
#define OTHER_CONN       283
#define OTHER_SENDTO     290
#define OTHER_SENDMSG    296
#define OTHER_SENDMMSG   374
#define OTHER_SOCKETCALL 102
#define X32_BIT          0x80000000u /* there is no such thing */
#endif
#define IO_URING_SETUP 425

/* getsockname() of no socket, whose sixth argument nobody else looks at: is the filter here? */
#define ASK_ARGUMENT 0x6d657368
#define ASK_ANSWER   EXFULL

#define SMALLEST_ADDRESS 16

#define LOAD(field)      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOW(i)           BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[i]))
#define HIGH(i)          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[i]) + 4)
#define RET(action)      BPF_STMT(BPF_RET | BPF_K, action)
#define EQ(k, yes, no)   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no)
#define GE(k, yes, no)   BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, k, yes, no)
#define GO(k)            BPF_STMT(BPF_JMP | BPF_JA, k)
#define MORE(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, k, yes, no)
#define ALLOW            RET(SECCOMP_RET_ALLOW)
#define TRACE            RET(SECCOMP_RET_TRACE)
#define REFUSE(error)    RET(SECCOMP_RET_ERRNO | (error))

/* Each group leaves the number loaded when it is not its call. */
#define TRACE_ALWAYS(nr)       EQ(nr, 0, 1), TRACE
#define TRACE_ADDRESS(nr, len) EQ(nr, 0, 4), LOW(len), GE(SMALLEST_ADDRESS, 0, 1), TRACE, ALLOW
#define TRACE_POINTER(nr, i)   EQ(nr, 0, 6), LOW(i), EQ(0, 0, 2), HIGH(i), EQ(0, 1, 0), TRACE, ALLOW
#define REFUSE_CALL(nr, error) EQ(nr, 0, 1), REFUSE(error)

static const struct sock_filter program[] = {
	LOAD(arch),
	EQ(OUR_ARCH, 20, 0),
	/* Another machine's call, from 32-bit code. */
	LOAD(nr),
	REFUSE_CALL(OTHER_BIND, ENETUNREACH),
	REFUSE_CALL(OTHER_CONN, ENETUNREACH),
	REFUSE_CALL(OTHER_SENDTO, ENETUNREACH),
	REFUSE_CALL(OTHER_SENDMSG, ENETUNREACH),
	REFUSE_CALL(OTHER_SENDMMSG, ENETUNREACH),
	REFUSE_CALL(IO_URING_SETUP, ENOSYS),
	EQ(OTHER_SOCKETCALL, 0, 5),
	LOW(0),
	EQ(1, 3, 0),  /* socket() itself may be */
	EQ(18, 2, 0), /* accept4() */
	EQ(19, 1, 0), /* recvmmsg(); behind it comes sendmmsg() */
	REFUSE(ENETUNREACH),
	ALLOW,
	/* Ours. */
	LOAD(nr),
	GE(X32_BIT, 0, 1),
	REFUSE(ENOSYS),
	TRACE_ADDRESS(SYS_connect, 2),
	TRACE_ADDRESS(SYS_bind, 2),
	TRACE_POINTER(SYS_sendto, 4),
	TRACE_POINTER(SYS_recvfrom, 4),
#ifdef SYS_accept
	TRACE_POINTER(SYS_accept, 1),
#endif
	TRACE_POINTER(SYS_accept4, 1),
	EQ(SYS_getsockname, 0, 4),
	LOW(5),
	EQ(ASK_ARGUMENT, 0, 1),
	REFUSE(ASK_ANSWER),
	TRACE,
	TRACE_ALWAYS(SYS_getpeername),
	TRACE_ALWAYS(SYS_sendmsg),
	TRACE_ALWAYS(SYS_sendmmsg),
	TRACE_ALWAYS(SYS_recvmsg),
	TRACE_ALWAYS(SYS_recvmmsg),
	REFUSE_CALL(IO_URING_SETUP, ENOSYS),
	EQ(SYS_getsockopt, 0, 8),
	LOW(1),
	EQ(SOL_SOCKET, 0, 5),
	LOW(2),
	EQ(SO_ERROR, 2, 0),
	EQ(SO_BINDTODEVICE, 1, 0),
	EQ(SO_BINDTOIFINDEX, 0, 1),
	TRACE,
	ALLOW,
	/* What names an interface or asks for one. */
	EQ(SYS_ioctl, 0, 5),
	LOW(1),
	GE(SIOCGIFNAME, 0, 2),
	GE(SIOCGIFMAP + 1, 1, 0),
	TRACE,
	ALLOW,
	EQ(SYS_socket, 0, 6),
	LOW(0),
	EQ(AF_NETLINK, 0, 3),
	LOW(2),
	EQ(NETLINK_ROUTE, 0, 1),
	TRACE,
	ALLOW,
	EQ(SYS_setsockopt, 0, 22),
	LOW(1),
	EQ(SOL_SOCKET, 0, 3),
	LOW(2),
	EQ(SO_BINDTODEVICE, 17, 0),
	EQ(SO_BINDTOIFINDEX, 16, 17),
	EQ(IPPROTO_TCP, 0, 2),
	LOW(2),
	EQ(TCP_USER_TIMEOUT, 13, 14),
	EQ(IPPROTO_IP, 0, 4),
	LOW(2),
	EQ(IP_UNICAST_IF, 10, 0),
	GE(MCAST_LEAVE_SOURCE_GROUP + 1, 10, 0),
	GE(IP_MULTICAST_IF, 8, 9),
	EQ(IPPROTO_IPV6, 0, 8),
	LOW(2),
	EQ(IPV6_UNICAST_IF, 5, 0),
	EQ(IPV6_MULTICAST_IF, 4, 0),
	EQ(IPV6_JOIN_GROUP, 3, 0),
	EQ(IPV6_LEAVE_GROUP, 2, 0),
	GE(MCAST_LEAVE_SOURCE_GROUP + 1, 2, 0),
	GE(MCAST_JOIN_GROUP, 0, 1),
	TRACE,
	ALLOW,
};

int trace_filter_install(void)
{
	struct sock_fprog fprog = { ARRAY_LEN(program), (struct sock_filter *)program };

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fprog) == 0)
		return 0;
	if (errno != EACCES)
		return -errno;
	/* Without privilege only who can gain none may have a filter. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fprog) == 0 ? 0 : -errno;
}

bool trace_filter_is_here(void)
{
	int saved = errno;
	socklen_t len = 0;
	bool is_here = raw_syscall(SYS_getsockname, -1, &len, &len, 0, 0, ASK_ARGUMENT) < 0 &&
		       errno == ASK_ANSWER;

	errno = saved;
	return is_here;
}

/* A signal's handler is set; the two zeros are where the verdict is, further down. */
static const struct sock_filter signals[] = {
	LOAD(arch),  EQ(OUR_ARCH, 0, 10),
	LOAD(nr),    EQ(SYS_rt_sigaction, 0, 8),
	LOW(0),      EQ(SIGSYS, 0, 6),
	LOW(1),      EQ(0, 1, 0),
	GO(0),       HIGH(1),
	EQ(0, 1, 0), GO(0),
};

/* A program is started; the zero is where the verdict is. */
static const struct sock_filter starts[] = {
	LOAD(arch),           EQ(OUR_ARCH, 0, 4),     LOAD(nr),
	EQ(SYS_execve, 1, 0), EQ(SYS_execveat, 0, 1), GO(0),
};

static bool is_verdict(const struct sock_filter *word)
{
	return word->code == (BPF_RET | BPF_K) && word->k != SECCOMP_RET_ALLOW;
}

/* From word on: to a verdict for this code only. The ip is behind the instruction. */
static size_t put_verdict(struct sock_filter *words, uintptr_t from, uintptr_t to, uint32_t verdict)
{
	const struct sock_filter tail[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer) + 4),
		EQ((uint32_t)(from >> 32), 0, 4),
		LOAD(instruction_pointer),
		GE((uint32_t)from, 0, 2),
		MORE((uint32_t)to, 1, 0),
		RET(verdict),
		ALLOW,
	};

	memcpy(words, tail, sizeof(tail));
	return ARRAY_LEN(tail);
}

size_t trace_filter_for_code(struct sock_filter words[static TRACE_FILTER_MAX], uintptr_t from,
			     uintptr_t to, uint32_t verdict)
{
	const size_t first = ARRAY_LEN(signals), second = first + ARRAY_LEN(starts);
	const size_t end = second + ARRAY_LEN(program);
	size_t len = end;

	static_assert(ARRAY_LEN(signals) + ARRAY_LEN(starts) + ARRAY_LEN(program) + 14 <=
			      TRACE_FILTER_MAX,
		      "room");
	memcpy(words, signals, sizeof(signals));
	memcpy(words + first, starts, sizeof(starts));
	memcpy(words + second, program, sizeof(program));
	words[second - 1] = (struct sock_filter)GO((uint32_t)(end - second));
	for (size_t i = second; i < end; i++)
		if (is_verdict(words + i))
			words[i] = (struct sock_filter)GO((uint32_t)(end - i - 1));
	len += put_verdict(words + len, from, to, verdict);
	for (size_t i = 0; i < first; i++)
		if (words[i].code == (BPF_JMP | BPF_JA))
			words[i].k = (uint32_t)(len - i - 1);
	return len + put_verdict(words + len, from, to, SECCOMP_RET_ERRNO | 0);
}

bool trace_filter_stops(long nr)
{
	/*
	 * Addresses of ours are whole, and never NULL. The socket options are left to
	 * their entry's own stop.
	 */
	switch (nr) {
	case SYS_connect:
	case SYS_bind:
	case SYS_sendto:
	case SYS_recvfrom:
	case SYS_accept4:
	case SYS_getsockname:
	case SYS_getpeername:
	case SYS_sendmsg:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_ioctl: /* of ours, all ask for interfaces */
		return true;
	default:
		return false;
	}
}
