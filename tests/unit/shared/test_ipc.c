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

static struct ipc_patience good_patience(enum ipc_type type)
{
	struct ipc_patience p = { .request = good_connect(), .user_timeout_ms = 20000 };

	p.request.type = (uint16_t)type;
	p.idle_s = 300;
	p.interval_s = 100;
	p.count = 3;
	return p;
}

static void expect_patience(const struct ipc_patience *p, int err)
{
	struct ipc_patience out;

	assert_int_equal(ipc_check_patience(p, sizeof(*p), &out), err);
	if (err == 0)
		assert_memory_equal(p, &out, sizeof(*p));
}

static void test_patience_passes_within_the_bounds_of_linux(void **state)
{
	struct ipc_patience p = good_patience(IPC_CONNECT);

	(void)state;
	expect_patience(&p, 0);
	p.request.flags = IPC_CONNECT_FIRST;
	expect_patience(&p, 0);
	p = good_patience(IPC_PATIENCE);
	expect_patience(&p, 0);
	p.request.flags = IPC_ACCEPTED;
	expect_patience(&p, 0);
	p.idle_s = p.interval_s = 32767;
	p.count = 127;
	p.user_timeout_ms = INT32_MAX;
	expect_patience(&p, 0);
	p.idle_s = p.interval_s = p.count = 1;
	p.user_timeout_ms = 0;
	expect_patience(&p, 0);
	p.idle_s = p.interval_s = p.count = 0;
	expect_patience(&p, 0);
}

static void test_patience_with_a_wrong_field_is_refused(void **state)
{
	const struct ipc_patience good = good_patience(IPC_PATIENCE);
	struct ipc_patience p[14], out;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < sizeof(p) / sizeof(p[0]); i++)
		p[i] = good;
	p[n++].idle_s = 0;
	p[n++].interval_s = 0;
	p[n++].count = 0;
	p[n++].idle_s = 32768;
	p[n++].interval_s = 32768;
	p[n++].count = 128;
	p[n++].user_timeout_ms = 1u << 31;
	p[n++].pad = 1;
	p[n++].request.flags = IPC_CONNECT_FIRST;
	p[n++].request.local_port = 0;
	p[n++].request.remote_port = 0;
	p[n++].request.local = good.request.remote; /* not loopback */
	p[n++].request.type = IPC_READY;
	p[n++].request.type = IPC_UDP_OPEN;
	for (unsigned i = 0; i < n; i++)
		expect_patience(&p[i], -EINVAL);
	p[0] = good_patience(IPC_CONNECT);
	p[0].request.flags = IPC_ACCEPTED;
	expect_patience(&p[0], -EINVAL);
	p[0] = good;
	assert_int_equal(ipc_check_patience(p, sizeof(p[0]) - 1, &out), -EPROTO);
	assert_int_equal(ipc_check_patience(p, sizeof(p[0]) + 1, &out), -EPROTO);
	p[0].request.version++;
	expect_patience(&p[0], -EPROTO);
	p[0] = good;
	p[0].request.magic ^= 1;
	expect_patience(&p[0], -EPROTO);
	/* It is no request of the other form. */
	assert_int_equal(
		ipc_check_request(&good.request, sizeof(good.request), &(struct ipc_request){ 0 }),
		-EINVAL);
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

static struct ipc_post good_post(void)
{
	struct ipc_post p = { good_patience(IPC_CONNECT), 0x7f400003u };

	return p;
}

static void test_a_post_passes_with_and_without_patience(void **state)
{
	struct ipc_post p = good_post(), out;

	(void)state;
	assert_int_equal(ipc_check_post(&p, sizeof(p), &out), 0);
	assert_memory_equal(&p, &out, sizeof(p));
	p = (struct ipc_post){ .dial.request = good_connect(), .mirror = 0x7f000001u };
	assert_int_equal(ipc_check_post(&p, sizeof(p), &out), 0);
	assert_memory_equal(&p, &out, sizeof(p));
}

static void test_a_post_with_a_wrong_field_is_refused(void **state)
{
	struct ipc_post p[6], out;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < sizeof(p) / sizeof(p[0]); i++)
		p[i] = good_post();
	assert_int_equal(ipc_check_post(p, sizeof(p[0]) - 1, &out), -EPROTO);
	assert_int_equal(ipc_check_post(p, sizeof(p[0]) + 1, &out), -EPROTO);
	p[n++].mirror = 0x0a000001u;
	p[n++].dial.request.type = IPC_PATIENCE;
	p[n++].dial.request.flags = IPC_CONNECT_FIRST;
	assert_int_equal(ip_parse("::1", &p[n++].dial.request.local), 0);
	p[n++].dial.count = 0;
	p[n++].dial.request.remote_port = 0;
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(ipc_check_post(&p[i], sizeof(p[i]), &out), -EINVAL);
	p[0] = good_post();
	p[0].dial.request.version++;
	assert_int_equal(ipc_check_post(&p[0], sizeof(p[0]), &out), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_post_passes_with_and_without_patience),
		cmocka_unit_test(test_a_post_with_a_wrong_field_is_refused),
		cmocka_unit_test(test_a_good_request_passes),
		cmocka_unit_test(test_a_request_of_another_size_or_version_is_refused),
		cmocka_unit_test(test_a_request_with_a_wrong_field_is_refused),
		cmocka_unit_test(test_patience_passes_within_the_bounds_of_linux),
		cmocka_unit_test(test_patience_with_a_wrong_field_is_refused),
		cmocka_unit_test(test_a_reply_must_lead_to_loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
