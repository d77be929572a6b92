/*
 * libc's syscall(), for libraries that call the network by number: libuv did so
 * for batches of datagrams until its version 1.49, as do QUIC libraries written
 * for old libcs. What has a function of libc is led there, and so through the shim;
 * the rest goes straight to the kernel.
 *
 * It is assembly, since a caller may rely on libc's being no more than a few
 * instructions: a clone() with another stack returns twice. Nothing is pushed,
 * and the seventh argument stays where the caller put it.
 *
 * Elsewhere than on x86-64 and arm64 the name is not replaced.
 */
#include "preload/raw.h"

#ifdef RAW_REPLACES_SYSCALL
#include <sys/socket.h>
#include <time.h>

#include "preload/uring.h"

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

/* The formatter takes the strings for one long expression. */
/* clang-format off */
#if defined(__x86_64__)
__asm__(".text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	lea -" TEXT(SYS_connect) "(%rdi), %rax\n"
	"	cmp $" TEXT(SYS_getsockopt) "-" TEXT(SYS_connect) ", %rax\n"
	"	jbe raw_network\n"
	"	cmp $" TEXT(SYS_accept4) ", %rdi\n"
	"	je raw_network\n"
	"	cmp $" TEXT(SYS_recvmmsg) ", %rdi\n"
	"	je raw_network\n"
	"	cmp $" TEXT(SYS_sendmmsg) ", %rdi\n"
	"	je raw_network\n"
	"	cmp $" TEXT(SYS_io_uring_register) ", %rdi\n"
	"	je raw_network\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"	cmp $-4095, %rax\n"
	"	jae 1f\n"
	"	ret\n"
	"1:	mov %rax, %rdi\n"
	"	jmp raw_failed\n"
	"	.cfi_endproc\n"
	".size syscall, . - syscall\n");
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl syscall\n"
	".type syscall, %function\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	hint 34\n" /* a place that may be jumped to */
	"	sub x9, x0, " TEXT(SYS_bind) "\n"
	"	cmp x9, " TEXT(SYS_recvmsg) "-" TEXT(SYS_bind) "\n"
	"	b.ls raw_network\n"
	"	cmp x0, " TEXT(SYS_accept4) "\n"
	"	b.eq raw_network\n"
	"	cmp x0, " TEXT(SYS_recvmmsg) "\n"
	"	b.eq raw_network\n"
	"	cmp x0, " TEXT(SYS_sendmmsg) "\n"
	"	b.eq raw_network\n"
	"	cmp x0, " TEXT(SYS_io_uring_register) "\n"
	"	b.eq raw_network\n"
	"	mov x8, x0\n"
	"	mov x0, x1\n"
	"	mov x1, x2\n"
	"	mov x2, x3\n"
	"	mov x3, x4\n"
	"	mov x4, x5\n"
	"	mov x5, x6\n"
	"	svc 0\n"
	"	cmn x0, 4095\n"
	"	b.cs raw_failed\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size syscall, . - syscall\n");
#endif
/* clang-format on */

long raw_failed(long result) __attribute__((used));
long raw_failed(long result)
{
	return raw_result(result);
}

long raw_network(long number, long a, long b, long c, long d, long e, long f)
{
	const int fd = (int)a;

	switch (number) {
	case SYS_connect:
		return connect(fd, (void *)b, (socklen_t)c);
	case SYS_bind:
		return bind(fd, (void *)b, (socklen_t)c);
	case SYS_accept:
		return accept(fd, (void *)b, (void *)c);
	case SYS_accept4:
		return accept4(fd, (void *)b, (void *)c, (int)d);
	case SYS_getsockname:
		return getsockname(fd, (void *)b, (void *)c);
	case SYS_getpeername:
		return getpeername(fd, (void *)b, (void *)c);
	case SYS_getsockopt:
		return getsockopt(fd, (int)b, (int)c, (void *)d, (void *)e);
	case SYS_setsockopt:
		return setsockopt(fd, (int)b, (int)c, (void *)d, (socklen_t)e);
	case SYS_sendto:
		return sendto(fd, (void *)b, (size_t)c, (int)d, (void *)e, (socklen_t)f);
	case SYS_sendmsg:
		return sendmsg(fd, (void *)b, (int)c);
	case SYS_sendmmsg:
		return sendmmsg(fd, (void *)b, (unsigned)c, (int)d);
	case SYS_recvfrom:
		return recvfrom(fd, (void *)b, (size_t)c, (int)d, (void *)e, (void *)f);
	case SYS_recvmsg:
		return recvmsg(fd, (void *)b, (int)c);
	case SYS_recvmmsg:
		return recvmmsg(fd, (void *)b, (unsigned)c, (int)d, (void *)e);
	case SYS_io_uring_register:
		return uring_register(fd, (unsigned)b, (void *)c, (unsigned)d);
	default: /* listen(), shutdown() and others that carry no address */
		return raw_syscall(number, a, b, c, d, e, f);
	}
}
#endif
