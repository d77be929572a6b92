/*
 * As much of cmocka as the shim's tests use, for programs linked with musl,
 * for which the library itself is seldom there.
 */
#ifndef MESHWRAP_TESTS_SHIM_MUSL_CMOCKA_H
#define MESHWRAP_TESTS_SHIM_MUSL_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
	const char *name;
	void (*run)(void **state);
};

enum { CMOCKA_FAILED = 1, CMOCKA_SKIPPED };

/* Where a test that is over goes on. One test runs at a time; a common symbol of all files. */
__attribute__((weak)) jmp_buf cmocka_end;

__attribute__((noreturn)) static inline void cmocka_fail(const char *file, int line,
							 const char *what)
{
	printf("%s:%d: %s\n", file, line, what);
	fflush(stdout);
	longjmp(cmocka_end, CMOCKA_FAILED);
}

static inline void cmocka_same(intmax_t a, intmax_t b, const char *file, int line)
{
	char text[64];

	snprintf(text, sizeof(text), "%jd is not %jd", a, b);
	if (a != b)
		cmocka_fail(file, line, text);
}

static inline void cmocka_same_text(const char *a, const char *b, const char *file, int line)
{
	char text[512];

	snprintf(text, sizeof(text), "\"%s\" is not \"%s\"", a, b);
	if (strcmp(a, b) != 0)
		cmocka_fail(file, line, text);
}

#define cmocka_must(fact, text)                                \
	do {                                                   \
		if (!(fact))                                   \
			cmocka_fail(__FILE__, __LINE__, text); \
	} while (0)

#define skip() longjmp(cmocka_end, CMOCKA_SKIPPED)
#define fail_msg(...)                                       \
	do {                                                \
		printf(__VA_ARGS__);                        \
		cmocka_fail(__FILE__, __LINE__, " failed"); \
	} while (0)

#define assert_true(a)               cmocka_must(a, #a)
#define assert_false(a)              cmocka_must(!(a), "not: " #a)
#define assert_null(a)               cmocka_must(!(a), #a " is not NULL")
#define assert_non_null(a)           cmocka_must(a, #a " is NULL")
#define assert_ptr_equal(a, b)       cmocka_must((a) == (b), #a " is not " #b)
#define assert_memory_equal(a, b, n) cmocka_must(memcmp(a, b, n) == 0, #a " is not " #b)
#define assert_int_equal(a, b)       cmocka_same((intmax_t)(a), (intmax_t)(b), __FILE__, __LINE__)
#define assert_int_not_equal(a, b)   cmocka_must((intmax_t)(a) != (intmax_t)(b), #a " is " #b)
#define assert_string_equal(a, b)    cmocka_same_text(a, b, __FILE__, __LINE__)
#define assert_in_range(a, from, to)                                                            \
	do {                                                                                    \
		intmax_t cmocka_value = (intmax_t)(a);                                          \
		cmocka_must(cmocka_value >= (intmax_t)(from) && cmocka_value <= (intmax_t)(to), \
			    #a " is out of range");                                             \
	} while (0)

#define cmocka_unit_test(f) \
	{                   \
#f, f       \
	}
#define cmocka_run_group_tests(tests, set_up, tear_down) \
	cmocka_run(tests, sizeof(tests) / sizeof((tests)[0]), set_up, tear_down)

typedef int cmocka_fixture(void **state);

static inline int cmocka_run(const struct CMUnitTest *tests, size_t count, cmocka_fixture *set_up,
			     cmocka_fixture *tear_down)
{
	static const char *const words[] = { "OK", "FAILED", "SKIPPED" };
	volatile int failed = 0;
	void *group = NULL;
	int how;

	if (set_up && set_up(&group))
		return 1;
	for (volatile size_t i = 0; i < count; i++) {
		void *state = NULL;

		how = setjmp(cmocka_end);
		if (how == 0)
			tests[i].run(&state);
		printf("[ %7s ] %s\n", words[how], tests[i].name);
		fflush(stdout);
		failed += how == CMOCKA_FAILED;
	}
	if (tear_down && tear_down(&group))
		return 1;
	return failed;
}

#endif
