/* The state file: what it keeps, what it refuses, and that it is never half written. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/crypto/keytext.h"
#include "daemon/state.h"

static char folder[64];
static char error[STATE_ERROR_MAX], warning[STATE_ERROR_MAX];

static int folder_error; /* what syncing a folder gives, or 0 */

/* A disk that keeps the next who syncs waiting, until it is let go. */
static atomic_bool is_disk_slow, was_disk_slow;
static sem_t disk_reached, disk_let_go;

/* In place of libc's. */
int fsync(int fd)
{
	struct stat st;

	if (atomic_exchange(&is_disk_slow, false)) {
		sem_post(&disk_reached);
		sem_wait(&disk_let_go);
		was_disk_slow = true;
	}
	if (folder_error && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		errno = folder_error;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

static bool refuses_threads;

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (refuses_threads)
		return EAGAIN;
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return real(thread, attr, start, arg);
}

/* Who waits for the thread lets the disk go on. */
int pthread_join(pthread_t thread, void **result)
{
	int (*real)(pthread_t, void **);

	sem_post(&disk_let_go);
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_join");
	return real(thread, result);
}

static const char *in_folder(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test-state-XXXXXX");
	is_disk_slow = was_disk_slow = false;
	sem_init(&disk_reached, 0, 0);
	sem_init(&disk_let_go, 0, 0);
	return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(in_folder("state.json"));
	/* No other file may be there. */
	return rmdir(folder);
}

static void put_file(const char *name, const char *text)
{
	FILE *f = fopen(in_folder(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static char *get_file(const char *name)
{
	char *text = calloc(1, 65536);
	FILE *f = fopen(in_folder(name), "r");

	assert_non_null(f);
	assert_true(fread(text, 1, 65535, f) > 0);
	fclose(f);
	return text;
}

static struct state *must_open(void)
{
	struct state *s = state_open(folder, error, warning);

	if (!s)
		fail_msg("%s", error);
	return s;
}

static void fill(struct state_data *d)
{
	private_key_generate(&d->node_key);
	private_key_generate(&d->old_node_key);
	private_key_generate((struct private_key *)&d->server_key);
	d->has_node_key = d->has_old_node_key = d->has_server_key = d->is_registered = true;
	strcpy(d->server_url, "http://h:8080");
	strcpy(d->login_name, "user@\"\\example");
	strcpy(d->prefs.host_name, "box");
	d->prefs.accepts_routes = true;
	d->prefs.wants_running = false;
	d->tai64n_s = 1767323045;
}

static void test_everything_comes_back_from_the_file(void **state)
{
	struct state *s = must_open();
	struct state_data copy;
	struct stat st;
	size_t len;

	(void)state;
	assert_string_equal(warning, "");
	fill(state_data(s));
	assert_int_equal(state_set_netmap(s, "{\"a\":\"\\n\"}", 10), 0);
	assert_int_equal(state_save(s, error), 0);
	copy = *state_data(s);
	state_close(s);
	assert_int_equal(stat(in_folder("state.json"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	s = must_open();
	assert_memory_equal(&copy.machine_key, &state_data(s)->machine_key, KEY_LEN);
	assert_memory_equal(&copy.node_key, &state_data(s)->node_key, KEY_LEN);
	assert_memory_equal(&copy.old_node_key, &state_data(s)->old_node_key, KEY_LEN);
	assert_memory_equal(&copy.server_key, &state_data(s)->server_key, KEY_LEN);
	assert_string_equal(copy.login_name, state_data(s)->login_name);
	assert_string_equal(copy.server_url, state_data(s)->server_url);
	assert_memory_equal(&copy.prefs, &state_data(s)->prefs, sizeof(copy.prefs));
	assert_int_equal(copy.tai64n_s, state_data(s)->tai64n_s);
	assert_true(state_data(s)->is_registered && state_data(s)->has_old_node_key);
	assert_string_equal(state_netmap(s, &len), "{\"a\":\"\\n\"}");
	state_close(s);
}

static void test_a_second_daemon_is_kept_out(void **state)
{
	struct state *s = must_open();

	(void)state;
	assert_null(state_open(folder, error, warning));
	assert_non_null(strstr(error, "in use by another"));
	state_close(s);
	s = must_open();
	state_close(s);
}

/* Every truncation is refused; no flipped bit makes it another identity. */
static void test_a_damaged_file_is_refused_and_left(void **state)
{
	struct state *s = must_open();
	struct public_key machine, identity;
	char *good;
	size_t len;

	(void)state;
	private_key_public(&state_data(s)->machine_key, &machine);
	fill(state_data(s));
	assert_int_equal(state_save(s, error), 0);
	state_close(s);
	good = get_file("state.json");
	len = strlen(good);
	for (size_t i = 0; i < len - 1; i += 7) {
		char *torn = strndup(good, i);
		struct stat st;

		put_file("state.json", torn);
		assert_null(state_open(folder, error, warning));
		assert_non_null(strstr(error, "not touching it"));
		assert_int_equal(stat(in_folder("state.json"), &st), 0);
		assert_int_equal(st.st_size, i);
		free(torn);
	}
	for (size_t i = 0; i < 400; i++) {
		char kept = good[i];

		good[i] ^= 1;
		put_file("state.json", good);
		good[i] = kept;
		s = state_open(folder, error, warning);
		if (s) {
			/* (X25519 ignores some bits of a private key.) */
			private_key_public(&state_data(s)->machine_key, &identity);
			assert_true(public_key_equal(&identity, &machine));
		}
		state_close(s);
	}
	free(good);
}

static void test_what_cannot_be_understood_is_left_alone(void **state)
{
	static const char *const bad[] = {
		"", "{", "[]", "{}", "{\"Version\":\"1\"}", "{\"Version\":1}", "{\"Version\":2}"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct stat st;

		put_file("state.json", bad[i]);
		assert_null(state_open(folder, error, warning));
		assert_non_null(strstr(error, "not touching it"));
		assert_int_equal(stat(in_folder("state.json"), &st), 0);
		assert_int_equal(st.st_size, strlen(bad[i]));
	}
	unlink(in_folder("state.json"));
	assert_int_equal(symlink("/etc/hostname", in_folder("state.json")), 0);
	assert_null(state_open(folder, error, warning));
}

static void test_a_file_of_another_version_is_named_so(void **state)
{
	(void)state;
	put_file("state.json", "{\"Version\":2}");
	assert_null(state_open(folder, error, warning));
	assert_non_null(strstr(error, "another version"));
}

static void test_a_full_disk_is_told_and_leaves_the_old_file(void **state)
{
	struct state *s = must_open();
	struct private_key machine = state_data(s)->machine_key;
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(state_save(s, error), 0);
	state_close(s);
	pid = fork();
	if (pid == 0) {
		struct rlimit limit = { 4096, 4096 };
		char *big = calloc(1, 1 << 20);

		sigaction(SIGXFSZ, &ignore, NULL);
		memset(big, 'x', (1 << 20) - 1);
		s = state_open(folder, error, warning);
		if (!s || state_set_netmap(s, big, 1 << 19) != 0)
			_exit(1);
		if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
			_exit(2);
		_exit(state_save(s, error) == -EFBIG && strstr(error, "cannot be written") ? 0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	s = must_open();
	assert_string_equal(warning, "");
	assert_memory_equal(&state_data(s)->machine_key, &machine, KEY_LEN);
	state_close(s);
	assert_int_not_equal(access(in_folder("state.tmp"), F_OK), 0);
}

/* A child saves for ever and is killed at any moment. */
static void kill_while_saving(bool is_beside)
{
	struct state *s = must_open();
	struct private_key machine = state_data(s)->machine_key;

	assert_int_equal(state_save(s, error), 0);
	state_close(s);
	for (int i = 0; i < 40; i++) {
		struct timespec pause = { 0, (i * 531 + 97) * 1000 % 20000000 };
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			s = state_open(folder, error, warning);
			if (!s || warning[0])
				_exit(1);
			for (;;) {
				fill(state_data(s));
				if (!is_beside)
					state_save(s, error);
				else if (!state_save_begin(s) || state_save_end(s, error) != 0)
					_exit(2);
			}
		}
		nanosleep(&pause, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		s = must_open();
		assert_string_equal(warning, "");
		assert_memory_equal(&state_data(s)->machine_key, &machine, KEY_LEN);
		state_close(s);
	}
}

static void test_a_kill_at_any_moment_leaves_a_whole_file(void **state)
{
	(void)state;
	kill_while_saving(false);
}

static void test_so_does_a_kill_while_a_thread_saves(void **state)
{
	(void)state;
	kill_while_saving(true);
}

/* ---- beside the caller ---- */

static void assert_tells_its_end(const struct state *s)
{
	struct pollfd ready = { .fd = state_save_fd(s), .events = POLLIN };

	assert_int_equal(poll(&ready, 1, 20000), 1);
}

/* The caller goes on while the disk is slow, and changes what is being written. */
static void test_a_slow_disk_keeps_nobody_waiting_who_need_not_wait(void **state)
{
	struct pollfd ready;
	struct state_data copy;
	struct state *s = must_open();
	struct stat st;
	size_t len;

	(void)state;
	fill(state_data(s));
	assert_int_equal(state_set_netmap(s, "{\"a\":1}", 7), 0);
	copy = *state_data(s);
	is_disk_slow = true;
	assert_true(state_save_begin(s));
	sem_wait(&disk_reached);
	assert_false(state_save_begin(s)); /* one at a time */
	ready = (struct pollfd){ .fd = state_save_fd(s), .events = POLLIN };
	assert_int_equal(poll(&ready, 1, 0), 0);
	assert_int_not_equal(access(in_folder("state.json"), F_OK), 0);
	fill(state_data(s));
	assert_int_equal(state_set_netmap(s, NULL, 0), 0);
	sem_post(&disk_let_go);
	assert_tells_its_end(s);
	assert_int_equal(state_save_end(s, error), 0);
	assert_string_equal(error, "");
	assert_int_equal(poll(&ready, 1, 0), 0);
	state_close(s);
	assert_int_equal(stat(in_folder("state.json"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	s = must_open();
	assert_memory_equal(&copy.node_key, &state_data(s)->node_key, KEY_LEN);
	assert_memory_equal(&copy.machine_key, &state_data(s)->machine_key, KEY_LEN);
	assert_string_equal(state_netmap(s, &len), "{\"a\":1}");
	state_close(s);
}

/* A key that is to be on disk before the server hears of it: nothing older comes after it. */
static void test_a_save_that_is_waited_for_is_the_last_one(void **state)
{
	struct state *s = must_open();
	struct state_data copy;

	(void)state;
	fill(state_data(s));
	is_disk_slow = true;
	assert_true(state_save_begin(s));
	sem_wait(&disk_reached);
	fill(state_data(s));
	copy = *state_data(s);
	assert_int_equal(state_save(s, error), 0);
	assert_true(was_disk_slow); /* the first one was over before */
	assert_tells_its_end(s);
	assert_int_equal(state_save_end(s, error), 0);
	state_close(s);
	s = must_open();
	assert_memory_equal(&copy.node_key, &state_data(s)->node_key, KEY_LEN);
	state_close(s);
}

static void test_the_end_waits_for_the_disk(void **state)
{
	struct state *s = must_open();
	struct state_data copy;

	(void)state;
	fill(state_data(s));
	copy = *state_data(s);
	is_disk_slow = true;
	assert_true(state_save_begin(s));
	sem_wait(&disk_reached);
	state_close(s);
	s = must_open();
	assert_memory_equal(&copy.node_key, &state_data(s)->node_key, KEY_LEN);
	state_close(s);
}

static void test_a_thread_that_fails_is_told_once(void **state)
{
	struct state *s = must_open();

	(void)state;
	folder_error = EIO;
	assert_true(state_save_begin(s));
	assert_tells_its_end(s);
	assert_int_equal(state_save_end(s, error), -EIO);
	assert_non_null(strstr(error, "cannot be written"));
	folder_error = 0;
	assert_int_equal(state_save_end(s, error), 0);
	assert_true(state_save_begin(s));
	assert_int_equal(state_save_end(s, error), 0);
	state_close(s);
}

static void test_a_thread_that_failed_is_no_failure_once_a_newer_state_is_saved(void **state)
{
	struct state *s = must_open();

	(void)state;
	folder_error = EIO;
	assert_true(state_save_begin(s));
	assert_tells_its_end(s);
	folder_error = 0;
	assert_int_equal(state_save(s, error), 0);
	assert_int_equal(state_save_end(s, error), 0);
	state_close(s);
}

static void test_where_threads_are_refused_a_save_is_waited_for(void **state)
{
	struct state *s = must_open();

	(void)state;
	refuses_threads = true;
	assert_false(state_save_begin(s));
	assert_int_equal(state_save(s, error), 0);
	assert_int_equal(state_save_end(s, error), 0);
	refuses_threads = false;
	assert_true(state_save_begin(s));
	assert_int_equal(state_save_end(s, error), 0);
	state_close(s);
}

static void test_a_folder_that_cannot_be_synced_is_no_failure(void **state)
{
	struct state *s = state_open(folder, error, warning);

	(void)state;
	assert_non_null(s);
	folder_error = EINVAL; /* as file systems say that have no such thing */
	assert_int_equal(state_save(s, error), 0);
	folder_error = EIO;
	assert_int_equal(state_save(s, error), -EIO);
	folder_error = 0;
	state_close(s);
}

static void test_memory_is_a_state_too(void **state)
{
	struct state *s = state_open(NULL, error, warning);

	(void)state;
	assert_non_null(s);
	assert_true(state_is_in_memory(s));
	assert_false(key_is_zero(state_data(s)->machine_key.byte));
	assert_int_equal(state_save(s, error), 0);
	assert_false(state_save_begin(s));
	assert_int_equal(state_save_fd(s), -1);
	assert_int_equal(state_save_end(s, error), 0);
	assert_int_equal(state_set_netmap(s, "", STATE_NETMAP_MAX + 1ul), -EMSGSIZE);
	state_close(s);
	state_close(NULL);
}

static void test_folders_are_made_and_bad_ones_named(void **state)
{
	char path[128];
	struct stat st;
	struct state *s;

	(void)state;
	snprintf(path, sizeof(path), "%s/a/b", folder);
	s = state_open(path, error, warning);
	assert_non_null(s);
	state_close(s);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	put_file("file", "");
	snprintf(path, sizeof(path), "%s/file", folder);
	assert_null(state_open(path, error, warning));
	assert_non_null(strstr(error, "cannot be"));
	unlink(path);
	snprintf(path, sizeof(path), "%s/a/b", folder);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/a", folder);
	rmdir(path);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_everything_comes_back_from_the_file),
		TEST(test_a_second_daemon_is_kept_out),
		TEST(test_a_damaged_file_is_refused_and_left),
		TEST(test_what_cannot_be_understood_is_left_alone),
		TEST(test_a_file_of_another_version_is_named_so),
		TEST(test_a_full_disk_is_told_and_leaves_the_old_file),
		TEST(test_a_kill_at_any_moment_leaves_a_whole_file),
		TEST(test_so_does_a_kill_while_a_thread_saves),
		TEST(test_a_slow_disk_keeps_nobody_waiting_who_need_not_wait),
		TEST(test_a_save_that_is_waited_for_is_the_last_one),
		TEST(test_the_end_waits_for_the_disk),
		TEST(test_a_thread_that_fails_is_told_once),
		TEST(test_a_thread_that_failed_is_no_failure_once_a_newer_state_is_saved),
		TEST(test_where_threads_are_refused_a_save_is_waited_for),
		TEST(test_a_folder_that_cannot_be_synced_is_no_failure),
		TEST(test_memory_is_a_state_too),
		TEST(test_folders_are_made_and_bad_ones_named),
	};

	if (crypto_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
