/* Which shim a program gets, and LD_PRELOAD's value with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "preload/libraries.h"

#define WANTED "/new/libmeshwrap-musl.so"

static void assert_becomes(const char *before, const char *library, const char *after)
{
	char out[128];

	assert_true(libraries_replace(before, library, out, sizeof(out)));
	assert_string_equal(out, after);
}

static void test_the_interpreter_says_which_libc_it_is(void **state)
{
	(void)state;
	assert_true(libraries_is_our_libc("/lib64/ld-linux-x86-64.so.2"));
	assert_true(libraries_is_our_libc("/lib/ld-linux-aarch64.so.1"));
	assert_false(libraries_is_our_libc("/lib/ld-musl-x86_64.so.1"));
	assert_false(libraries_is_our_libc("/opt/alpine/lib/ld-musl-aarch64.so.1"));
}

static void assert_first(const char *preload, const char *wanted)
{
	size_t len = 0;
	const char *word = libraries_first(preload, &len);

	assert_non_null(word);
	assert_int_equal(len, strlen(wanted));
	assert_memory_equal(word, wanted, len);
}

static void test_a_shim_is_known_by_its_file_name_alone(void **state)
{
	size_t len;

	(void)state;
	assert_first("/a/x.so /b/libmeshwrap.so", "/b/libmeshwrap.so");
	assert_first("libmeshwrap.so", "libmeshwrap.so");
	assert_first("/b/libmeshwrap-musl.so", "/b/libmeshwrap-musl.so");
	assert_first("/b/libmeshwrap-musl.so:/b/libmeshwrap.so", "/b/libmeshwrap-musl.so");
	assert_null(libraries_first("/b/mylibmeshwrap.so", &len));
	assert_null(libraries_first("/b/libmeshwrap.so.old:/libmeshwrap.so/x.so", &len));
	assert_null(libraries_first("", &len));
	assert_null(libraries_first(NULL, &len));
}

static void test_other_libraries_stay_and_ours_is_in_it_once(void **state)
{
	(void)state;
	assert_becomes(NULL, WANTED, WANTED);
	assert_becomes("", WANTED, WANTED);
	assert_becomes("/a.so", WANTED, "/a.so:" WANTED);
	assert_becomes("/old/libmeshwrap.so", WANTED, WANTED);
	assert_becomes(" /a.so  /old/libmeshwrap.so: /b.so", WANTED, "/a.so:" WANTED ":/b.so");
	assert_becomes("/o/libmeshwrap.so:/a.so:/o/libmeshwrap-gnu.so", WANTED, WANTED ":/a.so");
}

static void test_without_a_library_the_shim_is_taken_out(void **state)
{
	(void)state;
	assert_becomes(NULL, NULL, "");
	assert_becomes("/o/libmeshwrap.so", NULL, "");
	assert_becomes("/a.so:/o/libmeshwrap-musl.so:/b.so", NULL, "/a.so:/b.so");
}

static void test_a_value_that_does_not_fit_is_refused(void **state)
{
	char out[sizeof("/a.so:" WANTED)];

	(void)state;
	assert_true(libraries_replace("/a.so", WANTED, out, sizeof(out)));
	for (size_t room = 0; room < sizeof(out); room++)
		assert_false(libraries_replace("/a.so", WANTED, out, room));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_interpreter_says_which_libc_it_is),
		cmocka_unit_test(test_a_shim_is_known_by_its_file_name_alone),
		cmocka_unit_test(test_other_libraries_stay_and_ours_is_in_it_once),
		cmocka_unit_test(test_without_a_library_the_shim_is_taken_out),
		cmocka_unit_test(test_a_value_that_does_not_fit_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
