/*
 * System calls of the shim's own.
 *
 * libc's syscall() is one of the names the shim replaces (raw.c), so what must
 * reach the kernel as it is cannot go by that. raw_syscall(number, ...) is
 * used as syscall() is: up to six arguments, -1 and errno for a failure. It is
 * async-signal-safe, and no cancellation point.
 */
#ifndef MESHWRAP_PRELOAD_RAW_H
#define MESHWRAP_PRELOAD_RAW_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define RAW_REPLACES_SYSCALL 1

static inline long raw_call(long number, long a, long b, long c, const long rest[static 3])
{
	register long r10 __asm__("r10") = rest[0];
	register long r8 __asm__("r8") = rest[1];
	register long r9 __asm__("r9") = rest[2];
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
#define RAW_REPLACES_SYSCALL 1

static inline long raw_call(long number, long a, long b, long c, const long rest[static 3])
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = rest[0];
	register long x4 __asm__("x4") = rest[1];
	register long x5 __asm__("x5") = rest[2];

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}
#endif

#ifdef RAW_REPLACES_SYSCALL
/* A call of the network's by its number, by way of the function that we replace; -1 and errno. */
long raw_network(long number, long a, long b, long c, long d, long e, long f) __attribute__((used));

/* The kernel's answer as libc gives it. */
static inline long raw_result(long result)
{
	if ((unsigned long)result < -4095ul)
		return result;
	errno = (int)-result;
	return -1;
}

#define raw_syscall(...) RAW_PADDED(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define RAW_PADDED(number, a, b, c, d, e, f, ...)                    \
	raw_result(raw_call(number, (long)(a), (long)(b), (long)(c), \
			    (const long[]){ (long)(d), (long)(e), (long)(f) }))
#else
#define raw_syscall syscall
#endif

#endif
