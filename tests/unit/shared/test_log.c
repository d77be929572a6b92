/* Log lines: one write each, levels, the gate for what a peer can cause. */
#include "shared/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared/util.h"

static int read_end, saved_stderr, shared_end;

static int capture_stderr(void **state)
{
	int ends[2];

	(void)state;
	if (pipe(ends) < 0)
		return -1;
	read_end = ends[0];
	saved_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	shared_end = ends[1]; /* another's who writes there */
	return 0;
}

static int release_stderr(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(read_end);
	close(shared_end);
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

/* What was written is read, up to the last whole line. */
static void drain(char *text, size_t room)
{
	ssize_t n;
	size_t len = 0;

	assert_int_equal(fcntl(read_end, F_SETFL, O_NONBLOCK), 0);
	while ((n = read(read_end, text + len, room - 1 - len)) > 0)
		len += (size_t)n;
	assert_int_equal(errno, EAGAIN);
	text[len] = '\0';
}

/* The alarm ends a test that waits. */
static void check_nobody_is_waited_for(void)
{
	static char text[1 << 22];
	unsigned written = 0, lost = 0;

	alarm(60);
	for (unsigned i = 0; i < 4000; i++)
		log_info("%0900u", i);
	drain(text, sizeof(text));
	for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
		unsigned number;

		assert_int_equal(sscanf(at, "%u\n", &number), 1);
		assert_int_equal(number, written++);
	}
	assert_in_range(written, 1, 3999);
	log_info("now somebody reads");
	log_info("on");
	drain(text, sizeof(text));
	assert_int_equal(sscanf(text, "warning: %u lines of the log were lost", &lost), 1);
	assert_int_equal(written + lost, 4000);
	assert_string_equal(strchr(text, '\n'), "\nnow somebody reads\non\n");
	alarm(0);
}

static void test_a_pipe_that_nobody_reads_is_not_waited_for(void **state)
{
	(void)state;
	log_never_wait();
	check_nobody_is_waited_for();
	/* Its other users wait as ever. */
	assert_false(fcntl(shared_end, F_GETFL) & O_NONBLOCK);
}

static void test_nor_is_a_socket(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	dup2(ends[0], STDERR_FILENO);
	dup2(ends[1], read_end);
	close(ends[0]);
	close(ends[1]);
	log_never_wait();
	check_nobody_is_waited_for();
}

static void test_a_line_to_a_file_begins_with_the_time(void **state)
{
	char text[256], words[64], time_text[LOG_TIME_MAX];
	struct tm utc = { 0 };
	FILE *file = tmpfile();
	time_t before = time(NULL), told;
	unsigned ms;

	(void)state;
	assert_non_null(file);
	assert_int_equal(dup2(fileno(file), STDERR_FILENO), STDERR_FILENO);
	log_tell_time();
	errno = EPROTO;
	log_warn("wg: a: gone");
	assert_int_equal(errno, EPROTO);
	rewind(file);
	assert_non_null(fgets(text, sizeof(text), file));
	assert_int_equal(sscanf(text, "%d-%d-%dT%d:%d:%d.%3uZ %63[^\n]", &utc.tm_year, &utc.tm_mon,
				&utc.tm_mday, &utc.tm_hour, &utc.tm_min, &utc.tm_sec, &ms, words),
			 8);
	utc.tm_year -= 1900;
	utc.tm_mon -= 1;
	told = timegm(&utc);
	assert_in_range(told, before, time(NULL));
	assert_string_equal(words, "warning: wg: a: gone");
	assert_string_equal(log_behind_time(text), "warning: wg: a: gone\n");
	assert_string_equal(log_behind_time(log_time(time_text)), "");
	assert_int_equal(strlen(time_text), strlen("2026-11-23T12:00:00.000Z "));
	fclose(file);
	/* To a pipe it does not. */
	dup2(shared_end, STDERR_FILENO);
	log_tell_time();
	log_warn("a");
	assert_string_equal(captured(text, sizeof(text)), "warning: a\n$");
	assert_string_equal(log_time(time_text), "");
}

static void test_a_line_without_a_time_is_as_it_is(void **state)
{
	static const char *const lines[] = { "", "meshd: no", "2026-11-23T12:00:00.000Z",
					     "2026-11-23 12:00:00.000Z a",
					     "x026-11-23T12:00:00.000Z a" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		assert_ptr_equal(log_behind_time(lines[i]), lines[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_line_carries_its_level_and_keeps_errno,
						capture_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(test_a_line_to_a_file_begins_with_the_time,
						capture_stderr, release_stderr),
		cmocka_unit_test(test_a_line_without_a_time_is_as_it_is),
		cmocka_unit_test_setup_teardown(test_lines_above_the_level_are_dropped,
						capture_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(test_a_long_line_is_cut_and_ends, capture_stderr,
						release_stderr),
		cmocka_unit_test_setup_teardown(test_the_gate_lets_one_line_in_ten_seconds_through,
						capture_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(test_a_gate_may_let_some_lines_pass_at_once,
						capture_stderr, release_stderr),
		/* From here on. */
		cmocka_unit_test_setup_teardown(test_a_pipe_that_nobody_reads_is_not_waited_for,
						capture_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(test_nor_is_a_socket, capture_stderr,
						release_stderr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
