/* The seccomp filter of traced programs, run by the few instructions it is made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "preload/trace_filter.c"

#if defined(__x86_64__)
#define OTHER_ARCH AUDIT_ARCH_I386
#else
#define OTHER_ARCH AUDIT_ARCH_ARM
#endif

static uint32_t run(const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (size_t at = 0; at < ARRAY_LEN(program); at++) {
		const struct sock_filter *i = &program[at];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(i->k % 4 == 0 && i->k < sizeof(*data));
			memcpy(&a, (const char *)data + i->k, sizeof(a));
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			at += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			fail_msg("instruction %x", i->code);
		}
	}
	fail_msg("no verdict");
	return 0;
}

static uint32_t verdict(uint32_t arch, int nr, const uint64_t args[static 6])
{
	struct seccomp_data data = { .nr = nr, .arch = arch };

	memcpy(data.args, args, sizeof(data.args));
	return run(&data);
}

#define OURS(nr, ...)   verdict(OUR_ARCH, nr, (uint64_t[6]){ __VA_ARGS__ })
#define OTHERS(nr, ...) verdict(OTHER_ARCH, nr, (uint64_t[6]){ __VA_ARGS__ })

#define REFUSED(error) (SECCOMP_RET_ERRNO | (error))

static void test_calls_with_an_address_stop(void **state)
{
	(void)state;
	assert_int_equal(OURS(SYS_connect, 3, 1, 16), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_connect, 3, 1, 15), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_bind, 3, 1, 28), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_sendto, 3, 1, 1, 0, 1, 16), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_sendto, 3, 1, 1, 0, UINT64_C(1) << 32, 16), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_sendto, 3, 1, 1, 0, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_accept4, 3, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_sendmmsg, 3), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_read, 3), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_getsockopt, 3, SOL_SOCKET, SO_ERROR), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_getsockopt, 3, SOL_SOCKET, SO_BINDTODEVICE), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_getsockopt, 3, SOL_SOCKET, SO_BINDTOIFINDEX), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_getsockopt, 3, SOL_SOCKET, SO_TYPE), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_getsockopt, 3, IPPROTO_IP, SO_BINDTOIFINDEX), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_setsockopt, 3, SOL_SOCKET, SO_BINDTODEVICE), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_setsockopt, 3, SOL_SOCKET, SO_REUSEADDR), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_setsockopt, 3, SOL_SOCKET, SO_KEEPALIVE), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_setsockopt, 3, IPPROTO_TCP, TCP_USER_TIMEOUT), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_setsockopt, 3, IPPROTO_TCP, TCP_NODELAY), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_setsockopt, 3, IPPROTO_TCP, TCP_KEEPIDLE), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_setsockopt, 3, IPPROTO_IP, IP_TTL), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_setsockopt, 3, IPPROTO_IPV6, IPV6_JOIN_GROUP), SECCOMP_RET_TRACE);
	for (int i = 0; i < 2; i++) {
		int level = i ? IPPROTO_IPV6 : IPPROTO_IP;

		assert_int_equal(OURS(SYS_setsockopt, 3, level, MCAST_JOIN_GROUP),
				 SECCOMP_RET_TRACE);
		assert_int_equal(OURS(SYS_setsockopt, 3, level, MCAST_LEAVE_SOURCE_GROUP),
				 SECCOMP_RET_TRACE);
		assert_int_equal(OURS(SYS_setsockopt, 3, level, MCAST_MSFILTER), SECCOMP_RET_ALLOW);
	}
	assert_int_equal(OURS(SYS_setsockopt, 3, IPPROTO_IPV6, IPV6_V6ONLY), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_setsockopt, 3, IPPROTO_IPV6, IPV6_RECVPKTINFO),
			 SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_ioctl, 3, SIOCGIFCONF), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_ioctl, 3, 0x5401), SECCOMP_RET_ALLOW);
	assert_int_equal(OURS(SYS_socket, AF_NETLINK, 3, NETLINK_ROUTE), SECCOMP_RET_TRACE);
	assert_int_equal(OURS(SYS_socket, AF_INET, 1, 0), SECCOMP_RET_ALLOW);
}

static void test_it_can_be_asked_for(void **state)
{
	(void)state;
	assert_int_equal(OURS(SYS_getsockname, -1, 0, 0, 0, 0, ASK_ARGUMENT), REFUSED(ASK_ANSWER));
	assert_int_equal(OURS(SYS_getsockname, 3, 1, 1, 0, 0, 0), SECCOMP_RET_TRACE);
	assert_false(trace_filter_is_here());
}

static void test_what_would_pass_by_is_refused(void **state)
{
	(void)state;
	assert_int_equal(OURS(IO_URING_SETUP, 8), REFUSED(ENOSYS));
	assert_int_equal(OTHERS(IO_URING_SETUP, 8), REFUSED(ENOSYS));
	assert_int_equal(OTHERS(OTHER_CONN, 3), REFUSED(ENETUNREACH));
	assert_int_equal(OTHERS(OTHER_BIND, 3), REFUSED(ENETUNREACH));
	assert_int_equal(OTHERS(OTHER_SENDTO, 3), REFUSED(ENETUNREACH));
	assert_int_equal(OTHERS(OTHER_SENDMSG, 3), REFUSED(ENETUNREACH));
	assert_int_equal(OTHERS(OTHER_SENDMMSG, 3), REFUSED(ENETUNREACH));
	assert_int_equal(OTHERS(1, 0), SECCOMP_RET_ALLOW);
}

/* socketcall() of 32-bit programs, by its first argument. */
static void test_no_socketcall_that_sends_passes(void **state)
{
	static const uint32_t harmless[] = { 1 /* socket */, 18 /* accept4 */, 19 /* recvmmsg */ };

	(void)state;
	for (uint32_t call = 1; call <= 20; call++) {
		uint32_t wanted = REFUSED(ENETUNREACH);

		for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
			if (call == harmless[i])
				wanted = SECCOMP_RET_ALLOW;
		assert_int_equal(OTHERS(OTHER_SOCKETCALL, call), wanted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls_with_an_address_stop),
		cmocka_unit_test(test_it_can_be_asked_for),
		cmocka_unit_test(test_what_would_pass_by_is_refused),
		cmocka_unit_test(test_no_socketcall_that_sends_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
