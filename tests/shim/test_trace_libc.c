/*
 * Calls made inside a traced program: what another thread of it writes into the kernel's answer
 * must not take the tracer beyond its own memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#undef fail /* a name of that file, too */

#include "preload/trace_libc.c"

/* The traced program is this one, and what its kernel answers a function of the test's. */
static struct trace_task task;
static long (*kernel)(long nr, const unsigned long *args);

struct trace_task *trace_current(void)
{
	return &task;
}

int trace_take_slot(void)
{
	return 0;
}

bool trace_read(unsigned long from, void *to, size_t len)
{
	/* As process_vm_readv() has it, from memory that is there. */
	if (len > TRACE_OPEN_BYTES)
		len = TRACE_OPEN_BYTES;
	memcpy(to, (void *)from, len);
	return true;
}

bool trace_write(unsigned long to, const void *from, size_t len)
{
	memcpy((void *)to, from, len);
	return true;
}

bool trace_write_sealed(unsigned long to, const void *from, size_t len)
{
	return trace_write(to, from, len);
}

long trace_remote(long nr, const unsigned long args[static 6], enum trace_wait wait)
{
	(void)wait;
	return kernel(nr, args);
}

static int make_slot(void **state)
{
	(void)state;
	task.slot.sealed = (unsigned long)calloc(1, TRACE_SEALED_BYTES);
	task.slot.open = (unsigned long)calloc(2, TRACE_OPEN_BYTES);
	return task.slot.sealed && task.slot.open ? 0 : -1;
}

static int free_slot(void **state)
{
	(void)state;
	free((void *)task.slot.sealed);
	free((void *)task.slot.open);
	return 0;
}

static int lied_len;

static long list_grows(long nr, const unsigned long *args)
{
	assert_int_equal(nr, SYS_ioctl);
	((struct ifconf *)args[2])->ifc_len = lied_len;
	return 0;
}

static void test_a_list_of_interfaces_is_no_longer_than_its_buffer(void **state)
{
	static const int lies[] = { 1 << 20, -1, 3 * sizeof(struct ifreq) + 1 };
	struct {
		char list[3 * sizeof(struct ifreq)], behind[64];
	} mine;
	struct ifconf list;

	(void)state;
	kernel = list_grows;
	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		memset(&mine, 7, sizeof(mine));
		list.ifc_buf = mine.list;
		list.ifc_len = sizeof(mine.list);
		lied_len = lies[i];
		assert_int_equal(libc.ioctl(3, SIOCGIFCONF, &list), -1);
		assert_int_equal(errno, EFAULT);
		assert_int_equal(mine.behind[0], 7);
	}
}

static long control_grows(long nr, const unsigned long *args)
{
	struct msghdr *msg = nr == SYS_recvmsg ? (struct msghdr *)args[1]
					       : &((struct mmsghdr *)args[1])->msg_hdr;

	msg->msg_controllen = 1 << 20;
	return 1;
}

static void test_control_messages_end_where_their_buffer_ends(void **state)
{
	_Alignas(struct cmsghdr) char control[64];
	struct mmsghdr msgs[1];
	struct msghdr msg = { .msg_control = control, .msg_controllen = sizeof(control) };

	(void)state;
	kernel = control_grows;
	msgs[0].msg_hdr = msg;
	assert_int_equal(libc.recvmsg(3, &msg, 0), 1);
	assert_true(msg.msg_controllen <= sizeof(control));
	assert_int_equal(libc.recvmmsg(3, msgs, 1, 0, NULL), 1);
	assert_true(msgs[0].msg_hdr.msg_controllen <= sizeof(control));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_list_of_interfaces_is_no_longer_than_its_buffer, make_slot,
			free_slot),
		cmocka_unit_test_setup_teardown(test_control_messages_end_where_their_buffer_ends,
						make_slot, free_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
