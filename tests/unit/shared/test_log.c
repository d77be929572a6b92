/* Log lines: one write each, levels, the gate for what a peer can cause. */
#include "shared/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shared/util.h"

static int read_end, saved_stderr;

static int capture_stderr(void **state)
{
	int ends[2];

	(void)state;
	if (pipe(ends) < 0)
		return -1;
	read_end = ends[0];
	saved_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	return 0;
}

static int release_stderr(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(read_end);
	log_set_level(LOG_INFO);
	return 0;
}

static const char *captured(char *text, size_t len)
{
	ssize_t n;

	/* A last byte of our own, so that the read never waits. */
	assert_int_equal(write(STDERR_FILENO, "$", 1), 1);
	n = read(read_end, text, len - 1);
	assert_true(n > 0);
	text[n] = '\0';
	return text;
}

static void test_a_line_carries_its_level_and_keeps_errno(void **state)
{
	char text[4096];

	(void)state;
	errno = EPROTO;
	log_err("wg: peer %d: gone, waiting", 7);
	assert_int_equal(errno, EPROTO);
	assert_string_equal(captured(text, sizeof(text)), "error: wg: peer 7: gone, waiting\n$");
}

static void test_lines_above_the_level_are_dropped(void **state)
{
	char text[4096];

	(void)state;
	log_set_level(LOG_WARN);
	log_info("no");
	log_debug("no");
	log_warn("yes");
	assert_string_equal(captured(text, sizeof(text)), "warning: yes\n$");
}

static void test_a_long_line_is_cut_and_ends(void **state)
{
	char text[8192], lots[3000];
	size_t len;

	(void)state;
	memset(lots, 'a', sizeof(lots) - 1);
	lots[sizeof(lots) - 1] = '\0';
	log_info("%s", lots);
	len = strlen(captured(text, sizeof(text)));
	assert_true(len < 1100);
	assert_string_equal(text + len - 2, "\n$");
}

static void test_the_gate_lets_one_line_in_ten_seconds_through(void **state)
{
	struct log_gate gate = { 0 };
	char text[4096];

	(void)state;
	log_limited(&gate, 5, LOG_WARN, "a");
	log_limited(&gate, 6, LOG_WARN, "b");
	log_limited(&gate, 5 + 10 * NS_PER_S - 1, LOG_WARN, "c");
	log_limited(&gate, 5 + 10 * NS_PER_S, LOG_WARN, "d");
	assert_string_equal(captured(text, sizeof(text)),
			    "warning: a\nwarning: d (and 2 more like it)\n$");
}

static void test_a_gate_may_let_some_lines_pass_at_once(void **state)
{
	struct log_gate gate = { .burst = 3 };
	uint64_t now_ns = 100 * NS_PER_S;
	char text[4096];

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		log_limited(&gate, now_ns, LOG_WARN, "a");
	log_limited(&gate, now_ns + 9 * NS_PER_S, LOG_WARN, "b");
	log_limited(&gate, now_ns + 10 * NS_PER_S, LOG_WARN, "c");
	log_limited(&gate, now_ns + 11 * NS_PER_S, LOG_WARN, "d");
	/* After a calm while as many again. */
	for (unsigned i = 0; i < 5; i++)
		log_limited(&gate, now_ns + 100 * NS_PER_S, LOG_WARN, "e");
	assert_string_equal(captured(text, sizeof(text)),
			    "warning: a\nwarning: a\nwarning: a\n"
			    "warning: c (and 3 more like it)\n"
			    "warning: e (and 1 more like it)\nwarning: e\nwarning: e\n$");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_line_carries_its_level_and_keeps_errno,
						capture_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(test_lines_above_the_level_are_dropped,
						capture_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(test_a_long_line_is_cut_and_ends, capture_stderr,
						release_stderr),
		cmocka_unit_test_setup_teardown(test_the_gate_lets_one_line_in_ten_seconds_through,
						capture_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(test_a_gate_may_let_some_lines_pass_at_once,
						capture_stderr, release_stderr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
