/* The runtime folder's name. */
#include "shared/paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_the_folder_is_chosen_in_the_documented_order(void **state)
{
	char dir[PATHS_MAX];

	(void)state;
	assert_int_equal(paths_runtime_dir("/x", "/run/user/1", 0, dir), 0);
	assert_string_equal(dir, "/x");
	assert_int_equal(paths_runtime_dir("", "/run/user/1", 0, dir), 0);
	assert_string_equal(dir, "/run/user/1/meshwrap");
	assert_int_equal(paths_runtime_dir(NULL, NULL, 0, dir), 0);
	assert_string_equal(dir, "/run/meshwrap");
	assert_int_equal(paths_runtime_dir(NULL, "", 4294967294u, dir), 0);
	assert_string_equal(dir, "/tmp/meshwrap-4294967294");
}

/* Programs go to other folders; the specification of the variable wants it left aside, too. */
static void test_a_relative_xdg_folder_is_none(void **state)
{
	char dir[PATHS_MAX];

	(void)state;
	assert_int_equal(paths_runtime_dir(NULL, "run/user/1", 1, dir), 0);
	assert_string_equal(dir, "/tmp/meshwrap-1");
}

static void test_a_folder_that_is_too_long_is_refused(void **state)
{
	char name[PATHS_MAX + 1], dir[PATHS_MAX];

	(void)state;
	memset(name, 'x', sizeof(name));
	name[PATHS_MAX] = '\0';
	assert_int_equal(paths_runtime_dir(name, NULL, 0, dir), -ENAMETOOLONG);
	name[PATHS_MAX - 1] = '\0';
	assert_int_equal(paths_runtime_dir(name, NULL, 0, dir), 0);
	name[0] = '/';
	assert_int_equal(paths_runtime_dir(NULL, name, 0, dir), -ENAMETOOLONG);
}

static void test_paths_are_joined_or_refused(void **state)
{
	char out[16];

	(void)state;
	assert_int_equal(paths_join("/run/x", "map", out, sizeof(out)), 0);
	assert_string_equal(out, "/run/x/map");
	assert_int_equal(paths_join("/run/x", "12345678", out, sizeof(out)), 0);
	assert_int_equal(paths_join("/run/x", "123456789", out, sizeof(out)), -ENAMETOOLONG);
}

static void test_a_relative_path_is_called_as_from_any_folder(void **state)
{
	char out[16], folder[] = "/tmp/meshwrap-test-XXXXXX";

	(void)state;
	assert_int_equal(chdir("/usr"), 0);
	assert_int_equal(paths_absolute("/run/x", out, sizeof(out)), 0);
	assert_string_equal(out, "/run/x");
	assert_int_equal(paths_absolute("a/b", out, sizeof(out)), 0);
	assert_string_equal(out, "/usr/a/b");
	assert_int_equal(paths_absolute("12345678901", out, sizeof(out)), -ENAMETOOLONG);
	assert_int_equal(paths_absolute("/123456789012345", out, sizeof(out)), -ENAMETOOLONG);
	/* In a folder that is gone nobody can tell. */
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(paths_absolute("a", out, sizeof(out)), -ENOENT);
	assert_int_equal(paths_absolute("/a", out, sizeof(out)), 0);
	assert_int_equal(chdir("/"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_folder_is_chosen_in_the_documented_order),
		cmocka_unit_test(test_a_relative_xdg_folder_is_none),
		cmocka_unit_test(test_a_folder_that_is_too_long_is_refused),
		cmocka_unit_test(test_paths_are_joined_or_refused),
		cmocka_unit_test(test_a_relative_path_is_called_as_from_any_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
