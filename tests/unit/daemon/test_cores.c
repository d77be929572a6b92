/* Quotas of control groups, as both versions of them are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/cores.h"

static char root[64];

static void path_of(char path[static 256], const char *name)
{
	assert_in_range(snprintf(path, 256, "%s/%s", root, name), 1, 255);
}

static void add_folder(const char *name)
{
	char path[256];

	path_of(path, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void add_file(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	path_of(path, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void forget(const char *name)
{
	char path[256];

	path_of(path, name);
	assert_int_equal(remove(path), 0);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(root, "/tmp/test_cores.XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return rmdir(root); /* each test forgets what it added */
}

static void test_a_group_and_those_above_it_bind(void **state)
{
	(void)state;
	add_folder("a");
	add_folder("a/b");
	add_file("a/cpu.max", "400000 100000\n");
	add_file("a/b/cpu.max", "max 100000\n");
	assert_int_equal(cores_of_groups(root, "0::/a/b\n"), 4);
	add_file("a/b/cpu.max", "250000 100000\n");
	assert_int_equal(cores_of_groups(root, "0::/a/b\n"), 2);
	assert_int_equal(cores_of_groups(root, "0::/a\n"), 4);
	assert_int_equal(cores_of_groups(root, "0::/\n"), CORES_NO_LIMIT);
	forget("a/b/cpu.max");
	forget("a/cpu.max");
	forget("a/b");
	forget("a");
}

static void test_a_path_of_the_host_means_the_mount(void **state)
{
	(void)state;
	add_file("cpu.max", "50000 100000\n");
	assert_int_equal(cores_of_groups(root, "0::/docker/0123456789ab\n"), 1);
	add_file("cpu.max", "max 100000\n");
	assert_int_equal(cores_of_groups(root, "0::/docker/0123456789ab\n"), CORES_NO_LIMIT);
	forget("cpu.max");
}

static void test_version_1_is_understood(void **state)
{
	static const char memberships[] = "9:name=systemd:/\n4:cpuset:/x\n3:cpu,cpuacct:/x\n0::/\n";

	(void)state;
	add_folder("cpu,cpuacct");
	add_folder("cpu,cpuacct/x");
	add_file("cpu,cpuacct/x/cpu.cfs_quota_us", "300000\n");
	add_file("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
	assert_int_equal(cores_of_groups(root, memberships), 3);
	add_file("cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
	assert_int_equal(cores_of_groups(root, memberships), CORES_NO_LIMIT);
	forget("cpu,cpuacct/x/cpu.cfs_quota_us");
	forget("cpu,cpuacct/x/cpu.cfs_period_us");
	forget("cpu,cpuacct/x");
	forget("cpu,cpuacct");
}

static void test_what_is_not_understood_is_no_limit(void **state)
{
	(void)state;
	add_file("cpu.max", "soon\n");
	assert_int_equal(cores_of_groups(root, "0::/\n"), CORES_NO_LIMIT);
	forget("cpu.max");
	assert_int_equal(cores_of_groups(root, ""), CORES_NO_LIMIT);
	assert_int_equal(cores_of_groups(root, "::\n:\n0::\n1:cpu\n7:cpu:\n"), CORES_NO_LIMIT);
	assert_in_range(cores_usable(), 1, CORES_NO_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_group_and_those_above_it_bind, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_a_path_of_the_host_means_the_mount, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_version_1_is_understood, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_not_understood_is_no_limit, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
