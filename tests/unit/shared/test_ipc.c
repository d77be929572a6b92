/* The control protocol: a message is right in every field or refused. */
#include "shared/ipc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

static struct ipc_request good_connect(void)
{
	struct endpoint local, remote;
	struct ipc_request r;

	assert_int_equal(endpoint_parse("127.64.0.2:40000", &local), 0);
	assert_int_equal(endpoint_parse("100.64.0.3:80", &remote), 0);
	ipc_make_request(&r, IPC_CONNECT, &local, &remote, 0);
	return r;
}

static void test_a_good_request_passes(void **state)
{
	struct ipc_request r = good_connect(), out;

	(void)state;
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), 0);
	assert_memory_equal(&r, &out, sizeof(r));
	ipc_make_request(&r, IPC_READY, NULL, NULL, 0);
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), 0);
}

static void test_a_request_of_another_size_or_version_is_refused(void **state)
{
	struct ipc_request r[2] = { good_connect() }, out;

	(void)state;
	assert_int_equal(ipc_check_request(r, 0, &out), -EPROTO);
	assert_int_equal(ipc_check_request(r, sizeof(r[0]) - 1, &out), -EPROTO);
	assert_int_equal(ipc_check_request(r, sizeof(r[0]) + 1, &out), -EPROTO);
	r[0].version++;
	assert_int_equal(ipc_check_request(r, sizeof(r[0]), &out), -EPROTO);
	r[0] = good_connect();
	r[0].magic ^= 1;
	assert_int_equal(ipc_check_request(r, sizeof(r[0]), &out), -EPROTO);
}

static void test_a_request_with_a_wrong_field_is_refused(void **state)
{
	struct ipc_request r = good_connect(), out;

	(void)state;
	r.type = 99;
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), -EINVAL);
	r = good_connect();
	r.flags = IPC_UDP_V6ONLY;
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), -EINVAL);
	r.flags = IPC_CONNECT_FIRST;
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), 0);
	r = good_connect();
	r.local_port = 0;
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), -EINVAL);
	r = good_connect();
	r.remote_port = 0;
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), -EINVAL);
	r = good_connect();
	r.local = r.remote; /* not loopback */
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), -EINVAL);
	r = good_connect();
	r.type = IPC_UDP_OPEN;
	r.remote_port = 0;
	assert_int_equal(ipc_check_request(&r, sizeof(r), &out), -EINVAL);
}

static struct ipc_reply good_reply(void)
{
	struct ipc_reply r = { .magic = IPC_MAGIC, .version = IPC_VERSION, .type = IPC_CONNECT };

	r.mirror = ip_from_v4(0x7f400003);
	r.mirror_port = 61000;
	return r;
}

static void test_a_reply_must_lead_to_loopback(void **state)
{
	struct ipc_reply r = good_reply(), out;

	(void)state;
	assert_int_equal(ipc_check_reply(&r, sizeof(r), IPC_CONNECT, &out), 0);
	assert_int_equal(ipc_check_reply(&r, sizeof(r), IPC_UDP_OPEN, &out), -EPROTO);
	assert_int_equal(ipc_check_reply(&r, sizeof(r) - 1, IPC_CONNECT, &out), -EPROTO);
	r.mirror = ip_from_v4(0x08080808);
	assert_int_equal(ipc_check_reply(&r, sizeof(r), IPC_CONNECT, &out), -EINVAL);
	r.error = EHOSTUNREACH; /* a refusal leads nowhere */
	assert_int_equal(ipc_check_reply(&r, sizeof(r), IPC_CONNECT, &out), 0);
	r.error = -1;
	assert_int_equal(ipc_check_reply(&r, sizeof(r), IPC_CONNECT, &out), -EINVAL);
	r = good_reply();
	r.mirror_port = 0;
	assert_int_equal(ipc_check_reply(&r, sizeof(r), IPC_CONNECT, &out), -EINVAL);
	r = good_reply();
	r.pad = 1;
	assert_int_equal(ipc_check_reply(&r, sizeof(r), IPC_CONNECT, &out), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_good_request_passes),
		cmocka_unit_test(test_a_request_of_another_size_or_version_is_refused),
		cmocka_unit_test(test_a_request_with_a_wrong_field_is_refused),
		cmocka_unit_test(test_a_reply_must_lead_to_loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
